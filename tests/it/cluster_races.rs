//! What is answered by one server holds for whatever another server answers afterwards, however soon.
#![allow(
    clippy::print_stdout,
    clippy::similar_names,
    reason = "what real servers take is measured and shown"
)]

use std::{collections::HashSet, sync::Arc, time::Duration};

use packetboat::proto::google::pubsub::v1::PubsubMessage;
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewPartitions},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer as _},
};
use tokio::sync::Semaphore;
use tonic::Code;

use crate::support::{
    Client, eventually, few_or_many,
    location::Location,
    nodes::Nodes,
    ok,
    values::{Received, message, publish_request},
    within,
};

/// An operator who gives a topic more partitions.
struct Operator {
    admin: AdminClient<DefaultClientContext>,
    kafka_topic: String,
    partitions: usize,
}

impl Operator {
    /// Of the only topic that the servers at this location have made.
    fn of(location: &Location) -> Self {
        let services = location.services();
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &services.kafka);
        let consumer: BaseConsumer = config.create().expect("a client");
        let metadata = consumer.fetch_metadata(None, Duration::from_secs(5));
        let metadata = metadata.expect("Kafka answers");
        let topics = metadata.topics().iter();
        let beginning = format!("{}.tests.", services.prefix);
        let mut ours = topics.filter(|topic| topic.name().starts_with(&beginning));
        let topic = ours.next().expect("a topic");
        assert!(ours.next().is_none(), "more than one topic");
        Self {
            admin: config.create().expect("a client"),
            kafka_topic: topic.name().to_owned(),
            partitions: topic.partitions().len(),
        }
    }

    async fn grow(&mut self) {
        self.partitions += 1;
        let grown = NewPartitions::new(&self.kafka_topic, self.partitions);
        let grown = self.admin.create_partitions([&grown], &AdminOptions::new());
        let results = within("Kafka grows the topic", grown).await;
        for result in results.expect("Kafka answers") {
            result.expect("the topic grows");
        }
    }
}

/// Publishes one message as a client library does: what is UNAVAILABLE is tried again, as a publish to a partition
/// may be of which the broker has not heard yet.
async fn publish(client: &Client, topic: &str, text: &'static str) -> String {
    let ids = eventually("a publish is answered", || async {
        let request = publish_request(topic, &[message(text)]);
        match client.publisher().publish(request).await {
            Ok(answer) => Some(answer.into_inner().message_ids),
            Err(status) => {
                assert_eq!(status.code(), Code::Unavailable, "{status:?}");
                None
            }
        }
    });
    ids.await.swap_remove(0)
}

/// Fails unless every one of the messages comes.
async fn assert_delivered(client: &Client, subscription: &str, ids: Vec<String>) {
    let mut missing: HashSet<_> = ids.into_iter().collect();
    while !missing.is_empty() {
        let what = format!("{subscription}: {missing:?} missing");
        let received = within(&what, client.receive_some(subscription, 1000)).await;
        let ids = received.iter().map(|one| &one.message.message_id);
        for id in ids {
            missing.remove(id);
        }
    }
}

#[tokio::test]
async fn a_publish_answered_after_create_subscription_on_another_server_is_always_delivered() {
    let nodes = Nodes::start().await;
    let topic = nodes.on_a.topic("orders").await;
    let mut operator = Operator::of(&nodes.location);
    // Messages keep coming, so that the log's end moves while subscriptions are made.
    let background = nodes.on_b.clone();
    let (busy, busy_topic) = (Arc::new(Semaphore::new(0)), topic.clone());
    let go = Arc::clone(&busy);
    let publishing = tokio::spawn(async move {
        while let Ok(permit) = go.acquire().await {
            permit.forget();
            publish(&background, &busy_topic, "other").await;
        }
    });
    let rounds = few_or_many(50, 1000);
    let growths = 40;
    for round in 0..rounds {
        let (one, other) = if round % 2 == 0 {
            (&nodes.on_a, &nodes.on_b)
        } else {
            (&nodes.on_b, &nodes.on_a)
        };
        busy.add_permits(3);
        let id = format!("worker-{round}");
        let grows = round % (rounds / growths).max(1) == 0;
        let grown = async {
            if grows {
                operator.grow().await;
            }
        };
        let published = async {
            let subscription = one.subscription(&id, &topic).await;
            // Several requests: each goes to another partition.
            let mut ids = Vec::new();
            for _ in 0..3 {
                ids.push(publish(other, &topic, "wanted").await);
            }
            (subscription, ids)
        };
        let ((subscription, mut ids), ()) = tokio::join!(published, grown);
        if grows {
            for _ in 0..3 {
                ids.push(publish(other, &topic, "wanted").await);
            }
        }
        // Either server may deliver it.
        let reader = if round % 4 < 2 { one } else { other };
        assert_delivered(reader, &subscription, ids).await;
        ok(one.delete_subscription(&subscription).await);
    }
    busy.close();
    publishing.await.expect("every publish is answered");
    println!(
        "{rounds} rounds, {} partitions in the end",
        operator.partitions
    );
}

#[tokio::test]
async fn nothing_goes_to_the_old_topic_once_its_name_has_a_new_one() {
    let nodes = Nodes::start().await;
    let mut topic = nodes.on_a.topic("orders").await;
    let mut old = nodes.on_a.subscription("worker-old", &topic).await;
    for round in 0..few_or_many(20, 200) {
        let (one, other) = if round % 2 == 0 {
            (&nodes.on_a, &nodes.on_b)
        } else {
            (&nodes.on_b, &nodes.on_a)
        };
        // The other server knows the old topic, and has just published to it.
        let to_old = other.publish(&topic, &texts_of("old", 5)).await;
        ok(one.delete_topic(&topic).await);
        topic = one.topic("orders").await;
        let new = one.subscription(&format!("worker-{round}"), &topic).await;
        let to_new = other.publish(&topic, &texts_of("new", 5)).await;
        assert_exactly(other, &new, &to_new, "new").await;
        // What was published before is still there for those who subscribed to it.
        assert_exactly(one, &old, &to_old, "old").await;
        ok(one.delete_subscription(&old).await);
        old = new;
    }
}

fn texts_of(text: &'static str, count: usize) -> Vec<PubsubMessage> {
    vec![message(text); count]
}

/// Receives and acknowledges these messages, and fails if there are others.
async fn assert_exactly(client: &Client, subscription: &str, ids: &[String], text: &str) {
    let received = client.receive_and_ack(subscription, ids.len()).await;
    assert!(
        received.iter().all(|one| one.text() == text),
        "{received:?}"
    );
    let mut found: Vec<_> = received.into_iter().map(id).collect();
    let mut ids = ids.to_vec();
    found.sort();
    ids.sort();
    assert_eq!(found, ids);
    client.assert_nothing(subscription, "all has come").await;
}

fn id(received: Received) -> String {
    received.message.message_id
}
