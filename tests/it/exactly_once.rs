//! Exactly-once delivery: which ids fail, how that is said, and what holds across restarts.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use packetboat::proto::google::{
    pubsub::v1::{PubsubMessage, StreamingPullResponse, Subscription},
    rpc,
};
use prost::Message;
use serde_json::json;
use tonic::{Code, Status};

use crate::support::{
    Client, Pubsub,
    admin::{bare, subscription_name, with_subscription},
    http::call,
    ok, refused,
    values::{Received, ack_ids, message, numbered, texts},
};

const TEXT: &str = "Some acknowledgement ids in the request were invalid. This could be because the acknowledgement ids have expired or the acknowledgement ids were malformed.";
const INVALID: &str = "PERMANENT_FAILURE_INVALID_ACK_ID";
const UNORDERED: &str = "TRANSIENT_FAILURE_UNORDERED_ACK_ID";

impl Client {
    async fn exactly_once_subscription(&self, topic: &str) -> String {
        let subscription = Subscription {
            enable_exactly_once_delivery: true,
            ..bare(&subscription_name("worker"), topic)
        };
        let created = ok(self.create_subscription(subscription).await);
        assert!(created.enable_exactly_once_delivery);
        created.name
    }

    async fn set_exactly_once(&self, topic: &str, subscription: &str, is_on: bool) {
        let changed = Subscription {
            enable_exactly_once_delivery: is_on,
            ..bare(subscription, topic)
        };
        let paths = ["enable_exactly_once_delivery"];
        let changed = ok(self.update_subscription(changed, &paths).await);
        assert_eq!(changed.enable_exactly_once_delivery, is_on);
    }
}

/// In memory, with a topic and an exactly-once subscription.
async fn world() -> (Pubsub, Client, String, String) {
    let pubsub = Pubsub::start().await;
    let client = pubsub.client();
    let topic = client.topic("orders").await;
    let subscription = client.exactly_once_subscription(&topic).await;
    (pubsub, client, topic, subscription)
}

/// Which ids failed, and how, as the details say.
#[track_caller]
fn failures<T>(result: Result<T, Status>) -> BTreeMap<String, String> {
    let status = refused(result, Code::InvalidArgument, "some ids fail");
    assert_eq!(status.message(), TEXT);
    let details = rpc::Status::decode(status.details()).expect("a status");
    assert_eq!(details.code, Code::InvalidArgument as i32);
    assert_eq!(details.message, TEXT);
    let [info] = &details.details[..] else {
        panic!("{details:?}");
    };
    assert_eq!(info.type_url, "type.googleapis.com/google.rpc.ErrorInfo");
    let info = rpc::ErrorInfo::decode(&*info.value).expect("an ErrorInfo");
    assert_eq!(info.reason, "EXACTLY_ONCE_ACKID_FAILURE");
    assert_eq!(info.domain, "pubsub.googleapis.com");
    info.metadata.into_iter().collect()
}

fn each_fails(ids: &[String], failure: &str) -> BTreeMap<String, String> {
    let each = ids.iter().map(|id| (id.clone(), failure.to_owned()));
    each.collect()
}

#[tokio::test]
async fn case_47_an_id_whose_lease_ended_fails_by_name_and_the_others_are_applied() {
    let (pubsub, client, topic, subscription) = world().await;
    client.publish(&topic, &numbered(2)).await;
    let old = ack_ids(&client.receive(&subscription, 1).await);
    pubsub.advance_seconds(5);
    let valid = ack_ids(&client.receive(&subscription, 1).await);
    pubsub.advance_seconds(6);
    let garbage = "no ack id".to_owned();
    let mixed = vec![old[0].clone(), valid[0].clone(), garbage.clone()];
    let failed = [old[0].clone(), garbage];
    let answer = client.ack(&subscription, mixed.clone()).await;
    assert_eq!(failures(answer), each_fails(&failed, INVALID));
    // The one that is not named was acknowledged, and its repeat succeeds.
    ok(client.ack(&subscription, valid.clone()).await);
    let modified = client.modify_deadline(&subscription, mixed.clone(), 20);
    let all = each_fails(&[failed.as_slice(), &valid].concat(), INVALID);
    assert_eq!(failures(modified.await), all);
    let nacked = client.modify_deadline(&subscription, old.clone(), 0);
    assert_eq!(failures(nacked.await), each_fails(&old, INVALID));
    let again = client.receive_and_ack(&subscription, 1).await;
    assert_ne!(ack_ids(&again), old);
    pubsub.advance_seconds(600);
    client.assert_nothing(&subscription, "all is acked").await;
}

