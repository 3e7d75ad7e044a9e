//! What the clocks of this machine count, side by side: a machine that was paused finds that they do not all know.

use std::time::Duration;

use super::Timestamp;

/// All clocks at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Counts while the machine runs.
    pub(super) awake: Duration,
    /// Counts while it sleeps, too.
    pub(super) booted: Duration,
    /// May be set.
    pub(super) wall: Timestamp,
}

impl Reading {
    /// By how much the clocks differ in what they counted between an earlier reading and this one.
    pub fn gap_since(&self, earlier: &Self) -> Duration {
        let counted = [
            millis(self.awake) - millis(earlier.awake),
            millis(self.booted) - millis(earlier.booted),
            self.wall.millis_after(earlier.wall),
        ];
        let (least, most) = counted
            .iter()
            .fold((i64::MAX, i64::MIN), |(least, most), &counted| {
                (least.min(counted), most.max(counted))
            });
        Duration::from_millis(most.abs_diff(least))
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_what_one_clock_counted_and_another_did_not() {
        let at = |awake, booted, wall| Reading {
            awake: Duration::from_millis(awake),
            booted: Duration::from_millis(booted),
            wall: Timestamp::from_millis(wall),
        };
        let start = at(100, 1_000, 50_000);
        let gap = |now: Reading| now.gap_since(&start).as_millis();
        assert_eq!(gap(at(700, 1_600, 50_600)), 0);
        // Asleep, paused, set forward, set back.
        assert_eq!(gap(at(100, 1_600, 50_600)), 600);
        assert_eq!(gap(at(100, 1_000, 50_600)), 600);
        assert_eq!(gap(at(200, 1_100, 53_100)), 3_000);
        assert_eq!(gap(at(200, 1_100, 47_100)), 3_000);
    }
}
