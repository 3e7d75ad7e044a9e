//! Ordering by key (docs/behaviour.md, section 10).

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use packetboat::proto::google::pubsub::v1::{
    ListSubscriptionsRequest, PubsubMessage, StreamingPullRequest, Subscription,
};
use tonic::Code;

use crate::support::{
    Client, Pubsub,
    admin::{bare, subscription_name},
    backlog::pull_request,
    eventually, few_or_many,
    location::Location,
    ok,
    process::Process,
    refused,
    stream::{PullStream, opening},
    values::{Received, ack_ids, message, publish_request},
    within,
};

/// A message with an ordering key.
fn keyed(key: &str, text: &str) -> PubsubMessage {
    PubsubMessage {
        ordering_key: key.to_owned(),
        ..message(text.to_owned())
    }
}

/// Texts in the order in which they came.
fn texts(received: &[Received]) -> Vec<String> {
    received.iter().map(Received::text).collect()
}

fn ordered(topic: &str) -> Subscription {
    Subscription {
        enable_message_ordering: true,
        ..bare(&subscription_name("orders-worker"), topic)
    }
}

async fn with_ordered_subscription() -> (Pubsub, Client, String, String) {
    let pubsub = Pubsub::start().await;
    let client = pubsub.client();
    let topic = client.topic("orders").await;
    let subscription = ok(client.create_subscription(ordered(&topic)).await).name;
    (pubsub, client, topic, subscription)
}

async fn open(client: &Client, subscription: &str, client_id: &str, messages: i64) -> PullStream {
    let first = StreamingPullRequest {
        client_id: client_id.to_owned(),
        max_outstanding_messages: messages,
        ..opening(subscription)
    };
    let mut stream = client.open(first).await.expect("it opens");
    stream.expect_ordering();
    stream
}

#[tokio::test]
async fn ordering_is_stored_shown_and_never_changes() {
    let (_pubsub, client, topic, subscription) = with_ordered_subscription().await;
    let shown = ok(client.get_subscription(&subscription).await);
    assert!(shown.enable_message_ordering);
    let project = subscription.split("/subscriptions").next().expect("a name");
    let list = ListSubscriptionsRequest {
        project: project.to_owned(),
        ..Default::default()
    };
    let listed = ok(client.subscriber().list_subscriptions(list).await).subscriptions;
    assert_eq!(listed, std::slice::from_ref(&shown));
    let off = Subscription {
        enable_message_ordering: false,
        ..ordered(&topic)
    };
    let update = client.update_subscription(off, &["enable_message_ordering"]);
    refused(update.await, Code::InvalidArgument, "it is immutable");
    assert_eq!(ok(client.get_subscription(&subscription).await), shown);
}

#[tokio::test]
async fn case_38_every_frame_says_that_messages_come_in_order() {
    let (_pubsub, client, topic, subscription) = with_ordered_subscription().await;
    let mut stream = open(&client, &subscription, "", 0).await;
    stream.ping().await;
    let pong = stream.frame().await.subscription_properties;
    assert!(pong.expect("on every frame").message_ordering_enabled);
    client.publish(&topic, &[keyed("k", "1")]).await;
    let frame = stream.frame().await;
    let properties = frame.subscription_properties.expect("on every frame");
    assert!(properties.message_ordering_enabled);
}

#[tokio::test]
async fn case_51_what_follows_a_nacked_message_in_its_key_comes_again_behind_it() {
    let (_pubsub, client, topic, subscription) = with_ordered_subscription().await;
    let mut messages: Vec<_> = (1..=5).map(|n| keyed("k", &n.to_string())).collect();
    messages.insert(2, keyed("other", "a"));
    client.publish(&topic, &messages).await;
    let mut first = client.receive(&subscription, 6).await;
    // Keys lie in partitions, which take turns.
    first.sort_by_key(|it| it.message.ordering_key != "k");
    assert_eq!(texts(&first), ["1", "2", "3", "4", "5", "a"]);
    let nack = client.modify_deadline(&subscription, vec![first[1].ack_id.clone()], 0);
    ok(nack.await);
    client
        .assert_nothing(&subscription, "the first of the key is out")
        .await;
    ok(client.ack(&subscription, ack_ids(&first[..1])).await);
    let again = client.receive(&subscription, 4).await;
    assert_eq!(texts(&again), ["2", "3", "4", "5"]);
    // Acks of leases that ended so count.
    ok(client.ack(&subscription, ack_ids(&first[1..])).await);
    client.assert_nothing(&subscription, "all is acked").await;
}

