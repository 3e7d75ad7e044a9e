//! Kafka topics that another client deletes, or makes again, while they are in use.

use std::collections::BTreeSet;

use futures_util::FutureExt as _;
use tonic::Code;

use crate::support::{
    Client,
    admin::{bare, topic_name},
    eventually,
    kafka::{Kafka, Record},
    location::Location,
    process::Process,
    refused,
    stream::{PullStream, opening},
    values::{ack_ids, message, publish_request, texts},
    within,
};

const NEW: [&str; 5] = ["new 1", "new 2", "new 3", "new 4", "new 5"];

fn to<'a>(topic: &'a str, value: &'a str) -> Record<'a> {
    Record::to(topic).partition(0).payload(value.as_bytes())
}

#[tokio::test]
async fn a_topic_that_is_gone_is_told_and_one_made_again_is_read_from_its_start() {
    let location = Location::kafka_and_postgres().await;
    let process = Process::serve_at(&location, "only").await;
    let (client, kafka) = (process.client().await, Kafka::new());
    let topic = client.topic("orders").await;
    let subscription = client.subscription("worker", &topic).await;
    let name = kafka.topic_of(&location.services().prefix, "orders");
    for text in ["a", "b", "c"] {
        client.publish_text(&topic, text).await;
    }
    let mut stream = client.stream(&subscription).await;
    let received = stream.receive(3).await;
    stream
        .ack(received.into_iter().map(|one| one.ack_id).collect())
        .await;
    stream.pong_after_ping().await;

    kafka.delete(&name).await;
    stream
        .assert_ends(Code::Unavailable, "the log is gone")
        .await;
    let told = eventually("it is certain that the log is gone", || async {
        let status = client.open(opening(&subscription)).await.err()?;
        (status.code() != Code::Unavailable).then_some(status)
    })
    .await;
    assert_eq!(told.code(), Code::FailedPrecondition, "{told:?}");
    let text = told.message();
    assert!(text.contains(&topic) && text.contains(&name), "{text}");
    let publish = async || {
        let request = publish_request(&topic, &[message("d")]);
        client.publisher().publish(request).await
    };
    let told = eventually("a publisher is told", || async {
        let status = publish().await.err()?;
        (status.code() != Code::Unavailable).then_some(status)
    })
    .await;
    assert_eq!(
        (told.code(), told.message()),
        (Code::FailedPrecondition, text)
    );
    let another = bare("projects/tests/subscriptions/another", &topic);
    let told = client.create_subscription(another).await;
    refused(told, Code::FailedPrecondition, "a subscription of no log");
    client.get_topic(&topic).await.expect("it is there");

    kafka.create(&name, 1, &[]).await;
    let mut stream = eventually("a stream opens", || {
        client.open(opening(&subscription)).map(Result::ok)
    })
    .await;
    kafka.write([to(&name, "first"), to(&name, "second")]);
    eventually("a publish succeeds", || async { publish().await.ok() }).await;
    let mut received = texts(&stream.receive(3).await);
    received.sort();
    assert_eq!(received, ["d", "first", "second"]);

    process.signal("TERM").await;
    let (_, log) = process.ended().await;
    let told = log.lines().filter(|line| line.contains("is gone, as"));
    let told: Vec<_> = told.collect();
    assert!(told.len() == 1 && told[0].contains("ERROR"), "{told:#?}");
}

/// Receives from one stream after the other until there were so many different texts.
async fn receive_all(client: &Client, subscription: &str, count: usize) -> BTreeSet<String> {
    let mut received = BTreeSet::new();
    within("all messages", async {
        while received.len() < count {
            let Ok(mut stream) = client.open(opening(subscription)).await else {
                continue;
            };
            while received.len() < count
                && let Ok(some) = stream.next().await
            {
                received.extend(texts(&some));
            }
        }
    })
    .await;
    received
}

/// Has so many messages delivered and acknowledged.
async fn acknowledge(client: &Client, subscription: &str, count: usize) -> PullStream {
    let mut stream = client.stream(subscription).await;
    let received = stream.receive(count).await;
    stream.ack(ack_ids(&received)).await;
    stream.pong_after_ping().await;
    stream
}

#[tokio::test]
async fn what_was_made_again_while_no_server_ran_is_delivered_from_its_start() {
    let location = Location::kafka_and_postgres().await;
    let process = Process::serve_at(&location, "only").await;
    let (client, kafka) = (process.client().await, Kafka::new());
    let topic = client.topic("orders").await;
    let subscription = client.subscription("worker", &topic).await;
    let name = kafka.topic_of(&location.services().prefix, "orders");
    for text in ["a", "b", "c"] {
        client.publish_text(&topic, text).await;
    }
    acknowledge(&client, &subscription, 3).await;
    process.signal("TERM").await;
    process.ended().await;
    kafka.make_again(&name).await;
    kafka.write(NEW.map(|text| to(&name, text)));
    let process = Process::serve_at(&location, "only").await;
    let client = process.client().await;
    let received = receive_all(&client, &subscription, NEW.len()).await;
    assert!(received.iter().eq(NEW));
    process.signal("TERM").await;
    let (_, log) = process.ended().await;
    let told = log
        .lines()
        .filter(|line| line.contains("is not what this subscription has seen"));
    assert_eq!(told.count(), 1, "{log}");
}

#[tokio::test]
async fn an_attached_topic_that_is_made_again_under_a_stream_is_delivered_from_its_start() {
    let location = Location::kafka_and_postgres().await;
    let process = Process::serve_at(&location, "only").await;
    let (client, kafka) = (process.client().await, Kafka::new());
    let name = format!("{}-theirs", location.services().prefix);
    kafka.create(&name, 1, &[]).await;
    let topic = topic_name("theirs");
    process.attach(&topic, &name).await;
    let subscription = client.subscription("ours", &topic).await;
    kafka.write(["a", "b", "c"].map(|text| to(&name, text)));
    let mut stream = acknowledge(&client, &subscription, 3).await;
    kafka.make_again(&name).await;
    stream
        .assert_ends(Code::Unavailable, "it is another topic")
        .await;
    kafka.write(NEW.map(|text| to(&name, text)));
    let received = receive_all(&client, &subscription, NEW.len()).await;
    assert!(received.iter().eq(NEW));
}
