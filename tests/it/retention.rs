//! What is deleted, and when.

use std::{path::Path, time::Duration};

use packetboat::proto::google::pubsub::v1::Subscription;

use crate::support::{
    Client, Pubsub,
    admin::{bare, subscription_name},
    eventually, ok,
    values::{message, seconds, texts},
};

/// Bytes of the messages of one minute; sixty of them are well over the allowance.
const MINUTE_BYTES: usize = 6 * MESSAGE_BYTES;
const MESSAGE_BYTES: usize = 1_000_000;
/// What a data directory may hold beside twice the live backlog, bytes.
const ALLOWANCE_BYTES: u64 = 256 * 1024 * 1024;

fn bytes_in(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).expect("a directory");
    let sizes = entries.map(|entry| {
        let path = entry.expect("an entry").path();
        match path.metadata() {
            Ok(metadata) if metadata.is_dir() => bytes_in(&path),
            // For a full disk, whatever is stored.
            Ok(_) if path.ends_with("RESERVE") => 0,
            Ok(metadata) => metadata.len(),
            // Deleted in between.
            Err(_) => 0,
        }
    });
    sizes.sum()
}

/// Publishes and acknowledges an hour's traffic, all but the message with the text "poison".
async fn an_hour_of_traffic(pubsub: &Pubsub, client: &Client, topic: &str, subscription: &str) {
    for _ in 0..60 {
        let batch = vec![message(vec![b'x'; MESSAGE_BYTES]); MINUTE_BYTES / MESSAGE_BYTES];
        client.publish(topic, &batch).await;
        let mut acked = 0;
        while acked < batch.len() {
            let received = client.receive_some(subscription, 100).await;
            let good = received
                .into_iter()
                .filter(|one| one.message.data.len() == MESSAGE_BYTES);
            let good: Vec<_> = good.map(|one| one.ack_id).collect();
            if !good.is_empty() {
                acked += good.len();
                ok(client.ack(subscription, good).await);
            }
        }
        pubsub.advance_seconds(60);
    }
}

/// Fails unless the data directory comes under the limit once the clock goes on.
async fn shrinks_to_the_allowance(pubsub: &Pubsub, client: &Client, topic: &str, directory: &Path) {
    let bytes_max = ALLOWANCE_BYTES;
    eventually("a data directory within the limit", || async {
        // A second of the clock, and a round trip in which the server uses it.
        pubsub.advance_seconds(1);
        client.subscriptions_of(topic).await;
        (bytes_in(directory) <= bytes_max).then_some(())
    })
    .await;
}

async fn start(directory: &Path) -> (Pubsub, Client, String, String) {
    let pubsub = Pubsub::in_directory(directory, Duration::ZERO).await;
    let client = pubsub.client();
    let topic = client.topic("orders").await;
    let subscription = client.subscription("orders-worker", &topic).await;
    (pubsub, client, topic, subscription)
}

#[tokio::test]
async fn after_an_hour_of_steady_traffic_little_more_than_the_backlog_is_left() {
    let directory = tempfile::tempdir().expect("a directory");
    let (pubsub, client, topic, subscription) = start(directory.path()).await;
    an_hour_of_traffic(&pubsub, &client, &topic, &subscription).await;
    shrinks_to_the_allowance(&pubsub, &client, &topic, directory.path()).await;
}

#[tokio::test]
async fn one_message_that_is_never_acked_does_not_keep_the_rest() {
    let directory = tempfile::tempdir().expect("a directory");
    let (pubsub, client, topic, subscription) = start(directory.path()).await;
    client.publish_text(&topic, "poison").await;
    an_hour_of_traffic(&pubsub, &client, &topic, &subscription).await;
    shrinks_to_the_allowance(&pubsub, &client, &topic, directory.path()).await;
    let left = client.receive(&subscription, 1).await;
    assert_eq!(texts(&left), ["poison"]);
}

#[tokio::test]
async fn messages_are_kept_while_one_subscription_needs_them() {
    let directory = tempfile::tempdir().expect("a directory");
    let (pubsub, client, topic, subscription) = start(directory.path()).await;
    let slow = client.subscription("slow", &topic).await;
    for number in 0..20 {
        client.publish_text(&topic, &number.to_string()).await;
        client.receive_and_ack(&subscription, 1).await;
        pubsub.advance_seconds(600);
    }
    assert_eq!(client.receive_and_ack(&slow, 20).await.len(), 20);
}

/// A subscription that retains unacknowledged messages for ten minutes.
async fn ten_minutes(client: &Client, topic: &str) -> String {
    let subscription = Subscription {
        message_retention_duration: seconds(600),
        ..bare(&subscription_name("ten-minutes"), topic)
    };
    ok(client.create_subscription(subscription).await).name
}

#[tokio::test]
async fn a_message_is_delivered_until_its_retention_ends_and_not_after() {
    let pubsub = Pubsub::start().await;
    let client = pubsub.client();
    let topic = client.topic("orders").await;
    let week = client.subscription("week", &topic).await;
    let subscription = ten_minutes(&client, &topic).await;
    client.publish_text(&topic, "first").await;
    pubsub.advance_seconds(300);
    client.publish_text(&topic, "second").await;
    pubsub.advance_seconds(290);
    let received = client.receive(&subscription, 2).await;
    assert_eq!(texts(&received), ["first", "second"]);
    // Both leases have ended; the first message is 601 s old.
    pubsub.advance_seconds(11);
    let received = client.receive(&subscription, 1).await;
    assert_eq!(texts(&received), ["second"]);
    pubsub.advance_seconds(600);
    client
        .assert_nothing(&subscription, "both are too old")
        .await;
    // The retention of one subscription is not that of another.
    client.receive_and_ack(&week, 2).await;
}

#[tokio::test]
async fn an_ack_of_a_message_whose_retention_ended_is_accepted() {
    let pubsub = Pubsub::start().await;
    let client = pubsub.client();
    let topic = client.topic("orders").await;
    let subscription = ten_minutes(&client, &topic).await;
    client.publish_text(&topic, "a").await;
    pubsub.advance_seconds(599);
    let received = client.receive_one(&subscription).await;
    pubsub.advance_seconds(2);
    ok(client.ack(&subscription, vec![received.ack_id]).await);
    pubsub.advance_seconds(20);
    client.assert_nothing(&subscription, "it is too old").await;
}

#[tokio::test]
async fn a_shorter_retention_lets_go_of_what_is_older_at_once() {
    let pubsub = Pubsub::start().await;
    let client = pubsub.client();
    let topic = client.topic("orders").await;
    let subscription = client.subscription("orders-worker", &topic).await;
    client.publish_text(&topic, "old").await;
    pubsub.advance_seconds(3600);
    client.publish_text(&topic, "new").await;
    let shorter = Subscription {
        message_retention_duration: seconds(600),
        ..bare(&subscription, &topic)
    };
    let path = ["message_retention_duration"];
    ok(client.update_subscription(shorter, &path).await);
    let received = client.receive_and_ack(&subscription, 1).await;
    assert_eq!(texts(&received), ["new"]);
    client
        .assert_nothing(&subscription, "the old one is gone")
        .await;
}
