//! Delivery of one subscription as a pure state machine: events and the time in, commands out.
//!
//! It holds no IO, no clock, no task and no randomness, so that every rule can be tried by simulated steps. Its
//! host (`delivery::driver`) carries the commands out and obeys one order: store, then speak. What
//! [`Engine::take_changes`] gives is made durable before anybody hears that an ack succeeded. Leases are the
//! exception (at-least-once): they are stored a little later, so that a crash may deliver a message early again,
//! unless [`Config::durable_leases`] asks for them to be durable before their messages leave.
//!
//! Methods by kind: [`Engine::restore`] makes one; [`Engine::handle`] takes an event and the
//! time; [`Engine::take_changes`] and [`Engine::next_deadline`] are asked after each.

pub mod change;
mod chunk;
mod dirty;
mod flow;
mod frame;
pub mod input;
mod lazy_flush;
mod outbox;
pub mod output;
mod outstanding;
mod partition;
mod partitions;
mod progress;
mod read_ahead;
mod ready;
mod timers;
pub(crate) mod varint;

#[cfg(test)]
mod tests;

use std::mem;

pub use chunk::ChunkError;
pub use progress::done;

use change::{PartitionChange, PartitionState};
use dirty::Urgency;
use flow::Flow;
use frame::Frame;
use input::{Config, Input, LeaseId};
use lazy_flush::LazyFlush;
use outbox::Outbox;
use output::{Output, Verdict};
use outstanding::Ended;
use partition::Partition;
use partitions::Partitions;
use timers::{Due, Timer, Timers};

use crate::{
    clock::Timestamp,
    limits::{DELIVERY_MESSAGES_MAX, OUTSTANDING_MAX, READ_RETRY_MILLIS},
};

