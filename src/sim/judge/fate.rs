//! What consumers know of one message of a subscription.

use std::collections::BTreeMap;

use super::LATE_MILLIS;
use crate::clock::Timestamp;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Fate {
    /// When a consumer was told the message, each time.
    pub(super) told: Vec<Timestamp>,
    /// The delivery of the last time.
    pub(super) last: Option<Lease>,
    /// The deliveries by which it may have been acknowledged: no answer says that their ids had no effect.
    pub(super) acks: BTreeMap<u32, Ack>,
    /// The first acknowledgement that was confirmed.
    pub(super) confirmed: Option<Confirmed>,
    /// Failed deliveries for sure, all but the last.
    pub(super) failures: u32,
    /// Whether the server may have forgotten a delivery, and then counts others like it.
    pub(super) has_forgotten: bool,
    /// When it may have failed, at the latest; a nack that is on its way may be carried out at any time.
    pub(super) may_have_failed: Timestamp,
}

/// An acknowledgement by a delivery.
#[derive(Debug)]
pub(super) struct Ack {
    pub(super) id: String,
    /// When it was sent first.
    pub(super) sent: Timestamp,
}

/// That such an acknowledgement was confirmed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Confirmed {
    pub(super) at: Timestamp,
    /// Of which delivery.
    pub(super) number: u32,
}

/// A delivery.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) consumer: u64,
    /// It began then or later.
    pub(super) from: Timestamp,
    /// It is known since then, or has its deadline since then.
    pub(super) changed: Timestamp,
    /// It does not end before, unless it is ended.
    pub(super) ends_min: Timestamp,
    /// It has ended by then.
    pub(super) ends_max: Timestamp,
    /// Both as they were before an extension that is on its way.
    pub(super) before_extension: Timestamp,
    pub(super) max_before: Timestamp,
    /// When it was given back, whether or not that was answered.
    pub(super) nack_sent: Option<Timestamp>,
    /// When it had certainly been given back and had not ended otherwise.
    pub(super) nacked: Option<Timestamp>,
    /// Whether the server may have forgotten what became of it.
    pub(super) is_shaky: bool,
    /// Whether the subscription was taken over since it began.
    pub(super) is_restored: bool,
    /// Whether it certainly was a failure that ended it, once it has been followed by another.
    pub(super) is_failure: bool,
}

impl Lease {
    /// A delivery that was told now, and began at `from` or later.
    pub(super) fn new(consumer: u64, from: Timestamp, now: Timestamp, millis: u64) -> Self {
        Self {
            consumer,
            from,
            changed: now,
            ends_min: from.plus_millis(millis),
            ends_max: now.plus_millis(millis),
            before_extension: Timestamp::ZERO,
            max_before: Timestamp::ZERO,
            nack_sent: None,
            nacked: None,
            is_shaky: false,
            is_restored: false,
            is_failure: false,
        }
    }

    /// Whether it lasts for sure, but for what happens to others of its key.
    pub(super) fn lasts(&self, now: Timestamp) -> bool {
        !self.is_shaky && self.nack_sent.is_none() && now < self.ends_min
    }

    /// Whether it has failed for sure at `now`, unless others of its key ended it.
    pub(super) fn has_failed(&self, now: Timestamp) -> bool {
        self.nacked.is_some_and(|nacked| nacked < now)
            || self.ends_max.plus_millis(LATE_MILLIS) < now
    }

    /// When it failed at the earliest, if it did.
    pub(super) fn fails_min(&self) -> Timestamp {
        let given_back = self.nack_sent.unwrap_or(Timestamp::NEVER);
        self.ends_min.min(given_back)
    }
}

impl Fate {
    /// The how manieth time it was told last.
    pub(super) fn number(&self) -> u32 {
        self.told.len() as u32
    }

    /// Whether it may be acknowledged.
    pub(super) fn may_be_acked(&self) -> bool {
        !self.acks.is_empty()
    }

    /// The last delivery, if it is the one of this number.
    pub(super) fn current(&self, number: u32) -> Option<&Lease> {
        self.last.as_ref().filter(|_| self.number() == number)
    }

    /// Whether a later delivery than this one was told before.
    pub(super) fn is_superseded(&self, number: u32, before: Timestamp) -> bool {
        let next = self.told.get(number as usize);
        next.is_some_and(|told| *told < before)
    }

    /// Whether its last delivery certainly failed, once it has been followed by another.
    pub(super) fn has_failed_last(&self) -> bool {
        self.last.as_ref().is_some_and(|lease| lease.is_failure)
    }

    /// The subscription was taken over. `is_stored`: whether what was last changed then is known to the new owner.
    pub(super) fn restarted(&mut self, is_stored: impl Fn(Timestamp) -> bool) {
        if let Some(lease) = &mut self.last {
            lease.is_restored = true;
            let nack = lease.nack_sent.unwrap_or_default();
            if !is_stored(lease.changed.max(nack)) {
                lease.is_shaky = true;
                self.has_forgotten = true;
            }
        }
    }

    /// Whether this message may have failed at `from` or later, as it is known now.
    pub(super) fn may_have_failed_since(&self, from: Timestamp, now: Timestamp) -> bool {
        if self.may_have_failed >= from {
            return true;
        }
        let Some(lease) = &self.last else {
            return false;
        };
        let saved = !lease.is_shaky && self.confirmed.is_some_and(|it| it.at <= lease.ends_min);
        let ended = lease.is_shaky || lease.ends_min <= now;
        !saved && ended && lease.ends_max.plus_millis(LATE_MILLIS) >= from
    }
}
