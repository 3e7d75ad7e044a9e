//! One subscription's state in one partition of its topic's log: for every offset, what has become of it.
//!
//! An offset is done, leased or failed (`ledger`), loaded and waiting for a consumer (`ready`), damaged, or fresh
//! (`read_ahead`). A failed message may be loaded too; otherwise these exclude each other. This is where the three are
//! kept in step.

use std::ops::Range;

use super::{
    candidates::Candidates,
    change::PartitionState,
    chunk::ChunkError,
    frame::Frame,
    in_order::ReadFrom,
    input::{ConsumerId, LeaseId, LoadedMessage},
    ledger::Ledger,
    ordered::Ordered,
    output::{Delivery, Ended, Verdict},
    read_ahead::{Purpose, ReadAhead, Room},
    ready::Ready,
    retry::FailureRules,
    timers::{Due, Timer, Timers},
    wanted::Wanted,
};
use crate::{clock::Timestamp, limits::REDELIVERY_BYTES_MAX};

/// See the module.
#[derive(Debug)]
pub(super) struct Partition {
    id: u32,
    pub(super) ledger: Ledger,
    pub(super) candidates: Candidates,
    pub(super) read_ahead: ReadAhead,
}

/// What of a read is taken in.
#[derive(Clone, Copy)]
pub(super) struct LoadLimits {
    pub(super) retention_millis: u64,
    /// So many more messages with ordering keys may wait.
    pub(super) room: usize,
}

/// What may be read, and what for.
pub(super) struct ReadDemand<'a> {
    /// How much consumers want.
    pub(super) wanted: Wanted,
    /// Messages may be taken on that were never delivered. Those are read when somebody wants them, and beside those that
    /// were delivered before, which would otherwise be all that the next consumer finds, again and again.
    pub(super) fresh: bool,
    /// How many messages with ordering keys wait.
    pub(super) waiting: usize,
    /// Whether a consumer would take a message now.
    pub(super) is_hungry: &'a dyn Fn(ConsumerId) -> bool,
}

impl Partition {
    /// A partition in which nothing has happened above `cursor`.
    pub(super) fn new(id: u32, generation: u32, cursor: u64, epoch: u64, is_ordered: bool) -> Self {
        let mut partition = Self {
            id,
            ledger: Ledger::new(id, generation, cursor, epoch, is_ordered),
            candidates: Candidates::new(is_ordered, cursor),
            read_ahead: ReadAhead::new(id, cursor),
        };
        partition.release_keys();
        partition
    }

    /// The partition as it was stored. The second value tells that the log ends below what was seen before, so that
    /// what lies above the end is void under a new generation.
    pub(super) fn restore(
        now: Timestamp,
        rules: FailureRules,
        state: &PartitionState,
        known_end: Option<u64>,
        epoch: u64,
        is_ordered: bool,
        timers: &mut Timers,
    ) -> Result<(Self, bool), ChunkError> {
        let id = state.partition;
        // A log that does not show this partition yet says nothing about its end.
        let end = known_end.unwrap_or(u64::MAX);
        let (ledger, seen, is_void) =
            Ledger::restore(now, rules, state, end, epoch, is_ordered, timers)?;
        let mut read_ahead = ReadAhead::new(id, ledger.progress().cursor());
        read_ahead.see_end(known_end.unwrap_or(seen));
        // What a lost end has made void is not waited for.
        let candidates = Candidates::new(is_ordered, seen.min(end));
        let mut partition = Self {
            id,
            ledger,
            candidates,
            read_ahead,
        };
        partition.release_keys();
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
        self.candidates.len()
    }

    /// Whether the log may hold more for a consumer than what is ready.
    pub(super) fn has_unread(&self) -> bool {
        self.read_ahead.is_reading()
            || self.has_due()
            || self.ledger.failed().has_unstored()
            || self.read_ahead.has_fresh()
    }

    /// Whether something known has to be read.
    fn has_due(&self) -> bool {
        match &self.candidates {
            Candidates::Unordered(_) => self.ledger.failed().has_due(),
            Candidates::Ordered(ordered) => ordered.has_unread(),
        }
    }

