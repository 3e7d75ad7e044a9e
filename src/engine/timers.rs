//! Deadlines of leases, by ranges of offsets that were delivered together.
//!
//! Removal is lazy: a range whose leases have ended stays until its tick comes and then finds nothing. Ranges that
//! follow each other in one tick are one entry, so that the table grows with time and not with messages.

use std::{collections::BTreeMap, ops::Range};

use crate::clock::Timestamp;

/// Milliseconds of one tick. Deadlines are rounded up to it: late by at most this, never early.
const TICK_MILLIS: u64 = 10;

/// The tick at which `deadline` has passed.
pub(super) const fn tick_of(deadline: Timestamp) -> u64 {
    deadline.as_millis().div_ceil(TICK_MILLIS)
}

/// The time of a tick.
pub(super) const fn time_of(tick: u64) -> Timestamp {
    Timestamp::from_millis(tick.saturating_mul(TICK_MILLIS))
}

/// Offsets to look at when their tick comes.
#[derive(Debug)]
pub(super) struct Due {
    pub(super) partition: u32,
    pub(super) offsets: Range<u64>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Timers {
    ticks: BTreeMap<u64, Vec<Due>>,
}

impl Timers {
    /// Looks at this offset at `tick`.
    pub(super) fn set(&mut self, tick: u64, partition: u32, offset: u64) {
        let entries = self.ticks.entry(tick).or_default();
        match entries.last_mut() {
            Some(last) if last.partition == partition && last.offsets.end == offset => {
                last.offsets.end += 1;
            }
            _ => entries.push(Due {
                partition,
                offsets: offset..offset + 1,
            }),
        }
    }

    /// The next time at which something may be due.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.ticks.first_key_value().map(|(tick, _)| time_of(*tick))
    }

    /// Takes the earliest tick that has come, with its number.
    pub(super) fn pop(&mut self, now: Timestamp) -> Option<(u64, Vec<Due>)> {
        let entry = self.ticks.first_entry()?;
        (time_of(*entry.key()) <= now).then(|| entry.remove_entry())
    }
}
