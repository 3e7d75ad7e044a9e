//! The log of all topics: several partitions, each a log in memory. It outlives the nodes, which reach it through their
//! gates.

use std::{collections::BTreeMap, ops::Range, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::{
    dice::Dice,
    gate::{APPEND, Gate},
    judge::Judge,
    trace::Trace,
};
use crate::{
    clock::{Clock, Timestamp},
    resource::{
        id::TopicIncarnation,
        message::{AcceptedMessages, Layouts},
        name::TopicName,
    },
    store::{
        MessageLog, StoreError,
        log::{
            AppendedRun, LogEnds, LogLocation, Offset, Partition, PartitionBounds, ReadBatch,
            TopicLog, Trims,
        },
        memory::MemoryLog,
    },
};

/// See the module.
pub(super) struct SharedLog {
    partitions: Vec<MemoryLog>,
    /// One channel for each watcher, as the order in which receivers of one are woken is not ours.
    watchers: Mutex<Vec<(TopicIncarnation, watch::Sender<Vec<Offset>>)>>,
    /// What cannot be read.
    damage: Mutex<BTreeMap<(TopicIncarnation, Partition), Range<Offset>>>,
    judge: Judge,
    dice: Dice,
}

impl SharedLog {
    /// Empty, with room for so many bytes in each partition.
    pub(super) fn new(
        partitions: u32,
        bytes_max: usize,
        clock: &Clock,
        judge: &Judge,
        dice: &Dice,
    ) -> Self {
        let partition = |_| MemoryLog::new(clock.clone(), bytes_max);
        Self {
            partitions: (0..partitions).map(partition).collect(),
            watchers: Mutex::default(),
            damage: Mutex::default(),
            judge: judge.clone(),
            dice: dice.clone(),
        }
    }

    /// Some of what was appended last to a partition cannot be read from now on.
    pub(super) async fn damage(&self, topic: &TopicLog, trace: &Trace) -> Result<(), StoreError> {
        let bounds = self.bounds(topic).await?;
        let PartitionBounds { partition, end, .. } = *self.dice.pick(&bounds);
        let from = end.saturating_sub(self.dice.within(1..=60));
        let damaged = from..(from + self.dice.within(1..=20)).min(end);
        trace.note(format_args!("{partition}/{damaged:?} cannot be read"));
        let place = (topic.incarnation.0, partition);
        self.judge.damaged(place, damaged.clone());
        let place = (topic.incarnation, partition);
        self.damage.lock().insert(place, damaged);
        Ok(())
    }

    /// Everything can be read again.
    pub(super) fn heal(&self) {
        self.damage.lock().clear();
    }

    /// Whether nothing is retained. Otherwise says what is.
    pub(super) async fn is_empty(&self, topic: &TopicLog) -> Result<(), String> {
        let bounds = self
            .bounds(topic)
            .await
            .map_err(|error| error.to_string())?;
        let left = bounds.iter().find(|bounds| bounds.start < bounds.end);
        left.map_or(Ok(()), |left| Err(format!("{left:?}")))
    }

    fn partition(&self, partition: Partition) -> Result<&MemoryLog, StoreError> {
        let partition = self.partitions.get(partition as usize);
        partition.ok_or(StoreError::NoSuchLog)
    }

    fn damaged(
        &self,
        topic: &TopicLog,
        partition: Partition,
        range: &Range<Offset>,
    ) -> Option<Range<Offset>> {
        let damage = self.damage.lock();
        let damage = damage.get(&(topic.incarnation, partition))?;
        let touches = damage.start < range.end && range.start < damage.end;
        touches.then(|| damage.clone())
    }

    async fn bounds(&self, topic: &TopicLog) -> Result<Vec<PartitionBounds>, StoreError> {
        let mut all = Vec::new();
        for (partition, log) in (0..).zip(&self.partitions) {
            let bounds = log.bounds(topic).await?;
            all.extend(bounds.iter().map(|bounds| PartitionBounds {
                partition,
                ..*bounds
            }));
        }
        Ok(all)
    }

    /// Where the partitions end.
    pub(super) async fn ends(&self, topic: &TopicLog) -> Result<Vec<Offset>, StoreError> {
        let bounds = self.bounds(topic).await?;
        Ok(bounds.iter().map(|bounds| bounds.end).collect())
    }

    /// Appends messages; `loses`: those of some partitions perhaps not, and then nobody knows which.
    async fn append(
        &self,
        topic: &TopicLog,
        messages: AcceptedMessages,
        loses: bool,
    ) -> Result<Vec<AppendedRun>, StoreError> {
        let count = self.partitions.len() as u64;
        let keyless = self.dice.within(0..=count - 1) as u32;
        let mut parts: BTreeMap<Partition, Vec<(usize, Bytes)>> = BTreeMap::new();
        for (index, message) in messages.scanned().enumerate() {
            let key = message.ordering_key();
            let sum: u64 = key.iter().map(|byte| u64::from(*byte)).sum();
            let partition = if key.is_empty() {
                keyless
            } else {
                (sum % count) as u32
            };
            let part = parts.entry(partition).or_default();
            part.push((index, messages.messages()[index].clone()));
        }
        let mut lost = false;
        let mut runs = Vec::new();
        for (partition, part) in parts {
            if loses && self.dice.chance(50) {
                lost = true;
                continue;
            }
            let (indexes, part): (Vec<_>, Vec<_>) = part.into_iter().unzip();
            self.append_part(topic, partition, part, &indexes, &mut runs)
                .await?;
        }
        let ends = self.ends(topic).await?;
        let mut watchers = self.watchers.lock();
        watchers.retain(|(_, watcher)| !watcher.is_closed());
        for (_, watcher) in watchers.iter().filter(|it| it.0 == topic.incarnation) {
            watcher.send_replace(ends.clone());
        }
        if lost {
            let text = "some partitions have not answered".to_owned();
            return Err(StoreError::Uncertain(text));
        }
        runs.sort_unstable_by_key(|(index, _)| *index);
        Ok(runs.into_iter().map(|(_, run)| run).collect())
    }

    /// Appends what goes to one partition. `runs`: where each message is, by its index in the request.
    async fn append_part(
        &self,
        topic: &TopicLog,
        partition: Partition,
        part: Vec<Bytes>,
        indexes: &[usize],
        runs: &mut Vec<(usize, AppendedRun)>,
    ) -> Result<(), StoreError> {
        let layouts = Layouts::of(&part);
        let log = self.partition(partition)?;
        let appended = log.append(topic, part.clone().into()).await?;
        let Some(run) = appended.first() else {
            return Ok(());
        };
        let scanned = part.iter().enumerate();
        let scanned = scanned.map(|(index, message)| layouts.message(index, message));
        let place = (topic.incarnation.0, partition);
        self.judge.appended(place, run.first, scanned);
        runs.extend((run.first..).zip(indexes).map(|(first, index)| {
            let run = AppendedRun {
                partition,
                first,
                count: 1,
                publish_time: run.publish_time,
            };
            (*index, run)
        }));
        Ok(())
    }
}

/// The log as a node sees it.
pub(super) struct NodeLog {
    pub(super) shared: Arc<SharedLog>,
    pub(super) gate: Gate,
}

#[async_trait]
impl MessageLog for NodeLog {
    fn backend(&self) -> &'static str {
        "simulated"
    }

    async fn check(&self, _: Duration) -> Result<(), StoreError> {
        Ok(())
    }

    fn identity(&self) -> String {
        "simulated".to_owned()
    }

    fn retention_min(&self) -> Duration {
        Duration::MAX
    }

    fn trims(&self) -> Trims {
        Trims::Anywhere
    }

    fn location(&self, _: TopicIncarnation, _: &TopicName) -> LogLocation {
        LogLocation {
            key_partitions: self.shared.partitions.len() as u32,
            ..LogLocation::embedded()
        }
    }

    async fn create(
        &self,
        topic: TopicIncarnation,
        name: &TopicName,
    ) -> Result<LogLocation, StoreError> {
        for log in &self.shared.partitions {
            log.create(topic, name).await?;
        }
        Ok(self.location(topic, name))
    }

    async fn attach(&self, _: &str) -> Result<Option<LogLocation>, StoreError> {
        Ok(None)
    }

    async fn retain(&self, _: &TopicLog, _: Duration) -> Result<(), StoreError> {
        Ok(())
    }

    async fn delete(&self, _: &TopicLog) -> Result<(), StoreError> {
        Ok(())
    }

    async fn append(
        &self,
        topic: &TopicLog,
        messages: AcceptedMessages,
    ) -> Result<Vec<AppendedRun>, StoreError> {
        let loses = self.gate.is_troubled() && self.shared.dice.chance(10);
        if loses {
            self.shared.judge.append_goes_wrong(0);
        }
        let append = self.shared.append(topic, messages, loses);
        self.gate.store(APPEND, append).await
    }

    async fn read(
        &self,
        topic: &TopicLog,
        partition: Partition,
        range: Range<Offset>,
        bytes_max: usize,
    ) -> Result<ReadBatch, StoreError> {
        let read = async {
            let mut range = range;
            if let Some(damaged) = self.shared.damaged(topic, partition, &range) {
                if damaged.contains(&range.start) {
                    return Err(StoreError::Damaged("a page of the log".to_owned()));
                }
                range.end = damaged.start;
            }
            let log = self.shared.partition(partition)?;
            log.read(topic, 0, range, bytes_max).await
        };
        self.gate.read("read", read).await
    }

    async fn bounds(&self, topic: &TopicLog) -> Result<Vec<PartitionBounds>, StoreError> {
        self.gate.read("bounds", self.shared.bounds(topic)).await
    }

    async fn watch(&self, topic: &TopicLog) -> Result<LogEnds, StoreError> {
        let watch = async {
            let ends = self.shared.ends(topic).await?;
            let (sender, receiver) = watch::channel(ends);
            let watchers = &self.shared.watchers;
            watchers.lock().push((topic.incarnation, sender));
            Ok(receiver)
        };
        self.gate.read("watch", watch).await
    }

    async fn offset_at(
        &self,
        topic: &TopicLog,
        partition: Partition,
        time: Timestamp,
    ) -> Result<Offset, StoreError> {
        let log = self.shared.partition(partition)?;
        let offset = log.offset_at(topic, 0, time);
        self.gate.read("offset_at", offset).await
    }

    async fn trim(
        &self,
        topic: &TopicLog,
        partition: Partition,
        done: &[Range<Offset>],
    ) -> Result<Option<Offset>, StoreError> {
        let log = self.shared.partition(partition)?;
        self.gate.store("trim", log.trim(topic, 0, done)).await
    }

    async fn whole_batches(
        &self,
        topic: &TopicLog,
        partition: Partition,
        range: Range<Offset>,
    ) -> Result<Range<Offset>, StoreError> {
        let log = self.shared.partition(partition)?;
        let whole = log.whole_batches(topic, 0, range);
        self.gate.read("whole_batches", whole).await
    }

    async fn skip_damage(
        &self,
        topic: &TopicLog,
        partition: Partition,
        from: Offset,
    ) -> Result<Offset, StoreError> {
        let range = from..from + 1;
        let damaged = self.shared.damaged(topic, partition, &range);
        Ok(damaged.map_or(from, |damaged| damaged.end))
    }

    async fn close(&self) {}
}
