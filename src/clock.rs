//! Time as a value, and its sources: the system, alone or led by a clock that several share, or a test that moves it.
//!
//! Everything below `delivery` gets a [`Timestamp`] as an argument and never asks for one.

mod reading;
mod system;

use std::{
    fmt,
    ops::Add,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::watch;

pub use self::reading::Reading;
use self::system::System;

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

    /// Milliseconds from `other` to this time; below zero when `other` is later.
    pub const fn millis_after(self, other: Self) -> i64 {
        self.0.cast_signed().saturating_sub(other.0.cast_signed())
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
    /// Follows the wall clock.
    System(Arc<System>),
    /// Follows nothing.
    Steady(Arc<System>),
    /// Follows a clock that several machines share, as it is observed.
    Led(Arc<System>),
    Manual {
        now: watch::Receiver<Timestamp>,
        agrees: Arc<AtomicBool>,
        wall_ahead: Arc<AtomicU64>,
    },
    /// Follows the timers of the runtime.
    #[cfg(test)]
    Runtime(Runtime),
}

/// A clock that counts as the runtime's timers do, from a moment at which it had this time.
#[cfg(test)]
#[derive(Clone, Copy, Debug)]
struct Runtime {
    start: Timestamp,
    at: tokio::time::Instant,
}

#[cfg(test)]
impl Runtime {
    fn now(self) -> Timestamp {
        self.start + self.at.elapsed()
    }

    async fn sleep_until(self, deadline: Timestamp) {
        loop {
            let millis = deadline.millis_since(self.now()).min(SLEEP_MILLIS_MAX);
            if millis == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(millis)).await;
        }
    }
}

impl Clock {
    /// The machine's clock. It never goes back; where the wall clock is set forward, it follows.
    pub fn system() -> Self {
        Self(Source::System(Arc::new(System::start(Duration::ZERO))))
    }

    /// The machine's clock, as if it were so far ahead.
    #[cfg(test)]
    pub(crate) fn system_ahead(by: Duration) -> Self {
        Self(Source::System(Arc::new(System::start(by))))
    }

    /// The same clock, but not following the wall clock, for spans of time that others count as well.
    #[must_use]
    pub fn steady(&self) -> Self {
        Self(match &self.0 {
            Source::System(system) | Source::Steady(system) | Source::Led(system) => {
                Source::Steady(Arc::clone(system))
            }
            manual @ Source::Manual { .. } => manual.clone(),
            #[cfg(test)]
            runtime @ Source::Runtime(_) => runtime.clone(),
        })
    }

    /// The same clock, but following one that this machine shares with others: see [`Clock::observe`].
    #[must_use]
    pub fn led(&self) -> Self {
        Self(match &self.0 {
            Source::System(system) | Source::Steady(system) | Source::Led(system) => {
                Source::Led(Arc::clone(system))
            }
            manual @ Source::Manual { .. } => manual.clone(),
            #[cfg(test)]
            runtime @ Source::Runtime(_) => runtime.clone(),
        })
    }

    /// Takes in what a shared clock said between two moments of the steady one. What took long says too little, but for
    /// the first time that is heard of at all. Does nothing to a clock that is not led.
    pub fn observe(&self, shared: Timestamp, asked: Timestamp, answered: Timestamp) {
        let Source::Led(system) = &self.0 else {
            return;
        };
        system.observe(shared, asked, answered);
    }

    /// Whether the clocks agree by which messages expire, so that they may. A clock that is not led has none to
    /// disagree with.
    pub fn agrees(&self) -> bool {
        match &self.0 {
            Source::System(_) | Source::Steady(_) => true,
            Source::Led(system) => system.agrees(),
            Source::Manual { agrees, .. } => agrees.load(Ordering::Relaxed),
            #[cfg(test)]
            Source::Runtime(_) => true,
        }
    }

    /// Whether it is led, so that others expire the same messages.
    pub const fn is_led(&self) -> bool {
        matches!(self.0, Source::Led(_))
    }

    /// A clock that stands still at `start` until its [`ManualClock`] moves it.
    pub fn manual(start: Timestamp) -> (Self, ManualClock) {
        let (sender, now) = watch::channel(start);
        let agrees = Arc::new(AtomicBool::new(true));
        let wall_ahead = Arc::new(AtomicU64::new(0));
        let clock = Self(Source::Manual {
            now,
            agrees: Arc::clone(&agrees),
            wall_ahead: Arc::clone(&wall_ahead),
        });
        let hand = ManualClock {
            now: sender,
            agrees,
            wall_ahead,
        };
        (clock, hand)
    }

    /// A clock at `start` that goes on as the timers of the runtime do, which may be paused.
    #[cfg(test)]
    pub(crate) fn of_runtime(start: Timestamp) -> Self {
        let at = tokio::time::Instant::now();
        Self(Source::Runtime(Runtime { start, at }))
    }

