//! What of a partition's log to read next.

use std::ops::Range;

use rangemap::{RangeMap, RangeSet};

use super::{
    progress::Progress,
    timers::{Timer, Timers},
    wanted::Wanted,
};
use crate::{
    clock::Timestamp,
    limits::{
        CHUNK_OFFSETS, MESSAGE_BYTES_ASSUMED, PREFETCH_BYTES_MAX, PREFETCH_MESSAGES_MAX,
        READ_AHEAD_BYTES_MIN, READ_AHEAD_MESSAGES_MIN,
    },
};

/// Messages, and about how many bytes, that a read for redelivery passes over between two of those that it is for. To
/// read through them costs about as much as a read of its own does.
const REDELIVERY_GAP_MAX: u64 = 256;
/// See [`REDELIVERY_GAP_MAX`].
const REDELIVERY_GAP_BYTES_MAX: u64 = 256 * 1024;

/// After so many the least that is read is the most.
const DOUBLINGS_MAX: u32 = (PREFETCH_BYTES_MAX / READ_AHEAD_BYTES_MIN).ilog2();

/// What a read is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Messages that were never delivered; others on the way are taken in too.
    Fresh,
    /// Messages that are to be delivered again, and no others.
    Redelivery,
}

/// See the module.
#[derive(Debug)]
pub(super) struct ReadAhead {
    partition: u32,
    /// Everything from here on is fresh: never read.
    next: u64,
    /// Where the log ends.
    end: u64,
    /// Not readable for now, with the time to try each again.
    damaged: RangeMap<u64, Timestamp>,
    /// Those whose time has come.
    retry: RangeSet<u64>,
    /// What the read on its way is for.
    reading: Option<Purpose>,
    /// A read failed, and its timer has not come.
    paused: bool,
    /// What the last read was for, so that the next one is for the other.
    last: Purpose,
    /// What an offset took in the last read.
    bytes_per_offset: u64,
    /// How often the least that is read was doubled, since a read left something behind.
    doublings: u32,
}

/// How much a read is to find at most.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    pub(super) messages: usize,
    pub(super) bytes: usize,
}

impl Room {
    /// What is ever read at once.
    pub(super) const MOST: Self = Self {
        messages: PREFETCH_MESSAGES_MAX,
        bytes: PREFETCH_BYTES_MAX / 2,
    };
}

impl ReadAhead {
    pub(super) fn new(partition: u32, next: u64) -> Self {
        Self {
            partition,
            next,
            end: next,
            damaged: RangeMap::new(),
            retry: RangeSet::new(),
            reading: None,
            paused: false,
            last: Purpose::Fresh,
            bytes_per_offset: 0,
            doublings: 0,
        }
    }

    /// How much to read ahead for consumers who want this: twice as much, so that what follows is there when they want
    /// more, and not so little that each reads for itself.
    pub(super) fn room_for(&self, wanted: Wanted) -> Room {
        let at_least = |min: usize, max: usize| (min << self.doublings).min(max);
        let messages = usize::try_from(wanted.messages.saturating_mul(2)).unwrap_or(usize::MAX);
        let message_bytes = match self.bytes_per_offset {
            0 => MESSAGE_BYTES_ASSUMED,
            known => known,
        };
        let bytes = wanted.messages.saturating_mul(message_bytes);
        let bytes = bytes.min(wanted.bytes).saturating_mul(2);
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        let bytes_max = PREFETCH_BYTES_MAX / 2;
        Room {
            messages: messages.clamp(
                at_least(READ_AHEAD_MESSAGES_MIN, PREFETCH_MESSAGES_MAX),
                PREFETCH_MESSAGES_MAX,
            ),
            bytes: bytes.clamp(at_least(READ_AHEAD_BYTES_MIN, bytes_max), bytes_max),
        }
    }

    /// What was read from here on was not wanted: it is fresh again.
    pub(super) fn go_back(&mut self, to: Option<u64>) {
        self.doublings = 0;
        self.next = self.next.min(to.unwrap_or(self.next));
    }

    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Everything from here on was never read.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Whether this message was read, if it could be.
    pub(super) fn is_read(&self, offset: u64) -> bool {
        offset < self.next && !self.is_damaged(offset)
    }

    /// Whether this message is set aside as it could not be read.
    pub(super) fn is_damaged(&self, offset: u64) -> bool {
        self.damaged.contains_key(&offset)
    }

    pub(super) fn see_end(&mut self, end: u64) {
        self.end = self.end.max(end);
    }

    pub(super) fn is_reading(&self) -> bool {
        self.reading.is_some()
    }

    pub(super) fn is_paused(&self) -> bool {
        self.paused
    }

    /// Whether the log holds messages that were never read.
    pub(super) fn has_fresh(&self) -> bool {
        self.next < self.end
    }

    /// Whether something cannot be delivered because it cannot be read.
    pub(super) fn has_damage(&self) -> bool {
        !self.damaged.is_empty()
    }

