//! Dead letter policies (docs/behaviour.md, section 11.2).

use std::collections::HashMap;

use packetboat::proto::google::pubsub::v1::{DeadLetterPolicy, PubsubMessage, Subscription};
use tonic::Code;

use crate::support::{
    Client, Pubsub,
    admin::{bare, subscription_name, topic_name},
    location::Location,
    nodes::Nodes,
    ok,
    process::Process,
    refused,
    values::{Received, ack_ids, map, message},
};

const COUNT: &str = "CloudPubSubDeadLetterSourceDeliveryCount";
const SOURCE: &str = "CloudPubSubDeadLetterSourceSubscription";
const PROJECT: &str = "CloudPubSubDeadLetterSourceSubscriptionProject";
const PUBLISH_TIME: &str = "CloudPubSubDeadLetterSourceTopicPublishTime";

fn policy(topic: &str, attempts: i32) -> DeadLetterPolicy {
    DeadLetterPolicy {
        dead_letter_topic: topic.to_owned(),
        max_delivery_attempts: attempts,
    }
}

fn with_policy(id: &str, topic: &str, dead: &str, attempts: i32) -> Subscription {
    Subscription {
        dead_letter_policy: Some(policy(dead, attempts)),
        ..bare(&subscription_name(id), topic)
    }
}

impl Client {
    /// A subscription to `topic` with this policy.
    async fn dead_letters_of(&self, id: &str, topic: &str, dead: &str, attempts: i32) -> String {
        let subscription = with_policy(id, topic, dead, attempts);
        ok(self.create_subscription(subscription).await).name
    }

    async fn nack_all(&self, subscription: &str, received: &[Received]) {
        let nack = self.modify_deadline(subscription, ack_ids(received), 0);
        ok(nack.await);
    }

    /// Nacks what comes, so many times. Returns the attempts that the deliveries told.
    async fn nack_times(&self, subscription: &str, times: usize) -> Vec<i32> {
        let mut attempts = Vec::new();
        for _ in 0..times {
            let received = self.receive_one(subscription).await;
            attempts.push(received.delivery_attempt);
            self.nack_all(subscription, &[received]).await;
        }
        attempts
    }
}

/// A topic `orders` with the subscription `worker`, whose dead letters go to the topic `dead` with the subscription
/// `undertaker`.
struct World {
    orders: String,
    worker: String,
    dead: String,
    undertaker: String,
}

impl World {
    async fn new(client: &Client) -> Self {
        let orders = client.topic("orders").await;
        let dead = client.topic("dead").await;
        let undertaker = client.subscription("undertaker", &dead).await;
        let worker = client.dead_letters_of("worker", &orders, &dead, 5).await;
        Self {
            orders,
            worker,
            dead,
            undertaker,
        }
    }
}

/// The attributes that a dead letter has of its own, and those of the server.
fn split(message: &PubsubMessage) -> (HashMap<String, String>, HashMap<String, String>) {
    let all = message.attributes.clone().into_iter();
    all.partition(|(name, _)| !name.starts_with("CloudPubSub"))
}

#[tokio::test]
async fn case_05_a_policy_is_shown_with_its_default_changed_and_cleared() {
    let client = Pubsub::start().await.client();
    let (orders, dead) = (client.topic("orders").await, client.topic("dead").await);
    let name = client.dead_letters_of("worker", &orders, &dead, 0).await;
    let shown = ok(client.get_subscription(&name).await);
    assert_eq!(shown.dead_letter_policy, Some(policy(&dead, 5)));
    let update = async |dead_letter_policy| {
        let changed = Subscription {
            dead_letter_policy,
            ..bare(&name, &orders)
        };
        let update = client.update_subscription(changed, &["dead_letter_policy"]);
        update.await.map(|it| it.into_inner().dead_letter_policy)
    };
    assert_eq!(
        update(Some(policy(&orders, 100))).await.expect("valid"),
        Some(policy(&orders, 100))
    );
    for attempts in [-1, 4, 101] {
        let wrong = update(Some(policy(&dead, attempts))).await;
        refused(wrong, Code::InvalidArgument, "5 to 100");
    }
    let missing = topic_name("missing");
    refused(
        update(Some(policy(&missing, 5))).await,
        Code::NotFound,
        "no topic",
    );
    assert_eq!(update(Some(policy("", 5))).await.expect("valid"), None);
    assert_eq!(
        update(Some(policy(&dead, 6))).await.expect("valid"),
        Some(policy(&dead, 6))
    );
    assert_eq!(update(None).await.expect("valid"), None);
    let create = client.create_subscription(with_policy("other", &orders, &missing, 5));
    refused(create.await, Code::NotFound, "no topic");
    let exists = client.create_subscription(with_policy("worker", &orders, &missing, 5));
    refused(exists.await, Code::AlreadyExists, "that comes first");
}

