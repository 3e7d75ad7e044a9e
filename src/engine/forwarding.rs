//! What a partition does with dead letters (docs/behaviour.md, section 11.2): which are forwarded next, and what comes
//! of it.

use super::{
    candidates::Candidates,
    dead_letter::Outcome,
    ordered::Ordered,
    output::{DeadLetter, Ended},
    partition::Partition,
    timers::Timers,
};
use crate::clock::Timestamp;

impl Partition {
    /// Whether something may have to be forwarded that is not on its way.
    pub(super) fn has_dead_letters(&self) -> bool {
        let heads = self.candidates.ordered().is_some_and(Ordered::has_heads);
        heads || self.ledger.failed().forwards().has_due()
    }

    /// Takes dead letters that are to be forwarded now, at most so many.
    pub(super) fn take_dead_letters(&mut self, max: usize) -> Vec<DeadLetter> {
        let Self {
            ledger,
            candidates,
            read_ahead,
            ..
        } = self;
        let failed = ledger.failed_mut();
        let forwards = failed.forwards_mut();
        for offset in forwards.take_stored() {
            if !forwards.contains(offset) {
                continue;
            }
            match candidates {
                Candidates::Unordered(_) => forwards.come_due(offset),
                Candidates::Ordered(ordered) => {
                    ordered.forward(offset, read_ahead.is_read(offset));
                }
            }
        }
        let heads = candidates.ordered_mut().map(Ordered::take_heads);
        for offset in heads.into_iter().flatten() {
            forwards.come_due(offset);
        }
        let due = forwards.take_due(max);
        let dead_letter = |offset| DeadLetter {
            offset,
            attempts: failed.attempts(offset),
        };
        due.into_iter().map(dead_letter).collect()
    }

    /// Takes in what came of forwarding a message. What was forwarded is acknowledged; if it has an ordering key, what
    /// follows it in its key leaves when that is stored.
    pub(super) fn forwarded(
        &mut self,
        now: Timestamp,
        (offset, outcome): (u64, Outcome),
        timers: &mut Timers,
        ended: &mut Vec<Ended>,
    ) {
        let forwards = self.ledger.failed_mut().forwards_mut();
        if forwards.take_gone(offset) {
            return;
        }
        match outcome {
            Outcome::Failed { retry_at } => forwards.put_off(offset, retry_at, timers),
            Outcome::Refused => self.keep(now, offset, timers),
            Outcome::Done => {
                if !forwards.remove(offset, timers) {
                    return;
                }
                if self.candidates.ordered().is_some() {
                    forwards.acked(offset);
                    self.ledger.ack(offset..offset + 1, timers, ended);
                } else {
                    self.ack(offset..offset + 1, timers, ended);
                }
            }
        }
    }

    /// There is no dead letter policy any more: dead letters that are not being forwarded are delivered again.
    pub(super) fn keep_dead_letters(&mut self, now: Timestamp, timers: &mut Timers) {
        for offset in self.ledger.failed_mut().forwards_mut().take_not_out() {
            self.keep(now, offset, timers);
        }
    }

    fn keep(&mut self, now: Timestamp, offset: u64, timers: &mut Timers) {
        let Self {
            ledger,
            candidates,
            read_ahead,
            ..
        } = self;
        if let Some(ordered) = candidates.ordered_mut() {
            ordered.keep(offset);
        }
        ledger.keep(now, offset, timers, |offset| {
            candidates.release(offset, read_ahead.is_read(offset))
        });
    }

    /// The last flush is durable, or what it held must be written again.
    pub(super) fn forwards_flushed(&mut self, stored: bool) {
        for offset in self.ledger.failed_mut().forwards_mut().flushed(stored) {
            self.candidates.forget(&(offset..offset + 1));
        }
    }

    /// Whether the log has to be read before it is known which dead letters may be forwarded.
    pub(super) fn seeks_dead_letters(&self) -> bool {
        let ordered = self.candidates.ordered();
        ordered.is_some_and(Ordered::seeks_dead_letters)
    }
}
