//! When what nobody waits for is stored.

use super::timers::{Timer, Timers};
use crate::{
    clock::Timestamp,
    limits::{LEASE_FLUSH_MILLIS, SKIP_FLUSH_MILLIS},
};

/// See the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum LazyFlush {
    /// There is nothing.
    #[default]
    None,
    /// A timer is set for this time.
    At(Timestamp),
    /// The next flush takes it along.
    Due,
}

impl LazyFlush {
    /// Something is to be stored; `leases`: not only what was skipped.
    pub(super) fn plan(&mut self, now: Timestamp, leases: bool, timers: &mut Timers) {
        let wait = if leases {
            LEASE_FLUSH_MILLIS
        } else {
            SKIP_FLUSH_MILLIS
        };
        let planned = now.plus_millis(wait);
        match self {
            Self::Due => return,
            Self::At(at) if *at <= planned => return,
            Self::At(_) | Self::None => self.cancel(timers),
        }
        timers.set(planned, Timer::Flush);
        *self = Self::At(planned);
    }

    /// Nothing is to be stored any more.
    pub(super) fn cancel(&mut self, timers: &mut Timers) {
        if let Self::At(at) = *self {
            timers.cancel(at, Timer::Flush);
        }
        *self = Self::None;
    }

    /// The timer's time has come.
    pub(super) fn come_due(&mut self) {
        *self = Self::Due;
    }

    pub(super) fn is_due(self) -> bool {
        self == Self::Due
    }
}
