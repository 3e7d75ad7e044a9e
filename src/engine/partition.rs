//! One subscription's state in one partition of its topic's log: for every offset, what has become of it.
//!
//! An offset is done (`progress`), leased or failed (`outstanding`), loaded and waiting for a consumer (`ready`),
//! damaged, or fresh (`read_ahead`). Everything that was read is in exactly one of the first three, save that a failed
//! message may be loaded again. This is where the four are kept in step.

use std::ops::Range;

use super::{
    change::{PartitionChange, PartitionState},
    chunk::ChunkError,
    dirty::Urgency,
    frame::Frame,
    input::{ConsumerId, LeaseId, LoadedMessage},
    output::{Delivery, Verdict},
    outstanding::{Ended, Outstanding},
    progress::{Progress, Restored},
    read_ahead::ReadAhead,
    ready::Ready,
    timers::{Due, Timer, Timers},
};
use crate::{
    clock::Timestamp,
    limits::{PREFETCH_BYTES_MAX, PREFETCH_MESSAGES_MAX},
};

/// See the module.
#[derive(Debug)]
pub(super) struct Partition {
    id: u32,
    progress: Progress,
    outstanding: Outstanding,
    ready: Ready,
    read_ahead: ReadAhead,
}

impl Partition {
    /// A partition in which nothing has happened above `cursor`.
    pub(super) fn new(id: u32, generation: u32, cursor: u64) -> Self {
        Self {
            id,
            progress: Progress::new(generation, cursor),
            outstanding: Outstanding::new(id),
            ready: Ready::default(),
            read_ahead: ReadAhead::new(id, cursor),
        }
    }

    /// The partition as it was stored. The second value tells that the log ends below what was seen before, so that
    /// what lies above the end is void under a new generation.
    pub(super) fn restore(
        state: &PartitionState,
        known_end: Option<u64>,
        timers: &mut Timers,
    ) -> Result<(Self, bool), ChunkError> {
        let id = state.partition;
        let mut outstanding = Outstanding::new(id);
        // A log that does not show this partition yet says nothing about its end.
        let end = known_end.unwrap_or(u64::MAX);
        let Restored {
            progress,
            seen,
            is_void,
        } = Progress::restore(state, end, |offset, slot| {
            outstanding.restore(offset, slot, timers);
        })?;
        let mut read_ahead = ReadAhead::new(id, progress.cursor());
        read_ahead.see_end(known_end.unwrap_or(seen));
        let partition = Self {
            id,
            progress,
            outstanding,
            ready: Ready::default(),
            read_ahead,
        };
        Ok((partition, is_void))
    }

    pub(super) fn id(&self) -> u32 {
        self.id
    }

    pub(super) fn generation(&self) -> u32 {
        self.progress.generation()
    }

    pub(super) fn see_end(&mut self, end: u64) {
        self.read_ahead.see_end(end);
    }

    /// Messages that could be handed out without reading.
    pub(super) fn ready(&self) -> usize {
        self.ready.len()
    }

    /// Leases.
    pub(super) fn leased(&self) -> usize {
        self.outstanding.leased()
    }

    /// Leases and failed messages.
    pub(super) fn outstanding(&self) -> usize {
        self.outstanding.len()
    }

    /// Whether the log may hold more for a consumer than what is ready.
    pub(super) fn has_unread(&self) -> bool {
        self.read_ahead.is_reading() || self.outstanding.has_due() || self.read_ahead.has_fresh()
    }

    /// Whether something cannot be delivered because it cannot be read.
    pub(super) fn has_damage(&self) -> bool {
        self.read_ahead.has_damage()
    }

    /// Whether no read is on its way or may start. `fresh`: messages that were never delivered may be taken on.
    pub(super) fn is_read(&self, fresh: bool) -> bool {
        let unread = self.outstanding.has_due() || (fresh && self.read_ahead.has_fresh());
        !self.read_ahead.is_reading() && (!unread || self.read_ahead.is_paused())
    }

    /// Whether this consumer would find nothing among what is loaded.
    pub(super) fn has_nothing_for(&self, consumer: ConsumerId) -> bool {
        self.ready.is_empty_for(consumer)
    }

