//! The limits of one Publish request, each tried at its edge.

use packetboat::proto::google::pubsub::v1::{PublishRequest, PublishResponse, PubsubMessage};
use prost::Message;
use tonic::{Code, Status};

use crate::support::{
    Client,
    admin::with_subscription,
    ok,
    raw::{call, frame, gzip},
    refused, refused_with,
    values::{attributes, message, numbered, publish_request},
};

const PUBLISH: &str = "/google.pubsub.v1.Publisher/Publish";

/// A request of exactly `bytes` encoded bytes.
fn request_of(topic: &str, bytes: usize) -> PublishRequest {
    let mut data = bytes;
    loop {
        let request = publish_request(topic, &[message(vec![b'x'; data])]);
        let excess = request.encoded_len().checked_sub(bytes);
        match excess.expect("the data alone is as large") {
            0 => return request,
            excess => data -= excess,
        }
    }
}

/// What the server answers to one message of these properties.
async fn publish_one(
    client: &Client,
    topic: &str,
    message: PubsubMessage,
) -> Result<PublishResponse, Status> {
    let request = publish_request(topic, &[message]);
    let answer = client.publisher().publish(request).await;
    answer.map(tonic::Response::into_inner)
}

#[tokio::test]
async fn case_16_a_request_of_ten_million_bytes_is_accepted_and_one_more_is_not() {
    let (_pubsub, client, topic, subscription) = with_subscription().await;
    let largest = request_of(&topic, 10_000_000);
    assert_eq!(largest.encoded_len(), 10_000_000);
    let published = ok(client.publisher().publish(largest).await);
    assert_eq!(published.message_ids.len(), 1);
    for bytes in [10_000_001, 10_000_068] {
        let text = format!(
            "The value for request_size is too large. You passed {bytes} in the request, but the maximum value is 10000000."
        );
        let answer = client.publisher().publish(request_of(&topic, bytes)).await;
        refused_with(answer, Code::InvalidArgument, &text);
    }
    let received = client.receive_and_ack(&subscription, 1).await;
    assert!(received[0].message.data.len() > 9_999_000);
}

#[tokio::test]
async fn case_16_a_payload_over_10_mib_is_refused_as_a_payload() {
    let (_pubsub, client, topic, subscription) = with_subscription().await;
    let text = "Request payload size exceeds the limit: 10485760 bytes.";
    for bytes in [10_485_761, 15_000_000] {
        let answer = client.publisher().publish(request_of(&topic, bytes)).await;
        refused_with(answer, Code::InvalidArgument, text);
    }
    client
        .assert_nothing(&subscription, "nothing was accepted")
        .await;
    client.publish_text(&topic, "the connection goes on").await;
}

#[tokio::test]
async fn case_16_a_gzip_request_counts_by_what_it_holds() {
    let (_pubsub, client, topic, subscription) = with_subscription().await;
    let compressed = |bytes| frame(1, &gzip(&request_of(&topic, bytes).encode_to_vec()));
    let (status, _) = call(
        client.channel(),
        PUBLISH,
        Some("gzip"),
        compressed(10_000_000),
    )
    .await;
    assert_eq!(status.code(), Code::Ok, "{status:?}");
    let received = client.receive_and_ack(&subscription, 1).await;
    assert!(received[0].message.data.len() > 9_999_000);

    for (bytes, text) in [
        (
            10_000_001,
            "The value for request_size is too large. You passed 10000001 in the request, but the maximum value is 10000000.",
        ),
        (
            10_485_761,
            "Request payload size exceeds the limit: 10485760 bytes.",
        ),
    ] {
        let (status, _) = call(client.channel(), PUBLISH, Some("gzip"), compressed(bytes)).await;
        refused_with(Err::<(), _>(status), Code::InvalidArgument, text);
    }
}

#[tokio::test]
async fn case_17_a_request_has_1_to_1000_messages() {
    let (_pubsub, client, topic, subscription) = with_subscription().await;
    let request = publish_request(&topic, &[]);
    let none = client.publisher().publish(request).await;
    let text = "The value for message_count is too small. You passed 0 in the request, but the minimum value is 1.";
    refused_with(none, Code::InvalidArgument, text);
    let request = publish_request(&topic, &numbered(1001));
    let text = "The value for message_count is too large. You passed 1001 in the request, but the maximum value is 1000.";
    let too_many = client.publisher().publish(request).await;
    refused_with(too_many, Code::InvalidArgument, text);
    client
        .assert_nothing(&subscription, "nothing was accepted")
        .await;
    assert_eq!(client.publish(&topic, &numbered(1000)).await.len(), 1000);
    client.receive_and_ack(&subscription, 1000).await;
}

#[tokio::test]
async fn case_17_a_message_has_at_most_100_attributes() {
    let (_pubsub, client, topic, _subscription) = with_subscription().await;
    let many = |count: usize| PubsubMessage {
        attributes: (0..count)
            .map(|number| (format!("k{number}"), "v".to_owned()))
            .collect(),
        ..Default::default()
    };
    publish_one(&client, &topic, many(100)).await.expect("100");
    let answer = publish_one(&client, &topic, many(101)).await;
    refused(answer, Code::InvalidArgument, "101 attributes");
}

#[tokio::test]
async fn case_17_keys_values_and_ordering_keys_are_limited_in_bytes() {
    let (_pubsub, client, topic, subscription) = with_subscription().await;
    let ordered = |bytes: usize| PubsubMessage {
        ordering_key: "k".repeat(bytes),
        ..message("d")
    };
    let key = |key: &str| attributes(&[(key, "v")]);
    let value = |value: &str| attributes(&[("k", value)]);
    let good = [
        key(&"k".repeat(256)),
        value(&"v".repeat(1024)),
        value(""),
        ordered(1024),
        // Two bytes each.
        key(&"ä".repeat(128)),
        value(&"ä".repeat(512)),
    ];
    let count = good.len();
    for message in good {
        publish_one(&client, &topic, message).await.expect("good");
    }
    let bad = [
        (key(&"k".repeat(257)), "a key of 257 bytes"),
        (key(""), "an empty key"),
        (key(&"ä".repeat(129)), "a key of 258 bytes"),
        (value(&"v".repeat(1025)), "a value of 1025 bytes"),
        (value(&"ä".repeat(513)), "a value of 1026 bytes"),
        (ordered(1025), "an ordering key of 1025 bytes"),
    ];
    for (message, what) in bad {
        let answer = publish_one(&client, &topic, message).await;
        refused(answer, Code::InvalidArgument, what);
    }
    client.receive_and_ack(&subscription, count).await;
    client
        .assert_nothing(&subscription, "no more was accepted")
        .await;
}
