//! Topics that brokers do not know: whether they are gone, or the brokers have not heard of them yet.
//!
//! A broker that has just started, or is slow to hear of a topic, knows less than there is. What is ended because a log
//! is gone cannot be taken back, so a topic counts as gone only once it has been unknown for a while.

use std::{
    collections::{HashMap, hash_map::Entry},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{
    limits::{CACHED_RESOURCES_MAX, KAFKA_GONE_MILLIS},
    store::StoreError,
};

/// Longer ago than this, that a topic was unknown says nothing of now.
const FORGET: Duration = Duration::from_mins(1);
const GONE: Duration = Duration::from_millis(KAFKA_GONE_MILLIS);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Absent(Mutex<HashMap<String, Seen>>);

#[derive(Clone, Copy, Debug)]
struct Seen {
    /// Since when every answer was that the topic is unknown.
    since: Instant,
    last: Instant,
    is_gone: bool,
}

impl Absent {
    /// The answer to a question about a topic that was there: `NoSuchLog` once it is certain that it is gone.
    pub(super) fn judge<T>(
        &self,
        topic: &str,
        answer: Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        match answer {
            Ok(_) => self.forget(topic),
            Err(StoreError::NoSuchLog) if !self.is_gone(topic, Instant::now()) => {
                return Err(StoreError::Unavailable(format!(
                    "Kafka's brokers do not know the topic {topic}, and may not have heard of it yet"
                )));
            }
            Err(_) => {}
        }
        answer
    }

    /// This node has deleted the topic.
    pub(super) fn deleted(&self, topic: &str) {
        let now = Instant::now();
        let seen = Seen {
            since: now,
            last: now,
            is_gone: true,
        };
        self.insert(topic, seen);
    }

    fn forget(&self, topic: &str) {
        let mut absent = self.0.lock();
        if !absent.is_empty() {
            absent.remove(topic);
        }
    }

    fn is_gone(&self, topic: &str, now: Instant) -> bool {
        if let Entry::Occupied(mut entry) = self.0.lock().entry(topic.to_owned()) {
            let seen = entry.get_mut();
            if !seen.is_gone && now.duration_since(seen.last) > FORGET {
                seen.since = now;
            }
            seen.last = now;
            seen.is_gone |= now.duration_since(seen.since) >= GONE;
            return seen.is_gone;
        }
        let seen = Seen {
            since: now,
            last: now,
            is_gone: false,
        };
        self.insert(topic, seen);
        false
    }

    fn insert(&self, topic: &str, seen: Seen) {
        let mut absent = self.0.lock();
        if absent.len() >= CACHED_RESOURCES_MAX {
            absent.retain(|_, other| seen.last.duration_since(other.last) < GONE);
        }
        if absent.len() < CACHED_RESOURCES_MAX {
            absent.insert(topic.to_owned(), seen);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_topic_is_gone_once_it_was_unknown_for_a_while_or_was_deleted_here() {
        let absent = Absent::default();
        let unknown = || absent.judge::<()>("topic", Err(StoreError::NoSuchLog));
        let is_gone = || matches!(unknown(), Err(StoreError::NoSuchLog));
        assert!(!is_gone());
        tokio::time::advance(GONE / 2).await;
        assert!(!is_gone());
        absent.judge("topic", Ok(())).expect("it is there");
        tokio::time::advance(GONE / 2).await;
        assert!(!is_gone(), "it was there meanwhile");
        tokio::time::advance(FORGET * 2).await;
        assert!(!is_gone(), "the last answer says nothing of now");
        tokio::time::advance(GONE).await;
        assert!(is_gone());
        tokio::time::advance(FORGET * 2).await;
        assert!(is_gone(), "until it is there again");
        absent.judge("topic", Ok(())).expect("it is there");
        assert!(!is_gone());
        absent.deleted("topic");
        assert!(is_gone());
    }
}
