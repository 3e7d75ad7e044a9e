//! What one node changes, the others apply before it answers.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, timeout};

use super::database::{HASTY_LEASE, TestDatabase};
use crate::{
    resource::{
        name::{SubscriptionName, TopicName},
        subscription::Subscription,
    },
    store::{
        Membership as _, Resources as _,
        contract::{
            State,
            positions::one_subscription,
            resources::{live_topic, subscribed},
        },
        log::LogLocation,
        membership::{Change, Changes},
        resources::SubscriptionRecord,
    },
};

const TOPIC: &str = "projects/p/topics/top";
const SUBSCRIPTION: &str = "projects/p/subscriptions/sub";

fn topic() -> TopicName {
    TopicName::parse("name", TOPIC).expect("valid")
}

fn subscription() -> SubscriptionName {
    SubscriptionName::parse("name", SUBSCRIPTION).expect("valid")
}

async fn next(state: &dyn State) -> Changes {
    let changes = timeout(Duration::from_secs(5), state.changes()).await;
    changes.expect("in time").expect("changes")
}

async fn read(state: &dyn State) -> SubscriptionRecord {
    let found = state.subscription(&subscription()).await;
    found.expect("get").expect("exists")
}

fn detached(record: &SubscriptionRecord) -> Subscription {
    Subscription {
        detached: true,
        ..record.subscription.clone()
    }
}

/// `action` does not end before `other` has applied the change that it makes, and then soon does.
async fn waits_for<T: Send + 'static>(
    other: &dyn State,
    action: impl Future<Output = T> + Send + 'static,
) -> (Changes, T) {
    let action = tokio::spawn(action);
    let changes = next(other).await;
    sleep(Duration::from_millis(200)).await;
    assert!(!action.is_finished());
    other.applied(changes.through).await.expect("applied");
    let applied = Instant::now();
    let done = action.await.expect("done");
    assert!(applied.elapsed() < Duration::from_secs(1));
    (changes, done)
}

#[tokio::test]
async fn a_deletion_is_answered_when_the_other_node_has_applied_it() {
    let database = TestDatabase::new().await;
    let one = Arc::new(database.open("one").await);
    let two = database.open("two").await;
    let id = one_subscription(one.as_ref()).await;
    let node = Arc::clone(&one);
    let deleting = async move { node.delete_subscription(&subscription()).await };
    let (changes, deleted) = waits_for(&two, deleting).await;
    let change = Change::SubscriptionDeleted(id, subscription());
    assert_eq!(changes.what, [change]);
    assert!(!changes.everything);
    assert_eq!(deleted.expect("deleted"), Some(id));
    let (node, record) = (Arc::clone(&one), one.topic(&topic()).await);
    let record = record.expect("get").expect("is live");
    let deleting = async move { node.delete_topic(&record).await };
    let (changes, deleted) = waits_for(&two, deleting).await;
    assert_eq!(changes.what, [Change::TopicDeleted(topic())]);
    assert!(deleted.expect("deleted"));
}

#[tokio::test]
async fn a_topic_is_made_again_when_the_other_node_has_forgotten_the_one_before() {
    let database = TestDatabase::new().await;
    let one = Arc::new(database.open("one").await);
    let two = database.open("two").await;
    let record = live_topic(one.as_ref(), TOPIC).await;
    let topic = record.topic.clone();
    let node = Arc::clone(&one);
    let deleting = tokio::spawn(async move { node.delete_topic(&record).await });
    while one.topic(&topic.name).await.expect("get").is_some() {
        sleep(Duration::from_millis(5)).await;
    }
    let made = one.create_topic(&topic, None).await.expect("a row");
    let node = Arc::clone(&one);
    let publishing = async move { node.publish_topic(made, &LogLocation::embedded()).await };
    let (changes, published) = waits_for(&two, publishing).await;
    assert_eq!(changes.what, [Change::TopicDeleted(topic.name)]);
    assert!(published.expect("published"));
    assert!(deleting.await.expect("ends").expect("deleted"));
}

