//! One sweep through a topic: what every subscription has done with, or may no longer be given, is deleted.
//!
//! What lies below the first offset that any of them needs goes without a question. Above it are holes, and only the
//! parts of the log in which something was acknowledged are searched for them, piece by piece.

use std::{
    collections::{BTreeMap, VecDeque, btree_map::Entry},
    ops::Range,
};

use rangemap::RangeSet;

use super::{
    activity::Freed, changed::Changed, node::Node, same_log::SameLog, stored::unreadable,
    topic_logs,
};
use crate::{
    engine,
    limits::RETENTION_CHUNKS_MAX,
    resource::id::SubscriptionId,
    store::{
        StoreError,
        log::{Offset, Partition, PartitionBounds, TopicLog, Trims},
        positions::ReadFrom,
        resources::{LogNeeds, LogReader, TopicPhase},
    },
};

/// Whether a sweep goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    More,
    Finished,
}

/// A topic is to be swept again after a while, all of it.
pub(super) fn again() -> Freed {
    Freed {
        bytes: 0,
        changed: Changed::everything(),
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Sweep {
    log: TopicLog,
    partitions: VecDeque<PartitionSweep>,
}

#[derive(Debug)]
struct PartitionSweep {
    partition: Partition,
    /// From which offset on each subscription may need messages.
    needs: BTreeMap<SubscriptionId, Offset>,
    /// What is still to be searched.
    rest: VecDeque<Range<Offset>>,
    /// The last range that was found, which may go on where the next piece begins.
    open: Range<Offset>,
    /// Found, and not deleted yet.
    done: Vec<Range<Offset>>,
    /// Of which log that was said.
    same_log: SameLog,
}

/// Takes care of the state of a topic that has these needs, and finds out what there is to sweep, if anything.
pub(super) async fn begin(
    node: &Node,
    needs: LogNeeds,
    changed: &Changed,
) -> Result<Option<Sweep>, StoreError> {
    let topic = needs.row.incarnation;
    let resources = node.store.resources.as_ref();
    let Some(log) = needs
        .row
        .log()
        .filter(|_| needs.row.phase != TopicPhase::Creating)
    else {
        let finished = topic_logs::finish(resources, node.log.as_ref(), &needs.row).await;
        if let Err(error) = finished {
            tracing::warn!(
                topic = %needs.row.name, %error,
                "a topic that is half made could not be finished; trying again later, unless it is deleted"
            );
            node.activity.add(topic, again(), node.clock.now());
        }
        return Ok(None);
    };
    if needs.row.phase == TopicPhase::Deleted && needs.readers.is_empty() {
        node.log.delete(&log).await?;
        node.agreement.forget(topic);
        resources.forget_topic(topic).await?;
        return Ok(None);
    }
    topic_logs::retain(resources, node.log.as_ref(), topic).await?;
    if node.log.trims() == Trims::Nothing || log.location.attached {
        return Ok(None);
    }
    if !node.agreement.holds(topic) {
        // What changed is not forgotten.
        node.activity.add(topic, again(), node.clock.now());
        return Ok(None);
    }
    // The ends come first: a subscription that begins to be made after them starts at or above them, so that what
    // lies below is decided by those that are seen next. What was published while one was being made is not promised
    // to it.
    let bounds = match node.log.bounds(&log).await {
        Ok(bounds) => bounds,
        // Deleted before its row was forgotten.
        Err(StoreError::NoSuchLog) => return Ok(None),
        Err(error) => return Err(error),
    };
    let Some(needs) = node.store.resources.log_needs(topic).await? else {
        return Ok(None);
    };
    let mut partitions = VecDeque::new();
    for bounds in bounds {
        if bounds.start < bounds.end {
            let sweep = begin_partition(node, &log, bounds, &needs.readers, changed).await?;
            partitions.extend(sweep);
        }
    }
    Ok(Some(Sweep { log, partitions }))
}

/// `None` where nothing may be deleted, as it cannot be told what is needed.
async fn begin_partition(
    node: &Node,
    log: &TopicLog,
    bounds: PartitionBounds,
    readers: &[LogReader],
    changed: &Changed,
) -> Result<Option<PartitionSweep>, StoreError> {
    let Some((needs, same_log)) = needs(node, log, bounds, readers).await? else {
        return Ok(None);
    };
    let lowest = needs.values().copied().min().unwrap_or(bounds.end);
    let lowest = lowest.clamp(bounds.start, bounds.end);
    let prefix = bounds.start..lowest;
    let above = lowest..bounds.end;
    let mut rest = VecDeque::new();
    if changed.is_everything() || node.log.trims() == Trims::Start {
        rest.push_back(above);
    } else {
        for range in changed.ranges(bounds.partition) {
            let range = range.start.max(above.start)..range.end.min(above.end);
            if range.is_empty() {
                continue;
            }
            // A batch of which the first part was acknowledged earlier lies in two ranges.
            let whole = node.log.whole_batches(log, bounds.partition, range).await?;
            rest.push_back(whole.start.max(above.start)..whole.end.min(above.end));
        }
    }
    rest.retain(|range| !range.is_empty());
    Ok(Some(PartitionSweep {
        partition: bounds.partition,
        needs,
        rest,
        done: Vec::from_iter((!prefix.is_empty()).then(|| prefix.clone())),
        open: prefix,
        same_log,
    }))
}

/// From which offset on each subscription may need messages: what lies below is done or has expired. And what tells the
/// log of which that is true. `None` where the log is another one already.
async fn needs(
    node: &Node,
    log: &TopicLog,
    bounds: PartitionBounds,
    readers: &[LogReader],
) -> Result<Option<(BTreeMap<SubscriptionId, Offset>, SameLog)>, StoreError> {
    let mut horizons = BTreeMap::new();
    for reader in readers {
        if let Entry::Vacant(horizon) = horizons.entry(reader.retention) {
            let millis = u64::try_from(reader.retention.as_millis()).unwrap_or(u64::MAX);
            let time = node.clock.now().minus_millis(millis);
            horizon.insert(node.log.offset_at(log, bounds.partition, time).await?);
        }
    }
    let asked: Vec<_> = readers
        .iter()
        .map(|reader| from(reader.subscription, 0))
        .collect();
    let positions = node.store.positions.as_ref();
    let read = positions.positions(&asked, bounds.partition, 0, 1).await?;
    let Some(same_log) = SameLog::of(node, log, bounds, &read.states).await? else {
        return Ok(None);
    };
    let needs = readers.iter().map(|reader| {
        let state = read.states.get(&reader.subscription);
        let cursor = state.map_or(0, |state| state.cursor);
        let horizon = horizons.get(&reader.retention).copied().unwrap_or(0);
        (reader.subscription, cursor.max(horizon))
    });
    Ok(Some((needs.collect(), same_log)))
}

const fn from(subscription: SubscriptionId, offset: Offset) -> ReadFrom {
    ReadFrom {
        subscription,
        offset,
    }
}

impl Sweep {
    /// Deletes some of what was found, or searches the next piece.
    pub(super) async fn turn(&mut self, node: &Node) -> Result<Turn, StoreError> {
        let Some(partition) = self.partitions.front_mut() else {
            return Ok(Turn::Finished);
        };
        if !partition.done.is_empty() {
            match partition.trim(node, &self.log).await {
                Ok(true) => {}
                Ok(false) => {
                    self.partitions.pop_front();
                }
                // The topic was deleted meanwhile.
                Err(StoreError::NoSuchLog) => return Ok(Turn::Finished),
                Err(error) => return Err(error),
            }
        } else if !partition.search(node).await? {
            self.partitions.pop_front();
        }
        Ok(Turn::More)
    }
}

impl PartitionSweep {
    /// Deletes some of what was found. False where that was found out about another log.
    async fn trim(&mut self, node: &Node, log: &TopicLog) -> Result<bool, StoreError> {
        // Each time, as it may have become another one while other topics had their turns.
        if !self.same_log.is_there(node, log).await? {
            return Ok(false);
        }
        match node.log.trim(log, self.partition, &self.done).await? {
            Some(next) => self.skip_to(next),
            None => self.done.clear(),
        }
        Ok(true)
    }

    /// What is done below `offset` has been deleted as far as it can be.
    fn skip_to(&mut self, offset: Offset) {
        let passed = self.done.partition_point(|range| range.end <= offset);
        self.done.drain(..passed);
        if let Some(first) = self.done.first_mut() {
            first.start = first.start.max(offset);
        }
    }

    /// Searches the next piece for what is done; whether there was one.
    async fn search(&mut self, node: &Node) -> Result<bool, StoreError> {
        let Some(range) = self.rest.pop_front() else {
            return Ok(false);
        };
        let asked: Vec<_> = self
            .needs
            .iter()
            .filter(|(_, first)| **first < range.end)
            .map(|(subscription, first)| from(*subscription, range.start.max(*first)))
            .collect();
        let chunks_max = (RETENTION_CHUNKS_MAX / asked.len().max(1)).max(1);
        let positions = node.store.positions.as_ref();
        let read = positions
            .positions(&asked, self.partition, range.end, chunks_max)
            .await?;
        let end = read.complete_to.min(range.end);
        if end <= range.start {
            return Err(StoreError::Damaged("no chunk was read".to_owned()));
        }
        let mut needed = RangeSet::new();
        for asked in &asked {
            let mut needs = RangeSet::new();
            if asked.offset < end {
                needs.insert(asked.offset..end);
            }
            if let Some(state) = read.states.get(&asked.subscription) {
                for done in engine::done(state).map_err(|error| unreadable(&error))? {
                    needs.remove(done);
                }
            }
            needed.extend(needs);
        }
        let mut done = RangeSet::new();
        done.insert(range.start..end);
        for range in needed {
            done.remove(range);
        }
        if self.open.end == range.start && !self.open.is_empty() {
            done.insert(self.open.clone());
        }
        self.done = done.into_iter().collect();
        let last = self.done.last().filter(|last| last.end == end);
        self.open = last.cloned().unwrap_or(end..end);
        // Where only a log's start can be deleted, that ends with the first hole.
        let can_go_on = node.log.trims() == Trims::Anywhere || *self.done == [self.open.clone()];
        if end < range.end && can_go_on {
            self.rest.push_front(end..range.end);
        }
        Ok(true)
    }
}