#[tokio::test]
async fn case_54_the_fifth_failure_forwards_a_message_with_where_it_comes_from() {
    let pubsub = Pubsub::start().await;
    let client = pubsub.client();
    let world = World::new(&client).await;
    let published = PubsubMessage {
        ordering_key: "key".to_owned(),
        attributes: map(&[("a", "b"), (SOURCE, "of a publisher")]),
        ..message("data")
    };
    let ids = client.publish(&world.orders, &[published]).await;
    for attempt in 1..=5 {
        let received = client.receive_one(&world.worker).await;
        assert_eq!(received.delivery_attempt, attempt);
        assert_eq!(received.message.message_id, ids[0]);
        client.assert_nothing(&world.undertaker, "not yet").await;
        if attempt % 2 == 0 {
            pubsub.advance_seconds(11);
        } else {
            client.nack_all(&world.worker, &[received]).await;
        }
    }
    let dead = client.receive_one(&world.undertaker).await;
    client.assert_nothing(&world.worker, "it is acked").await;
    assert_eq!(dead.delivery_attempt, 0);
    assert_eq!(dead.message.data, "data");
    assert_eq!(dead.message.ordering_key, "key");
    assert_ne!(dead.message.message_id, ids[0]);
    let (own, added) = split(&dead.message);
    assert_eq!(own, map(&[("a", "b")]));
    let expected = [
        (COUNT, "5"),
        (SOURCE, "worker"),
        (PROJECT, "tests"),
        (PUBLISH_TIME, "2026-11-24T06:00:00.000+00:00"),
    ];
    assert_eq!(added, map(&expected));
    pubsub.advance_seconds(11);
    client.receive_and_ack(&world.undertaker, 1).await;
    pubsub.advance_seconds(11);
    client
        .assert_nothing(&world.undertaker, "it came once")
        .await;
}

#[tokio::test]
async fn case_54_a_second_dead_letter_topic_overwrites_what_the_first_has_said() {
    let client = Pubsub::start().await.client();
    let world = World::new(&client).await;
    let last = client.topic("last").await;
    let end = client.subscription("end", &last).await;
    let second = client
        .dead_letters_of("second", &world.dead, &last, 6)
        .await;
    client.publish_text(&world.orders, "a").await;
    client.nack_times(&world.worker, 5).await;
    assert_eq!(client.nack_times(&second, 6).await, [1, 2, 3, 4, 5, 6]);
    let received = client.receive_one(&end).await;
    let attributes = received.message.attributes;
    assert_eq!(attributes.len(), 4);
    assert_eq!(
        (attributes[COUNT].as_str(), attributes[SOURCE].as_str()),
        ("6", "second")
    );
}

#[tokio::test]
async fn case_54_without_its_topic_a_message_is_delivered_again_until_there_is_one() {
    let pubsub = Pubsub::start().await;
    let client = pubsub.client();
    let world = World::new(&client).await;
    ok(client.delete_topic(&world.dead).await);
    client.publish_text(&world.orders, "a").await;
    assert_eq!(
        client.nack_times(&world.worker, 7).await,
        [1, 2, 3, 4, 5, 6, 7]
    );
    let shown = ok(client.get_subscription(&world.worker).await);
    assert_eq!(shown.dead_letter_policy, Some(policy(&world.dead, 5)));
    let eighth = client.receive_one(&world.worker).await;
    assert_eq!(eighth.delivery_attempt, 8);
    client.topic("dead").await;
    let undertaker = client.subscription("second-undertaker", &world.dead).await;
    // It is looked up once a second.
    pubsub.advance_seconds(1);
    client.nack_all(&world.worker, &[eighth]).await;
    let dead = client.receive_one(&undertaker).await;
    assert_eq!(dead.message.attributes[COUNT], "8");
    client.assert_nothing(&world.worker, "it is acked").await;
}