#[tokio::test]
async fn case_51_what_follows_an_expired_message_in_its_key_comes_again_behind_it() {
    let (pubsub, client, topic, subscription) = with_ordered_subscription().await;
    let mut stream = open(&client, &subscription, "", 0).await;
    let messages: Vec<_> = (1..=3).map(|n| keyed("k", &n.to_string())).collect();
    client.publish(&topic, &messages).await;
    let first = stream.receive(3).await;
    let extend = client.modify_deadline(&subscription, ack_ids(&first[1..]), 600);
    ok(extend.await);
    pubsub.advance_seconds(11);
    assert_eq!(texts(&stream.receive(3).await), ["1", "2", "3"]);
}

/// Numbers of each key, as they came.
type Came = BTreeMap<String, Vec<usize>>;

fn note(came: &mut Came, received: &[Received]) {
    for one in received {
        let number = String::from_utf8_lossy(&one.message.data).parse();
        let key = one.message.ordering_key.clone();
        came.entry(key).or_default().push(number.expect("a number"));
    }
}

#[tokio::test]
async fn case_52_a_key_is_with_one_stream_at_a_time_and_keeps_its_order_when_that_is_gone() {
    let (pubsub, client, topic, subscription) = with_ordered_subscription().await;
    for numbers in (0..100).collect::<Vec<_>>().chunks(20) {
        let of_keys = |n: &usize| {
            let text = n.to_string();
            (0..10).map(move |key| keyed(&format!("key-{key}"), &text))
        };
        let messages: Vec<_> = numbers.iter().flat_map(of_keys).collect();
        client.publish(&topic, &messages).await;
    }
    let mut one = open(&client, &subscription, "one", 100).await;
    let held = one.receive(100).await;
    let mut other = open(&pubsub.another_client(), &subscription, "two", 0).await;
    let mut came = Came::new();
    note(&mut came, &held);
    let mut free: Vec<_> = (0..10).map(|key| format!("key-{key}")).collect();
    free.retain(|key| !came.contains_key(key));
    if free.is_empty() {
        other
            .assert_no_message("all keys are with the other stream")
            .await;
    } else {
        let theirs = other.receive(100 * free.len()).await;
        assert!(
            theirs
                .iter()
                .all(|it| free.contains(&it.message.ordering_key))
        );
        note(&mut came, &theirs);
    }
    drop(one);
    other
        .assert_no_message("the leases of a stream outlive it")
        .await;
    pubsub.advance_seconds(11);
    let mut all: BTreeSet<(String, usize)> = BTreeSet::new();
    let mut last: HashMap<String, usize> = HashMap::new();
    while all.len() < 1000 {
        let received = other.receive_some().await;
        for received in &received {
            let key = received.message.ordering_key.clone();
            let number: usize = String::from_utf8_lossy(&received.message.data)
                .parse()
                .expect("a number");
            let is_new = all.insert((key.clone(), number));
            let before = last.insert(key, number);
            assert!(!is_new || number == before.map_or(0, |it| it + 1));
        }
        ok(client.ack(&subscription, ack_ids(&received)).await);
    }
}

#[tokio::test]
async fn case_52_a_client_that_opens_again_goes_on_with_its_keys() {
    let (_pubsub, client, topic, subscription) = with_ordered_subscription().await;
    let mut mine = open(&client, &subscription, "me", 1).await;
    client
        .publish(&topic, &[keyed("k", "1"), keyed("k", "2")])
        .await;
    assert_eq!(texts(&mine.receive(1).await), ["1"]);
    let mut other = open(&client, &subscription, "another", 0).await;
    drop(mine);
    other.assert_no_message("the key is not theirs").await;
    let mut again = open(&client, &subscription, "me", 1).await;
    assert_eq!(texts(&again.receive(1).await), ["2"]);
    other.assert_no_message("the key is not theirs").await;
}

