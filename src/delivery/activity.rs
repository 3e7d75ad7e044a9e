//! Which topics something happened to since retention last looked at them, so that it looks at no others.

use std::collections::HashMap;

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

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Activity {
    topics: Mutex<HashMap<TopicIncarnation, Active>>,
}

impl Activity {
    /// `bytes` were appended, or delivered and perhaps acknowledged; or something else happened.
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

    /// Topics worth looking at, which thereby count as looked at: much was appended or delivered, or
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
    fn much_is_looked_at_once_and_little_after_a_while() {
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
