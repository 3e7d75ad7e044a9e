//! What is stored of a partition: which offsets are done, leased or failed. Each change here is marked to be written.
//!
//! A message is leased or failed or neither, and what is done is neither.

use std::ops::Range;

use super::{
    change::{PartitionChange, PartitionState},
    chunk::{ChunkError, Delivered, Slot},
    confirmed::Confirmed,
    dirty::Urgency,
    failed::{Failed, Failure},
    input::LeaseId,
    leases::{Holder, Leases, Unacked},
    output::Ended,
    progress::{Progress, Restored},
    retry::FailureRules,
    timers::Timers,
};
use crate::{
    clock::Timestamp,
    limits::{ACK_DEADLINE_SECONDS, BACKOFF_SECONDS_MAX},
};

/// The longest that a deadline can be set for, milliseconds.
const LEASE_MILLIS_MAX: u64 = *ACK_DEADLINE_SECONDS.end() as u64 * 1000;

/// See the module.
#[derive(Debug)]
pub(super) struct Ledger {
    partition: u32,
    /// Under which the subscription is owned.
    epoch: u64,
    progress: Progress,
    leases: Leases,
    failed: Failed,
    confirmed: Confirmed,
}

impl Ledger {
    /// Nothing has happened above `cursor`. `is_ordered`: what may be delivered again is found by its ordering key.
    pub(super) fn new(
        partition: u32,
        generation: u32,
        cursor: u64,
        epoch: u64,
        is_ordered: bool,
    ) -> Self {
        Self {
            partition,
            epoch,
            progress: Progress::new(generation, cursor),
            leases: Leases::new(partition),
            failed: Failed::new(partition, is_ordered),
            confirmed: Confirmed::new(partition),
        }
    }

    /// As it was stored, over a log that ends at `end`. Returns from where on nothing is known, and whether the log
    /// ends below that, so that what lies above its end is void under a new generation.
    ///
    /// The clock may have been set back since, or another node's may be ahead: nothing is waited for longer than it can
    /// have been meant to be. Damage is tried at once.
    pub(super) fn restore(
        now: Timestamp,
        rules: FailureRules,
        state: &PartitionState,
        end: u64,
        epoch: u64,
        is_ordered: bool,
        timers: &mut Timers,
    ) -> Result<(Self, u64, bool), ChunkError> {
        let mut leases = Leases::new(state.partition);
        let mut failed = Failed::new(state.partition, is_ordered);
        let failure = |stored: Delivered, is_backoff, wait_millis| Failure {
            delivered: Delivered {
                time: stored.time.min(now.plus_millis(wait_millis)),
                ..stored
            },
            is_backoff,
        };
        let Restored {
            progress,
            seen,
            is_void,
        } = Progress::restore(state, end, |offset, slot| match slot {
            Slot::Pending | Slot::Done => {}
            Slot::Leased(stored) => {
                let time = stored.time.min(now.plus_millis(LEASE_MILLIS_MAX));
                leases.restore(offset, Delivered { time, ..stored }, timers);
            }
            Slot::Failed(stored) => {
                // A release that stored no more than this meant what its retry policy said.
                let wait = rules.wait_millis(stored.attempts);
                failed.restore(offset, failure(stored, false, wait), timers);
            }
            Slot::Waiting(stored) => {
                let wait = BACKOFF_SECONDS_MAX * 1000;
                failed.restore(offset, failure(stored, true, wait), timers);
            }
            Slot::Dead(stored) if rules.attempts_max.is_some() => {
                failed.restore_dead(offset, failure(stored, false, 0));
            }
            Slot::Dead(stored) => failed.restore(offset, failure(stored, false, 0), timers),
        })?;
        let mut confirmed = Confirmed::new(state.partition);
        if !is_void {
            // Ids of another generation are void themselves.
            confirmed.restore(now, &state.retained, timers);
        }
        let mut ledger = Self {
            partition: state.partition,
            epoch,
            progress,
            leases,
            failed,
            confirmed,
        };
        ledger.note_forgotten();
        Ok((ledger, seen, is_void))
    }

