//! Which topics something happened to since retention last checked them, so that it checks no others.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use crate::{
    clock::Timestamp,
    limits::{RETENTION_BYTES, RETENTION_MILLIS_MAX},
    resource::id::TopicIncarnation,
};

#[derive(Debug)]
struct Active {
    bytes: u64,
    since: Timestamp,
}

/// About how many bytes a subscription's acknowledgements let go of: their number times what its messages have had on
/// average, as nobody remembers the size of each.
#[derive(Debug, Default)]
pub(super) struct AckedBytes {
    delivered: u64,
    delivered_bytes: u64,
    acked: u64,
}

impl AckedBytes {
    /// Messages of these sizes went out.
    pub(super) fn deliver(&mut self, sizes: impl Iterator<Item = usize>) {
        for bytes in sizes {
            self.delivered += 1;
            self.delivered_bytes += bytes as u64;
        }
    }

    /// So many were acknowledged.
    pub(super) const fn ack(&mut self, messages: usize) {
        self.acked += messages as u64;
    }

    /// What was acknowledged since this was asked last.
    pub(super) fn take(&mut self) -> u64 {
        let average = self.delivered_bytes / self.delivered.max(1);
        std::mem::take(&mut self.acked) * average
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Activity {
    topics: Mutex<BTreeMap<TopicIncarnation, Active>>,
}

impl Activity {
    /// `bytes` were appended, or acknowledged; or something else happened.
    pub(super) fn add(&self, topic: TopicIncarnation, bytes: u64, now: Timestamp) {
        self.topics
            .lock()
            .entry(topic)
            .or_insert(Active {
                bytes: 0,
                since: now,
            })
            .bytes += bytes;
    }

    /// Topics worth checking, which thereby count as checked: much was appended or acknowledged, or
    /// something happened a while ago.
    pub(super) fn take_due(&self, now: Timestamp) -> Vec<TopicIncarnation> {
        let mut topics = self.topics.lock();
        let due: Vec<_> = topics
            .iter()
            .filter(|(_, active)| {
                active.bytes >= RETENTION_BYTES
                    || now.millis_since(active.since) >= RETENTION_MILLIS_MAX
            })
            .map(|(topic, _)| *topic)
            .collect();
        for topic in &due {
            topics.remove(topic);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOPIC: TopicIncarnation = TopicIncarnation(1);
    const QUIET: TopicIncarnation = TopicIncarnation(2);

    #[test]
    fn acknowledged_bytes_are_counted_when_they_are_acknowledged() {
        let mut acked = AckedBytes::default();
        acked.deliver([100, 300].into_iter());
        assert_eq!(acked.take(), 0);
        acked.ack(2);
        assert_eq!(acked.take(), 400);
        assert_eq!(acked.take(), 0);
    }

    #[test]
    fn much_is_checked_at_once_and_little_after_a_while() {
        let activity = Activity::default();
        let start = Timestamp::from_millis(1000);
        activity.add(QUIET, 0, start);
        activity.add(TOPIC, RETENTION_BYTES - 1, start);
        assert_eq!(activity.take_due(start), []);
        activity.add(TOPIC, 1, start);
        assert_eq!(activity.take_due(start), [TOPIC]);
        assert_eq!(activity.take_due(start), []);
        let later = start.plus_millis(RETENTION_MILLIS_MAX);
        assert_eq!(activity.take_due(later), [QUIET]);
    }
}
