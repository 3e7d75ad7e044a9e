//! What outlives the server: by a clean stop, and by SIGKILL.

use std::{collections::HashSet, path::Path, time::Duration};

use crate::support::{
    Client, Pubsub, eventually, few_or_many,
    known::Known,
    location::Location,
    ok,
    process::Process,
    values::{ack_ids, numbered, texts},
    within,
};

/// A server in `directory`, with the topic `orders` and its subscription `orders-worker`.
async fn first_start(directory: &Path) -> (Pubsub, Client, String, String) {
    let pubsub = Pubsub::in_directory(directory, Duration::ZERO).await;
    let client = pubsub.client();
    let topic = client.topic("orders").await;
    let subscription = client.subscription("orders-worker", &topic).await;
    (pubsub, client, topic, subscription)
}

/// Stops the server and starts it again, its clock `seconds` after the usual start.
async fn restart(pubsub: Pubsub, directory: &Path, seconds: u64) -> (Pubsub, Client) {
    pubsub.stop().await;
    let pubsub = Pubsub::in_directory(directory, Duration::from_secs(seconds)).await;
    let client = pubsub.client();
    (pubsub, client)
}

#[tokio::test]
async fn topics_subscriptions_and_messages_outlive_a_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    let (pubsub, client, topic, subscription) = first_start(directory.path()).await;
    client.publish(&topic, &numbered(100)).await;
    let before = ok(client.get_subscription(&subscription).await);
    let (_pubsub, client) = restart(pubsub, directory.path(), 0).await;
    assert_eq!(ok(client.get_topic(&topic).await).name, topic);
    assert_eq!(ok(client.get_subscription(&subscription).await), before);
    assert_eq!(
        client.subscriptions_of(&topic).await,
        [subscription.as_str()]
    );
    client.receive_and_ack(&subscription, 100).await;
}

#[tokio::test]
async fn ack_ids_from_before_a_restart_work() {
    let directory = tempfile::tempdir().expect("a directory");
    let (pubsub, client, topic, subscription) = first_start(directory.path()).await;
    client.publish(&topic, &numbered(3)).await;
    let held = client.receive(&subscription, 3).await;
    let (pubsub, client) = restart(pubsub, directory.path(), 1).await;
    ok(client.ack(&subscription, ack_ids(&held[..1])).await);
    let modify = client.modify_deadline(&subscription, ack_ids(&held[1..2]), 0);
    ok(modify.await);
    let nacked = client.receive(&subscription, 1).await;
    assert_eq!(nacked[0].message, held[1].message);
    ok(client.ack(&subscription, ack_ids(&held[1..])).await);
    pubsub.advance_seconds(60);
    client.assert_nothing(&subscription, "all is acked").await;
}

#[tokio::test]
async fn leases_outlive_a_clean_stop() {
    let directory = tempfile::tempdir().expect("a directory");
    let (pubsub, client, topic, subscription) = first_start(directory.path()).await;
    client.publish(&topic, &numbered(2)).await;
    let held = client.receive(&subscription, 2).await;
    let extend = client.modify_deadline(&subscription, ack_ids(&held[..1]), 60);
    ok(extend.await);
    let (pubsub, client) = restart(pubsub, directory.path(), 8).await;
    client.assert_nothing(&subscription, "8 of 10 s").await;
    pubsub.advance_seconds(3);
    let again = client.receive_and_ack(&subscription, 1).await;
    assert_eq!(again[0].message, held[1].message);
    pubsub.advance_seconds(48);
    client.assert_nothing(&subscription, "59 of 60 s").await;
    pubsub.advance_seconds(2);
    let again = client.receive_and_ack(&subscription, 1).await;
    assert_eq!(again[0].message, held[0].message);
}

#[tokio::test]
async fn message_ids_are_never_used_again_after_a_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    let (pubsub, client, topic, subscription) = first_start(directory.path()).await;
    let mut ids: HashSet<_> = client
        .publish(&topic, &numbered(10))
        .await
        .into_iter()
        .collect();
    client.receive_and_ack(&subscription, 10).await;
    let (pubsub, client) = restart(pubsub, directory.path(), 1).await;
    ids.extend(client.publish(&topic, &numbered(10)).await);
    ok(client.delete_topic(&topic).await);
    let (_pubsub, client) = restart(pubsub, directory.path(), 2).await;
    client.topic("orders").await;
    ids.extend(client.publish(&topic, &numbered(10)).await);
    assert_eq!(ids.len(), 30);
}

#[tokio::test]
async fn a_subscription_created_anew_ignores_ack_ids_of_the_old_one_after_a_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    let (pubsub, client, topic, subscription) = first_start(directory.path()).await;
    client.publish_text(&topic, "old").await;
    let old = client.receive(&subscription, 1).await;
    ok(client.delete_subscription(&subscription).await);
    client.subscription("orders-worker", &topic).await;
    client.publish_text(&topic, "new").await;
    let (_pubsub, client) = restart(pubsub, directory.path(), 1).await;
    ok(client.ack(&subscription, ack_ids(&old)).await);
    let received = client.receive_and_ack(&subscription, 1).await;
    assert_eq!(texts(&received), ["new"]);
}

#[tokio::test]
async fn case_10_a_deleted_topics_backlog_outlives_a_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    let (pubsub, client, topic, subscription) = first_start(directory.path()).await;
    client.publish(&topic, &numbered(10)).await;
    ok(client.delete_topic(&topic).await);
    let (pubsub, client) = restart(pubsub, directory.path(), 1).await;
    client.receive_and_ack(&subscription, 5).await;
    let (_pubsub, client) = restart(pubsub, directory.path(), 2).await;
    client.receive_and_ack(&subscription, 5).await;
    client.assert_nothing(&subscription, "all is acked").await;
}

/// Publishes, pulls and acknowledges until the server is gone.
async fn use_until_killed(client: &Client, topic: &str, subscription: &str, known: &Known) {
    while known.publish(client, topic, 20).await.is_ok()
        && known.pull_and_ack(client, subscription, 10).await.is_ok()
    {}
}

#[tokio::test]
async fn case_24_sigkill_loses_no_answered_publish_and_undoes_no_answered_ack() {
    kill_under_load(&Location::embedded()).await;
}

#[tokio::test]
async fn case_24_on_kafka_and_postgres() {
    kill_under_load(&Location::kafka_and_postgres().await).await;
}

async fn kill_under_load(location: &Location) {
    let known = Known::default();
    let (mut topic, mut subscription) = (String::new(), String::new());
    for kill in 0..few_or_many(3, 20) {
        let server = Process::serve_at(location, "only").await;
        let client = server.client().await;
        if kill == 0 {
            topic = client.topic("orders").await;
            subscription = client.subscription("orders-worker", &topic).await;
        }
        let before = known.published();
        let killed = async {
            eventually("work begins", || async {
                (known.published() > before).then_some(())
            })
            .await;
            // Some way into the work, each time a little further.
            let way = Duration::from_millis(37 * kill as u64);
            tokio::time::sleep(way).await;
            server.signal("KILL").await;
        };
        let used = use_until_killed(&client, &topic, &subscription, &known);
        within("the kill", async { tokio::join!(used, killed) }).await;
        server.ended().await;
    }

    let server = Process::serve_at(location, "only").await;
    let client = server.client().await;
    known.receive_the_rest(&client, &subscription).await;
}
