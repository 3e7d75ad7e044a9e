//! Everything that happens to a subscription by itself, in one table: what comes due, and when.
//!
//! Offsets that come due together are ranges of one entry, so that many messages are few ranges. Those of leases and
//! of redeliveries go when these end, so that the table grows with what is outstanding, and nobody is woken up for what
//! is over. An entry for damage stays, and may then find nothing.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    ops::Range,
};

use rangemap::RangeSet;

use crate::clock::Timestamp;

/// Milliseconds of one tick. Deadlines of leases are rounded up to it: late by at most this, never early.
const TICK_MILLIS: u64 = 10;

/// The tick at which `deadline` has passed.
pub(super) const fn tick_of(deadline: Timestamp) -> u64 {
    deadline.as_millis().div_ceil(TICK_MILLIS)
}

/// The time of a tick.
pub(super) const fn time_of(tick: u64) -> Timestamp {
    Timestamp::from_millis(tick.saturating_mul(TICK_MILLIS))
}

/// When a timer finds it. Deadlines are in ticks, so that what comes due at about the same time shares one.
pub(super) fn rounded(deadline: Timestamp) -> Timestamp {
    time_of(tick_of(deadline))
}

/// What comes due; the numbers are partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// Leases of some offsets may end.
    Leases(u32),
    /// Failed messages of some offsets may be delivered again.
    Redelivery(u32),
    /// Dead letters of some offsets may be tried again.
    Forward(u32),
    /// Damage at some offsets may be read again.
    Damage(u32),
    /// The log may be read again after a failure.
    Read(u32),
    /// Acknowledged deliveries may be forgotten.
    Confirmed(u32),
    /// What is loaded may be wanted by nobody.
    Unwanted,
    /// What nobody waits for is to be stored.
    Flush,
}

/// A timer whose time has come.
#[derive(Debug)]
pub(super) struct Due {
    pub(super) at: Timestamp,
    pub(super) timer: Timer,
    /// None for the timers that are of a whole partition or subscription.
    pub(super) offsets: RangeSet<u64>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Timers {
    entries: BTreeMap<(Timestamp, Timer), RangeSet<u64>>,
}

impl Timers {
    pub(super) fn set(&mut self, at: Timestamp, timer: Timer) {
        self.entries.entry((at, timer)).or_default();
    }

    /// Adds these offsets to what comes due at this time.
    pub(super) fn set_offsets(&mut self, at: Timestamp, timer: Timer, offsets: Range<u64>) {
        self.entries.entry((at, timer)).or_default().insert(offsets);
    }

    /// Takes these offsets from what comes due at this time.
    pub(super) fn unset_offsets(&mut self, at: Timestamp, timer: Timer, offsets: Range<u64>) {
        if let Entry::Occupied(mut entry) = self.entries.entry((at, timer)) {
            entry.get_mut().remove(offsets);
            if entry.get().is_empty() {
                entry.remove();
            }
        }
    }

    pub(super) fn cancel(&mut self, at: Timestamp, timer: Timer) {
        self.entries.remove(&(at, timer));
    }

    /// The next time at which something may be due.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.entries.first_key_value().map(|((at, _), _)| *at)
    }

    /// Takes the earliest timer, if its time has come.
    pub(super) fn pop(&mut self, now: Timestamp) -> Option<Due> {
        let entry = self.entries.first_entry()?;
        let (at, timer) = *entry.key();
        (at <= now).then(|| Due {
            at,
            timer,
            offsets: entry.remove(),
        })
    }
}

#[cfg(test)]
impl Timers {
    /// Whether this offset comes due at this time.
    pub(super) fn has(&self, at: Timestamp, timer: Timer, offset: u64) -> bool {
        let offsets = self.entries.get(&(at, timer));
        offsets.is_some_and(|offsets| offsets.contains(&offset))
    }

    /// Entries, and ranges of offsets in them.
    pub(super) fn len(&self) -> usize {
        let ranges = self.entries.values().map(|it| it.iter().count());
        self.entries.len() + ranges.sum::<usize>()
    }

    /// Offsets of which leases may end.
    pub(super) fn leases(&self) -> u64 {
        let is_leases = |timer: &Timer| matches!(timer, Timer::Leases(_));
        let leases = self
            .entries
            .iter()
            .filter(|((_, timer), _)| is_leases(timer));
        let offsets = leases.flat_map(|(_, offsets)| offsets.iter());
        offsets.map(|it| it.end - it.start).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_that_come_due_together_are_one_range_whatever_is_set_between() {
        let mut timers = Timers::default();
        let (at, later) = (Timestamp::from_millis(10), Timestamp::from_millis(20));
        timers.set_offsets(at, Timer::Leases(0), 0..5);
        timers.set_offsets(at, Timer::Leases(1), 7..8);
        timers.set(later, Timer::Flush);
        timers.set_offsets(at, Timer::Leases(0), 5..6);
        timers.set_offsets(at, Timer::Leases(0), 9..10);
        assert_eq!(timers.next(), Some(at));
        assert!(timers.pop(Timestamp::from_millis(9)).is_none());
        let due = timers.pop(at).expect("due");
        assert_eq!((due.at, due.timer), (at, Timer::Leases(0)));
        assert_eq!(due.offsets, RangeSet::from([0..6, 9..10]));
        let due = timers.pop(later).expect("due");
        assert_eq!((due.at, due.timer), (at, Timer::Leases(1)));
        timers.cancel(later, Timer::Flush);
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn an_entry_goes_with_the_last_of_its_offsets() {
        let mut timers = Timers::default();
        let at = Timestamp::from_millis(10);
        timers.set_offsets(at, Timer::Leases(0), 0..5);
        timers.unset_offsets(at, Timer::Leases(0), 1..3);
        assert!(timers.has(at, Timer::Leases(0), 3) && !timers.has(at, Timer::Leases(0), 2));
        timers.unset_offsets(at, Timer::Leases(1), 0..5);
        timers.unset_offsets(at, Timer::Leases(0), 0..1);
        timers.unset_offsets(at, Timer::Leases(0), 3..5);
        assert_eq!(timers.next(), None);
    }
}
