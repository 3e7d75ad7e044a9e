//! What holds after every operation, and in the end.

use std::collections::BTreeSet;

use super::{
    super::{
        dead_letters::forwards,
        model::{Held, Position, rounded},
        stored::Stored,
    },
    Run,
};
use crate::{
    clock::Timestamp,
    engine::{
        Engine,
        chunk::{Delivered, Slot},
        dead_letter::Outcome,
        input::{ConsumerId, Demand, Input, LeaseId},
        output::{Delivery, Output},
        partition::Partition,
    },
    limits::{CHUNK_OFFSETS, UNWANTED_MILLIS},
};

impl Run {
    pub(super) fn take(&mut self, out: &[Output]) {
        self.check_ended();
        let answers = |it: &Output| matches!(it, Output::Deliver { .. } | Output::Empty { .. });
        if out.iter().any(answers) {
            self.wanted_at = self.host.now;
        }
        self.see_wanted();
        self.model.pass_time(self.host.now, self.host.config);
        self.model.end_behind(self.host.engine.ended());
        let partitions = &self.host.engine.partitions;
        let leased = |lease: LeaseId| {
            let mut partitions = partitions.iter();
            let partition = partitions.find(|it| it.id() == lease.partition);
            let slot = partition.and_then(|it| slot_of(it, lease.offset));
            match slot {
                Some(Slot::Leased(leased)) if leased.number == lease.number => leased,
                slot => panic!("{lease:?} was delivered, and is {slot:?}"),
            }
        };
        let (now, config) = (self.host.now, self.host.config);
        self.model.take(now, config, out, leased);
        for (partition, messages) in out.iter().filter_map(forwards) {
            let messages = (partition, messages);
            self.model.forward(now, config, messages, &self.host.stored);
        }
        // An event may have taken what was ready, or all of it was handed out.
        for partition in partitions.iter().filter(|it| it.ready() == 0) {
            self.passed_over.remove(&partition.id());
        }
        let frames = out.iter().filter_map(|output| match output {
            Output::Deliver { deliveries, .. } => Some(deliveries),
            Output::Read { .. }
            | Output::Empty { .. }
            | Output::Late { .. }
            | Output::Forward { .. } => None,
        });
        if config.retry.is_some() || config.attempts_max.is_some() {
            let frames = frames.clone();
            frames.for_each(|frame| check_stored_failures(&self.host.stored, frame, leased));
        }
        if config.exactly_once {
            frames.for_each(|frame| check_durable(&self.host.stored, frame, leased));
        } else {
            let frames: Vec<&[Delivery]> = frames.map(Vec::as_slice).collect();
            for frame in &frames {
                self.check_round_robin(frame);
            }
            if !config.is_ordered {
                self.check_redelivery(&frames);
            }
        }
    }

    /// A failed message is handed out within twice as many messages of its partition as failed before it, and those that
    /// never were have every second place.
    fn check_redelivery(&mut self, frames: &[&[Delivery]]) {
        for partition in self.host.engine.partitions.iter() {
            let (id, loaded) = (partition.id(), partition.loaded_messages());
            let handed_out = self.handed_out.entry(id).or_default();
            let mut last_again = false;
            for delivery in frames.iter().copied().flatten() {
                let lease = delivery.lease;
                if lease.partition != id {
                    continue;
                }
                *handed_out += 1;
                let latest = self.redelivered_by.remove(&(id, lease.offset));
                assert!(
                    latest.is_none_or(|latest| *handed_out <= latest),
                    "{lease:?} is late"
                );
                let is_again = lease.number > 1;
                let has_fresh = loaded.fresh().next().is_some();
                assert!(
                    !(last_again && is_again && has_fresh),
                    "{lease:?} holds others up"
                );
                last_again = is_again;
            }
            let waits =
                |(of, offset): &Position| *of != id || loaded.again().any(|it| it == *offset);
            self.redelivered_by.retain(|position, _| waits(position));
            for (before, offset) in (1..).zip(loaded.again()) {
                let latest = *handed_out + 2 * before;
                let latest = *self.redelivered_by.entry((id, offset)).or_insert(latest);
                assert!(*handed_out < latest, "{offset} of {id} is passed over");
            }
        }
    }

    /// No partition with messages to deliver is passed over more than once for each of the others.
    fn check_round_robin(&mut self, deliveries: &[Delivery]) {
        let partitions = self.host.engine.partitions.iter();
        for id in partitions.map(Partition::id) {
            if deliveries.iter().any(|it| it.lease.partition == id) {
                self.passed_over.remove(&id);
            } else if let Some(frames) = self.passed_over.get_mut(&id) {
                *frames += 1;
                assert!(*frames <= 1, "partition {id} is passed over");
            }
        }
    }

