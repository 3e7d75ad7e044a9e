//! The machine's clocks, and how one of them follows another.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::watch;

use super::{Reading, Timestamp};
use crate::limits::{CLOCK_PROBLEM_MILLIS, TIME_ANSWER_MILLIS_MAX};

/// The wall clock as it was at the start, carried on by one that counts from when the machine was started, also while
/// it sleeps. Nothing that follows another clock from there goes back.
#[derive(Debug)]
pub(super) struct System {
    booted_at_start: Duration,
    awake_at_start: Instant,
    wall_at_start: Timestamp,
    /// How far tests have the wall clock ahead.
    wall_ahead: Duration,
    /// The most that the wall clock was seen ahead of what is carried on.
    wall: Rising,
    /// The same of the shared clock. Below zero until it is first observed.
    lead: Rising,
    /// How far ahead the shared clock was when it was last observed.
    observed: AtomicI64,
    /// How long the machine has slept.
    slept: Rising,
    /// When that was last checked, in milliseconds since the start.
    slept_checked: AtomicI64,
    /// Told of each step of a time, which sleepers would miss.
    stepped: watch::Sender<()>,
}

/// What a clock is ahead by less is how exactly it can be read, or slewing.
const STEP_MILLIS_MIN: i64 = 100;

/// The clocks are read at one moment if it takes no longer.
const READ_WITHIN: Duration = Duration::from_millis(10);

/// Milliseconds that only rise.
#[derive(Debug)]
struct Rising(AtomicI64);

/// Of a clock that was not observed.
const UNKNOWN: i64 = i64::MIN;

impl Rising {
    const fn new(millis: i64) -> Self {
        Self(AtomicI64::new(millis))
    }

    fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }

    /// The most that there was so far. Tells `stepped` of a step.
    fn raise(&self, millis: i64, stepped: &watch::Sender<()>) -> i64 {
        if millis <= self.get() {
            return self.get();
        }
        let before = self.0.fetch_max(millis, Ordering::Relaxed);
        if millis > before.saturating_add(STEP_MILLIS_MIN) {
            stepped.send_replace(());
        }
        before.max(millis)
    }
}

impl System {
    #[expect(
        clippy::disallowed_methods,
        reason = "the only code that reads the machine's clocks"
    )]
    pub(super) fn start(wall_ahead: Duration) -> Self {
        Self {
            booted_at_start: since_boot(),
            awake_at_start: Instant::now(),
            wall_at_start: machine_wall() + wall_ahead,
            wall_ahead,
            wall: Rising::new(0),
            lead: Rising::new(UNKNOWN),
            observed: AtomicI64::new(UNKNOWN),
            slept: Rising::new(0),
            slept_checked: AtomicI64::new(0),
            stepped: watch::Sender::new(()),
        }
    }

    /// The time since the start, on top of the wall clock's at the start.
    pub(super) fn carried(&self) -> Timestamp {
        let booted = since_boot().saturating_sub(self.booted_at_start);
        // A sleep that matters is as long as a step, and so is the time since the last check then.
        let millis = millis_of(booted);
        if millis >= self.slept_checked.load(Ordering::Relaxed) + STEP_MILLIS_MIN {
            self.slept_checked.store(millis, Ordering::Relaxed);
            let slept = booted.saturating_sub(self.awake_at_start.elapsed());
            self.slept.raise(millis_of(slept), &self.stepped);
        }
        self.wall_at_start + booted
    }

    /// All clocks at one moment. A thread that is held up between two of them reads them again.
    #[expect(
        clippy::disallowed_methods,
        reason = "the only code that reads the machine's clocks"
    )]
    pub(super) fn reading(&self) -> Reading {
        let mut tries = 3;
        loop {
            tries -= 1;
            let before = Instant::now();
            let reading = Reading {
                awake: before.duration_since(self.awake_at_start),
                booted: since_boot(),
                wall: self.wall(),
            };
            if tries == 0 || before.elapsed() < READ_WITHIN {
                return reading;
            }
        }
    }

    pub(super) fn wall(&self) -> Timestamp {
        machine_wall() + self.wall_ahead
    }

    /// What is carried on, and how far the wall clock was ahead of it at most.
    pub(super) fn followed(&self, carried: Timestamp, wall: Timestamp) -> Timestamp {
        let ahead = wall.millis_after(carried);
        moved(carried, self.wall.raise(ahead, &self.stepped))
    }

    pub(super) fn led(&self) -> Timestamp {
        let (carried, lead) = (self.carried(), self.lead.get());
        if lead == UNKNOWN {
            return carried;
        }
        moved(carried, lead)
    }

    /// Takes in what the shared clock said between two moments of what is carried on.
    pub(super) fn observe(&self, shared: Timestamp, asked: Timestamp, answered: Timestamp) {
        let took = answered.millis_since(asked);
        let ahead = shared.millis_after(asked.plus_millis(took / 2));
        if took < TIME_ANSWER_MILLIS_MAX {
            self.observed.store(ahead, Ordering::Relaxed);
        } else if self.lead.get() != UNKNOWN {
            return;
        }
        self.lead.raise(ahead, &self.stepped);
    }

    /// Told of each step of a time.
    pub(super) fn steps(&self) -> watch::Receiver<()> {
        self.stepped.subscribe()
    }

    /// Whether the shared clock was observed, and neither it nor the wall clock is far from the other, or from the
    /// time that is carried on.
    pub(super) fn agrees(&self) -> bool {
        let observed = self.observed.load(Ordering::Relaxed);
        if observed == UNKNOWN {
            return false;
        }
        let shared = moved(self.carried(), observed);
        [self.wall(), self.led()]
            .iter()
            .all(|other| other.millis_after(shared).unsigned_abs() <= CLOCK_PROBLEM_MILLIS)
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the only code that reads the machine's wall clock"
)]
fn machine_wall() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
    Timestamp::ZERO + since_epoch.unwrap_or_default()
}

/// How long ago the machine was started, with the time that it slept.
fn since_boot() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    let (seconds, nanos) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    Duration::new(seconds.unwrap_or(0), nanos.unwrap_or(0))
}

fn millis_of(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn moved(time: Timestamp, millis: i64) -> Timestamp {
    if millis < 0 {
        time.minus_millis(millis.unsigned_abs())
    } else {
        time.plus_millis(millis.unsigned_abs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wall_clock_is_followed_forward_and_never_back() {
        let system = System::start(Duration::ZERO);
        let at = Timestamp::from_millis;
        let time = |carried, wall| system.followed(at(carried), at(wall));
        assert_eq!(time(1_000, 1_000), at(1_000));
        assert_eq!(time(1_500, 3_601_500), at(3_601_500));
        // It is set back, and what was seen is carried on.
        assert_eq!(time(1_600, 1_600), at(3_601_600));
        assert_eq!(time(2_000, 3_602_500), at(3_602_500));
    }

    #[test]
    fn a_time_that_rises_tells_of_steps() {
        let (stepped, mut told) = watch::channel(());
        let slept = Rising::new(0);
        assert_eq!(slept.raise(50, &stepped), 50);
        assert!(!told.has_changed().expect("the sender is here"));
        assert_eq!(slept.raise(60_000, &stepped), 60_000);
        assert!(told.has_changed().expect("the sender is here"));
        told.mark_unchanged();
        assert_eq!(slept.raise(50, &stepped), 60_000);
        assert!(!told.has_changed().expect("the sender is here"));
    }
}
