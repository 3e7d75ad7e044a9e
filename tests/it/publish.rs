//! Publish: what is accepted, what subscribers get, and what the server sets.

use std::collections::HashSet;

use packetboat::proto::google::pubsub::v1::{PublishRequest, PubsubMessage};
use prost_types::Timestamp;
use tonic::Code;

use crate::support::{
    Pubsub, START_MILLIS,
    admin::with_subscription,
    ok, refused, refused_with,
    values::{attributes, message, numbered, publish_request, texts},
};

#[tokio::test]
async fn case_18_attributes_of_clients_tracing_pass_and_other_reserved_ones_do_not() {
    let (_pubsub, client, topic, subscription) = with_subscription().await;
    for reserved in ["goog_x", "goog", "google", "googclien"] {
        let request = publish_request(&topic, &[attributes(&[(reserved, "v")])]);
        let answer = client.publisher().publish(request).await;
        refused(answer, Code::InvalidArgument, reserved);
    }
    let traced = attributes(&[("googclient_traceparent", "00-1-2-01"), ("Goog", "v")]);
    client.publish(&topic, std::slice::from_ref(&traced)).await;
    let received = client.receive_one(&subscription).await;
    assert_eq!(received.message.attributes, traced.attributes);
}

#[tokio::test]
async fn case_19_a_message_needs_data_or_an_attribute() {
    let (_pubsub, client, topic, subscription) = with_subscription().await;
    let keyed = PubsubMessage {
        ordering_key: "key".to_owned(),
        ..Default::default()
    };
    let text = "One or more messages in the publish request is empty. Each message must contain either non-empty data, or at least one attribute.";
    for empty in [PubsubMessage::default(), keyed] {
        for batch in [
            vec![empty.clone()],
            vec![message("good"), empty.clone(), message("good")],
        ] {
            let request = publish_request(&topic, &batch);
            let answer = client.publisher().publish(request).await;
            refused_with(answer, Code::InvalidArgument, text);
        }
    }
    let why = "a request with one bad message publishes none";
    client.assert_nothing(&subscription, why).await;
    let batch = [attributes(&[("k", "")]), message("data")];
    assert_eq!(client.publish(&topic, &batch).await.len(), 2);
    client.receive_and_ack(&subscription, 2).await;
}

#[tokio::test]
async fn case_20_id_and_time_come_from_the_server_whatever_the_publisher_sends() {
    let (pubsub, client, topic, subscription) = with_subscription().await;
    pubsub.advance_seconds(5);
    let presumptuous = PubsubMessage {
        message_id: "mine".to_owned(),
        publish_time: Some(Timestamp {
            seconds: 1,
            nanos: 2,
        }),
        ordering_key: "key".to_owned(),
        ..message("data")
    };
    let ids = client
        .publish(&topic, std::slice::from_ref(&presumptuous))
        .await;
    let received = client.receive_one(&subscription).await;
    let expected = PubsubMessage {
        message_id: ids[0].clone(),
        publish_time: Some(Timestamp {
            seconds: i64::try_from(START_MILLIS / 1000).expect("in range") + 5,
            nanos: 0,
        }),
        ..presumptuous
    };
    assert_eq!(received.message, expected);
    assert!(ids[0].bytes().all(|byte| byte.is_ascii_digit()), "{ids:?}");
}

#[tokio::test]
async fn case_20_ids_are_unique_over_many_connections_and_topics() {
    let pubsub = Pubsub::start().await;
    let client = pubsub.client();
    let topics = [client.topic("one").await, client.topic("two").await];
    let mut publishers = Vec::new();
    for number in 0..8 {
        let client = pubsub.another_client();
        let topic = topics[number % 2].clone();
        publishers.push(tokio::spawn(async move {
            let batch = numbered(1000);
            let mut ids = Vec::new();
            for _ in 0..13 {
                ids.extend(client.publish(&topic, &batch).await);
            }
            ids
        }));
    }
    let mut all = HashSet::new();
    for publisher in publishers {
        let ids = publisher.await.expect("the publisher ends");
        assert_eq!(ids.len(), 13_000);
        all.extend(ids);
    }
    assert_eq!(all.len(), 8 * 13_000);
}

