//! One frame for one consumer while it is filled.

use std::{mem, ops::Range};

use super::{
    dirty::Urgency,
    flow::Portion,
    input::{Config, ConsumerId, Issue, LeaseId},
    leases::Holder,
    ledger::Ledger,
    output::Delivery,
    source::{Source, Taken},
    timers::Timers,
};
use crate::{clock::Timestamp, limits::DELIVERY_BYTES_MAX};

/// Bytes that a message takes in a frame besides its own: ack id, message id, publish time and framing.
const MESSAGE_OVERHEAD_BYTES: usize = 256;

/// See the module.
#[derive(Debug)]
pub(super) struct Frame {
    portion: Portion,
    /// When its leases end.
    deadline: Timestamp,
    /// Whether its leases must be durable before it leaves.
    is_held: bool,
    /// Whether its messages say which attempt they are.
    shows_attempts: bool,
    /// How many more of its messages may be such that any consumer could have.
    shared: u64,
    /// What it takes on the way, and of its consumer's credit.
    wire_bytes: usize,
    credit_bytes: u64,
    deliveries: Vec<Delivery>,
    /// Something was left out for want of room.
    is_full: bool,
}

impl Frame {
    /// `shared`: so many of its messages may be such that any consumer could have.
    pub(super) fn new(portion: Portion, shared: u64, deadline: Timestamp, config: Config) -> Self {
        Self {
            shared,
            portion,
            deadline,
            is_held: config.exactly_once,
            shows_attempts: config.attempts_max.is_some(),
            wire_bytes: 0,
            credit_bytes: 0,
            deliveries: Vec::with_capacity(portion.messages.min(64) as usize),
            is_full: false,
        }
    }

    pub(super) fn consumer(&self) -> ConsumerId {
        self.portion.consumer
    }

    /// When its leases end.
    pub(super) fn deadline(&self) -> Timestamp {
        self.deadline
    }

    pub(super) fn is_held(&self) -> bool {
        self.is_held
    }

    /// Leases to the consumer what it may have of a partition, until the frame is full. Returns what was loaded in time
    /// but became too old while it waited.
    pub(super) fn fill<S: Source>(
        &mut self,
        now: Timestamp,
        retention_millis: u64,
        partition: u32,
        ready: &mut S,
        ledger: &mut Ledger,
        timers: &mut Timers,
    ) -> Vec<Range<u64>> {
        let consumer = self.consumer();
        let generation = ledger.generation();
        let issue = Issue {
            epoch: ledger.epoch(),
            exactly_once: self.is_held,
        };
        let mut too_old = Vec::new();
        // Neighbours among those that were never delivered, and among those that were.
        let mut runs = [0..0, 0..0];
        while let Some(next) = ready.next_for(consumer, self.shared > 0) {
            let offset = next.offset;
            let is_too_old = next.publish_time.plus_millis(retention_millis) <= now;
            if !is_too_old && self.is_full_for(next.body.len()) {
                self.is_full = true;
                break;
            }
            let Some(Taken { message, is_shared }) = ready.take_next_for(consumer, self.shared > 0)
            else {
                break;
            };
            self.shared -= u64::from(is_shared);
            if is_too_old {
                too_old.push(offset..offset + 1);
                continue;
            }
            let bytes = message.body.len() as u64;
            let (number, failures) = ledger.lease(offset, self.deadline, self.holder(), bytes);
            let run = &mut runs[usize::from(number > 1)];
            if offset != run.end {
                let ended = mem::replace(run, offset..offset);
                self.leased_together(ended, ledger, timers);
            }
            run.end = offset + 1;
            self.push(Delivery {
                lease: LeaseId {
                    generation,
                    partition,
                    offset,
                    number,
                    issue,
                },
                publish_time: message.publish_time,
                attempt: if self.shows_attempts {
                    failures.saturating_add(1)
                } else {
                    0
                },
                body: message.body,
            });
        }
        for run in runs {
            self.leased_together(run, ledger, timers);
        }
        too_old
    }

    /// Sees to it that leases of neighbours end in time, and are stored.
    fn leased_together(&self, offsets: Range<u64>, ledger: &mut Ledger, timers: &mut Timers) {
        let urgency = if self.is_held {
            Urgency::Urgent
        } else {
            Urgency::Lazy
        };
        ledger.leased_together(offsets, self.deadline, urgency, timers);
    }

    /// Whose credit its messages take.
    fn holder(&self) -> Holder {
        if self.is_held {
            Holder::Awaits(self.portion.consumer)
        } else {
            Holder::Has(self.portion.consumer)
        }
    }

    /// Whether a message of this size does not fit any more.
    fn is_full_for(&self, body_bytes: usize) -> bool {
        let wire_bytes = self.wire_bytes + body_bytes + MESSAGE_OVERHEAD_BYTES;
        self.deliveries.len() as u64 >= self.portion.messages
            || self.credit_bytes >= self.portion.bytes
            || (self.wire_bytes > 0 && wire_bytes > DELIVERY_BYTES_MAX)
    }

    fn push(&mut self, delivery: Delivery) {
        self.wire_bytes += delivery.body.len() + MESSAGE_OVERHEAD_BYTES;
        self.credit_bytes += delivery.body.len() as u64;
        self.deliveries.push(delivery);
    }

    /// How many more of its messages may be such that any consumer could have.
    pub(super) fn shared(&self) -> u64 {
        self.shared
    }

    /// Whether something was left out for want of room.
    pub(super) fn is_full(&self) -> bool {
        self.is_full
    }

    pub(super) fn len(&self) -> usize {
        self.deliveries.len()
    }

    /// Bytes of the consumer's credit that it takes.
    pub(super) fn credit_bytes(&self) -> u64 {
        self.credit_bytes
    }

    pub(super) fn into_deliveries(self) -> Vec<Delivery> {
        self.deliveries
    }
}
