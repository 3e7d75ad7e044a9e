//! Messages that lie together in a log, as a read answers them: shared by all that read them, and never changed.

use std::{
    ops::Range,
    sync::{Arc, OnceLock},
};

use bytes::{Bytes, BytesMut};

use super::log::Offset;
use crate::{
    clock::Timestamp,
    resource::message::{Layouts, ScannedMessage},
};

/// Messages that were appended or read together, ascending by offset.
///
/// The log may hold it in memory, and then every reader gets this same batch.
#[derive(Debug)]
pub struct Batch {
    positions: Positions,
    messages: Vec<Bytes>,
    /// Boxed, as most batches are never asked for it, and many have one message.
    layouts: OnceLock<Box<Layouts>>,
}

/// Where the messages of a batch lie, and when they were appended.
#[derive(Debug)]
enum Positions {
    Neighbours {
        base: Offset,
        publish_time: Timestamp,
    },
    Each(Vec<(Offset, Timestamp)>),
}

impl Batch {
    /// Neighbouring messages with one publish time, of which the first one has the offset `base`.
    pub fn of_neighbours(base: Offset, publish_time: Timestamp, messages: Vec<Bytes>) -> Self {
        Self {
            positions: Positions::Neighbours { base, publish_time },
            messages,
            layouts: OnceLock::new(),
        }
    }

    /// Messages that are read one by one, ascending by offset; other offsets may lie between them.
    pub fn of_records(records: Records) -> Self {
        Self {
            positions: Positions::Each(records.positions),
            messages: records.messages,
            layouts: OnceLock::new(),
        }
    }

    /// The messages, encoded.
    pub fn messages(&self) -> &[Bytes] {
        &self.messages
    }

    /// Where the parts of its messages lie. The first caller has them scanned, once for all that read the batch.
    ///
    /// The answer lives as long as the batch and is not counted among the bytes that a log may hold in memory, to which
    /// it is in proportion: 20 bytes for each message, and 16 for each attribute, whose entry has 5 or more.
    pub fn layouts(&self) -> &Layouts {
        let layouts = || Box::new(Layouts::of(&self.messages));
        self.layouts.get_or_init(layouts)
    }

    fn position(&self, index: usize) -> (Offset, Timestamp) {
        match &self.positions {
            Positions::Neighbours { base, publish_time } => (*base + index as u64, *publish_time),
            Positions::Each(positions) => positions[index],
        }
    }

    /// Index of the first message at or behind an offset; that of none when all lie before it.
    pub(super) fn first_at(&self, offset: Offset) -> usize {
        match &self.positions {
            Positions::Neighbours { base, .. } => {
                let before = offset.saturating_sub(*base);
                let before = usize::try_from(before).unwrap_or(usize::MAX);
                before.min(self.messages.len())
            }
            Positions::Each(positions) => positions.partition_point(|(at, _)| *at < offset),
        }
    }

    pub(super) fn record(&self, index: usize) -> LogRecord<'_> {
        LogRecord { batch: self, index }
    }
}

/// Messages on their way into a batch, each with its own offset and publish time.
#[derive(Debug, Default)]
pub struct Records {
    positions: Vec<(Offset, Timestamp)>,
    messages: Vec<Bytes>,
}

impl Records {
    /// Adds the next message.
    pub fn push(&mut self, offset: Offset, publish_time: Timestamp, message: Bytes) {
        self.positions.push((offset, publish_time));
        self.messages.push(message);
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.messages.len()
    }
}

/// Neighbouring messages of a batch: those that a read has found there.
#[derive(Clone, Debug)]
pub struct BatchRun {
    batch: Arc<Batch>,
    range: Range<usize>,
}

impl BatchRun {
    /// The messages of `batch` that have these indexes.
    pub(super) fn new(batch: Arc<Batch>, range: Range<usize>) -> Self {
        Self { batch, range }
    }

    /// The batch, the same one for all readers of what the log holds in memory.
    pub fn batch(&self) -> &Arc<Batch> {
        &self.batch
    }

    /// The messages of its records. Where the batch is nobody else's and most of it are other messages, they are copied:
    /// the whole batch would stay in memory with them.
    pub fn messages(&self) -> Vec<Bytes> {
        let messages = &self.batch.messages[self.range.clone()];
        let is_shared = Arc::strong_count(&self.batch) > 1;
        if is_shared || messages.len() * 2 >= self.batch.messages.len() {
            return messages.to_vec();
        }
        copied(messages.iter())
    }

