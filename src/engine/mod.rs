//! Delivery of one subscription as a pure state machine: events and the time in, commands out.
//!
//! It holds no IO, no clock, no task and no randomness, so that every rule can be tried by simulated steps. Its
//! host (`delivery::driver`) carries the commands out and obeys one order: store, then speak. What
//! [`Engine::take_changes`] gives is made durable before anybody hears that an ack succeeded. Leases are the
//! exception (at-least-once): they are stored a little later, so that a crash may deliver a message early again.
//!
//! Methods by kind: [`Engine::restore`] makes one; [`Engine::handle`] takes an event and the
//! time; [`Engine::take_changes`] and [`Engine::next_deadline`] are asked after each.

pub mod ack_id;
pub mod change;
mod chunk;
mod flow;
pub mod input;
pub mod output;
mod partition;
mod persist;
mod timers;
mod varint;

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, mem};

pub use chunk::ChunkError;
pub use persist::done;

use change::{PartitionChange, PartitionState};
use flow::{Flow, Portion};
use input::{Config, Input, LeaseId};
use output::{Delivery, Output};
use partition::{Lease, Partition};
use timers::Timers;

use crate::{
    clock::Timestamp,
    limits::{
        DELIVERY_BYTES_MAX, DELIVERY_MESSAGES_MAX, LEASE_FLUSH_MILLIS, OUTSTANDING_MAX,
        READ_RETRY_MILLIS, SKIP_FLUSH_MILLIS,
    },
};

/// Bytes that a message takes in a frame besides its own: ack id, message id, publish time and framing.
const MESSAGE_OVERHEAD_BYTES: usize = 256;

/// What a subscription does next. See the module.
#[derive(Debug)]
pub struct Engine {
    config: Config,
    partitions: BTreeMap<u32, Partition>,
    flow: Flow,
    timers: Timers,
    /// When what nobody waits for is stored, if something of that kind changed.
    lazy_flush_at: Option<Timestamp>,
    flush_in_flight: bool,
    /// The time of the last event.
    handled_at: Timestamp,
    /// Something could not be read just now, and whoever waits has not been told.
    damage_met: bool,
    /// Leases that just ended, whose credit goes back.
    ended: Vec<Lease>,
}

impl Engine {
    /// The engine of a subscription whose state was stored as `states`, over a log that ends at `ends`.
    ///
    /// The second value lists the partitions whose log ends below what was seen before: their state above the
    /// end was voided under a new generation.
    pub fn restore(
        config: Config,
        states: &[PartitionState],
        ends: &[u64],
    ) -> Result<(Self, Vec<u32>), ChunkError> {
        let mut engine = Self {
            config,
            partitions: BTreeMap::new(),
            flow: Flow::default(),
            timers: Timers::default(),
            lazy_flush_at: None,
            flush_in_flight: false,
            handled_at: Timestamp::ZERO,
            damage_met: false,
            ended: Vec::new(),
        };
        let mut voided = Vec::new();
        for state in states {
            let end = ends.get(state.partition as usize).copied();
            let (partition, is_void) = Partition::restore(state, end, &mut engine.timers)?;
            if is_void {
                voided.push(state.partition);
            }
            engine.partitions.insert(state.partition, partition);
        }
        engine.see_ends(ends);
        Ok((engine, voided))
    }

    /// Takes an event in. Commands are added to `out`, in the order in which they are to be carried out.
    pub fn handle(&mut self, now: Timestamp, input: Input, out: &mut Vec<Output>) {
        self.handled_at = now;
        self.pass_time(now);
        self.apply(now, input);
        self.release_credit();
        self.dispatch(now, out);
        self.start_reads(now, out);
        self.answer_pulls(now, out);
        self.plan_lazy_flush(now);
    }

    /// What has to be written now, if anything; `all`: also what may wait. One flush at a time: the next call
    /// gives nothing until [`Input::Flushed`] came.
    pub fn take_changes(&mut self, now: Timestamp, all: bool) -> Option<Vec<PartitionChange>> {
        if self.flush_in_flight {
            return None;
        }
        let all = all || self.lazy_flush_at.is_some_and(|time| time <= now);
        let changes: Vec<_> = self
            .partitions
            .values_mut()
            .filter_map(|partition| partition.take_changes(all))
            .collect();
        if all {
            self.lazy_flush_at = None;
        }
        self.flush_in_flight = !changes.is_empty();
        (!changes.is_empty()).then_some(changes)
    }

    /// When [`Input::Tick`] is due, or [`Engine::take_changes`] has something, if nothing else comes before.
    pub fn next_deadline(&self, now: Timestamp) -> Option<Timestamp> {
        let flush = self.lazy_flush_at.filter(|_| !self.flush_in_flight);
        // What came due between the last event and now must not be overlooked.
        let handled_at = self.handled_at.min(now);
        let partitions = self
            .partitions
            .values()
            .filter_map(|partition| partition.next_deadline(handled_at));
        partitions.chain(self.timers.next()).chain(flush).min()
    }

