//! All partitions of a subscription, round robin.

use std::collections::BTreeMap;

use super::{
    change::{PartitionChange, PartitionState},
    chunk::ChunkError,
    frame::Frame,
    input::LeaseId,
    partition::Partition,
    timers::Timers,
};
use crate::clock::Timestamp;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Partitions {
    all: BTreeMap<u32, Partition>,
    /// The next frame begins with this partition, or the next one that there is.
    next: u32,
}

impl Partitions {
    /// As they were stored, over a log that ends at `ends`; the second value lists those whose state above the end was
    /// voided.
    pub(super) fn restore(
        states: &[PartitionState],
        ends: &[u64],
        timers: &mut Timers,
    ) -> Result<(Self, Vec<u32>), ChunkError> {
        let mut partitions = Self::default();
        let mut voided = Vec::new();
        for state in states {
            let end = ends.get(state.partition as usize).copied();
            let (partition, is_void) = Partition::restore(state, end, timers)?;
            if is_void {
                voided.push(state.partition);
            }
            partitions.all.insert(state.partition, partition);
        }
        partitions.see_ends(ends);
        Ok((partitions, voided))
    }

    /// The log now ends here. A partition first seen now is read from its first offset.
    pub(super) fn see_ends(&mut self, ends: &[u64]) {
        for (id, end) in (0..).zip(ends) {
            self.all
                .entry(id)
                .or_insert_with(|| Partition::new(id, 1, 0))
                .see_end(*end);
        }
    }

    pub(super) fn get_mut(&mut self, id: u32) -> Option<&mut Partition> {
        self.all.get_mut(&id)
    }

    /// The partition of a lease, if the lease is of the current generation.
    pub(super) fn current(&mut self, lease: LeaseId) -> Option<&mut Partition> {
        self.all
            .get_mut(&lease.partition)
            .filter(|partition| partition.generation() == lease.generation)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Partition> {
        self.all.values()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Partition> {
        self.all.values_mut()
    }

    /// Messages that could be handed out without reading.
    pub(super) fn ready(&self) -> usize {
        self.iter().map(Partition::ready).sum()
    }

    /// Leases and failed messages.
    pub(super) fn outstanding(&self) -> usize {
        self.iter().map(Partition::outstanding).sum()
    }

    /// Fills a frame from the next partition in order, and from those after it as long as there is room. The next
    /// frame begins behind the last that gave something, so that a busy partition holds up no other.
    pub(super) fn fill(
        &mut self,
        now: Timestamp,
        retention_millis: u64,
        frame: &mut Frame,
        timers: &mut Timers,
    ) {
        let mut from = self.next;
        for _ in 0..self.all.len() {
            let next = self.all.range(from..).next();
            let Some(id) = next.or(self.all.first_key_value()).map(|(id, _)| *id) else {
                return;
            };
            from = id.checked_add(1).unwrap_or_default();
            let Some(partition) = self.all.get_mut(&id) else {
                return;
            };
            let before = frame.len();
            let is_full = partition.fill(now, retention_millis, frame, timers);
            if frame.len() > before {
                self.next = from;
            }
            if is_full {
                return;
            }
        }
    }

    /// What a flush must write; `all`: also what nobody waits for.
    pub(super) fn take_changes(&mut self, all: bool) -> Vec<PartitionChange> {
        self.iter_mut()
            .filter_map(|partition| partition.take_changes(all))
            .collect()
    }
}