    /// Whether something cannot be delivered because it cannot be read.
    pub(super) fn has_damage(&self) -> bool {
        self.read_ahead.has_damage()
    }

    /// Whether no read is on its way or may start, and no failed message waits to be stored. `fresh`: messages that were never delivered may be taken on.
    pub(super) fn is_read(&self, fresh: bool) -> bool {
        let fresh = fresh || self.candidates.ordered().is_some_and(Ordered::is_holding);
        let unread = self.has_due() || (fresh && self.read_ahead.has_fresh());
        let is_read = !self.read_ahead.is_reading() && (!unread || self.read_ahead.is_paused());
        is_read && !self.ledger.failed().has_unstored()
    }

    /// Whether this consumer would find nothing among what is loaded.
    pub(super) fn has_nothing_for(&self, consumer: ConsumerId) -> bool {
        self.candidates.is_empty_for(consumer)
    }

    /// Whether anything is loaded.
    pub(super) fn has_loaded(&self) -> bool {
        !self.candidates.holds_nothing()
    }

    /// Whether anything is loaded that a consumer may have now.
    pub(super) fn has_ready(&self) -> bool {
        self.candidates.len() > 0
    }

    /// Bytes of what is loaded.
    pub(super) fn loaded_bytes(&self) -> usize {
        self.candidates.bytes()
    }

    /// Drops what is loaded: it is read again when it is wanted.
    pub(super) fn drop_loaded(&mut self) {
        let first = match &mut self.candidates {
            Candidates::Unordered(ready) => {
                let failed = self.ledger.failed_mut();
                ready.clear(|again| failed.unloaded(again))
            }
            // What is known of their keys stays.
            Candidates::Ordered(ordered) => {
                ordered.drop_bodies();
                None
            }
        };
        self.read_ahead.go_back(first);
    }

    /// What to read next, with the bytes to read.
    pub(super) fn start_read(&mut self, demand: &ReadDemand<'_>) -> Option<(Range<u64>, usize)> {
        let Self {
            ledger,
            candidates,
            read_ahead,
            ..
        } = self;
        let is_holding = candidates.ordered().is_some_and(Ordered::is_holding);
        if let Some(ordered) = candidates.ordered_mut() {
            ordered.make_room();
        }
        let wanted = demand.wanted;
        let seeks = candidates
            .ordered()
            .is_some_and(Ordered::seeks_dead_letters);
        let is_wanted = seeks || !wanted.is_none() || candidates.lacks_fresh();
        let fresh = (is_wanted && (demand.fresh || is_holding)).then(|| {
            let mut room = read_ahead.room_for(wanted);
            if is_holding {
                // Most of it was delivered before, and takes none.
                return Some(Room::MOST);
            }
            room.messages = room.messages.min(candidates.room()?);
            Some(room)
        });
        let fresh = fresh.flatten();
        let messages = fresh.map(|room| room.messages);
        let fresh_from = read_ahead.next();
        let due = |gap_max| match candidates {
            Candidates::Unordered(ready) => {
                let failed = ledger.failed();
                let room = ready.redelivery_room().filter(|_| failed.has_due())?;
                failed.due_range(room, gap_max)
            }
            Candidates::Ordered(ordered) => {
                ordered.unread_range(gap_max, demand.waiting, fresh_from, demand.is_hungry)
            }
        };
        let (range, purpose) = read_ahead.start(ledger.progress(), messages, due)?;
        let bytes_max = match (purpose, fresh) {
            (Purpose::Fresh, Some(room)) => room.bytes,
            _ => REDELIVERY_BYTES_MAX / 2,
        };
        Some((range, bytes_max))
    }