#[tokio::test]
async fn case_20_publish_times_never_go_back() {
    let pubsub = Pubsub::on_system_clock().await;
    let client = pubsub.client();
    let topic = client.topic("orders").await;
    let subscription = client.subscription("orders-worker", &topic).await;
    let mut ids = Vec::new();
    for _ in 0..50 {
        ids.push(client.publish_text(&topic, "tick").await);
    }
    let received = client.receive_and_ack(&subscription, 50).await;
    let time_of = |id: &String| {
        let found = received.iter().find(|one| one.message.message_id == *id);
        let time = found.expect("every message arrives").message.publish_time;
        let time = time.expect("every message has a time");
        assert_eq!(time.nanos % 1_000_000, 0, "milliseconds are the precision");
        (time.seconds, time.nanos)
    };
    let times: Vec<_> = ids.iter().map(time_of).collect();
    assert!(times.is_sorted(), "{times:?}");
}

#[tokio::test]
async fn case_21_a_subscription_gets_what_is_published_after_its_creation() {
    let pubsub = Pubsub::start().await;
    let client = pubsub.client();
    let topic = client.topic("orders").await;
    client.publish_text(&topic, "too early").await;
    let first = client.subscription("first", &topic).await;
    client.publish_text(&topic, "for the first").await;
    let second = client.subscription("second", &topic).await;
    client.publish_text(&topic, "for both").await;

    let received = client.receive_and_ack(&first, 2).await;
    assert_eq!(texts(&received), ["for both", "for the first"]);
    let received = client.receive_and_ack(&second, 1).await;
    assert_eq!(texts(&received), ["for both"]);
    for subscription in [first, second] {
        client.assert_nothing(&subscription, "all is acked").await;
    }
}

#[tokio::test]
async fn case_22_a_refused_request_pauses_neither_its_ordering_key_nor_others() {
    let (_pubsub, client, topic, subscription) = with_subscription().await;
    let keyed = |key: &str, data: &str| PubsubMessage {
        ordering_key: key.to_owned(),
        ..message(data.to_owned())
    };
    let bad = keyed("a", "");
    let request = publish_request(&topic, &[bad]);
    let answer = client.publisher().publish(request).await;
    refused(answer, Code::InvalidArgument, "an empty message");
    client.publish(&topic, &[keyed("b", "of b")]).await;
    client.publish(&topic, &[keyed("a", "of a")]).await;
    let received = client.receive_and_ack(&subscription, 2).await;
    assert_eq!(texts(&received), ["of a", "of b"]);
}

#[tokio::test]
async fn case_23_text_that_is_not_utf8_is_an_invalid_argument() {
    let (_pubsub, client, topic, subscription) = with_subscription().await;
    // Field 2 (attributes), an entry whose key or value is the byte 0xff; field 5 (ordering key), the same.
    let bad_key: &[u8] = &[0x12, 6, 0x0a, 1, 0xff, 0x12, 1, b'v'];
    let bad_value: &[u8] = &[0x12, 6, 0x0a, 1, b'k', 0x12, 1, 0xff];
    let bad_ordering_key: &[u8] = &[0x0a, 1, b'd', 0x2a, 1, 0xff];
    for bad in [bad_key, bad_value, bad_ordering_key] {
        let request = PublishRequest {
            topic: topic.clone(),
            messages: vec![bytes::Bytes::from_static(b"\x0a\x01d"), bad.to_vec().into()],
        };
        let answer = client.publisher().publish(request).await;
        refused(answer, Code::InvalidArgument, &format!("{bad:?}"));
    }
    client
        .assert_nothing(&subscription, "nothing was accepted")
        .await;
}

#[tokio::test]
async fn a_message_that_is_not_protobuf_is_an_invalid_argument() {
    let (_pubsub, client, topic, subscription) = with_subscription().await;
    let broken: [&[u8]; 5] = [
        // Data that claims to be longer than the message; a cut varint; field number 0; a lone end of a group;
        // data of another wire type.
        &[0x0a, 100, b'd'],
        &[0x0a, 0xff],
        &[0x02, 1, b'd'],
        &[0x0c],
        &[0x08, 1],
    ];
    for broken in broken {
        let request = PublishRequest {
            topic: topic.clone(),
            messages: vec![broken.to_vec().into()],
        };
        let answer = client.publisher().publish(request).await;
        refused(answer, Code::InvalidArgument, &format!("{broken:?}"));
    }
    client
        .assert_nothing(&subscription, "nothing was accepted")
        .await;
}

#[tokio::test]
async fn data_arrives_byte_for_byte() {
    let (_pubsub, client, topic, subscription) = with_subscription().await;
    let data: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    client.publish(&topic, &[message(data.clone())]).await;
    let received = client.receive_one(&subscription).await;
    assert_eq!(received.message.data, data);
    ok(client.ack(&subscription, vec![received.ack_id]).await);
}
