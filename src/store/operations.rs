//! How the operations go that requests need of the stores. A log line says when a kind of them begins to fail, and why,
//! and one when it works again; health checks judge by it, too (docs/operating.md, "What to watch").

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::StoreError;
use crate::{
    clock::{Clock, Timestamp},
    limits::{HEALTH_FAILED_MILLIS, HEALTH_FAILURES, OUTAGE_SETTLED_MILLIS},
};

/// A kind of operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Appending published messages to a log.
    Append,
    /// Reading messages from a log.
    Read,
    /// Reading topics and subscriptions.
    Lookup,
    /// Creating, updating and deleting topics and subscriptions.
    Change,
    /// Storing positions and leases.
    Flush,
}

impl Operation {
    const ALL: [Self; 5] = [
        Self::Append,
        Self::Read,
        Self::Lookup,
        Self::Change,
        Self::Flush,
    ];

    /// In log lines and health checks.
    const fn words(self) -> &'static str {
        match self {
            Self::Append => "messages are not stored",
            Self::Read => "messages are not read",
            Self::Lookup => "topics and subscriptions are not found",
            Self::Change => "topics and subscriptions are not changed",
            Self::Flush => "positions and leases are not stored",
        }
    }

    /// Whether the message log does it.
    const fn is_of_log(self) -> bool {
        matches!(self, Self::Append | Self::Read)
    }
}

/// See the module.
#[derive(Debug)]
pub struct Operations {
    clock: Clock,
    kinds: [Kind; Operation::ALL.len()],
}

#[derive(Debug, Default)]
struct Kind {
    /// Whether there is an outage, so that a success costs no lock while all goes well.
    fails: AtomicBool,
    outage: Mutex<Option<Outage>>,
}

/// From the first failure until none has come for a while.
#[derive(Debug)]
struct Outage {
    since: Timestamp,
    last: Timestamp,
    failures: u64,
    /// Since the last success.
    in_a_row: u32,
    /// The error that was logged last, and when.
    logged: (String, Timestamp),
    error: String,
}

/// What is logged of an outage.
#[derive(Debug, PartialEq, Eq)]
enum Line {
    Fails { error: String },
    FailsOtherwise { error: String },
    Works { failures: u64, millis: u64 },
}

impl Operations {
    /// Nothing has failed yet.
    pub fn new(clock: Clock) -> Self {
        Self {
            clock,
            kinds: Default::default(),
        }
    }

    /// Takes in how an operation ended, with its error if it failed. One that says nothing of the store, as one about what was asked for, is a
    /// success.
    pub fn note(&self, operation: Operation, error: Option<&StoreError>) {
        let line = match error {
            Some(error) if error.is_outage() => self.failed(operation, error.to_string()),
            _ => self.succeeded(operation),
        };
        match line {
            None => {}
            Some(Line::Fails { error }) => {
                tracing::error!(?operation, error, "{}", operation.words());
            }
            Some(Line::FailsOtherwise { error }) => {
                tracing::error!(
                    ?operation,
                    error,
                    "{}, now for another reason",
                    operation.words()
                );
            }
            Some(Line::Works { failures, millis }) => {
                tracing::info!(?operation, failures, millis, "what failed works again");
            }
        }
    }

    fn failed(&self, operation: Operation, error: String) -> Option<Line> {
        let kind = &self.kinds[operation as usize];
        let now = self.clock.now();
        let mut outage = kind.outage.lock();
        kind.fails.store(true, Ordering::Relaxed);
        let Some(outage) = &mut *outage else {
            *outage = Some(Outage {
                since: now,
                last: now,
                failures: 1,
                in_a_row: 1,
                logged: (error.clone(), now),
                error: error.clone(),
            });
            return Some(Line::Fails { error });
        };
        outage.failures += 1;
        outage.in_a_row = outage.in_a_row.saturating_add(1);
        outage.last = now;
        outage.error.clone_from(&error);
        let (logged, at) = &outage.logged;
        if *logged == error || now < at.plus_millis(OUTAGE_SETTLED_MILLIS) {
            return None;
        }
        outage.logged = (error.clone(), now);
        Some(Line::FailsOtherwise { error })
    }

