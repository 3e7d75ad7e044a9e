//! Advances the filtered subscriptions of a topic that nobody uses: what their filters leave out is done, and would
//! otherwise stay in the log until somebody pulls. The log is read once for all of them, before any of them is taken over,
//! and each is then owned for as long as a flush takes.

use std::{
    collections::{BTreeSet, VecDeque},
    mem,
    ops::Range,
    sync::Arc,
};

use futures_util::{StreamExt as _, stream};

use super::{changed::Changed, command::Skipped, drivers::Drivers, node::Node, sweep::Turn};
use crate::{
    engine::input::LoadedMessage,
    filter::Filter,
    limits::{
        SKIM_BYTES_MAX, SKIM_PARTS_MIN, SKIM_RANGES_MAX, SKIM_READ_BYTES, SKIM_SUBSCRIPTIONS_MAX,
    },
    store::{
        StoreError,
        log::{Offset, Partition, PartitionBounds, ReadBatch, TopicLog, Trims},
        operations::Operation,
        positions::ReadFrom,
        resources::{LogNeeds, SubscriptionRecord, TopicPhase},
    },
};

/// See the module.
#[derive(Debug)]
pub(super) struct Skim {
    log: TopicLog,
    readers: Vec<Reader>,
    /// What is still to be read.
    partitions: VecDeque<PartitionSkim>,
    changed: Changed,
    /// What was read since what was found was stored last.
    bytes: usize,
    ranges: usize,
}

/// A subscription that nobody uses.
#[derive(Debug)]
struct Reader {
    record: Arc<SubscriptionRecord>,
    filter: Arc<Filter>,
    /// What was found and is not stored yet, with how far its partition was searched.
    found: Vec<(Skipped, Offset)>,
}

#[derive(Debug)]
struct PartitionSkim {
    partition: Partition,
    rest: Range<Offset>,
    /// Those of [`Skim::readers`] for which it is searched, with the generation of their state and from where on.
    searches: Vec<Search>,
    last: Option<LoadedMessage>,
}

#[derive(Debug)]
struct Search {
    reader: usize,
    generation: u32,
    from: Offset,
    found: Vec<Range<Offset>>,
}

/// Finds out what there is to skim of a topic that has these needs; gives `changed` back if that is nothing.
pub(super) async fn begin(
    node: &Node,
    needs: &LogNeeds,
    changed: Changed,
) -> Result<Result<Skim, Changed>, StoreError> {
    let filtered = needs.readers.iter().filter_map(|it| it.filtered.as_ref());
    let Some(log) = needs.row.log().filter(|_| {
        let exists = needs.row.phase != TopicPhase::Creating;
        exists && filtered.clone().next().is_some()
    }) else {
        return Ok(Err(changed));
    };
    // Where nothing is deleted, a consumer is only spared the way.
    let trims = node.log.trims() != Trims::Nothing && !log.location.attached;
    if !(trims || changed.is_everything()) || !node.membership.holds() {
        return Ok(Err(changed));
    }
    let known = needs.readers.iter().map(|reader| reader.subscription);
    node.skimmed
        .retain(log.incarnation, &known.collect::<BTreeSet<_>>());
    let mut readers = Vec::new();
    for name in filtered {
        let Some(record) = node.resources.subscription(name).await? else {
            continue;
        };
        let is_idle = !node.registry.is_running(record.id);
        if let Some(filter) = &record.subscription.filter
            && is_idle
            && record.log.incarnation == log.incarnation
        {
            readers.push(Reader {
                filter: Arc::clone(filter),
                record,
                found: Vec::new(),
            });
        }
    }
    if readers.is_empty() {
        return Ok(Err(changed));
    }
    let bounds = match node.log.bounds(&log).await {
        Ok(bounds) => bounds,
        Err(StoreError::NoSuchLog) => return Ok(Err(changed)),
        Err(error) => return Err(error),
    };
    let mut partitions = VecDeque::new();
    for bounds in bounds {
        let searches = searches(node, &log, bounds, &readers, &changed).await?;
        if let Some(from) = searches.iter().map(|search| search.from).min() {
            partitions.push_back(PartitionSkim {
                partition: bounds.partition,
                rest: from..bounds.end,
                searches,
                last: None,
            });
        }
    }
    if partitions.is_empty() {
        return Ok(Err(changed));
    }
    Ok(Ok(Skim {
        log,
        readers,
        partitions,
        changed,
        bytes: 0,
        ranges: 0,
    }))
}

/// For whom a partition is worth searching. To store what is found costs in proportion to what a subscription's state
/// has above its cursor, so that it has to grow by a part of that.
async fn searches(
    node: &Node,
    log: &TopicLog,
    bounds: PartitionBounds,
    readers: &[Reader],
    changed: &Changed,
) -> Result<Vec<Search>, StoreError> {
    let asked: Vec<_> = readers
        .iter()
        .map(|reader| ReadFrom {
            subscription: reader.record.id,
            offset: 0,
        })
        .collect();
    let positions = node.store.positions.as_ref();
    let read = positions.positions(&asked, bounds.partition, 0, 1).await?;
    let mut searches = Vec::new();
    for (index, reader) in readers.iter().enumerate() {
        let id = reader.record.id;
        let Some(state) = read.states.get(&id) else {
            // Of a partition that nobody has read for it yet, nothing is known.
            continue;
        };
        let at = (state.generation, state.cursor);
        let partition = (id, bounds.partition);
        let reached = node.skimmed.searched(log.incarnation, partition, at);
        let from = reached.max(bounds.start);
        let least = (from - state.cursor.min(from)) / SKIM_PARTS_MIN;
        if from < bounds.end && (changed.is_everything() || bounds.end - from >= least) {
            searches.push(Search {
                reader: index,
                generation: state.generation,
                from,
                found: Vec::new(),
            });
        }
    }
    Ok(searches)
}

