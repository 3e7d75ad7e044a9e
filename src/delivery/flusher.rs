//! Writes what all subscriptions of this node want stored, in one transaction after the other.
//!
//! A flush starts as soon as the one before it is done, but at most every 5 ms, so that its cost follows the time
//! and what changed, not the number of requests.

use std::{slice, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, oneshot},
    time::{MissedTickBehavior, interval},
};

use crate::{
    limits::{FLUSH_INTERVAL_MILLIS, FLUSH_SUBSCRIPTIONS_MAX},
    store::{
        Positions, StoreError,
        operations::{Operation, Operations},
        positions::{Flush, FlushOutcome},
    },
};

/// What became of one subscription's changes.
pub(super) type Flushed = Result<FlushOutcome, StoreError>;

struct Job {
    flush: Flush,
    done: oneshot::Sender<Flushed>,
}

/// Hands changes to the flush task. Cheap to clone; the task ends with the last clone.
#[derive(Clone, Debug)]
pub(super) struct Flusher {
    jobs: mpsc::Sender<Job>,
}

impl Flusher {
    /// The flusher and its task.
    pub(super) fn new(
        positions: Arc<dyn Positions>,
        operations: Arc<Operations>,
    ) -> (Self, impl Future<Output = ()>) {
        let (jobs, waiting) = mpsc::channel(FLUSH_SUBSCRIPTIONS_MAX);
        (Self { jobs }, run(positions, operations, waiting))
    }

    /// Returns once the changes are durable, or known not to be.
    pub(super) async fn flush(self, flush: Flush) -> Flushed {
        let (done, outcome) = oneshot::channel();
        let stopped = || Err(StoreError::Unavailable("the server is stopping".to_owned()));
        if self.jobs.send(Job { flush, done }).await.is_err() {
            return stopped();
        }
        outcome.await.unwrap_or_else(|_| stopped())
    }
}

async fn run(
    positions: Arc<dyn Positions>,
    operations: Arc<Operations>,
    mut waiting: mpsc::Receiver<Job>,
) {
    let mut pace = interval(Duration::from_millis(FLUSH_INTERVAL_MILLIS));
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut jobs = Vec::new();
    loop {
        pace.tick().await;
        if waiting.recv_many(&mut jobs, FLUSH_SUBSCRIPTIONS_MAX).await == 0 {
            return;
        }
        let (flushes, replies): (Vec<_>, Vec<_>) =
            jobs.drain(..).map(|job| (job.flush, job.done)).unzip();
        let outcomes = flush_all(positions.as_ref(), &operations, &flushes).await;
        for (reply, outcome) in replies.into_iter().zip(outcomes) {
            // A driver that is gone needs no answer.
            drop(reply.send(outcome));
        }
    }
}

async fn flush_all(
    positions: &dyn Positions,
    operations: &Operations,
    flushes: &[Flush],
) -> Vec<Flushed> {
    let outcomes = positions.flush(flushes).await;
    operations.note(Operation::Flush, outcomes.as_ref().err());
    match outcomes {
        Ok(outcomes) if outcomes.len() == flushes.len() => outcomes.into_iter().map(Ok).collect(),
        Ok(_) => flushes.iter().map(|_| Err(unanswered())).collect(),
        // One subscription's damaged page must not fail the others.
        Err(StoreError::Damaged(_)) if flushes.len() > 1 => {
            let mut outcomes = Vec::with_capacity(flushes.len());
            for flush in flushes {
                let outcome = positions.flush(slice::from_ref(flush)).await;
                outcomes.push(match outcome.as_deref() {
                    Ok([outcome]) => Ok(*outcome),
                    Ok(_) => Err(unanswered()),
                    Err(error) => {
                        log_damaged(error);
                        Err(error.clone())
                    }
                });
            }
            outcomes
        }
        Err(error) => {
            log_damaged(&error);
            flushes.iter().map(|_| Err(error.clone())).collect()
        }
    }
}

/// Of flushes whose outcomes cannot be told apart.
fn unanswered() -> StoreError {
    StoreError::Uncertain("a flush was left unanswered".to_owned())
}

/// Logs what no outage of the store explains, which is logged elsewhere.
fn log_damaged(error: &StoreError) {
    if !error.is_outage() && !error.is_full() {
        tracing::error!(%error, "positions and leases of a subscription were not stored");
    }
}
