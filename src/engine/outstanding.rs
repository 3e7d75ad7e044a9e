//! What of a partition was delivered and is not done: leases, and failed messages that await redelivery.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use super::{
    chunk::{Delivered, Slot},
    input::ConsumerId,
    timers::{Timer, Timers, tick_of, time_of},
};
use crate::clock::Timestamp;

/// Redelivery reads take in what lies between two messages that are at most this far apart.
const REDELIVERY_GAP_MAX: u64 = 16;

/// Whose credit a lease takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holder {
    /// Nobody's, after a restart.
    Nobody,
    /// The message is on its way to this consumer, or there.
    Has(ConsumerId),
    /// The message leaves to this consumer when its lease is durable.
    Awaits(ConsumerId),
}

/// A delivery that awaits its ack.
#[derive(Clone, Copy, Debug)]
struct Lease {
    deadline: Timestamp,
    number: u32,
    attempts: u32,
    holder: Holder,
    bytes: u64,
    /// The earliest time at which a timer finds it.
    timer: Timestamp,
}

/// A message that was delivered and came back.
#[derive(Clone, Copy, Debug)]
struct Failed {
    not_before: Timestamp,
    number: u32,
    attempts: u32,
}

/// A lease that ended, with the credit that it gives back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    pub(super) consumer: Option<ConsumerId>,
    pub(super) bytes: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Outstanding {
    partition: u32,
    leases: BTreeMap<u64, Lease>,
    failed: BTreeMap<u64, Failed>,
    /// Failed ones that may be delivered again and have to be read.
    due: BTreeSet<u64>,
}

impl Lease {
    fn ended(&self) -> Ended {
        let consumer = match self.holder {
            Holder::Nobody => None,
            Holder::Has(consumer) | Holder::Awaits(consumer) => Some(consumer),
        };
        Ended {
            consumer,
            bytes: self.bytes,
        }
    }
}

impl Outstanding {
    pub(super) fn new(partition: u32) -> Self {
        Self {
            partition,
            leases: BTreeMap::new(),
            failed: BTreeMap::new(),
            due: BTreeSet::new(),
        }
    }

    /// Takes in what was stored.
    pub(super) fn restore(&mut self, offset: u64, slot: Slot, timers: &mut Timers) {
        match slot {
            Slot::Pending | Slot::Done => {}
            Slot::Leased(Delivered {
                time,
                number,
                attempts,
            }) => {
                let lease = Lease {
                    deadline: time,
                    number,
                    attempts,
                    holder: Holder::Nobody,
                    bytes: 0,
                    timer: rounded(time),
                };
                self.leases.insert(offset, lease);
                self.watch(lease.timer, offset..offset + 1, timers);
            }
            Slot::Failed(Delivered {
                time,
                number,
                attempts,
            }) => {
                let failed = Failed {
                    not_before: time,
                    number,
                    attempts,
                };
                self.failed.insert(offset, failed);
                timers.set_offsets(time, Timer::Redelivery(self.partition), offset..offset + 1);
            }
        }
    }

    /// Leases.
    pub(super) fn leased(&self) -> usize {
        self.leases.len()
    }

    /// Leases and failed messages.
    pub(super) fn len(&self) -> usize {
        self.leases.len() + self.failed.len()
    }

    pub(super) fn is_leased(&self, offset: u64) -> bool {
        self.leases.contains_key(&offset)
    }

    pub(super) fn is_failed(&self, offset: u64) -> bool {
        self.failed.contains_key(&offset)
    }

    /// Whether this delivery is the newest of its message, and its lease has not ended.
    pub(super) fn is_current(&self, offset: u64, number: u32) -> bool {
        self.leases
            .get(&offset)
            .is_some_and(|lease| lease.number == number)
    }