    /// What all clocks of the machine say now.
    pub fn reading(&self) -> Reading {
        match &self.0 {
            Source::System(system) | Source::Steady(system) | Source::Led(system) => {
                system.reading()
            }
            Source::Manual {
                now, wall_ahead, ..
            } => {
                let now = *now.borrow();
                let counted = Duration::from_millis(now.as_millis());
                Reading {
                    awake: counted,
                    booted: counted,
                    wall: now.plus_millis(wall_ahead.load(Ordering::Relaxed)),
                }
            }
            #[cfg(test)]
            Source::Runtime(runtime) => {
                let now = runtime.now();
                let counted = Duration::from_millis(now.as_millis());
                Reading {
                    awake: counted,
                    booted: counted,
                    wall: now,
                }
            }
        }
    }

    /// The current time.
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::System(system) => system.followed(system.carried(), system.wall()),
            Source::Steady(system) => system.carried(),
            Source::Led(system) => system.led(),
            Source::Manual { now, .. } => *now.borrow(),
            #[cfg(test)]
            Source::Runtime(runtime) => runtime.now(),
        }
    }

    /// Returns once the time is `deadline` or later. Safe to cancel.
    pub async fn sleep_until(&self, deadline: Timestamp) {
        match &self.0 {
            Source::System(system) | Source::Steady(system) | Source::Led(system) => {
                let mut stepped = system.steps();
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
            Source::Manual { now, .. } => {
                let mut now = now.clone();
                if now.wait_for(|now| *now >= deadline).await.is_err() {
                    // Its owner is gone, so the time cannot come any more.
                    std::future::pending::<()>().await;
                }
            }
            #[cfg(test)]
            Source::Runtime(runtime) => runtime.sleep_until(deadline).await,
        }
    }
}

/// tokio's timers refuse spans of many years; a longer sleep is made of several.
const SLEEP_MILLIS_MAX: u64 = 24 * 60 * 60 * 1000;

/// Moves a [`Clock::manual`].
#[derive(Debug)]
pub struct ManualClock {
    now: watch::Sender<Timestamp>,
    agrees: Arc<AtomicBool>,
    wall_ahead: Arc<AtomicU64>,
}

impl ManualClock {
    /// Moves the time forward and wakes the tasks that wait for a time that has come.
    pub fn advance(&self, by: Duration) {
        self.now.send_modify(|now| *now = *now + by);
    }

    /// Sets the machine's wall clock forward, as a pause does that the others have not counted.
    pub fn jump_wall(&self, by: Duration) {
        let millis = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.wall_ahead.fetch_add(millis, Ordering::Relaxed);
    }

    /// From now on, [`Clock::agrees`] says so.
    pub fn set_agrees(&self, agrees: bool) {
        self.agrees.store(agrees, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    #[tokio::test]
    async fn a_sleeper_wakes_when_the_wall_clock_is_set_to_its_time() {
        let clock = Clock::system();
        let Source::System(system) = &clock.0 else {
            unreachable!("made as such");
        };
        let (start, deadline) = (clock.now(), clock.now() + HOUR);
        let sleep = clock.sleep_until(deadline);
        let set = async {
            tokio::task::yield_now().await;
            system.followed(start, start + HOUR * 2);
        };
        let slept = timeout(Duration::from_secs(10), async { tokio::join!(sleep, set) });
        assert!(slept.await.is_ok());
        assert!(clock.now() >= deadline && clock.steady().now() < deadline);
    }

    /// A led clock of a machine that is so far ahead, and the time of the shared clock.
    fn led(ahead: Duration) -> (Clock, impl Fn() -> Timestamp) {
        let clock = Clock::system_ahead(ahead).led();
        let steady = clock.steady();
        let ahead = u64::try_from(ahead.as_millis()).expect("not long");
        (clock, move || steady.now().minus_millis(ahead))
    }

    /// Observes the shared clock, which is moved by so much, in so many milliseconds.
    fn observe(clock: &Clock, shared: Timestamp, took: u64) {
        let answered = clock.steady().now();
        clock.observe(shared, answered.minus_millis(took), answered);
    }

    #[test]
    fn a_led_clock_has_the_shared_time_and_agrees_where_the_machines_own_is_close() {
        let (clock, shared) = led(HOUR * 24 * 8);
        assert!(!clock.agrees());
        observe(&clock, shared(), 0);
        assert!(clock.now().millis_after(shared()).unsigned_abs() < 10_000);
        assert!(!clock.agrees());

        let (clock, shared) = led(Duration::from_secs(50));
        observe(&clock, shared(), 0);
        assert!(clock.agrees());
    }

    #[test]
    fn the_shared_time_is_that_of_the_middle_of_a_quick_answer() {
        let (clock, shared) = led(Duration::ZERO);
        // The first one is better than none, but nothing is to be deleted by it.
        observe(&clock, shared(), 600);
        assert!(!clock.agrees());
        let before = clock.now();
        observe(&clock, shared() + HOUR, 500);
        assert!(clock.now() < before + HOUR / 2);
        observe(&clock, shared() + HOUR, 400);
        let ahead = clock.now().millis_after(shared() + HOUR);
        assert!((190..10_000).contains(&ahead), "{ahead}");
    }

    #[test]
    fn a_led_clock_never_goes_back_and_disagrees_while_the_shared_one_has() {
        let (clock, shared) = led(Duration::ZERO);
        observe(&clock, shared() + HOUR, 0);
        let before = clock.now();
        observe(&clock, shared(), 0);
        assert!(clock.now() >= before);
        assert!(!clock.agrees());
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
