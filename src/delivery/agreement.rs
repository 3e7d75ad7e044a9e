//! Whether messages may expire or be deleted by their age: only while the clocks agree by which that is judged. Else
//! everything stays, and delivery goes on.
//!
//! Nodes that share a database share its clock (`clock`); each broker gives the messages of its partitions their times.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use parking_lot::Mutex;

use crate::{
    clock::{Clock, Timestamp},
    limits::{BROKER_CLOCKS_OFF_MAX, CLOCK_PROBLEM_MILLIS},
    resource::id::TopicIncarnation,
    store::log::{AppendedRun, Partition, TopicLog},
};

/// See the module.
#[derive(Debug)]
pub(super) struct Agreement {
    clock: Clock,
    /// Partitions whose broker's clock was far off when this node last appended there.
    off: Mutex<BTreeMap<TopicIncarnation, Vec<Partition>>>,
    topics_off: AtomicUsize,
    /// Whether an operator was told that the clocks of the machine and the database are apart.
    told: AtomicBool,
}

impl Agreement {
    pub(super) fn new(clock: Clock) -> Self {
        Self {
            clock,
            off: Mutex::default(),
            topics_off: AtomicUsize::new(0),
            told: AtomicBool::new(false),
        }
    }

    /// Whether messages of this topic may expire and be deleted.
    pub(super) fn holds(&self, topic: TopicIncarnation) -> bool {
        let topics_off = self.topics_off.load(Ordering::Relaxed);
        self.clock.agrees()
            && (topics_off == 0
                // Which of the others are off, nobody knows then.
                || topics_off < BROKER_CLOCKS_OFF_MAX && !self.off.lock().contains_key(&topic))
    }

    /// Takes in the times that brokers gave to messages that were sent then.
    pub(super) fn appended(&self, log: &TopicLog, runs: &[AppendedRun], sent: Timestamp) {
        // An embedded log has this clock's times. Attached topics may have the times of those who publish, and expire
        // nothing by them.
        let of_a_broker = !log.location.name.is_empty() && !log.location.attached;
        if !self.clock.is_led() || !of_a_broker {
            return;
        }
        let now = self.clock.now();
        for run in runs {
            let early = sent.millis_since(run.publish_time);
            let is_off = early.max(run.publish_time.millis_since(now)) > CLOCK_PROBLEM_MILLIS;
            if is_off || self.topics_off.load(Ordering::Relaxed) > 0 {
                self.note(log, run, is_off);
            }
        }
    }

    fn note(&self, log: &TopicLog, run: &AppendedRun, is_off: bool) {
        let mut off = self.off.lock();
        if !is_off {
            if let Some(partitions) = off.get_mut(&log.incarnation) {
                partitions.retain(|partition| *partition != run.partition);
                if partitions.is_empty() {
                    off.remove(&log.incarnation);
                }
            }
        } else if off.len() < BROKER_CLOCKS_OFF_MAX || off.contains_key(&log.incarnation) {
            if off.is_empty() {
                tracing::error!(
                    location = ?log.location, partition = run.partition, publish_time = %run.publish_time,
                    now = %self.clock.now(),
                    "the clock of a broker is more than {} s from the database's: nothing expires and nothing is \
                     deleted in topics with such brokers until they are set, with NTP",
                    CLOCK_PROBLEM_MILLIS / 1000
                );
            }
            let partitions = off.entry(log.incarnation).or_default();
            if !partitions.contains(&run.partition) {
                partitions.push(run.partition);
            }
        }
        self.topics_off.store(off.len(), Ordering::Relaxed);
    }

    /// A topic's log is deleted.
    pub(super) fn forget(&self, topic: TopicIncarnation) {
        if self.topics_off.load(Ordering::Relaxed) > 0 {
            let mut off = self.off.lock();
            off.remove(&topic);
            self.topics_off.store(off.len(), Ordering::Relaxed);
        }
    }

    /// Tells an operator, once each time, that the clocks are apart or agree again.
    pub(super) fn tell(&self) {
        let apart = !self.clock.agrees();
        if self.told.swap(apart, Ordering::Relaxed) == apart {
            return;
        }
        if apart {
            tracing::error!(
                "the clocks of this machine and the database are more than {} s apart, or the database answers slowly: \
                 nothing expires and nothing is deleted until they agree; set them with NTP",
                CLOCK_PROBLEM_MILLIS / 1000
            );
        } else {
            tracing::info!("the clocks of this machine and the database agree");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::store::log::LogLocation;

    #[test]
    fn a_topic_of_a_broker_that_is_off_expires_nothing_until_the_broker_was_set() {
        let clock = Clock::system().led();
        let now = clock.now();
        clock.observe(now, now, now);
        let agreement = Agreement::new(clock.clone());
        let log = |incarnation, attached| TopicLog {
            incarnation: TopicIncarnation(incarnation),
            location: Arc::new(LogLocation {
                name: format!("kafka.{incarnation}"),
                key_partitions: 2,
                attached,
            }),
        };
        let run = |partition, publish_time| AppendedRun {
            partition,
            first: 0,
            count: 1,
            publish_time,
        };
        let (topic, other) = (log(1, false), log(2, false));
        let holds = |log: &TopicLog| agreement.holds(log.incarnation);
        agreement.appended(&topic, &[run(0, now), run(1, now)], now);
        assert!(holds(&topic));
        let ahead = now.plus_millis(CLOCK_PROBLEM_MILLIS + 30_000);
        agreement.appended(&topic, &[run(0, now), run(1, ahead)], now);
        assert!(!holds(&topic) && holds(&other));
        // Its other partition says nothing about that one.
        agreement.appended(&topic, &[run(0, now)], now);
        assert!(!holds(&topic));
        agreement.appended(&topic, &[run(1, now)], now);
        assert!(holds(&topic));
        let behind = now.minus_millis(CLOCK_PROBLEM_MILLIS + 1);
        agreement.appended(&topic, &[run(0, behind)], now);
        assert!(!holds(&topic));
        agreement.forget(topic.incarnation);
        assert!(holds(&topic));
        let attached = log(3, true);
        agreement.appended(&attached, &[run(0, behind)], now);
        assert!(holds(&attached));
    }
}
