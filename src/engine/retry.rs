//! When a message may be delivered again that was not acknowledged.

/// Waits that double with each failed delivery of a message (docs/behaviour.md, section 11.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// After the first failure, milliseconds.
    pub min_millis: u64,
    /// At most, milliseconds; not less than the minimum.
    pub max_millis: u64,
}

/// What becomes of a message whose delivery failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct FailureRules {
    /// How long it waits for its redelivery; `None`: not at all.
    pub(super) retry: Option<Backoff>,
    /// With so many failures it is forwarded to the dead letter topic.
    pub(super) attempts_max: Option<u32>,
}

impl FailureRules {
    /// Whether a failure is stored before anything else happens to its message.
    pub(super) fn store_failures(self) -> bool {
        self.retry.is_some() || self.attempts_max.is_some()
    }

    /// The wait after so many failures, milliseconds.
    pub(super) fn wait_millis(self, failures: u32) -> u64 {
        self.retry.map_or(0, |backoff| backoff.millis(failures))
    }

    /// Whether a message that failed so often is a dead letter.
    pub(super) fn forward(self, failures: u32) -> bool {
        self.attempts_max.is_some_and(|max| failures >= max)
    }

    /// Whether a message that failed so often is one with its next failure.
    pub(super) fn forward_next(self, failures: u32) -> bool {
        self.forward(failures.saturating_add(1))
    }
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
