//! The end of every log in memory: recently appended batches, shared by all readers, and where the logs end.
//!
//! Must never hold more than its bound, nor show a batch before it is durable. From the oldest buffered batch of a
//! partition on, the buffer has everything up to the end; so a read is answered from here as a whole or not at all.

use std::{
    collections::{BTreeMap, VecDeque},
    mem::size_of,
    ops::Range,
    sync::Arc,
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::{
    batch::Batch,
    log::{KnownRecord, LogEnds, Offset, Partition, ReadBatch},
    reading::Reading,
};
use crate::{clock::Timestamp, resource::id::TopicIncarnation};

/// Neighbouring messages with one publish time, on their way into the tail.
#[derive(Debug)]
pub(super) struct TailBatch {
    /// Offset of the first message.
    pub(super) base: Offset,
    /// When they were appended.
    pub(super) publish_time: Timestamp,
    /// The messages, encoded.
    pub(super) messages: Vec<Bytes>,
}

/// What the tail knows about a read.
#[derive(Debug)]
pub(super) enum TailRead {
    /// All of it.
    Answer(ReadBatch),
    /// The range begins before what is buffered; the partition ends here.
    Older {
        /// Where the partition ends.
        end: Offset,
    },
    /// The topic was not used since the start.
    Unknown,
}

/// Recently appended batches of all topics.
#[derive(Debug)]
pub(super) struct Tail {
    bytes_max: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    topics: BTreeMap<TopicIncarnation, TopicTail>,
    /// One entry per buffered batch, oldest first: whose first batch to evict next.
    oldest: VecDeque<(TopicIncarnation, Partition)>,
    bytes: usize,
}

#[derive(Debug, Default)]
struct TopicTail {
    ends: Vec<Offset>,
    batches: Vec<VecDeque<Buffered>>,
    watched: Option<watch::Sender<Vec<Offset>>>,
}

#[derive(Debug)]
struct Buffered {
    /// Nothing lies from here to the batch: where the one before it ends, if there is one.
    from: Offset,
    base: Offset,
    end: Offset,
    /// `None` once the store has deleted it.
    batch: Option<Arc<Batch>>,
}

impl Buffered {
    fn bytes(&self) -> usize {
        let messages = self
            .batch
            .as_ref()
            .map_or(&[][..], |batch| batch.messages());
        messages_bytes(messages)
    }
}

/// What a buffered batch costs beside its messages: itself, with the two counters of what is shared, and its entry in
/// the order of eviction.
const ENTRY_BYTES: usize = size_of::<Buffered>()
    + size_of::<Batch>()
    + 2 * size_of::<usize>()
    + size_of::<(TopicIncarnation, Partition)>();

impl Tail {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            inner: Mutex::default(),
        }
    }

    /// Takes note of where the partitions of an unknown topic end, as its file says.
    pub(super) fn learn(&self, topic: TopicIncarnation, ends: &[Offset]) {
        let mut inner = self.inner.lock();
        // A known topic's ends move with its batches only, or a batch between commit and buffer would be skipped.
        inner.topics.entry(topic).or_insert_with(|| TopicTail {
            ends: ends.to_vec(),
            ..TopicTail::default()
        });
    }

    /// The ends of a topic that is known.
    pub(super) fn ends(&self, topic: TopicIncarnation) -> Option<Vec<Offset>> {
        let inner = self.inner.lock();
        inner.topics.get(&topic).map(|tail| tail.ends.clone())
    }

    /// Watches the ends of a topic that is known.
    pub(super) fn watch(&self, topic: TopicIncarnation) -> Option<LogEnds> {
        let mut inner = self.inner.lock();
        inner.topics.get_mut(&topic).map(TopicTail::watch)
    }

    /// Watches the ends of a topic, which are these if it was not known.
    pub(super) fn watch_or_learn(&self, topic: TopicIncarnation, ends: &[Offset]) -> LogEnds {
        let mut inner = self.inner.lock();
        inner
            .topics
            .entry(topic)
            .or_insert_with(|| TopicTail {
                ends: ends.to_vec(),
                ..TopicTail::default()
            })
            .watch()
    }

    /// Forgets a topic unless a subscription watches it.
    pub(super) fn forget_unwatched(&self, topic: TopicIncarnation) -> bool {
        let mut inner = self.inner.lock();
        let watched = inner.topics.get(&topic).is_some_and(|tail| {
            let watched = tail.watched.as_ref();
            watched.is_some_and(|watched| watched.receiver_count() > 0)
        });
        if !watched {
            inner.forget(topic);
        }
        !watched
    }

    /// Adds a batch if the topic is known and its partition ends where the batch begins, or inside it. Answers whether
    /// something is missing between the end and the batch.
    pub(super) fn append_at_end(
        &self,
        topic: TopicIncarnation,
        partition: Partition,
        batch: TailBatch,
    ) -> bool {
        let mut inner = self.inner.lock();
        let end = inner.end(topic, partition);
        let gap = end.is_some_and(|end| batch.base > end);
        if !gap {
            inner.add(topic, partition, batch, self.bytes_max);
        }
        gap
    }

    /// Adds the next batch of a partition that is read in order: nothing lies between where it ends and the batch.
    pub(super) fn append_next(
        &self,
        topic: TopicIncarnation,
        partition: Partition,
        batch: TailBatch,
    ) {
        let mut inner = self.inner.lock();
        inner.add(topic, partition, batch, self.bytes_max);
    }

    /// Moves ends up to `ends` without the messages in between, which are then read from the store. Partitions that
    /// were not known are added.
    pub(super) fn raise(&self, topic: TopicIncarnation, ends: &[Offset]) {
        let mut inner = self.inner.lock();
        let Some(known) = inner.topics.get(&topic).map(|tail| tail.ends.clone()) else {
            return;
        };
        for (partition, &end) in (0..).zip(ends) {
            if known
                .get(partition as usize)
                .is_some_and(|known| *known < end)
            {
                inner.empty(topic, partition);
            }
        }
        if let Some(tail) = inner.topics.get_mut(&topic) {
            tail.move_ends(ends.iter().copied().enumerate());
        }
    }

    /// Adds durable batches, each at the end of its partition, and moves the ends.
    pub(super) fn append(
        &self,
        batches: impl IntoIterator<Item = (TopicIncarnation, Partition, TailBatch)>,
    ) {
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        for (topic, partition, batch) in batches {
            let tail = inner.topics.entry(topic).or_default();
            inner.bytes += messages_bytes(&batch.messages) + ENTRY_BYTES;
            inner.oldest.push_back((topic, partition));
            tail.push(partition, batch);
        }
        inner.evict(self.bytes_max);
    }

    /// Answers a read if it begins where the buffer reaches.
    pub(super) fn read(
        &self,
        topic: TopicIncarnation,
        partition: Partition,
        range: Range<Offset>,
        bytes_max: usize,
    ) -> TailRead {
        let inner = self.inner.lock();
        let Some(tail) = inner.topics.get(&topic) else {
            return TailRead::Unknown;
        };
        let Some(&end) = tail.ends.get(partition as usize) else {
            return TailRead::Unknown;
        };
        if range.start >= end {
            return TailRead::Answer(ReadBatch::without_records(range.start));
        }
        let batches = tail.batches.get(partition as usize);
        let (Some(batches), Some(buffered)) = (batches, batches.and_then(buffered_range)) else {
            return TailRead::Older { end };
        };
        if !buffered.contains(&range.start) {
            return TailRead::Older { end };
        }
        let first = batches.partition_point(|buffered| buffered.end <= range.start);
        let mut reading = Reading::new(range, bytes_max);
        let batches = batches.range(first..);
        for batch in batches.filter_map(|buffered| buffered.batch.as_ref()) {
            if !reading.take_batch(batch) {
                break;
            }
        }
        TailRead::Answer(reading.finish(buffered.end))
    }

    /// Forgets the messages of batches wholly inside `range`, which the store has deleted.
    pub(super) fn trim(
        &self,
        topic: TopicIncarnation,
        partition: Partition,
        range: &Range<Offset>,
    ) {
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        let Some(batches) = inner
            .topics
            .get_mut(&topic)
            .and_then(|tail| tail.batches.get_mut(partition as usize))
        else {
            return;
        };
        let first = batches.partition_point(|buffered| buffered.base < range.start);
        for buffered in batches.range_mut(first..) {
            if buffered.end > range.end {
                break;
            }
            // The emptied batch stays: it says that nothing is there, and it keeps its position in the order of
            // eviction.
            inner.bytes -= buffered.bytes();
            buffered.batch = None;
        }
    }

    /// The last record of each partition of which anything is buffered.
    pub(super) fn last_records(&self, topic: TopicIncarnation) -> Vec<KnownRecord> {
        let inner = self.inner.lock();
        let partitions = inner.topics.get(&topic).map(|tail| tail.batches.as_slice());
        let partitions = (0..).zip(partitions.unwrap_or_default());
        let last = partitions.filter_map(|(partition, batches)| {
            let batch = batches.back()?.batch.as_ref()?;
            let record = batch.record(batch.messages().len().checked_sub(1)?);
            Some(KnownRecord::of(partition, record))
        });
        last.collect()
    }

    /// Forgets a topic whose log was deleted. Its watchers see their channel close.
    pub(super) fn forget(&self, topic: TopicIncarnation) {
        self.inner.lock().forget(topic);
    }

    /// Starts over after a write of which nobody knows whether it happened: what is buffered may lack it.
    pub(super) fn restart(&self, topic: TopicIncarnation, ends: &[Offset]) {
        let mut inner = self.inner.lock();
        let watched = inner
            .topics
            .get_mut(&topic)
            .and_then(|tail| tail.watched.take());
        inner.forget(topic);
        let tail = inner.topics.entry(topic).or_default();
        tail.watched = watched;
        tail.move_ends(ends.iter().copied().enumerate());
    }

    #[cfg(test)]
    fn bytes(&self) -> usize {
        self.inner.lock().bytes
    }
}