    /// Under which the subscription is owned.
    pub(super) const fn epoch(&self) -> u64 {
        self.epoch
    }

    pub(super) fn generation(&self) -> u32 {
        self.progress.generation()
    }

    /// What is done.
    pub(super) fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Failed messages.
    pub(super) fn failed(&self) -> &Failed {
        &self.failed
    }

    /// As [`Ledger::failed`], for what needs not be stored: which of them have to be read.
    pub(super) fn failed_mut(&mut self) -> &mut Failed {
        &mut self.failed
    }

    /// Leases.
    pub(super) fn leased(&self) -> usize {
        self.leases.len()
    }

    /// Leases and failed messages.
    pub(super) fn outstanding(&self) -> usize {
        self.leases.len() + self.failed.len()
    }

    pub(super) fn is_leased(&self, offset: u64) -> bool {
        self.leases.contains(offset)
    }

    /// Whether this delivery is the newest of its message, and its lease has not ended.
    pub(super) fn is_current(&self, lease: LeaseId) -> bool {
        let LeaseId {
            offset,
            number,
            issue,
            ..
        } = lease;
        self.leases
            .is_issued(offset, number, issue.epoch, self.epoch)
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
        self.failed.flush_started();
        let (leases, failed) = (&self.leases, &self.failed);
        let changes = self.progress.take_changes(self.partition, all, |offsets| {
            leases.slots(offsets.clone()).chain(failed.slots(offsets))
        });
        let mut changes = changes?;
        self.confirmed.take_changes(&mut changes);
        self.note_forgotten();
        Some(changes)
    }

    /// The changes of the last flush are durable, or must be written again. `release`: see [`Failed::flushed`].
    pub(super) fn flushed(
        &mut self,
        now: Timestamp,
        stored: bool,
        timers: &mut Timers,
        release: impl FnMut(u64) -> bool,
    ) {
        self.progress.flushed(stored);
        self.confirmed.flushed(stored);
        self.failed.flushed(now, stored, timers, release);
    }

    /// Leases a message, and returns the delivery's number and how many before it failed. [`Ledger::leased_together`] is
    /// told of it with its neighbours.
    pub(super) fn lease(
        &mut self,
        offset: u64,
        deadline: Timestamp,
        holder: Holder,
        bytes: u64,
    ) -> (u32, u32) {
        let (number, attempts) = self
            .failed
            .remove(offset)
            .map_or((0, 0), |failed| (failed.number, failed.attempts));
        let granted = Delivered {
            time: deadline,
            number: number.saturating_add(1),
            attempts,
        };
        self.leases.grant(offset, granted, holder, bytes);
        (granted.number, attempts)
    }

    /// Whether dead letters are to be forwarded, or messages leased that are dead letters with their next failure.
    pub(super) fn has_last_attempts(&self, rules: FailureRules) -> bool {
        let dead_letters = self.failed.forwards().is_active();
        dead_letters || (rules.attempts_max.is_some() && self.leases.have_last_attempt(rules))
    }

    /// Sees to it that leases of neighbours end in time, and are stored.
    pub(super) fn leased_together(
        &mut self,
        offsets: Range<u64>,
        deadline: Timestamp,
        urgency: Urgency,
        timers: &mut Timers,
    ) {
        if offsets.is_empty() {
            return;
        }
        self.leases.watch(deadline, offsets.clone(), timers);
        self.progress.leases_changed(offsets, urgency);
    }

    /// The message leaves. False when its lease has ended or been superseded.
    pub(super) fn send(&mut self, lease: LeaseId) -> bool {
        self.leases.send(lease.offset, lease.number)
    }

