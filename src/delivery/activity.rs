//! Which topics something happened to since retention last checked them, so that it checks no others.

use std::{collections::BTreeMap, mem, ops::Range};

use parking_lot::Mutex;

use super::changed::Changed;
use crate::{
    clock::Timestamp,
    engine::input::LeaseId,
    limits::{RETENTION_BYTES, RETENTION_MILLIS_MAX},
    resource::id::TopicIncarnation,
    store::log::{Offset, Partition},
};

#[derive(Debug)]
struct Active {
    bytes: u64,
    changed: Changed,
    since: Timestamp,
}

/// What a subscription's acknowledgements let go of: where, and about how many bytes. Those are their number times what
/// its messages have had on average, as nobody remembers the size of each.
#[derive(Debug, Default)]
pub(super) struct Acked {
    delivered: u64,
    delivered_bytes: u64,
    messages: u64,
    filtered_bytes: u64,
    changed: Changed,
}

impl Acked {
    /// Messages of these sizes went out.
    pub(super) fn deliver(&mut self, sizes: impl Iterator<Item = usize>) {
        for bytes in sizes {
            self.delivered += 1;
            self.delivered_bytes += bytes as u64;
        }
    }

    /// These were acknowledged.
    pub(super) fn ack(&mut self, leases: &[LeaseId]) {
        self.messages += leases.len() as u64;
        for lease in leases {
            self.changed.note(lease.partition, lease.offset);
        }
    }

    /// A filter left messages of so many bytes out, which is as if they were acknowledged.
    pub(super) fn filter(&mut self, partition: Partition, offsets: Range<Offset>, bytes: u64) {
        self.filtered_bytes += bytes;
        self.changed.note_range(partition, offsets);
    }

    /// What was acknowledged since this was asked last.
    pub(super) fn take(&mut self) -> Freed {
        let average = self.delivered_bytes / self.delivered.max(1);
        let acked = mem::take(&mut self.messages) * average;
        Freed {
            bytes: acked + mem::take(&mut self.filtered_bytes),
            changed: mem::take(&mut self.changed),
        }
    }
}

/// What retention may be able to delete once it is durable.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Freed {
    /// About how many bytes.
    pub(super) bytes: u64,
    /// Where.
    pub(super) changed: Changed,
}

impl Freed {
    /// A topic's log may be needed by fewer than before, or is to be finished.
    pub(super) fn everything() -> Self {
        Self {
            bytes: RETENTION_BYTES,
            changed: Changed::everything(),
        }
    }

    /// So many bytes were appended, which somebody needs unless the topic has no subscription.
    pub(super) fn appended(bytes: u64) -> Self {
        Self {
            bytes,
            changed: Changed::default(),
        }
    }

    /// Both.
    pub(super) fn merge(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.changed.merge(other.changed);
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Activity {
    topics: Mutex<BTreeMap<TopicIncarnation, Active>>,
}

impl Activity {
    /// Something was appended, or acknowledged; or something else happened.
    pub(super) fn add(&self, topic: TopicIncarnation, freed: Freed, now: Timestamp) {
        let mut topics = self.topics.lock();
        let active = topics.entry(topic).or_insert_with(|| Active {
            bytes: 0,
            changed: Changed::default(),
            since: now,
        });
        active.bytes += freed.bytes;
        active.changed.merge(freed.changed);
    }

    /// Topics worth checking, which thereby count as checked, and where: much was appended or acknowledged, or
    /// something happened a while ago.
    pub(super) fn take_due(&self, now: Timestamp) -> BTreeMap<TopicIncarnation, Changed> {
        let is_due = |_: &TopicIncarnation, active: &mut Active| {
            active.bytes >= RETENTION_BYTES
                || now.millis_since(active.since) >= RETENTION_MILLIS_MAX
        };
        let mut topics = self.topics.lock();
        let due = topics.extract_if(.., is_due);
        due.map(|(topic, active)| (topic, active.changed)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::input::Issue;

    const TOPIC: TopicIncarnation = TopicIncarnation(1);
    const QUIET: TopicIncarnation = TopicIncarnation(2);

    fn lease(offset: u64) -> LeaseId {
        LeaseId {
            generation: 1,
            partition: 0,
            offset,
            number: 1,
            issue: Issue::default(),
        }
    }

    #[test]
    fn acknowledged_bytes_are_counted_when_they_are_acknowledged() {
        let mut acked = Acked::default();
        acked.deliver([100, 300].into_iter());
        assert_eq!(acked.take(), Freed::default());
        acked.ack(&[lease(5), lease(600)]);
        let freed = acked.take();
        assert_eq!(freed.bytes, 400);
        assert_eq!(freed.changed.ranges(0), [0..256, 512..768]);
        assert_eq!(acked.take(), Freed::default());
        acked.filter(1, 200..513, 5000);
        acked.filter(1, 1200..1300, 10);
        let freed = acked.take();
        assert_eq!(freed.bytes, 5010);
        assert_eq!(freed.changed.ranges(1), [0..768, 1024..1536]);
        assert_eq!(acked.take(), Freed::default());
    }

    #[test]
    fn much_is_checked_at_once_and_little_after_a_while() {
        let activity = Activity::default();
        let start = Timestamp::from_millis(1000);
        let due = |now| activity.take_due(now).into_keys().collect::<Vec<_>>();
        activity.add(QUIET, Freed::default(), start);
        activity.add(TOPIC, Freed::appended(RETENTION_BYTES - 1), start);
        assert_eq!(due(start), []);
        activity.add(TOPIC, Freed::appended(1), start);
        assert_eq!(due(start), [TOPIC]);
        assert_eq!(due(start), []);
        let later = start.plus_millis(RETENTION_MILLIS_MAX);
        assert_eq!(due(later), [QUIET]);
    }
}