    /// Whether no consumer is here, nothing is outstanding and everything is stored.
    pub fn is_idle(&self) -> bool {
        self.flow.is_empty()
            && !self.flush_in_flight
            && self
                .partitions
                .values()
                .all(|partition| partition.leases.is_empty() && !partition.dirty.is_any())
    }

    /// Delivered messages whose lease has not ended.
    pub fn outstanding(&self) -> usize {
        self.partitions
            .values()
            .map(|partition| partition.leases.len())
            .sum()
    }

    fn pass_time(&mut self, now: Timestamp) {
        while let Some((tick, entries)) = self.timers.pop(now) {
            for due in entries {
                if let Some(partition) = self.partitions.get_mut(&due.partition) {
                    let late = partition.expire(now, tick, due.offsets, &mut self.timers);
                    self.ended.extend(late);
                }
            }
        }
        for partition in self.partitions.values_mut() {
            partition.release_delayed(now);
        }
    }

    fn apply(&mut self, now: Timestamp, input: Input) {
        match input {
            Input::LogEnds(ends) => self.see_ends(&ends),
            Input::Loaded {
                partition,
                from,
                next,
                messages,
            } => {
                let retention = self.config.retention_millis;
                if let Some(partition) = self.partitions.get_mut(&partition) {
                    partition.loaded(now, retention, from, next, messages);
                    if next <= from {
                        // The log had nothing where it should have; asking at once would spin.
                        partition.read_failed(now.plus_millis(READ_RETRY_MILLIS));
                    }
                }
            }
            Input::ReadFailed {
                partition,
                retry_at,
            } => {
                if let Some(partition) = self.partitions.get_mut(&partition) {
                    partition.read_failed(retry_at);
                }
            }
            Input::Damaged {
                partition,
                from,
                until,
                retry_at,
            } => {
                self.damage_met = true;
                if let Some(partition) = self.partitions.get_mut(&partition) {
                    partition.damaged(from..until, retry_at);
                }
            }
            Input::Open { consumer, demand } => self.flow.open(consumer, demand),
            Input::Room { consumer, frames } => self.flow.set_room(consumer, frames),
            Input::StreamDeadline {
                consumer,
                ack_deadline_millis,
            } => self.flow.set_ack_deadline(consumer, ack_deadline_millis),
            Input::Close { consumer } => self.flow.close(consumer),
            Input::Ack(leases) => self.ack(&leases),
            Input::ModifyDeadline(changes) => self.modify_deadlines(now, changes),
            Input::Returned(leases) => {
                for lease in leases {
                    self.give_back(now, lease, false);
                }
            }
            Input::Configure(config) => self.config = config,
            Input::Flushed { stored } => {
                self.flush_in_flight = false;
                for partition in self.partitions.values_mut() {
                    partition.dirty.flushed(stored);
                }
            }
            Input::Tick => {}
        }
    }

    /// A partition first seen now is read from its first offset.
    fn see_ends(&mut self, ends: &[u64]) {
        for (id, end) in (0..).zip(ends) {
            self.partitions
                .entry(id)
                .or_insert_with(|| Partition::new(id, 1, 0))
                .set_end(*end);
        }
    }

    /// Gives the credit of leases that ended back, at once to each consumer for its neighbours.
    fn release_credit(&mut self) {
        for leases in self.ended.chunk_by(|a, b| a.consumer == b.consumer) {
            if let Some(consumer) = leases[0].consumer {
                let bytes = leases.iter().map(|lease| lease.bytes).sum();
                self.flow.release(consumer, leases.len() as u64, bytes);
            }
        }
        self.ended.clear();
    }

    /// The partition of a lease, if the lease is of the current generation.
    fn current(&mut self, lease: LeaseId) -> Option<&mut Partition> {
        self.partitions
            .get_mut(&lease.partition)
            .filter(|partition| partition.generation == lease.generation)
    }

    /// An expired or superseded id acknowledges too: at-least-once accepts it (docs/behaviour.md, section 8).
    fn ack(&mut self, leases: &[LeaseId]) {
        let follows = |a: &LeaseId, b: &LeaseId| {
            (a.partition, a.generation, a.offset + 1) == (b.partition, b.generation, b.offset)
        };
        let mut ended = mem::take(&mut self.ended);
        for run in leases.chunk_by(follows) {
            if let (first, Some(partition)) = (run[0], self.current(run[0])) {
                partition.ack(first.offset..first.offset + run.len() as u64, &mut ended);
            }
        }
        self.ended = ended;
        for partition in self.partitions.values_mut() {
            partition.advance_cursor();
        }
    }

    fn modify_deadlines(&mut self, now: Timestamp, changes: Vec<(LeaseId, u64)>) {
        for (lease, millis) in changes {
            if millis == 0 {
                self.give_back(now, lease, true);
                continue;
            }
            if let Some(partition) = self
                .partitions
                .get_mut(&lease.partition)
                .filter(|partition| partition.generation == lease.generation)
            {
                let deadline = now.plus_millis(millis);
                partition.extend(lease.offset, lease.number, deadline, &mut self.timers);
            }
        }
    }

