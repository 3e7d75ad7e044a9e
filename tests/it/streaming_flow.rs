//! Flow control: how much a stream is given, and what gives its credit back.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
};

use packetboat::proto::google::pubsub::v1::StreamingPullRequest;

use crate::support::{
    Client, Pubsub,
    admin::with_subscription,
    eventually, ok,
    stream::{PullStream, opening},
    values::{Received, ack_ids, message, numbered, texts},
};

fn limited(subscription: &str, messages: i64, bytes: i64) -> StreamingPullRequest {
    StreamingPullRequest {
        max_outstanding_messages: messages,
        max_outstanding_bytes: bytes,
        ..opening(subscription)
    }
}

async fn open(client: &Client, first: StreamingPullRequest) -> PullStream {
    client.open(first).await.expect("it opens")
}

#[tokio::test]
async fn case_39_a_stream_has_at_most_as_many_messages_as_it_allows_and_each_route_refills_it() {
    let (pubsub, client, topic, subscription) = with_subscription().await;
    client.publish(&topic, &numbered(50)).await;
    let mut stream = open(&client, limited(&subscription, 5, 0)).await;
    let mut held = stream.receive(5).await;
    stream.assert_no_message("five are outstanding").await;

    let two: Vec<_> = held.drain(..2).collect();
    ok(client.ack(&subscription, ack_ids(&two)).await);
    held.extend(stream.receive(2).await);
    stream
        .assert_no_message("two unary acks make room for two")
        .await;

    stream.ack(vec![held.remove(0).ack_id]).await;
    held.extend(stream.receive(1).await);
    stream
        .assert_no_message("one ack on the stream makes room for one")
        .await;

    stream
        .modify_deadlines(vec![held.remove(0).ack_id], 0)
        .await;
    held.extend(stream.receive(1).await);
    stream
        .assert_no_message("one nack makes room for one")
        .await;

    let nack = vec![held.remove(0).ack_id];
    ok(client.modify_deadline(&subscription, nack, 0).await);
    held.extend(stream.receive(1).await);
    stream
        .assert_no_message("one unary nack makes room for one")
        .await;

    let four: Vec<_> = held.drain(..4).collect();
    stream.modify_deadlines(ack_ids(&four), 60).await;
    stream.assert_no_message("an extension makes no room").await;
    pubsub.advance_seconds(11);
    stream.receive(1).await;
    stream
        .assert_no_message("one lease that ended makes room for one")
        .await;
}

#[tokio::test]
async fn case_39_no_limit_means_no_limit() {
    let (pubsub, client, topic, subscription) = with_subscription().await;
    client.publish(&topic, &numbered(1000)).await;
    client.publish(&topic, &numbered(1000)).await;
    for none in [0, -1] {
        let mut stream = open(&client, limited(&subscription, none, none)).await;
        let received = stream.receive(2000).await;
        assert_eq!(received.len(), 2000);
        // Everything comes back for the other way to say it.
        stream.half_close();
        stream.assert_ends(tonic::Code::Ok, "a half-close").await;
        pubsub.advance_seconds(11);
    }
}

#[tokio::test]
async fn case_40_a_stream_stops_when_its_bytes_are_reached() {
    let (_pubsub, client, topic, subscription) = with_subscription().await;
    let batch = vec![message(vec![b'x'; 600_000]); 3];
    client.publish(&topic, &batch).await;
    let mut stream = open(&client, limited(&subscription, 0, 1_000_000)).await;
    let mut held = stream.receive(2).await;
    stream
        .assert_no_message("1.2 MB of 1 MB are outstanding")
        .await;
    ok(client.ack(&subscription, vec![held.remove(0).ack_id]).await);
    held.extend(stream.receive(1).await);
    ok(client.ack(&subscription, ack_ids(&held)).await);
}

#[tokio::test]
async fn case_40_a_message_larger_than_a_streams_bytes_is_still_delivered() {
    let (_pubsub, client, topic, subscription) = with_subscription().await;
    client
        .publish(&topic, &[message(vec![b'x'; 2_000_000])])
        .await;
    client.publish_text(&topic, "small").await;
    let mut stream = open(&client, limited(&subscription, 0, 1_000_000)).await;
    let big = stream.receive(1).await;
    assert_eq!(big[0].message.data.len(), 2_000_000);
    stream
        .assert_no_message("2 MB of 1 MB are outstanding")
        .await;
    stream.ack(ack_ids(&big)).await;
    assert_eq!(texts(&stream.receive(1).await), ["small"]);
}