impl Inner {
    fn end(&self, topic: TopicIncarnation, partition: Partition) -> Option<Offset> {
        self.topics
            .get(&topic)?
            .ends
            .get(partition as usize)
            .copied()
    }

    /// Adds what of a batch lies behind the end of a known partition.
    fn add(
        &mut self,
        topic: TopicIncarnation,
        partition: Partition,
        mut batch: TailBatch,
        bytes_max: usize,
    ) {
        let Some(end) = self.end(topic, partition) else {
            return;
        };
        let known = usize::try_from(end.saturating_sub(batch.base)).unwrap_or(usize::MAX);
        if known >= batch.messages.len() {
            return;
        }
        batch.messages.drain(..known);
        batch.base += known as u64;
        self.bytes += messages_bytes(&batch.messages) + ENTRY_BYTES;
        self.oldest.push_back((topic, partition));
        if let Some(tail) = self.topics.get_mut(&topic) {
            tail.push(partition, batch);
        }
        self.evict(bytes_max);
    }

    /// Forgets a partition's messages.
    fn empty(&mut self, topic: TopicIncarnation, partition: Partition) {
        let batches = self
            .topics
            .get_mut(&topic)
            .and_then(|tail| tail.batches.get_mut(partition as usize))
            .map(std::mem::take)
            .unwrap_or_default();
        if !batches.is_empty() {
            self.bytes -= batches.iter().map(Buffered::bytes).sum::<usize>();
            self.forget_entries(|entry| entry == (topic, partition));
        }
    }