    /// How soon a flush is needed.
    pub(super) fn urgency(&self) -> Urgency {
        self.progress.urgency()
    }

    /// Whether something other than skipping has to be stored.
    pub(super) fn has_changed_leases(&self) -> bool {
        self.progress.has_changed_leases()
    }

    /// What a flush must write; `all`: also what nobody waits for.
    pub(super) fn take_changes(&mut self, all: bool) -> Option<PartitionChange> {
        let outstanding = &self.outstanding;
        self.progress
            .take_changes(self.id, all, |offsets| outstanding.slots(offsets))
    }

    /// The changes of the last flush are durable, or must be written again.
    pub(super) fn flushed(&mut self, stored: bool) {
        self.progress.flushed(stored);
    }

    /// What to read next, with the bytes to read, if more is wanted. `fresh`: messages that were never delivered
    /// may be taken on.
    pub(super) fn start_read(&mut self, fresh: bool) -> Option<(Range<u64>, usize)> {
        let room = self.ready.room()?;
        let due = || self.outstanding.due_range(PREFETCH_MESSAGES_MAX / 2);
        let room = fresh.then_some(room);
        let range = self.read_ahead.start(&self.progress, room, due)?;
        Some((range, PREFETCH_BYTES_MAX / 2))
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
        // What is to be skipped begins here: neighbours are one range, whether they are missing or too old.
        let mut skipped = from;
        for message in messages {
            if message.publish_time.plus_millis(retention_millis) > now {
                let offset = message.offset;
                self.skip(skipped..offset);
                skipped = offset + 1;
                self.load(from, message);
            }
        }
        self.skip(skipped..next);
        self.read_ahead.loaded(from, next);
        self.advance_cursor();
    }

    /// Takes a message of a read from `from` on in, if it is to be delivered.
    fn load(&mut self, from: u64, message: LoadedMessage) {
        let offset = message.offset;
        let is_new = self.read_ahead.is_new(from, offset);
        let is_due = self.outstanding.loaded(offset);
        if self.progress.is_done(offset)
            || self.outstanding.is_leased(offset)
            || self.ready.contains(offset)
        {
            return;
        }
        if self.outstanding.is_failed(offset) && !is_due {
            // Its time has not come; the read was for others around it.
            self.ready.park(message);
        } else if is_new || is_due {
            self.ready.insert(message);
        }
    }

    /// Counts offsets that hold nothing to deliver as done. Never worth a flush of its own.
    fn skip(&mut self, offsets: Range<u64>) {
        let start = offsets.start.max(self.progress.cursor());
        if start >= offsets.end {
            return;
        }
        // A lease outlives its message: the consumer's credit ends with the ack or the deadline.
        for offsets in self.outstanding.not_leased(start..offsets.end) {
            self.outstanding.forget_failed(offsets.clone());
            self.forget_loaded(offsets.clone());
            self.progress.skip(offsets);
        }
    }

    fn forget_loaded(&mut self, offsets: Range<u64>) {
        self.ready.forget(&offsets);
        self.read_ahead.forget_damage(offsets);
    }

    pub(super) fn read_failed(&mut self, retry_at: Timestamp, timers: &mut Timers) {
        self.read_ahead.failed(retry_at, timers);
    }

    /// Sets these aside until `retry_at`, and goes on behind them.
    pub(super) fn damaged(
        &mut self,
        offsets: Range<u64>,
        retry_at: Timestamp,
        timers: &mut Timers,
    ) {
        if offsets.is_empty() {
            self.read_ahead.failed(retry_at, timers);
            return;
        }
        self.outstanding.put_off(offsets.clone(), retry_at, timers);
        self.read_ahead.damaged(offsets, retry_at, timers);
    }

