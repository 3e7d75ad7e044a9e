//! Hands messages out to the consumers, and answers the pulls for which there are none.

use std::{collections::BTreeSet, mem};

use super::{
    flow::{Flow, Portion},
    frame::Frame,
    input::{Config, ConsumerId, Demand},
    outbox::{Held, Outbox},
    output::{Delivery, Ended, Output},
    partition::Partition,
    partitions::Partitions,
    skipping::Skipping,
    timers::Timers,
    wanted::Wanted,
};
use crate::{clock::Timestamp, limits::DELIVERY_MESSAGES_MAX};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Consumers {
    flow: Flow,
    outbox: Outbox,
    /// Something could not be read just now, and no pull has been told.
    found_damage: bool,
    skipping: Skipping,
    /// Those for whom something may be loaded that is theirs by its ordering key. One that finds nothing goes, and comes
    /// back when it becomes hungry or something is loaded for it.
    agenda: BTreeSet<ConsumerId>,
}

impl Consumers {
    /// Who takes messages, and how many.
    pub(super) fn flow(&mut self) -> &mut Flow {
        &mut self.flow
    }

    /// Whether this consumer would take a message now.
    pub(super) fn is_hungry(&self, consumer: ConsumerId) -> bool {
        self.flow.is_hungry(consumer)
    }

    pub(super) fn open(&mut self, consumer: ConsumerId, demand: Demand) {
        self.flow.open(consumer, demand);
    }

    /// A consumer has left. Returns what waits to leave to it, which it will never get.
    pub(super) fn close(&mut self, consumer: ConsumerId) -> Vec<Held> {
        self.flow.close(consumer);
        self.outbox.remove(consumer)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.flow.is_empty()
    }

    /// Whether some consumer would take a message now.
    pub(super) fn are_hungry(&self) -> bool {
        self.flow.hungry() > 0
    }

    /// What all consumers would take now.
    pub(super) fn wanted(&self) -> Wanted {
        self.flow.wanted()
    }

    /// Something could not be read.
    pub(super) fn find_damage(&mut self) {
        self.found_damage = true;
    }

    /// A read found nothing to deliver, and went on.
    pub(super) fn skip(&mut self, now: Timestamp) {
        self.skipping.note(now);
    }

    /// Gives the credit of leases that ended back, at once to each consumer for its neighbours.
    pub(super) fn release_credit(&mut self, ended: &[Ended]) {
        for leases in ended.chunk_by(|a, b| a.consumer == b.consumer) {
            if let Some(consumer) = leases[0].consumer {
                let bytes = leases.iter().map(|lease| lease.bytes).sum();
                self.flow.release(consumer, leases.len() as u64, bytes);
            }
        }
    }

    /// A flush starts with all that there is to store urgently.
    pub(super) fn flush_started(&mut self) {
        self.outbox.flush_started();
    }

    /// Lets go what the flush that ended has made durable, as far as it still may leave.
    pub(super) fn send_flushed(
        &mut self,
        stored: bool,
        out: &mut Vec<Output>,
        mut may_leave: impl FnMut(&Delivery) -> bool,
    ) {
        for held in self.outbox.flushed(stored) {
            let consumer = held.consumer;
            let mut deliveries = held.deliveries;
            deliveries.retain(&mut may_leave);
            let is_sent = !deliveries.is_empty();
            self.flow.left(consumer, is_sent);
            if is_sent {
                out.push(Output::Deliver {
                    consumer,
                    deadline: held.deadline,
                    deliveries,
                });
            }
        }
    }

