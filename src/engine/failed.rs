//! Messages of a partition that were delivered and came back, and await redelivery.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    ops::Range,
};

use super::{
    chunk::{Delivered, Slot},
    dead_letter::Forwards,
    queue::Queue,
    timers::{Timer, Timers, rounded},
};
use crate::clock::Timestamp;

/// The last delivery of a message, which failed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failure {
    /// With the time from which on the message may be delivered again.
    pub(super) delivered: Delivered,
    /// Whether that time is what a retry policy says.
    pub(super) is_backoff: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Failed {
    partition: u32,
    messages: BTreeMap<u64, Failure>,
    /// Those that may be delivered again and have to be read. None where ordering keys say which these are.
    due: Queue<()>,
    /// Those that wait until the next flush has stored them.
    unstored: BTreeSet<u64>,
    /// Those that the flush on its way stores.
    flushing: BTreeSet<u64>,
    /// Those that are dead letters.
    forwards: Forwards,
    is_ordered: bool,
}

impl Failed {
    pub(super) fn new(partition: u32, is_ordered: bool) -> Self {
        Self {
            partition,
            messages: BTreeMap::new(),
            due: Queue::default(),
            unstored: BTreeSet::new(),
            flushing: BTreeSet::new(),
            forwards: Forwards::new(partition),
            is_ordered,
        }
    }

    /// Takes in what was stored.
    pub(super) fn restore(&mut self, offset: u64, stored: Failure, timers: &mut Timers) {
        self.messages.insert(offset, stored);
        self.watch(offset, stored.delivered.time, timers);
    }

    /// Takes in what was stored of a dead letter.
    pub(super) fn restore_dead(&mut self, offset: u64, stored: Failure) {
        self.messages.insert(offset, stored);
        self.forwards.mark(offset);
        self.forwards.is_stored(offset);
    }

    /// Dead letters.
    pub(super) fn forwards(&self) -> &Forwards {
        &self.forwards
    }

    /// As [`Failed::forwards`].
    pub(super) fn forwards_mut(&mut self) -> &mut Forwards {
        &mut self.forwards
    }

    /// How often a message has failed.
    pub(super) fn attempts(&self, offset: u64) -> u32 {
        let failure = self.messages.get(&offset);
        failure.map_or(0, |failure| failure.delivered.attempts)
    }

    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    pub(super) fn contains(&self, offset: u64) -> bool {
        self.messages.contains_key(&offset)
    }

    /// Failed messages as they are stored.
    pub(super) fn slots(&self, offsets: Range<u64>) -> impl Iterator<Item = (u64, Slot)> {
        let failures = self.messages.range(offsets);
        failures.map(|(&offset, failure)| {
            let slot = if self.forwards.contains(offset) {
                Slot::Dead
            } else if failure.is_backoff {
                Slot::Waiting
            } else {
                Slot::Failed
            };
            (offset, slot(failure.delivered))
        })
    }

    /// The last delivery of a message failed; it may be delivered again now.
    pub(super) fn insert(&mut self, offset: u64, failed: Failure) {
        self.messages.insert(offset, failed);
        if !self.is_ordered {
            self.due.push(offset, ());
        }
    }

    /// The last delivery of a message failed; it may be delivered again when that is stored and its time has come.
    pub(super) fn insert_unstored(&mut self, offset: u64, failed: Failure) {
        self.messages.insert(offset, failed);
        self.unstored.insert(offset);
    }

    /// As [`Failed::insert_unstored`], of a dead letter: it is forwarded when that is stored.
    pub(super) fn insert_dead(&mut self, offset: u64, failed: Failure) {
        self.insert_unstored(offset, failed);
        self.forwards.mark(offset);
    }

    /// Whether failed messages wait to be stored.
    pub(super) fn has_unstored(&self) -> bool {
        !self.unstored.is_empty() || !self.flushing.is_empty()
    }

    /// A flush starts with all that there is to store urgently.
    pub(super) fn flush_started(&mut self) {
        self.flushing.append(&mut self.unstored);
        self.forwards.flush_started();
    }

    /// The flush has stored what was to be stored, or the next one has to. Those whose time has come may be delivered
    /// again: those that `release` does not have must be read.
    pub(super) fn flushed(
        &mut self,
        now: Timestamp,
        stored: bool,
        timers: &mut Timers,
        mut release: impl FnMut(u64) -> bool,
    ) {
        if !stored {
            self.unstored.append(&mut self.flushing);
            return;
        }
        for offset in mem::take(&mut self.flushing) {
            if self.forwards.contains(offset) {
                self.forwards.is_stored(offset);
            } else {
                self.await_time(now, offset, timers, &mut release);
            }
        }
    }

    /// Sees to it that a message that waits for nothing else is delivered again when its time has come.
    fn await_time(
        &mut self,
        now: Timestamp,
        offset: u64,
        timers: &mut Timers,
        release: &mut impl FnMut(u64) -> bool,
    ) {
        match self.time(offset) {
            Some(time) if time > now => self.watch(offset, time, timers),
            Some(_) if !release(offset) => self.due.push(offset, ()),
            Some(_) | None => {}
        }
    }

    /// When a failed message may be delivered again.
    fn time(&self, offset: u64) -> Option<Timestamp> {
        let failure = self.messages.get(&offset)?;
        Some(failure.delivered.time)
    }

