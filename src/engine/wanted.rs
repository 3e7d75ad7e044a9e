//! How much consumers would take at once if it were there.

use super::input::Demand;
use crate::limits::{
    DELIVERY_BYTES_MAX, DELIVERY_MESSAGES_MAX, PREFETCH_BYTES_MAX, PREFETCH_MESSAGES_MAX,
};

/// See the module. What one consumer counts for is bounded by what is ever read at once, so that sums do not overflow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) messages: u64,
    pub(super) bytes: u64,
}

impl Wanted {
    /// What a consumer would take that has so much outstanding, and room for so many frames.
    pub(super) fn by(demand: Demand, messages: u64, bytes: u64, frames: u32) -> Self {
        let (messages, bytes) = match demand {
            Demand::Stream {
                messages_max,
                bytes_max,
                ..
            } => (
                messages_max.saturating_sub(messages),
                bytes_max.saturating_sub(bytes),
            ),
            Demand::Pull { messages_max, .. } => (messages_max as u64, u64::MAX),
        };
        let in_frames =
            |each: usize, max: usize| (each as u64).saturating_mul(frames.into()).min(max as u64);
        Self {
            messages: messages.min(in_frames(DELIVERY_MESSAGES_MAX, PREFETCH_MESSAGES_MAX)),
            bytes: bytes.min(in_frames(DELIVERY_BYTES_MAX, PREFETCH_BYTES_MAX)),
        }
    }

    pub(super) fn is_none(self) -> bool {
        self.messages == 0
    }

    /// Counts `new` in place of what one of them counted for before.
    pub(super) fn replace(&mut self, old: Self, new: Self) {
        self.messages = self.messages - old.messages + new.messages;
        self.bytes = self.bytes - old.bytes + new.bytes;
    }
}