    /// Does what the time has come for. Leases that end go to `ended`.
    pub(super) fn come_due(
        &mut self,
        now: Timestamp,
        due: Due,
        timers: &mut Timers,
        ended: &mut Vec<Ended>,
    ) {
        let Self {
            progress,
            outstanding,
            ready,
            read_ahead,
            ..
        } = self;
        if due.timer == Timer::Read(self.id) {
            read_ahead.resume();
        }
        for offsets in due.offsets {
            match due.timer {
                Timer::Leases(_) => {
                    outstanding.expire(now, due.at, offsets, timers, |offset, lease| {
                        progress.leases_changed(offset..offset + 1, Urgency::Lazy);
                        ended.push(lease);
                    });
                }
                Timer::Redelivery(_) => {
                    outstanding.come_due(now, offsets, |offset| ready.release(offset));
                }
                Timer::Damage(_) => read_ahead.retry_damage(now, offsets),
                Timer::Read(_) | Timer::Flush => {}
            }
        }
    }

    /// Leases to the frame's consumer what it may have, until the frame is full, which the result tells. What was
    /// loaded in time but became too old while it waited is done.
    pub(super) fn fill(
        &mut self,
        now: Timestamp,
        retention_millis: u64,
        frame: &mut Frame,
        timers: &mut Timers,
    ) -> bool {
        let consumer = frame.consumer();
        let mut is_full = false;
        let mut run = 0..0;
        while let Some(next) = self.ready.next_for(consumer) {
            let offset = next.offset;
            if next.publish_time.plus_millis(retention_millis) <= now {
                self.skip(offset..offset + 1);
                self.advance_cursor();
                continue;
            }
            is_full = frame.is_full_for(next.body.len());
            if is_full {
                break;
            }
            let Some(message) = self.ready.take_next_for(consumer) else {
                break;
            };
            let bytes = message.body.len() as u64;
            let number = self
                .outstanding
                .lease(offset, frame.deadline(), frame.holder(), bytes);
            if offset != run.end {
                self.track(run, frame, timers);
                run = offset..offset;
            }
            run.end = offset + 1;
            frame.push(Delivery {
                lease: LeaseId {
                    generation: self.progress.generation(),
                    partition: self.id,
                    offset,
                    number,
                },
                publish_time: message.publish_time,
                body: message.body,
            });
        }
        self.track(run, frame, timers);
        is_full
    }

    /// Sees to it that leases of neighbours for this frame end in time, and are stored.
    fn track(&mut self, offsets: Range<u64>, frame: &Frame, timers: &mut Timers) {
        if offsets.is_empty() {
            return;
        }
        let urgency = if frame.is_held() {
            Urgency::Urgent
        } else {
            Urgency::Lazy
        };
        self.outstanding
            .watch(frame.deadline(), offsets.clone(), timers);
        self.progress.leases_changed(offsets, urgency);
    }

    /// Lets a delivery leave whose lease is durable now. False when its lease has ended meanwhile, or it became too
    /// old, which ends its lease.
    pub(super) fn send(
        &mut self,
        now: Timestamp,
        retention_millis: u64,
        delivery: &Delivery,
        ended: &mut Vec<Ended>,
    ) -> bool {
        let lease = delivery.lease;
        if delivery.publish_time.plus_millis(retention_millis) <= now {
            // It is read once more and then done.
            ended.extend(self.give_back(now, lease, false));
            return false;
        }
        self.outstanding.send(lease.offset, lease.number)
    }

    /// What a request with this id finds.
    pub(super) fn judge(&self, lease: LeaseId) -> Verdict {
        if self.outstanding.is_current(lease.offset, lease.number) {
            Verdict::Applied
        } else if self.progress.is_done(lease.offset) {
            Verdict::Done
        } else if lease.offset < self.read_ahead.end() {
            Verdict::Ended
        } else {
            Verdict::Void
        }
    }

    /// Counts these neighbours as acknowledged, whatever their state was. Ended leases go to `ended`.
    pub(super) fn ack(&mut self, offsets: Range<u64>, ended: &mut Vec<Ended>) {
        let cursor = self.progress.cursor();
        if offsets.start < cursor {
            self.progress.ack_again(offsets.start..offsets.start + 1);
        }
        // What was never read was never delivered, so an ack of it is not ours (a log that lost its end).
        let offsets = offsets.start.max(cursor)..offsets.end.min(self.read_ahead.end());
        if offsets.is_empty() {
            return;
        }
        let done = self.progress.piece_at(offsets.start);
        if done.is_some_and(|done| done.end >= offsets.end) {
            self.progress.ack_again(offsets);
            return;
        }
        self.outstanding.ack(offsets.clone(), ended);
        self.forget_loaded(offsets.clone());
        self.progress.ack(offsets);
    }