    /// Rare enough to check every entry. Left there, they would evict batches that come next.
    fn forget_entries(&mut self, of: impl Fn((TopicIncarnation, Partition)) -> bool) {
        let before = self.oldest.len();
        self.oldest.retain(|entry| !of(*entry));
        self.bytes -= (before - self.oldest.len()) * ENTRY_BYTES;
    }

    fn evict(&mut self, bytes_max: usize) {
        while self.bytes > bytes_max {
            let Some((topic, partition)) = self.oldest.pop_front() else {
                return;
            };
            self.bytes -= ENTRY_BYTES;
            let evicted = self
                .topics
                .get_mut(&topic)
                .and_then(|tail| tail.batches.get_mut(partition as usize))
                .and_then(VecDeque::pop_front);
            self.bytes -= evicted.as_ref().map_or(0, Buffered::bytes);
        }
    }

    fn forget(&mut self, topic: TopicIncarnation) {
        let Some(tail) = self.topics.remove(&topic) else {
            return;
        };
        let batches = tail.batches.iter().flatten();
        self.bytes -= batches.map(Buffered::bytes).sum::<usize>();
        if tail.batches.iter().any(|batches| !batches.is_empty()) {
            self.forget_entries(|(owner, _)| owner == topic);
        }
    }
}

impl TopicTail {
    fn watch(&mut self) -> LogEnds {
        self.watched
            .get_or_insert_with(|| watch::Sender::new(self.ends.clone()))
            .subscribe()
    }

