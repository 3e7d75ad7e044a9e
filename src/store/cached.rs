//! Keeps what every publish, pull and ack asks for in memory: topics and subscriptions by name.
//!
//! Right only while all changes go through it, as on a single node, and while the future of each change is run to its
//! end: one that is dropped on the way may still be carried out, and leave here what was true before it.

use std::{collections::HashMap, hash::Hash, sync::Arc, time::Duration};

use async_trait::async_trait;
use parking_lot::Mutex;

use super::{
    Lease, MessageLog, StateStore, StoreError,
    log::{LogPlace, Offset, Partition, TopicLog},
    state::{
        Acquire, Change, Changes, CreateError, Flush, FlushOutcome, LogNeeds, SubscriptionRecord,
        TopicRecord, TopicRow, UpdateError,
    },
};
use crate::{
    engine::change::PartitionState,
    limits::CACHED_RESOURCES_MAX,
    resource::{
        id::{SubscriptionId, TopicIncarnation},
        name::{ProjectName, SubscriptionName, TopicName},
        subscription::Subscription,
        topic::Topic,
    },
};

/// Found records by name. Emptied when full: what is in use comes back at once.
struct Cache<K, V>(Mutex<Entries<K, V>>);

struct Entries<K, V> {
    found: HashMap<K, V>,
    /// Counts changes, so that what was read before one is not put in after it.
    changes: u64,
}

impl<K: Hash + Eq + Clone, V: Clone> Cache<K, V> {
    fn new() -> Self {
        Self(Mutex::new(Entries {
            found: HashMap::new(),
            changes: 0,
        }))
    }

    async fn get(
        &self,
        name: &K,
        read: impl Future<Output = Result<Option<V>, StoreError>>,
    ) -> Result<Option<V>, StoreError> {
        let before = {
            let entries = self.0.lock();
            if let Some(found) = entries.found.get(name) {
                return Ok(Some(found.clone()));
            }
            entries.changes
        };
        let read = read.await?;
        if let Some(record) = &read {
            let mut entries = self.0.lock();
            if entries.changes == before {
                if entries.found.len() >= CACHED_RESOURCES_MAX {
                    entries.found.clear();
                }
                entries.found.insert(name.clone(), record.clone());
            }
        }
        Ok(read)
    }

    fn forget(&self, name: &K) {
        let mut entries = self.0.lock();
        entries.changes += 1;
        entries.found.remove(name);
    }

    fn forget_all(&self) {
        let mut entries = self.0.lock();
        entries.changes += 1;
        entries.found.clear();
    }
}

/// See the module.
pub struct CachedState {
    inner: Arc<dyn StateStore>,
    topics: Cache<TopicName, TopicRecord>,
    subscriptions: Cache<SubscriptionName, SubscriptionRecord>,
}

impl CachedState {
    /// A cache in front of `inner`.
    pub fn new(inner: Arc<dyn StateStore>) -> Self {
        Self {
            inner,
            topics: Cache::new(),
            subscriptions: Cache::new(),
        }
    }
}

