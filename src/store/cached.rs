//! Topics and subscriptions by name, in memory: what every publish, pull and ack asks for. Records are shared and never
//! changed.
//!
//! Right only while all changes go through it, as on a single node, and while the future of each change is run to its
//! end: one that is dropped on the way may still be carried out, and leave here what was true before it.

use std::{collections::HashMap, hash::Hash, sync::Arc};

use parking_lot::Mutex;

use super::{
    Resources, StoreError,
    log::{LogLocation, Offset, Partition, TopicLog},
    membership::{Change, Changes},
    operations::{Operation, Operations},
    resources::{CreateError, SubscriptionRecord, TopicRecord, UpdateError},
};
use crate::{
    limits::CACHED_RESOURCES_MAX,
    resource::{
        id::{SubscriptionId, TopicIncarnation},
        name::{SubscriptionName, TopicName},
        subscription::Subscription,
        topic::Topic,
    },
};

/// Found records by name. Emptied when full: what is in use comes back at once.
struct Cache<K, V>(Mutex<Entries<K, V>>);

struct Entries<K, V> {
    found: HashMap<K, Arc<V>>,
    /// Counts changes, so that what was read before one is not put in after it.
    changes: u64,
}

impl<K: Hash + Eq + Clone, V> Cache<K, V> {
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
        operations: &Operations,
    ) -> Result<Option<Arc<V>>, StoreError> {
        let before = {
            let entries = self.0.lock();
            if let Some(found) = entries.found.get(name) {
                return Ok(Some(Arc::clone(found)));
            }
            entries.changes
        };
        let read = read.await;
        operations.note(Operation::Lookup, read.as_ref().err());
        let read = read?.map(Arc::new);
        if let Some(record) = &read {
            let mut entries = self.0.lock();
            if entries.changes == before {
                if entries.found.len() >= CACHED_RESOURCES_MAX {
                    entries.found.clear();
                }
                entries.found.insert(name.clone(), Arc::clone(record));
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
pub struct CachedResources {
    resources: Arc<dyn Resources>,
    operations: Arc<Operations>,
    topics: Cache<TopicName, TopicRecord>,
    subscriptions: Cache<SubscriptionName, SubscriptionRecord>,
}

impl CachedResources {
    /// A cache in front of `resources`, which tells `operations` how they do.
    pub fn new(resources: Arc<dyn Resources>, operations: Arc<Operations>) -> Self {
        Self {
            resources,
            operations,
            topics: Cache::new(),
            subscriptions: Cache::new(),
        }
    }

    /// The live topic of that name.
    pub async fn topic(&self, name: &TopicName) -> Result<Option<Arc<TopicRecord>>, StoreError> {
        let read = self.resources.topic(name);
        self.topics.get(name, read, &self.operations).await
    }

    /// The subscription of that name.
    pub async fn subscription(
        &self,
        name: &SubscriptionName,
    ) -> Result<Option<Arc<SubscriptionRecord>>, StoreError> {
        let read = self.resources.subscription(name);
        self.subscriptions.get(name, read, &self.operations).await
    }

    /// [`Resources::create_topic`].
    pub async fn create_topic(
        &self,
        topic: &Topic,
        attached: Option<&LogLocation>,
    ) -> Result<TopicIncarnation, CreateError> {
        let created = self.resources.create_topic(topic, attached).await;
        self.changed(created.as_ref().err().and_then(CreateError::store_error));
        if !matches!(created, Err(CreateError::AlreadyExists)) {
            // The name was free, so what is known under it is of another life, which another node has ended.
            self.topics.forget(&topic.name);
        }
        created
    }

    /// [`Resources::update_topic`].
    pub async fn update_topic(
        &self,
        read: &TopicRecord,
        topic: &Topic,
    ) -> Result<TopicRecord, UpdateError> {
        let updated = self.resources.update_topic(read, topic).await;
        self.changed(updated.as_ref().err().and_then(UpdateError::store_error));
        self.topics.forget(&read.topic.name);
        updated
    }

    /// [`Resources::delete_topic`].
    pub async fn delete_topic(&self, topic: &TopicRecord) -> Result<bool, StoreError> {
        let deleted = self.resources.delete_topic(topic).await;
        self.changed(deleted.as_ref().err());
        self.topics.forget(&topic.topic.name);
        // Its subscriptions show a deleted topic from now on.
        self.subscriptions.forget_all();
        deleted
    }

    /// [`Resources::create_subscription`].
    pub async fn create_subscription(
        &self,
        topic: &TopicLog,
        subscription: &Subscription,
        starts: &[(Partition, Offset)],
    ) -> Result<SubscriptionRecord, CreateError> {
        let created = self
            .resources
            .create_subscription(topic, subscription, starts)
            .await;
        self.changed(created.as_ref().err().and_then(CreateError::store_error));
        if !matches!(created, Err(CreateError::AlreadyExists)) {
            // As for topics.
            self.subscriptions.forget(&subscription.name);
        }
        created
    }

    /// [`Resources::update_subscription`].
    pub async fn update_subscription(
        &self,
        read: &SubscriptionRecord,
        subscription: &Subscription,
    ) -> Result<SubscriptionRecord, UpdateError> {
        let updated = self.resources.update_subscription(read, subscription).await;
        self.changed(updated.as_ref().err().and_then(UpdateError::store_error));
        self.subscriptions.forget(&read.subscription.name);
        updated
    }

    /// [`Resources::delete_subscription`].
    pub async fn delete_subscription(
        &self,
        name: &SubscriptionName,
    ) -> Result<Option<SubscriptionId>, StoreError> {
        let deleted = self.resources.delete_subscription(name).await;
        self.changed(deleted.as_ref().err());
        self.subscriptions.forget(name);
        deleted
    }

    fn changed(&self, error: Option<&StoreError>) {
        self.operations.note(Operation::Change, error);
    }

    /// Forgets what any node changed.
    pub fn apply(&self, changes: &Changes) {
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
                Change::RecordChanged(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::Clock,
        store::{
            contract::resources::{live_topic, subscribed, subscription_named, topic_named},
            memory::MemoryState,
        },
    };

    fn operations() -> Arc<Operations> {
        Arc::new(Operations::new(Clock::system()))
    }

    const TOPIC: &str = "projects/p/topics/top";
    const SUBSCRIPTION: &str = "projects/p/subscriptions/sub";

    #[tokio::test]
    async fn a_name_that_is_created_again_is_found_in_its_new_life() {
        let shared = Arc::new(MemoryState::new().expect("random bytes"));
        let cached = CachedResources::new(shared.clone(), operations());
        let first = live_topic(shared.as_ref(), TOPIC).await;
        let name = &first.topic.name;
        let subscription = subscribed(shared.as_ref(), SUBSCRIPTION, &first).await;
        let subscription_name = &subscription.subscription.name;
        let found = cached.topic(name).await.expect("read");
        assert_eq!(found.as_deref(), Some(&first));
        let found = cached.subscription(subscription_name).await.expect("read");
        assert_eq!(found.as_deref(), Some(&subscription));

        // Another node deletes both, which this one has not heard yet.
        shared.delete_topic(&first).await.expect("delete");
        let deleted = shared.delete_subscription(subscription_name).await;
        deleted.expect("delete");

        let topic = topic_named(TOPIC);
        let made = cached.create_topic(&topic, None).await.expect("create");
        let published = shared.publish_topic(made, &LogLocation::embedded()).await;
        published.expect("publish");
        let second = cached.topic(name).await.expect("read").expect("is live");
        assert_eq!(second.log.incarnation, made);
        let again = subscription_named(SUBSCRIPTION, &topic);
        let again = cached.create_subscription(&second.log, &again, &[(0, 5)]);
        let again = again.await.expect("create");
        let found = cached.subscription(subscription_name).await.expect("read");
        assert_eq!(found.as_deref(), Some(&again));
    }
}