    /// The records that are chosen, with their messages. Where most of the batch are others, these are copied, also when
    /// it is shared: a few messages of each of many batches may be held long after the log has let go of them.
    pub fn chosen(&self, is_chosen: impl Fn(LogRecord<'_>) -> bool) -> Vec<(LogRecord<'_>, Bytes)> {
        let chosen: Vec<_> = self.records().filter(|record| is_chosen(*record)).collect();
        let messages = chosen.iter().map(|record| record.message());
        let bytes = |messages: &mut dyn Iterator<Item = &Bytes>| -> usize {
            messages.map(Bytes::len).sum()
        };
        let is_most = bytes(&mut messages.clone()) * 2 >= bytes(&mut self.batch.messages.iter());
        let messages = if is_most {
            messages.cloned().collect()
        } else {
            copied(messages)
        };
        chosen.into_iter().zip(messages).collect()
    }

    /// The records, ascending by offset.
    pub fn records(&self) -> impl ExactSizeIterator<Item = LogRecord<'_>> {
        self.range.clone().map(|index| self.batch.record(index))
    }
}

/// Copies messages into one buffer.
fn copied<'a>(messages: impl Iterator<Item = &'a Bytes> + Clone) -> Vec<Bytes> {
    let bytes = messages.clone().map(Bytes::len).sum();
    let mut buffer = BytesMut::with_capacity(bytes);
    let copy = |message: &Bytes| {
        buffer.extend_from_slice(message);
        buffer.split().freeze()
    };
    messages.map(copy).collect()
}

/// One message as it lies in the log.
#[derive(Clone, Copy, Debug)]
pub struct LogRecord<'a> {
    batch: &'a Batch,
    index: usize,
}

impl<'a> LogRecord<'a> {
    /// Its position.
    pub fn offset(self) -> Offset {
        self.batch.position(self.index).0
    }

    /// When it was appended. Within a partition it never decreases with the offset (in logs that we write).
    pub fn publish_time(self) -> Timestamp {
        self.batch.position(self.index).1
    }

    /// The message as it was published, encoded.
    pub fn message(self) -> &'a Bytes {
        &self.batch.messages[self.index]
    }

    /// Its parts. See [`Batch::layouts`].
    pub fn scanned(self) -> ScannedMessage<'a> {
        self.batch.layouts().message(self.index, self.message())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run of these messages of a batch, and whether what it gives lies in the batch's buffer.
    fn lies_in_batch(range: Range<usize>, is_shared: bool) -> bool {
        let buffer = Bytes::from_static(b"abcdefgh");
        let messages: Vec<Bytes> = (0..8).map(|at| buffer.slice(at..=at)).collect();
        let batch = Arc::new(Batch::of_neighbours(0, Timestamp::ZERO, messages));
        let tail = is_shared.then(|| Arc::clone(&batch));
        let run = BatchRun::new(batch, range.clone());
        let given = run.messages();
        assert_eq!(given.concat(), &buffer[range.clone()]);
        drop(tail);
        given[0].as_ptr() == buffer[range].as_ptr()
    }

    #[test]
    fn a_small_part_of_a_batch_that_nobody_shares_does_not_retain_it() {
        assert!(!lies_in_batch(2..5, false));
        assert!(lies_in_batch(2..5, true));
        assert!(lies_in_batch(2..6, false));
    }

    #[test]
    fn a_few_messages_that_are_chosen_do_not_retain_a_batch_that_is_shared() {
        let buffer = Bytes::from_static(b"abcdefgh");
        let messages: Vec<Bytes> = (0..8).map(|at| buffer.slice(at..=at)).collect();
        let batch = Arc::new(Batch::of_neighbours(10, Timestamp::ZERO, messages));
        let run = BatchRun::new(Arc::clone(&batch), 1..8);
        for (chosen, lies_in_batch) in [(&[11, 13, 16][..], false), (&[11, 12, 13, 16][..], true)] {
            let given = run.chosen(|record| chosen.contains(&record.offset()));
            let offsets = given.iter().map(|(record, _)| record.offset());
            assert!(offsets.eq(chosen.iter().copied()));
            for (record, message) in &given {
                assert_eq!(record.message(), message);
                let is_same = record.message().as_ptr() == message.as_ptr();
                assert_eq!(is_same, lies_in_batch);
            }
        }
    }
}
