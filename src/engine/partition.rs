//! One subscription's state in one partition of its topic's log: for every offset, what has become of it.
//!
//! An offset is done, leased or failed (`ledger`), loaded and waiting for a consumer (`ready`), damaged, or fresh
//! (`read_ahead`). A failed message may be loaded too; otherwise these exclude each other. This is where the three are
//! kept in step.

use std::ops::Range;

use super::{
    change::PartitionState,
    chunk::ChunkError,
    frame::Frame,
    input::{ConsumerId, LeaseId, LoadedMessage},
    ledger::Ledger,
    output::{Delivery, Ended, Verdict},
    read_ahead::{Purpose, ReadAhead},
    ready::Ready,
    retry::Backoff,
    timers::{Due, Timer, Timers},
    wanted::Wanted,
};
use crate::{clock::Timestamp, limits::REDELIVERY_BYTES_MAX};

/// See the module.
#[derive(Debug)]
pub(super) struct Partition {
    id: u32,
    ledger: Ledger,
    ready: Ready,
    read_ahead: ReadAhead,
}

impl Partition {
    /// A partition in which nothing has happened above `cursor`.
    pub(super) fn new(id: u32, generation: u32, cursor: u64) -> Self {
        Self {
            id,
            ledger: Ledger::new(id, generation, cursor),
            ready: Ready::default(),
            read_ahead: ReadAhead::new(id, cursor),
        }
    }

    /// The partition as it was stored. The second value tells that the log ends below what was seen before, so that
    /// what lies above the end is void under a new generation.
    pub(super) fn restore(
        now: Timestamp,
        retry: Option<Backoff>,
        state: &PartitionState,
        known_end: Option<u64>,
        timers: &mut Timers,
    ) -> Result<(Self, bool), ChunkError> {
        let id = state.partition;
        // A log that does not show this partition yet says nothing about its end.
        let end = known_end.unwrap_or(u64::MAX);
        let (ledger, seen, is_void) = Ledger::restore(now, retry, state, end, timers)?;
        let mut read_ahead = ReadAhead::new(id, ledger.progress().cursor());
        read_ahead.see_end(known_end.unwrap_or(seen));
        let partition = Self {
            id,
            ledger,
            ready: Ready::default(),
            read_ahead,
        };
        Ok((partition, is_void))
    }

    pub(super) fn id(&self) -> u32 {
        self.id
    }

    /// What is stored of it.
    pub(super) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// As [`Partition::ledger`], for what changes nothing but what is stored.
    pub(super) fn ledger_mut(&mut self) -> &mut Ledger {
        &mut self.ledger
    }

    pub(super) fn see_end(&mut self, end: u64) {
        self.read_ahead.see_end(end);
    }

    /// Messages that could be handed out without reading.
    pub(super) fn ready(&self) -> usize {
        self.ready.len()
    }

    /// Whether the log may hold more for a consumer than what is ready.
    pub(super) fn has_unread(&self) -> bool {
        self.read_ahead.is_reading()
            || self.ledger.failed().has_due()
            || self.ledger.failed().has_unstored()
            || self.read_ahead.has_fresh()
    }

    /// Whether something cannot be delivered because it cannot be read.
    pub(super) fn has_damage(&self) -> bool {
        self.read_ahead.has_damage()
    }

    /// Whether no read is on its way or may start, and no failed message waits to be stored. `fresh`: messages that were never delivered may be taken on.
    pub(super) fn is_read(&self, fresh: bool) -> bool {
        let unread = self.ledger.failed().has_due() || (fresh && self.read_ahead.has_fresh());
        let is_read = !self.read_ahead.is_reading() && (!unread || self.read_ahead.is_paused());
        is_read && !self.ledger.failed().has_unstored()
    }

    /// Whether this consumer would find nothing among what is loaded.
    pub(super) fn has_nothing_for(&self, consumer: ConsumerId) -> bool {
        self.ready.is_empty_for(consumer)
    }

    /// Whether anything is loaded.
    pub(super) fn has_loaded(&self) -> bool {
        !self.ready.holds_nothing()
    }

    /// Whether anything is loaded that a consumer may have now.
    pub(super) fn has_ready(&self) -> bool {
        self.ready.len() > 0
    }

    /// Bytes of what is loaded.
    pub(super) fn loaded_bytes(&self) -> usize {
        self.ready.bytes()
    }

    /// Drops what is loaded: it is read again when it is wanted.
    pub(super) fn drop_loaded(&mut self) {
        let Self {
            ledger,
            ready,
            read_ahead,
            ..
        } = self;
        let first = ready.clear(|again| ledger.failed_mut().unloaded(again));
        read_ahead.go_back(first);
    }

