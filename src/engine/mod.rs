//! Delivery of one subscription as a pure state machine: events and the time in, commands out.
//!
//! It holds no IO, no clock, no task and no randomness, so that every rule can be tried by simulated steps. Its
//! host (`delivery::host`) carries the commands out and obeys one order: store, then speak. What
//! [`Engine::take_changes`] gives is made durable before anybody hears that an ack succeeded. Leases are the
//! exception (at-least-once): they are stored a little later, so that a crash may deliver a message early again,
//! unless [`Config::exactly_once`] asks for them to be durable before their messages leave.
//!
//! Methods by kind: [`Engine::restore`] makes one; [`Engine::handle`] takes an event and the
//! time; [`Engine::take_changes`] and [`Engine::next_deadline`] are asked after each.

mod affinity;
mod candidates;
pub mod change;
mod chunk;
mod confirmed;
mod consumers;
pub mod dead_letter;
mod dirty;
mod exactly_once;
mod failed;
mod flow;
mod forwarding;
mod frame;
mod in_order;
pub mod input;
mod lazy_flush;
mod leases;
mod ledger;
mod loaded;
mod ordered;
mod outbox;
pub mod output;
mod partition;
mod partitions;
mod progress;
mod queue;
mod read_ahead;
mod ready;
pub mod retry;
mod skipping;
mod source;
mod timers;
mod unwanted;
pub(crate) mod varint;
mod wanted;

#[cfg(test)]
mod tests;

pub use chunk::ChunkError;
pub use progress::{done, seen};

use std::mem;

use affinity::Affinity;
use change::{PartitionChange, PartitionState};
use consumers::Consumers;
use dirty::Urgency;
use input::{Config, Input};
use lazy_flush::LazyFlush;
use output::{Ended, Output, Verdict};
use partition::{LoadLimits, Partition, ReadDemand};
use partitions::Partitions;
use timers::{Due, Timer, Timers};
use unwanted::Unwanted;

use crate::{
    clock::Timestamp,
    limits::{FORWARDS_MAX, ORDERED_WAITING_MAX, OUTSTANDING_MAX, READ_RETRY_MILLIS},
};

/// What a subscription does next. See the module.
#[derive(Debug)]
pub struct Engine {
    config: Config,
    partitions: Partitions,
    consumers: Consumers,
    affinity: Affinity,
    timers: Timers,
    lazy_flush: LazyFlush,
    unwanted: Unwanted,
    flush_in_flight: bool,
    /// The partition whose turn it is to have dead letters forwarded.
    next_forward: u32,
    /// Leases that ended with the last event, whose credit went back.
    ended: Vec<Ended>,
    /// Acknowledged deliveries were forgotten early.
    has_forgotten: bool,
}

impl Engine {
    /// The engine of a subscription whose state was stored as `states`, over a log that ends at `ends`, or has what it
    /// had only below these; it is owned under `epoch`, above all before it. What was stored with a time too far ahead of
    /// `now` is due as if it had been set just now.
    ///
    /// The second value lists the partitions of which more than that was seen before: their state above was voided
    /// under a new generation. What the log has there now is told by [`Input::LogEnds`].
    pub fn restore(
        now: Timestamp,
        config: Config,
        states: &[PartitionState],
        ends: &[u64],
        epoch: u64,
    ) -> Result<(Self, Vec<u32>), ChunkError> {
        let mut timers = Timers::default();
        let is_ordered = config.is_ordered;
        let (partitions, voided) = Partitions::restore(
            now,
            config.failure_rules(),
            states,
            ends,
            epoch,
            is_ordered,
            &mut timers,
        )?;
        let mut consumers = Consumers::default();
        if is_ordered {
            consumers.flow().note_hunger();
        }
        let engine = Self {
            config,
            partitions,
            consumers,
            affinity: Affinity::default(),
            timers,
            lazy_flush: LazyFlush::default(),
            unwanted: Unwanted::default(),
            flush_in_flight: false,
            next_forward: 0,
            ended: Vec::new(),
            has_forgotten: false,
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
        self.consumers.flush_started();
        Some(changes)
    }

    /// When [`Input::Tick`] is due, if nothing else comes before.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.timers.next()
    }

    /// Leases that ended with the last event, by whatever route: what has not been sent of them must not be any more.
    pub fn ended(&self) -> &[Ended] {
        &self.ended
    }

    /// Whether requests hear what each of their ids found, once that is stored.
    pub fn is_exactly_once(&self) -> bool {
        self.config.exactly_once
    }

    /// Whether acknowledged deliveries were forgotten before their time since this was asked last, as there were too many.
    pub fn take_has_forgotten(&mut self) -> bool {
        mem::take(&mut self.has_forgotten)
    }

    /// Whether no consumer is here and everything is stored. What is leased is: it needs no engine until it is asked
    /// for, unless it becomes a dead letter with its next failure.
    pub fn is_idle(&self) -> bool {
        let is_stored = |partition: &Partition| partition.ledger().urgency() == Urgency::None;
        let rules = self.config.failure_rules();
        let has_last_attempts = |partition: &Partition| {
            partition.seeks_dead_letters() || partition.ledger().has_last_attempts(rules)
        };
        self.consumers.is_empty()
            && !self.flush_in_flight
            && self.partitions.iter().all(is_stored)
            && !self.partitions.iter().any(has_last_attempts)
    }

