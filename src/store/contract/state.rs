//! What every state store does.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;

use super::contract;
use crate::{
    clock::ManualClock,
    engine::change::{PartitionChange, StoredChunk},
    resource::{
        id::{SubscriptionId, TopicIncarnation},
        name::{ProjectName, SubscriptionName, TopicName},
        subscription::{Expiration, Subscription},
        topic::Topic,
    },
    store::{
        StateStore, StoreError,
        log::{LogPlace, TopicLog},
        state::{
            Acquire, Acquired, CreateError, Flush, FlushOutcome, LogReader, SubscriptionRecord,
            TopicPhase, TopicRecord, TopicRow, UpdateError,
        },
    },
};

contract!(state on [memory, sqlite, postgres]: {
    a_topic_is_seen_once_it_is_published,
    a_name_is_taken_until_its_topic_is_deleted,
    an_update_needs_the_version_that_was_read,
    topics_are_listed_by_project_in_order_of_name,
    a_deleted_topic_leaves_its_subscriptions_without_a_topic,
    every_log_is_listed_with_who_needs_it,
    a_topic_that_is_live_is_not_forgotten,
    a_subscription_needs_a_live_topic_and_a_free_name,
    a_subscription_is_updated_by_version,
    subscriptions_are_listed_by_project_in_order_of_name,
    a_detached_subscription_is_not_listed_with_its_topic,
    a_deleted_subscription_is_gone_with_its_state,
    a_new_subscription_starts_where_it_was_told,
    changes_are_read_back_by_the_next_owner,
    a_stale_flush_fails_alone,
    one_flush_changes_many_subscriptions_each_in_its_own_rows,
    chunks_below_the_cursor_are_removed,
    a_newer_generation_replaces_chunks,
    positions_are_read_without_taking_the_subscription_over,
    a_closed_state_refuses,
});

pub(in crate::store) fn topic_named(name: &str) -> Topic {
    let name = TopicName::parse("name", name).expect("valid name");
    Topic {
        labels: BTreeMap::from([("team".to_owned(), "blue".to_owned())]),
        kms_key_name: Some("a key".to_owned()),
        ..Topic::new(name)
    }
}

pub(in crate::store) fn subscription_named(name: &str, topic: &Topic) -> Subscription {
    Subscription {
        name: SubscriptionName::parse("name", name).expect("valid name"),
        topic: Some(topic.name.clone()),
        ack_deadline_seconds: 10,
        message_retention: Duration::from_mins(10),
        expiration: Expiration::After(Duration::from_hours(24)),
        labels: BTreeMap::new(),
        detached: false,
        policy: None,
    }
}

pub(in crate::store) async fn live_topic(state: &dyn StateStore, name: &str) -> TopicRecord {
    let topic = topic_named(name);
    let incarnation = state.create_topic(&topic, None).await;
    published(state, incarnation.expect("create topic"), &topic).await
}

/// Where the log of a topic would lie.
fn place(topic: TopicIncarnation) -> LogPlace {
    LogPlace {
        name: format!("log-{}", topic.0),
        key_partitions: 3,
        attached: false,
    }
}

async fn published(
    state: &dyn StateStore,
    incarnation: TopicIncarnation,
    topic: &Topic,
) -> TopicRecord {
    let published = state.publish_topic(incarnation, &place(incarnation)).await;
    published.expect("publish topic");
    let found = state.topic(&topic.name).await.expect("get topic");
    found.expect("is live")
}

pub(in crate::store) async fn subscribed(
    state: &dyn StateStore,
    name: &str,
    topic: &TopicRecord,
) -> SubscriptionRecord {
    let subscription = subscription_named(name, &topic.topic);
    let created = state.create_subscription(&topic.log, &subscription, &[(0, 5)]);
    created.await.expect("create subscription")
}

pub(in crate::store) async fn one_subscription(state: &dyn StateStore) -> SubscriptionId {
    let topic = live_topic(state, "projects/p/topics/top").await;
    subscribed(state, "projects/p/subscriptions/sub", &topic)
        .await
        .id
}

fn project(name: &str) -> ProjectName {
    ProjectName::parse("project", name).expect("valid project")
}