    fn push(&mut self, partition: Partition, batch: TailBatch) {
        let index = partition as usize;
        if self.batches.len() <= index {
            self.batches.resize_with(index + 1, VecDeque::new);
        }
        let end = batch.base + batch.messages.len() as u64;
        let from = self.batches[index]
            .back()
            .map_or(batch.base, |last| last.end);
        let TailBatch {
            base,
            publish_time,
            messages,
        } = batch;
        let batch = Batch::of_neighbours(base, publish_time, messages);
        self.batches[index].push_back(Buffered {
            from,
            base,
            end,
            batch: Some(Arc::new(batch)),
        });
        self.move_ends([(index, end)]);
    }

    fn move_ends(&mut self, ends: impl IntoIterator<Item = (usize, Offset)>) {
        let mut moved = false;
        for (index, end) in ends {
            if self.ends.len() <= index {
                self.ends.resize(index + 1, 0);
                moved = true;
            }
            if self.ends[index] < end {
                self.ends[index] = end;
                moved = true;
            }
        }
        if moved && let Some(watched) = &self.watched {
            if watched.receiver_count() == 0 {
                self.watched = None;
            } else {
                watched.send_replace(self.ends.clone());
            }
        }
    }
}

fn buffered_range(batches: &VecDeque<Buffered>) -> Option<Range<Offset>> {
    Some(batches.front()?.from..batches.back()?.end)
}

fn messages_bytes(messages: &[Bytes]) -> usize {
    let bytes: usize = messages.iter().map(Bytes::len).sum();
    bytes + size_of_val(messages)
}

#[cfg(test)]
mod tests {
    use std::ptr;

    use super::*;
    use crate::store::batch::{BatchRun, LogRecord};

    const TOPIC: TopicIncarnation = TopicIncarnation(1);
    const OTHER: TopicIncarnation = TopicIncarnation(2);

    fn batch(base: Offset, count: usize) -> TailBatch {
        TailBatch {
            base,
            publish_time: Timestamp::ZERO,
            messages: vec![Bytes::from(vec![0; 1000]); count],
        }
    }

    #[test]
    fn the_oldest_batch_of_any_topic_leaves_first_and_the_bound_holds() {
        // Room for the first batch and seven others, but not for eight.
        let bytes_max = 9 * (1000 + size_of::<Bytes>()) + 8 * ENTRY_BYTES;
        let tail = Tail::new(bytes_max);
        tail.append([(TOPIC, 0, batch(0, 2))]);
        for base in 0..7 {
            tail.append([(OTHER, 0, batch(base, 1))]);
        }
        assert_eq!(tail.bytes(), bytes_max);
        assert!(matches!(tail.read(TOPIC, 0, 0..2, 9), TailRead::Answer(_)));
        tail.append([(OTHER, 0, batch(7, 1))]);
        assert!(tail.bytes() <= bytes_max);
        assert!(matches!(
            tail.read(TOPIC, 0, 0..2, 9),
            TailRead::Older { end: 2 }
        ));
        assert!(matches!(tail.read(OTHER, 0, 0..2, 9), TailRead::Answer(_)));
    }

