//! All partitions of a subscription: round robin among them, and what requests with ids do in each.

use std::collections::BTreeMap;

use super::{
    change::{PartitionChange, PartitionState},
    chunk::ChunkError,
    exactly_once::lenient,
    frame::Frame,
    input::{ConsumerId, LeaseId},
    output::{Ended, Verdict},
    partition::Partition,
    retry::FailureRules,
    timers::Timers,
};
use crate::clock::Timestamp;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Partitions {
    all: BTreeMap<u32, Partition>,
    /// Under which the subscription is owned.
    epoch: u64,
    is_ordered: bool,
    /// The next frame begins with this partition, or the next one that there is.
    next: u32,
}

impl Partitions {
    /// As they were stored, over a log that ends at `ends`; the second value lists those whose state above the end was
    /// voided.
    pub(super) fn restore(
        now: Timestamp,
        rules: FailureRules,
        states: &[PartitionState],
        ends: &[u64],
        epoch: u64,
        is_ordered: bool,
        timers: &mut Timers,
    ) -> Result<(Self, Vec<u32>), ChunkError> {
        let mut partitions = Self {
            epoch,
            is_ordered,
            ..Self::default()
        };
        let mut voided = Vec::new();
        for state in states {
            let end = ends.get(state.partition as usize).copied();
            let (partition, is_void) =
                Partition::restore(now, rules, state, end, epoch, is_ordered, timers)?;
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
                .or_insert_with(|| Partition::new(id, 1, 0, self.epoch, self.is_ordered))
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
            .filter(|partition| partition.ledger().generation() == lease.generation)
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

    /// Whether something is loaded that this consumer may have and no other.
    pub(super) fn has_own(&self, consumer: ConsumerId) -> bool {
        self.iter().any(|it| it.has_own(consumer))
    }

    /// Messages with ordering keys that were read and wait.
    pub(super) fn waiting(&self) -> usize {
        self.iter().map(Partition::waiting).sum()
    }

    /// Leases and failed messages.
    pub(super) fn outstanding(&self) -> usize {
        let outstanding = |partition: &Partition| partition.ledger().outstanding();
        self.iter().map(outstanding).sum()
    }

    /// Dead letters that are being forwarded.
    pub(super) fn forwards_out(&self) -> usize {
        let forwards = |partition: &Partition| partition.ledger().failed().forwards().out();
        self.iter().map(forwards).sum()
    }

    /// The partitions that may have dead letters to forward, from this one on.
    pub(super) fn with_dead_letters(&self, first: u32) -> Vec<u32> {
        let turns = self.all.range(first..).chain(self.all.range(..first));
        let with = turns.filter(|(_, partition)| partition.has_dead_letters());
        with.map(|(id, _)| *id).collect()
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
        let (mut from, mut has_shared) = (self.next, false);
        for _ in 0..self.all.len() {
            let next = self.all.range(from..).next();
            let Some(id) = next.or(self.all.first_key_value()).map(|(id, _)| *id) else {
                return;
            };
            from = id.checked_add(1).unwrap_or_default();
            let Some(partition) = self.all.get_mut(&id) else {
                return;
            };
            let (before, shared) = (frame.len(), frame.shared());
            let is_full = partition.fill(now, retention_millis, frame, timers);
            // What only this consumer may have takes no turn from what anybody may.
            let gave_shared = frame.shared() < shared;
            if gave_shared || (frame.len() > before && !has_shared) {
                self.next = from;
            }
            has_shared |= gave_shared;
            if is_full {
                return;
            }
        }
    }

    /// What a flush must write; `all`: also what nobody waits for.
    pub(super) fn take_changes(&mut self, all: bool) -> Vec<PartitionChange> {
        self.iter_mut()
            .filter_map(|partition| partition.ledger_mut().take_changes(all))
            .collect()
    }

    /// An expired or superseded id acknowledges too: at-least-once accepts it (docs/behaviour.md, section 8). Of each
    /// id `verdicts` is told what it found.
    pub(super) fn ack(
        &mut self,
        leases: &[LeaseId],
        timers: &mut Timers,
        ended: &mut Vec<Ended>,
        mut verdicts: Option<&mut Vec<Verdict>>,
    ) {
        let follows = |a: &LeaseId, b: &LeaseId| {
            (a.partition, a.generation) == (b.partition, b.generation)
                && a.offset.checked_add(1) == Some(b.offset)
        };
        for run in leases.chunk_by(follows) {
            let partition = self.current(run[0]);
            if let Some(verdicts) = &mut verdicts {
                verdicts.extend(run.iter().map(|lease| judge(partition.as_deref(), *lease)));
            }
            if let Some(partition) = partition {
                let first = run[0].offset;
                let end = first.saturating_add(run.len() as u64);
                partition.ack(first..end, timers, ended);
            }
        }
        for partition in self.iter_mut() {
            partition.advance_cursor();
        }
    }

    /// Moves deadlines to now plus so many milliseconds; 0 ends the lease, which counts as a failed attempt. `is_awaited`:
    /// callers wait until that is stored, and hear what each id found.
    pub(super) fn modify_deadlines(
        &mut self,
        now: Timestamp,
        (rules, is_awaited): (FailureRules, bool),
        changes: Vec<(LeaseId, u64)>,
        timers: &mut Timers,
        ended: &mut Vec<Ended>,
        mut verdicts: Option<&mut Vec<Verdict>>,
    ) {
        for (lease, millis) in changes {
            let mut partition = self.current(lease);
            let is_applied = partition.as_deref_mut().is_some_and(|partition| {
                if !partition.ledger().is_current(lease) {
                    return false;
                }
                let is_applied = if millis > 0 {
                    let deadline = now.plus_millis(millis);
                    partition.ledger_mut().extend(lease, deadline, timers)
                } else {
                    partition.fail(now, rules, lease, timers, ended)
                };
                if is_awaited {
                    partition.ledger_mut().hurry(lease.offset);
                }
                is_applied
            });
            if let Some(verdicts) = &mut verdicts {
                let verdict = if is_applied {
                    Verdict::Applied
                } else {
                    judge(partition.as_deref(), lease)
                };
                verdicts.push(if is_awaited {
                    lenient(lease, verdict)
                } else {
                    verdict
                });
            }
        }
    }

    /// Ends the leases of deliveries that never reached their consumer.
    pub(super) fn give_back(
        &mut self,
        now: Timestamp,
        leases: impl Iterator<Item = LeaseId>,
        timers: &mut Timers,
        ended: &mut Vec<Ended>,
    ) {
        for lease in leases {
            if let Some(partition) = self.current(lease)
                && partition.ledger().is_current(lease)
            {
                partition.give_back(now, lease, timers, ended);
            }
        }
    }
}

/// What a request with this id finds in the partition of its generation.
fn judge(partition: Option<&Partition>, lease: LeaseId) -> Verdict {
    partition.map_or(Verdict::Void, |partition| partition.judge(lease))
}
