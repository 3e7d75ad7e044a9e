//! When a message may be delivered again that was not acknowledged.

/// Waits that double with each failed delivery of a message (docs/behaviour.md, section 11.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// After the first failure, milliseconds.
    pub min_millis: u64,
    /// At most, milliseconds; not less than the minimum.
    pub max_millis: u64,
}

impl Backoff {
    /// The wait after so many failures, milliseconds.
    pub(super) fn millis(self, failures: u32) -> u64 {
        let doublings = failures.saturating_sub(1).min(u64::BITS - 1);
        let waits = self.min_millis.saturating_mul(1 << doublings);
        waits.min(self.max_millis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_from_the_minimum_to_the_maximum() {
        let backoff = Backoff {
            min_millis: 1_000,
            max_millis: 4_000,
        };
        let waits: Vec<u64> = (1..6).map(|failures| backoff.millis(failures)).collect();
        assert_eq!(waits, [1_000, 2_000, 4_000, 4_000, 4_000]);
        assert_eq!(backoff.millis(u32::MAX), 4_000);
        let immediate = Backoff {
            min_millis: 0,
            ..backoff
        };
        assert_eq!(immediate.millis(7), 0);
    }
}