#[tokio::test]
async fn a_subscription_is_made_again_when_the_other_node_has_forgotten_the_one_before() {
    let database = TestDatabase::new().await;
    let one = Arc::new(database.open("one").await);
    let two = database.open("two").await;
    let topic = live_topic(one.as_ref(), TOPIC).await;
    let record = subscribed(one.as_ref(), SUBSCRIPTION, &topic).await;
    let node = Arc::clone(&one);
    let deleting = tokio::spawn(async move { node.delete_subscription(&subscription()).await });
    while one
        .subscription(&subscription())
        .await
        .expect("get")
        .is_some()
    {
        sleep(Duration::from_millis(5)).await;
    }
    let (node, wanted) = (Arc::clone(&one), record.subscription);
    let making = async move {
        node.create_subscription(&topic.log, &wanted, &[(0, 5)])
            .await
    };
    let (_, made) = waits_for(&two, making).await;
    assert!(made.expect("made").id > record.id);
    assert!(deleting.await.expect("ends").expect("deleted").is_some());
}

#[tokio::test]
async fn a_detachment_is_answered_when_the_other_node_has_applied_it() {
    let database = TestDatabase::new().await;
    let one = Arc::new(database.open("one").await);
    let two = database.open("two").await;
    one_subscription(one.as_ref()).await;
    let record = read(one.as_ref()).await;
    let node = Arc::clone(&one);
    let detaching = async move { node.update_subscription(&record, &detached(&record)).await };
    let (changes, updated) = waits_for(&two, detaching).await;
    assert_eq!(changes.what, [Change::SubscriptionChanged(subscription())]);
    assert!(updated.expect("updated").subscription.detached);
}

#[tokio::test]
async fn an_update_does_not_wait_and_is_told_within_a_second() {
    let database = TestDatabase::new().await;
    let one = database.open("one").await;
    let two = database.open("two").await;
    let record = live_topic(&one, TOPIC).await;
    let updated = one.update_topic(&record, &record.topic).await;
    let updated = updated.expect("updated");
    let started = Instant::now();
    let changes = next(&two).await;
    assert!(started.elapsed() < Duration::from_secs(1));
    assert_eq!(changes.what, [Change::TopicChanged(topic())]);
    // Until it is applied, it is told again, with what came meanwhile.
    one.update_topic(&updated, &record.topic)
        .await
        .expect("updated");
    let more = next(&two).await;
    assert_eq!(more.what.len(), 2);
    assert!(more.through > changes.through);
    two.applied(more.through).await.expect("applied");
    let nothing = timeout(Duration::from_millis(100), two.changes()).await;
    assert!(nothing.is_err());
}

#[tokio::test]
async fn a_change_does_not_wait_for_a_node_whose_lease_has_run_out() {
    let database = TestDatabase::new().await;
    let one = database.open("one").await;
    let two = database.open_hasty("two").await;
    let topic = live_topic(&one, TOPIC).await;
    drop(two);
    let started = Instant::now();
    one.delete_topic(&topic).await.expect("deleted");
    let longest = HASTY_LEASE + Duration::from_secs(1);
    assert!(started.elapsed() < longest, "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_change_that_was_not_made_is_not_told() {
    let database = TestDatabase::new().await;
    let one = database.open("one").await;
    let two = database.open("two").await;
    let record = live_topic(&one, TOPIC).await;
    one.update_topic(&record, &record.topic)
        .await
        .expect("updated");
    let changes = next(&two).await;
    two.applied(changes.through).await.expect("applied");
    let again = one.update_topic(&record, &record.topic).await;
    assert!(again.is_err());
    assert_eq!(
        one.delete_subscription(&subscription())
            .await
            .expect("deleted"),
        None
    );
    let nothing = timeout(Duration::from_millis(100), two.changes()).await;
    assert!(nothing.is_err());
}

#[tokio::test]
async fn a_new_node_has_nothing_to_apply() {
    let database = TestDatabase::new().await;
    let one = database.open("one").await;
    let record = live_topic(&one, TOPIC).await;
    one.update_topic(&record, &record.topic)
        .await
        .expect("updated");
    let two = database.open("two").await;
    let nothing = timeout(Duration::from_millis(100), two.changes()).await;
    assert!(nothing.is_err());
}

#[tokio::test]
async fn without_notifications_changes_are_found_by_the_heartbeat() {
    let database = TestDatabase::new().await;
    let one = database.open("one").await;
    let two = database.open_hasty("two").await;
    let record = live_topic(&one, TOPIC).await;
    // What a network does that loses only this connection.
    database
        .run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND datname = current_database()")
        .await;
    one.update_topic(&record, &record.topic)
        .await
        .expect("updated");
    assert_eq!(next(&two).await.what, [Change::TopicChanged(topic())]);
}
