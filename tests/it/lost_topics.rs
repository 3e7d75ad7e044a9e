//! Kafka topics that another client deletes, or makes again, while they are in use.

use futures_util::FutureExt as _;
use tonic::Code;

use crate::support::{
    admin::bare,
    eventually,
    kafka::{Kafka, Record},
    location::Location,
    process::Process,
    refused,
    stream::opening,
    values::{message, publish_request, texts},
};

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
