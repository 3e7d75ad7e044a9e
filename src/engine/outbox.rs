//! Frames that leave when the leases in them are durable.

use std::mem;

use super::{input::ConsumerId, output::Delivery};
use crate::clock::Timestamp;

/// A frame that waits.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) consumer: ConsumerId,
    /// When the leases in it end, unless they are moved.
    pub(super) deadline: Timestamp,
    pub(super) deliveries: Vec<Delivery>,
}

/// See the module. What is in it counts against the room of its consumers, so that it is as bounded as they are.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// The next flush holds their leases.
    waiting: Vec<Held>,
    /// The flush on its way does.
    flushing: Vec<Held>,
}

impl Outbox {
    pub(super) fn hold(&mut self, frame: Held) {
        self.waiting.push(frame);
    }

    /// A flush starts with all that there is to store urgently.
    pub(super) fn flush_started(&mut self) {
        self.flushing.append(&mut self.waiting);
    }

    /// What leaves now, in the order in which it was leased. After a failed flush all waits for the next.
    pub(super) fn flushed(&mut self, stored: bool) -> Vec<Held> {
        let mut flushed = mem::take(&mut self.flushing);
        if stored {
            return flushed;
        }
        flushed.append(&mut self.waiting);
        self.waiting = flushed;
        Vec::new()
    }

    /// Takes the frames of a consumer that has left.
    pub(super) fn remove(&mut self, consumer: ConsumerId) -> Vec<Held> {
        let mut removed = Vec::new();
        for held in [&mut self.flushing, &mut self.waiting] {
            removed.extend(held.extract_if(.., |held| held.consumer == consumer));
        }
        removed
    }
}

#[cfg(test)]
impl Outbox {
    pub(super) fn frames(&self, consumer: ConsumerId) -> usize {
        let held = self.flushing.iter().chain(&self.waiting);
        held.filter(|held| held.consumer == consumer).count()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.flushing.is_empty() && self.waiting.is_empty()
    }
}