/// What a subscription does next. See the module.
#[derive(Debug)]
pub struct Engine {
    config: Config,
    partitions: Partitions,
    flow: Flow,
    timers: Timers,
    lazy_flush: LazyFlush,
    flush_in_flight: bool,
    outbox: Outbox,
    /// Something could not be read just now, and no pull has been told.
    found_damage: bool,
    /// Leases that just ended, whose credit goes back.
    ended: Vec<Ended>,
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
        let mut timers = Timers::default();
        let (partitions, voided) = Partitions::restore(states, ends, &mut timers)?;
        let engine = Self {
            config,
            partitions,
            flow: Flow::default(),
            timers,
            lazy_flush: LazyFlush::default(),
            flush_in_flight: false,
            outbox: Outbox::default(),
            found_damage: false,
            ended: Vec::new(),
        };
        Ok((engine, voided))
    }

    /// Takes an event in. Commands are added to `out`, in the order in which they are to be carried out.
    pub fn handle(&mut self, now: Timestamp, input: Input, out: &mut Vec<Output>) {
        self.take_in(now, input, out, None);
    }

    /// As [`Engine::handle`]; of each id of an [`Input::Ack`] or [`Input::ModifyDeadline`], in their order, `verdicts`
    /// is told what it found.
    pub fn handle_with_verdicts(
        &mut self,
        now: Timestamp,
        input: Input,
        out: &mut Vec<Output>,
        verdicts: &mut Vec<Verdict>,
    ) {
        self.take_in(now, input, out, Some(verdicts));
    }

    /// What has to be written now, if anything; `all`: also what may wait. One flush at a time: the next call
    /// gives nothing until [`Input::Flushed`] came.
    pub fn take_changes(&mut self, all: bool) -> Option<Vec<PartitionChange>> {
        if self.flush_in_flight {
            return None;
        }
        let all = all || self.lazy_flush.is_due();
        let changes = self.partitions.take_changes(all);
        if all {
            self.lazy_flush.cancel(&mut self.timers);
        }
        if changes.is_empty() {
            return None;
        }
        self.flush_in_flight = true;
        self.outbox.flush_started();
        Some(changes)
    }

    /// When [`Input::Tick`] is due, if nothing else comes before.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.timers.next()
    }

    /// Whether no consumer is here, nothing is outstanding and everything is stored.
    pub fn is_idle(&self) -> bool {
        let is_idle =
            |partition: &Partition| partition.leased() == 0 && partition.urgency() == Urgency::None;
        self.flow.is_empty() && !self.flush_in_flight && self.partitions.iter().all(is_idle)
    }

    /// Delivered messages whose lease has not ended.
    pub fn outstanding(&self) -> usize {
        self.partitions.iter().map(Partition::leased).sum()
    }

    fn take_in(
        &mut self,
        now: Timestamp,
        input: Input,
        out: &mut Vec<Output>,
        verdicts: Option<&mut Vec<Verdict>>,
    ) {
        self.pass_time(now);
        self.apply(now, input, out, verdicts);
        self.release_credit();
        self.dispatch(now, out);
        self.start_reads(out);
        self.answer_pulls(out);
        self.plan_lazy_flush(now);
    }

    fn pass_time(&mut self, now: Timestamp) {
        while let Some(due) = self.timers.pop(now) {
            match due {
                Due {
                    timer: Timer::Flush,
                    ..
                } => self.lazy_flush.come_due(),
                Due {
                    timer:
                        Timer::Leases(partition)
                        | Timer::Redelivery(partition)
                        | Timer::Damage(partition)
                        | Timer::Read(partition),
                    ..
                } => {
                    if let Some(partition) = self.partitions.get_mut(partition) {
                        partition.come_due(now, due, &mut self.timers, &mut self.ended);
                    }
                }
            }
        }
    }

    fn apply(
        &mut self,
        now: Timestamp,
        input: Input,
        out: &mut Vec<Output>,
        verdicts: Option<&mut Vec<Verdict>>,
    ) {
        match input {
            Input::LogEnds(ends) => self.partitions.see_ends(&ends),
            Input::Loaded {
                partition,
                from,
                next,
                messages,
            } => {
                let retention = self.config.retention_millis;
                if let Some(partition) = self.partitions.get_mut(partition) {
                    partition.loaded(now, retention, from, next, messages);
                    if next <= from {
                        // The log had nothing where it should have; asking at once would spin.
                        let retry_at = now.plus_millis(READ_RETRY_MILLIS);
                        partition.read_failed(retry_at, &mut self.timers);
                    }
                }
            }
            Input::ReadFailed {
                partition,
                retry_at,
            } => {
                if let Some(partition) = self.partitions.get_mut(partition) {
                    partition.read_failed(retry_at, &mut self.timers);
                }
            }
            Input::Damaged {
                partition,
                from,
                until,
                retry_at,
            } => {
                self.found_damage = true;
                if let Some(partition) = self.partitions.get_mut(partition) {
                    partition.damaged(from..until, retry_at, &mut self.timers);
                }
            }
            Input::Open { consumer, demand } => self.flow.open(consumer, demand),
            Input::Room { consumer, frames } => self.flow.set_room(consumer, frames),
            Input::StreamDeadline {
                consumer,
                ack_deadline_millis,
            } => self.flow.set_ack_deadline(consumer, ack_deadline_millis),
            Input::Close { consumer } => {
                self.flow.close(consumer);
                // What waits to leave never reaches it.
                for held in self.outbox.remove(consumer) {
                    for delivery in held.deliveries {
                        self.give_back(now, delivery.lease);
                    }
                }
            }
            Input::Ack(leases) => self.ack(&leases, verdicts),
            Input::ModifyDeadline(changes) => self.modify_deadlines(now, changes, verdicts),
            Input::Returned(leases) => {
                for lease in leases {
                    self.give_back(now, lease);
                }
            }
            Input::Configure(config) => self.config = config,
            Input::Flushed { stored } => {
                self.flush_in_flight = false;
                for partition in self.partitions.iter_mut() {
                    partition.flushed(stored);
                }
                self.send_flushed(now, stored, out);
            }
            Input::Tick => {}
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

    /// An expired or superseded id acknowledges too: at-least-once accepts it (docs/behaviour.md, section 8).
    fn ack(&mut self, leases: &[LeaseId], mut verdicts: Option<&mut Vec<Verdict>>) {
        let follows = |a: &LeaseId, b: &LeaseId| {
            (a.partition, a.generation) == (b.partition, b.generation)
                && a.offset.checked_add(1) == Some(b.offset)
        };
        for run in leases.chunk_by(follows) {
            let partition = self.partitions.current(run[0]);
            if let Some(verdicts) = &mut verdicts {
                verdicts.extend(run.iter().map(|lease| judge(partition.as_deref(), *lease)));
            }
            if let Some(partition) = partition {
                let first = run[0].offset;
                let end = first.saturating_add(run.len() as u64);
                partition.ack(first..end, &mut self.ended);
            }
        }
        for partition in self.partitions.iter_mut() {
            partition.advance_cursor();
        }
    }

    /// 0 milliseconds end the lease, which counts as a failed attempt.
    fn modify_deadlines(
        &mut self,
        now: Timestamp,
        changes: Vec<(LeaseId, u64)>,
        mut verdicts: Option<&mut Vec<Verdict>>,
    ) {
        for (lease, millis) in changes {
            let mut partition = self.partitions.current(lease);
            let is_applied = partition.as_deref_mut().is_some_and(|partition| {
                if millis > 0 {
                    let deadline = now.plus_millis(millis);
                    return partition.extend(lease, deadline, &mut self.timers);
                }
                let ended = partition.give_back(now, lease, true);
                self.ended.extend(ended);
                ended.is_some()
            });
            if let Some(verdicts) = &mut verdicts {
                verdicts.push(if is_applied {
                    Verdict::Applied
                } else {
                    judge(partition.as_deref(), lease)
                });
            }
        }
    }

    /// Ends the lease of a delivery that never reached its consumer.
    fn give_back(&mut self, now: Timestamp, lease: LeaseId) {
        if let Some(partition) = self.partitions.current(lease) {
            self.ended.extend(partition.give_back(now, lease, false));
        }
    }

    /// Lets go what the flush that ended has made durable, as far as its leases still stand.
    fn send_flushed(&mut self, now: Timestamp, stored: bool, out: &mut Vec<Output>) {
        let retention = self.config.retention_millis;
        for held in self.outbox.flushed(stored) {
            let consumer = held.consumer;
            let mut deliveries = held.deliveries;
            deliveries.retain(|delivery| {
                let partition = self.partitions.current(delivery.lease);
                partition.is_some_and(|it| it.send(now, retention, delivery, &mut self.ended))
            });
            let is_sent = !deliveries.is_empty();
            self.flow.left(consumer, is_sent);
            if is_sent {
                out.push(Output::Deliver {
                    consumer,
                    deliveries,
                });
            }
        }
    }

    /// Hands ready messages out, round robin among the consumers.
    fn dispatch(&mut self, now: Timestamp, out: &mut Vec<Output>) {
        let (mut in_round, mut share) = (0, 0);
        while self.flow.hungry() > 0 {
            let ready = self.partitions.ready();
            if ready == 0 {
                return;
            }
            if in_round == 0 {
                in_round = self.flow.hungry();
                // With nothing behind what is ready, it is shared; otherwise full frames are cheaper.
                let unread = self.partitions.iter().any(Partition::has_unread);
                share = if unread {
                    DELIVERY_MESSAGES_MAX
                } else {
                    ready.div_ceil(in_round)
                };
            }
            in_round -= 1;
            let Some(portion) = self.flow.next(share.min(DELIVERY_MESSAGES_MAX) as u64) else {
                return;
            };
            let lease_millis = portion
                .ack_deadline_millis
                .unwrap_or(self.config.ack_deadline_millis);
            let deadline = now.plus_millis(lease_millis);
            let mut frame = Frame::new(portion, deadline, self.config.durable_leases);
            let retention = self.config.retention_millis;
            self.partitions
                .fill(now, retention, &mut frame, &mut self.timers);
            if frame.len() == 0 {
                // All that was ready had become too old.
                continue;
            }
            self.hand_out(frame, out);
        }
    }

    fn hand_out(&mut self, frame: Frame, out: &mut Vec<Output>) {
        let (consumer, is_held) = (frame.consumer(), frame.is_held());
        let (messages, bytes) = (frame.len() as u64, frame.credit_bytes());
        self.flow.served(consumer, messages, bytes, is_held);
        let deliveries = frame.into_deliveries();
        if is_held {
            self.outbox.hold(consumer, deliveries);
        } else {
            out.push(Output::Deliver {
                consumer,
                deliveries,
            });
        }
    }

    fn takes_fresh(&self) -> bool {
        self.partitions.outstanding() < OUTSTANDING_MAX
    }

    fn start_reads(&mut self, out: &mut Vec<Output>) {
        if self.flow.hungry() == 0 {
            return;
        }
        let fresh = self.takes_fresh();
        for partition in self.partitions.iter_mut() {
            if let Some((range, bytes_max)) = partition.start_read(fresh) {
                out.push(Output::Read {
                    partition: partition.id(),
                    range,
                    bytes_max,
                });
            }
        }
    }

    fn answer_pulls(&mut self, out: &mut Vec<Output>) {
        if self.flow.hungry() == 0 {
            self.found_damage = false;
            return;
        }
        if !self.found_damage && !self.flow.is_impatient() {
            return;
        }
        let fresh = self.takes_fresh();
        if !self.partitions.iter().all(|it| it.is_read(fresh)) {
            return;
        }
        // Told once for each time that it was tried: a later pull needs nothing of what is known to be damaged.
        let damaged =
            mem::take(&mut self.found_damage) && self.partitions.iter().any(Partition::has_damage);
        for consumer in self.flow.unserved_pulls(damaged) {
            let mut partitions = self.partitions.iter();
            if partitions.all(|it| it.has_nothing_for(consumer)) {
                self.flow.close(consumer);
                out.push(Output::Empty { consumer, damaged });
            }
        }
    }

    fn plan_lazy_flush(&mut self, now: Timestamp) {
        let mut any = false;
        let mut leases = false;
        for partition in self.partitions.iter() {
            any |= partition.urgency() != Urgency::None;
            leases |= partition.has_changed_leases();
        }
        if !any {
            self.lazy_flush.cancel(&mut self.timers);
            return;
        }
        self.lazy_flush.plan(now, leases, &mut self.timers);
    }
}

/// What a request with this id finds in the partition of its generation.
fn judge(partition: Option<&Partition>, lease: LeaseId) -> Verdict {
    partition.map_or(Verdict::Void, |partition| partition.judge(lease))
}
