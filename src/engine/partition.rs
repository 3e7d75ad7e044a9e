//! One subscription's state in one partition of its topic's log: for every offset, what has become of it.
//!
//! An offset is done (below `cursor`, or in `acked`), leased, failed, ready (loaded, waiting for a consumer),
//! damaged, or fresh (at or above `next`). Everything below `next` is in exactly one of the others.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use rangemap::{RangeMap, RangeSet};

use super::{
    input::{ConsumerId, LeaseId, LoadedMessage},
    persist::Dirty,
    timers::{Timers, tick_of},
};
use crate::{
    clock::Timestamp,
    limits::{CHUNK_OFFSETS, PREFETCH_BYTES_MAX, PREFETCH_MESSAGES_MAX},
};

/// A delivery that awaits its ack.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lease {
    pub(super) deadline: Timestamp,
    pub(super) number: u32,
    pub(super) attempts: u32,
    /// Whose credit it takes; nobody's after a restart.
    pub(super) consumer: Option<ConsumerId>,
    pub(super) bytes: u64,
    /// The earliest tick at which a timer looks at it.
    pub(super) timer: u64,
}

/// A message that was delivered and came back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failed {
    pub(super) not_before: Timestamp,
    pub(super) number: u32,
    pub(super) attempts: u32,
}

/// Redelivery reads take in what lies between two messages that are at most this far apart.
const REDELIVERY_GAP_MAX: u64 = 16;

/// See the module.
#[derive(Debug)]
pub(super) struct Partition {
    pub(super) id: u32,
    pub(super) generation: u32,
    pub(super) cursor: u64,
    pub(super) acked: RangeSet<u64>,
    pub(super) leases: BTreeMap<u64, Lease>,
    pub(super) failed: BTreeMap<u64, Failed>,
    /// Failed ones that may be delivered again and are not loaded.
    pub(super) due: BTreeSet<u64>,
    /// Failed ones that may not be delivered yet.
    pub(super) delayed: BTreeSet<(Timestamp, u64)>,
    pub(super) ready: BTreeMap<u64, LoadedMessage>,
    pub(super) ready_bytes: usize,
    /// Not readable for now, with the time to try each again.
    damaged: RangeMap<u64, Timestamp>,
    /// No damage is tried again before.
    damaged_retry_at: Timestamp,
    pub(super) next: u64,
    pub(super) end: u64,
    reading: bool,
    read_again_at: Timestamp,
    /// Whether the last read was for redelivery, so that the next one is for fresh messages.
    redelivered_last: bool,
    pub(super) dirty: Dirty,
}

impl Partition {
    /// A partition in which nothing has happened above `cursor`.
    pub(super) fn new(id: u32, generation: u32, cursor: u64) -> Self {
        Self {
            id,
            generation,
            cursor,
            acked: RangeSet::new(),
            leases: BTreeMap::new(),
            failed: BTreeMap::new(),
            due: BTreeSet::new(),
            delayed: BTreeSet::new(),
            ready: BTreeMap::new(),
            ready_bytes: 0,
            damaged: RangeMap::new(),
            damaged_retry_at: Timestamp::NEVER,
            next: cursor,
            end: cursor,
            reading: false,
            read_again_at: Timestamp::ZERO,
            redelivered_last: false,
            dirty: Dirty::default(),
        }
    }

    pub(super) fn is_done(&self, offset: u64) -> bool {
        offset < self.cursor || self.acked.contains(&offset)
    }

    pub(super) fn set_end(&mut self, end: u64) {
        self.end = self.end.max(end);
    }

    /// Messages that could be handed out without reading.
    pub(super) fn ready(&self) -> usize {
        self.ready.len()
    }

    /// Whether the log may hold more for a consumer than what is ready.
    pub(super) fn has_unread(&self) -> bool {
        self.reading || !self.due.is_empty() || self.next < self.end
    }

    /// Whether something cannot be delivered because it cannot be read.
    pub(super) fn has_damage(&self) -> bool {
        !self.damaged.is_empty()
    }

    fn waits_to_read(&self, now: Timestamp) -> bool {
        !self.reading && self.read_again_at > now
    }

    /// Whether a consumer would find nothing, now that all reads that may start have started.
    pub(super) fn is_exhausted(&self, now: Timestamp, fresh: bool) -> bool {
        let unread = !self.due.is_empty() || (fresh && self.next < self.end);
        self.ready.is_empty() && !self.reading && (!unread || self.waits_to_read(now))
    }

