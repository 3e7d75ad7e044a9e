//! What everything that delivers on this node shares.

use std::{
    hash::BuildHasher,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::{
    activity::Activity, agreement::Agreement, budget::Budget, error::DeliveryError,
    flusher::Flusher, forwarding::Forwarding, hashes::Hashes, lost_logs::LostLogs, owed::Owed,
    registry::Registry, skimmed::Skimmed, told::Told,
};
use crate::{
    clock::Clock,
    engine::{
        input::{ClientId, Config, ConsumerId},
        retry::Backoff,
    },
    resource::subscription::RetryPolicy,
    store::{
        MessageLog, NodeLease, StateStore, cached::CachedResources, operations::Operations,
        resources::SubscriptionRecord,
    },
};

/// See the module.
pub(super) struct Node {
    pub(super) store: StateStore,
    /// The same topics and subscriptions, in memory.
    pub(super) resources: Arc<CachedResources>,
    pub(super) log: Arc<dyn MessageLog>,
    /// How appends and reads of it go.
    pub(super) operations: Arc<Operations>,
    /// Whether this node may answer for its subscriptions.
    pub(super) membership: NodeLease,
    pub(super) clock: Clock,
    pub(super) flusher: Flusher,
    /// What all subscriptions may hold of messages.
    pub(super) budget: Arc<Budget>,
    pub(super) activity: Activity,
    pub(super) agreement: Agreement,
    pub(super) registry: Registry,
    pub(super) lost_logs: LostLogs,
    pub(super) forwarding: Forwarding,
    pub(super) skimmed: Skimmed,
    /// What this node has to give up.
    pub(super) owed: Owed,
    /// Of deliveries that do not start.
    pub(super) told: Mutex<Told>,
    pub(super) stopping: CancellationToken,
    /// What ordering keys and clients are hashed with.
    pub(super) hashes: Hashes,
    consumers: AtomicU64,
}

impl Node {
    pub(super) fn new(
        store: StateStore,
        resources: Arc<CachedResources>,
        log: Arc<dyn MessageLog>,
        operations: Arc<Operations>,
        clock: Clock,
        flusher: Flusher,
        budget: Budget,
    ) -> Self {
        Self {
            membership: store.membership.node_lease(),
            hashes: Hashes::new(&store.backend.ack_key()),
            store,
            resources,
            log,
            operations,
            flusher,
            budget: Arc::new(budget),
            activity: Activity::default(),
            agreement: Agreement::new(clock.clone()),
            clock,
            registry: Registry::default(),
            lost_logs: LostLogs::default(),
            forwarding: Forwarding::default(),
            skimmed: Skimmed::default(),
            owed: Owed::default(),
            told: Mutex::default(),
            stopping: CancellationToken::new(),
            consumers: AtomicU64::new(1),
        }
    }

    /// A number that no consumer on this node has had.
    pub(super) fn next_consumer(&self) -> ConsumerId {
        ConsumerId(self.consumers.fetch_add(1, Ordering::Relaxed))
    }

    /// What stands for the client of a stream that has said who it is.
    pub(super) fn client(&self, client_id: &str) -> Option<ClientId> {
        (!client_id.is_empty()).then(|| ClientId(self.hashes.hash_one(client_id)))
    }

    /// Tells the subscription's driver, if there is one, of its configuration, and waits until it has applied that.
    pub(super) async fn configure(&self, record: &SubscriptionRecord) -> Result<(), DeliveryError> {
        self.tell_config(record);
        match self.registry.apply(record.id).await {
            // The next driver has it.
            Err(DeliveryError::Ended(_) | DeliveryError::OwnedBy(_)) => Ok(()),
            applied => applied,
        }
    }

    /// The same without waiting.
    pub(super) fn tell_config(&self, record: &SubscriptionRecord) {
        self.registry
            .configure(record.id, engine_config(record), record.version);
    }
}

fn backoff(policy: RetryPolicy) -> Backoff {
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    Backoff {
        min_millis: millis(policy.minimum_backoff),
        max_millis: millis(policy.maximum_backoff),
    }
}

/// What of a subscription's configuration its engine has to know.
pub(super) fn engine_config(record: &SubscriptionRecord) -> Config {
    let subscription = &record.subscription;
    let retention = if record.log.location.attached {
        // The owner of an attached log decides its retention.
        Duration::MAX
    } else {
        subscription.message_retention
    };
    Config {
        ack_deadline_millis: u64::from(subscription.ack_deadline_seconds) * 1000,
        retention_millis: u64::try_from(retention.as_millis()).unwrap_or(u64::MAX),
        exactly_once: subscription.exactly_once,
        retry: subscription.retry_policy.map(backoff),
        attempts_max: subscription
            .dead_letter_policy
            .as_ref()
            .map(|policy| policy.max_delivery_attempts),
        is_ordered: subscription.ordered,
    }
}