    /// Leases and failed messages as they are stored.
    pub(super) fn slots(&self, offsets: Range<u64>) -> impl Iterator<Item = (u64, Slot)> {
        let leases = self.leases.range(offsets.clone()).map(|(offset, lease)| {
            let delivered = Delivered {
                time: lease.deadline,
                number: lease.number,
                attempts: lease.attempts,
            };
            (*offset, Slot::Leased(delivered))
        });
        let failed = self.failed.range(offsets).map(|(offset, failed)| {
            let delivered = Delivered {
                time: failed.not_before,
                number: failed.number,
                attempts: failed.attempts,
            };
            (*offset, Slot::Failed(delivered))
        });
        leases.chain(failed)
    }

    /// Leases a message, and returns the delivery's number. [`Outstanding::watch`] is told of it with its neighbours.
    pub(super) fn lease(
        &mut self,
        offset: u64,
        deadline: Timestamp,
        holder: Holder,
        bytes: u64,
    ) -> u32 {
        let (number, attempts) = self
            .unfail(offset)
            .map_or((0, 0), |failed| (failed.number, failed.attempts));
        let number = number.saturating_add(1);
        let lease = Lease {
            deadline,
            number,
            attempts,
            holder,
            bytes,
            timer: rounded(deadline),
        };
        self.leases.insert(offset, lease);
        number
    }

    /// Sees to it that these leases end at their deadline.
    pub(super) fn watch(&self, deadline: Timestamp, offsets: Range<u64>, timers: &mut Timers) {
        timers.set_offsets(rounded(deadline), Timer::Leases(self.partition), offsets);
    }

    /// The message leaves. False when its lease has ended or been superseded.
    pub(super) fn send(&mut self, offset: u64, number: u32) -> bool {
        match self.leases.get_mut(&offset) {
            Some(lease) if lease.number == number => {
                if let Holder::Awaits(consumer) = lease.holder {
                    lease.holder = Holder::Has(consumer);
                }
                true
            }
            _ => false,
        }
    }

    /// Moves the deadline of a lease that has not ended or been superseded; whether there is one.
    pub(super) fn extend(
        &mut self,
        offset: u64,
        number: u32,
        deadline: Timestamp,
        timers: &mut Timers,
    ) -> bool {
        let Some(lease) = self.leases.get_mut(&offset) else {
            return false;
        };
        if lease.number != number {
            return false;
        }
        lease.deadline = deadline;
        let timer = rounded(deadline);
        // A later deadline is noticed when the earlier timer comes.
        if timer < lease.timer {
            lease.timer = timer;
            self.watch(timer, offset..offset + 1, timers);
        }
        true
    }

    /// Ends a lease without an ack, if it has not ended or been superseded; the message may be delivered again.
    /// `counts`: as a failed attempt. What never left is none.
    pub(super) fn give_back(
        &mut self,
        now: Timestamp,
        offset: u64,
        number: u32,
        counts: bool,
    ) -> Option<Ended> {
        if !self.is_current(offset, number) {
            return None;
        }
        let lease = self.leases.remove(&offset)?;
        let counts = counts && !matches!(lease.holder, Holder::Awaits(_));
        let failed = Failed {
            not_before: now,
            number,
            attempts: lease.attempts.saturating_add(counts.into()),
        };
        self.failed.insert(offset, failed);
        self.due.insert(offset);
        Some(lease.ended())
    }

    /// Ends the leases of `offsets` whose time has come, and passes each to `ended` with its offset. Leases that were
    /// extended since the timer was set get another one.
    pub(super) fn expire(
        &mut self,
        now: Timestamp,
        timer: Timestamp,
        offsets: Range<u64>,
        timers: &mut Timers,
        mut ended: impl FnMut(u64, Ended),
    ) {
        let mut late = Vec::new();
        let name = Timer::Leases(self.partition);
        for (&offset, lease) in self.leases.range_mut(offsets) {
            if lease.deadline <= now {
                late.push((offset, lease.number));
            } else if lease.timer == timer {
                lease.timer = rounded(lease.deadline);
                timers.set_offsets(lease.timer, name, offset..offset + 1);
            }
        }
        for (offset, number) in late {
            if let Some(lease) = self.give_back(now, offset, number, true) {
                ended(offset, lease);
            }
        }
    }

