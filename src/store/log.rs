//! The port to where messages live: append, read, watch the tail, delete.

use std::{ops::Range, sync::Arc, time::Duration};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::{
    StoreError,
    batch::{BatchRun, LogRecord},
};
use crate::{
    clock::Timestamp,
    resource::{
        id::TopicIncarnation,
        message::{self, AcceptedMessages},
        name::TopicName,
    },
};

/// The number of a partition of a topic's log, from 0.
pub type Partition = u32;
/// The position of a record in its partition, from 0.
pub type Offset = u64;

/// Location of a topic's log, as the backend that made it says. It is stored in the topic's row.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LogLocation {
    /// What the backend calls the log; empty where the incarnation is all that it needs.
    pub name: String,
    /// The partitions that ordering keys hash over; later ones take messages without a key only.
    pub key_partitions: u32,
    /// Whether the log was there before its topic: then it is never deleted or reconfigured.
    pub attached: bool,
}

impl LogLocation {
    /// In a backend that needs nothing but the incarnation, with one partition.
    pub fn embedded() -> Self {
        Self {
            name: String::new(),
            key_partitions: 1,
            attached: false,
        }
    }
}

/// A topic's log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TopicLog {
    /// Which life of the topic's name it is of.
    pub incarnation: TopicIncarnation,
    /// Its location. Shared, as every request that names the topic carries it.
    pub location: Arc<LogLocation>,
}

/// What a backend answers that has no logs but those of its topics.
pub(super) fn only_own_logs() -> StoreError {
    StoreError::Refused(
        "a topic can stand for an existing Kafka topic only where messages are kept in Kafka"
            .to_owned(),
    )
}

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

/// What one read found.
#[derive(Clone, Debug)]
pub struct ReadBatch {
    /// Everything from the asked offset up to here is answered: an offset without a record does not exist
    /// (any more) and counts as done.
    pub next: Offset,
    /// Ascending by offset, all below `next`. Their batches may be shared with other readers.
    pub runs: Vec<BatchRun>,
}

impl ReadBatch {
    /// What a read found that came so far and found no record.
    pub fn without_records(next: Offset) -> Self {
        Self {
            next,
            runs: Vec::new(),
        }
    }

    /// How many records there are.
    pub fn count(&self) -> usize {
        self.runs.iter().map(|run| run.records().len()).sum()
    }

    /// The records, ascending by offset.
    pub fn records(&self) -> impl Iterator<Item = LogRecord<'_>> {
        self.runs.iter().flat_map(BatchRun::records)
    }

    /// Whether it can be the answer of a read of this range.
    pub fn answers(&self, range: &Range<Offset>) -> bool {
        let mut least = range.start;
        let in_order = self.records().all(|record| {
            let follows = least <= record.offset();
            least = record.offset().saturating_add(1);
            follows
        });
        in_order && least <= self.next && self.next <= range.end.max(range.start)
    }
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

/// A record as it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownRecord {
    /// The partition.
    pub partition: Partition,
    /// Its offset.
    pub offset: Offset,
    /// Its publish time.
    pub publish_time: Timestamp,
    /// [`message::checksum`] of its message.
    pub checksum: u32,
}

impl KnownRecord {
    /// As it is read now.
    pub fn of(partition: Partition, record: LogRecord<'_>) -> Self {
        Self {
            partition,
            offset: record.offset(),
            publish_time: record.publish_time(),
            checksum: message::checksum(record.message()),
        }
    }

    /// What a read of its offset says of it.
    pub fn compare(&self, read: Result<ReadBatch, StoreError>) -> Result<Comparison, StoreError> {
        let read = match read {
            Ok(read) => read,
            Err(StoreError::Damaged(_)) => return Ok(Comparison::Unreadable),
            Err(error) => return Err(error),
        };
        let mut there = read
            .records()
            .filter(|record| record.offset() == self.offset);
        Ok(match there.next() {
            Some(record) if Self::of(self.partition, record) != *self => Comparison::Other,
            _ => Comparison::Same,
        })
    }
}

/// What a log has where a record was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// The record, or nothing any more: it was removed in a way that is no loss, by retention or compaction.
    Same,
    /// Another record.
    Other,
    /// What cannot be read.
    Unreadable,
}

/// Which messages a log deletes when it is told that they are done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trims {
    /// None.
    Nothing,
    /// Those at its start.
    Start,
    /// Any.
    Anywhere,
}