    /// Moves the deadline of a lease that has not ended or been superseded; whether there is one.
    pub(super) fn extend(
        &mut self,
        lease: LeaseId,
        deadline: Timestamp,
        timers: &mut Timers,
    ) -> bool {
        let LeaseId { offset, number, .. } = lease;
        let extended = self.leases.extend(offset, number, deadline, timers);
        if extended {
            self.progress
                .leases_changed(offset..offset + 1, Urgency::Lazy);
        }
        extended
    }

    /// A caller waits for what changed of this message's lease.
    pub(super) fn hurry(&mut self, offset: u64) {
        self.progress
            .leases_changed(offset..offset + 1, Urgency::Urgent);
    }

    /// Ends a lease without an ack, if it has not ended or been superseded. The message never reached its consumer, and
    /// may be delivered again at once.
    pub(super) fn give_back(
        &mut self,
        now: Timestamp,
        lease: LeaseId,
        timers: &mut Timers,
    ) -> Option<Ended> {
        let unacked = self.leases.end(lease.offset, lease.number, timers)?;
        Some(self.unacked(now, FailureRules::default(), false, unacked))
    }

    /// Ends a lease without an ack, if it has not ended or been superseded, which is a failed attempt if the message has
    /// left. What becomes of it is what `rules` say.
    pub(super) fn fail(
        &mut self,
        now: Timestamp,
        rules: FailureRules,
        lease: LeaseId,
        timers: &mut Timers,
    ) -> Option<Ended> {
        let unacked = self.leases.end(lease.offset, lease.number, timers)?;
        Some(self.unacked(now, rules, unacked.has_left, unacked))
    }

    fn unacked(
        &mut self,
        now: Timestamp,
        rules: FailureRules,
        counts: bool,
        unacked: Unacked,
    ) -> Ended {
        let Unacked {
            ended, attempts, ..
        } = unacked;
        let rules = if counts {
            rules
        } else {
            FailureRules::default()
        };
        let attempts = attempts.saturating_add(counts.into());
        let wait_millis = rules.wait_millis(attempts);
        let failed = Failure {
            delivered: Delivered {
                time: now.plus_millis(wait_millis),
                number: ended.number,
                attempts,
            },
            is_backoff: wait_millis > 0,
        };
        let urgency = if rules.forward(attempts) {
            self.failed.insert_dead(ended.offset, failed);
            Urgency::Urgent
        } else if rules.store_failures() {
            self.failed.insert_unstored(ended.offset, failed);
            Urgency::Urgent
        } else {
            self.failed.insert(ended.offset, failed);
            Urgency::Lazy
        };
        self.progress
            .leases_changed(ended.offset..ended.offset + 1, urgency);
        ended
    }

    /// A dead letter is delivered again as any failed message. `release`: see [`Failed::flushed`].
    pub(super) fn keep(
        &mut self,
        now: Timestamp,
        offset: u64,
        timers: &mut Timers,
        release: impl FnMut(u64) -> bool,
    ) {
        if self.failed.keep(now, offset, timers, release) {
            self.progress
                .leases_changed(offset..offset + 1, Urgency::Lazy);
        }
    }

    /// Ends the lease of a message, whichever delivery it is of, as if that had not been.
    pub(super) fn end_any(
        &mut self,
        now: Timestamp,
        offset: u64,
        timers: &mut Timers,
    ) -> Option<Ended> {
        let number = self.leases.number(offset)?;
        let unacked = self.leases.end(offset, number, timers)?;
        Some(self.unacked(now, FailureRules::default(), false, unacked))
    }

    /// Offset and number of the leases of `offsets` whose time has come at this timer.
    pub(super) fn late(
        &mut self,
        now: Timestamp,
        timer: Timestamp,
        offsets: Range<u64>,
        timers: &mut Timers,
    ) -> Vec<(u64, u32)> {
        self.leases.late(now, timer, offsets, timers)
    }

