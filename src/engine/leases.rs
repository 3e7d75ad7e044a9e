//! Which messages of a partition are leased, to which consumer, and until when.

use std::{collections::BTreeMap, ops::Range};

use super::{
    chunk::{Delivered, Slot},
    input::ConsumerId,
    output::Ended,
    retry::FailureRules,
    timers::{Timer, Timers, rounded},
};
use crate::clock::Timestamp;

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

/// A lease that ended without an ack.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unacked {
    pub(super) ended: Ended,
    /// Failed attempts before this one.
    pub(super) attempts: u32,
    /// Whether the message has left to its consumer.
    pub(super) has_left: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Leases {
    partition: u32,
    leases: BTreeMap<u64, Lease>,
}

impl Lease {
    fn ended(&self, partition: u32, offset: u64) -> Ended {
        let consumer = match self.holder {
            Holder::Nobody => None,
            Holder::Has(consumer) | Holder::Awaits(consumer) => Some(consumer),
        };
        Ended {
            consumer,
            partition,
            offset,
            number: self.number,
            bytes: self.bytes,
        }
    }
}

impl Leases {
    pub(super) fn new(partition: u32) -> Self {
        Self {
            partition,
            leases: BTreeMap::new(),
        }
    }

    /// Takes in what was stored.
    pub(super) fn restore(&mut self, offset: u64, stored: Delivered, timers: &mut Timers) {
        let lease = Lease {
            deadline: stored.time,
            number: stored.number,
            attempts: stored.attempts,
            holder: Holder::Nobody,
            bytes: 0,
            timer: rounded(stored.time),
        };
        self.leases.insert(offset, lease);
        self.watch(lease.timer, offset..offset + 1, timers);
    }

    pub(super) fn len(&self) -> usize {
        self.leases.len()
    }

    pub(super) fn contains(&self, offset: u64) -> bool {
        self.leases.contains_key(&offset)
    }

    /// Whether this delivery is the newest of its message, and its lease has not ended.
    pub(super) fn is_current(&self, offset: u64, number: u32) -> bool {
        self.leases
            .get(&offset)
            .is_some_and(|lease| lease.number == number)
    }

    /// Whether one of them is of a message that is a dead letter with its next failure.
    pub(super) fn have_last_attempt(&self, rules: FailureRules) -> bool {
        let mut leases = self.leases.values();
        leases.any(|lease| rules.forward_next(lease.attempts))
    }

    /// Whether this delivery, made by a subscription's engine of this `epoch` or of one before it, is the newest of its
    /// message, and its lease has not ended. A number that was lost in a crash has been given again since.
    pub(super) fn is_issued(&self, offset: u64, number: u32, issuer: u64, epoch: u64) -> bool {
        self.leases.get(&offset).is_some_and(|lease| {
            let is_of_issuer = match lease.holder {
                Holder::Nobody => issuer < epoch,
                Holder::Has(_) | Holder::Awaits(_) => issuer == epoch,
            };
            #[cfg(test)]
            if crate::sim::planted::Bug::OldNumberAccepted.is_planted() {
                return lease.number >= number && is_of_issuer;
            }
            lease.number == number && is_of_issuer
        })
    }

    /// The how manieth delivery of the message is leased.
    pub(super) fn number(&self, offset: u64) -> Option<u32> {
        self.leases.get(&offset).map(|lease| lease.number)
    }

    /// Leases as they are stored.
    pub(super) fn slots(&self, offsets: Range<u64>) -> impl Iterator<Item = (u64, Slot)> {
        self.leases.range(offsets).map(|(offset, lease)| {
            let delivered = Delivered {
                time: lease.deadline,
                number: lease.number,
                attempts: lease.attempts,
            };
            (*offset, Slot::Leased(delivered))
        })
    }

    /// Leases a message as its delivery of this number. [`Leases::watch`] is told of it with its neighbours.
    pub(super) fn grant(&mut self, offset: u64, granted: Delivered, holder: Holder, bytes: u64) {
        let lease = Lease {
            deadline: granted.time,
            number: granted.number,
            attempts: granted.attempts,
            holder,
            bytes,
            timer: rounded(granted.time),
        };
        self.leases.insert(offset, lease);
    }

    /// Sees to it that these leases end at their deadline.
    pub(super) fn watch(&self, deadline: Timestamp, offsets: Range<u64>, timers: &mut Timers) {
        timers.set_offsets(rounded(deadline), Timer::Leases(self.partition), offsets);
    }

    fn unwatch(&self, timer: Timestamp, offsets: Range<u64>, timers: &mut Timers) {
        if !offsets.is_empty() {
            timers.unset_offsets(timer, Timer::Leases(self.partition), offsets);
        }
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
            let before = std::mem::replace(&mut lease.timer, timer);
            self.unwatch(before, offset..offset + 1, timers);
            self.watch(timer, offset..offset + 1, timers);
        }
        true
    }

    /// Ends a lease without an ack, if it has not ended or been superseded.
    pub(super) fn end(&mut self, offset: u64, number: u32, timers: &mut Timers) -> Option<Unacked> {
        if !self.is_current(offset, number) {
            return None;
        }
        let lease = self.leases.remove(&offset)?;
        self.unwatch(lease.timer, offset..offset + 1, timers);
        Some(Unacked {
            ended: lease.ended(self.partition, offset),
            attempts: lease.attempts,
            has_left: !matches!(lease.holder, Holder::Awaits(_)),
        })
    }

    /// Offset and number of the leases of `offsets` whose time has come. Those that were extended since the timer was
    /// set get another one.
    pub(super) fn late(
        &mut self,
        now: Timestamp,
        timer: Timestamp,
        offsets: Range<u64>,
        timers: &mut Timers,
    ) -> Vec<(u64, u32)> {
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
        late
    }

    /// Ends the leases of offsets that are acknowledged.
    pub(super) fn ack(&mut self, offsets: Range<u64>, timers: &mut Timers, ended: &mut Vec<Ended>) {
        // Neighbours with the same timer, as they were leased together.
        let (mut timer, mut run) = (Timestamp::ZERO, 0..0);
        for offset in offsets {
            let Some(lease) = self.leases.remove(&offset) else {
                continue;
            };
            ended.push(lease.ended(self.partition, offset));
            if offset != run.end || lease.timer != timer {
                self.unwatch(timer, run, timers);
                (timer, run) = (lease.timer, offset..offset);
            }
            run.end = offset + 1;
        }
        self.unwatch(timer, run, timers);
    }

    /// Those of the offsets that are not leased, in ranges.
    pub(super) fn gaps(&self, offsets: Range<u64>) -> Vec<Range<u64>> {
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
}

#[cfg(test)]
impl Leases {
    /// Whether each is found in time.
    pub(super) fn check(&self, timers: &Timers) {
        let name = Timer::Leases(self.partition);
        for (offset, lease) in &self.leases {
            assert!(lease.timer <= rounded(lease.deadline));
            assert!(timers.has(lease.timer, name, *offset));
        }
    }

    pub(super) fn offsets(&self) -> impl Iterator<Item = u64> {
        self.leases.keys().copied()
    }

    pub(super) fn waits_to_leave(&self, offset: u64) -> bool {
        let lease = self.leases.get(&offset);
        lease.is_some_and(|lease| matches!(lease.holder, Holder::Awaits(_)))
    }
}