    fn give_back(&mut self, now: Timestamp, lease: LeaseId, counts: bool) {
        let ended = self
            .current(lease)
            .and_then(|partition| partition.give_back(now, lease.offset, lease.number, counts));
        self.ended.extend(ended);
    }

    /// Hands ready messages out, the consumers in turn.
    fn dispatch(&mut self, now: Timestamp, out: &mut Vec<Output>) {
        let (mut turns, mut share) = (0, 0);
        while self.flow.hungry() > 0 {
            let ready: usize = self.partitions.values().map(Partition::ready).sum();
            if ready == 0 {
                return;
            }
            if turns == 0 {
                turns = self.flow.hungry();
                // With nothing behind what is ready, it is shared; otherwise full frames are cheaper.
                let unread = self.partitions.values().any(Partition::has_unread);
                share = if unread {
                    DELIVERY_MESSAGES_MAX
                } else {
                    ready.div_ceil(turns)
                };
            }
            turns -= 1;
            let Some(portion) = self.flow.next(share.min(DELIVERY_MESSAGES_MAX) as u64) else {
                return;
            };
            let (deliveries, bytes) = self.lease(now, portion);
            if deliveries.is_empty() {
                // All that was ready had become too old.
                continue;
            }
            self.flow
                .served(portion.consumer, deliveries.len() as u64, bytes);
            out.push(Output::Deliver {
                consumer: portion.consumer,
                deliveries,
            });
        }
    }

    /// Fills one frame.
    fn lease(&mut self, now: Timestamp, portion: Portion) -> (Vec<Delivery>, u64) {
        let lease_millis = portion
            .ack_deadline_millis
            .unwrap_or(self.config.ack_deadline_millis);
        let deadline = now.plus_millis(lease_millis);
        let retention = self.config.retention_millis;
        let mut deliveries = Vec::with_capacity(portion.messages.min(64) as usize);
        let (mut frame_bytes, mut credit_bytes) = (0, 0);
        for partition in self.partitions.values_mut() {
            while let Some(body_bytes) = partition.peek(now, retention) {
                let size = body_bytes + MESSAGE_OVERHEAD_BYTES;
                let full = deliveries.len() as u64 >= portion.messages
                    || credit_bytes >= portion.bytes
                    || (frame_bytes > 0 && frame_bytes + size > DELIVERY_BYTES_MAX);
                if full {
                    return (deliveries, credit_bytes);
                }
                let Some((lease, message)) =
                    partition.lease_first(deadline, portion.consumer, &mut self.timers)
                else {
                    break;
                };
                frame_bytes += size;
                credit_bytes += message.body.len() as u64;
                deliveries.push(Delivery {
                    lease,
                    publish_time: message.publish_time,
                    body: message.body,
                });
            }
        }
        (deliveries, credit_bytes)
    }

    fn takes_fresh(&self) -> bool {
        let known: usize = self
            .partitions
            .values()
            .map(|partition| partition.leases.len() + partition.failed.len())
            .sum();
        known < OUTSTANDING_MAX
    }

    fn start_reads(&mut self, now: Timestamp, out: &mut Vec<Output>) {
        if self.flow.hungry() == 0 {
            return;
        }
        let fresh = self.takes_fresh();
        for partition in self.partitions.values_mut() {
            if let Some((range, bytes_max)) = partition.start_read(now, fresh) {
                out.push(Output::Read {
                    partition: partition.id,
                    range,
                    bytes_max,
                });
            }
        }
    }

    fn answer_pulls(&mut self, now: Timestamp, out: &mut Vec<Output>) {
        if self.flow.hungry() == 0 {
            self.damage_met = false;
            return;
        }
        let fresh = self.takes_fresh();
        if !self
            .partitions
            .values()
            .all(|partition| partition.is_exhausted(now, fresh))
        {
            return;
        }
        // Told once for each time that it was tried: a later pull needs nothing of what is known to be damaged.
        let damaged =
            mem::take(&mut self.damage_met) && self.partitions.values().any(Partition::has_damage);
        for consumer in self.flow.unserved_pulls(damaged) {
            self.flow.close(consumer);
            out.push(Output::Empty { consumer, damaged });
        }
    }

    fn plan_lazy_flush(&mut self, now: Timestamp) {
        let mut any = false;
        let mut leases = false;
        for partition in self.partitions.values() {
            any |= partition.dirty.is_any();
            leases |= partition.dirty.leases_changed();
        }
        if !any {
            self.lazy_flush_at = None;
            return;
        }
        let wait = if leases {
            LEASE_FLUSH_MILLIS
        } else {
            SKIP_FLUSH_MILLIS
        };
        let planned = now.plus_millis(wait);
        self.lazy_flush_at = Some(self.lazy_flush_at.map_or(planned, |at| at.min(planned)));
    }
}