pub(in crate::store) async fn acquire(state: &dyn StateStore, id: SubscriptionId) -> Acquired {
    match state.acquire(id).await.expect("acquire") {
        Acquire::Acquired(acquired) => acquired,
        other => panic!("not acquired: {other:?}"),
    }
}

pub(in crate::store) fn chunk(index: u64, done_after: u64, body: &'static [u8]) -> StoredChunk {
    StoredChunk {
        index,
        done_after,
        body: Bytes::from_static(body),
    }
}

pub(in crate::store) fn change(
    cursor: u64,
    put: Vec<StoredChunk>,
    delete: Vec<u64>,
) -> PartitionChange {
    PartitionChange {
        partition: 0,
        generation: 1,
        cursor,
        put,
        delete,
    }
}

async fn flush(
    state: &dyn StateStore,
    subscription: SubscriptionId,
    epoch: u64,
    change: PartitionChange,
) -> FlushOutcome {
    let flush = Flush {
        subscription,
        epoch,
        changes: vec![change],
    };
    state.flush(&[flush]).await.expect("flush")[0]
}

async fn a_topic_is_seen_once_it_is_published(state: &dyn StateStore, _: &ManualClock) {
    let topic = topic_named("projects/p/topics/top");
    let made = state.create_topic(&topic, None).await.expect("create");
    assert_eq!(state.topic(&topic.name).await.expect("get"), None);
    let listed = state.list_topics(&project("projects/p"), None, 9).await;
    assert_eq!(listed.expect("list"), []);
    for _ in 0..2 {
        let record = published(state, made, &topic).await;
        assert_eq!((&record.topic, record.version), (&topic, 1));
        assert_eq!(record.log.incarnation, made);
        assert_eq!(*record.log.place, place(made));
    }
}

async fn a_name_is_taken_until_its_topic_is_deleted(state: &dyn StateStore, _: &ManualClock) {
    let topic = topic_named("projects/p/topics/top");
    let first = state.create_topic(&topic, None).await.expect("create");
    let taken = |result| matches!(result, Err(CreateError::AlreadyExists));
    assert!(taken(state.create_topic(&topic, None).await));
    assert_eq!(state.delete_topic(&topic.name).await.expect("delete"), None);
    published(state, first, &topic).await;
    assert!(taken(state.create_topic(&topic, None).await));
    let deleted = state.delete_topic(&topic.name).await.expect("delete");
    assert_eq!(deleted, Some(first));
    assert_eq!(state.delete_topic(&topic.name).await.expect("delete"), None);
    assert_eq!(state.topic(&topic.name).await.expect("get"), None);
    let second = state.create_topic(&topic, None).await.expect("create");
    assert!(second > first);
    for incarnation in [first, second] {
        state.forget_topic(incarnation).await.expect("forget");
    }
    let third = state.create_topic(&topic, None).await.expect("create");
    assert!(third > second);
}

async fn an_update_needs_the_version_that_was_read(state: &dyn StateStore, _: &ManualClock) {
    let read = live_topic(state, "projects/p/topics/top").await;
    let mut topic = read.topic.clone();
    topic.labels.clear();
    let updated = state.update_topic(&read, &topic).await.expect("update");
    assert!(updated.version > read.version);
    let found = state.topic(&topic.name).await.expect("get");
    assert_eq!(found, Some(updated.clone()));
    let again = state.update_topic(&read, &topic).await;
    assert!(matches!(again, Err(UpdateError::Changed)));
    state.delete_topic(&topic.name).await.expect("delete");
    let gone = state.update_topic(&updated, &topic).await;
    assert!(matches!(gone, Err(UpdateError::Gone)));
    live_topic(state, "projects/p/topics/top").await;
    let gone = state.update_topic(&updated, &topic).await;
    assert!(matches!(gone, Err(UpdateError::Gone)));
}

