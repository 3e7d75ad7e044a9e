//! Time as a value, and its only two sources: the system, or a test that moves it by hand.
//!
//! Everything below `delivery` gets a [`Timestamp`] as an argument and never asks for one.

use std::{
    fmt,
    ops::Add,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
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
    System(Arc<System>),
    /// The same, without following the wall clock.
    Steady(Arc<System>),
    Manual(watch::Receiver<Timestamp>),
}

/// The wall clock as it was at the start, carried on by the monotonic one, so that it never goes back.
#[derive(Debug)]
struct System {
    started: Instant,
    wall_at_start: Timestamp,
    wall: Followed,
}

/// A wall clock that is followed forward: it is set, or goes on while the machine sleeps. One that is set back is not,
/// until the next start.
#[derive(Debug)]
struct Followed {
    /// How far it was seen ahead of the time that is carried on, at most.
    ahead_millis: AtomicU64,
    /// Told of each step, which sleepers would miss.
    stepped: watch::Sender<()>,
}

impl System {
    /// What the monotonic clock says.
    fn carried(&self) -> Timestamp {
        self.wall_at_start + self.started.elapsed()
    }
}

impl Followed {
    /// The time, of what is carried on and the wall clock's. Never less than at an earlier call.
    fn time(&self, carried: Timestamp, wall: Timestamp) -> Timestamp {
        let ahead = wall.millis_since(carried);
        let mut known = self.ahead_millis.load(Ordering::Relaxed);
        if ahead > known {
            known = self.ahead_millis.fetch_max(ahead, Ordering::Relaxed);
            if ahead > known + STEP_MILLIS_MIN {
                self.stepped.send_replace(());
            }
        }
        carried.plus_millis(known.max(ahead))
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the only code that reads the machine's wall clock"
)]
fn wall() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
    Timestamp::ZERO + since_epoch.unwrap_or_default()
}

impl Clock {
    /// The machine's clock. It never goes back; where the wall clock is set forward, it follows.
    #[expect(
        clippy::disallowed_methods,
        reason = "the only code that reads the machine's monotonic clock"
    )]
    pub fn system() -> Self {
        Self(Source::System(Arc::new(System {
            started: Instant::now(),
            wall_at_start: wall(),
            wall: Followed {
                ahead_millis: AtomicU64::new(0),
                stepped: watch::Sender::new(()),
            },
        })))
    }

    /// The same clock from its start on, but not following the wall clock: a node of several must not expire what they
    /// share because its own clock was set.
    #[must_use]
    pub fn steady(&self) -> Self {
        Self(match &self.0 {
            Source::System(system) | Source::Steady(system) => Source::Steady(Arc::clone(system)),
            Source::Manual(now) => Source::Manual(now.clone()),
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
            Source::System(system) => system.wall.time(system.carried(), wall()),
            Source::Steady(system) => system.carried(),
            Source::Manual(now) => *now.borrow(),
        }
    }

    /// Returns once the time is `deadline` or later. Safe to cancel.
    pub async fn sleep_until(&self, deadline: Timestamp) {
        match &self.0 {
            Source::System(system) | Source::Steady(system) => {
                let mut stepped = system.wall.stepped.subscribe();
                loop {
                    let millis = deadline.millis_since(self.now()).min(SLEEP_MILLIS_MAX);
                    if millis == 0 {
                        return;
                    }
                    tokio::select! {
                        biased;
                        () = tokio::time::sleep(Duration::from_millis(millis)) => {}
                        // The sender is ours, so it is not gone.
                        _ = stepped.changed() => {}
                    }
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

/// What the wall clock is ahead by less is how exactly it can be read, or slewing.
const STEP_MILLIS_MIN: u64 = 100;
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
    use tokio::time::timeout;

    use super::*;

    #[test]
    fn a_wall_clock_is_followed_forward_and_never_back() {
        let followed = Followed {
            ahead_millis: AtomicU64::new(0),
            stepped: watch::Sender::new(()),
        };
        let at = Timestamp::from_millis;
        let time = |carried, wall| followed.time(at(carried), at(wall));
        assert_eq!(time(1_000, 1_000), at(1_000));
        assert_eq!(time(1_500, 3_601_500), at(3_601_500));
        // It is set back, and what was seen is carried on.
        assert_eq!(time(1_600, 1_600), at(3_601_600));
        assert_eq!(time(2_000, 3_602_500), at(3_602_500));
    }

    #[tokio::test]
    async fn a_sleeper_wakes_when_the_wall_clock_is_set_to_its_time() {
        let clock = Clock::system();
        let Source::System(system) = &clock.0 else {
            unreachable!("made as such");
        };
        let hour = Duration::from_hours(1);
        let (start, deadline) = (clock.now(), clock.now() + hour);
        let sleep = clock.sleep_until(deadline);
        let set = async {
            tokio::task::yield_now().await;
            system.wall.time(start, start + hour * 2);
        };
        let slept = timeout(Duration::from_secs(10), async { tokio::join!(sleep, set) });
        assert!(slept.await.is_ok());
        assert!(clock.now() >= deadline && clock.steady().now() < deadline);
    }

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