    /// Hands ready messages out, round robin among the consumers.
    pub(super) fn dispatch(
        &mut self,
        now: Timestamp,
        config: Config,
        partitions: &mut Partitions,
        timers: &mut Timers,
        out: &mut Vec<Output>,
    ) {
        let (mut in_round, mut share) = (0, 0);
        loop {
            if config.is_ordered {
                self.note_own(partitions);
            }
            if self.flow.hungry() == 0 {
                return;
            }
            let ready = partitions.ready();
            let (portion, shared) = if ready > 0 {
                if in_round == 0 {
                    in_round = self.flow.hungry();
                    // With nothing behind what is ready, it is shared; otherwise full frames are cheaper.
                    let unread = partitions.iter().any(Partition::has_unread);
                    share = if unread {
                        DELIVERY_MESSAGES_MAX
                    } else {
                        ready.div_ceil(in_round)
                    };
                }
                in_round -= 1;
                let share = share.min(DELIVERY_MESSAGES_MAX) as u64;
                // What is a consumer's own is not shared.
                if config.is_ordered {
                    (self.flow.next(DELIVERY_MESSAGES_MAX as u64), share)
                } else {
                    (self.flow.next(share), u64::MAX)
                }
            } else {
                (self.next_with_own(partitions), 0)
            };
            let Some(portion) = portion else {
                return;
            };
            let lease_millis = portion
                .ack_deadline_millis
                .unwrap_or(config.ack_deadline_millis);
            let deadline = now.plus_millis(lease_millis);
            let mut frame = Frame::new(portion, shared, deadline, config);
            partitions.fill(now, config.retention_millis, &mut frame, timers);
            if frame.len() == 0 {
                // All that was ready had become too old.
                continue;
            }
            self.hand_out(frame, out);
        }
    }

    /// Takes in for whom something may be loaded that is theirs.
    fn note_own(&mut self, partitions: &mut Partitions) {
        let hungrier = self.flow.take_hungrier();
        for partition in partitions.iter_mut() {
            for consumer in &hungrier {
                partition.hungers(*consumer);
            }
            self.agenda.extend(partition.take_offered());
        }
        self.agenda.extend(hungrier);
    }

    /// The next hungry consumer in order for whom something is loaded that is its own.
    fn next_with_own(&mut self, partitions: &Partitions) -> Option<Portion> {
        let after = self
            .flow
            .last_served()
            .map_or(0, |ConsumerId(last)| last + 1);
        loop {
            let mut behind = self.agenda.range(ConsumerId(after)..);
            let consumer = *behind.next().or_else(|| self.agenda.first())?;
            if self.flow.is_hungry(consumer) && partitions.has_own(consumer) {
                return self.flow.portion(consumer, DELIVERY_MESSAGES_MAX as u64);
            }
            self.agenda.remove(&consumer);
        }
    }

    fn hand_out(&mut self, frame: Frame, out: &mut Vec<Output>) {
        let (consumer, is_held) = (frame.consumer(), frame.is_held());
        let (messages, bytes) = (frame.len() as u64, frame.credit_bytes());
        self.flow.served(consumer, messages, bytes, is_held);
        let deadline = frame.deadline();
        let deliveries = frame.into_deliveries();
        if is_held {
            self.outbox.hold(Held {
                consumer,
                deadline,
                deliveries,
            });
        } else {
            out.push(Output::Deliver {
                consumer,
                deadline,
                deliveries,
            });
        }
    }

    /// Answers the pulls that want an answer and find nothing. `fresh`: messages that were never delivered may be taken
    /// on.
    pub(super) fn answer_pulls(
        &mut self,
        now: Timestamp,
        partitions: &Partitions,
        fresh: bool,
        out: &mut Vec<Output>,
    ) {
        self.answer_unserved(now, partitions, fresh, out);
        if !self.flow.is_impatient() {
            self.skipping.end();
        }
    }

    fn answer_unserved(
        &mut self,
        now: Timestamp,
        partitions: &Partitions,
        fresh: bool,
        out: &mut Vec<Output>,
    ) {
        if self.flow.hungry() == 0 {
            self.found_damage = false;
            return;
        }
        if !self.found_damage && !self.flow.is_impatient() {
            return;
        }
        let is_read = partitions.iter().all(|it| it.is_read(fresh));
        if !is_read && !self.skipping.is_long(now) {
            return;
        }
        // Told once for each time that it was tried: a later pull needs nothing of what is known to be damaged.
        let damaged = is_read
            && mem::take(&mut self.found_damage)
            && partitions.iter().any(Partition::has_damage);
        for consumer in self.flow.unserved_pulls(damaged) {
            let mut partitions = partitions.iter();
            if partitions.all(|it| it.has_nothing_for(consumer)) {
                self.flow.close(consumer);
                out.push(Output::Empty { consumer, damaged });
            }
        }
    }
}

#[cfg(test)]
impl Consumers {
    /// Frames that wait to leave to this consumer.
    pub(super) fn held_frames(&self, consumer: ConsumerId) -> usize {
        self.outbox.frames(consumer)
    }

    /// Whether no frame waits to leave.
    pub(super) fn hold_nothing(&self) -> bool {
        self.outbox.is_empty()
    }
}