    /// What to read next, and what for, unless a read is on its way or has to wait. `room` says how many messages that
    /// were never delivered may be read, if any; `due` what is to be delivered again, with at most so many others
    /// between two of them.
    pub(super) fn start(
        &mut self,
        progress: &Progress,
        room: Option<usize>,
        due: impl FnOnce(u64) -> Option<Range<u64>>,
    ) -> Option<(Range<u64>, Purpose)> {
        if self.is_reading() || self.paused {
            return None;
        }
        let fresh = room.and_then(|room| self.wanted_range(progress, room as u64));
        let again = if self.last == Purpose::Redelivery && fresh.is_some() {
            None
        } else {
            let gap_bytes = REDELIVERY_GAP_BYTES_MAX / self.bytes_per_offset.max(1);
            due(gap_bytes.min(REDELIVERY_GAP_MAX)).map(|due| self.before_damage(due))
        };
        let read = match (again, fresh) {
            (Some(again), _) => (again, Purpose::Redelivery),
            (None, fresh) => (fresh?, Purpose::Fresh),
        };
        self.last = read.1;
        self.reading = Some(read.1);
        Some(read)
    }

    /// What was never delivered: first what could not be read, then what was never read.
    fn wanted_range(&mut self, progress: &Progress, room: u64) -> Option<Range<u64>> {
        if let Some(retry) = self.retry.first() {
            return Some(retry.start..retry.end.min(retry.start.saturating_add(room)));
        }
        self.fresh_range(progress, room)
    }

    /// As much of these offsets as is damaged altogether or not at all.
    fn before_damage(&self, offsets: Range<u64>) -> Range<u64> {
        let Some((damaged, _)) = self.damaged.overlapping(offsets.clone()).next() else {
            return offsets;
        };
        let end = if damaged.start > offsets.start {
            damaged.start
        } else {
            damaged.end
        };
        offsets.start..offsets.end.min(end)
    }

    /// Passes over what needs no reading, or cannot be read for now.
    pub(super) fn pass_known(&mut self, progress: &Progress) {
        loop {
            let known = progress.piece_at(self.next);
            let known = known.or_else(|| Some(self.damaged.get_key_value(&self.next)?.0));
            let Some(known) = known else { break };
            self.next = known.end;
        }
    }

    fn fresh_range(&mut self, progress: &Progress, room: u64) -> Option<Range<u64>> {
        self.pass_known(progress);
        let to = self.end.min(self.next.saturating_add(room));
        // What is done in one piece of some length is not worth reading through.
        let stop = progress
            .pieces(self.next..to)
            .find(|done| done.end - done.start >= CHUNK_OFFSETS)
            .map_or(to, |done| done.start);
        let damage = self.damaged.overlapping(self.next..stop).next();
        let stop = damage.map_or(stop, |(damaged, _)| damaged.start);
        (self.next < stop).then_some(self.next..stop)
    }

    /// Whether a message of the read from `from` on is one that was not read before. A read for redelivery leaves fresh
    /// ones to their own, as there may be no room for them.
    pub(super) fn is_new(&self, from: u64, offset: u64) -> bool {
        let is_fresh = self.reading != Some(Purpose::Redelivery);
        (is_fresh && offset >= self.next && from <= self.next) || self.damaged.contains_key(&offset)
    }

    /// What lies in `from..next` was read, and took so many bytes.
    pub(super) fn loaded(&mut self, from: u64, next: u64, bytes: u64) {
        let is_fresh = self.reading.take() != Some(Purpose::Redelivery);
        if is_fresh && (from..=next).contains(&self.next) {
            self.next = next;
            self.doublings = if self.has_fresh() {
                (self.doublings + 1).min(DOUBLINGS_MAX)
            } else {
                0
            };
        }
        if next > from {
            self.bytes_per_offset = bytes / (next - from);
        }
        self.forget_damage(from..next);
    }

    /// What lies below is done.
    pub(super) fn pass(&mut self, cursor: u64) {
        self.next = self.next.max(cursor);
    }

    pub(super) fn failed(&mut self, retry_at: Timestamp, timers: &mut Timers) {
        self.reading = None;
        self.paused = true;
        timers.set(retry_at, Timer::Read(self.partition));
    }

    /// The time to read again after a failure has come.
    pub(super) fn resume(&mut self) {
        self.paused = false;
    }

    /// Sets these aside until `retry_at`, and goes on behind them.
    pub(super) fn damaged(
        &mut self,
        offsets: Range<u64>,
        retry_at: Timestamp,
        timers: &mut Timers,
    ) {
        self.reading = None;
        if (offsets.start..offsets.end).contains(&self.next) {
            self.next = offsets.end;
        }
        self.retry.remove(offsets.clone());
        self.damaged.insert(offsets.clone(), retry_at);
        timers.set_offsets(retry_at, Timer::Damage(self.partition), offsets);
    }

    /// Damage at these offsets is tried again, unless it was found once more since.
    pub(super) fn retry_damage(&mut self, now: Timestamp, offsets: Range<u64>) {
        let damaged = self.damaged.overlapping(offsets);
        let come = damaged.filter(|(_, retry_at)| **retry_at <= now);
        self.retry.extend(come.map(|(offsets, _)| offsets.clone()));
    }

    /// These are readable, or hold nothing to deliver.
    pub(super) fn forget_damage(&mut self, offsets: Range<u64>) {
        if self.has_damage() && !offsets.is_empty() {
            self.damaged.remove(offsets.clone());
            self.retry.remove(offsets);
        }
    }
}

#[cfg(test)]
impl ReadAhead {
    pub(super) fn check(&self, cursor: u64) {
        assert!(cursor <= self.next && self.next <= self.end);
        let is_damaged = |offsets: &Range<u64>| self.damaged.gaps(offsets).next().is_none();
        assert!(self.retry.iter().all(is_damaged));
    }
}