#[async_trait]
impl StateStore for CachedState {
    fn backend(&self) -> &'static str {
        self.inner.backend()
    }

    async fn check(&self, patience: Duration) -> Result<(), StoreError> {
        self.inner.check(patience).await
    }

    fn ack_key(&self) -> [u8; 16] {
        self.inner.ack_key()
    }

    fn lease(&self) -> Lease {
        self.inner.lease()
    }

    async fn create_topic(
        &self,
        topic: &Topic,
        attached: Option<&LogPlace>,
    ) -> Result<TopicIncarnation, CreateError> {
        let created = self.inner.create_topic(topic, attached).await;
        if !matches!(created, Err(CreateError::AlreadyExists)) {
            // The name was free, so what is known under it is of another life, which another node has ended.
            self.topics.forget(&topic.name);
        }
        created
    }

    async fn publish_topic(
        &self,
        topic: TopicIncarnation,
        place: &LogPlace,
    ) -> Result<(), StoreError> {
        self.inner.publish_topic(topic, place).await
    }

    async fn topic(&self, name: &TopicName) -> Result<Option<TopicRecord>, StoreError> {
        self.topics.get(name, self.inner.topic(name)).await
    }

    async fn update_topic(
        &self,
        read: &TopicRecord,
        topic: &Topic,
    ) -> Result<TopicRecord, UpdateError> {
        let updated = self.inner.update_topic(read, topic).await;
        self.topics.forget(&read.topic.name);
        updated
    }

    async fn list_topics(
        &self,
        project: &ProjectName,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<TopicRecord>, StoreError> {
        self.inner.list_topics(project, after, limit).await
    }

    async fn delete_topic(&self, name: &TopicName) -> Result<Option<TopicIncarnation>, StoreError> {
        let deleted = self.inner.delete_topic(name).await;
        self.topics.forget(name);
        // Its subscriptions show a deleted topic from now on.
        self.subscriptions.forget_all();
        deleted
    }

    async fn logs(&self) -> Result<Vec<TopicRow>, StoreError> {
        self.inner.logs().await
    }

    async fn log_needs(&self, topic: TopicIncarnation) -> Result<Option<LogNeeds>, StoreError> {
        self.inner.log_needs(topic).await
    }

    async fn keep_log(&self, topic: &TopicLog, log: &dyn MessageLog) -> Result<(), StoreError> {
        self.inner.keep_log(topic, log).await
    }

    async fn forget_topic(&self, topic: TopicIncarnation) -> Result<(), StoreError> {
        self.inner.forget_topic(topic).await
    }

    async fn create_subscription(
        &self,
        topic: &TopicLog,
        subscription: &Subscription,
        starts: &[(Partition, Offset)],
    ) -> Result<SubscriptionRecord, CreateError> {
        let created = self
            .inner
            .create_subscription(topic, subscription, starts)
            .await;
        if !matches!(created, Err(CreateError::AlreadyExists)) {
            // As for topics.
            self.subscriptions.forget(&subscription.name);
        }
        created
    }

    async fn subscription(
        &self,
        name: &SubscriptionName,
    ) -> Result<Option<SubscriptionRecord>, StoreError> {
        let read = self.inner.subscription(name);
        self.subscriptions.get(name, read).await
    }

    async fn update_subscription(
        &self,
        read: &SubscriptionRecord,
        subscription: &Subscription,
    ) -> Result<SubscriptionRecord, UpdateError> {
        let updated = self.inner.update_subscription(read, subscription).await;
        self.subscriptions.forget(&read.subscription.name);
        updated
    }

    async fn list_subscriptions(
        &self,
        project: &ProjectName,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<SubscriptionRecord>, StoreError> {
        self.inner.list_subscriptions(project, after, limit).await
    }

    async fn list_topic_subscriptions(
        &self,
        topic: TopicIncarnation,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<SubscriptionName>, StoreError> {
        self.inner
            .list_topic_subscriptions(topic, after, limit)
            .await
    }

    async fn delete_subscription(
        &self,
        name: &SubscriptionName,
    ) -> Result<Option<SubscriptionId>, StoreError> {
        let deleted = self.inner.delete_subscription(name).await;
        self.subscriptions.forget(name);
        deleted
    }

    async fn acquire(&self, subscription: SubscriptionId) -> Result<Acquire, StoreError> {
        self.inner.acquire(subscription).await
    }

    async fn release(&self, subscription: SubscriptionId, epoch: u64) -> Result<(), StoreError> {
        self.inner.release(subscription, epoch).await
    }

    /// What changed, which is forgotten here.
    async fn changes(&self) -> Result<Changes, StoreError> {
        let changes = self.inner.changes().await?;
        if changes.everything {
            self.topics.forget_all();
            self.subscriptions.forget_all();
        }
        for change in &changes.what {
            match change {
                Change::TopicChanged(name) => self.topics.forget(name),
                Change::TopicDeleted(name) => {
                    self.topics.forget(name);
                    // Its subscriptions show a deleted topic from now on.
                    self.subscriptions.forget_all();
                }
                Change::SubscriptionChanged(name) | Change::SubscriptionDeleted(_, name) => {
                    self.subscriptions.forget(name);
                }
            }
        }
        Ok(changes)
    }

    async fn heeded(&self, through: u64) -> Result<(), StoreError> {
        self.inner.heeded(through).await
    }

    async fn flush(&self, flushes: &[Flush]) -> Result<Vec<FlushOutcome>, StoreError> {
        self.inner.flush(flushes).await
    }

    async fn positions(
        &self,
        subscription: SubscriptionId,
    ) -> Result<Vec<PartitionState>, StoreError> {
        self.inner.positions(subscription).await
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{
        contract::state::{live_topic, subscribed},
        memory::MemoryState,
    };

    const TOPIC: &str = "projects/p/topics/top";
    const SUBSCRIPTION: &str = "projects/p/subscriptions/sub";

    #[tokio::test]
    async fn a_name_that_is_created_again_is_found_in_its_new_life() {
        let shared: Arc<dyn StateStore> = Arc::new(MemoryState::new().expect("random bytes"));
        let cached = CachedState::new(Arc::clone(&shared));
        let first = live_topic(&cached, TOPIC).await;
        let name = first.topic.name.clone();
        let subscription = subscribed(&cached, SUBSCRIPTION, &first).await;
        let subscription_name = subscription.subscription.name.clone();
        let found = cached.subscription(&subscription_name).await;
        assert_eq!(
            found.expect("read").map(|one| one.id),
            Some(subscription.id)
        );

        // Another node deletes both, which this one has not heard yet.
        shared.delete_topic(&name).await.expect("delete");
        let deleted = shared.delete_subscription(&subscription_name).await;
        deleted.expect("delete");

        let second = live_topic(&cached, TOPIC).await;
        assert_ne!(second.log.incarnation, first.log.incarnation);
        let again = subscribed(&cached, SUBSCRIPTION, &second).await;
        let found = cached.subscription(&subscription_name).await;
        assert_eq!(found.expect("read").map(|one| one.id), Some(again.id));
    }
}