    /// Each lease that is over was reported when it ended, and no other.
    fn check_ended(&mut self) {
        let leased = self.leases();
        let ended = self.host.engine.ended().iter();
        let reported: BTreeSet<_> = ended
            .map(|it| ((it.partition, it.offset), it.number))
            .collect();
        let before = std::mem::replace(&mut self.leased, leased);
        let over = before
            .iter()
            .filter(|(position, number)| self.leased.get(position) != Some(number));
        let over: BTreeSet<_> = over
            .map(|(position, number)| (*position, *number))
            .collect();
        assert_eq!(reported, over);
    }

    pub(super) fn check(&mut self) {
        self.leave_rounding();
        let partitions = self.host.engine.partitions.iter();
        let waiting: usize = partitions.map(waiting_to_leave).sum();
        let outstanding = self.host.engine.outstanding();
        assert_eq!(outstanding - waiting, self.model.held.len());
        if !self.host.engine.ended().is_empty() {
            self.model.check_keys(self.host.now, self.host.config);
        }
        assert_eq!(self.host.engine.timers.leases(), outstanding as u64);
        let next = self.host.engine.next_deadline();
        assert!(next.is_none_or(|next| next > self.host.now), "overdue");
        if self.host.in_flight.is_none() && self.host.engine.lazy_flush.is_due() {
            self.start_flush(false);
            assert!(
                self.host.in_flight.is_some(),
                "due, but there is nothing to do"
            );
        }
        let has_unstored = |it: &Partition| it.ledger().failed().has_unstored();
        let is_storing = self.host.engine.partitions.iter().any(has_unstored);
        if self.host.reads.is_empty() && !is_storing {
            for (consumer, demand) in &self.model.consumers {
                let is_immediate = matches!(
                    demand,
                    Demand::Pull {
                        immediate: true,
                        ..
                    }
                );
                assert!(!is_immediate || self.host.engine.consumers.held_frames(*consumer) > 0);
            }
        }
        for partition in self.host.engine.partitions.iter() {
            if partition.ready() > 0 {
                self.passed_over.entry(partition.id()).or_default();
            }
        }
        self.see_wanted();
        let wanted_until = self.wanted_at.plus_millis(UNWANTED_MILLIS);
        let is_wanted = if self.host.config.exactly_once {
            // What is handed out and held back shows to nobody.
            self.host.engine.unwanted.is_wanted(self.host.now)
        } else {
            self.host.now < wanted_until
        };
        for partition in self.host.engine.partitions.iter() {
            partition.check(&self.host.engine.timers);
            assert!(is_wanted || !partition.has_loaded(), "nobody wants it");
            assert!(!is_wanted || !partition.leaves_due_unread());
            assert!(
                partition
                    .delayed()
                    .all(|time| rounded(time) > self.host.now)
            );
        }
    }

    fn see_wanted(&mut self) {
        if self.host.engine.consumers.are_hungry() {
            self.wanted_at = self.host.now;
        }
    }

    pub(super) fn compare_with_stored(&mut self) {
        self.flush_all();
        let states = self.host.stored.states();
        let (mut restored, voided) = Engine::restore(
            self.host.now,
            self.host.config,
            &states,
            &self.host.log.ends(),
            self.host.epoch + 1,
        )
        .expect("readable");
        assert!(voided.is_empty());
        assert_eq!(restored.take_changes(true), None);
        for (partition, other) in self
            .host
            .engine
            .partitions
            .iter()
            .zip(restored.partitions.iter())
        {
            assert_eq!(partition.id(), other.id());
            assert_eq!(partition.ledger().generation(), other.ledger().generation());
            let (progress, same) = (partition.ledger().progress(), other.ledger().progress());
            assert_eq!(progress.cursor(), same.cursor());
            assert_eq!(progress.done_above_cursor(), same.done_above_cursor());
            assert_eq!(facts(partition), facts(other));
        }
    }