    /// When something here happens by itself, leases aside. What was due at `handled_at`, when the time passed here
    /// last, waits for an event.
    pub(super) fn next_deadline(&self, handled_at: Timestamp) -> Option<Timestamp> {
        let delayed = self.delayed.first().map(|(time, _)| *time);
        let damaged = self.has_damage().then_some(self.damaged_retry_at);
        let read = self.waits_to_read(handled_at).then_some(self.read_again_at);
        delayed
            .into_iter()
            .chain(damaged)
            .chain(read)
            .filter(|time| *time > handled_at)
            .min()
    }

    /// What to read next, with the bytes to read, if more is wanted. `fresh`: messages that were never delivered
    /// may be taken on.
    pub(super) fn start_read(
        &mut self,
        now: Timestamp,
        fresh: bool,
    ) -> Option<(Range<u64>, usize)> {
        if self.reading
            || self.read_again_at > now
            || self.ready_bytes >= PREFETCH_BYTES_MAX / 2
            || self.ready.len() >= PREFETCH_MESSAGES_MAX / 2
        {
            return None;
        }
        let fresh_range = if fresh { self.fresh_range() } else { None };
        let again = if self.redelivered_last && fresh_range.is_some() {
            None
        } else {
            self.damaged_range(now).or_else(|| self.redelivery_range())
        };
        self.redelivered_last = again.is_some();
        let range = again.or(fresh_range)?;
        self.reading = true;
        Some((range, PREFETCH_BYTES_MAX / 2))
    }

    fn fresh_range(&mut self) -> Option<Range<u64>> {
        loop {
            let known = self.acked.get(&self.next);
            let known = known.or_else(|| Some(self.damaged.get_key_value(&self.next)?.0));
            let Some(known) = known else { break };
            self.next = known.end;
        }
        let room = (PREFETCH_MESSAGES_MAX - self.ready.len()) as u64;
        let to = self.end.min(self.next.saturating_add(room));
        // What is done in one piece of some length is not worth reading through.
        let stop = self
            .acked
            .overlapping(self.next..to)
            .find(|done| done.end - done.start >= CHUNK_OFFSETS)
            .map_or(to, |done| done.start);
        let damage = self.damaged.overlapping(self.next..stop).next();
        let stop = damage.map_or(stop, |(damaged, _)| damaged.start);
        (self.next < stop).then_some(self.next..stop)
    }

    fn redelivery_range(&self) -> Option<Range<u64>> {
        let first = *self.due.first()?;
        let mut last = first;
        for &offset in self.due.iter().take(PREFETCH_MESSAGES_MAX / 2) {
            if offset - last > REDELIVERY_GAP_MAX {
                break;
            }
            last = offset;
        }
        Some(first..last + 1)
    }

    fn damaged_range(&mut self, now: Timestamp) -> Option<Range<u64>> {
        if self.damaged_retry_at > now {
            return None;
        }
        let mut damaged = self.damaged.iter();
        let due = damaged.find(|(_, retry_at)| **retry_at <= now);
        let due = due.map(|(offsets, _)| offsets.clone());
        if due.is_none() {
            self.see_damaged_retry();
        }
        due
    }

    fn see_damaged_retry(&mut self) {
        let earliest = self.damaged.iter().map(|(_, retry_at)| *retry_at).min();
        self.damaged_retry_at = earliest.unwrap_or(Timestamp::NEVER);
    }

    /// Takes in what a read found. Whatever in `from..next` has no record is done.
    pub(super) fn loaded(
        &mut self,
        now: Timestamp,
        retention_millis: u64,
        from: u64,
        next: u64,
        messages: Vec<LoadedMessage>,
    ) {
        self.reading = false;
        let mut gap = from;
        for message in messages {
            let offset = message.offset;
            self.skip(gap..offset);
            gap = offset + 1;
            if message.publish_time.plus_millis(retention_millis) <= now {
                self.skip(offset..offset + 1);
                continue;
            }
            // A redelivery that starts above `next` (after a restart) leaves fresh ones to their own read.
            let fresh =
                (offset >= self.next && from <= self.next) || self.damaged.contains_key(&offset);
            let again = self.due.remove(&offset);
            let taken = self.is_done(offset)
                || self.leases.contains_key(&offset)
                || self.ready.contains_key(&offset)
                || (self.failed.contains_key(&offset) && !again);
            if (fresh || again) && !taken {
                self.ready_bytes += message.body.len();
                self.ready.insert(offset, message);
            }
        }
        self.skip(gap..next);
        if (from..=next).contains(&self.next) {
            self.next = next;
        }
        if from < next {
            self.damaged.remove(from..next);
        }
        self.advance_cursor();
    }

