//! The port to topics and subscriptions.

use std::{any::Any, fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use thiserror::Error;

use super::{
    StoreError,
    log::{LogLocation, Offset, Partition, TopicLog},
    rows::readable,
};
use crate::resource::{
    id::{SubscriptionId, TopicIncarnation},
    name::{ProjectName, SubscriptionName, TopicName},
    requirement::DATA_VERSION,
    subscription::Subscription,
    topic::Topic,
};

/// A topic as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct TopicRecord {
    /// Its log, whose incarnation says which life of the name this is.
    pub log: TopicLog,
    /// What the API shows.
    pub topic: Topic,
    /// Counts updates; an update names the version that it read.
    pub version: u64,
    /// The least data version that a process must have to carry it out ([`crate::resource::requirement`]).
    pub needs: u32,
}

impl TopicRecord {
    /// Refuses what this process does not know how to carry out.
    pub(super) fn check_known(&self) -> Result<(), StoreError> {
        check_known("topic", self.topic.name.as_str(), self.needs)
    }
}

/// A subscription as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct SubscriptionRecord {
    /// Which life of the name this is. Never used twice.
    pub id: SubscriptionId,
    /// The log it reads, also after the topic was deleted.
    pub log: TopicLog,
    /// What the API shows. Its topic is `None` once that topic was deleted.
    pub subscription: Subscription,
    /// Counts updates; an update names the version that it read.
    pub version: u64,
    /// The least data version that a process must have to carry it out ([`crate::resource::requirement`]).
    pub needs: u32,
}

impl SubscriptionRecord {
    /// Refuses what this process does not know how to carry out.
    pub(super) fn check_known(&self) -> Result<(), StoreError> {
        let name = self.subscription.name.as_str();
        check_known("subscription", name, self.needs)
    }
}

pub(super) fn check_known(kind: &str, name: &str, needs: u32) -> Result<(), StoreError> {
    if needs <= DATA_VERSION {
        return Ok(());
    }
    Err(StoreError::Newer {
        what: format!("{kind} {name}"),
        needs,
        known: DATA_VERSION,
    })
}

/// A topic whose log may exist, whether or not the topic can be seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicRow {
    /// Which life of the name this is.
    pub incarnation: TopicIncarnation,
    /// The name.
    pub name: TopicName,
    /// Whether the topic is live, being created, or deleted.
    pub phase: TopicPhase,
    /// Where its log lies; `None` until it is made.
    pub location: Option<LogLocation>,
}

impl TopicRow {
    /// The topic's log, once it is made.
    pub fn log(&self) -> Option<TopicLog> {
        let incarnation = self.incarnation;
        let location = Arc::new(self.location.clone()?);
        Some(TopicLog {
            incarnation,
            location,
        })
    }
}

/// What still needs a topic's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogNeeds {
    /// The topic.
    pub row: TopicRow,
    /// Its subscriptions that are not detached.
    pub readers: Vec<LogReader>,
}

impl LogNeeds {
    /// How long the log has to retain a message.
    pub fn retention(&self) -> Duration {
        let readers = self.readers.iter();
        readers
            .map(|reader| reader.retention)
            .max()
            .unwrap_or_default()
    }
}

/// A subscription that reads a topic's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogReader {
    /// Which one.
    pub subscription: SubscriptionId,
    /// How long it retains a message that nobody acknowledges.
    pub retention: Duration,
    /// Its name, if it has a filter.
    pub filtered: Option<SubscriptionName>,
}

impl LogReader {
    /// What a stored configuration asks for.
    pub(super) fn of(subscription: SubscriptionId, config: &Subscription) -> Self {
        let filtered = config.filter.is_some();
        Self {
            subscription,
            retention: config.message_retention,
            filtered: filtered.then(|| config.name.clone()),
        }
    }

    /// The same of a configuration that may not be readable: nothing may be deleted then.
    pub(super) fn of_stored(
        subscription: SubscriptionId,
        name: &str,
        config: Result<Subscription, sqlx::Error>,
    ) -> Self {
        match readable(name, config) {
            Some(config) => Self::of(subscription, &config),
            None => Self {
                subscription,
                retention: Duration::MAX,
                filtered: None,
            },
        }
    }
}

/// How far creating or deleting a topic has come, as it spans two stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicPhase {
    /// The row exists, the log may not.
    Creating,
    /// In use.
    Live,
    /// The name is free again; the log stays until no subscription needs it.
    Deleted,
}

/// A topic whose row is locked until this is dropped.
pub struct LockedTopic {
    /// What needs its log, as of after the lock.
    pub needs: LogNeeds,
    /// What holds the lock.
    _lock: Box<dyn Any + Send>,
}

impl LockedTopic {
    /// A topic that stays locked for as long as `lock` is not dropped.
    pub(super) fn new(needs: LogNeeds, lock: impl Any + Send) -> Self {
        Self {
            needs,
            _lock: Box::new(lock),
        }
    }
}

impl fmt::Debug for LockedTopic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockedTopic")
            .field("needs", &self.needs)
            .finish_non_exhaustive()
    }
}