    /// Bytes of the messages that are loaded and were not handed out.
    pub fn loaded_bytes(&self) -> usize {
        self.partitions.iter().map(Partition::loaded_bytes).sum()
    }

    /// Whether anything is loaded that a consumer may have now.
    pub fn has_ready(&self) -> bool {
        self.partitions.iter().any(Partition::has_ready)
    }

    /// Delivered messages whose lease has not ended.
    pub fn outstanding(&self) -> usize {
        let leased = |partition: &Partition| partition.ledger().leased();
        self.partitions.iter().map(leased).sum()
    }

    fn take_in(
        &mut self,
        now: Timestamp,
        input: Input,
        out: &mut Vec<Output>,
        verdicts: Option<&mut Vec<Verdict>>,
    ) {
        self.ended.clear();
        let was_wanted = self.consumers.are_hungry();
        self.pass_time(now);
        self.apply(now, input, out, verdicts);
        if self.config.is_ordered {
            for partition in self.partitions.iter_mut() {
                partition.end_behind_failed(now, &mut self.timers, &mut self.ended);
            }
        }
        self.consumers.release_credit(&self.ended);
        if was_wanted || self.consumers.are_hungry() {
            self.unwanted.want(now);
        }
        let (partitions, timers) = (&mut self.partitions, &mut self.timers);
        self.consumers
            .dispatch(now, self.config, partitions, timers, out);
        self.drop_unwanted(now);
        self.start_forwards(out);
        self.start_reads(now, out);
        let fresh = self.takes_fresh();
        self.consumers
            .answer_pulls(now, &self.partitions, fresh, out);
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
                    timer: Timer::Unwanted,
                    ..
                } => self.unwanted.come_due(),
                Due {
                    timer:
                        Timer::Leases(partition)
                        | Timer::Redelivery(partition)
                        | Timer::Forward(partition)
                        | Timer::Damage(partition)
                        | Timer::Read(partition)
                        | Timer::Confirmed(partition),
                    ..
                } => {
                    if let Some(partition) = self.partitions.get_mut(partition) {
                        let rules = self.config.failure_rules();
                        partition.come_due(now, rules, due, &mut self.timers, &mut self.ended);
                    }
                }
            }
        }
        if self.config.is_ordered {
            for partition in self.partitions.iter_mut() {
                let rules = self.config.failure_rules();
                partition.end_late(now, rules, &mut self.timers, &mut self.ended);
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
                filtered_bytes,
            } => {
                let retention = self.config.retention_millis;
                if messages.is_empty() && next > from {
                    self.consumers.skip(now);
                }
                let room = ORDERED_WAITING_MAX.saturating_sub(self.partitions.waiting());
                if let Some(partition) = self.partitions.get_mut(partition) {
                    let limits = LoadLimits {
                        retention_millis: retention,
                        room,
                    };
                    let read = (from..next, messages, filtered_bytes);
                    let late = partition.loaded(now, limits, read, &mut self.timers);
                    out.extend(late.map(|offset| Output::Late {
                        partition: partition.id(),
                        offset,
                    }));
                    if self.config.is_ordered && next > from && !partition.has_ready() {
                        // What was found waits for others.
                        self.consumers.skip(now);
                    }
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
                self.consumers.find_damage();
                if let Some(partition) = self.partitions.get_mut(partition) {
                    partition.damaged(from..until, retry_at, &mut self.timers);
                }
            }
            Input::Filtered {
                partition,
                generation,
                offsets,
            } => {
                let partition = self.partitions.get_mut(partition);
                if let Some(partition) =
                    partition.filter(|it| it.ledger().generation() == generation)
                {
                    partition.filtered(offsets, &mut self.timers);
                }
            }
            Input::Client { consumer, client } if self.config.is_ordered => {
                if let Some(before) = self.affinity.open(consumer, client) {
                    for partition in self.partitions.iter_mut() {
                        partition.inherit(before, consumer);
                    }
                }
            }
            Input::Open { consumer, demand } => self.consumers.open(consumer, demand),
            Input::Room { consumer, frames } => {
                self.consumers.flow().set_room(consumer, frames);
            }
            Input::StreamDeadline {
                consumer,
                ack_deadline_millis,
            } => self
                .consumers
                .flow()
                .set_ack_deadline(consumer, ack_deadline_millis),
            Input::Close { consumer } => {
                for held in self.consumers.close(consumer) {
                    let leases = held.deliveries.iter().map(|delivery| delivery.lease);
                    let (timers, ended) = (&mut self.timers, &mut self.ended);
                    self.partitions.give_back(now, leases, timers, ended);
                }
                let partitions = &self.partitions;
                let has_keys = |of| partitions.iter().any(|it| it.has_keys(of));
                if let Some(heir) = self.affinity.close(consumer, has_keys) {
                    for partition in self.partitions.iter_mut() {
                        partition.inherit(consumer, heir);
                    }
                }
            }
            Input::Ack(leases) if self.config.exactly_once => {
                let (timers, ended) = (&mut self.timers, &mut self.ended);
                let mut unheard = Vec::new();
                let verdicts = verdicts.unwrap_or(&mut unheard);
                self.partitions
                    .ack_exactly_once(now, &leases, timers, ended, verdicts);
                self.has_forgotten |= self.partitions.bound_confirmed();
            }
            Input::Ack(leases) => {
                let (timers, ended) = (&mut self.timers, &mut self.ended);
                self.partitions.ack(&leases, timers, ended, verdicts);
            }
            Input::ModifyDeadline(changes) => {
                let (timers, ended) = (&mut self.timers, &mut self.ended);
                let how = (self.config.failure_rules(), self.config.exactly_once);
                self.partitions
                    .modify_deadlines(now, how, changes, timers, ended, verdicts);
            }
            Input::Returned(leases) => {
                let (timers, ended) = (&mut self.timers, &mut self.ended);
                self.partitions
                    .give_back(now, leases.into_iter(), timers, ended);
            }
            Input::Configure(config) => {
                let is_ordered = self.config.is_ordered;
                self.config = Config {
                    is_ordered,
                    ..config
                };
                if self.config.attempts_max.is_none() {
                    for partition in self.partitions.iter_mut() {
                        partition.keep_dead_letters(now, &mut self.timers);
                    }
                }
            }
            Input::Forwarded {
                partition,
                outcomes,
            } => {
                if let Some(partition) = self.partitions.get_mut(partition) {
                    for outcome in outcomes {
                        let (timers, ended) = (&mut self.timers, &mut self.ended);
                        partition.forwarded(now, outcome, timers, ended);
                    }
                    if self.config.attempts_max.is_none() {
                        partition.keep_dead_letters(now, &mut self.timers);
                    }
                    partition.advance_cursor();
                }
            }
            Input::Flushed { stored } => {
                self.flush_in_flight = false;
                for partition in self.partitions.iter_mut() {
                    partition.flushed(now, stored, &mut self.timers);
                }
                let Self {
                    partitions,
                    timers,
                    ended,
                    ..
                } = self;
                let retention = self.config.retention_millis;
                self.consumers.send_flushed(stored, out, |delivery| {
                    let partition = partitions.current(delivery.lease);
                    partition.is_some_and(|it| it.send(now, retention, delivery, timers, ended))
                });
            }
            Input::Client { .. } | Input::Tick => {}
        }
    }

    /// Has dead letters forwarded, in turns of the partitions.
    fn start_forwards(&mut self, out: &mut Vec<Output>) {
        if self.config.attempts_max.is_none() {
            return;
        }
        let mut room = FORWARDS_MAX - self.partitions.forwards_out();
        for id in self.partitions.with_dead_letters(self.next_forward) {
            let Some(partition) = self.partitions.get_mut(id).filter(|_| room > 0) else {
                continue;
            };
            let messages = partition.take_dead_letters(room);
            if messages.is_empty() {
                continue;
            }
            room -= messages.len();
            self.next_forward = id.saturating_add(1);
            out.push(Output::Forward {
                partition: id,
                generation: partition.ledger().generation(),
                messages,
            });
        }
    }

    fn takes_fresh(&self) -> bool {
        self.partitions.outstanding() < OUTSTANDING_MAX
    }

    /// Drops what is loaded if no consumer has wanted it for a while: it is read again when one does.
    fn drop_unwanted(&mut self, now: Timestamp) {
        if !self.partitions.iter().any(Partition::has_loaded) {
            self.unwanted.cancel(&mut self.timers);
            return;
        }
        if self.unwanted.is_wanted(now) {
            self.unwanted.plan(&mut self.timers);
            return;
        }
        for partition in self.partitions.iter_mut() {
            partition.drop_loaded();
        }
    }

    /// Reads for the consumers that wait, and for a while what the next one is to find.
    fn start_reads(&mut self, now: Timestamp, out: &mut Vec<Output>) {
        let is_wanted = self.unwanted.is_wanted(now);
        if !is_wanted && !self.partitions.iter().any(Partition::seeks_dead_letters) {
            return;
        }
        let consumers = &self.consumers;
        let demand = ReadDemand {
            wanted: consumers.wanted(),
            fresh: self.takes_fresh(),
            waiting: self.partitions.waiting(),
            is_hungry: &|consumer| consumers.is_hungry(consumer),
        };
        for partition in self.partitions.iter_mut() {
            if let Some((range, bytes_max)) = partition.start_read(&demand) {
                out.push(Output::Read {
                    partition: partition.id(),
                    range,
                    bytes_max,
                });
            }
        }
    }

    fn plan_lazy_flush(&mut self, now: Timestamp) {
        let mut any = false;
        let mut leases = false;
        for partition in self.partitions.iter() {
            let ledger = partition.ledger();
            any |= ledger.urgency() != Urgency::None;
            leases |= ledger.has_changed_leases();
        }
        if !any {
            self.lazy_flush.cancel(&mut self.timers);
            return;
        }
        self.lazy_flush.plan(now, leases, &mut self.timers);
    }
}