#[tokio::test]
async fn case_45_the_largest_message_is_streamed() {
    let (_pubsub, client, topic, subscription) = with_subscription().await;
    let data = vec![b'x'; 9_999_000];
    client.publish(&topic, &[message(data.clone())]).await;
    let subscriber = client.subscriber_of_big_messages();
    let mut stream = PullStream::open(subscriber, opening(&subscription))
        .await
        .expect("it opens");
    let received = stream.receive(1).await;
    assert!(received[0].message.data == data, "not the same data");
}

#[tokio::test]
async fn case_45_a_hundred_megabytes_fit_a_client_that_receives_4_mib_at_a_time() {
    let (_pubsub, client, topic, subscription) = with_subscription().await;
    for _ in 0..20 {
        let batch = vec![message(vec![b'x'; 1_000_000]); 5];
        client.publish(&topic, &batch).await;
    }
    // This client refuses a frame over 4 MiB.
    let mut stream = client.stream(&subscription).await;
    let mut count = 0;
    while count < 100 {
        let received = stream.receive_some().await;
        count += received.len();
        stream.ack(ack_ids(&received)).await;
    }
    assert_eq!(count, 100);
}

/// What a stream's reader leaves: every text that it received and acknowledged.
type Read = Arc<Mutex<HashSet<String>>>;

async fn read_and_ack(mut stream: PullStream, read: Read) {
    loop {
        let received = stream.receive_some().await;
        stream.ack(ack_ids(&received)).await;
        let mut read = read.lock().expect("no reader panics with it");
        read.extend(received.iter().map(Received::text));
    }
}

/// Publishes 10,000 messages of about 500 bytes.
async fn publish_ten_thousand(client: &Client, topic: &str) {
    let padding = "x".repeat(500);
    for thousand in 0..10 {
        let numbers = thousand * 1000..(thousand + 1) * 1000;
        let batch: Vec<_> = numbers
            .map(|number| message(format!("{number} {padding}")))
            .collect();
        client.publish(topic, &batch).await;
    }
}

#[tokio::test]
async fn case_46_a_stream_that_stops_reading_keeps_little_from_the_others() {
    let pubsub = Pubsub::start().await;
    let client = pubsub.client();
    let topic = client.topic("orders").await;
    let subscription = client.subscription("orders-worker", &topic).await;
    let stalled = pubsub.another_client().stream(&subscription).await;
    let read = Read::default();
    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..9 {
        let stream = pubsub.another_client().stream(&subscription).await;
        readers.spawn(read_and_ack(stream, Arc::clone(&read)));
    }
    publish_ten_thousand(&client, &topic).await;
    let count = || read.lock().expect("no reader panics with it").len();
    eventually("all but the prefetch of one stream", || async {
        (count() >= 7_000).then_some(())
    })
    .await;
    // The stalled stream's leases end, and what it held goes to the others or to itself, over and over.
    drop(stalled);
    eventually("the rest", || async {
        pubsub.advance_seconds(1);
        ok(client.get_subscription(&subscription).await);
        (count() == 10_000).then_some(())
    })
    .await;
    readers.abort_all();
}

#[tokio::test]
async fn a_cancelled_streams_messages_come_back_when_their_leases_end() {
    let (pubsub, client, topic, subscription) = with_subscription().await;
    client.publish(&topic, &numbered(3)).await;
    let mut stream = client.stream(&subscription).await;
    let held = stream.receive(3).await;
    drop(stream);
    // The client may still acknowledge by another route.
    ok(client.ack(&subscription, ack_ids(&held[..1])).await);
    client
        .assert_nothing(&subscription, "their leases go on")
        .await;
    pubsub.advance_seconds(11);
    let again = client.receive(&subscription, 2).await;
    assert_eq!(texts(&again), texts(&held[1..]));
}