    /// Takes in what a read of these offsets found. Whatever of them has no record is done, and messages of
    /// `filtered_bytes` are as if they had none. Returns one that could not be read before what followed it, if there is
    /// one.
    pub(super) fn loaded(
        &mut self,
        now: Timestamp,
        limits: LoadLimits,
        (offsets, messages, filtered_bytes): (Range<u64>, Vec<LoadedMessage>, u64),
        timers: &mut Timers,
    ) -> Option<u64> {
        let Range {
            start: from,
            end: next,
        } = offsets;
        let mut read = ReadFrom {
            now,
            from,
            room: limits.room,
            late: None,
        };
        // What is to be skipped begins here: neighbours are one range, whether they are missing, filtered or too old.
        let mut skipped = from;
        let mut bytes = filtered_bytes;
        for message in messages {
            bytes += message.body.len() as u64;
            if message.publish_time.plus_millis(limits.retention_millis) > now {
                let offset = message.offset;
                self.skip(skipped..offset, timers);
                skipped = offset + 1;
                match &mut self.candidates {
                    Candidates::Unordered(ready) => {
                        let parts = (&mut self.ledger, &self.read_ahead);
                        Self::load(parts, ready, from, message);
                    }
                    Candidates::Ordered(ordered) => {
                        let parts = (&self.ledger, &self.read_ahead);
                        Self::load_in_order(parts, ordered, message, &mut read);
                    }
                }
            }
        }
        self.skip(skipped..next, timers);
        self.read_ahead.loaded(from, next, bytes);
        self.see_read_in_order(from..next.max(from));
        self.advance_cursor();
        read.late
    }

    /// Takes a message of a read from `from` on in, if it is to be delivered.
    fn load(
        (ledger, read_ahead): (&mut Ledger, &ReadAhead),
        ready: &mut Ready,
        from: u64,
        message: LoadedMessage,
    ) {
        let offset = message.offset;
        let is_new = read_ahead.is_new(from, offset);
        let is_due = ledger.failed().is_due(offset);
        if ledger.progress().is_done(offset) || ledger.is_leased(offset) || ready.contains(offset) {
            return;
        }
        if is_due {
            if ready.insert_again(message) {
                ledger.failed_mut().loaded(offset);
            }
        } else if ledger.failed().contains(offset) {
            // Its time has not come; the read was for others around it.
            ready.park(message);
        } else if is_new {
            ready.insert(message);
        }
    }