    /// A dead letter cannot be forwarded, and is delivered again as any failed message. `release`: see
    /// [`Failed::flushed`]. Whether it was one.
    pub(super) fn keep(
        &mut self,
        now: Timestamp,
        offset: u64,
        timers: &mut Timers,
        mut release: impl FnMut(u64) -> bool,
    ) -> bool {
        let is_stored = !self.unstored.contains(&offset) && !self.flushing.contains(&offset);
        let was_dead = self.forwards.remove(offset, timers);
        if was_dead && is_stored {
            self.await_time(now, offset, timers, &mut release);
        }
        was_dead
    }

    /// The message is delivered again. Returns its last delivery, if that failed.
    pub(super) fn remove(&mut self, offset: u64) -> Option<Delivered> {
        let failure = self.messages.remove(&offset)?;
        self.due.remove(offset);
        Some(failure.delivered)
    }

    /// These messages are done.
    pub(super) fn forget(&mut self, offsets: Range<u64>, timers: &mut Timers) {
        while let Some((&offset, _)) = self.messages.range(offsets.clone()).next() {
            let failed = self.remove(offset);
            let waits = !self.unstored.remove(&offset) && !self.flushing.remove(&offset);
            let waits = !self.forwards.forget(offset, timers) && waits;
            if let Some(failed) = failed.filter(|_| waits) {
                let timer = Timer::Redelivery(self.partition);
                timers.unset_offsets(rounded(failed.time), timer, offset..offset + 1);
            }
        }
    }

    /// Whether a message that failed still waits, for its flush or its time, or is a dead letter.
    pub(super) fn waits(&self, now: Timestamp, offset: u64) -> bool {
        let is_unstored = self.unstored.contains(&offset) || self.flushing.contains(&offset);
        is_unstored
            || self.forwards.contains(offset)
            || self.time(offset).is_some_and(|time| time > now)
    }

    /// Sees to it that this message is delivered again at this time.
    fn watch(&self, offset: u64, time: Timestamp, timers: &mut Timers) {
        let timer = Timer::Redelivery(self.partition);
        timers.set_offsets(rounded(time), timer, offset..offset + 1);
    }

    /// Whether failed messages have to be read.
    pub(super) fn has_due(&self) -> bool {
        !self.due.is_empty()
    }

    /// What to read for redelivery: what has waited longest, and what follows on it in the log, at most so many
    /// messages with at most so many others between two of them.
    pub(super) fn due_range(&self, messages_max: usize, gap_max: u64) -> Option<Range<u64>> {
        let first = self.due.first()?.0;
        let mut last = first;
        for offset in self.due.offsets(first..u64::MAX).take(messages_max) {
            if offset - last > gap_max + 1 {
                break;
            }
            last = offset;
        }
        Some(first..last + 1)
    }

    /// Whether this message has to be read.
    pub(super) fn is_due(&self, offset: u64) -> bool {
        self.due.contains(offset)
    }

    /// A message that had to be read is loaded.
    pub(super) fn loaded(&mut self, offset: u64) {
        self.due.remove(offset);
    }

    /// A message that was loaded is not any more, and has to be read again before all others.
    pub(super) fn unloaded(&mut self, offset: u64) {
        self.due.push_first(offset, ());
    }

    /// What had to be read of these offsets cannot be before this time.
    pub(super) fn put_off(
        &mut self,
        offsets: Range<u64>,
        not_before: Timestamp,
        timers: &mut Timers,
    ) {
        let due: Vec<u64> = self.due.offsets(offsets).collect();
        for offset in due {
            self.due.remove(offset);
            if let Some(failure) = self.messages.get_mut(&offset) {
                failure.delivered.time = not_before;
            }
            self.watch(offset, not_before, timers);
        }
    }

    /// Those of these offsets whose time has come may be delivered again: those that `release` does not have must be
    /// read.
    pub(super) fn come_due(
        &mut self,
        now: Timestamp,
        offsets: Range<u64>,
        mut release: impl FnMut(u64) -> bool,
    ) {
        for (&offset, failure) in self.messages.range(offsets) {
            if failure.delivered.time <= now && !release(offset) {
                self.due.push(offset, ());
            }
        }
    }
}

#[cfg(test)]
impl Failed {
    pub(super) fn check(&self, timers: &Timers) {
        let is_failed = |offset| self.messages.contains_key(&offset);
        self.forwards.check(is_failed, timers);
        assert!(self.due.iter().all(|(it, ())| !self.forwards.contains(*it)));
        let due = self.due.iter().map(|(offset, ())| offset);
        let unstored = self.unstored.union(&self.flushing);
        assert!(due.chain(unstored).all(|it| self.messages.contains_key(it)));
        assert!(self.due.iter().all(|(it, ())| self.is_stored(*it)));
    }

    pub(super) fn is_stored(&self, offset: u64) -> bool {
        !self.unstored.contains(&offset) && !self.flushing.contains(&offset)
    }

    /// Offset of each, and when it may be delivered again.
    pub(super) fn times(&self) -> impl Iterator<Item = (u64, Timestamp)> {
        let failures = self.messages.iter();
        failures.map(|(offset, failure)| (*offset, failure.delivered.time))
    }
}
