//! Forged ack ids, bytes that are no request, and numbers at the ends of their range.

use packetboat::proto::google::pubsub::v1::{
    AcknowledgeRequest, ModifyAckDeadlineRequest, StreamingPullRequest,
};
use prost::{Message, encoding::encode_varint};
use tonic::Code;

use crate::support::{
    Pubsub,
    admin::with_subscription,
    ok,
    raw::{call, frame, gzip},
    refused,
    stream::opening,
};

/// Pseudorandom numbers, the same in every run.
fn random(seed: &mut u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed
}

/// Ack ids that the server never issued, made from one that it did.
fn forged(valid: &str) -> Vec<String> {
    let mut seed = 0x9e37_79b9_7f4a_7c15;
    let mut forged: Vec<String> = (0..valid.len())
        .map(|end| valid[..end].to_owned())
        .collect();
    forged.push(format!("{valid}A"));
    forged.push(format!("{valid}="));
    forged.push(format!(" {valid}"));
    forged.push(valid.repeat(100));
    for at in 0..valid.len() {
        let mut bytes = valid.as_bytes().to_vec();
        // Another letter of the same alphabet: a different value behind the same shape.
        bytes[at] = if bytes[at] == b'Q' { b'g' } else { b'Q' };
        forged.push(String::from_utf8(bytes).expect("letters"));
    }
    for length in [1, 8, 40, 100, valid.len(), 1000] {
        for _ in 0..20 {
            let letters = (0..length).map(|_| {
                let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
                char::from(alphabet[(random(&mut seed) % 64) as usize])
            });
            forged.push(letters.collect());
            let any =
                (0..length).filter_map(|_| char::from_u32((random(&mut seed) % 0x11_0000) as u32));
            forged.push(any.collect());
        }
    }
    forged.retain(|id| id != valid);
    forged
}

#[tokio::test]
async fn forged_ack_ids_are_invalid_arguments_and_do_nothing() {
    let (_pubsub, client, topic, subscription) = with_subscription().await;
    client.publish_text(&topic, "a").await;
    let valid = client.receive_one(&subscription).await.ack_id;
    let forged = forged(&valid);
    for forged in &forged {
        let ids = || vec![forged.clone()];
        let what = format!("{:.200}", forged.escape_debug().to_string());
        let answer = client.ack(&subscription, ids()).await;
        refused(answer, Code::InvalidArgument, &what);
        let answer = client.modify_deadline(&subscription, ids(), 0).await;
        refused(answer, Code::InvalidArgument, &what);
    }
    client
        .assert_nothing(&subscription, "no forged nack was applied")
        .await;

    // On a stream they are ignored.
    let mut stream = client.stream(&subscription).await;
    stream.ack(forged.clone()).await;
    stream.modify_deadlines(forged, 0).await;
    stream.assert_no_message("no forged nack was applied").await;
    let nack = client.modify_deadline(&subscription, vec![valid], 0);
    ok(nack.await);
    stream.receive(1).await;
}

#[tokio::test]
async fn requests_that_are_not_protobuf_are_invalid_arguments_in_every_rpc() {
    let (_pubsub, client, topic, subscription) = with_subscription().await;
    for method in [
        "Publisher/CreateTopic",
        "Publisher/UpdateTopic",
        "Publisher/Publish",
        "Publisher/GetTopic",
        "Publisher/ListTopics",
        "Publisher/ListTopicSubscriptions",
        "Publisher/DeleteTopic",
        "Publisher/DetachSubscription",
        "Subscriber/CreateSubscription",
        "Subscriber/GetSubscription",
        "Subscriber/UpdateSubscription",
        "Subscriber/ListSubscriptions",
        "Subscriber/DeleteSubscription",
        "Subscriber/ModifyAckDeadline",
        "Subscriber/Acknowledge",
        "Subscriber/Pull",
        "Subscriber/StreamingPull",
    ] {
        let path = format!("/google.pubsub.v1.{method}");
        let bad: [&[u8]; 4] = [
            // A name that is not UTF-8; one that claims 4 GiB; a varint without an end; a lone group's end.
            &[0x0a, 1, 0xff],
            &[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f],
            &[0xff; 20],
            &[0x0c],
        ];
        for bytes in bad {
            let (status, _) = call(client.channel(), &path, None, frame(0, bytes)).await;
            let what = format!("{method} with {bytes:?}");
            assert_eq!(status.code(), Code::InvalidArgument, "{what}: {status:?}");
        }
        // Nothing at all is a request of which every field is unset: no name.
        let (status, _) = call(client.channel(), &path, None, frame(0, b"")).await;
        assert_eq!(status.code(), Code::InvalidArgument, "{method}: {status:?}");
    }
    client.publish_text(&topic, "it serves on").await;
    client.receive_and_ack(&subscription, 1).await;
}