    /// What to read next, with the bytes to read. `fresh`: how much consumers want, if messages may be taken on that were
    /// never delivered. Those are read when somebody wants them, and beside those that were delivered before, which would
    /// otherwise be all that the next consumer finds, again and again.
    pub(super) fn start_read(&mut self, fresh: Option<Wanted>) -> Option<(Range<u64>, usize)> {
        let Self {
            ledger,
            ready,
            read_ahead,
            ..
        } = self;
        let due = |gap_max| {
            let failed = ledger.failed();
            let room = ready.redelivery_room().filter(|_| failed.has_due())?;
            failed.due_range(room, gap_max)
        };
        let fresh = fresh.filter(|wanted| !wanted.is_none() || ready.lacks_fresh());
        let fresh = fresh.and_then(|wanted| {
            let mut room = read_ahead.room_for(wanted);
            room.messages = room.messages.min(ready.room()?);
            Some(room)
        });
        let messages = fresh.map(|room| room.messages);
        let (range, purpose) = read_ahead.start(ledger.progress(), messages, due)?;
        let bytes_max = match (purpose, fresh) {
            (Purpose::Fresh, Some(room)) => room.bytes,
            _ => REDELIVERY_BYTES_MAX / 2,
        };
        Some((range, bytes_max))
    }

    /// Takes in what a read of these offsets found. Whatever of them has no record is done, and messages of
    /// `filtered_bytes` are as if they had none.
    pub(super) fn loaded(
        &mut self,
        now: Timestamp,
        retention_millis: u64,
        offsets: Range<u64>,
        messages: Vec<LoadedMessage>,
        filtered_bytes: u64,
        timers: &mut Timers,
    ) {
        let Range {
            start: from,
            end: next,
        } = offsets;
        // What is to be skipped begins here: neighbours are one range, whether they are missing, filtered or too old.
        let mut skipped = from;
        let mut bytes = filtered_bytes;
        for message in messages {
            bytes += message.body.len() as u64;
            if message.publish_time.plus_millis(retention_millis) > now {
                let offset = message.offset;
                self.skip(skipped..offset, timers);
                skipped = offset + 1;
                self.load(from, message);
            }
        }
        self.skip(skipped..next, timers);
        self.read_ahead.loaded(from, next, bytes);
        self.advance_cursor();
    }

    /// Takes a message of a read from `from` on in, if it is to be delivered.
    fn load(&mut self, from: u64, message: LoadedMessage) {
        let offset = message.offset;
        let is_new = self.read_ahead.is_new(from, offset);
        let is_due = self.ledger.failed().is_due(offset);
        if self.ledger.progress().is_done(offset)
            || self.ledger.is_leased(offset)
            || self.ready.contains(offset)
        {
            return;
        }
        if is_due {
            if self.ready.insert_again(message) {
                self.ledger.failed_mut().loaded(offset);
            }
        } else if self.ledger.failed().contains(offset) {
            // Its time has not come; the read was for others around it.
            self.ready.park(message);
        } else if is_new {
            self.ready.insert(message);
        }
    }

    /// Counts offsets that hold nothing to deliver as done. Never worth a flush of its own.
    fn skip(&mut self, offsets: Range<u64>, timers: &mut Timers) {
        let Self {
            ledger,
            ready,
            read_ahead,
            ..
        } = self;
        ledger.skip(offsets, timers, |skipped| {
            ready.forget(&skipped);
            read_ahead.forget_damage(skipped);
        });
    }

    /// Counts messages that a filter leaves out as done, as far as the log is known.
    pub(super) fn filtered(&mut self, offsets: Vec<Range<u64>>, timers: &mut Timers) {
        let end = self.read_ahead.end();
        for offsets in offsets {
            self.skip(offsets.start..offsets.end.min(end), timers);
        }
        self.advance_cursor();
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
        self.ledger
            .failed_mut()
            .put_off(offsets.clone(), retry_at, timers);
        self.read_ahead.damaged(offsets, retry_at, timers);
    }

    /// The changes of the last flush are durable, or must be written again.
    pub(super) fn flushed(&mut self, now: Timestamp, stored: bool, timers: &mut Timers) {
        let Self { ledger, ready, .. } = self;
        ledger.flushed(now, stored, timers, |offset| ready.release(offset));
    }

