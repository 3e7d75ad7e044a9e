//! Acks where delivery is exactly once (docs/behaviour.md, section 9): only the id of a valid lease has an effect, and the
//! repeat of one that had is answered as the first was.

use std::ops::Range;

use super::{
    confirmed::Confirmed,
    input::LeaseId,
    ordered::Ordered,
    output::{Ended, Verdict},
    partition::Partition,
    partitions::Partitions,
    timers::Timers,
};
use crate::{clock::Timestamp, limits::CONFIRMED_BYTES_MAX};

/// Neighbours that are acknowledged together, all of them by the delivery of this number.
struct Run {
    offsets: Range<u64>,
    number: u32,
}

impl Partitions {
    /// Judges the ids as a set, in the order of the log: of one ordering key all may be acknowledged together. What each
    /// found goes to `verdicts`, in the order of the ids.
    pub(super) fn ack_exactly_once(
        &mut self,
        now: Timestamp,
        leases: &[LeaseId],
        timers: &mut Timers,
        ended: &mut Vec<Ended>,
        verdicts: &mut Vec<Verdict>,
    ) {
        let first = verdicts.len();
        verdicts.resize(first + leases.len(), Verdict::Void);
        let mut order: Vec<usize> = (0..leases.len()).collect();
        if !leases.is_sorted() {
            order.sort_by_key(|at| leases[*at]);
        }
        let state = |at: &usize| (leases[*at].generation, leases[*at].partition);
        for of_state in order.chunk_by(|a, b| state(a) == state(b)) {
            let mut partition = self.current(leases[of_state[0]]);
            let mut run = None;
            for at in of_state {
                let lease = leases[*at];
                verdicts[first + at] = match &mut partition {
                    Some(partition) => partition.ack_one(now, lease, &mut run, timers, ended),
                    None => lenient(lease, Verdict::Void),
                };
            }
            if let Some(partition) = partition {
                partition.ack_run(now, &mut run, timers, ended);
            }
        }
        for partition in self.iter_mut() {
            partition.advance_cursor();
        }
    }

    /// Forgets the oldest of what was acknowledged while it takes too much; whether it did.
    pub(super) fn bound_confirmed(&mut self) -> bool {
        let bytes = |it: &Partition| it.ledger().confirmed().bytes();
        let mut has_forgotten = false;
        while self.iter().map(bytes).sum::<usize>() > CONFIRMED_BYTES_MAX {
            let oldest = |it: &&mut Partition| it.ledger().confirmed().oldest();
            let with_any = self.iter_mut().filter(|it| oldest(it).is_some());
            let Some(partition) = with_any.min_by_key(oldest) else {
                break;
            };
            let ledger = partition.ledger_mut();
            ledger.forget_confirmed(Confirmed::forget_oldest);
            has_forgotten = true;
        }
        has_forgotten
    }
}

impl Partition {
    /// Judges one id, and adds the message to the run if the id acknowledges it.
    fn ack_one(
        &mut self,
        now: Timestamp,
        lease: LeaseId,
        run: &mut Option<Run>,
        timers: &mut Timers,
        ended: &mut Vec<Ended>,
    ) -> Verdict {
        let LeaseId { offset, number, .. } = lease;
        if self.candidates.ordered().is_some() {
            // What was acknowledged before it in its key must not count as undone.
            self.ack_run(now, run, timers, ended);
        }
        if !self.ledger.is_current(lease) {
            return if lease.issue.exactly_once {
                self.ack_repeated(lease)
            } else {
                self.ack_unjudged(lease, timers, ended)
            };
        }
        let ordered = self.candidates.ordered();
        if lease.issue.exactly_once && ordered.is_some_and(|it| it.has_undone_before(offset)) {
            return Verdict::Unordered;
        }
        match run {
            Some(run) if run.offsets.contains(&offset) => {}
            Some(run) if run.offsets.end == offset && run.number == number => run.offsets.end += 1,
            _ => {
                self.ack_run(now, run, timers, ended);
                *run = Some(Run {
                    offsets: offset..offset + 1,
                    number,
                });
            }
        }
        Verdict::Applied
    }

    fn ack_run(
        &mut self,
        now: Timestamp,
        run: &mut Option<Run>,
        timers: &mut Timers,
        ended: &mut Vec<Ended>,
    ) {
        if let Some(Run { offsets, number }) = run.take() {
            self.ack(offsets.clone(), timers, ended);
            self.ledger.confirm(now, offsets, number, timers);
        }
    }

    /// An ack by a delivery that is not leased any more: it may be the one that was acknowledged.
    fn ack_repeated(&mut self, lease: LeaseId) -> Verdict {
        let confirmed = self.ledger.confirmed().number(lease.offset);
        if confirmed != Some(lease.number) {
            return self.judge(lease);
        }
        self.ledger.ack_again(lease.offset);
        Verdict::Applied
    }

    /// An ack by a delivery from before delivery became exactly once, whose lease has ended: it counts unless the message
    /// was delivered again, to a consumer that is promised that nobody else acknowledges it.
    fn ack_unjudged(
        &mut self,
        lease: LeaseId,
        timers: &mut Timers,
        ended: &mut Vec<Ended>,
    ) -> Verdict {
        let offset = lease.offset;
        if !self.ledger.is_leased(offset) {
            self.ack(offset..offset.saturating_add(1), timers, ended);
        }
        Verdict::Accepted
    }
}

/// What is answered to an id from before delivery became exactly once, where another one would be `verdict`.
pub(super) fn lenient(lease: LeaseId, verdict: Verdict) -> Verdict {
    if lease.issue.exactly_once || verdict == Verdict::Applied {
        verdict
    } else {
        Verdict::Accepted
    }
}

impl Ordered {
    /// Whether something before this message in its key is known and not done. Of a key that was not read since a restart
    /// nothing is known.
    fn has_undone_before(&self, offset: u64) -> bool {
        let first = self.first_undone(offset);
        first.is_some_and(|first| first < offset)
    }
}
