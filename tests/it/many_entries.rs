//! Requests of which few bytes become many entries of a repeated field (docs/behaviour.md, section 22).

use prost::encoding::{WireType, encode_key, encode_varint};
use serde_json::{Value, json};

use crate::support::{
    Pubsub,
    http::call,
    raw::{assert_invalid, frame, gzip},
};

/// Entries of two or three bytes that nearly fill the largest request.
const ENTRIES: usize = 3_000_000;

/// A request in which the last of these fields, each in the one before it, has many empty entries.
fn request(fields: &[u32], entries: usize) -> Vec<u8> {
    let key = |field: &u32| {
        let mut key = Vec::new();
        encode_key(*field, WireType::LengthDelimited, &mut key);
        key
    };
    let (last, outer) = fields.split_last().expect("a field");
    let mut request = [key(last), vec![0]].concat().repeat(entries);
    for field in outer.iter().rev() {
        let mut around = key(field);
        encode_varint(request.len() as u64, &mut around);
        around.append(&mut request);
        request = around;
    }
    request
}

#[tokio::test]
async fn more_than_four_times_a_limit_is_refused_whatever_the_field() {
    let pubsub = Pubsub::start().await;
    let channel = pubsub.channel();
    for (path, fields, field) in [
        (
            "google.pubsub.v1.Publisher/Publish",
            &[2][..],
            "PublishRequest.messages",
        ),
        (
            "google.pubsub.v1.Publisher/CreateTopic",
            &[13],
            "Topic.message_transforms",
        ),
        (
            "google.pubsub.v1.Publisher/CreateTopic",
            &[2],
            "Topic.labels",
        ),
        (
            "google.pubsub.v1.Publisher/UpdateTopic",
            &[2, 1],
            "FieldMask.paths",
        ),
        (
            "google.pubsub.v1.Subscriber/CreateSubscription",
            &[25],
            "Subscription.message_transforms",
        ),
        (
            "google.pubsub.v1.Subscriber/UpdateSubscription",
            &[2, 1],
            "FieldMask.paths",
        ),
        (
            "google.pubsub.v1.Subscriber/StreamingPull",
            &[2],
            "StreamingPullRequest.ack_ids",
        ),
        (
            "google.pubsub.v1.Subscriber/CreateSnapshot",
            &[3],
            "CreateSnapshotRequest.labels",
        ),
        (
            "google.iam.v1.IAMPolicy/SetIamPolicy",
            &[2, 4],
            "Policy.bindings",
        ),
        (
            "google.iam.v1.IAMPolicy/SetIamPolicy",
            &[2, 4, 2],
            "Binding.members",
        ),
        (
            "google.iam.v1.IAMPolicy/TestIamPermissions",
            &[2],
            "permissions",
        ),
        // Each time the same one.
        (
            "google.pubsub.v1.Publisher/UpdateTopic",
            &[1],
            "10000 fields",
        ),
    ] {
        let message = request(fields, ENTRIES);
        let path = format!("/{path}");
        assert_invalid(&channel, &path, None, frame(0, &message), field).await;
        let compressed = frame(1, &gzip(&message));
        assert_invalid(&channel, &path, Some("gzip"), compressed, field).await;
    }
    // These are small by their own limit.
    let ack_ids = request(&[2], 200_000);
    let path = "/google.pubsub.v1.Subscriber/Acknowledge";
    let compressed = frame(1, &gzip(&ack_ids));
    assert_invalid(&channel, path, Some("gzip"), compressed, "ack_ids").await;
}

#[tokio::test]
async fn the_same_holds_over_rest() {
    let pubsub = Pubsub::start().await;
    let address = pubsub.address();
    let many = |one: Value, count: usize| Value::from(vec![one; count]);
    for (method, target, body, text) in [
        (
            "POST",
            "/v1/projects/p/topics/top:publish",
            json!({"messages": many(json!({}), 1_000_000)}),
            "Invalid value at 'messages', more than 4000 entries",
        ),
        (
            "POST",
            "/v1/projects/p/subscriptions/sub:acknowledge",
            json!({"ackIds": many(json!("a"), 100_000)}),
            "Invalid value at 'ack_ids', more than 34952 entries",
        ),
        (
            "POST",
            "/v1/projects/p/topics/top:setIamPolicy",
            json!({"policy": {"bindings": many(json!({}), 100_000)}}),
            "Invalid value at 'policy.bindings', more than 6000 entries",
        ),
        // Lists that are short and many.
        (
            "POST",
            "/v1/projects/p/topics/top:setIamPolicy",
            json!({"policy": {"bindings": many(json!({"members": many(json!("a"), 100)}), 100)}}),
            "The request has more than 6000 entries in Binding.members, which takes 1500.",
        ),
        // A list that is a text.
        (
            "PATCH",
            "/v1/projects/p/topics/top",
            json!({"topic": {}, "updateMask": "labels,".repeat(400) + "labels"}),
            "The request has more than 400 entries in FieldMask.paths, which takes 100.",
        ),
    ] {
        let answer = call(&address, method, target, body).await.expect(400);
        let error = answer.json()["error"]["message"].clone();
        assert_eq!(error, text, "{target}");
    }
}
