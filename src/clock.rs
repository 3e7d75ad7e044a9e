//! Time as a value, and its only two sources: the system, or a test that moves it by hand.
//!
//! Everything below `delivery` gets a [`Timestamp`] as an argument and never asks for one.

use std::{
    fmt,
    ops::Add,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use tokio::sync::watch;

/// A point in time: milliseconds since the Unix epoch. Publish times, deadlines and expiry all use it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The epoch itself; before every other time.
    pub const ZERO: Self = Self(0);
    /// After every other time: "never".
    pub const NEVER: Self = Self(u64::MAX);

    /// From milliseconds since the Unix epoch.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// This time plus `millis`, or [`Timestamp::NEVER`].
    #[must_use]
    pub const fn plus_millis(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis))
    }

    /// This time less `millis`, or [`Timestamp::ZERO`].
    #[must_use]
    pub const fn minus_millis(self, millis: u64) -> Self {
        Self(self.0.saturating_sub(millis))
    }

    /// Milliseconds from `earlier` to this time; zero when `earlier` is later.
    pub const fn millis_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        self.plus_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms", self.0)
    }
}

/// Where the current time comes from. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    /// The wall clock as it was at the start, carried on by the monotonic one, so that it never goes back.
    System {
        started: Instant,
        wall_at_start: Timestamp,
    },
    Manual(watch::Receiver<Timestamp>),
}

impl Clock {
    /// The machine's clock.
    #[expect(
        clippy::disallowed_methods,
        reason = "the only code that reads the machine's clock"
    )]
    pub fn system() -> Self {
        let since_epoch = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Self(Source::System {
            started: Instant::now(),
            wall_at_start: Timestamp::ZERO + since_epoch,
        })
    }

    /// A clock that stands still at `start` until its [`ManualClock`] moves it.
    pub fn manual(start: Timestamp) -> (Self, ManualClock) {
        let (sender, receiver) = watch::channel(start);
        (Self(Source::Manual(receiver)), ManualClock(sender))
    }

    /// The current time.
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::System {
                started,
                wall_at_start,
            } => *wall_at_start + started.elapsed(),
            Source::Manual(now) => *now.borrow(),
        }
    }

    /// Returns once the time is `deadline` or later. Safe to cancel.
    pub async fn sleep_until(&self, deadline: Timestamp) {
        match &self.0 {
            Source::System { .. } => {
                while self.now() < deadline {
                    let millis = deadline.millis_since(self.now());
                    tokio::time::sleep(Duration::from_millis(millis.min(SLEEP_MILLIS_MAX))).await;
                }
            }
            Source::Manual(now) => {
                let mut now = now.clone();
                if now.wait_for(|now| *now >= deadline).await.is_err() {
                    // Its owner is gone, so the time cannot come any more.
                    std::future::pending::<()>().await;
                }
            }
        }
    }
}

/// tokio's timers refuse spans of many years; a longer sleep is made of several.
const SLEEP_MILLIS_MAX: u64 = 24 * 60 * 60 * 1000;

/// Moves a [`Clock::manual`].
#[derive(Debug)]
pub struct ManualClock(watch::Sender<Timestamp>);

impl ManualClock {
    /// Moves the time forward and wakes the tasks that wait for a time that has come.
    pub fn advance(&self, by: Duration) {
        self.0.send_modify(|now| *now = *now + by);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_sleeper_on_a_manual_clock_wakes_when_the_time_has_come() {
        let (clock, hand) = Clock::manual(Timestamp::from_millis(1_000));
        let sleeper = {
            let clock = clock.clone();
            tokio::spawn(async move {
                clock.sleep_until(Timestamp::from_millis(3_000)).await;
                clock.now()
            })
        };
        hand.advance(Duration::from_millis(1_500));
        tokio::task::yield_now().await;
        assert!(!sleeper.is_finished());
        hand.advance(Duration::from_millis(500));
        assert_eq!(
            sleeper.await.expect("sleeper"),
            Timestamp::from_millis(3_000)
        );
    }
}