#[tokio::test]
async fn case_47_over_rest_the_details_say_the_same() {
    let (pubsub, client, topic, subscription) = world().await;
    client.publish(&topic, &numbered(1)).await;
    let received = ack_ids(&client.receive(&subscription, 1).await);
    let ids = json!([received[0], "garbage"]);
    for (method, body) in [
        (
            "modifyAckDeadline",
            json!({"ackIds": ids, "ackDeadlineSeconds": 20}),
        ),
        ("acknowledge", json!({"ackIds": ids})),
    ] {
        let target = format!("/v1/{subscription}:{method}");
        let answer = call(&pubsub.address(), "POST", &target, body)
            .await
            .expect(400);
        assert_eq!(
            answer.json(),
            json!({"error": {
                "code": 400,
                "message": TEXT,
                "status": "INVALID_ARGUMENT",
                "details": [{
                    "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                    "reason": "EXACTLY_ONCE_ACKID_FAILURE",
                    "domain": "pubsub.googleapis.com",
                    "metadata": {"garbage": INVALID},
                }],
            }})
        );
    }
    pubsub.advance_seconds(60);
    client.assert_nothing(&subscription, "it is acked").await;
}

#[tokio::test]
async fn case_47_a_foreign_id_is_one_failed_id_among_others() {
    let (_pubsub, client, topic, subscription) = world().await;
    let other = client.subscription("other", &topic).await;
    client.publish(&topic, &numbered(1)).await;
    let of_other = ack_ids(&client.receive(&other, 1).await);
    let own = ack_ids(&client.receive(&subscription, 1).await);
    let mixed = [of_other.clone(), own].concat();
    let answer = client.ack(&subscription, mixed).await;
    assert_eq!(failures(answer), each_fails(&of_other, INVALID));
    let text = "You have not specified an ack ID in the request.";
    let status = refused(
        client.ack(&subscription, vec![]).await,
        Code::InvalidArgument,
        text,
    );
    assert_eq!(status.message(), text);
}

#[tokio::test]
async fn every_error_of_these_calls_repeats_its_code_and_its_text_as_details() {
    if std::env::var_os("PACKETBOAT_TEST_TRANSPORT").is_some_and(|it| it == "rest") {
        // There they say nothing more.
        return;
    }
    let (_pubsub, client, _topic, _subscription) = world().await;
    let none = subscription_name("none");
    let id = vec!["x".to_owned()];
    let acked = client.ack(&none, id.clone()).await.map(drop);
    let modified = client.modify_deadline(&none, id, 10).await.map(drop);
    for answer in [acked, modified] {
        let status = refused(answer, Code::NotFound, "there is none");
        let details = rpc::Status::decode(status.details()).expect("a status");
        assert_eq!(details.code, Code::NotFound as i32);
        assert_eq!(details.message, status.message());
    }
}

#[tokio::test]
async fn as_many_failed_ids_as_a_request_may_have_arrive_whole() {
    let (pubsub, client, topic, subscription) = world().await;
    for _ in 0..3 {
        client.publish(&topic, &numbered(1000)).await;
    }
    let mut ids = Vec::new();
    while ids.len() < 2_999 {
        let left = 2_999 - ids.len();
        let received = client.receive(&subscription, left.min(1000)).await;
        ids.extend(ack_ids(&received));
    }
    pubsub.advance_seconds(11);
    let answer = client.ack(&subscription, ids.clone()).await;
    assert_eq!(failures(answer), each_fails(&ids, INVALID));
    let answer = client.modify_deadline(&subscription, ids.clone(), 10).await;
    assert_eq!(failures(answer), each_fails(&ids, INVALID));
}