async fn topics_are_listed_by_project_in_order_of_name(state: &dyn StateStore, _: &ManualClock) {
    for name in ["ccc", "aaa", "bbb", "a.b"] {
        live_topic(state, &format!("projects/p/topics/{name}")).await;
    }
    for name in ["projects/p2/topics/aaa", "projects/o/topics/aaa"] {
        live_topic(state, name).await;
    }
    let ids = async |after: Option<&str>, limit| {
        let topics = state
            .list_topics(&project("projects/p"), after, limit)
            .await;
        let topics = topics.expect("list").into_iter();
        topics
            .map(|record| record.topic.name.id().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(ids(None, 9).await, ["a.b", "aaa", "bbb", "ccc"]);
    assert_eq!(ids(None, 2).await, ["a.b", "aaa"]);
    assert_eq!(ids(Some("projects/p/topics/aaa"), 9).await, ["bbb", "ccc"]);
    assert_eq!(ids(Some("projects/p/topics/ab"), 1).await, ["bbb"]);
    assert_eq!(ids(Some("projects/z"), 9).await, [""; 0]);
}

async fn a_deleted_topic_leaves_its_subscriptions_without_a_topic(
    state: &dyn StateStore,
    _: &ManualClock,
) {
    let topic = live_topic(state, "projects/p/topics/top").await;
    let made = subscribed(state, "projects/p/subscriptions/sub", &topic).await;
    let name = &made.subscription.name;
    assert_eq!(
        state.subscription(name).await.expect("get"),
        Some(made.clone())
    );
    let deleted = state.delete_topic(&topic.topic.name).await;
    deleted.expect("delete");
    let found = state.subscription(name).await.expect("get").expect("kept");
    assert_eq!(found.subscription.topic, None);
    assert_eq!((found.id, &found.log), (made.id, &topic.log));
    // Not even a topic of the same name takes it over.
    live_topic(state, "projects/p/topics/top").await;
    let updated = state.update_subscription(&found, &made.subscription).await;
    assert_eq!(updated.expect("update").subscription.topic, None);
    let listed = state
        .list_subscriptions(&project("projects/p"), None, 9)
        .await;
    assert_eq!(listed.expect("list")[0].subscription.topic, None);
    let forgotten = state.forget_topic(topic.log.incarnation).await;
    forgotten.expect("forget");
    let found = state.subscription(name).await.expect("get").expect("kept");
    assert_eq!(found.subscription.topic, None);
}

async fn every_log_is_listed_with_who_needs_it(state: &dyn StateStore, _: &ManualClock) {
    let live = live_topic(state, "projects/p/topics/live").await;
    let gone = live_topic(state, "projects/p/topics/gone").await;
    let made = state
        .create_topic(
            &topic_named("projects/p/topics/made"),
            Some(&place(TopicIncarnation(9))),
        )
        .await;
    let made = made.expect("create");
    let one = subscribed(state, "projects/p/subscriptions/one", &live).await;
    let two = subscribed(state, "projects/p/subscriptions/two", &live).await;
    let three = subscribed(state, "projects/p/subscriptions/three", &gone).await;
    let detached = Subscription {
        detached: true,
        ..two.subscription.clone()
    };
    let updated = state.update_subscription(&two, &detached).await;
    updated.expect("detach");
    let deleted = state.delete_topic(&gone.topic.name).await;
    deleted.expect("delete");
    let logs = state.logs().await.expect("logs");
    let row = |incarnation, place, name: &str, phase| TopicRow {
        incarnation,
        name: topic_named(&format!("projects/p/topics/{name}")).name,
        phase,
        place: Some(place),
    };
    let (live, gone) = (live.log.incarnation, gone.log.incarnation);
    assert_eq!(
        logs,
        [
            row(live, place(live), "live", TopicPhase::Live),
            row(gone, place(gone), "gone", TopicPhase::Deleted),
            row(
                made,
                place(TopicIncarnation(9)),
                "made",
                TopicPhase::Creating
            ),
        ]
    );
    for (row, subscription) in logs.into_iter().zip([Some(one.id), Some(three.id), None]) {
        let needs = state.log_needs(row.incarnation).await.expect("needs");
        let needs = needs.expect("exists");
        let reader = subscription.map(|subscription| LogReader {
            subscription,
            retention: Duration::from_mins(10),
        });
        assert_eq!(needs.row, row);
        assert_eq!(needs.readers, Vec::from_iter(reader));
    }
    state.forget_topic(gone).await.expect("forget");
    state.forget_topic(made).await.expect("forget");
    assert_eq!(state.logs().await.expect("logs").len(), 1);
    let needs = state.log_needs(gone).await;
    assert_eq!(needs.expect("needs"), None);
    live_topic(state, "projects/p/topics/made").await;
}

async fn a_topic_that_is_live_is_not_forgotten(state: &dyn StateStore, _: &ManualClock) {
    let live = live_topic(state, "projects/p/topics/live").await;
    state
        .forget_topic(live.log.incarnation)
        .await
        .expect("forget");
    let found = state.topic(&live.topic.name).await.expect("get");
    assert_eq!(found, Some(live));
}

async fn a_subscription_needs_a_live_topic_and_a_free_name(
    state: &dyn StateStore,
    _: &ManualClock,
) {
    let topic = topic_named("projects/p/topics/top");
    let wanted = subscription_named("projects/p/subscriptions/sub", &topic);
    let absent = TopicLog {
        incarnation: TopicIncarnation(99),
        place: Arc::new(place(TopicIncarnation(99))),
    };
    let none = state.create_subscription(&absent, &wanted, &[]);
    assert!(matches!(none.await, Err(CreateError::TopicGone)));
    let creating = state.create_topic(&topic, None).await.expect("create");
    let unpublished = TopicLog {
        incarnation: creating,
        ..absent
    };
    let early = state.create_subscription(&unpublished, &wanted, &[]);
    assert!(matches!(early.await, Err(CreateError::TopicGone)));
    let live = published(state, creating, &topic).await;
    let first = subscribed(state, "projects/p/subscriptions/sub", &live).await;
    let again = state.create_subscription(&live.log, &wanted, &[]);
    assert!(matches!(again.await, Err(CreateError::AlreadyExists)));
    let deleted = state.delete_subscription(&wanted.name).await;
    assert_eq!(deleted.expect("delete"), Some(first.id));
    let second = subscribed(state, "projects/p/subscriptions/sub", &live).await;
    assert!(second.id > first.id);
}

async fn a_subscription_is_updated_by_version(state: &dyn StateStore, _: &ManualClock) {
    let topic = live_topic(state, "projects/p/topics/top").await;
    let read = subscribed(state, "projects/p/subscriptions/sub", &topic).await;
    let wanted = Subscription {
        ack_deadline_seconds: 77,
        expiration: Expiration::Never,
        ..read.subscription.clone()
    };
    let updated = state.update_subscription(&read, &wanted).await;
    let updated = updated.expect("update");
    assert_eq!(updated.subscription, wanted);
    let found = state.subscription(&wanted.name).await.expect("get");
    assert_eq!(found, Some(updated.clone()));
    let again = state.update_subscription(&read, &wanted).await;
    assert!(matches!(again, Err(UpdateError::Changed)));
    let deleted = state.delete_subscription(&wanted.name).await;
    deleted.expect("delete");
    let gone = state.update_subscription(&updated, &wanted).await;
    assert!(matches!(gone, Err(UpdateError::Gone)));
}

async fn subscriptions_are_listed_by_project_in_order_of_name(
    state: &dyn StateStore,
    _: &ManualClock,
) {
    let topic = live_topic(state, "projects/p/topics/top").await;
    for name in ["ccc", "aaa", "bbb"] {
        subscribed(state, &format!("projects/p/subscriptions/{name}"), &topic).await;
    }
    subscribed(state, "projects/q/subscriptions/abc", &topic).await;
    let after = Some("projects/p/subscriptions/aaa");
    let page = state
        .list_subscriptions(&project("projects/p"), after, 1)
        .await;
    let page = page.expect("list");
    assert_eq!((page.len(), page[0].subscription.name.id()), (1, "bbb"));
    let all = state
        .list_topic_subscriptions(topic.log.incarnation, None, 9)
        .await;
    let all: Vec<String> = all.expect("list").iter().map(ToString::to_string).collect();
    assert_eq!(
        all,
        [
            "projects/p/subscriptions/aaa",
            "projects/p/subscriptions/bbb",
            "projects/p/subscriptions/ccc",
            "projects/q/subscriptions/abc"
        ]
    );
    let page = state
        .list_topic_subscriptions(topic.log.incarnation, after, 2)
        .await;
    let page = page.expect("list");
    assert_eq!((page.len(), page[0].id(), page[1].id()), (2, "bbb", "ccc"));
}

async fn a_detached_subscription_is_not_listed_with_its_topic(
    state: &dyn StateStore,
    _: &ManualClock,
) {
    let topic = live_topic(state, "projects/p/topics/top").await;
    let read = subscribed(state, "projects/p/subscriptions/sub", &topic).await;
    let detached = Subscription {
        detached: true,
        ..read.subscription.clone()
    };
    let updated = state.update_subscription(&read, &detached).await;
    updated.expect("detach");
    let listed = state
        .list_topic_subscriptions(topic.log.incarnation, None, 9)
        .await;
    assert_eq!(listed.expect("list"), []);
    let found = state.subscription(&detached.name).await.expect("get");
    assert!(found.expect("kept").subscription.detached);
}

async fn a_deleted_subscription_is_gone_with_its_state(state: &dyn StateStore, _: &ManualClock) {
    let id = one_subscription(state).await;
    let owner = acquire(state, id).await;
    let chunks = (0..3000).map(|index| chunk(index, 0, b"x")).collect();
    flush(state, id, owner.epoch, change(5, chunks, vec![])).await;
    let name = SubscriptionName::parse("name", "projects/p/subscriptions/sub");
    let name = name.expect("valid name");
    let deleted = state.delete_subscription(&name).await;
    assert_eq!(deleted.expect("delete"), Some(id));
    let deleted = state.delete_subscription(&name).await;
    assert_eq!(deleted.expect("delete"), None);
    assert_eq!(state.subscription(&name).await.expect("get"), None);
    let acquired = state.acquire(id).await.expect("acquire");
    assert!(matches!(acquired, Acquire::Gone), "{acquired:?}");
    assert_eq!(state.positions(id).await.expect("read"), []);
    let late = flush(state, id, owner.epoch, change(9, vec![], vec![])).await;
    assert_eq!(late, FlushOutcome::Gone);
}

async fn a_new_subscription_starts_where_it_was_told(state: &dyn StateStore, _: &ManualClock) {
    let id = one_subscription(state).await;
    let owner = acquire(state, id).await;
    assert_eq!(owner.partitions.len(), 1);
    let position = &owner.partitions[0];
    assert_eq!((position.partition, position.cursor), (0, 5));
    assert_eq!((position.generation, position.chunks.len()), (1, 0));
}

async fn changes_are_read_back_by_the_next_owner(state: &dyn StateStore, _: &ManualClock) {
    let id = one_subscription(state).await;
    let first = acquire(state, id).await;
    let put = vec![chunk(0, 0, b"a"), chunk(3, 2, b"b"), chunk(1, 0, b"c")];
    let outcome = flush(state, id, first.epoch, change(7, put, vec![])).await;
    assert_eq!(outcome, FlushOutcome::Stored);
    let put = vec![chunk(3, 9, b"longer")];
    flush(state, id, first.epoch, change(8, put, vec![1, 200])).await;
    let second = acquire(state, id).await;
    assert!(second.epoch > first.epoch);
    let position = &second.partitions[0];
    assert_eq!(position.cursor, 8);
    assert_eq!(position.chunks, [chunk(0, 0, b"a"), chunk(3, 9, b"longer")]);
}

async fn a_stale_flush_fails_alone(state: &dyn StateStore, _: &ManualClock) {
    let topic = live_topic(state, "projects/p/topics/top").await;
    let one = subscribed(state, "projects/p/subscriptions/one", &topic).await;
    let two = subscribed(state, "projects/p/subscriptions/two", &topic).await;
    let old = acquire(state, one.id).await;
    let current = acquire(state, two.id).await;
    acquire(state, one.id).await;
    let entry = |subscription, epoch| Flush {
        subscription,
        epoch,
        changes: vec![change(100, vec![chunk(0, 0, b"x")], vec![])],
    };
    let flushes = [
        entry(one.id, old.epoch),
        entry(two.id, current.epoch),
        entry(SubscriptionId(999), 1),
    ];
    let outcomes = state.flush(&flushes).await.expect("flush");
    assert_eq!(
        outcomes,
        [
            FlushOutcome::Stale,
            FlushOutcome::Stored,
            FlushOutcome::Gone
        ]
    );
    assert_eq!(acquire(state, one.id).await.partitions[0].cursor, 5);
    assert_eq!(acquire(state, two.id).await.partitions[0].cursor, 100);
}

async fn one_flush_changes_many_subscriptions_each_in_its_own_rows(
    state: &dyn StateStore,
    _: &ManualClock,
) {
    let topic = live_topic(state, "projects/p/topics/top").await;
    let one = subscribed(state, "projects/p/subscriptions/one", &topic).await;
    let two = subscribed(state, "projects/p/subscriptions/two", &topic).await;
    let one = (one.id, acquire(state, one.id).await.epoch);
    let two = (two.id, acquire(state, two.id).await.epoch);
    let entry = |(subscription, epoch), change| Flush {
        subscription,
        epoch,
        changes: vec![change],
    };
    let many = || vec![chunk(1, 0, b""), chunk(2, 7, &[0, 255]), chunk(3, 0, b"x")];
    let flushes = [
        entry(one, change(300, many(), vec![])),
        entry(two, change(6, many(), vec![])),
        // A later change of the same subscription builds on the earlier one.
        entry(one, change(300, vec![chunk(2, 1, b"y")], vec![3])),
        entry(two, change(600, vec![], vec![])),
    ];
    let outcomes = state.flush(&flushes).await.expect("flush");
    assert_eq!(outcomes, [FlushOutcome::Stored; 4]);
    let first = acquire(state, one.0).await.partitions.remove(0);
    assert_eq!(first.cursor, 300);
    assert_eq!(first.chunks, [chunk(1, 0, b""), chunk(2, 1, b"y")]);
    let second = acquire(state, two.0).await.partitions.remove(0);
    assert_eq!(second.cursor, 600);
    assert_eq!(second.chunks, [chunk(2, 7, &[0, 255]), chunk(3, 0, b"x")]);
}

async fn chunks_below_the_cursor_are_removed(state: &dyn StateStore, _: &ManualClock) {
    let id = one_subscription(state).await;
    let epoch = acquire(state, id).await.epoch;
    let put = (0..4).map(|index| chunk(index, 0, b"x")).collect();
    flush(state, id, epoch, change(5, put, vec![])).await;
    flush(state, id, epoch, change(2 * 256 + 1, vec![], vec![])).await;
    let owner = acquire(state, id).await;
    let left = owner.partitions[0].chunks.iter().map(|chunk| chunk.index);
    assert_eq!(left.collect::<Vec<_>>(), [2, 3]);
}

async fn a_newer_generation_replaces_chunks(state: &dyn StateStore, _: &ManualClock) {
    let id = one_subscription(state).await;
    let epoch = acquire(state, id).await.epoch;
    let put = vec![chunk(0, 3, b"old"), chunk(9, 0, b"old")];
    flush(state, id, epoch, change(5, put, vec![])).await;
    let newer = PartitionChange {
        generation: 2,
        ..change(3, vec![chunk(0, 0, b"new")], vec![])
    };
    flush(state, id, epoch, newer).await;
    let position = acquire(state, id).await.partitions.remove(0);
    assert_eq!((position.generation, position.cursor), (2, 3));
    assert_eq!(position.chunks, [chunk(0, 0, b"new")]);
}

async fn positions_are_read_without_taking_the_subscription_over(
    state: &dyn StateStore,
    _: &ManualClock,
) {
    let id = one_subscription(state).await;
    let owner = acquire(state, id).await;
    let put = vec![chunk(1, 2, b"x"), chunk(4, 0, b"y")];
    flush(state, id, owner.epoch, change(300, put.clone(), vec![])).await;
    let read = state.positions(id).await.expect("read");
    assert_eq!(read.len(), 1);
    assert_eq!((read[0].cursor, &read[0].chunks), (300, &put));
    let still_owned = flush(state, id, owner.epoch, change(301, vec![], vec![])).await;
    assert_eq!(still_owned, FlushOutcome::Stored);
    let unknown = state.positions(SubscriptionId(999)).await;
    assert_eq!(unknown.expect("read"), []);
}

async fn a_closed_state_refuses(state: &dyn StateStore, _: &ManualClock) {
    let topic = live_topic(state, "projects/p/topics/top").await;
    state.close().await;
    let read = state.topic(&topic.topic.name).await;
    assert!(matches!(read, Err(StoreError::Unavailable(_))));
    let write = state.create_topic(&topic.topic, None).await;
    assert!(matches!(
        write,
        Err(CreateError::Store(StoreError::Unavailable(_)))
    ));
}
