//! The port to where resources and subscriptions' positions live.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use thiserror::Error;

use super::{
    Lease, MessageLog, StoreError,
    log::{LogPlace, Offset, Partition, TopicLog},
};
use crate::{
    engine::change::{PartitionChange, PartitionState},
    resource::{
        id::{SubscriptionId, TopicIncarnation},
        name::{ProjectName, SubscriptionName, TopicName},
        subscription::Subscription,
        topic::Topic,
    },
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
}

/// A subscription's delivery state, taken over by the caller.
#[derive(Debug)]
pub struct Acquired {
    /// Flushes carry it; an older one is refused.
    pub epoch: u64,
    /// One entry per partition that the subscription has a position in.
    pub partitions: Vec<PartitionState>,
}

/// Whether a subscription was taken over.
#[derive(Debug)]
pub enum Acquire {
    /// It is the caller's now.
    Acquired(Acquired),
    /// A living node delivers it; the text names that node.
    OwnedBy(String),
    /// It is deleted.
    Gone,
}

/// Changes of one subscription, written in one transaction with those of others.
#[derive(Debug)]
pub struct Flush {
    /// Whose.
    pub subscription: SubscriptionId,
    /// As [`Acquired`] gave it.
    pub epoch: u64,
    /// What changed, one entry per partition at most.
    pub changes: Vec<PartitionChange>,
}

/// What became of one entry of a flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushOutcome {
    /// Durable.
    Stored,
    /// Not written: somebody else owns the subscription now.
    Stale,
    /// Not written: the subscription is deleted.
    Gone,
    /// Not written: somebody holds its row just now. The same entry may be flushed again.
    Busy,
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
    pub place: Option<LogPlace>,
}

impl TopicRow {
    /// The topic's log, once it is made.
    pub fn log(&self) -> Option<TopicLog> {
        let incarnation = self.incarnation;
        let place = Arc::new(self.place.clone()?);
        Some(TopicLog { incarnation, place })
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
    /// How long the log has to keep a message.
    pub fn retention(&self) -> Duration {
        let readers = self.readers.iter();
        readers
            .map(|reader| reader.retention)
            .max()
            .unwrap_or_default()
    }
}

/// A subscription that reads a topic's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogReader {
    /// Which one.
    pub subscription: SubscriptionId,
    /// How long it keeps a message that nobody acknowledges.
    pub retention: Duration,
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

/// Something that caches and running deliveries must heed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The topic has another configuration.
    TopicChanged(TopicName),
    /// The topic was deleted.
    TopicDeleted(TopicName),
    /// The subscription has another configuration; to be detached is part of it.
    SubscriptionChanged(SubscriptionName),
    /// The subscription was deleted.
    SubscriptionDeleted(SubscriptionId, SubscriptionName),
}

/// Changes in the order in which they were made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// [`StateStore::heeded`] takes it.
    pub through: u64,
    /// What changed.
    pub what: Vec<Change>,
    /// More may have changed than is told: this node was away for too long.
    pub everything: bool,
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

/// Why a resource could not be changed.
#[derive(Debug, Error)]
pub enum UpdateError {
    /// It is gone, or another life of its name.
    #[error("the resource is gone")]
    Gone,
    /// Somebody changed it since it was read: read again and repeat.
    #[error("the resource was changed meanwhile")]
    Changed,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Resources, positions and owners. One contract suite (`store/contract/state.rs`) runs against every
/// implementation. A method that writes returns when the write is durable.
#[async_trait]
pub trait StateStore: Send + Sync + 'static {
    /// What keeps the state, as health checks name it.
    fn backend(&self) -> &'static str;

    /// Asks the backend for a sign of life, which it has to give within `patience`. Else says what is wrong.
    async fn check(&self, patience: Duration) -> Result<(), StoreError>;

    /// The secret under which ack ids are authenticated, made once per store.
    fn ack_key(&self) -> [u8; 16];

    /// Whether this node may speak for what it owns; always, in a store of one node.
    fn lease(&self) -> Lease {
        Lease::always()
    }

    /// Adds a topic in phase `Creating`; reads do not see it yet. `attached`: for a log that exists already.
    async fn create_topic(
        &self,
        topic: &Topic,
        attached: Option<&LogPlace>,
    ) -> Result<TopicIncarnation, CreateError>;
    /// Moves a topic from `Creating` to `Live`, with its log at `place`. Repeating it changes nothing.
    async fn publish_topic(
        &self,
        topic: TopicIncarnation,
        place: &LogPlace,
    ) -> Result<(), StoreError>;
    /// The live topic of that name.
    async fn topic(&self, name: &TopicName) -> Result<Option<TopicRecord>, StoreError>;
    /// Replaces the configuration of a topic, if its version is still `read.version`.
    async fn update_topic(
        &self,
        read: &TopicRecord,
        topic: &Topic,
    ) -> Result<TopicRecord, UpdateError>;
    /// Live topics of a project in order of name, after `after` (a full name), at most `limit`.
    async fn list_topics(
        &self,
        project: &ProjectName,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<TopicRecord>, StoreError>;
    /// Moves the live topic of that name to `Deleted`; `None` when there is none.
    async fn delete_topic(&self, name: &TopicName) -> Result<Option<TopicIncarnation>, StoreError>;
    /// Every topic row, for retention and for finishing what a crash interrupted.
    async fn logs(&self) -> Result<Vec<TopicRow>, StoreError>;
    /// What still needs a topic's log; `None` when there is no such row.
    async fn log_needs(&self, topic: TopicIncarnation) -> Result<Option<LogNeeds>, StoreError>;
    /// Has the topic's log keep messages for as long as any of its subscriptions wants, while nobody else does the
    /// same: whoever comes last has seen all subscriptions.
    async fn keep_log(&self, topic: &TopicLog, log: &dyn MessageLog) -> Result<(), StoreError>;
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
    /// `read.version`.
    async fn update_subscription(
        &self,
        read: &SubscriptionRecord,
        subscription: &Subscription,
    ) -> Result<SubscriptionRecord, UpdateError>;
    /// Subscriptions of a project in order of name, after `after` (a full name), at most `limit`.
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

    /// Takes the delivery of a subscription over, unless a living node has it: raises its epoch, then reads its state.
    async fn acquire(&self, subscription: SubscriptionId) -> Result<Acquire, StoreError>;
    /// Gives a subscription up, so that any node may take it over; changes nothing if the epoch is not the current one.
    async fn release(&self, subscription: SubscriptionId, epoch: u64) -> Result<(), StoreError> {
        let _ = (subscription, epoch);
        Ok(())
    }
    /// Writes all entries in one transaction, each only under its current epoch. A stale entry fails alone.
    /// The outcomes are in the order of `flushes`.
    async fn flush(&self, flushes: &[Flush]) -> Result<Vec<FlushOutcome>, StoreError>;
    /// The stored state of a subscription, without taking it over; nothing when it is gone.
    async fn positions(
        &self,
        subscription: SubscriptionId,
    ) -> Result<Vec<PartitionState>, StoreError>;

    /// Waits for changes, by any node, that this one must heed. Pending for ever in a store of one node.
    async fn changes(&self) -> Result<Changes, StoreError> {
        std::future::pending().await
    }
    /// Says that this node heeds everything up to `through`, so that whoever made the changes may answer.
    async fn heeded(&self, through: u64) -> Result<(), StoreError> {
        let _ = through;
        Ok(())
    }

    /// Answers when everything accepted is durable and files are closed. Later calls fail.
    async fn close(&self);
}
