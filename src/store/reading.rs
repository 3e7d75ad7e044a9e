//! Collects the records of one read, whatever they are read from, and stops at its limits.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;

use super::{
    batch::{Batch, BatchRun, Records},
    log::{Offset, ReadBatch},
};
use crate::clock::Timestamp;

/// A read in progress. Offer it batches or records in ascending order.
#[derive(Debug)]
pub(super) struct Reading {
    range: Range<Offset>,
    bytes_left: usize,
    is_empty: bool,
    runs: Vec<BatchRun>,
    /// Records that no batch holds yet.
    records: Records,
    stopped_at: Option<Offset>,
}

impl Reading {
    pub(super) fn new(range: Range<Offset>, bytes_max: usize) -> Self {
        Self {
            range,
            bytes_left: bytes_max,
            is_empty: true,
            runs: Vec::new(),
            records: Records::default(),
            stopped_at: None,
        }
    }

    /// Takes the records of a batch that lie in the range. `false` when the read is full.
    pub(super) fn take_batch(&mut self, batch: &Arc<Batch>) -> bool {
        let first = batch.first_at(self.range.start);
        let count = batch.messages().len();
        let end = (first..count)
            .find(|index| {
                let record = batch.record(*index);
                !self.admits(record.offset(), record.message().len())
            })
            .unwrap_or(count);
        if first < end {
            self.runs.push(BatchRun::new(Arc::clone(batch), first..end));
        }
        end == count
    }

    /// Takes a record that does not lie before the range. `false` when the read is full.
    pub(super) fn take(
        &mut self,
        offset: Offset,
        publish_time: Timestamp,
        message: &Bytes,
    ) -> bool {
        let admits = self.admits(offset, message.len());
        if admits {
            self.records.push(offset, publish_time, message.clone());
        }
        admits
    }

    /// Whether the next record is a part of the answer.
    fn admits(&mut self, offset: Offset, bytes: usize) -> bool {
        if offset >= self.range.end || (bytes > self.bytes_left && !self.is_empty) {
            self.stopped_at = Some(offset);
            return false;
        }
        self.bytes_left = self.bytes_left.saturating_sub(bytes);
        self.is_empty = false;
        true
    }

    /// Whether nothing was taken yet.
    pub(super) fn is_empty(&self) -> bool {
        self.is_empty
    }

    /// The answer, when everything below `complete_to` was offered.
    pub(super) fn finish(mut self, complete_to: Offset) -> ReadBatch {
        let next = self.stopped_at.unwrap_or(complete_to).min(self.range.end);
        let count = self.records.count();
        if count > 0 {
            let batch = Batch::of_records(self.records);
            self.runs.push(BatchRun::new(Arc::new(batch), 0..count));
        }
        ReadBatch {
            next: next.max(self.range.start),
            runs: self.runs,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::batch::LogRecord;

    /// What a read of the range finds in a batch.
    fn read(batch: &Arc<Batch>, range: Range<Offset>, bytes_max: usize) -> (Vec<Offset>, Offset) {
        let mut reading = Reading::new(range, bytes_max);
        reading.take_batch(batch);
        let found = reading.finish(20);
        (found.records().map(LogRecord::offset).collect(), found.next)
    }

    #[test]
    fn a_batch_is_read_from_the_first_record_in_the_range_up_to_a_limit() {
        let mut records = Records::default();
        for (offset, time) in [(10, 1), (11, 2), (15, 2), (16, 5)] {
            let message = Bytes::from_static(b"12345");
            records.push(offset, Timestamp::from_millis(time), message);
        }
        let with_holes = Arc::new(Batch::of_records(records));
        let messages = vec![Bytes::from_static(b"12345"); 4];
        let neighbours = Arc::new(Batch::of_neighbours(10, Timestamp::ZERO, messages));
        for (range, bytes_max, of_holes, of_neighbours) in [
            (
                0..30,
                99,
                (vec![10, 11, 15, 16], 20),
                (vec![10, 11, 12, 13], 20),
            ),
            (11..30, 99, (vec![11, 15, 16], 20), (vec![11, 12, 13], 20)),
            (12..16, 99, (vec![15], 16), (vec![12, 13], 16)),
            (12..15, 99, (vec![], 15), (vec![12, 13], 15)),
            (11..30, 11, (vec![11, 15], 16), (vec![11, 12], 13)),
            (11..30, 1, (vec![11], 15), (vec![11], 12)),
            (17..30, 99, (vec![], 20), (vec![], 20)),
        ] {
            assert_eq!(
                read(&with_holes, range.clone(), bytes_max),
                of_holes,
                "{range:?}"
            );
            assert_eq!(
                read(&neighbours, range.clone(), bytes_max),
                of_neighbours,
                "{range:?}"
            );
        }
        let times = [1, 2, 2, 5].map(Timestamp::from_millis);
        let read = (0..4).map(|index| with_holes.record(index).publish_time());
        assert!(read.eq(times));
    }

    #[test]
    fn records_that_are_read_one_by_one_become_one_batch() {
        let mut reading = Reading::new(3..9, 10);
        let message = Bytes::from_static(b"12345");
        for (offset, is_taken) in [(4, true), (7, true), (8, false)] {
            let time = Timestamp::from_millis(offset);
            assert_eq!(reading.take(offset, time, &message), is_taken);
        }
        let found = reading.finish(8);
        assert_eq!((found.runs.len(), found.next), (1, 8));
        let positions = found
            .records()
            .map(|record| (record.offset(), record.publish_time().as_millis()));
        assert!(positions.eq([(4, 4), (7, 7)]));
    }
}