    /// Does what the time has come for. Leases that end go to `ended`.
    pub(super) fn come_due(
        &mut self,
        now: Timestamp,
        retry: Option<Backoff>,
        due: Due,
        timers: &mut Timers,
        ended: &mut Vec<Ended>,
    ) {
        let Self {
            ledger,
            ready,
            read_ahead,
            ..
        } = self;
        if due.timer == Timer::Read(self.id) {
            read_ahead.resume();
        }
        for offsets in due.offsets {
            match due.timer {
                Timer::Leases(_) => ledger.expire(now, retry, due.at, offsets, timers, ended),
                Timer::Redelivery(_) => {
                    let failed = ledger.failed_mut();
                    failed.come_due(now, offsets, |offset| ready.release(offset));
                }
                Timer::Damage(_) => read_ahead.retry_damage(now, offsets),
                Timer::Read(_) | Timer::Unwanted | Timer::Flush => {}
            }
        }
    }

    /// Leases to the frame's consumer what it may have, until the frame is full, which the result tells.
    pub(super) fn fill(
        &mut self,
        now: Timestamp,
        retention_millis: u64,
        frame: &mut Frame,
        timers: &mut Timers,
    ) -> bool {
        let Self {
            id, ledger, ready, ..
        } = self;
        let too_old = frame.fill(now, retention_millis, *id, ready, ledger, timers);
        if !too_old.is_empty() {
            for offsets in too_old {
                self.skip(offsets, timers);
            }
            self.advance_cursor();
        }
        frame.is_full()
    }

    /// Lets a delivery leave whose lease is durable now. False when its lease has ended meanwhile, or it became too
    /// old, which ends its lease.
    pub(super) fn send(
        &mut self,
        now: Timestamp,
        retention_millis: u64,
        delivery: &Delivery,
        timers: &mut Timers,
        ended: &mut Vec<Ended>,
    ) -> bool {
        let lease = delivery.lease;
        if delivery.publish_time.plus_millis(retention_millis) <= now {
            // It is read once more and then done.
            ended.extend(self.ledger.give_back(now, lease, timers));
            return false;
        }
        self.ledger.send(lease)
    }

    /// What a request with this id finds.
    pub(super) fn judge(&self, lease: LeaseId) -> Verdict {
        if self.ledger.is_current(lease) {
            Verdict::Applied
        } else if self.ledger.progress().is_done(lease.offset) {
            Verdict::Done
        } else if lease.offset < self.read_ahead.end() {
            Verdict::Ended
        } else {
            Verdict::Void
        }
    }

    /// Counts these neighbours as acknowledged, whatever their state was. Ended leases go to `ended`.
    pub(super) fn ack(&mut self, offsets: Range<u64>, timers: &mut Timers, ended: &mut Vec<Ended>) {
        let cursor = self.ledger.progress().cursor();
        if offsets.start < cursor {
            self.ledger.ack_again(offsets.start);
        }
        // What was never read was never delivered, so an ack of it is not ours (a log that lost its end).
        let offsets = offsets.start.max(cursor)..offsets.end.min(self.read_ahead.end());
        if !offsets.is_empty() && self.ledger.ack(offsets.clone(), timers, ended) {
            self.ready.forget(&offsets);
            self.read_ahead.forget_damage(offsets);
        }
    }

    /// Moves the cursor over what is done.
    pub(super) fn advance_cursor(&mut self) {
        if self.ledger.advance_cursor() {
            self.read_ahead.pass(self.ledger.progress().cursor());
        }
    }
}

#[cfg(test)]
impl Partition {
    /// Whether the three parts agree.
    pub(super) fn check(&self, timers: &Timers) {
        let (progress, failed) = (self.ledger.progress(), self.ledger.failed());
        self.ledger.check(timers);
        self.ready.check();
        self.read_ahead.check(progress.cursor());
        for offset in self.ledger.leased_offsets() {
            assert!(!self.ready.contains(offset));
        }
        assert!(self.ready.offsets().all(|it| !progress.is_done(it)));
        assert!(!self.ready.offsets().any(|it| failed.is_due(it)));
        assert!(self.ready.parked().all(|it| failed.contains(it)));
    }

    /// Whether something is to be delivered again, could be read, and is not.
    pub(super) fn leaves_due_unread(&self) -> bool {
        let idle = !self.read_ahead.is_reading() && !self.read_ahead.is_paused();
        idle && self.ledger.failed().has_due() && self.ready.redelivery_room().is_some()
    }

    /// What is loaded.
    pub(super) fn loaded_messages(&self) -> &Ready {
        &self.ready
    }

    /// Failed messages that are stored and neither loaded for anybody nor to be read, with the time that they wait for.
    pub(super) fn delayed(&self) -> impl Iterator<Item = Timestamp> {
        let failed = self.ledger.failed();
        let waits = |offset| {
            !self.ready.is_open(offset) && !failed.is_due(offset) && failed.is_stored(offset)
        };
        let times = failed.times();
        times.filter_map(move |(offset, time)| waits(offset).then_some(time))
    }
}
