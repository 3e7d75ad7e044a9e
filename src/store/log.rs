//! The port to where messages live: append, read, watch the tail, delete.

use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::watch;

use super::StoreError;
use crate::{clock::Timestamp, resource::id::TopicIncarnation};

/// The number of a partition of a topic's log, from 0.
pub type Partition = u32;
/// The position of a record in its partition, from 0.
pub type Offset = u64;

/// A run of messages of one append that lie one after another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppendedRun {
    /// Where they are.
    pub partition: Partition,
    /// Offset of the first one.
    pub first: Offset,
    /// How many.
    pub count: u32,
    /// Their publish time, as every later read reports it.
    pub publish_time: Timestamp,
}

/// One message as it lies in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRecord {
    /// Its position.
    pub offset: Offset,
    /// When it was appended. Within a partition it never decreases with the offset (in logs that we write).
    pub publish_time: Timestamp,
    /// The message as it was published, encoded.
    pub message: Bytes,
}

/// What one read found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadBatch {
    /// Everything from the asked offset up to here is answered: an offset without a record does not exist
    /// (any more) and counts as done.
    pub next: Offset,
    /// Ascending by offset, all below `next`.
    pub records: Vec<LogRecord>,
}

/// Where a partition begins and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionBounds {
    /// Which one.
    pub partition: Partition,
    /// No record lies below.
    pub start: Offset,
    /// The next append goes here.
    pub end: Offset,
}

/// The end of every partition of a topic, indexed by partition, as it moves.
pub type LogEnds = watch::Receiver<Vec<Offset>>;

/// Messages of all topics. One contract suite (`store/contract/log.rs`) runs against every implementation.
#[async_trait]
pub trait MessageLog: Send + Sync + 'static {
    /// Makes the (empty) log of a topic. Repeating it changes nothing.
    async fn create(&self, topic: TopicIncarnation) -> Result<(), StoreError>;

    /// Deletes the log of a topic with everything in it. Repeating it changes nothing. A crash leaves either the
    /// whole log or a log that the repeated call deletes.
    async fn delete(&self, topic: TopicIncarnation) -> Result<(), StoreError>;

    /// Appends the messages, all or none, and returns when they are durable, in request order. Messages
    /// of one call without an ordering key are neighbours in one partition.
    ///
    /// The call survives being dropped: what was handed over is then appended or not, but never torn.
    async fn append(
        &self,
        topic: TopicIncarnation,
        messages: Vec<Bytes>,
    ) -> Result<Vec<AppendedRun>, StoreError>;

    /// Reads records in `range`, at most `bytes_max` bytes of messages but at least one record where there is one.
    async fn read(
        &self,
        topic: TopicIncarnation,
        partition: Partition,
        range: Range<Offset>,
        bytes_max: usize,
    ) -> Result<ReadBatch, StoreError>;

    /// The bounds of every partition, ascending.
    async fn bounds(&self, topic: TopicIncarnation) -> Result<Vec<PartitionBounds>, StoreError>;

    /// The ends of the topic's partitions. An append is visible here before its caller is answered.
    async fn watch(&self, topic: TopicIncarnation) -> Result<LogEnds, StoreError>;

    /// The first offset whose record is at or after `time`; the end when there is none.
    async fn offset_at(
        &self,
        topic: TopicIncarnation,
        partition: Partition,
        time: Timestamp,
    ) -> Result<Offset, StoreError>;

    /// Deletes batches that lie wholly inside one of `done` (ascending, not overlapping). Returns whether
    /// there was more than one call deletes at a time, so that the caller calls again.
    async fn trim(
        &self,
        topic: TopicIncarnation,
        partition: Partition,
        done: &[Range<Offset>],
    ) -> Result<bool, StoreError>;

    /// For a damaged record at or after `from`: the first offset behind the damage from which reading may go on.
    async fn skip_damage(
        &self,
        topic: TopicIncarnation,
        partition: Partition,
        from: Offset,
    ) -> Result<Offset, StoreError>;

    /// Answers when everything accepted is durable and files are closed. Later calls fail.
    async fn close(&self);
}
