//! What every store of topics and subscriptions does.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{State, contract};
use crate::{
    clock::ManualClock,
    resource::{
        id::TopicIncarnation,
        name::{ProjectName, SubscriptionName, TopicName},
        requirement::Requirement,
        subscription::{Expiration, Subscription, filter},
        topic::Topic,
    },
    store::{
        log::{LogLocation, TopicLog},
        resources::{
            CreateError, LogReader, SubscriptionRecord, TopicPhase, TopicRecord, TopicRow,
            UpdateError,
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
    a_lock_of_a_topic_waits_for_the_one_before_it_and_sees_what_it_saw,
    a_subscription_needs_a_live_topic_and_a_free_name,
    a_subscription_is_updated_by_version,
    subscriptions_are_listed_by_project_in_order_of_name,
    a_detached_subscription_is_not_listed_with_its_topic,
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
        filter: None,
        retry_policy: None,
        dead_letter_policy: None,
        exactly_once: false,
        ordered: false,
        detached: false,
        policy: None,
    }
}

pub(in crate::store) async fn live_topic(state: &dyn State, name: &str) -> TopicRecord {
    let topic = topic_named(name);
    let incarnation = state.create_topic(&topic, None).await;
    published(state, incarnation.expect("create topic"), &topic).await
}

/// Where the log of a topic would lie.
fn location(topic: TopicIncarnation) -> LogLocation {
    LogLocation {
        name: format!("log-{}", topic.0),
        key_partitions: 3,
        attached: false,
    }
}

async fn published(state: &dyn State, incarnation: TopicIncarnation, topic: &Topic) -> TopicRecord {
    let published = state
        .publish_topic(incarnation, &location(incarnation))
        .await;
    published.expect("publish topic");
    let found = state.topic(&topic.name).await.expect("get topic");
    found.expect("is live")
}

pub(in crate::store) async fn subscribed(
    state: &dyn State,
    name: &str,
    topic: &TopicRecord,
) -> SubscriptionRecord {
    let subscription = subscription_named(name, &topic.topic);
    let created = state.create_subscription(&topic.log, &subscription, &[(0, 5)]);
    created.await.expect("create subscription")
}

pub(super) fn project(name: &str) -> ProjectName {
    ProjectName::parse("project", name).expect("valid project")
}

async fn a_topic_is_seen_once_it_is_published(state: &dyn State, _: &ManualClock) {
    let topic = topic_named("projects/p/topics/top");
    let unfinished = async || state.unfinished_topic(&topic.name).await.expect("get");
    assert_eq!(unfinished().await, None);
    let made = state.create_topic(&topic, None).await.expect("create");
    let row = TopicRow {
        incarnation: made,
        name: topic.name.clone(),
        phase: TopicPhase::Creating,
        location: None,
    };
    assert_eq!(unfinished().await, Some(row));
    assert_eq!(state.topic(&topic.name).await.expect("get"), None);
    let listed = state.list_topics(&project("projects/p"), None, 9).await;
    assert_eq!(listed.expect("list"), []);
    for again in [false, true] {
        let published_now = state.publish_topic(made, &location(made)).await;
        assert_eq!(published_now.expect("publish"), !again);
        assert_eq!(unfinished().await, None);
        let record = published(state, made, &topic).await;
        assert_eq!((&record.topic, record.version), (&topic, 1));
        assert_eq!(record.log.incarnation, made);
        assert_eq!(*record.log.location, location(made));
    }
}

async fn a_name_is_taken_until_its_topic_is_deleted(state: &dyn State, _: &ManualClock) {
    let topic = topic_named("projects/p/topics/top");
    let first = state.create_topic(&topic, None).await.expect("create");
    let taken = |result| matches!(result, Err(CreateError::AlreadyExists));
    assert!(taken(state.create_topic(&topic, None).await));
    let live = published(state, first, &topic).await;
    assert!(taken(state.create_topic(&topic, None).await));
    assert!(state.delete_topic(&live).await.expect("delete"));
    assert!(!state.delete_topic(&live).await.expect("delete"));
    assert_eq!(state.topic(&topic.name).await.expect("get"), None);
    let second = state.create_topic(&topic, None).await.expect("create");
    assert!(second > first);
    // Not even a later life of the name, live or being made, is deleted by what was read of the first.
    assert!(!state.delete_topic(&live).await.expect("delete"));
    let later = published(state, second, &topic).await;
    assert!(!state.delete_topic(&live).await.expect("delete"));
    assert!(state.delete_topic(&later).await.expect("delete"));
    for incarnation in [first, second] {
        state.forget_topic(incarnation).await.expect("forget");
    }
    let third = state.create_topic(&topic, None).await.expect("create");
    assert!(third > second);
}

async fn an_update_needs_the_version_that_was_read(state: &dyn State, _: &ManualClock) {
    let read = live_topic(state, "projects/p/topics/top").await;
    let mut topic = read.topic.clone();
    topic.labels.clear();
    let updated = state.update_topic(&read, &topic).await.expect("update");
    assert!(updated.version > read.version);
    let found = state.topic(&topic.name).await.expect("get");
    assert_eq!(found, Some(updated.clone()));
    let again = state.update_topic(&read, &topic).await;
    assert!(matches!(again, Err(UpdateError::Changed)));
    state.delete_topic(&updated).await.expect("delete");
    let gone = state.update_topic(&updated, &topic).await;
    assert!(matches!(gone, Err(UpdateError::Gone)));
    live_topic(state, "projects/p/topics/top").await;
    let gone = state.update_topic(&updated, &topic).await;
    assert!(matches!(gone, Err(UpdateError::Gone)));
}

async fn topics_are_listed_by_project_in_order_of_name(state: &dyn State, _: &ManualClock) {
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
    state: &dyn State,
    _: &ManualClock,
) {
    let topic = live_topic(state, "projects/p/topics/top").await;
    let made = subscribed(state, "projects/p/subscriptions/sub", &topic).await;
    let name = &made.subscription.name;
    assert_eq!(
        state.subscription(name).await.expect("get"),
        Some(made.clone())
    );
    let deleted = state.delete_topic(&topic).await;
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

async fn every_log_is_listed_with_who_needs_it(state: &dyn State, _: &ManualClock) {
    let live = live_topic(state, "projects/p/topics/live").await;
    let gone = live_topic(state, "projects/p/topics/gone").await;
    let made = state
        .create_topic(
            &topic_named("projects/p/topics/made"),
            Some(&location(TopicIncarnation(9))),
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
    let deleted = state.delete_topic(&gone).await;
    deleted.expect("delete");
    let logs = state.logs().await.expect("logs");
    let row = |incarnation, location, name: &str, phase| TopicRow {
        incarnation,
        name: topic_named(&format!("projects/p/topics/{name}")).name,
        phase,
        location: Some(location),
    };
    let (live, gone) = (live.log.incarnation, gone.log.incarnation);
    assert_eq!(
        logs,
        [
            row(live, location(live), "live", TopicPhase::Live),
            row(gone, location(gone), "gone", TopicPhase::Deleted),
            row(
                made,
                location(TopicIncarnation(9)),
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
            filtered: None,
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

async fn a_topic_that_is_live_is_not_forgotten(state: &dyn State, _: &ManualClock) {
    let live = live_topic(state, "projects/p/topics/live").await;
    state
        .forget_topic(live.log.incarnation)
        .await
        .expect("forget");
    let found = state.topic(&live.topic.name).await.expect("get");
    assert_eq!(found, Some(live));
}

async fn a_subscription_needs_a_live_topic_and_a_free_name(state: &dyn State, _: &ManualClock) {
    let topic = topic_named("projects/p/topics/top");
    let wanted = subscription_named("projects/p/subscriptions/sub", &topic);
    let absent = TopicLog {
        incarnation: TopicIncarnation(99),
        location: Arc::new(location(TopicIncarnation(99))),
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

async fn a_subscription_is_updated_by_version(state: &dyn State, _: &ManualClock) {
    let topic = live_topic(state, "projects/p/topics/top").await;
    let read = subscribed(state, "projects/p/subscriptions/sub", &topic).await;
    let wanted = Subscription {
        ack_deadline_seconds: 77,
        expiration: Expiration::Never,
        filter: filter("attributes:kind").expect("a filter"),
        ..read.subscription.clone()
    };
    let updated = state.update_subscription(&read, &wanted).await;
    let updated = updated.expect("update");
    assert_eq!(updated.subscription, wanted);
    assert_eq!(
        (read.needs, updated.needs),
        (1, Requirement::FILTER.version)
    );
    let found = state.subscription(&wanted.name).await.expect("get");
    assert_eq!(found, Some(updated.clone()));
    let again = state.update_subscription(&read, &wanted).await;
    assert!(matches!(again, Err(UpdateError::Changed)));
    let deleted = state.delete_subscription(&wanted.name).await;
    deleted.expect("delete");
    let gone = state.update_subscription(&updated, &wanted).await;
    assert!(matches!(gone, Err(UpdateError::Gone)));
}

async fn subscriptions_are_listed_by_project_in_order_of_name(state: &dyn State, _: &ManualClock) {
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

async fn a_detached_subscription_is_not_listed_with_its_topic(state: &dyn State, _: &ManualClock) {
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

async fn a_lock_of_a_topic_waits_for_the_one_before_it_and_sees_what_it_saw(
    state: &dyn State,
    _: &ManualClock,
) {
    let topic = live_topic(state, "projects/p/topics/top").await;
    let incarnation = topic.log.incarnation;
    let read = subscribed(state, "projects/p/subscriptions/sub", &topic).await;
    let first = state.lock_topic(incarnation).await.expect("lock");
    let first = first.expect("exists");
    assert_eq!(first.needs.retention(), Duration::from_mins(10));
    let second = state.lock_topic(incarnation);
    let change = async {
        let longer = Subscription {
            message_retention: Duration::from_hours(10),
            ..read.subscription.clone()
        };
        let updated = state.update_subscription(&read, &longer).await;
        updated.expect("updated");
        drop(first);
    };
    let (second, ()) = tokio::join!(second, change);
    let second = second.expect("lock").expect("exists");
    assert_eq!(second.needs.retention(), Duration::from_hours(10));
    drop(second);
    let none = state.lock_topic(TopicIncarnation(99)).await;
    assert!(none.expect("lock").is_none());
}