#[tokio::test]
async fn case_50_acks_of_a_key_are_in_order() {
    let pubsub = Pubsub::start().await;
    let client = pubsub.client();
    let topic = client.topic("orders").await;
    let ordered = Subscription {
        enable_exactly_once_delivery: true,
        enable_message_ordering: true,
        ..bare(&subscription_name("worker"), &topic)
    };
    let subscription = ok(client.create_subscription(ordered).await).name;
    let of_key = |data: &str| PubsubMessage {
        ordering_key: "k".to_owned(),
        ..message(data.to_owned())
    };
    let messages: Vec<_> = ["a", "b", "c"].map(of_key).into();
    client.publish(&topic, &messages).await;
    let ids = ack_ids(&client.receive(&subscription, 3).await);
    let second = client.ack(&subscription, ids[1..2].to_vec()).await;
    assert_eq!(failures(second), each_fails(&ids[1..2], UNORDERED));
    ok(client.ack(&subscription, ids[..1].to_vec()).await);
    // In one request the order of the ids is of no account.
    ok(client
        .ack(&subscription, vec![ids[2].clone(), ids[1].clone()])
        .await);
    pubsub.advance_seconds(60);
    client.assert_nothing(&subscription, "all is acked").await;
}

/// The lists of a confirmation of acks.
fn ack_lists(frame: &StreamingPullResponse) -> [&[String]; 4] {
    let confirmation = frame.acknowledge_confirmation.as_ref();
    let confirmation = confirmation.expect("a confirmation of acks");
    [
        &confirmation.ack_ids,
        &confirmation.invalid_ack_ids,
        &confirmation.unordered_ack_ids,
        &confirmation.temporary_failed_ack_ids,
    ]
}

/// The lists of a confirmation of deadlines.
fn deadline_lists(frame: &StreamingPullResponse) -> [&[String]; 3] {
    let confirmation = frame.modify_ack_deadline_confirmation.as_ref();
    let confirmation = confirmation.expect("a confirmation of deadlines");
    [
        &confirmation.ack_ids,
        &confirmation.invalid_ack_ids,
        &confirmation.temporary_failed_ack_ids,
    ]
}

#[tokio::test]
async fn case_49_a_stream_confirms_acks_and_deadlines_and_names_those_that_failed() {
    let (pubsub, client, topic, subscription) = world().await;
    client.publish(&topic, &numbered(2)).await;
    let old = ack_ids(&client.receive(&subscription, 1).await);
    pubsub.advance_seconds(11);
    let mut stream = client.stream(&subscription).await;
    stream.expect_exactly_once();
    let ids = ack_ids(&stream.receive(2).await);
    let garbage = "garbage".to_owned();
    let mixed = vec![ids[0].clone(), old[0].clone(), garbage.clone()];
    let invalid = [old[0].clone(), garbage];
    stream.modify_deadlines(mixed.clone(), 20).await;
    let frame = stream.frame().await;
    assert_eq!(deadline_lists(&frame), [&ids[..1], &invalid, &[]]);
    let properties = frame.subscription_properties.expect("properties");
    assert!(properties.exactly_once_delivery_enabled);
    stream.ack(mixed).await;
    let frame = stream.frame().await;
    assert_eq!(ack_lists(&frame), [&ids[..1], &invalid, &[], &[]]);
    // What was sent before the half-close is confirmed before the end.
    stream.ack(ids.clone()).await;
    stream.half_close();
    assert_eq!(ack_lists(&stream.frame().await), [&ids[..], &[], &[], &[]]);
    assert_eq!(stream.end().await.code(), Code::Ok);
    pubsub.advance_seconds(60);
    client.assert_nothing(&subscription, "all is acked").await;
}

#[tokio::test]
async fn case_49_without_exactly_once_nothing_is_confirmed() {
    let (pubsub, client, topic, subscription) = with_subscription().await;
    client.publish(&topic, &numbered(1)).await;
    let mut stream = client.stream(&subscription).await;
    let ids = ack_ids(&stream.receive(1).await);
    stream.ack([ids, vec!["garbage".to_owned()]].concat()).await;
    stream.ping().await;
    let frame = stream.frame().await;
    assert_eq!(frame.acknowledge_confirmation, None);
    assert!(frame.received_messages.is_empty());
    pubsub.advance_seconds(60);
    stream.assert_no_message("it is acked").await;
}