impl Skim {
    /// Where something may be deleted now.
    pub(super) fn into_changed(self) -> Changed {
        self.changed
    }

    /// Reads some of the log, or stores what was found.
    pub(super) async fn turn(&mut self, drivers: &Drivers) -> Result<Turn, StoreError> {
        let is_much = self.bytes >= SKIM_BYTES_MAX || self.ranges >= SKIM_RANGES_MAX;
        let Some(partition) = self.partitions.front_mut().filter(|_| !is_much) else {
            self.store(drivers).await;
            return Ok(if self.partitions.is_empty() {
                Turn::Finished
            } else {
                Turn::More
            });
        };
        let range = partition.rest.clone();
        let read = drivers.node.log.read(
            &self.log,
            partition.partition,
            range.clone(),
            SKIM_READ_BYTES,
        );
        let read = read.await;
        drivers
            .node
            .operations
            .note(Operation::Read, read.as_ref().err());
        let read = match read {
            Ok(read) if read.answers(&range) && read.next > range.start => Some(read),
            // What is damaged, or not there yet, is left to those who pull.
            Ok(_) | Err(StoreError::Damaged(_) | StoreError::NoSuchLog) => None,
            Err(error) => return Err(error),
        };
        if let Some(read) = &read {
            for search in &mut partition.searches {
                search.take_in(read, &self.readers[search.reader].filter);
                // Many filters over many messages are not to hold others up.
                tokio::task::yield_now().await;
            }
            let messages = || read.records().map(|record| record.message().len());
            self.bytes += messages().sum::<usize>();
            partition.take_last(read);
            partition.rest.start = read.next;
        }
        self.gather(&drivers.node);
        if read.is_none() || self.partitions[0].rest.is_empty() {
            self.partitions.pop_front();
        }
        Ok(Turn::More)
    }

    /// Moves what was found in the first partition to the subscriptions that it is for.
    fn gather(&mut self, node: &Node) {
        let partition = &mut self.partitions[0];
        for search in &mut partition.searches {
            let offsets = mem::take(&mut search.found);
            self.ranges += offsets.len();
            let reader = &mut self.readers[search.reader];
            let same = reader.found.last_mut();
            if let Some((skipped, to)) = same.filter(|it| it.0.partition == partition.partition) {
                skipped.offsets.extend(offsets);
                skipped.last.clone_from(&partition.last);
                *to = search.from;
                continue;
            }
            if offsets.is_empty() {
                let partition = (reader.record.id, partition.partition);
                let searched = (search.generation, search.from);
                node.skimmed.note(self.log.incarnation, partition, searched);
                continue;
            }
            let skipped = Skipped {
                partition: partition.partition,
                generation: search.generation,
                offsets,
                last: partition.last.clone(),
            };
            reader.found.push((skipped, search.from));
        }
    }

    /// Stores what was found. What cannot be stored is found again the next time.
    async fn store(&mut self, drivers: &Drivers) {
        let found = self.readers.iter_mut().filter_map(|reader| {
            let found = mem::take(&mut reader.found);
            (!found.is_empty()).then(|| (Arc::clone(&reader.record), found))
        });
        let found: Vec<_> = found.collect();
        let topic = self.log.incarnation;
        let stored = stream::iter(found).map(|(record, found)| async move {
            let skipped = found.iter().map(|(skipped, _)| skipped.clone());
            let result = drivers.skip(&record, skipped.collect()).await;
            (record, found, result)
        });
        let mut stored = stored.buffer_unordered(SKIM_SUBSCRIPTIONS_MAX);
        while let Some((record, found, result)) = stored.next().await {
            if let Err(error) = result {
                tracing::debug!(subscription = %record.subscription.name, %error, "nothing was skipped");
                continue;
            }
            for (skipped, to) in found {
                let partition = (record.id, skipped.partition);
                let searched = (skipped.generation, to);
                drivers.node.skimmed.note(topic, partition, searched);
                for offsets in skipped.offsets {
                    self.changed.note_range(skipped.partition, offsets);
                }
            }
        }
        self.bytes = 0;
        self.ranges = 0;
    }
}

impl Search {
    /// Adds what of a read does not match, and what has no record.
    fn take_in(&mut self, read: &ReadBatch, filter: &Filter) {
        let mut from = self.from;
        for record in read.records() {
            let offset = record.offset();
            let message = record.scanned();
            if offset >= self.from && filter.matches(|name| message.attribute(name)) {
                self.found.extend((from < offset).then_some(from..offset));
                from = offset + 1;
            }
        }
        self.found
            .extend((from < read.next).then_some(from..read.next));
        self.from = self.from.max(read.next);
    }
}

impl PartitionSkim {
    fn take_last(&mut self, read: &ReadBatch) {
        if let Some(last) = read.records().last() {
            self.last = Some(LoadedMessage {
                offset: last.offset(),
                publish_time: last.publish_time(),
                key: None,
                body: last.message().clone(),
            });
        }
    }
}