    /// Counts offsets that hold nothing to deliver as done. Never worth a flush of its own.
    fn skip(&mut self, offsets: Range<u64>) {
        if offsets.is_empty() || offsets.end <= self.cursor {
            return;
        }
        let offsets = offsets.start.max(self.cursor)..offsets.end;
        let leased: Vec<u64> = self
            .leases
            .range(offsets.clone())
            .map(|(o, _)| *o)
            .collect();
        if leased.is_empty() {
            self.forget(offsets.clone());
            self.acked.insert(offsets.clone());
        } else {
            // A lease outlives its message: the consumer's credit ends with the ack or the deadline.
            let mut start = offsets.start;
            for offset in leased.into_iter().chain([offsets.end]) {
                if start < offset {
                    self.forget(start..offset);
                    self.acked.insert(start..offset);
                }
                start = offset + 1;
            }
        }
        self.dirty.skipped(offsets);
    }

    /// Drops everything but leases that is known of these offsets.
    fn forget(&mut self, offsets: Range<u64>) {
        if self.has_damage() {
            self.damaged.remove(offsets.clone());
        }
        let failed: Vec<u64> = self
            .failed
            .range(offsets.clone())
            .map(|(o, _)| *o)
            .collect();
        for offset in failed {
            self.unfail(offset);
        }
        let ready: Vec<u64> = self.ready.range(offsets).map(|(o, _)| *o).collect();
        for offset in ready {
            self.unready(offset);
        }
    }

    fn unfail(&mut self, offset: u64) -> Option<Failed> {
        let failed = self.failed.remove(&offset)?;
        if !self.due.remove(&offset) {
            self.delayed.remove(&(failed.not_before, offset));
        }
        Some(failed)
    }

    fn unready(&mut self, offset: u64) -> Option<LoadedMessage> {
        let message = self.ready.remove(&offset)?;
        self.ready_bytes -= message.body.len();
        Some(message)
    }

    pub(super) fn read_failed(&mut self, retry_at: Timestamp) {
        self.reading = false;
        self.read_again_at = retry_at;
    }

    /// Sets these aside until `retry_at`, and goes on behind them.
    pub(super) fn damaged(&mut self, offsets: Range<u64>, retry_at: Timestamp) {
        self.reading = false;
        if offsets.is_empty() {
            self.read_again_at = retry_at;
            return;
        }
        let due: Vec<u64> = self.due.range(offsets.clone()).copied().collect();
        for offset in due {
            if let Some(failed) = self.failed.get_mut(&offset) {
                failed.not_before = retry_at;
                self.due.remove(&offset);
                self.delayed.insert((retry_at, offset));
            }
        }
        if (offsets.start..offsets.end).contains(&self.next) {
            self.next = offsets.end;
        }
        self.damaged.insert(offsets, retry_at);
        self.see_damaged_retry();
    }

    /// Lets failed messages whose time has come be delivered again.
    pub(super) fn release_delayed(&mut self, now: Timestamp) {
        while let Some(&(time, offset)) = self.delayed.first() {
            if time > now {
                return;
            }
            self.delayed.pop_first();
            self.due.insert(offset);
        }
    }

    /// Bytes of the oldest ready message. What was loaded in time but became too old while it waited for a
    /// consumer is done.
    pub(super) fn peek(&mut self, now: Timestamp, retention_millis: u64) -> Option<usize> {
        loop {
            let (&offset, message) = self.ready.first_key_value()?;
            if message.publish_time.plus_millis(retention_millis) > now {
                return Some(message.body.len());
            }
            self.skip(offset..offset + 1);
            self.advance_cursor();
        }
    }

