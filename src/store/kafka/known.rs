//! The topics that this node has to do with, and what it knows of each.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use parking_lot::{Mutex, RwLock};

use super::{admin::cluster::Leader, append::gate::Gate, append::partitioner};
use crate::{
    limits::CACHED_RESOURCES_MAX,
    resource::id::TopicIncarnation,
    store::log::{Partition, TopicLog},
};

/// A topic that was used since the start.
#[derive(Debug)]
pub(super) struct KnownTopic {
    pub(super) incarnation: TopicIncarnation,
    /// What Kafka calls it.
    pub(super) name: String,
    key_partitions: u32,
    partitions: AtomicU32,
    loading: AtomicBool,
    next: AtomicU32,
    watched: AtomicBool,
    /// The brokers that led its partitions when its records were last known to be what they were.
    leaders: Mutex<Vec<Leader>>,
    gates: Mutex<HashMap<Partition, Arc<Gate>>>,
}

impl KnownTopic {
    fn new(topic: &TopicLog) -> Self {
        Self {
            incarnation: topic.incarnation,
            name: topic.location.name.clone(),
            key_partitions: topic.location.key_partitions,
            partitions: AtomicU32::new(0),
            loading: AtomicBool::new(false),
            next: AtomicU32::new(0),
            watched: AtomicBool::new(false),
            leaders: Mutex::default(),
            gates: Mutex::default(),
        }
    }

    /// How many partitions are in the metadata of the client that appends; at least one.
    pub(super) fn partitions(&self) -> u32 {
        self.partitions.load(Ordering::Relaxed).max(1)
    }

    /// Whether the client that appends has loaded its metadata.
    pub(super) fn is_loaded(&self) -> bool {
        self.partitions.load(Ordering::Relaxed) > 0
    }

    /// Whether the caller is to have the client load its metadata. No other caller is until [`Self::ends_loading`].
    pub(super) fn begins_loading(&self) -> bool {
        !self.is_loaded() && !self.loading.swap(true, Ordering::Relaxed)
    }

    pub(super) fn ends_loading(&self) {
        self.loading.store(false, Ordering::Relaxed);
    }

    /// Has the client load the metadata again before the next append: the topic was not where it was.
    pub(super) fn unload(&self) {
        self.partitions.store(0, Ordering::Relaxed);
    }

    /// Takes note of how many partitions the client that appends has loaded. There are fewer only in a topic that was
    /// made again.
    pub(super) fn loaded_partitions(&self, count: u32) {
        self.partitions.fetch_max(count, Ordering::Relaxed);
    }

    /// Where a message with this ordering key goes.
    pub(super) fn partition_of(&self, ordering_key: &[u8]) -> Partition {
        let there_are = match self.partitions.load(Ordering::Relaxed) {
            0 => self.key_partitions,
            // Fewer than there were, of a topic that was made again.
            loaded => loaded.min(self.key_partitions),
        };
        partitioner::of_key(ordering_key, there_are)
    }

    /// Where the messages of the next request without an ordering key go, round robin.
    pub(super) fn next_partition(&self) -> Partition {
        self.next.fetch_add(1, Ordering::Relaxed) % self.partitions()
    }

    /// The way to a partition.
    pub(super) fn gate(&self, partition: Partition) -> Arc<Gate> {
        Arc::clone(self.gates.lock().entry(partition).or_default())
    }

    /// Whether another broker leads one of its partitions than [`Self::led_by`] has said.
    pub(super) fn has_other_leaders(&self, leaders: &[Leader]) -> bool {
        let known = self.leaders.lock();
        // Without a leader, nobody can say what there is.
        let is_other = |(known, now): (&Leader, &Leader)| known != now && *now >= 0;
        known.iter().zip(leaders).any(is_other)
    }

    /// Its records are what they were under these leaders.
    pub(super) fn led_by(&self, leaders: &[Leader]) {
        let mut known = self.leaders.lock();
        if *known != leaders {
            leaders.clone_into(&mut known);
        }
    }

    /// Whether a caller waits for what is appended.
    pub(super) fn is_watched(&self) -> bool {
        self.watched.load(Ordering::Relaxed)
    }

    pub(super) fn set_watched(&self, watched: bool) {
        self.watched.store(watched, Ordering::Relaxed);
    }
}

/// Topics by incarnation.
#[derive(Debug, Default)]
pub(super) struct KnownTopics(RwLock<HashMap<TopicIncarnation, Arc<KnownTopic>>>);

impl KnownTopics {
    pub(super) fn get(&self, topic: &TopicLog) -> Option<Arc<KnownTopic>> {
        self.0.read().get(&topic.incarnation).cloned()
    }

    /// Takes note of a topic.
    pub(super) fn learn(&self, topic: &TopicLog) -> Arc<KnownTopic> {
        let mut topics = self.0.write();
        if topics.len() >= CACHED_RESOURCES_MAX {
            topics.retain(|_, known| known.is_watched());
        }
        let known = topics
            .entry(topic.incarnation)
            .or_insert_with(|| Arc::new(KnownTopic::new(topic)));
        Arc::clone(known)
    }

    pub(super) fn forget(&self, topic: TopicIncarnation) {
        self.0.write().remove(&topic);
    }
}
