//! A message log in memory, one partition per topic, bounded by bytes.

use std::{
    collections::{BTreeMap, HashMap},
    mem::size_of,
    ops::Range,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::{
    clock::{Clock, Timestamp},
    resource::{id::TopicIncarnation, message::AcceptedMessages, name::TopicName},
    store::{
        MessageLog, StoreError,
        batch::Batch,
        log::{
            AppendedRun, LogEnds, LogLocation, Offset, Partition, PartitionBounds, ReadBatch,
            TopicLog, Trims, only_own_logs,
        },
        reading::Reading,
    },
};

/// What a batch takes beside its messages, as the resident memory of many shows: an entry in a tree whose nodes are half
/// full, the shared batch, its list, and a buffer with its header.
const BATCH_OVERHEAD_BYTES: usize = 192;
/// Ranges and batches that one call passes while nobody else can use the log.
const TRIM_STEPS_MAX: usize = 4096;

/// Messages of all topics in memory.
#[derive(Debug)]
pub struct MemoryLog {
    clock: Clock,
    bytes_max: usize,
    logs: Mutex<Logs>,
}

#[derive(Debug, Default)]
struct Logs {
    topics: HashMap<TopicIncarnation, Messages>,
    bytes: usize,
    closed: bool,
}

#[derive(Debug, Default)]
struct Messages {
    /// One of each append.
    batches: BTreeMap<Offset, Arc<Batch>>,
    end: Offset,
    last_time: Timestamp,
    ends: watch::Sender<Vec<Offset>>,
}

impl MemoryLog {
    /// An empty log that holds messages of up to `bytes_max` bytes.
    pub fn new(clock: Clock, bytes_max: usize) -> Self {
        Self {
            clock,
            bytes_max,
            logs: Mutex::default(),
        }
    }
}

#[cfg(test)]
impl MemoryLog {
    /// Loses everything from `end` on, as a broker may.
    pub(crate) fn lose(&self, topic: TopicIncarnation, end: Offset) {
        self.lose_unseen(topic, end);
        let mut logs = self.logs.lock();
        let log = logs.topic(topic).expect("there is such a log");
        log.ends = watch::Sender::new(vec![end]);
    }

    /// The same, and nobody is told.
    pub(crate) fn lose_unseen(&self, topic: TopicIncarnation, end: Offset) {
        let mut logs = self.logs.lock();
        let log = logs.topic(topic).expect("there is such a log");
        log.batches.retain(|base, _| *base < end);
        log.end = end;
    }
}

impl Logs {
    fn topic(&mut self, topic: TopicIncarnation) -> Result<&mut Messages, StoreError> {
        if self.closed {
            return Err(StoreError::Unavailable("the log is closed".to_owned()));
        }
        self.topics.get_mut(&topic).ok_or(StoreError::NoSuchLog)
    }

    fn partition(
        &mut self,
        topic: TopicIncarnation,
        partition: Partition,
    ) -> Result<&mut Messages, StoreError> {
        if partition == 0 {
            self.topic(topic)
        } else {
            Err(StoreError::NoSuchLog)
        }
    }
}

impl Messages {
    fn bytes(&self) -> usize {
        let batches = self.batches.values();
        batches.map(|batch| batch_bytes(batch.messages())).sum()
    }

    fn start(&self) -> Offset {
        self.batches.keys().next().copied().unwrap_or(self.end)
    }
}

/// With what each message and their batch cost beside its bytes, so that many tiny ones are bounded too.
fn batch_bytes(messages: &[Bytes]) -> usize {
    let messages = messages
        .iter()
        .map(|message| message.len() + size_of::<Bytes>());
    messages.sum::<usize>() + BATCH_OVERHEAD_BYTES
}

#[async_trait]
impl MessageLog for MemoryLog {
    fn backend(&self) -> &'static str {
        "memory"
    }

    async fn check(&self, _patience: Duration) -> Result<(), StoreError> {
        Ok(())
    }

    fn identity(&self) -> String {
        "memory".to_owned()
    }

    fn retention_min(&self) -> Duration {
        Duration::MAX
    }

    fn trims(&self) -> Trims {
        Trims::Anywhere
    }

    async fn attach(&self, _: &str) -> Result<Option<LogLocation>, StoreError> {
        Err(only_own_logs())
    }

    async fn retain(&self, _: &TopicLog, _: Duration) -> Result<(), StoreError> {
        Ok(())
    }

    fn location(&self, _: TopicIncarnation, _: &TopicName) -> LogLocation {
        LogLocation::embedded()
    }

    async fn create(
        &self,
        topic: TopicIncarnation,
        _: &TopicName,
    ) -> Result<LogLocation, StoreError> {
        let mut logs = self.logs.lock();
        logs.topics.entry(topic).or_insert_with(|| Messages {
            ends: watch::Sender::new(vec![0]),
            ..Messages::default()
        });
        logs.topic(topic).map(|_| LogLocation::embedded())
    }

    async fn delete(&self, topic: &TopicLog) -> Result<(), StoreError> {
        let topic = topic.incarnation;
        let mut logs = self.logs.lock();
        if let Some(log) = logs.topics.remove(&topic) {
            logs.bytes -= log.bytes();
        }
        Ok(())
    }

    async fn append(
        &self,
        topic: &TopicLog,
        messages: AcceptedMessages,
    ) -> Result<Vec<AppendedRun>, StoreError> {
        let topic = topic.incarnation;
        let messages = messages.into_messages();
        let bytes = batch_bytes(&messages);
        let mut logs = self.logs.lock();
        let total = logs.bytes + bytes;
        let now = self.clock.now();
        let log = logs.topic(topic)?;
        if messages.is_empty() {
            return Ok(Vec::new());
        }
        if total > self.bytes_max {
            return Err(StoreError::Full(format!(
                "the memory for messages is full ({} bytes at most): acknowledge or delete messages, \
                 or serve from a data directory instead of --ephemeral",
                self.bytes_max
            )));
        }
        let run = AppendedRun {
            partition: 0,
            first: log.end,
            count: messages.len() as u32,
            publish_time: now.max(log.last_time),
        };
        log.last_time = run.publish_time;
        log.end += messages.len() as u64;
        let batch = Batch::of_neighbours(run.first, run.publish_time, messages);
        log.batches.insert(run.first, Arc::new(batch));
        log.ends.send_replace(vec![log.end]);
        logs.bytes = total;
        Ok(vec![run])
    }

    async fn read(
        &self,
        topic: &TopicLog,
        partition: Partition,
        range: Range<Offset>,
        bytes_max: usize,
    ) -> Result<ReadBatch, StoreError> {
        let topic = topic.incarnation;
        let mut logs = self.logs.lock();
        let log = logs.partition(topic, partition)?;
        let first = log
            .batches
            .range(..=range.start)
            .next_back()
            .map_or(range.start, |(base, _)| *base);
        let mut reading = Reading::new(range, bytes_max);
        for (_, batch) in log.batches.range(first..) {
            if !reading.take_batch(batch) {
                break;
            }
        }
        Ok(reading.finish(log.end))
    }

    async fn bounds(&self, topic: &TopicLog) -> Result<Vec<PartitionBounds>, StoreError> {
        let topic = topic.incarnation;
        let mut logs = self.logs.lock();
        let log = logs.topic(topic)?;
        Ok(vec![PartitionBounds {
            partition: 0,
            start: log.start(),
            end: log.end,
        }])
    }

    async fn watch(&self, topic: &TopicLog) -> Result<LogEnds, StoreError> {
        let topic = topic.incarnation;
        let mut logs = self.logs.lock();
        Ok(logs.topic(topic)?.ends.subscribe())
    }

    async fn offset_at(
        &self,
        topic: &TopicLog,
        partition: Partition,
        time: Timestamp,
    ) -> Result<Offset, StoreError> {
        let topic = topic.incarnation;
        let mut logs = self.logs.lock();
        let log = logs.partition(topic, partition)?;
        // Of all offsets the lowest with no older batch at or above it.
        let (mut low, mut high) = (log.start(), log.end);
        while low < high {
            let middle = low + (high - low) / 2;
            match log.batches.range(middle..).next() {
                Some((base, batch)) if batch.record(0).publish_time() < time => low = base + 1,
                _ => high = middle,
            }
        }
        let found = log.batches.range(low..).next();
        Ok(found.map_or(log.end, |(base, _)| *base))
    }

    async fn trim(
        &self,
        topic: &TopicLog,
        partition: Partition,
        done: &[Range<Offset>],
    ) -> Result<Option<Offset>, StoreError> {
        let topic = topic.incarnation;
        let mut logs = self.logs.lock();
        let log = logs.partition(topic, partition)?;
        let (mut freed, mut next) = (0, None);
        let mut steps = TRIM_STEPS_MAX;
        for range in done.iter().filter(|range| range.start < range.end) {
            let inside: Vec<Offset> = log
                .batches
                .range(range.clone())
                .take(steps)
                .filter(|(base, batch)| **base + batch.messages().len() as u64 <= range.end)
                .map(|(base, _)| *base)
                .collect();
            for base in &inside {
                let removed = log.batches.remove(base);
                freed += removed.map_or(0, |batch| batch_bytes(batch.messages()));
            }
            steps = steps.saturating_sub(inside.len() + 1);
            if steps == 0 {
                next = Some(inside.last().map_or(range.end, |last| last + 1));
                break;
            }
        }
        logs.bytes -= freed;
        Ok(next)
    }

    async fn whole_batches(
        &self,
        topic: &TopicLog,
        partition: Partition,
        range: Range<Offset>,
    ) -> Result<Range<Offset>, StoreError> {
        let mut logs = self.logs.lock();
        let log = logs.partition(topic.incarnation, partition)?;
        let around = |offset: Offset| {
            let (base, batch) = log.batches.range(..offset).next_back()?;
            let end = base + batch.messages().len() as u64;
            (end > offset).then_some(*base..end)
        };
        let (first, last) = (around(range.start), around(range.end));
        Ok(first.map_or(range.start, |first| first.start)..last.map_or(range.end, |last| last.end))
    }

    async fn skip_damage(
        &self,
        topic: &TopicLog,
        partition: Partition,
        from: Offset,
    ) -> Result<Offset, StoreError> {
        let topic = topic.incarnation;
        // Memory has no damage to skip.
        self.logs.lock().partition(topic, partition)?;
        Ok(from)
    }

    async fn close(&self) {
        let mut logs = self.logs.lock();
        logs.closed = true;
        logs.topics.clear();
        logs.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use std::{ptr, slice};

    use super::*;
    use crate::store::contract::log::created;

    #[tokio::test]
    async fn readers_share_what_was_appended_together() {
        let (clock, _hand) = Clock::manual(Timestamp::ZERO);
        let log = MemoryLog::new(clock, 3000);
        let topic = created(&log, TopicIncarnation(1)).await;
        let messages = vec![Bytes::from_static(b"m"); 3];
        log.append(&topic, messages.into()).await.expect("append");
        let one = log.read(&topic, 0, 0..2, 99).await.expect("read");
        let other = log.read(&topic, 0, 1..3, 99).await.expect("read");
        let (one, other) = (one.runs[0].batch(), other.runs[0].batch());
        assert!(Arc::ptr_eq(one, other));
        assert!(ptr::eq(one.layouts(), other.layouts()));
    }

    #[tokio::test]
    async fn a_full_memory_refuses_and_says_what_to_do_until_something_is_done() {
        let (clock, _hand) = Clock::manual(Timestamp::ZERO);
        let log = MemoryLog::new(clock, 3000);
        let message = || vec![Bytes::from(vec![0; 1000])];
        let topic = created(&log, TopicIncarnation(1)).await;
        for _ in 0..2 {
            log.append(&topic, message().into()).await.expect("append");
        }
        let error = log
            .append(&topic, message().into())
            .await
            .expect_err("full");
        assert!(matches!(error, StoreError::Full(_)));
        assert!(error.to_string().contains("acknowledge"), "{error}");
        let done = 0..1;
        let more = log.trim(&topic, 0, slice::from_ref(&done)).await;
        assert_eq!(more.expect("trim"), None);
        let runs = log.append(&topic, message().into()).await.expect("append");
        assert_eq!(runs[0].first, 2);
    }

    #[tokio::test]
    async fn what_a_batch_takes_beside_its_messages_counts() {
        let (clock, _hand) = Clock::manual(Timestamp::ZERO);
        let log = MemoryLog::new(clock, 100 * 225);
        let topic = created(&log, TopicIncarnation(1)).await;
        let mut batches = 0;
        while let Ok(runs) = log
            .append(&topic, vec![Bytes::from_static(b"x")].into())
            .await
        {
            batches += 1;
            assert_eq!(runs[0].first + 1, batches);
        }
        assert!((80..=100).contains(&batches), "{batches}");
        let all = 0..batches;
        let next = log.trim(&topic, 0, slice::from_ref(&all)).await;
        assert_eq!(next.expect("trim"), None);
        assert_eq!(log.logs.lock().bytes, 0);
    }
}