#[tokio::test]
async fn unknown_fields_are_ignored() {
    let (_pubsub, client, topic, subscription) = with_subscription().await;
    client.publish_text(&topic, "a").await;
    let ack_ids = vec![client.receive_one(&subscription).await.ack_id];
    let mut modify = ModifyAckDeadlineRequest {
        subscription: subscription.clone(),
        ack_ids: ack_ids.clone(),
        ack_deadline_seconds: 20,
    }
    .encode_to_vec();
    // Field 1000, a number, and field 2, which this request once had.
    modify.extend([0xc0, 0x3e, 7, 0x12, 1, b'x']);
    let path = "/google.pubsub.v1.Subscriber/ModifyAckDeadline";
    let (status, _) = call(client.channel(), path, None, frame(0, &modify)).await;
    assert_eq!(status.code(), Code::Ok, "{status:?}");
    let mut ack = AcknowledgeRequest {
        subscription: subscription.clone(),
        ack_ids,
    }
    .encode_to_vec();
    ack.extend([0xc0, 0x3e, 7]);
    let path = "/google.pubsub.v1.Subscriber/Acknowledge";
    let (status, _) = call(client.channel(), path, None, frame(0, &ack)).await;
    assert_eq!(status.code(), Code::Ok, "{status:?}");
}

#[tokio::test]
async fn extreme_flow_control_and_client_ids_disturb_nobody() {
    let (_pubsub, client, topic, subscription) = with_subscription().await;
    client.publish_text(&topic, "a").await;
    for limit in [i64::MIN, -1, i64::MAX] {
        let first = StreamingPullRequest {
            max_outstanding_messages: limit,
            max_outstanding_bytes: limit,
            client_id: "c".repeat(100_000),
            ..opening(&subscription)
        };
        let mut stream = client.open(first).await.expect("it opens");
        let received = stream.receive(1).await;
        let ids = vec![received[0].ack_id.clone()];
        stream.modify_deadlines(ids, 0).await;
        let again = stream.receive(1).await;
        stream.half_close();
        stream.end().await;
        let nack = client.modify_deadline(&subscription, vec![again[0].ack_id.clone()], 0);
        ok(nack.await);
    }
    client.receive_and_ack(&subscription, 1).await;
}

/// Reflection repeats what it is asked, in its answers and in its errors.
#[tokio::test]
async fn a_long_question_about_the_server_is_not_repeated() {
    let pubsub = Pubsub::start().await;
    let channel = pubsub.channel();
    // With the key of a symbol, and of a service.
    for (path, key) in [
        (
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            0x22,
        ),
        (
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
            0x22,
        ),
        ("/grpc.health.v1.Health/Check", 0x0a),
    ] {
        for (bytes, is_long) in [(900_usize, false), (1 << 20, true), (9 << 20, true)] {
            let mut question = vec![key];
            encode_varint(bytes as u64, &mut question);
            question.resize(question.len() + bytes, b'a');
            let body = frame(1, &gzip(&question));
            let (status, answer) = call(&channel, path, Some("gzip"), body).await;
            let repeated = status.message().len() + answer.len();
            assert!(repeated <= 4096, "{path}: {repeated} bytes");
            // A stream of questions ends at one that cannot be read.
            assert!(!is_long || repeated <= 100, "{path}: {repeated} bytes");
        }
    }
}