#[tokio::test]
async fn a_repeated_ack_succeeds_for_ten_minutes_across_restarts() {
    let directory = tempfile::tempdir().expect("a directory");
    let start = async |seconds| {
        let after = Duration::from_secs(seconds);
        Pubsub::in_directory(directory.path(), after).await
    };
    let pubsub = start(0).await;
    let client = pubsub.client();
    let topic = client.topic("orders").await;
    let subscription = client.exactly_once_subscription(&topic).await;
    client.publish(&topic, &numbered(2)).await;
    let ids = ack_ids(&client.receive(&subscription, 2).await);
    ok(client.ack(&subscription, ids[..1].to_vec()).await);
    pubsub.stop().await;
    let pubsub = start(590).await;
    let client = pubsub.client();
    // The other one's lease has ended.
    let answer = client.ack(&subscription, ids.clone()).await;
    assert_eq!(failures(answer), each_fails(&ids[1..], INVALID));
    pubsub.advance_seconds(30);
    let answer = client.ack(&subscription, ids.clone()).await;
    assert_eq!(failures(answer), each_fails(&ids, INVALID));
}

#[tokio::test]
async fn turned_on_and_off_under_a_stream_it_holds_from_the_next_frame_on() {
    let (pubsub, client, topic, subscription) = with_subscription().await;
    client.publish(&topic, &numbered(3)).await;
    let before = ack_ids(&client.receive(&subscription, 3).await);
    let mut stream = client.stream(&subscription).await;
    client.set_exactly_once(&topic, &subscription, true).await;
    stream.ping().await;
    let properties = stream.frame().await.subscription_properties;
    assert!(
        properties
            .expect("properties")
            .exactly_once_delivery_enabled
    );
    // An id from before keeps its rules: a late ack counts, and may be repeated.
    pubsub.advance_seconds(11);
    stream.expect_exactly_once();
    let after = stream.receive(3).await;
    let twice = [before[..1].to_vec(), before[..1].to_vec()].concat();
    ok(client.ack(&subscription, twice).await);
    // Nor does it take from others what they have.
    ok(client.ack(&subscription, ack_ids(&after)).await);
    client.publish_text(&topic, "later").await;
    let later = stream.receive(1).await;
    pubsub.advance_seconds(11);
    let answer = client.ack(&subscription, ack_ids(&later)).await;
    assert_eq!(failures(answer), each_fails(&ack_ids(&later), INVALID));
    client.set_exactly_once(&topic, &subscription, false).await;
    ok(client.ack(&subscription, ack_ids(&later)).await);
    drop(stream);
    pubsub.advance_seconds(60);
    client.assert_nothing(&subscription, "all is acked").await;
}

#[tokio::test]
async fn a_subscription_shows_whether_its_delivery_is_exactly_once() {
    let (_pubsub, client, topic, subscription) = world().await;
    let shown = ok(client.get_subscription(&subscription).await);
    assert!(shown.enable_exactly_once_delivery);
    client.set_exactly_once(&topic, &subscription, false).await;
    let shown = ok(client.get_subscription(&subscription).await);
    assert!(!shown.enable_exactly_once_delivery);
    client.set_exactly_once(&topic, &subscription, true).await;
}

/// How often each text came.
fn counts(received: &[Received]) -> HashMap<String, usize> {
    let mut counts = HashMap::new();
    for text in texts(received) {
        *counts.entry(text).or_default() += 1;
    }
    counts
}

#[tokio::test]
async fn a_confirmed_deadline_outlasts_a_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    let pubsub = Pubsub::in_directory(directory.path(), Duration::ZERO).await;
    let client = pubsub.client();
    let topic = client.topic("orders").await;
    let subscription = client.exactly_once_subscription(&topic).await;
    client.publish(&topic, &numbered(3)).await;
    let held = client.receive(&subscription, 3).await;
    assert!(counts(&held).values().all(|count| *count == 1));
    let ids = ack_ids(&held);
    ok(client
        .modify_deadline(&subscription, ids.clone(), 100)
        .await);
    pubsub.stop().await;
    let pubsub = Pubsub::in_directory(directory.path(), Duration::from_secs(90)).await;
    let client = pubsub.client();
    client
        .assert_nothing(&subscription, "they are leased")
        .await;
    ok(client.ack(&subscription, ids).await);
    pubsub.advance_seconds(60);
    client.assert_nothing(&subscription, "all is acked").await;
}
