//! The head of watched topics: what this node appends goes into the tail as soon as brokers report it, and the follower
//! is told, so that it need not read all of that again.

use std::{
    collections::{HashMap, HashSet},
    mem,
    sync::Arc,
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::gathering::Gathered;
use crate::{
    resource::id::TopicIncarnation,
    store::{log::Partition, tail::Tail},
};

/// A partition of a topic.
pub(in crate::store::kafka) type TopicPartition = (TopicIncarnation, Partition);

/// See the module.
#[derive(Debug)]
pub(in crate::store::kafka) struct Head {
    pub(in crate::store::kafka) tail: Arc<Tail>,
    own: Mutex<HashMap<TopicPartition, Own>>,
    /// Wakes the follower.
    pub(in crate::store::kafka) news: Arc<Notify>,
}

/// What this node appended to a partition since it was last asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::store::kafka) struct Own {
    pub(in crate::store::kafka) bytes: usize,
    /// Something that another client appended lies before it and is not known yet.
    pub(in crate::store::kafka) gap: bool,
}

impl Head {
    pub(in crate::store::kafka) fn new(tail: Arc<Tail>) -> Self {
        Self {
            tail,
            own: Mutex::default(),
            news: Arc::default(),
        }
    }

    /// Adds what this node appended, unless something lies before it that has to be read first.
    pub(in crate::store::kafka) fn append_own(&self, gathered: Gathered) {
        let Gathered {
            topic,
            partition,
            batch,
        } = gathered;
        let bytes: usize = batch.messages.iter().map(Bytes::len).sum();
        let gap = self.tail.append_at_end(topic.incarnation, partition, batch);
        let mut own = self.own.lock();
        let own = own.entry((topic.incarnation, partition)).or_default();
        own.bytes += bytes;
        if gap && !mem::replace(&mut own.gap, true) {
            self.news.notify_one();
        }
    }

    /// Those of `partitions` in which something that another client appended is not known yet.
    pub(in crate::store::kafka) fn gaps(
        &self,
        partitions: &HashSet<TopicPartition>,
    ) -> Vec<TopicPartition> {
        if partitions.is_empty() {
            return Vec::new();
        }
        let own = self.own.lock();
        let gap = |partition: &&TopicPartition| own.get(partition).is_some_and(|own| own.gap);
        partitions.iter().filter(gap).copied().collect()
    }

    /// What was appended since this was last called.
    pub(in crate::store::kafka) fn take_own(&self) -> HashMap<TopicPartition, Own> {
        mem::take(&mut *self.own.lock())
    }
}