/// Messages of all topics. One contract suite (`store/contract/log.rs`) runs against every implementation.
#[async_trait]
pub trait MessageLog: Send + Sync + 'static {
    /// Name of the backend in health checks.
    fn backend(&self) -> &'static str;

    /// Asks the backend for a sign of life, which it has to give within `patience`. Else says what is wrong.
    async fn check(&self, patience: Duration) -> Result<(), StoreError>;

    /// Why nothing can be appended although the backend answers, if that is so.
    fn shortage(&self) -> Option<String> {
        None
    }

    /// Names this log for ever. A state store belongs to one log, as its offsets are of that one.
    fn identity(&self) -> String;

    /// How long every log that [`MessageLog::create`] makes retains a message at least; `Duration::MAX` where nothing
    /// but [`MessageLog::trim`] deletes one.
    fn retention_min(&self) -> Duration;

    /// Whether records that were durable may be lost, or a log be made again by others, while a state store that knows
    /// them goes on.
    fn may_lose_records(&self) -> bool {
        false
    }

    /// Compares records, at most one of each partition and all below its end, with what the log has there now, whatever
    /// of it is in memory. The answers are in the order of the records.
    async fn compare(
        &self,
        topic: &TopicLog,
        records: &[KnownRecord],
    ) -> Result<Vec<Comparison>, StoreError> {
        let mut compared = Vec::with_capacity(records.len());
        for record in records {
            let range = record.offset..record.offset + 1;
            let read = self.read(topic, record.partition, range, 1).await;
            compared.push(record.compare(read)?);
        }
        Ok(compared)
    }

    /// Drops what is in memory of a log that has other records than it had. Its watchers see their channel close.
    async fn drop_buffered(&self, _topic: &TopicLog) {}

    /// What [`MessageLog::trim`] deletes here.
    fn trims(&self) -> Trims;

    /// Where [`MessageLog::create`] puts the log of a topic, as far as can be said before.
    fn location(&self, topic: TopicIncarnation, name: &TopicName) -> LogLocation;

    /// Makes the (empty) log of a topic, and says where. An error that is a definite failure has made none. Repeating it changes nothing and gives the same answer.
    async fn create(
        &self,
        topic: TopicIncarnation,
        name: &TopicName,
    ) -> Result<LogLocation, StoreError>;

    /// Finds a log that exists already, under the backend's own name for it, so that a topic may stand for it; `None`
    /// when there is none. `Refused` where the backend has none but its own.
    async fn attach(&self, name: &str) -> Result<Option<LogLocation>, StoreError>;

    /// Has the log retain a message for so long, or for [`MessageLog::retention_min`] if that is longer. Changes
    /// nothing where the log is attached.
    async fn retain(&self, topic: &TopicLog, at_least: Duration) -> Result<(), StoreError>;

    /// Deletes the log of a topic with everything in it, unless it is attached. Repeating it changes nothing. A crash
    /// leaves either the whole log or a log that the repeated call deletes.
    async fn delete(&self, topic: &TopicLog) -> Result<(), StoreError>;

    /// Appends the messages, all or none, and returns when they are durable, in request order. Messages
    /// of one call without an ordering key are neighbours in one partition. A log that stores more than the bytes has
    /// their parts without scanning them again.
    ///
    /// The call survives being dropped: what was handed over is then appended or not, but never torn.
    async fn append(
        &self,
        topic: &TopicLog,
        messages: AcceptedMessages,
    ) -> Result<Vec<AppendedRun>, StoreError>;

    /// Reads records in `range`, at most `bytes_max` bytes of messages but at least one record where there is one.
    async fn read(
        &self,
        topic: &TopicLog,
        partition: Partition,
        range: Range<Offset>,
        bytes_max: usize,
    ) -> Result<ReadBatch, StoreError>;

    /// The bounds of every partition, ascending.
    async fn bounds(&self, topic: &TopicLog) -> Result<Vec<PartitionBounds>, StoreError>;

    /// The ends of the topic's partitions. An append is visible here before its caller is answered. They never fall:
    /// the channel closes when the log is deleted, loses records, or is made again.
    async fn watch(&self, topic: &TopicLog) -> Result<LogEnds, StoreError>;

    /// The first offset whose record is at or after `time`; the end when there is none.
    async fn offset_at(
        &self,
        topic: &TopicLog,
        partition: Partition,
        time: Timestamp,
    ) -> Result<Offset, StoreError>;

    /// Deletes batches that lie wholly inside one of `done` (ascending, not overlapping), as many as one call may.
    /// Returns from which offset on the next call finds more; `None` when this one came to the end of `done`.
    async fn trim(
        &self,
        topic: &TopicLog,
        partition: Partition,
        done: &[Range<Offset>],
    ) -> Result<Option<Offset>, StoreError>;

    /// The range, widened at both ends by the rest of a batch that it has only a part of.
    async fn whole_batches(
        &self,
        topic: &TopicLog,
        partition: Partition,
        range: Range<Offset>,
    ) -> Result<Range<Offset>, StoreError> {
        let _ = (topic, partition);
        Ok(range)
    }

    /// For a damaged record at or after `from`: the first offset behind the damage from which reading may go on.
    async fn skip_damage(
        &self,
        topic: &TopicLog,
        partition: Partition,
        from: Offset,
    ) -> Result<Offset, StoreError>;

    /// Answers when everything accepted is durable and files are closed. Later calls fail.
    async fn close(&self);
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::store::batch::{Batch, Records};

    fn batch(offsets: &[Offset], next: Offset) -> ReadBatch {
        let mut records = Records::default();
        for &offset in offsets {
            records.push(offset, Timestamp::ZERO, Bytes::new());
        }
        let batch = Batch::of_records(records);
        ReadBatch {
            next,
            runs: vec![BatchRun::new(Arc::new(batch), 0..offsets.len())],
        }
    }

    #[test]
    fn a_read_is_answered_by_what_lies_in_its_range_alone() {
        for (offsets, next) in [
            (&[][..], 10),
            (&[], 20),
            (&[10, 11], 12),
            (&[11, 15], 20),
            (&[19], 20),
        ] {
            assert!(batch(offsets, next).answers(&(10..20)), "{offsets:?}");
        }
        for (offsets, next) in [
            (&[][..], 9),
            (&[], 21),
            (&[9], 11),
            (&[20], 20),
            (&[11, 10], 12),
            (&[10, 10], 12),
            (&[10, 12], 12),
        ] {
            assert!(!batch(offsets, next).answers(&(10..20)), "{offsets:?}");
        }
    }
}
