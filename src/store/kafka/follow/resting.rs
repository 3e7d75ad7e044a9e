//! Which watched partitions need not be read, because this node alone appends to them, and much.
//!
//! What another client appends meanwhile shows as a gap before this node's next append, which comes soon; and reading
//! begins again as soon as this node appends nothing for a moment.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use tokio::time::Instant;

use super::head::{Own, TopicPartition};
use crate::resource::id::TopicIncarnation;

/// Bytes that this node appends to a partition from one check to the next when that is much.
const BUSY_BYTES: usize = 32 * 1024;
/// Busy checks in a row after which a partition is no longer read.
const BUSY_CHECKS: u32 = 8;
/// How long a partition is read at least after another client appended to it; twice as long each time.
const SHARED_MIN: Duration = Duration::from_secs(2);
/// See [`SHARED_MIN`].
const SHARED_MAX: Duration = Duration::from_mins(1);

/// See the module.
#[derive(Debug, Default)]
pub(in crate::store::kafka) struct Resting {
    partitions: HashSet<TopicPartition>,
    /// Busy checks in a row.
    busy: HashMap<TopicPartition, u32>,
    /// Where others append too.
    shared: HashMap<TopicPartition, Shared>,
}

#[derive(Clone, Copy, Debug)]
struct Shared {
    until: Instant,
    how_long: Duration,
}

impl Resting {
    pub(in crate::store::kafka) fn contains(&self, partition: TopicPartition) -> bool {
        self.partitions.contains(&partition)
    }

    pub(in crate::store::kafka) fn partitions(&self) -> &HashSet<TopicPartition> {
        &self.partitions
    }

    /// Takes in what this node appended since the last check. Returns what need not be read from now on, of what may
    /// rest, and what is to be read again.
    pub(in crate::store::kafka) fn check(
        &mut self,
        now: Instant,
        own: &HashMap<TopicPartition, Own>,
        may_rest: impl Fn(TopicPartition) -> bool,
    ) -> (Vec<TopicPartition>, Vec<TopicPartition>) {
        self.shared
            .retain(|_, shared| shared.until + SHARED_MAX > now);
        let quiet = |partition: &TopicPartition| {
            own.get(partition)
                .is_none_or(|own| own.bytes == 0 || own.gap)
        };
        let again: Vec<_> = self.partitions.extract_if(quiet).collect();
        for partition in &again {
            if own.get(partition).is_some_and(|own| own.gap) {
                self.share(*partition, now);
            }
        }
        let mut rest = Vec::new();
        let mut busy = HashMap::new();
        for (&partition, own) in own {
            let shared = self
                .shared
                .get(&partition)
                .is_some_and(|shared| shared.until > now);
            if own.bytes < BUSY_BYTES || shared || self.contains(partition) || !may_rest(partition)
            {
                continue;
            }
            let checks = self.busy.get(&partition).copied().unwrap_or(0) + 1;
            if checks < BUSY_CHECKS {
                busy.insert(partition, checks);
            } else {
                self.partitions.insert(partition);
                rest.push(partition);
            }
        }
        self.busy = busy;
        (rest, again)
    }

    /// Has a partition read again to which another client has appended.
    pub(in crate::store::kafka) fn wake(&mut self, partition: TopicPartition, now: Instant) {
        self.partitions.remove(&partition);
        self.share(partition, now);
    }

    fn share(&mut self, partition: TopicPartition, now: Instant) {
        let before = self
            .shared
            .get(&partition)
            .map_or(Duration::ZERO, |shared| shared.how_long);
        let how_long = (before * 2).clamp(SHARED_MIN, SHARED_MAX);
        let until = now + how_long;
        self.shared.insert(partition, Shared { until, how_long });
    }

    /// Forgets a topic, all of whose partitions are read or none.
    pub(in crate::store::kafka) fn forget(&mut self, topic: TopicIncarnation) {
        self.partitions.retain(|(of, _)| *of != topic);
        self.busy.retain(|(of, _), _| *of != topic);
        self.shared.retain(|(of, _), _| *of != topic);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARTITION: TopicPartition = (TopicIncarnation(1), 0);
    const CHECK: Duration = Duration::from_millis(25);

    struct Checks(Resting, Instant);

    impl Checks {
        fn check(&mut self, bytes: usize, gap: bool) -> (usize, usize) {
            self.1 += CHECK;
            let own = HashMap::from([(PARTITION, Own { bytes, gap })]);
            let (rest, again) = self.0.check(self.1, &own, |_| true);
            (rest.len(), again.len())
        }

        fn until_it_rests(&mut self) -> u32 {
            (1..10_000)
                .find(|_| self.check(BUSY_BYTES, false) == (1, 0))
                .expect("rests")
        }
    }

    #[test]
    fn a_busy_partition_rests_until_it_is_quiet() {
        let mut checks = Checks(Resting::default(), Instant::now());
        assert_eq!(checks.check(BUSY_BYTES - 1, false), (0, 0));
        assert_eq!(checks.until_it_rests(), BUSY_CHECKS);
        assert_eq!(checks.check(1, false), (0, 0));
        assert!(checks.0.contains(PARTITION));
        assert_eq!(checks.check(0, false), (0, 1));
        assert_eq!(checks.until_it_rests(), BUSY_CHECKS);
    }

    #[test]
    fn a_shared_partition_is_read_longer_each_time() {
        let mut checks = Checks(Resting::default(), Instant::now());
        let mut last = 0;
        for _ in 0..3 {
            checks.until_it_rests();
            assert_eq!(checks.check(BUSY_BYTES, true), (0, 1));
            let pause = checks.until_it_rests();
            assert!(pause > last + BUSY_CHECKS, "{pause} checks after {last}");
            last = pause;
            let now = checks.1;
            checks.0.wake(PARTITION, now);
        }
    }
}