    pub(super) fn deliver_all_that_is_left(&mut self) {
        for consumer in self.model.consumers.keys().copied().collect::<Vec<_>>() {
            self.model.consumers.remove(&consumer);
            self.handle(Input::Close { consumer });
        }
        self.host.log.repair();
        self.open(Demand::Stream {
            ack_deadline_millis: 10_000,
            messages_max: u64::MAX,
            bytes_max: u64::MAX,
            frames: u32::MAX,
        });
        for _ in 0..5_000 {
            while !self.host.reads.is_empty() {
                let out = self.host.answer_read(u64::MAX >> 1, false);
                self.take(&out);
            }
            let letters = self.model.letters.out(0, usize::MAX);
            self.forwarded(&letters, Outcome::Done);
            // What waits to leave is acknowledged too, before time passes.
            self.flush_all();
            let mine = |held: &Held| held.consumer == Some(ConsumerId(self.consumers));
            let mut to_ack = Vec::new();
            for (position, held) in &self.model.held {
                if mine(held) {
                    to_ack.push(LeaseId {
                        generation: self.generation(position.0),
                        partition: position.0,
                        offset: position.1,
                        number: held.number,
                        issue: held.issue.expect("of this engine"),
                    });
                }
            }
            self.ack(&to_ack);
            self.flush_all();
            self.check();
            if self
                .model
                .missing(self.host.now, self.host.config)
                .is_empty()
            {
                self.compare_with_stored();
                return;
            }
            let is_forwarding = !self.model.letters.out(0, 1).is_empty();
            if self.host.reads.is_empty() && !is_forwarding {
                let next = self.host.engine.next_deadline();
                let next = next.expect("something is missing and nothing is awaited");
                self.host.now = self.host.now.max(next);
                self.handle(Input::Tick);
            }
        }
        panic!("messages are never delivered");
    }
}

fn slot_of(partition: &Partition, offset: u64) -> Option<Slot> {
    let mut slots = partition.ledger().slots(offset..offset + 1);
    slots.next().map(|(_, slot)| slot)
}

/// Messages that are leased and wait to leave.
fn waiting_to_leave(partition: &Partition) -> usize {
    let ledger = partition.ledger();
    let offsets = ledger.leased_offsets();
    offsets
        .filter(|offset| ledger.waits_to_leave(*offset))
        .count()
}

/// What was delivered is stored as leased, until the deadline that the engine knows.
fn check_durable(stored: &Stored, deliveries: &[Delivery], leased: impl Fn(LeaseId) -> Delivered) {
    let chunk = |delivery: &Delivery| {
        let lease = delivery.lease;
        (lease.partition, lease.offset / CHUNK_OFFSETS)
    };
    for of_chunk in deliveries.chunk_by(|a, b| chunk(a) == chunk(b)) {
        let (partition, index) = chunk(&of_chunk[0]);
        let slots = stored.slots(partition, index);
        for delivery in of_chunk {
            let known = leased(delivery.lease);
            let known = Slot::Leased(Delivered {
                time: rounded(known.time),
                ..known
            });
            let slot = slots.get((delivery.lease.offset % CHUNK_OFFSETS) as usize);
            assert_eq!(slot, Some(&known));
        }
    }
}

/// What was delivered again is stored with all its failures.
fn check_stored_failures(
    stored: &Stored,
    deliveries: &[Delivery],
    leased: impl Fn(LeaseId) -> Delivered,
) {
    for delivery in deliveries {
        let lease = delivery.lease;
        let failures = leased(lease).attempts;
        if failures == 0 {
            continue;
        }
        let slots = stored.slots(lease.partition, lease.offset / CHUNK_OFFSETS);
        match slots.get((lease.offset % CHUNK_OFFSETS) as usize) {
            // Dead: it could not be forwarded.
            Some(
                Slot::Failed(stored)
                | Slot::Waiting(stored)
                | Slot::Dead(stored)
                | Slot::Leased(stored),
            ) => {
                assert_eq!(stored.attempts, failures, "{lease:?}");
            }
            slot => panic!("{lease:?} is {slot:?}"),
        }
    }
}

fn without_time(failed: Delivered) -> Delivered {
    Delivered {
        time: Timestamp::ZERO,
        ..failed
    }
}

/// Leases with their deadlines as they are stored, and failed messages.
fn facts(partition: &Partition) -> Vec<(u64, Slot)> {
    let slots = partition.ledger().slots(0..u64::MAX).map(|(offset, slot)| {
        let slot = match slot {
            Slot::Leased(lease) => Slot::Leased(Delivered {
                time: rounded(lease.time),
                ..lease
            }),
            // Not the time: what damage puts off is not worth storing, a restart tries it at once.
            Slot::Failed(failed) => Slot::Failed(without_time(failed)),
            Slot::Waiting(failed) => Slot::Waiting(without_time(failed)),
            Slot::Dead(failed) => Slot::Dead(without_time(failed)),
            slot => slot,
        };
        (offset, slot)
    });
    slots.collect()
}
