//! One frame for one consumer while it is filled.

use super::{flow::Portion, input::ConsumerId, output::Delivery, outstanding::Holder};
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
    /// What it takes on the way, and of its consumer's credit.
    wire_bytes: usize,
    credit_bytes: u64,
    deliveries: Vec<Delivery>,
}

impl Frame {
    pub(super) fn new(portion: Portion, deadline: Timestamp, is_held: bool) -> Self {
        Self {
            portion,
            deadline,
            is_held,
            wire_bytes: 0,
            credit_bytes: 0,
            deliveries: Vec::with_capacity(portion.messages.min(64) as usize),
        }
    }

    pub(super) fn consumer(&self) -> ConsumerId {
        self.portion.consumer
    }

    pub(super) fn deadline(&self) -> Timestamp {
        self.deadline
    }

    pub(super) fn is_held(&self) -> bool {
        self.is_held
    }

    /// Whose credit its messages take.
    pub(super) fn holder(&self) -> Holder {
        if self.is_held {
            Holder::Awaits(self.portion.consumer)
        } else {
            Holder::Has(self.portion.consumer)
        }
    }

    /// Whether a message of this size does not fit any more.
    pub(super) fn is_full_for(&self, body_bytes: usize) -> bool {
        let wire_bytes = self.wire_bytes + body_bytes + MESSAGE_OVERHEAD_BYTES;
        self.deliveries.len() as u64 >= self.portion.messages
            || self.credit_bytes >= self.portion.bytes
            || (self.wire_bytes > 0 && wire_bytes > DELIVERY_BYTES_MAX)
    }

    pub(super) fn push(&mut self, delivery: Delivery) {
        self.wire_bytes += delivery.body.len() + MESSAGE_OVERHEAD_BYTES;
        self.credit_bytes += delivery.body.len() as u64;
        self.deliveries.push(delivery);
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
