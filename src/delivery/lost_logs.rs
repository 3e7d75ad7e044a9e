//! Logs that are gone although their topics are not: somebody deleted them behind our back.
//!
//! Each is logged once, however many requests find it gone, until it is there again.

use std::collections::HashSet;

use parking_lot::Mutex;

use super::{compared::Thoroughness, node::Node};
use crate::{
    limits::CACHED_RESOURCES_MAX,
    resource::{
        id::{SubscriptionId, TopicIncarnation},
        name::TopicName,
    },
    store::{StoreError, log::TopicLog, resources::SubscriptionRecord},
};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct LostLogs {
    lost: Mutex<HashSet<TopicIncarnation>>,
    /// Subscriptions that were delivered here when their log changed, and were not compared with it since.
    changed: Mutex<HashSet<SubscriptionId>>,
}

impl LostLogs {
    /// The log of a subscription that is delivered here has changed.
    pub(super) fn changed(&self, id: SubscriptionId) {
        self.changed.lock().insert(id);
    }

    /// How the subscription is to be compared with its log.
    pub(super) fn thoroughness(&self, id: SubscriptionId) -> Thoroughness {
        if self.changed.lock().contains(&id) {
            Thoroughness::All
        } else {
            Thoroughness::Top
        }
    }

    /// The subscription was compared with its log.
    pub(super) fn compared(&self, id: SubscriptionId) {
        self.changed.lock().remove(&id);
    }

    /// Whether this is news.
    fn add(&self, topic: TopicIncarnation) -> bool {
        let mut lost = self.lost.lock();
        if lost.len() >= CACHED_RESOURCES_MAX {
            // They are logged once more.
            lost.clear();
        }
        lost.insert(topic)
    }

    fn remove(&self, topic: TopicIncarnation) -> bool {
        let mut lost = self.lost.lock();
        !lost.is_empty() && lost.remove(&topic)
    }
}

/// A log is there.
pub(super) fn found(node: &Node, log: &TopicLog) {
    if node.lost_logs.remove(log.incarnation) {
        tracing::warn!(log = %log.location.name, "a topic's log that was gone is there again");
    }
}

/// Asks for the log of a subscription, as nothing more is heard of it.
pub(super) async fn ask(node: &Node, record: &SubscriptionRecord) {
    if matches!(
        node.log.bounds(&record.log).await,
        Err(StoreError::NoSuchLog)
    ) {
        gone_from(node, record);
    }
}

/// What to say of a subscription whose log is gone. Logs it, if that is news.
pub(super) fn gone_from(node: &Node, record: &SubscriptionRecord) -> String {
    let topic = record.subscription.topic.as_ref();
    let topic = topic.map_or_else(
        || {
            format!(
                "the deleted topic of subscription {}",
                record.subscription.name
            )
        },
        |topic| format!("topic {topic}"),
    );
    tell(node, &topic, &record.log)
}

/// What to say of a topic whose log is not there, as [`gone_from`]; `None` when the topic is not there either.
pub(super) async fn gone(
    node: &Node,
    topic: &TopicName,
    log: &TopicLog,
) -> Result<Option<String>, StoreError> {
    // As it is stored: in memory it may still be what it was.
    let stored = node.store.resources.topic(topic).await?;
    let is_there = stored.is_some_and(|stored| stored.log.incarnation == log.incarnation);
    Ok(is_there.then(|| tell(node, &format!("topic {topic}"), log)))
}

fn tell(node: &Node, topic: &str, log: &TopicLog) -> String {
    let text = text(topic, log);
    if node.lost_logs.add(log.incarnation) {
        tracing::error!("{text}");
    }
    text
}

fn text(topic: &str, log: &TopicLog) -> String {
    let location = &log.location;
    let (what, again) = if location.name.is_empty() {
        ("its messages were deleted".to_owned(), "")
    } else {
        (
            format!(
                "the Kafka topic {} was deleted by another client",
                location.name
            ),
            ", or make a Kafka topic of that name, which subscriptions then read from its start",
        )
    };
    let delete = if location.attached {
        "detach the topic"
    } else {
        "delete the topic and its subscriptions"
    };
    format!("the log of {topic} is gone, as {what}: {delete}{again}")
}
