//! The port to where resources and subscriptions' positions live.

use std::time::Duration;

use async_trait::async_trait;
use thiserror::Error;

use super::{
    StoreError,
    log::{Offset, Partition},
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
    /// Which life of the name this is. Never used twice.
    pub incarnation: TopicIncarnation,
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
    pub topic: TopicIncarnation,
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
}

/// What still needs a topic's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogNeeds {
    /// Whether the topic is live, being created, or deleted.
    pub phase: TopicPhase,
    /// Its subscriptions that are not detached.
    pub readers: Vec<LogReader>,
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
    /// The secret under which ack ids are authenticated, made once per store.
    fn ack_key(&self) -> [u8; 16];

    /// Adds a topic in phase `Creating`; reads do not see it yet.
    async fn create_topic(&self, topic: &Topic) -> Result<TopicRecord, CreateError>;
    /// Moves a topic from `Creating` to `Live`. Repeating it changes nothing.
    async fn publish_topic(&self, topic: TopicIncarnation) -> Result<(), StoreError>;
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
    async fn logs(&self) -> Result<Vec<(TopicIncarnation, TopicPhase)>, StoreError>;
    /// What still needs a topic's log; `None` when there is no such row.
    async fn log_needs(&self, topic: TopicIncarnation) -> Result<Option<LogNeeds>, StoreError>;
    /// Forgets a deleted topic whose log is gone, or one that was never published.
    async fn forget_topic(&self, topic: TopicIncarnation) -> Result<(), StoreError>;

    /// Adds a subscription that starts at `starts` (one offset per partition), with its position, in one
    /// transaction.
    async fn create_subscription(
        &self,
        topic: TopicIncarnation,
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

    /// Takes the delivery of a subscription over: raises its epoch, then reads its state. `None` when it is gone.
    async fn acquire(&self, subscription: SubscriptionId) -> Result<Option<Acquired>, StoreError>;
    /// Writes all entries in one transaction, each only under its current epoch. A stale entry fails alone.
    /// The outcomes are in the order of `flushes`.
    async fn flush(&self, flushes: &[Flush]) -> Result<Vec<FlushOutcome>, StoreError>;
    /// The stored state of a subscription, without taking it over; nothing when it is gone.
    async fn positions(
        &self,
        subscription: SubscriptionId,
    ) -> Result<Vec<PartitionState>, StoreError>;

    /// Answers when everything accepted is durable and files are closed. Later calls fail.
    async fn close(&self);
}
