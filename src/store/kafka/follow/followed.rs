//! The topics that the follower reads, by incarnation and by what Kafka calls them.
//!
//! Several may stand for one Kafka topic: an existing one was attached under two names, or was attached again while the
//! first one is followed still. The consumer reads such a Kafka topic once, and all of them get each record.

use std::{collections::HashMap, sync::Arc};

use super::super::{follow::head_consumer::Start, known::KnownTopic};
use crate::{
    resource::id::TopicIncarnation,
    store::{
        log::{Offset, Partition},
        tail::Tail,
    },
};

/// A topic that is read at its head.
#[derive(Debug)]
pub(in crate::store::kafka) struct Followed {
    pub(in crate::store::kafka) topic: Arc<KnownTopic>,
    /// Of each partition, whether something damaged was found since its last record: a hole before the next one may be
    /// that.
    pub(in crate::store::kafka) suspects: Vec<bool>,
}

/// See the module.
#[derive(Debug, Default)]
pub(in crate::store::kafka) struct FollowedTopics {
    topics: HashMap<TopicIncarnation, Followed>,
    by_name: HashMap<String, Vec<TopicIncarnation>>,
}

impl FollowedTopics {
    pub(in crate::store::kafka) fn insert(&mut self, topic: &Arc<KnownTopic>, partitions: usize) {
        let followed = Followed {
            topic: Arc::clone(topic),
            suspects: vec![false; partitions],
        };
        if self.topics.insert(topic.incarnation, followed).is_none() {
            let named = self.by_name.entry(topic.name.clone()).or_default();
            named.push(topic.incarnation);
        }
    }

    /// Removes a topic. Another one may stand for the same Kafka topic still.
    pub(in crate::store::kafka) fn remove(&mut self, topic: TopicIncarnation) -> Option<Followed> {
        let removed = self.topics.remove(&topic)?;
        let name = &removed.topic.name;
        if let Some(named) = self.by_name.get_mut(name) {
            named.retain(|one| *one != topic);
            if named.is_empty() {
                self.by_name.remove(name);
            }
        }
        Some(removed)
    }

    pub(in crate::store::kafka) fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    pub(in crate::store::kafka) fn get(&self, topic: TopicIncarnation) -> Option<&Followed> {
        self.topics.get(&topic)
    }

    pub(in crate::store::kafka) fn get_mut(
        &mut self,
        topic: TopicIncarnation,
    ) -> Option<&mut Followed> {
        self.topics.get_mut(&topic)
    }

    pub(in crate::store::kafka) fn values(&self) -> impl Iterator<Item = &Followed> {
        self.topics.values()
    }

    pub(in crate::store::kafka) fn values_mut(&mut self) -> impl Iterator<Item = &mut Followed> {
        self.topics.values_mut()
    }

    /// All that stand for a Kafka topic.
    pub(in crate::store::kafka) fn named(&self, name: &str) -> &[TopicIncarnation] {
        self.by_name.get(name).map_or(&[], Vec::as_slice)
    }

    /// How many partitions a Kafka topic has, as far as any that stands for it knows.
    pub(in crate::store::kafka) fn partitions(&self, name: &str) -> usize {
        let named = self.named(name).iter();
        let known = named.filter_map(|topic| Some(self.get(*topic)?.suspects.len()));
        known.max().unwrap_or(0)
    }

    /// Who gets the records of a partition, each with where it ends there in the tail.
    pub(in crate::store::kafka) fn receivers(
        &self,
        name: &str,
        partition: Partition,
        tail: &Tail,
    ) -> Vec<(Arc<KnownTopic>, Offset)> {
        let named = self.named(name).iter();
        let receivers = named.filter_map(|topic| {
            let end = *tail.ends(*topic)?.get(partition as usize)?;
            Some((Arc::clone(&self.get(*topic)?.topic), end))
        });
        receivers.collect()
    }

    /// Where to begin reading these partitions of a Kafka topic: at the lowest end that it has in the tail, of all that
    /// stand for it.
    pub(in crate::store::kafka) fn starts(
        &self,
        name: &str,
        partitions: impl IntoIterator<Item = Partition>,
        tail: &Tail,
    ) -> Vec<Start> {
        let named = self.named(name).iter();
        let ends: Vec<_> = named.filter_map(|topic| tail.ends(*topic)).collect();
        let lowest = |partition: Partition| -> Option<Offset> {
            let ends = ends.iter();
            ends.filter_map(|ends| ends.get(partition as usize).copied())
                .min()
        };
        let partitions = partitions.into_iter();
        partitions
            .filter_map(|partition| Some((name.to_owned(), partition, lowest(partition)?)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{
        kafka::known::KnownTopics,
        log::{LogLocation, TopicLog},
    };

    const ONE: TopicIncarnation = TopicIncarnation(1);
    const ANOTHER: TopicIncarnation = TopicIncarnation(2);
    const OTHER_NAME: TopicIncarnation = TopicIncarnation(3);

    /// Follows topics that end there, each partition of them, under these names.
    fn following(topics: &[(TopicIncarnation, &str, &[Offset])]) -> (FollowedTopics, Tail) {
        let (mut followed, tail) = (FollowedTopics::default(), Tail::new(1_000));
        for (incarnation, name, ends) in topics {
            let location = LogLocation {
                name: (*name).to_owned(),
                ..LogLocation::embedded()
            };
            let known = KnownTopics::default().learn(&TopicLog {
                incarnation: *incarnation,
                location: Arc::new(location),
            });
            tail.learn(*incarnation, ends);
            followed.insert(&known, ends.len());
        }
        (followed, tail)
    }

    #[test]
    fn one_kafka_topic_is_read_for_all_that_stand_for_it() {
        let (mut followed, tail) = following(&[
            (ONE, "clicks", &[5, 9]),
            (ANOTHER, "clicks", &[7, 2, 0]),
            (OTHER_NAME, "other", &[1]),
        ]);
        assert_eq!(followed.partitions("clicks"), 3);
        let start = |partition, offset| ("clicks".to_owned(), partition, offset);
        assert_eq!(
            followed.starts("clicks", 0..4, &tail),
            [start(0, 5), start(1, 2), start(2, 0)]
        );
        let receivers = |followed: &FollowedTopics, name: &str, partition| -> Vec<_> {
            let receivers = followed.receivers(name, partition, &tail).into_iter();
            receivers
                .map(|(topic, end)| (topic.incarnation, end))
                .collect()
        };
        assert_eq!(receivers(&followed, "clicks", 1), [(ONE, 9), (ANOTHER, 2)]);
        assert_eq!(receivers(&followed, "clicks", 2), [(ANOTHER, 0)]);
        assert_eq!(receivers(&followed, "other", 1), []);
        assert_eq!(receivers(&followed, "unknown", 0), []);

        followed.remove(ANOTHER);
        assert_eq!(followed.starts("clicks", 1..2, &tail), [start(1, 9)]);
        followed.remove(ONE);
        assert!(followed.named("clicks").is_empty());
        assert_eq!(receivers(&followed, "clicks", 0), []);
        assert_eq!(receivers(&followed, "other", 0), [(OTHER_NAME, 1)]);
    }
}
