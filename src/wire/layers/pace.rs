//! How fast a peer has to be while it owes bytes: the rest of a request, or that it takes an answer. Something has to
//! move every 30 seconds, and all of it on average at 16 KiB/s from the first 30 seconds on, so that nothing large is
//! held for long in small steps.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};
use tonic::Status;

use crate::limits::{TRANSFER_BYTES_PER_SECOND_MIN, TRANSFER_GRACE_MILLIS, TRANSFER_IDLE_MILLIS};

const IDLE: Duration = Duration::from_millis(TRANSFER_IDLE_MILLIS);
const GRACE: Duration = Duration::from_millis(TRANSFER_GRACE_MILLIS);

/// Bytes that a peer owes.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    began: Instant,
    last: Instant,
    bytes: u64,
}

impl Pace {
    /// The time begins now.
    pub fn begin() -> Self {
        let now = Instant::now();
        Self {
            began: now,
            last: now,
            bytes: 0,
        }
    }

    /// So many bytes more have moved.
    pub fn moved(&mut self, bytes: usize) {
        self.last = Instant::now();
        self.bytes = self.bytes.saturating_add(bytes as u64);
    }

    /// When it is too late for the next ones.
    pub fn deadline(&self) -> Instant {
        let total =
            GRACE + Duration::from_millis(self.bytes * 1000 / TRANSFER_BYTES_PER_SECOND_MIN);
        (self.last + IDLE).min(self.began + total)
    }
}

/// How long the rest of one request is waited for.
#[derive(Debug, Default)]
pub struct Patience {
    /// Until when the client waits for its answer.
    client: Option<Instant>,
    /// Since the rest had to be waited for.
    pace: Option<Pace>,
    /// A request that is there at once needs none.
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Patience {
    /// For a client that waits so long from now on.
    pub fn new(client_timeout: Option<Duration>) -> Self {
        let until = client_timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        Self {
            client: until,
            ..Self::default()
        }
    }

    /// Something has arrived.
    pub fn moved(&mut self, bytes: usize) {
        if let Some(pace) = &mut self.pace {
            pace.moved(bytes);
        }
    }

    /// Nothing more is owed for now.
    pub fn rest(&mut self) {
        self.pace = None;
    }

    /// To be asked while nothing arrives. Ready, with the answer, when that was so for too long; `owes` says whether the
    /// client may not pause here.
    pub fn poll_over(&mut self, owes: bool, context: &mut Context<'_>) -> Poll<Status> {
        if owes {
            self.pace.get_or_insert_with(Pace::begin);
        } else {
            self.pace = None;
        }
        let late = self.pace.map(|pace| pace.deadline());
        let Some(until) = late.into_iter().chain(self.client).min() else {
            self.sleep = None;
            return Poll::Pending;
        };
        let sleep = self
            .sleep
            .get_or_insert_with(|| Box::pin(sleep_until(until)));
        if sleep.deadline() != until {
            sleep.as_mut().reset(until);
        }
        ready!(sleep.as_mut().poll(context));
        Poll::Ready(Status::deadline_exceeded(if late == Some(until) {
            "The rest of the request did not arrive in time."
        } else {
            "The deadline of the call passed before all of its request had arrived."
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::time::advance;

    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[tokio::test(start_paused = true)]
    async fn something_has_to_move_every_30_seconds_and_16_kib_each_second() {
        let mut pace = Pace::begin();
        let began = Instant::now();
        assert_eq!(pace.deadline(), began + seconds(30));
        advance(seconds(20)).await;
        pace.moved(1024 * 1024);
        assert_eq!(pace.deadline(), began + seconds(50), "30 s after the last");
        advance(seconds(29)).await;
        pace.moved(1);
        advance(seconds(29)).await;
        pace.moved(1);
        assert_eq!(
            pace.deadline(),
            began + seconds(30 + 64),
            "1 MiB at 16 KiB/s"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_owes_nothing_has_its_own_deadline_only() {
        let began = Instant::now();
        let mut without = Patience::default();
        let mut over = poll_fn(|context| without.poll_over(false, context));
        assert!(futures_util::poll!(&mut over).is_pending());
        advance(seconds(1000)).await;
        assert!(futures_util::poll!(&mut over).is_pending());

        let mut patience = Patience::new(Some(seconds(100)));
        let owed = poll_fn(|context| patience.poll_over(true, context)).await;
        assert_eq!(
            owed.message(),
            "The rest of the request did not arrive in time."
        );
        assert_eq!(began.elapsed(), seconds(1030));
        let past = poll_fn(|context| patience.poll_over(false, context)).await;
        assert!(past.message().contains("deadline of the call"), "{past:?}");
        assert_eq!(began.elapsed(), seconds(1100));
    }
}
