//! What has to be read of messages that are known, or behind marks.

use std::ops::Range;

use super::{Ordered, lane::Lane};
use crate::{
    engine::input::ConsumerId,
    limits::{ORDERED_WAITING_MAX, PREFETCH_MESSAGES_MAX, REDELIVERY_MESSAGES_MAX},
};

/// What of [`ORDERED_WAITING_MAX`] has to be free before the log is read again for keys that were full.
const RESCAN_ROOM_MIN: usize = ORDERED_WAITING_MAX / 10;

impl Ordered {
    /// A consumer would take messages now.
    pub(in crate::engine) fn hungers(&mut self, consumer: ConsumerId) {
        let own = self.owners.lane(consumer);
        if own.is_some_and(|lane| lane.unread().next().is_some()) {
            self.to_read.insert(consumer);
        }
    }

    /// Whether something known may have to be read.
    pub(in crate::engine) fn has_unread(&self) -> bool {
        self.has_free_unread() || !self.to_read.is_empty() || self.rescans
    }

    fn has_free_unread(&self) -> bool {
        !self.is_full_of_again() && self.free.unread().next().is_some()
    }

    /// What of the messages that are known, or of those behind marks, to read: those that follow each other with at most
    /// so many others between two of them. `waiting`: how many messages of the subscription wait; `fresh`: where what was
    /// never read begins.
    pub(in crate::engine) fn unread_range(
        &mut self,
        gap_max: u64,
        waiting: usize,
        fresh: u64,
        is_hungry: impl Fn(ConsumerId) -> bool,
    ) -> Option<Range<u64>> {
        self.rescans = false;
        let own = self.next_to_read(is_hungry);
        let has_free = self.has_free_unread();
        self.read_free = has_free && (own.is_none() || !self.read_free);
        if self.read_free {
            return self.range_of(&self.free, gap_max);
        }
        if let Some(own) = own {
            self.read_last = own;
            return self.range_of(self.owners.lane(own)?, gap_max);
        }
        let has_room = waiting + RESCAN_ROOM_MIN <= ORDERED_WAITING_MAX;
        let from = self.keys.rescan_from().filter(|_| has_room)?;
        let end = fresh.min(from + PREFETCH_MESSAGES_MAX as u64 / 2);
        self.rescans = from < end;
        self.rescans.then_some(from..end)
    }

    /// The next consumer in turn that wants something of its own that has to be read. Those that do not are asked again
    /// when they do.
    fn next_to_read(&mut self, is_hungry: impl Fn(ConsumerId) -> bool) -> Option<ConsumerId> {
        loop {
            let behind = ConsumerId(self.read_last.0 + 1)..;
            let mut behind = self.to_read.range(behind);
            let consumer = *behind.next().or_else(|| self.to_read.first())?;
            let own = self.owners.lane(consumer);
            if is_hungry(consumer) && own.is_some_and(|lane| lane.unread().next().is_some()) {
                return Some(consumer);
            }
            self.to_read.remove(&consumer);
        }
    }

    fn range_of<T>(&self, lane: &Lane<T>, gap_max: u64) -> Option<Range<u64>> {
        let first = lane.unread().next()?;
        let in_lane = last_near(lane.unread(), first, gap_max);
        // What follows in its key is wanted next.
        let key = self.keys.key_of(first);
        let in_key = key.map_or(first, |key| {
            last_near(self.keys.open_from(key, first), first, gap_max)
        });
        Some(first..in_lane.max(in_key) + 1)
    }
}

/// The last of these that has at most so many others before it, again and again.
fn last_near(offsets: impl Iterator<Item = u64>, first: u64, gap_max: u64) -> u64 {
    let mut last = first;
    for offset in offsets.take(REDELIVERY_MESSAGES_MAX / 2) {
        if offset - last > gap_max + 1 {
            break;
        }
        last = offset;
    }
    last
}