/// Why a resource could not be made.
#[derive(Debug, Error)]
pub enum CreateError {
    /// The name is taken.
    #[error("the name is taken")]
    AlreadyExists,
    /// The topic to attach to is gone.
    #[error("the topic is gone")]
    TopicGone,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl CreateError {
    /// The failure of the store, if that is why.
    pub const fn store_error(&self) -> Option<&StoreError> {
        match self {
            Self::AlreadyExists | Self::TopicGone => None,
            Self::Store(error) => Some(error),
        }
    }
}

/// Why a resource could not be changed.
#[derive(Debug, Error)]
pub enum UpdateError {
    /// It is gone, or another life of its name.
    #[error("the resource is gone")]
    Gone,
    /// Another caller changed it since it was read: read again and repeat.
    #[error("the resource was changed meanwhile")]
    Changed,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl UpdateError {
    /// The failure of the store, if that is why.
    pub const fn store_error(&self) -> Option<&StoreError> {
        match self {
            Self::Gone | Self::Changed => None,
            Self::Store(error) => Some(error),
        }
    }
}

/// Topics and subscriptions. A method that writes returns when the write is durable.
#[async_trait]
pub trait Resources: Send + Sync + 'static {
    /// Adds a topic in phase `Creating`; reads do not see it yet. `attached`: for a log that exists already.
    async fn create_topic(
        &self,
        topic: &Topic,
        attached: Option<&LogLocation>,
    ) -> Result<TopicIncarnation, CreateError>;
    /// Moves a topic from `Creating` to `Live`, with its log at `location`; false when it was not `Creating`. Where
    /// other nodes have its name's previous life in memory, it waits until they have forgotten it.
    async fn publish_topic(
        &self,
        topic: TopicIncarnation,
        location: &LogLocation,
    ) -> Result<bool, StoreError>;
    /// The topic of that name that is still `Creating`.
    async fn unfinished_topic(&self, name: &TopicName) -> Result<Option<TopicRow>, StoreError>;
    /// The live topic of that name.
    async fn topic(&self, name: &TopicName) -> Result<Option<TopicRecord>, StoreError>;
    /// Replaces the configuration of a topic, if its version is still `read.version`. [`StoreError::Newer`] where this
    /// process does not know a setting of what was read.
    async fn update_topic(
        &self,
        read: &TopicRecord,
        topic: &Topic,
    ) -> Result<TopicRecord, UpdateError>;
    /// Live topics of a project in order of name, after `after` (a full name), at most `limit`. What cannot be read is
    /// logged and left out.
    async fn list_topics(
        &self,
        project: &ProjectName,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<TopicRecord>, StoreError>;
    /// Moves a topic from `Live` to `Deleted`; false when it was not live.
    async fn delete_topic(&self, topic: &TopicRecord) -> Result<bool, StoreError>;
    /// Every topic row that can be read, for retention and for finishing what a crash interrupted.
    async fn logs(&self) -> Result<Vec<TopicRow>, StoreError>;
    /// What still needs a topic's log; `None` when there is no such row.
    async fn log_needs(&self, topic: TopicIncarnation) -> Result<Option<LogNeeds>, StoreError>;
    /// Locks a topic's row and says what needs its log; `None` when there is no such row. Another lock of the same row
    /// waits, and sees every subscription that this one has seen.
    async fn lock_topic(&self, topic: TopicIncarnation) -> Result<Option<LockedTopic>, StoreError>;
    /// Forgets a deleted topic whose log is gone, or one that was never published.
    async fn forget_topic(&self, topic: TopicIncarnation) -> Result<(), StoreError>;

    /// Adds a subscription that starts at `starts` (one offset per partition), with its position, in one
    /// transaction.
    async fn create_subscription(
        &self,
        topic: &TopicLog,
        subscription: &Subscription,
        starts: &[(Partition, Offset)],
    ) -> Result<SubscriptionRecord, CreateError>;
    /// The subscription of that name.
    async fn subscription(
        &self,
        name: &SubscriptionName,
    ) -> Result<Option<SubscriptionRecord>, StoreError>;
    /// Replaces the configuration of a subscription (detached is part of it), if its version is still
    /// `read.version`. [`StoreError::Newer`] as for topics.
    async fn update_subscription(
        &self,
        read: &SubscriptionRecord,
        subscription: &Subscription,
    ) -> Result<SubscriptionRecord, UpdateError>;
    /// Subscriptions of a project in order of name, after `after` (a full name), at most `limit`. What cannot be read
    /// is logged and left out.
    async fn list_subscriptions(
        &self,
        project: &ProjectName,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<SubscriptionRecord>, StoreError>;
    /// Names of the attached subscriptions of a topic, in order, after `after` (a full name), at most `limit`.
    async fn list_topic_subscriptions(
        &self,
        topic: TopicIncarnation,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<SubscriptionName>, StoreError>;
    /// Deletes the subscription of that name with its positions; `None` when there is none.
    async fn delete_subscription(
        &self,
        name: &SubscriptionName,
    ) -> Result<Option<SubscriptionId>, StoreError>;
}