    /// Counts offsets that hold nothing to deliver as done. Never worth a flush of its own.
    fn skip(&mut self, offsets: Range<u64>, timers: &mut Timers) {
        #[cfg(test)]
        if crate::sim::planted::Bug::FilteredHoldsCursor.is_planted() {
            return;
        }
        let Self {
            ledger,
            candidates,
            read_ahead,
            ..
        } = self;
        ledger.skip(offsets, timers, |skipped| {
            candidates.forget(&skipped);
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
        self.read_ahead.damaged(offsets.clone(), retry_at, timers);
        if let Some(ordered) = self.candidates.ordered_mut() {
            ordered.damaged(&offsets);
            self.see_read_in_order(offsets);
        }
    }

    /// The changes of the last flush are durable, or must be written again.
    pub(super) fn flushed(&mut self, now: Timestamp, stored: bool, timers: &mut Timers) {
        let Self {
            ledger,
            candidates,
            read_ahead,
            ..
        } = self;
        ledger.flushed(now, stored, timers, |offset| {
            candidates.release(offset, read_ahead.is_read(offset))
        });
        self.forwards_flushed(stored);
    }

    /// Does what the time has come for. Leases that end go to `ended`.
    pub(super) fn come_due(
        &mut self,
        now: Timestamp,
        rules: FailureRules,
        due: Due,
        timers: &mut Timers,
        ended: &mut Vec<Ended>,
    ) {
        let Self {
            ledger,
            candidates,
            read_ahead,
            ..
        } = self;
        match due.timer {
            Timer::Read(_) => read_ahead.resume(),
            Timer::Confirmed(_) => ledger.forget_confirmed(|it| it.come_due(now)),
            _ => {}
        }
        for offsets in due.offsets {
            match (due.timer, &mut *candidates) {
                (Timer::Leases(_), Candidates::Unordered(_)) => {
                    ledger.expire(now, rules, due.at, offsets, timers, ended);
                }
                (Timer::Leases(_), Candidates::Ordered(ordered)) => {
                    ordered.come_late(ledger.late(now, due.at, offsets, timers));
                }
                (Timer::Redelivery(_), candidates) => {
                    let failed = ledger.failed_mut();
                    failed.come_due(now, offsets, |offset| {
                        candidates.release(offset, read_ahead.is_read(offset))
                    });
                }
                (Timer::Forward(_), _) => {
                    ledger.failed_mut().forwards_mut().retry(now, offsets);
                }
                (Timer::Damage(_), _) => read_ahead.retry_damage(now, offsets),
                (Timer::Read(_) | Timer::Confirmed(_) | Timer::Unwanted | Timer::Flush, _) => {}
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
        let (id, ledger) = (self.id, &mut self.ledger);
        let too_old = match &mut self.candidates {
            Candidates::Unordered(ready) => {
                frame.fill(now, retention_millis, id, ready, ledger, timers)
            }
            Candidates::Ordered(ordered) => {
                frame.fill(now, retention_millis, id, &mut **ordered, ledger, timers)
            }
        };
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
            self.give_back(now, lease, timers, ended);
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
            self.candidates.forget(&offsets);
            self.read_ahead.forget_damage(offsets);
        }
    }

    /// Moves the cursor over what is done.
    pub(super) fn advance_cursor(&mut self) {
        if self.ledger.advance_cursor() {
            self.read_ahead.pass(self.ledger.progress().cursor());
        }
        self.release_keys();
    }
}

#[cfg(test)]
use super::timers::rounded;

#[cfg(test)]
impl Partition {
    /// Whether the three parts agree.
    pub(super) fn check(&self, timers: &Timers) {
        let (progress, failed) = (self.ledger.progress(), self.ledger.failed());
        self.ledger.check(timers);
        self.read_ahead.check(progress.cursor());
        match &self.candidates {
            Candidates::Unordered(ready) => {
                ready.check();
                for offset in self.ledger.leased_offsets() {
                    assert!(!ready.contains(offset));
                }
                assert!(ready.offsets().all(|it| !progress.is_done(it)));
                assert!(!ready.offsets().any(|it| failed.is_due(it)));
                assert!(ready.parked().all(|it| failed.contains(it)));
            }
            Candidates::Ordered(ordered) => {
                ordered.check();
                for (offset, is_leased) in ordered.known() {
                    let is_done = progress.is_done(offset) && !failed.forwards().is_acked(offset);
                    assert!(!is_done, "{offset} is done");
                    assert_eq!(is_leased, self.ledger.is_leased(offset), "{offset}");
                }
                let lies_ahead = |offset: &u64| {
                    *offset >= self.read_ahead.next() || self.read_ahead.is_damaged(*offset)
                };
                for (offset, time) in failed.times() {
                    let timer = Timer::Redelivery(self.id);
                    let waits = timers.has(rounded(time), timer, offset);
                    // What has no key is not noted while it waits.
                    let waits = waits || !failed.is_stored(offset);
                    let waits = waits || failed.forwards().contains(offset);
                    let is_passed_over = || waits || ordered.has_marks();
                    assert!(ordered.knows(offset) || lies_ahead(&offset) || is_passed_over());
                }
            }
        }
    }

    /// Whether something is to be delivered again, could be read, and is not.
    pub(super) fn leaves_due_unread(&self) -> bool {
        let idle = !self.read_ahead.is_reading() && !self.read_ahead.is_paused();
        let has_room = match &self.candidates {
            Candidates::Unordered(ready) => ready.redelivery_room().is_some(),
            Candidates::Ordered(_) => true,
        };
        idle && self.has_due() && has_room
    }

    /// What is loaded of an unordered subscription.
    pub(super) fn loaded_messages(&self) -> &Ready {
        match &self.candidates {
            Candidates::Unordered(ready) => ready,
            Candidates::Ordered(_) => panic!("it is ordered"),
        }
    }

    /// Failed messages that are stored and neither loaded for anybody nor to be read, with the time that they wait for.
    pub(super) fn delayed(&self) -> impl Iterator<Item = Timestamp> {
        let failed = self.ledger.failed();
        let ready = match &self.candidates {
            Candidates::Unordered(ready) => Some(ready),
            Candidates::Ordered(_) => None,
        };
        let waits = move |offset| {
            ready.is_some_and(|ready| !ready.is_open(offset))
                && !failed.is_due(offset)
                && failed.is_stored(offset)
                && !failed.forwards().contains(offset)
        };
        let times = failed.times();
        times.filter_map(move |(offset, time)| waits(offset).then_some(time))
    }
}