    #[test]
    fn readers_share_a_batch_and_what_was_looked_up_for_it() {
        let tail = Tail::new(100_000);
        tail.append([(TOPIC, 0, batch(0, 2)), (TOPIC, 0, batch(2, 2))]);
        let runs = |range| {
            let TailRead::Answer(read) = tail.read(TOPIC, 0, range, 10_000) else {
                panic!("not answered");
            };
            read.runs
        };
        let (one, other) = (runs(0..3), runs(1..4));
        for (one, other) in one.iter().zip(&other) {
            assert!(Arc::ptr_eq(one.batch(), other.batch()));
            assert!(ptr::eq(one.batch().layouts(), other.batch().layouts()));
        }
        let counts = |runs: &[BatchRun]| {
            runs.iter()
                .map(|run| run.records().len())
                .collect::<Vec<_>>()
        };
        assert_eq!((counts(&one), counts(&other)), (vec![2, 1], vec![1, 2]));
    }

    #[test]
    fn a_trimmed_or_forgotten_batch_costs_nothing_any_more() {
        let tail = Tail::new(100_000);
        tail.append([(TOPIC, 0, batch(0, 2)), (TOPIC, 0, batch(2, 2))]);
        tail.trim(TOPIC, 0, &(0..2));
        let TailRead::Answer(read) = tail.read(TOPIC, 0, 0..4, 10_000) else {
            panic!("not answered");
        };
        assert_eq!((read.count(), read.next), (2, 4));
        tail.forget(TOPIC);
        assert_eq!(tail.bytes(), 0);
    }

    #[test]
    fn only_a_known_topics_next_batch_is_taken_and_what_is_there_already_is_cut() {
        let tail = Tail::new(100_000);
        tail.append_at_end(TOPIC, 0, batch(0, 2));
        assert_eq!(tail.bytes(), 0, "nobody watches it");
        let ends = tail.watch_or_learn(TOPIC, &[5]);
        for (base, end) in [(2, 5), (7, 5), (4, 7), (7, 10)] {
            let gap = tail.append_at_end(TOPIC, 0, batch(base, 3));
            assert_eq!(gap, (base, end) == (7, 5));
            assert_eq!(*ends.borrow(), [end], "after a batch at {base}");
        }
        assert!(matches!(
            tail.read(TOPIC, 0, 4..9, 9),
            TailRead::Older { end: 10 }
        ));
        let TailRead::Answer(read) = tail.read(TOPIC, 0, 5..10, 10_000) else {
            panic!("not answered");
        };
        assert_eq!((read.count(), read.next), (5, 10));
        drop(ends);
        assert!(tail.forget_unwatched(TOPIC));
        assert_eq!(tail.bytes(), 0);
    }

    #[test]
    fn a_hole_is_passed_and_raised_ends_are_read_from_the_store() {
        let tail = Tail::new(100_000);
        let ends = tail.watch_or_learn(TOPIC, &[0, 0]);
        tail.append_next(TOPIC, 0, batch(0, 1));
        tail.append_next(TOPIC, 0, batch(3, 1));
        let TailRead::Answer(read) = tail.read(TOPIC, 0, 1..9, 10_000) else {
            panic!("not answered");
        };
        let offsets = read.records().map(LogRecord::offset);
        assert_eq!((offsets.collect(), read.next), (vec![3], 4));
        tail.append_next(TOPIC, 1, batch(0, 1));
        tail.raise(TOPIC, &[9, 1, 2]);
        assert_eq!(*ends.borrow(), [9, 1, 2]);
        assert!(matches!(
            tail.read(TOPIC, 0, 3..9, 9),
            TailRead::Older { end: 9 }
        ));
        assert!(matches!(tail.read(TOPIC, 1, 0..1, 9), TailRead::Answer(_)));
    }

    #[test]
    fn a_restarted_topic_keeps_its_watchers_and_reads_from_the_file() {
        let tail = Tail::new(100_000);
        tail.append([(TOPIC, 0, batch(0, 2))]);
        let ends = tail.watch(TOPIC).expect("known");
        tail.restart(TOPIC, &[4]);
        assert_eq!(*ends.borrow(), vec![4]);
        assert!(matches!(
            tail.read(TOPIC, 0, 0..4, 9),
            TailRead::Older { end: 4 }
        ));
    }
}