    /// Ends the leases of `offsets` whose time has come at this timer. They go to `ended`.
    pub(super) fn expire(
        &mut self,
        now: Timestamp,
        rules: FailureRules,
        timer: Timestamp,
        offsets: Range<u64>,
        timers: &mut Timers,
        ended: &mut Vec<Ended>,
    ) {
        for (offset, number) in self.leases.late(now, timer, offsets, timers) {
            if let Some(unacked) = self.leases.end(offset, number, timers) {
                ended.push(self.unacked(now, rules, unacked.has_left, unacked));
            }
        }
    }

    /// Counts these as acknowledged, whatever their state was. Ended leases go to `ended`. False when all of them were
    /// done before.
    pub(super) fn ack(
        &mut self,
        offsets: Range<u64>,
        timers: &mut Timers,
        ended: &mut Vec<Ended>,
    ) -> bool {
        let done = self.progress.piece_at(offsets.start);
        if done.is_some_and(|done| done.end >= offsets.end) {
            self.progress.ack_again(offsets);
            return false;
        }
        self.leases.ack(offsets.clone(), timers, ended);
        self.failed.forget(offsets.clone(), timers);
        self.progress.ack(offsets);
        true
    }

    /// Remembers which delivery of these neighbours was acknowledged.
    pub(super) fn confirm(
        &mut self,
        now: Timestamp,
        offsets: Range<u64>,
        number: u32,
        timers: &mut Timers,
    ) {
        self.confirmed.insert_run(now, offsets, number, timers);
    }

    /// Which deliveries were acknowledged.
    pub(super) const fn confirmed(&self) -> &Confirmed {
        &self.confirmed
    }

    /// Forgets acknowledged deliveries: what was remembered for long enough, or the oldest.
    pub(super) fn forget_confirmed(&mut self, forget: impl FnOnce(&mut Confirmed)) {
        forget(&mut self.confirmed);
        self.note_forgotten();
    }

    /// What was forgotten is removed with a flush that nobody waits for.
    fn note_forgotten(&mut self) {
        if self.confirmed.has_gone() {
            self.progress.rows_forgotten();
        }
    }

    /// A caller waits for what lies below the cursor.
    pub(super) fn ack_again(&mut self, offset: u64) {
        self.progress.ack_again(offset..offset + 1);
    }

    /// Counts offsets that hold nothing to deliver as done, and passes them to `skipped`. Never worth a flush of its
    /// own. A lease outlives its message: the consumer's credit ends with the ack or the deadline.
    pub(super) fn skip(
        &mut self,
        offsets: Range<u64>,
        timers: &mut Timers,
        mut skipped: impl FnMut(Range<u64>),
    ) {
        let start = offsets.start.max(self.progress.cursor());
        if start >= offsets.end {
            return;
        }
        for offsets in self.leases.gaps(start..offsets.end) {
            self.failed.forget(offsets.clone(), timers);
            skipped(offsets.clone());
            self.progress.skip(offsets);
        }
    }

    /// Moves the cursor over what is done; whether it moved.
    pub(super) fn advance_cursor(&mut self) -> bool {
        self.progress.advance_cursor()
    }
}

#[cfg(test)]
impl Ledger {
    pub(super) fn check(&self, timers: &Timers) {
        self.progress.check();
        self.leases.check(timers);
        self.failed.check(timers);
        for offset in self.leases.offsets() {
            assert!(!self.progress.is_done(offset) && !self.failed.contains(offset));
        }
        for (offset, _) in self.failed.times() {
            assert!(!self.progress.is_done(offset));
        }
    }

    pub(super) fn leased_offsets(&self) -> impl Iterator<Item = u64> {
        self.leases.offsets()
    }

    /// Leases and failed messages as they are stored.
    pub(super) fn slots(&self, offsets: Range<u64>) -> impl Iterator<Item = (u64, Slot)> {
        let leases = self.leases.slots(offsets.clone());
        leases.chain(self.failed.slots(offsets))
    }

    /// Whether this message is leased and waits to leave.
    pub(super) fn waits_to_leave(&self, offset: u64) -> bool {
        self.leases.waits_to_leave(offset)
    }
}
