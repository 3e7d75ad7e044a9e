//! Compares a subscription's state with its log before the subscription is delivered from here: up to where the log
//! still has what the state speaks of.

use std::collections::HashSet;

use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _, future::try_join, stream};

use super::{
    marks::{AllMarks, Mark, Marks},
    stored::unreadable,
};
use crate::{
    engine::{self, change::PartitionState},
    limits::COMPARED_PARTITIONS_MAX,
    store::{
        MessageLog, StoreError,
        log::{Comparison, KnownRecord, Offset, TopicLog},
    },
};

/// What a comparison found.
#[derive(Debug, Default)]
pub(super) struct Compared {
    /// Per partition: what the state says of offsets from here on is void. Where the log ends, if it is as it was.
    pub(super) valid: Vec<Offset>,
    /// What is left of the marks.
    pub(super) marks: AllMarks,
}

/// How much is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Thoroughness {
    /// The highest mark, and the one with which the log was last found to be the same. If that one is as it was, from
    /// the highest down to the first that is, else all marks.
    Top,
    /// All marks: messages may have been read after the log changed, and before that was noticed.
    All,
}

/// Compares each partition of a state with the log, which ends at `ends`.
pub(super) async fn compare(
    log: &dyn MessageLog,
    topic: &TopicLog,
    states: &[PartitionState],
    ends: &[Offset],
    how: Thoroughness,
) -> Result<Compared, StoreError> {
    let mut partitions = Vec::with_capacity(states.len());
    let (mut tops, mut befores) = (Vec::new(), Vec::new());
    for state in states {
        let partition = Partition {
            log,
            topic,
            id: state.partition,
            seen: engine::seen(state).map_err(|error| unreadable(&error))?,
            end: ends.get(state.partition as usize).copied(),
        };
        let marks = Marks::stored(state);
        if how == Thoroughness::Top
            && let Some(top) = partition.top(&marks)
        {
            tops.push(top.record(partition.id));
            let before = marks.compared_below(top);
            befores.extend(before.map(|mark| mark.record(partition.id)));
        }
        partitions.push((partition, marks));
    }
    // All at once, as most logs are as they were.
    let (tops, befores) = try_join(
        partitions_with(log, topic, &tops, Comparison::Same),
        partitions_with(log, topic, &befores, Comparison::Other),
    )
    .await?;
    let each = partitions.into_iter().map(|(partition, marks)| {
        let is_other = befores.contains(&partition.id);
        let is_same = tops.contains(&partition.id) && !is_other;
        let how = if is_other { Thoroughness::All } else { how };
        partition.compare(marks, is_same, how).boxed()
    });
    let each: Vec<_> = each.collect();
    let each: Vec<ComparedPartition> = stream::iter(each)
        .buffer_unordered(COMPARED_PARTITIONS_MAX)
        .try_collect()
        .await?;
    // Where a topic was made again, with fewer partitions, those that are missing do not just show later.
    let made_again = each.iter().any(|one| one.valid == Some(0) && one.seen > 0);
    let mut compared = Compared {
        valid: ends.to_vec(),
        marks: AllMarks::default(),
    };
    for mut one in each {
        if let Some(valid) = one.valid.or(made_again.then_some(0)) {
            one.marks.cut(valid, valid < one.seen);
            let index = one.partition as usize;
            if compared.valid.len() <= index {
                // Of those between there is no state that this would say something of.
                compared.valid.resize(index + 1, 0);
            }
            compared.valid[index] = valid;
        }
        compared.marks.insert(one.partition, one.marks);
    }
    Ok(compared)
}

/// The partitions of those of these records that compare so.
async fn partitions_with(
    log: &dyn MessageLog,
    topic: &TopicLog,
    records: &[KnownRecord],
    comparison: Comparison,
) -> Result<HashSet<u32>, StoreError> {
    if records.is_empty() {
        return Ok(HashSet::new());
    }
    let compared = log.compare(topic, records).await?;
    let compared = records.iter().zip(compared);
    let such = compared.filter(|(_, compared)| *compared == comparison);
    Ok(such.map(|(record, _)| record.partition).collect())
}

/// What the comparison of one partition found.
struct ComparedPartition {
    partition: u32,
    seen: Offset,
    marks: Marks,
    /// `None` where the log does not show the partition.
    valid: Option<Offset>,
}

/// A partition of whose offsets below `seen` a state speaks.
struct Partition<'a> {
    log: &'a dyn MessageLog,
    topic: &'a TopicLog,
    id: u32,
    seen: Offset,
    end: Option<Offset>,
}