    fn succeeded(&self, operation: Operation) -> Option<Line> {
        let kind = &self.kinds[operation as usize];
        if !kind.fails.load(Ordering::Relaxed) {
            return None;
        }
        let now = self.clock.now();
        let mut slot = kind.outage.lock();
        let outage = slot.as_mut()?;
        outage.in_a_row = 0;
        if now < outage.last.plus_millis(OUTAGE_SETTLED_MILLIS) {
            return None;
        }
        let works = Line::Works {
            failures: outage.failures,
            millis: outage.last.millis_since(outage.since),
        };
        *slot = None;
        kind.fails.store(false, Ordering::Relaxed);
        Some(works)
    }

    /// Why the message log cannot be used, as the last operations show.
    pub fn log_failure(&self) -> Option<String> {
        self.failure(Operation::is_of_log)
    }

    /// Why the state store cannot be used, as the last operations show.
    pub fn state_failure(&self) -> Option<String> {
        self.failure(|operation| !operation.is_of_log())
    }

    fn failure(&self, is_asked: impl Fn(Operation) -> bool) -> Option<String> {
        let now = self.clock.now();
        let mut asked = Operation::ALL.into_iter().filter(|kind| is_asked(*kind));
        asked.find_map(|operation| {
            let outage = self.kinds[operation as usize].outage.lock();
            let outage = outage.as_ref()?;
            let counts = outage.in_a_row >= HEALTH_FAILURES
                && now < outage.last.plus_millis(HEALTH_FAILED_MILLIS);
            counts.then(|| format!("{}: {}", operation.words(), outage.error))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::ManualClock;

    fn operations() -> (Operations, ManualClock) {
        let (clock, hand) = Clock::manual(Timestamp::from_millis(1_000_000));
        (Operations::new(clock), hand)
    }

    const ERROR: &str = "no right to write";

    fn denied() -> StoreError {
        StoreError::Denied(ERROR.to_owned())
    }

    fn fail(operations: &Operations, times: u32) {
        for _ in 0..times {
            operations.note(Operation::Append, Some(&denied()));
        }
    }

    #[test]
    fn the_last_operations_decide_whether_a_store_works() {
        let (operations, hand) = operations();
        fail(&operations, HEALTH_FAILURES - 1);
        assert_eq!(operations.log_failure(), None);
        fail(&operations, 1);
        let failure = operations.log_failure().expect("fails");
        assert!(failure.ends_with(ERROR), "{failure}");
        assert_eq!(operations.state_failure(), None);

        operations.note(Operation::Append, None);
        assert_eq!(operations.log_failure(), None);
        fail(&operations, HEALTH_FAILURES);
        assert!(operations.log_failure().is_some());
        // Nobody tries any more, so nothing is known.
        hand.advance(Duration::from_millis(HEALTH_FAILED_MILLIS));
        assert_eq!(operations.log_failure(), None);
    }

    #[test]
    fn what_is_wrong_with_a_request_is_no_failure_of_the_store() {
        let (operations, _hand) = operations();
        for error in [
            StoreError::NoSuchLog,
            StoreError::Refused("too large".to_owned()),
        ] {
            fail(&operations, HEALTH_FAILURES);
            operations.note(Operation::Append, Some(&error));
            assert_eq!(operations.log_failure(), None);
        }
    }

    #[test]
    fn an_outage_has_a_line_when_it_begins_one_for_each_cause_and_one_when_it_ends() {
        let (operations, hand) = operations();
        let settled = Duration::from_millis(OUTAGE_SETTLED_MILLIS);
        let failed = |error: &str| operations.failed(Operation::Flush, error.to_owned());
        let error = || "connection refused".to_owned();
        assert_eq!(failed(&error()), Some(Line::Fails { error: error() }));
        for _ in 0..1000 {
            assert_eq!(failed(&error()), None);
            // Some get through while others fail.
            assert_eq!(operations.succeeded(Operation::Flush), None);
        }
        hand.advance(settled);
        assert_eq!(failed(&error()), None);
        let error = "password authentication failed".to_owned();
        assert_eq!(failed(&error.clone()), Some(Line::FailsOtherwise { error }));
        assert_eq!(operations.succeeded(Operation::Append), None);
        hand.advance(settled);
        let works = Line::Works {
            failures: 1003,
            millis: OUTAGE_SETTLED_MILLIS,
        };
        assert_eq!(operations.succeeded(Operation::Flush), Some(works));
        assert_eq!(operations.succeeded(Operation::Flush), None);
    }
}
