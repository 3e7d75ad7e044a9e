//! Messages of a partition that were delivered and came back, and await redelivery.

use std::{collections::BTreeMap, ops::Range};

use super::{
    chunk::{Delivered, Slot},
    queue::Queue,
    timers::{Timer, Timers},
};
use crate::clock::Timestamp;

/// See the module.
#[derive(Debug)]
pub(super) struct Failed {
    partition: u32,
    /// The last delivery of each, with the time from which on it may be delivered again.
    messages: BTreeMap<u64, Delivered>,
    /// Those that may be delivered again and have to be read.
    due: Queue<()>,
}

impl Failed {
    pub(super) fn new(partition: u32) -> Self {
        Self {
            partition,
            messages: BTreeMap::new(),
            due: Queue::default(),
        }
    }

    /// Takes in what was stored.
    pub(super) fn restore(&mut self, offset: u64, stored: Delivered, timers: &mut Timers) {
        self.messages.insert(offset, stored);
        let timer = Timer::Redelivery(self.partition);
        timers.set_offsets(stored.time, timer, offset..offset + 1);
    }

    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    pub(super) fn contains(&self, offset: u64) -> bool {
        self.messages.contains_key(&offset)
    }

    /// Failed messages as they are stored.
    pub(super) fn slots(&self, offsets: Range<u64>) -> impl Iterator<Item = (u64, Slot)> {
        let failed = self.messages.range(offsets);
        failed.map(|(offset, failed)| (*offset, Slot::Failed(*failed)))
    }

    /// The last delivery of a message failed; it may be delivered again now.
    pub(super) fn insert(&mut self, offset: u64, failed: Delivered) {
        self.messages.insert(offset, failed);
        self.due.push(offset, ());
    }

    /// The message is delivered again, or done. Returns its last delivery, if that failed.
    pub(super) fn remove(&mut self, offset: u64) -> Option<Delivered> {
        let failed = self.messages.remove(&offset)?;
        self.due.remove(offset);
        Some(failed)
    }

    pub(super) fn forget(&mut self, offsets: Range<u64>) {
        while let Some((&offset, _)) = self.messages.range(offsets.clone()).next() {
            self.remove(offset);
        }
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
            if let Some(failed) = self.messages.get_mut(&offset) {
                failed.time = not_before;
                let timer = Timer::Redelivery(self.partition);
                timers.set_offsets(not_before, timer, offset..offset + 1);
            }
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
        for (&offset, failed) in self.messages.range(offsets) {
            if failed.time <= now && !release(offset) {
                self.due.push(offset, ());
            }
        }
    }
}

#[cfg(test)]
impl Failed {
    pub(super) fn check(&self) {
        assert!(
            self.due
                .iter()
                .all(|(it, ())| self.messages.contains_key(it))
        );
    }

    /// Offset of each, and when it may be delivered again.
    pub(super) fn times(&self) -> impl Iterator<Item = (u64, Timestamp)> {
        let failed = self.messages.iter();
        failed.map(|(offset, failed)| (*offset, failed.time))
    }
}
