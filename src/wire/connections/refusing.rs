//! Says once in the log that connections are refused, however many, and once that none is any more.

use std::{io, net::IpAddr, time::Duration};

use parking_lot::Mutex;
use thiserror::Error;
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use crate::limits::REFUSING_SETTLED_MILLIS;

const SETTLED: Duration = Duration::from_millis(REFUSING_SETTLED_MILLIS);

/// Why a connection was refused, or had to go.
#[derive(Debug, Error)]
pub(super) enum Cause<'a> {
    /// There are as many as there may be.
    #[error(
        "there are as many as there may be ({0}); those that have said nothing are closed, others wait until some end"
    )]
    Full(usize),
    /// An address has too many that have said nothing.
    #[error("{1} of {0} have said nothing yet; the oldest of these are closed")]
    Address(IpAddr, usize),
    /// The machine has no descriptor for it, or something else is wrong with it.
    #[error("the machine does not accept any: {0}")]
    Machine(&'a io::Error),
}

/// Whether connections are being refused.
#[derive(Debug, Default)]
pub(super) struct Refusing {
    state: Mutex<Option<State>>,
    began: Notify,
}

#[derive(Debug)]
struct State {
    last: Instant,
    refused: u64,
}

impl Refusing {
    /// A connection was refused.
    pub(super) fn refused(&self, cause: &Cause<'_>) {
        let now = Instant::now();
        let mut state = self.state.lock();
        if let Some(state) = &mut *state {
            state.last = now;
            state.refused += 1;
            return;
        }
        *state = Some(State {
            last: now,
            refused: 1,
        });
        drop(state);
        tracing::warn!("connections are refused: {cause}");
        self.began.notify_one();
    }

    /// Logs the end of each time in which connections were refused. Never returns.
    pub(super) async fn log_ends(&self) {
        loop {
            self.began.notified().await;
            let refused = self.end().await;
            tracing::info!(refused, "connections are no longer refused");
        }
    }

    /// Waits until none has been refused for a while, and returns how many there were.
    async fn end(&self) -> u64 {
        loop {
            let last = self.state.lock().as_ref().map(|state| state.last);
            let Some(last) = last else {
                return 0;
            };
            sleep_until(last + SETTLED).await;
            let mut state = self.state.lock();
            if let Some(ended) = state.take_if(|state| state.last == last) {
                return ended.refused;
            }
        }
    }

    #[cfg(test)]
    pub(super) fn is_refusing(&self) -> bool {
        self.state.lock().is_some()
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const NEARLY: Duration = Duration::from_millis(REFUSING_SETTLED_MILLIS - 1);

    #[tokio::test(start_paused = true)]
    async fn refusing_ends_when_none_was_refused_for_a_while() {
        let refusing = Refusing::default();
        refusing.refused(&Cause::Full(1));
        let mut end = std::pin::pin!(refusing.end());
        assert!(futures_util::poll!(end.as_mut()).is_pending());
        advance(NEARLY).await;
        refusing.refused(&Cause::Full(1));
        advance(NEARLY).await;
        assert!(futures_util::poll!(end.as_mut()).is_pending());
        assert!(refusing.is_refusing());
        advance(Duration::from_millis(2)).await;
        assert_eq!(end.await, 2);
        assert!(!refusing.is_refusing());
    }
}
