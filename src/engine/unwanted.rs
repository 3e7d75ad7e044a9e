//! When messages that were read for consumers are dropped because none has taken any for a while.

use super::timers::{Timer, Timers};
use crate::{clock::Timestamp, limits::UNWANTED_MILLIS};

/// See the module.
#[derive(Debug)]
pub(super) struct Unwanted {
    /// When a consumer would last have taken a message.
    wanted_at: Timestamp,
    /// A timer is set for this time.
    timer: Option<Timestamp>,
}

impl Default for Unwanted {
    fn default() -> Self {
        Self {
            wanted_at: Timestamp::ZERO,
            timer: None,
        }
    }
}

impl Unwanted {
    /// A consumer would take a message now.
    pub(super) fn want(&mut self, now: Timestamp) {
        self.wanted_at = now;
    }

    /// Whether a consumer would have taken a message within the last while.
    pub(super) fn is_wanted(&self, now: Timestamp) -> bool {
        now < self.wanted_until()
    }

    /// Something is loaded that will be unwanted some day. The timer is not moved when something is wanted, so that this
    /// costs nothing for each event.
    pub(super) fn plan(&mut self, timers: &mut Timers) {
        if self.timer.is_none() {
            let at = self.wanted_until();
            timers.set(at, Timer::Unwanted);
            self.timer = Some(at);
        }
    }

    /// Nothing is loaded any more.
    pub(super) fn cancel(&mut self, timers: &mut Timers) {
        if let Some(at) = self.timer.take() {
            timers.cancel(at, Timer::Unwanted);
        }
    }

    /// The timer's time has come.
    pub(super) fn come_due(&mut self) {
        self.timer = None;
    }

    fn wanted_until(&self) -> Timestamp {
        self.wanted_at.plus_millis(UNWANTED_MILLIS)
    }
}