    /// Leases the oldest ready message.
    pub(super) fn lease_first(
        &mut self,
        deadline: Timestamp,
        consumer: ConsumerId,
        timers: &mut Timers,
    ) -> Option<(LeaseId, LoadedMessage)> {
        let (offset, message) = self.ready.pop_first()?;
        self.ready_bytes -= message.body.len();
        let (number, attempts) = self
            .unfail(offset)
            .map_or((0, 0), |failed| (failed.number, failed.attempts));
        let timer = tick_of(deadline);
        timers.set(timer, self.id, offset);
        let lease = Lease {
            deadline,
            number: number.saturating_add(1),
            attempts,
            consumer: Some(consumer),
            bytes: message.body.len() as u64,
            timer,
        };
        self.leases.insert(offset, lease);
        self.dirty.leased(offset);
        Some((self.lease_id(offset, lease.number), message))
    }

    fn lease_id(&self, offset: u64, number: u32) -> LeaseId {
        LeaseId {
            generation: self.generation,
            partition: self.id,
            offset,
            number,
        }
    }

    /// Counts these neighbours as acknowledged, whatever their state was. Ended leases go to `ended`.
    pub(super) fn ack(&mut self, offsets: Range<u64>, ended: &mut Vec<Lease>) {
        if offsets.start < self.cursor {
            self.dirty.acked_again(offsets.start..offsets.start + 1);
        }
        // What was never read was never delivered, so an ack of it is not ours (a log that lost its end).
        let offsets = offsets.start.max(self.cursor)..offsets.end.min(self.end);
        if offsets.is_empty() {
            return;
        }
        let done = self.acked.get(&offsets.start);
        if done.is_some_and(|done| done.end >= offsets.end) {
            self.dirty.acked_again(offsets);
            return;
        }
        for offset in offsets.clone() {
            ended.extend(self.leases.remove(&offset));
        }
        self.forget(offsets.clone());
        self.acked.insert(offsets.clone());
        self.dirty.acked(offsets);
    }

    /// Moves the cursor over what is done.
    pub(super) fn advance_cursor(&mut self) {
        let Some(done) = self.acked.get(&self.cursor).cloned() else {
            return;
        };
        self.cursor = done.end;
        self.acked.remove(done);
        self.next = self.next.max(self.cursor);
        self.dirty.cursor_moved(self.cursor);
    }

    /// Moves the deadline of a lease that has not ended or been superseded.
    pub(super) fn extend(
        &mut self,
        offset: u64,
        number: u32,
        deadline: Timestamp,
        timers: &mut Timers,
    ) {
        let Some(lease) = self
            .leases
            .get_mut(&offset)
            .filter(|lease| lease.number == number)
        else {
            return;
        };
        lease.deadline = deadline;
        let tick = tick_of(deadline);
        // A later deadline is noticed when the earlier timer looks.
        if tick < lease.timer {
            lease.timer = tick;
            timers.set(tick, self.id, offset);
        }
        self.dirty.leased(offset);
    }

    /// Ends a lease without an ack. `counts`: as a failed attempt.
    pub(super) fn give_back(
        &mut self,
        now: Timestamp,
        offset: u64,
        number: u32,
        counts: bool,
    ) -> Option<Lease> {
        if self.leases.get(&offset)?.number != number {
            return None;
        }
        let lease = self.leases.remove(&offset)?;
        self.failed.insert(
            offset,
            Failed {
                not_before: now,
                number,
                attempts: lease.attempts.saturating_add(counts.into()),
            },
        );
        self.due.insert(offset);
        self.dirty.leased(offset);
        Some(lease)
    }

    /// Ends the leases of `offsets` whose time has come; timers of extended ones are set again.
    pub(super) fn expire(
        &mut self,
        now: Timestamp,
        tick: u64,
        offsets: Range<u64>,
        timers: &mut Timers,
    ) -> Vec<Lease> {
        let mut late = Vec::new();
        for (&offset, lease) in self.leases.range_mut(offsets) {
            if lease.deadline <= now {
                late.push((offset, lease.number));
            } else if lease.timer == tick {
                lease.timer = tick_of(lease.deadline);
                timers.set(lease.timer, self.id, offset);
            }
        }
        late.into_iter()
            .filter_map(|(offset, number)| self.give_back(now, offset, number, true))
            .collect()
    }

    /// Puts a message back that was failed when the state was stored.
    pub(super) fn restore_failed(&mut self, offset: u64, failed: Failed) {
        self.delayed.insert((failed.not_before, offset));
        self.failed.insert(offset, failed);
    }
}
