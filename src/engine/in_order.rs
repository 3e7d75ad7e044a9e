//! What a partition does otherwise where its messages have ordering keys (docs/behaviour.md, section 10).

use std::ops::Range;

use super::{
    input::{ConsumerId, Issue, LeaseId, LoadedMessage},
    ledger::Ledger,
    ordered::{Ordered, State},
    output::Ended,
    partition::Partition,
    read_ahead::ReadAhead,
    retry::FailureRules,
    timers::Timers,
};
use crate::clock::Timestamp;

/// What a read that ended was.
pub(super) struct ReadFrom {
    pub(super) now: Timestamp,
    /// Where it began.
    pub(super) from: u64,
    /// So many more messages of all keys may wait.
    pub(super) room: usize,
    /// A message was set aside before, and has now been read.
    pub(super) late: Option<u64>,
}

impl Partition {
    /// Takes a message in that was read, if it is to be delivered.
    pub(super) fn load_in_order(
        (ledger, read_ahead): (&Ledger, &ReadAhead),
        ordered: &mut Ordered,
        message: LoadedMessage,
        read: &mut ReadFrom,
    ) {
        let (offset, key) = (message.offset, message.key);
        if ledger.progress().is_done(offset) {
            return;
        }
        let is_known = ordered.knows(offset);
        if ledger.is_leased(offset) {
            #[cfg(test)]
            if crate::sim::planted::Bug::AffinityLostAtTakeOver.is_planted() {
                return;
            }
            if let Some(key) = key.filter(|_| !is_known) {
                ordered.add_leased(key, offset);
            }
            return;
        }
        let is_new = read_ahead.is_new(read.from, offset);
        let (message, is_new) = if is_known {
            match ordered.load(message) {
                Some(message) => (message, true),
                None => return,
            }
        } else {
            (message, is_new)
        };
        if !is_new && key.is_none_or(|key| !ordered.is_marked_before(key, offset)) {
            return;
        }
        if key.is_some() && read_ahead.is_damaged(offset) && offset < read_ahead.next() {
            read.late = read.late.or(Some(offset));
        }
        let state = if ledger.failed().contains(offset) {
            State::Failed
        } else {
            State::Waiting
        };
        let waits = ledger.failed().waits(read.now, offset);
        ordered.add(message, (state, waits), read.from, &mut read.room);
    }

    /// Notes how far the log was read.
    pub(super) fn see_read_in_order(&mut self, offsets: Range<u64>) {
        let (ledger, read_ahead) = (&self.ledger, &mut self.read_ahead);
        if let Some(ordered) = self.candidates.ordered_mut() {
            read_ahead.pass_known(ledger.progress());
            ordered.was_read(offsets, read_ahead.next());
            ordered.read_below(read_ahead.next());
        }
    }

    /// What is done or counts as absent may be all that keys were held back for.
    pub(super) fn release_keys(&mut self) {
        let is_holding = self.candidates.ordered().is_some_and(Ordered::is_holding);
        if is_holding {
            self.see_read_in_order(0..0);
        }
    }

    /// Ends a lease of what never reached its consumer, if it has not ended or been superseded, and with it those behind
    /// it in its key. They go to `ended`.
    pub(super) fn give_back(
        &mut self,
        now: Timestamp,
        lease: LeaseId,
        timers: &mut Timers,
        ended: &mut Vec<Ended>,
    ) {
        if let Some(one) = self.ledger.give_back(now, lease, timers) {
            ended.push(one);
            self.end_behind(now, lease.offset, State::Returned, timers, ended);
        }
    }

    /// The same as a failed attempt; whether there was such a lease.
    pub(super) fn fail(
        &mut self,
        now: Timestamp,
        rules: FailureRules,
        lease: LeaseId,
        timers: &mut Timers,
        ended: &mut Vec<Ended>,
    ) -> bool {
        let Some(one) = self.ledger.fail(now, rules, lease, timers) else {
            return false;
        };
        ended.push(one);
        self.end_behind(now, lease.offset, State::Failed, timers, ended);
        true
    }

    /// Ends the leases that are late with this event, of each key the first one as a failed attempt.
    pub(super) fn end_late(
        &mut self,
        now: Timestamp,
        rules: FailureRules,
        timers: &mut Timers,
        ended: &mut Vec<Ended>,
    ) {
        let late = self.candidates.ordered_mut().map(Ordered::take_late);
        for late in late.into_iter().flatten() {
            let lease = LeaseId {
                generation: self.ledger.generation(),
                partition: self.id(),
                offset: late.0,
                number: late.1,
                issue: Issue::default(),
            };
            self.fail(now, rules, lease, timers, ended);
        }
    }

    /// Ends the leases behind messages of which it is known only now that they failed.
    pub(super) fn end_behind_failed(
        &mut self,
        now: Timestamp,
        timers: &mut Timers,
        ended: &mut Vec<Ended>,
    ) {
        let behind = self.candidates.ordered_mut().map(Ordered::take_behind);
        for offset in behind.into_iter().flatten() {
            ended.extend(self.ledger.end_any(now, offset, timers));
        }
    }

    fn end_behind(
        &mut self,
        now: Timestamp,
        offset: u64,
        state: State,
        timers: &mut Timers,
        ended: &mut Vec<Ended>,
    ) {
        let Some(ordered) = self.candidates.ordered_mut() else {
            return;
        };
        let waits = self.ledger.failed().waits(now, offset);
        let is_read = offset < self.read_ahead.next() && !self.read_ahead.is_damaged(offset);
        for behind in ordered.lease_ended(offset, (state, waits), is_read) {
            let one = self.ledger.end_any(now, behind, timers);
            #[cfg(test)]
            let one = one.filter(|_| !crate::sim::planted::Bug::CreditOfReleasedKey.is_planted());
            ended.extend(one);
        }
    }

    /// A consumer would take messages now.
    pub(super) fn hungers(&mut self, consumer: ConsumerId) {
        if let Some(ordered) = self.candidates.ordered_mut() {
            ordered.hungers(consumer);
        }
    }

    /// Whether something is loaded that this consumer may have and no other.
    pub(super) fn has_own(&self, consumer: ConsumerId) -> bool {
        let ordered = self.candidates.ordered();
        ordered.is_some_and(|it| it.has_own(consumer))
    }

    /// Whether ordering keys belong to this consumer.
    pub(super) fn has_keys(&self, consumer: ConsumerId) -> bool {
        let ordered = self.candidates.ordered();
        ordered.is_some_and(|it| it.has_keys(consumer))
    }

    /// The ordering keys of a consumer that has left are those of another one.
    pub(super) fn inherit(&mut self, from: ConsumerId, to: ConsumerId) {
        if let Some(ordered) = self.candidates.ordered_mut() {
            ordered.inherit(from, to);
        }
    }

    /// Consumers that may have got something of their own since this was asked last.
    pub(super) fn take_offered(&mut self) -> Vec<ConsumerId> {
        let ordered = self.candidates.ordered_mut();
        ordered.map(Ordered::take_offered).unwrap_or_default()
    }

    /// Messages with ordering keys that were read and wait.
    pub(super) fn waiting(&self) -> usize {
        self.candidates.ordered().map_or(0, Ordered::waiting)
    }
}