    /// Ends the leases of offsets that are acknowledged, and forgets what failed there.
    pub(super) fn ack(&mut self, offsets: Range<u64>, ended: &mut Vec<Ended>) {
        for offset in offsets.clone() {
            ended.extend(self.leases.remove(&offset).map(|lease| lease.ended()));
        }
        self.forget_failed(offsets);
    }

    /// Those of the offsets that are not leased, in ranges.
    pub(super) fn not_leased(&self, offsets: Range<u64>) -> Vec<Range<u64>> {
        let mut ranges = Vec::new();
        let mut start = offsets.start;
        for (&offset, _) in self.leases.range(offsets.clone()) {
            ranges.push(start..offset);
            start = offset + 1;
        }
        ranges.push(start..offsets.end);
        ranges.retain(|range| !range.is_empty());
        ranges
    }

    pub(super) fn forget_failed(&mut self, offsets: Range<u64>) {
        while let Some((&offset, _)) = self.failed.range(offsets.clone()).next() {
            self.unfail(offset);
        }
    }

    fn unfail(&mut self, offset: u64) -> Option<Failed> {
        let failed = self.failed.remove(&offset)?;
        self.due.remove(&offset);
        Some(failed)
    }

    /// Whether failed messages have to be read.
    pub(super) fn has_due(&self) -> bool {
        !self.due.is_empty()
    }

    /// What to read for redelivery, with at most so many messages.
    pub(super) fn due_range(&self, messages_max: usize) -> Option<Range<u64>> {
        let first = *self.due.first()?;
        let mut last = first;
        for &offset in self.due.iter().take(messages_max) {
            if offset - last > REDELIVERY_GAP_MAX {
                break;
            }
            last = offset;
        }
        Some(first..last + 1)
    }

    /// A message that had to be read is loaded. False when this one had not.
    pub(super) fn loaded(&mut self, offset: u64) -> bool {
        self.due.remove(&offset)
    }

    /// What had to be read of these offsets cannot be before this time.
    pub(super) fn put_off(
        &mut self,
        offsets: Range<u64>,
        not_before: Timestamp,
        timers: &mut Timers,
    ) {
        while let Some(&offset) = self.due.range(offsets.clone()).next() {
            self.due.remove(&offset);
            if let Some(failed) = self.failed.get_mut(&offset) {
                failed.not_before = not_before;
                let timer = Timer::Redelivery(self.partition);
                timers.set_offsets(not_before, timer, offset..offset + 1);
            }
        }
    }

    /// Failed messages of these offsets may be delivered again if their time has come: those that `release` does not
    /// have must be read.
    pub(super) fn come_due(
        &mut self,
        now: Timestamp,
        offsets: Range<u64>,
        mut release: impl FnMut(u64) -> bool,
    ) {
        for (&offset, failed) in self.failed.range(offsets) {
            if failed.not_before <= now && !release(offset) {
                self.due.insert(offset);
            }
        }
    }
}

/// Deadlines are in ticks, so that leases which end at about the same time share a timer.
fn rounded(deadline: Timestamp) -> Timestamp {
    time_of(tick_of(deadline))
}

#[cfg(test)]
impl Outstanding {
    /// Offset and deadline of each lease.
    pub(super) fn leases(&self) -> impl Iterator<Item = (u64, Timestamp)> {
        let leases = self.leases.iter();
        leases.map(|(offset, lease)| (*offset, lease.deadline))
    }

    pub(super) fn waits_to_leave(&self, offset: u64) -> bool {
        let lease = self.leases.get(&offset);
        lease.is_some_and(|lease| matches!(lease.holder, Holder::Awaits(_)))
    }

    /// Offset of each failed message, and when it may be delivered again.
    pub(super) fn failed(&self) -> impl Iterator<Item = (u64, Timestamp)> {
        let failed = self.failed.iter();
        failed.map(|(offset, failed)| (*offset, failed.not_before))
    }

    /// Failed messages that have to be read.
    pub(super) fn due(&self) -> impl Iterator<Item = u64> {
        self.due.iter().copied()
    }

    pub(super) fn is_due(&self, offset: u64) -> bool {
        self.due.contains(&offset)
    }
}