#[tokio::test]
async fn a_policy_tells_attempts_from_the_next_frame_on_and_forwards_with_the_next_failure() {
    let client = Pubsub::start().await.client();
    let (orders, dead) = (client.topic("orders").await, client.topic("dead").await);
    let undertaker = client.subscription("undertaker", &dead).await;
    let worker = client.subscription("worker", &orders).await;
    let set = async |dead_letter_policy| {
        let changed = Subscription {
            dead_letter_policy,
            ..bare(&worker, &orders)
        };
        ok(client
            .update_subscription(changed, &["dead_letter_policy"])
            .await);
    };
    client.publish_text(&orders, "a").await;
    let mut stream = client.stream(&worker).await;
    for expected in 0..7 {
        let received = stream.receive(1).await;
        assert_eq!(received[0].delivery_attempt, 0, "{expected}");
        stream.modify_deadlines(ack_ids(&received), 0).await;
    }
    let received = stream.receive(1).await;
    set(Some(policy(&dead, 9))).await;
    stream.modify_deadlines(ack_ids(&received), 0).await;
    let received = stream.receive(1).await;
    assert_eq!(received[0].delivery_attempt, 9);
    set(Some(policy(&dead, 5))).await;
    client.assert_nothing(&undertaker, "no failure since").await;
    stream.modify_deadlines(ack_ids(&received), 0).await;
    let dead = client.receive_one(&undertaker).await;
    assert_eq!(dead.message.attributes[COUNT], "9");
    stream.assert_no_message("it is acked").await;
}

#[tokio::test]
async fn a_message_of_another_project_goes_there_and_says_where_it_comes_from() {
    let client = Pubsub::start().await.client();
    let orders = client.topic("orders").await;
    let dead = "projects/other/topics/dead";
    let topic = packetboat::proto::google::pubsub::v1::Topic {
        name: dead.to_owned(),
        ..Default::default()
    };
    ok(client.create_topic(topic).await);
    let undertaker = bare("projects/other/subscriptions/undertaker", dead);
    let undertaker = ok(client.create_subscription(undertaker).await).name;
    let worker = client.dead_letters_of("worker", &orders, dead, 5).await;
    client.publish_text(&orders, "a").await;
    client.nack_times(&worker, 5).await;
    let received = client.receive_one(&undertaker).await;
    assert_eq!(received.message.attributes[PROJECT], "tests");
}

/// Nothing but nacks, so that it runs on the machine's clock.
async fn many_are_forwarded_once(client: &Client) {
    let world = World::new(client).await;
    let messages: Vec<_> = (0..300).map(|n| message(n.to_string())).collect();
    client.publish(&world.orders, &messages).await;
    for _ in 0..5 {
        let received = client.receive(&world.worker, 300).await;
        client.nack_all(&world.worker, &received).await;
    }
    let dead = client.receive_and_ack(&world.undertaker, 300).await;
    let mut numbers: Vec<usize> = dead
        .iter()
        .map(|it| it.text().parse().expect("a number"))
        .collect();
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(0..300));
    client.assert_nothing(&world.worker, "all are acked").await;
    client
        .assert_nothing(&world.undertaker, "each came once")
        .await;
}

#[tokio::test]
async fn case_54_many_dead_letters_are_forwarded_once() {
    many_are_forwarded_once(&Pubsub::start().await.client()).await;
}

#[tokio::test]
async fn case_54_many_dead_letters_are_forwarded_once_on_sqlite() {
    let location = Location::embedded();
    let server = Process::serve_at(&location, "only").await;
    many_are_forwarded_once(&server.client().await).await;
}

#[tokio::test]
async fn case_54_many_dead_letters_are_forwarded_once_on_kafka_and_postgres() {
    let location = Location::kafka_and_postgres().await;
    let server = Process::serve_at(&location, "only").await;
    many_are_forwarded_once(&server.client().await).await;
}

#[tokio::test]
async fn keys_keep_their_order_in_the_dead_letter_topic() {
    let client = Pubsub::start().await.client();
    let world = World::new(&client).await;
    let ordered = |id, topic, dead_letter_policy| Subscription {
        enable_message_ordering: true,
        dead_letter_policy,
        ..bare(&subscription_name(id), topic)
    };
    let worker = ordered(
        "ordered-worker",
        &world.orders,
        Some(policy(&world.dead, 5)),
    );
    let worker = ok(client.create_subscription(worker).await).name;
    let undertaker = ordered("ordered-undertaker", &world.dead, None);
    let undertaker = ok(client.create_subscription(undertaker).await).name;
    let keyed = |text: &str| PubsubMessage {
        ordering_key: "key".to_owned(),
        ..message(text.to_owned())
    };
    client
        .publish(&world.orders, &["1", "2", "3"].map(keyed))
        .await;
    let mut letters = Vec::new();
    for _ in 0..13 {
        let received = client.receive_some(&worker, 10).await;
        letters.push(received[0].text());
        // In any order: each nack is a failure, and what failed itself comes alone.
        for received in received.chunks(1).rev() {
            client.nack_all(&worker, received).await;
        }
    }
    assert_eq!(letters.join(""), "1111122223333");
    // One after the other: a Pull gets nothing of a key of which another one has something.
    for text in ["1", "2", "3"] {
        let dead = client.receive_and_ack(&undertaker, 1).await;
        assert_eq!(dead[0].text(), text);
    }
}

