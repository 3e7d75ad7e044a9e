//! Several servers on one Kafka and one Postgres: any of them takes publishes and admin calls, and what one has
//! answered, all apply.
#![allow(
    clippy::disallowed_methods,
    reason = "what real servers take is measured and shown"
)]

use std::time::{Duration, Instant};

use packetboat::proto::google::pubsub::v1::{
    ListSubscriptionsRequest, ListTopicsRequest, Subscription, Topic,
};
use tonic::Code;

use crate::support::{
    Client, eventually,
    nodes::{Nodes, assert_owned_by},
    ok,
    process::Process,
    refused,
    values::{map, message, numbered, publish_request, texts},
    within,
};

/// All topics and subscriptions that a server lists, by name.
async fn listed(client: &Client) -> (Vec<String>, Vec<String>) {
    let project = "projects/tests".to_owned();
    let request = ListTopicsRequest {
        project: project.clone(),
        ..Default::default()
    };
    let topics = ok(client.publisher().list_topics(request).await);
    let topics = topics.topics.into_iter();
    let request = ListSubscriptionsRequest {
        project,
        ..Default::default()
    };
    let subscriptions = ok(client.subscriber().list_subscriptions(request).await);
    let subscriptions = subscriptions.subscriptions.into_iter();
    (
        topics.map(|topic| topic.name).collect(),
        subscriptions
            .map(|subscription| subscription.name)
            .collect(),
    )
}

#[tokio::test]
async fn what_one_server_made_every_server_shows_changes_and_publishes_to() {
    let nodes = Nodes::start().await;
    let (on_a, on_b) = (&nodes.on_a, &nodes.on_b);
    let topic = on_a.topic("orders").await;
    assert_eq!(ok(on_b.get_topic(&topic).await).name, topic);
    let subscription = on_b.subscription("orders-worker", &topic).await;
    for client in [on_a, on_b] {
        assert_eq!(
            listed(client).await,
            (vec![topic.clone()], vec![subscription.clone()])
        );
        assert_eq!(client.subscriptions_of(&topic).await, [&*subscription]);
        let found = ok(client.get_subscription(&subscription).await);
        assert_eq!(found.topic, topic);
    }
    refused(
        on_b.create_topic(Topic {
            name: topic.clone(),
            ..Default::default()
        })
        .await,
        Code::AlreadyExists,
        "a topic that the other server made",
    );

    let mut published = on_a.publish(&topic, &numbered(10)).await;
    published.extend(on_b.publish(&topic, &numbered(10)).await);
    let received = on_a.receive_and_ack(&subscription, 20).await;
    let mut received: Vec<_> = received
        .into_iter()
        .map(|one| one.message.message_id)
        .collect();
    received.sort();
    published.sort();
    assert_eq!(received, published);

    ok(on_b.delete_subscription(&subscription).await);
    ok(on_a.delete_topic(&topic).await);
    for client in [on_a, on_b] {
        assert_eq!(listed(client).await, (vec![], vec![]));
    }
}

#[tokio::test]
async fn an_update_is_seen_through_every_server_once_it_is_answered() {
    let (nodes, topic, subscription) = Nodes::with_subscription().await;
    let pairs = [
        (&nodes.on_a, &nodes.on_b),
        (&nodes.on_b, &nodes.on_a),
        (&nodes.on_a, &nodes.on_b),
    ];
    for (round, (one, other)) in pairs.into_iter().enumerate() {
        // What the other server has read before must not be what it shows afterwards.
        ok(other.get_topic(&topic).await);
        ok(other.get_subscription(&subscription).await);
        let labels = map(&[("round", &round.to_string())]);
        let updated = Topic {
            name: topic.clone(),
            labels: labels.clone(),
            ..Default::default()
        };
        ok(one.update_topic(updated, &["labels"]).await);
        assert_eq!(ok(other.get_topic(&topic).await).labels, labels);
        let updated = Subscription {
            name: subscription.clone(),
            labels: labels.clone(),
            ..Default::default()
        };
        ok(one.update_subscription(updated, &["labels"]).await);
        let shown = ok(other.get_subscription(&subscription).await);
        assert_eq!(shown.labels, labels);
    }
}

#[tokio::test]
async fn an_update_reaches_the_server_that_delivers_the_subscription() {
    let (nodes, topic, subscription) = Nodes::with_subscription().await;
    let mut stream = nodes.on_a.stream(&subscription).await;
    let updated = Subscription {
        name: subscription.clone(),
        ack_deadline_seconds: 60,
        ..Default::default()
    };
    let update = nodes
        .on_b
        .update_subscription(updated, &["ack_deadline_seconds"]);
    ok(update.await);
    let shown = ok(nodes.on_a.get_subscription(&subscription).await);
    assert_eq!(shown.ack_deadline_seconds, 60);
    nodes.on_b.publish_text(&topic, "after").await;
    assert_eq!(texts(&stream.receive(1).await), ["after"]);
}