    /// Moves the cursor over what is done.
    pub(super) fn advance_cursor(&mut self) {
        if self.progress.advance_cursor() {
            self.read_ahead.pass(self.progress.cursor());
        }
    }

    /// Moves the deadline of a lease that has not ended or been superseded; whether there is one.
    pub(super) fn extend(
        &mut self,
        lease: LeaseId,
        deadline: Timestamp,
        timers: &mut Timers,
    ) -> bool {
        let LeaseId { offset, number, .. } = lease;
        let extended = self.outstanding.extend(offset, number, deadline, timers);
        if extended {
            self.progress
                .leases_changed(offset..offset + 1, Urgency::Lazy);
        }
        extended
    }

    /// Ends a lease without an ack, if it has not ended or been superseded. `counts`: as a failed attempt.
    pub(super) fn give_back(
        &mut self,
        now: Timestamp,
        lease: LeaseId,
        counts: bool,
    ) -> Option<Ended> {
        let LeaseId { offset, number, .. } = lease;
        let ended = self.outstanding.give_back(now, offset, number, counts)?;
        self.progress
            .leases_changed(offset..offset + 1, Urgency::Lazy);
        Some(ended)
    }
}

#[cfg(test)]
impl Partition {
    /// Whether the four parts agree.
    pub(super) fn check(&self) {
        self.progress.check();
        self.ready.check();
        self.read_ahead.check(self.progress.cursor());
        for (offset, _) in self.outstanding.leases() {
            assert!(!self.progress.is_done(offset) && !self.outstanding.is_failed(offset));
            assert!(!self.ready.contains(offset) && !self.outstanding.is_due(offset));
        }
        for (offset, _) in self.outstanding.failed() {
            assert!(!self.progress.is_done(offset));
            assert!(!self.outstanding.is_due(offset) || !self.ready.contains(offset));
        }
        assert!(
            self.outstanding
                .due()
                .all(|it| self.outstanding.is_failed(it))
        );
        assert!(self.ready.offsets().all(|it| !self.progress.is_done(it)));
        assert!(self.ready.parked().all(|it| self.outstanding.is_failed(it)));
    }

    /// Failed messages that are neither loaded for anybody nor to be read, with the time that they wait for.
    pub(super) fn delayed(&self) -> impl Iterator<Item = Timestamp> {
        let failed = self.outstanding.failed();
        let waits = |offset| !self.ready.is_open(offset) && !self.outstanding.is_due(offset);
        failed.filter_map(move |(offset, time)| waits(offset).then_some(time))
    }

    pub(super) fn cursor(&self) -> u64 {
        self.progress.cursor()
    }

    pub(super) fn done_above_cursor(&self) -> &rangemap::RangeSet<u64> {
        self.progress.done_above_cursor()
    }

    /// Leases and failed messages as they are stored.
    pub(super) fn slots(&self) -> impl Iterator<Item = (u64, super::chunk::Slot)> {
        self.outstanding.slots(0..u64::MAX)
    }

    pub(super) fn slot(&self, offset: u64) -> Option<super::chunk::Slot> {
        let mut slots = self.outstanding.slots(offset..offset + 1);
        slots.next().map(|(_, slot)| slot)
    }

    /// Whether this message is leased and waits to leave.
    pub(super) fn waits_to_leave(&self, offset: u64) -> bool {
        self.outstanding.waits_to_leave(offset)
    }

    /// Messages that are leased and wait to leave.
    pub(super) fn waiting_to_leave(&self) -> usize {
        let leases = self.outstanding.leases();
        leases
            .filter(|(offset, _)| self.waits_to_leave(*offset))
            .count()
    }
}