#[tokio::test]
async fn messages_without_a_key_are_free_and_a_plain_subscription_does_not_wait() {
    let (_pubsub, client, topic, subscription) = with_ordered_subscription().await;
    let plain = client.subscription("plain", &topic).await;
    let messages = [keyed("k", "1"), keyed("k", "2")];
    client.publish(&topic, &messages).await;
    for of in [&subscription, &plain] {
        assert_eq!(texts(&client.receive(of, 1).await), ["1"]);
    }
    client.publish_text(&topic, "free").await;
    assert_eq!(texts(&client.receive(&subscription, 1).await), ["free"]);
    client
        .assert_nothing(&subscription, "the key is with the first pull")
        .await;
    let mut rest = texts(&client.receive(&plain, 2).await);
    rest.sort_unstable();
    assert_eq!(rest, ["2", "free"]);
}

/// Publishes to some keys, pulls and acknowledges, until the server is gone.
async fn use_until_killed(
    client: &Client,
    (topic, subscription): (&str, &str),
    next: &AtomicUsize,
    came: &mut Came,
) {
    loop {
        let from = next.fetch_add(20, Relaxed);
        let messages: Vec<_> = (from..from + 20)
            .map(|n| keyed(&format!("key-{}", n % 7), &n.to_string()))
            .collect();
        let request = publish_request(topic, &messages);
        if client.publisher().publish(request).await.is_err() {
            return;
        }
        let request = pull_request(subscription, 15, true);
        let Ok(answer) = client.subscriber().pull(request).await else {
            return;
        };
        let received = answer.into_inner().received_messages.into_iter();
        let received: Vec<_> = received.map(Received::from).collect();
        note(came, &received);
        if client.ack(subscription, ack_ids(&received)).await.is_err() && !received.is_empty() {
            return;
        }
    }
}

#[tokio::test]
async fn case_24_keys_keep_their_order_through_sigkill() {
    kill_under_load(&Location::embedded()).await;
}

#[tokio::test]
async fn case_24_keys_keep_their_order_through_sigkill_on_kafka_and_postgres() {
    kill_under_load(&Location::kafka_and_postgres().await).await;
}

async fn kill_under_load(location: &Location) {
    let (mut topic, mut subscription) = (String::new(), String::new());
    let next = Arc::new(AtomicUsize::new(0));
    let mut came = Came::new();
    for kill in 0..few_or_many(3, 20) {
        let server = Process::serve_at(location, "only").await;
        let client = server.client().await;
        if kill == 0 {
            topic = client.topic("orders").await;
            subscription = ok(client.create_subscription(ordered(&topic)).await).name;
        }
        let before = next.load(Relaxed);
        let killed = async {
            eventually("work begins", || async {
                (next.load(Relaxed) > before + 100).then_some(())
            })
            .await;
            let way = Duration::from_millis(37 * kill as u64);
            tokio::time::sleep(way).await;
            server.signal("KILL").await;
        };
        let names = (topic.as_str(), subscription.as_str());
        let used = use_until_killed(&client, names, &next, &mut came);
        within("the kill", async { tokio::join!(used, killed) }).await;
        server.ended().await;
    }
    let server = Process::serve_at(location, "only").await;
    let client = server.client().await;
    let last = next.load(Relaxed);
    let end = [keyed("the end", &last.to_string())];
    client.publish(&topic, &end).await;
    let is_left = |came: &Came| !came.contains_key("the end");
    within("what is left", async {
        while is_left(&came) {
            let received = client.receive_some(&subscription, 1000).await;
            note(&mut came, &received);
            ok(client.ack(&subscription, ack_ids(&received)).await);
        }
    })
    .await;
    for (key, numbers) in &came {
        let mut highest = None;
        let mut seen = BTreeSet::new();
        for number in numbers {
            if seen.insert(*number) {
                assert!(
                    highest < Some(*number),
                    "{number} of {key} after {highest:?}"
                );
                highest = Some(*number);
            }
        }
    }
}