#[tokio::test]
async fn a_topic_that_is_its_own_dead_letter_topic_goes_round_and_holds_nobody_up() {
    let client = Pubsub::start().await.client();
    let orders = client.topic("orders").await;
    let worker = client.dead_letters_of("worker", &orders, &orders, 5).await;
    let neighbour = client.subscription("neighbour", &orders).await;
    client.publish_text(&orders, "a").await;
    let attempts = client.nack_times(&worker, 12).await;
    assert_eq!(attempts, [1, 2, 3, 4, 5, 1, 2, 3, 4, 5, 1, 2]);
    let round = client.receive_and_ack(&neighbour, 3).await;
    assert_eq!(round[2].message.attributes.len(), 4);
}

/// A message whose last attempt is out, for a moment.
async fn last_attempt(client: &Client) -> World {
    let world = World::new(client).await;
    // One key, so that they lie in one partition.
    let keyed = |text: &str| PubsubMessage {
        ordering_key: "key".to_owned(),
        ..message(text.to_owned())
    };
    client.publish(&world.orders, &[keyed("a")]).await;
    client.nack_times(&world.worker, 4).await;
    let last = client.receive_one(&world.worker).await;
    assert_eq!(last.delivery_attempt, 5);
    let shorten = client.modify_deadline(&world.worker, vec![last.ack_id], 2);
    ok(shorten.await);
    // The ack of a neighbour is stored with the lease.
    client.publish(&world.orders, &[keyed("b")]).await;
    client.receive_and_ack(&world.worker, 1).await;
    world
}

async fn assert_forwarded(client: &Client, world: &World) {
    let dead = client.receive_one(&world.undertaker).await;
    assert_eq!(dead.message.attributes[COUNT], "5");
    ok(client.ack(&world.undertaker, vec![dead.ack_id]).await);
}

#[tokio::test]
async fn case_24_a_last_attempt_that_ends_after_sigkill_is_forwarded_without_a_consumer() {
    let location = Location::embedded();
    let server = Process::serve_at(&location, "only").await;
    let world = last_attempt(&server.client().await).await;
    server.signal("KILL").await;
    server.ended().await;
    let server = Process::serve_at(&location, "only").await;
    let client = server.client().await;
    assert_forwarded(&client, &world).await;
    client.assert_nothing(&world.worker, "it is acked").await;
}

#[tokio::test]
async fn case_24_another_server_forwards_what_one_that_was_killed_had_out() {
    let nodes = Nodes::start().await;
    let world = last_attempt(&nodes.on_a).await;
    nodes.a.signal("KILL").await;
    nodes.a.ended().await;
    assert_forwarded(&nodes.on_b, &world).await;
}

#[tokio::test]
async fn another_server_forwards_what_one_that_stopped_had_out() {
    let nodes = Nodes::start().await;
    let world = last_attempt(&nodes.on_a).await;
    nodes.a.signal("TERM").await;
    nodes.a.ended().await;
    assert_forwarded(&nodes.on_b, &world).await;
}

#[tokio::test]
async fn a_last_attempt_keeps_delivery_up_until_it_is_forwarded() {
    let pubsub = Pubsub::start().await;
    let client = pubsub.client();
    let world = World::new(&client).await;
    client.publish_text(&world.orders, "a").await;
    client.nack_times(&world.worker, 4).await;
    let last = client.receive_one(&world.worker).await;
    let extend = client.modify_deadline(&world.worker, vec![last.ack_id], 60);
    ok(extend.await);
    for _ in 0..5 {
        pubsub.advance_seconds(11);
        client
            .assert_nothing(&world.undertaker, "it is leased")
            .await;
    }
    pubsub.advance_seconds(11);
    client.receive_and_ack(&world.undertaker, 1).await;
}