impl Partition<'_> {
    /// The highest mark, if the log still has its offset.
    fn top(&self, marks: &Marks) -> Option<Mark> {
        let top = marks.below(self.seen).next()?;
        (top.offset < self.end?).then_some(top)
    }

    /// `is_same`: the records that were asked about are what they were.
    async fn compare(
        self,
        marks: Marks,
        is_same: bool,
        how: Thoroughness,
    ) -> Result<ComparedPartition, StoreError> {
        let (marks, valid) = match self.end {
            None => (marks, None),
            Some(end) if is_same => (marks, Some(end)),
            Some(end) if marks.is_empty() => (self.first_mark(end).await?, Some(end)),
            Some(end) => {
                let valid = self.valid(&marks, end, how).await?;
                (marks, Some(valid))
            }
        };
        Ok(ComparedPartition {
            partition: self.id,
            seen: self.seen,
            marks,
            valid,
        })
    }

    /// Up to where the state is valid over a log that ends at `end`.
    async fn valid(
        &self,
        marks: &Marks,
        end: Offset,
        how: Thoroughness,
    ) -> Result<Offset, StoreError> {
        let mut differs = false;
        let mut valid = None;
        for mark in marks.below(self.seen) {
            match self.comparison(mark, end).await? {
                Comparison::Same if valid.is_none() => {
                    valid = Some(if differs { mark.offset + 1 } else { end });
                    if how == Thoroughness::Top {
                        break;
                    }
                }
                Comparison::Other => {
                    differs = true;
                    // What matches above it was read from the log that the topic has by now.
                    valid = None;
                }
                Comparison::Same | Comparison::Unreadable => {}
            }
        }
        Ok(valid.unwrap_or(if differs { 0 } else { end }).min(end))
    }

    async fn comparison(&self, mark: Mark, end: Offset) -> Result<Comparison, StoreError> {
        if mark.offset >= end {
            return Ok(Comparison::Other);
        }
        let record = [mark.record(self.id)];
        let compared = self.log.compare(self.topic, &record).await?;
        Ok(compared.first().copied().unwrap_or(Comparison::Unreadable))
    }

    /// The first mark of a state that has none yet: of the last record below its end.
    async fn first_mark(&self, end: Offset) -> Result<Marks, StoreError> {
        let mut marks = Marks::default();
        if let Some(last) = self.seen.checked_sub(1).filter(|last| *last < end) {
            match self.mark_at(last).await {
                Ok(mark) => mark.into_iter().for_each(|mark| marks.add(mark)),
                Err(StoreError::Damaged(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(marks)
    }

    async fn mark_at(&self, offset: Offset) -> Result<Option<Mark>, StoreError> {
        let range = offset..offset + 1;
        let read = self.log.read(self.topic, self.id, range, 1);
        let read = read.await?;
        let mut records = read.records().filter(|record| record.offset() == offset);
        Ok(records
            .next()
            .map(|record| Mark::new(offset, record.publish_time(), record.message())))
    }
}

#[cfg(test)]
mod tests {
    use std::{slice, time::Duration};

    use bytes::Bytes;

    use super::*;
    use crate::{
        clock::{Clock, ManualClock, Timestamp},
        engine::{change::PartitionChange, input::LoadedMessage},
        resource::{id::TopicIncarnation, name::TopicName},
        store::{log::LogLocation, memory::MemoryLog},
    };

    /// A log of one partition, and what was stored of a subscription that reads it.
    struct World {
        log: MemoryLog,
        hand: ManualClock,
        topic: TopicLog,
        marks: AllMarks,
    }

    impl World {
        async fn new() -> Self {
            let (clock, hand) = Clock::manual(Timestamp::from_millis(1_000_000));
            let log = MemoryLog::new(clock, usize::MAX);
            let incarnation = TopicIncarnation(1);
            let name = TopicName::parse("name", "projects/p/topics/top").expect("valid");
            log.create(incarnation, &name).await.expect("made");
            Self {
                log,
                hand,
                topic: TopicLog {
                    incarnation,
                    location: LogLocation::embedded().into(),
                },
                marks: AllMarks::default(),
            }
        }

        /// Appends so many messages, one after the other, in a second of their own.
        async fn append(&self, count: usize) {
            self.hand.advance(Duration::from_secs(1));
            let base = self.end().await;
            for at in 0..count {
                let message = format!("\x0a\x0a{base:06}{at:04}");
                let appended = self
                    .log
                    .append(&self.topic, vec![Bytes::from(message)].into());
                appended.await.expect("appended");
            }
        }

        async fn end(&self) -> Offset {
            self.log.bounds(&self.topic).await.expect("bounds")[0].end
        }

        /// Reads these, each in a read of its own, and remembers so.
        async fn read(&mut self, offsets: impl IntoIterator<Item = Offset>) {
            for offset in offsets {
                let read = self.log.read(&self.topic, 0, offset..offset + 1, 1);
                let read = read.await.expect("read");
                let messages = read.records().map(|record| LoadedMessage {
                    offset,
                    publish_time: record.publish_time(),
                    key: None,
                    body: record.message().clone(),
                });
                self.marks.read(0, &messages.collect::<Vec<_>>());
            }
        }

        /// The log is found to be the same.
        fn compared(&mut self) {
            self.marks.start_comparing();
            self.marks.ended_comparing(true);
        }

        /// Up to where a state is valid in which everything below `cursor` is done.
        async fn valid(&mut self, cursor: Offset, how: Thoroughness) -> Offset {
            let mut changes = [PartitionChange {
                partition: 0,
                generation: 1,
                cursor,
                put: Vec::new(),
                delete: Vec::new(),
                retain: Vec::new(),
                release: Vec::new(),
            }];
            self.marks.add_to(&mut changes);
            self.marks.were_not_stored();
            let [change] = changes;
            let state = PartitionState {
                partition: 0,
                generation: 1,
                cursor,
                chunks: Vec::new(),
                retained: change.retain,
            };
            let ends = [self.end().await];
            let states = [state];
            let compared = compare(&self.log, &self.topic, &states, &ends, how);
            compared.await.expect("compared").valid[0]
        }
    }

    const HOWS: [Thoroughness; 2] = [Thoroughness::Top, Thoroughness::All];

    #[tokio::test]
    async fn a_log_that_only_grew_is_the_same() {
        let mut world = World::new().await;
        world.append(500).await;
        world.read(0..500).await;
        world.append(500).await;
        for how in HOWS {
            assert_eq!(world.valid(400, how).await, 1_000);
            assert_eq!(world.valid(500, how).await, 1_000);
        }
    }

    #[tokio::test]
    async fn what_lies_above_the_last_record_that_matches_is_void() {
        let mut world = World::new().await;
        world.append(500).await;
        world.read(0..500).await;
        world.log.lose(world.topic.incarnation, 300);
        for how in HOWS {
            let valid = world.valid(500, how).await;
            assert!((1..=300).contains(&valid), "{valid} before others came");
        }
        world.append(700).await;
        for how in HOWS {
            let valid = world.valid(500, how).await;
            assert!((1..=300).contains(&valid), "{valid} when others lie there");
            assert!(world.valid(1, how).await >= 1, "what was lost was not seen");
        }
    }

    #[tokio::test]
    async fn nothing_is_valid_of_a_log_that_was_made_again() {
        let mut world = World::new().await;
        world.append(500).await;
        world.read(0..500).await;
        world.log.lose(world.topic.incarnation, 0);
        world.append(3).await;
        for how in HOWS {
            assert_eq!(world.valid(500, how).await, 0);
        }
        world.append(600).await;
        for how in HOWS {
            assert_eq!(world.valid(500, how).await, 0);
        }
    }

    #[tokio::test]
    async fn a_record_that_retention_has_removed_says_nothing() {
        let mut world = World::new().await;
        world.append(500).await;
        world.read(0..500).await;
        world.append(1).await;
        let done = 0..500;
        let trimmed = world.log.trim(&world.topic, 0, slice::from_ref(&done));
        trimmed.await.expect("trimmed");
        for how in HOWS {
            assert_eq!(world.valid(500, how).await, 501);
        }
    }

    #[tokio::test]
    async fn all_marks_tell_what_was_read_before_anybody_noticed() {
        let mut world = World::new().await;
        world.append(500).await;
        world.read(0..500).await;
        world.log.lose(world.topic.incarnation, 300);
        world.append(400).await;
        // The reader went on where it was.
        world.read(500..700).await;
        assert_eq!(world.valid(700, Thoroughness::Top).await, 700);
        let valid = world.valid(700, Thoroughness::All).await;
        assert!((1..=300).contains(&valid), "{valid}");
    }

    #[tokio::test]
    async fn what_was_read_on_in_another_log_since_the_last_comparison_is_no_proof() {
        for (lost_to, valid_at_most) in [(0, 0), (300, 300)] {
            let mut world = World::new().await;
            world.append(500).await;
            world.read(0..500).await;
            world.compared();
            world.log.lose(world.topic.incarnation, lost_to);
            world.append(700).await;
            world.read(500..700).await;
            let valid = world.valid(700, Thoroughness::Top).await;
            assert!(valid <= valid_at_most, "{valid} of {lost_to} that are left");
        }
    }

    #[tokio::test]
    async fn a_state_without_marks_gets_its_first() {
        let mut world = World::new().await;
        world.append(5).await;
        let state = PartitionState {
            partition: 0,
            generation: 1,
            cursor: 5,
            chunks: Vec::new(),
            retained: Vec::new(),
        };
        let states = [state];
        let compared = compare(&world.log, &world.topic, &states, &[5], Thoroughness::Top);
        let compared = compared.await.expect("compared");
        assert_eq!(compared.valid, [5]);
        world.marks = compared.marks;
        world.log.lose(world.topic.incarnation, 2);
        world.append(9).await;
        assert_eq!(world.valid(5, Thoroughness::Top).await, 0);
    }
}
