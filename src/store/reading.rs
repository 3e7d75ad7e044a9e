//! Collects the records of one read, whatever they are read from, and stops at its limits.

use std::ops::Range;

use bytes::Bytes;

use super::log::{LogRecord, Offset, ReadBatch};
use crate::clock::Timestamp;

/// A read in progress. Offer it records in ascending order.
#[derive(Debug)]
pub(super) struct Reading {
    range: Range<Offset>,
    bytes_left: usize,
    records: Vec<LogRecord>,
    stopped_at: Option<Offset>,
}

impl Reading {
    pub(super) fn new(range: Range<Offset>, bytes_max: usize) -> Self {
        Self {
            range,
            bytes_left: bytes_max,
            records: Vec::new(),
            stopped_at: None,
        }
    }

    /// Takes the records of a batch that lie in the range. `false` when the read is full.
    pub(super) fn take_batch(
        &mut self,
        base: Offset,
        publish_time: Timestamp,
        messages: &[Bytes],
    ) -> bool {
        let skip = self.range.start.saturating_sub(base);
        let skip = usize::try_from(skip)
            .unwrap_or(usize::MAX)
            .min(messages.len());
        (base + skip as u64..)
            .zip(&messages[skip..])
            .all(|(offset, message)| self.take(offset, publish_time, message))
    }

    /// Takes a record that does not lie before the range. `false` when the read is full.
    pub(super) fn take(
        &mut self,
        offset: Offset,
        publish_time: Timestamp,
        message: &Bytes,
    ) -> bool {
        if offset >= self.range.end || (message.len() > self.bytes_left && !self.records.is_empty())
        {
            self.stopped_at = Some(offset);
            return false;
        }
        self.bytes_left = self.bytes_left.saturating_sub(message.len());
        self.records.push(LogRecord {
            offset,
            publish_time,
            message: message.clone(),
        });
        true
    }

    /// Whether nothing was taken yet.
    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The answer, when everything below `complete_to` was offered.
    pub(super) fn finish(self, complete_to: Offset) -> ReadBatch {
        let next = self.stopped_at.unwrap_or(complete_to).min(self.range.end);
        ReadBatch {
            next: next.max(self.range.start),
            records: self.records,
        }
    }
}