#[tokio::test]
async fn once_a_topic_is_deleted_no_server_takes_a_publish_to_it() {
    let nodes = Nodes::start().await;
    for round in 0..10 {
        let topic = nodes.on_a.topic(&format!("orders-{round}")).await;
        let (one, other) = if round % 2 == 0 {
            (&nodes.on_a, &nodes.on_b)
        } else {
            (&nodes.on_b, &nodes.on_a)
        };
        other.publish_text(&topic, "before").await;
        ok(one.delete_topic(&topic).await);
        let request = publish_request(&topic, &[message("after")]);
        let published = other.publisher().publish(request).await;
        refused(published, Code::NotFound, "a publish to a deleted topic");
        refused(
            other.get_topic(&topic).await,
            Code::NotFound,
            "a deleted topic",
        );
    }
}

#[tokio::test]
async fn once_a_subscription_is_deleted_no_server_delivers_it() {
    let (nodes, topic, subscription) = Nodes::with_subscription().await;
    let mut stream = nodes.on_b.stream(&subscription).await;
    nodes.on_b.publish_text(&topic, "before").await;
    assert_eq!(texts(&stream.receive(1).await), ["before"]);
    ok(nodes.on_a.delete_subscription(&subscription).await);
    let answered = Instant::now();
    nodes.on_b.publish_text(&topic, "after").await;
    let end = stream.end_without_message().await;
    assert_eq!(end.code(), Code::NotFound, "{end:?}");
    assert!(answered.elapsed() < Duration::from_secs(1));
    let pull = nodes.on_b.try_pull_now(&subscription).await;
    refused(pull, Code::NotFound, "a pull from a deleted subscription");
}

#[tokio::test]
async fn once_a_subscription_is_detached_no_server_delivers_it() {
    let (nodes, topic, subscription) = Nodes::with_subscription().await;
    let mut stream = nodes.on_b.stream(&subscription).await;
    nodes.on_b.publish_text(&topic, "before").await;
    assert_eq!(texts(&stream.receive(1).await), ["before"]);
    ok(nodes.on_a.detach(&subscription).await);
    let answered = Instant::now();
    nodes.on_b.publish_text(&topic, "after").await;
    let end = stream.end_without_message().await;
    assert_eq!(end.code(), Code::FailedPrecondition, "{end:?}");
    assert!(answered.elapsed() < Duration::from_secs(1));
    let pull = nodes.on_b.try_pull_now(&subscription).await;
    refused(pull, Code::FailedPrecondition, "a pull from a detached one");
    assert!(ok(nodes.on_b.get_subscription(&subscription).await).detached);
}

#[tokio::test]
async fn a_server_that_is_killed_holds_up_no_deletion_beyond_its_lease() {
    let (nodes, topic, subscription) = Nodes::with_subscription().await;
    nodes.on_b.publish_text(&topic, "before").await;
    nodes.b.signal("KILL").await;
    nodes.b.ended().await;
    let killed = Instant::now();
    ok(nodes.on_a.delete_subscription(&subscription).await);
    ok(nodes.on_a.delete_topic(&topic).await);
    assert!(killed.elapsed() < Duration::from_secs(8));
}

#[tokio::test]
async fn a_server_started_under_the_name_of_a_running_one_replaces_it() {
    let (nodes, topic, subscription) = Nodes::with_subscription().await;
    nodes.on_a.publish(&topic, &numbered(10)).await;
    nodes.on_a.receive_and_ack(&subscription, 4).await;
    let mut stream = nodes.on_a.stream(&subscription).await;
    stream.receive(6).await;
    let second = Process::serve_at(&nodes.location, "node-a").await;
    let (status, log) = nodes.a.ended().await;
    assert!(!status.success(), "{log}");
    let last = log.lines().last().expect("a line");
    assert!(
        last.contains("node-a") && last.contains("replaced"),
        "{log}"
    );
    assert!(last.contains(&second.addresses[0].to_string()), "{log}");
    let end = within("the old server's stream ends", stream.end()).await;
    assert_eq!(end.code(), Code::Unavailable, "{end:?}");

    // What was leased comes again when its deadline is over, what was acknowledged does not.
    let client = second.client().await;
    client.receive_and_ack(&subscription, 6).await;
    client.assert_nothing(&subscription, "all is acked").await;
    assert_owned_by(nodes.on_b.try_pull_now(&subscription).await, "node-a");
}

#[tokio::test]
async fn a_subscription_that_nobody_uses_any_more_is_free_for_every_server() {
    let (nodes, topic, subscription) = Nodes::with_subscription().await;
    nodes.on_a.publish_text(&topic, "one").await;
    nodes.on_a.receive_and_ack(&subscription, 1).await;
    assert_owned_by(nodes.on_b.try_pull_now(&subscription).await, "node-a");
    nodes.on_a.publish_text(&topic, "two").await;
    let received = eventually("the first server gives it up", || async {
        let received = nodes.on_b.try_pull_now(&subscription).await.ok()?;
        (!received.is_empty()).then_some(received)
    });
    assert_eq!(texts(&received.await), ["two"]);
    assert_owned_by(nodes.on_a.try_pull_now(&subscription).await, "node-b");
}
