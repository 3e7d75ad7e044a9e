//! One file per use: check, load, decide, store, answer. Knows no status code and no SQL.

mod access;
mod ack_id;
mod acknowledge;
mod attached_topics;
mod completion;
mod consumed;
pub mod error;
#[cfg(test)]
mod fault_tests;
mod health;
mod judged;
mod policies;
mod publish;
mod pull;
mod received;
mod settings;
mod streaming;
mod subscriptions;
mod topics;

use std::sync::Arc;

pub use crate::{
    delivery::{DeliveryError, EndCause, MessageStream, Unsent},
    store::{NodeLease, StoreError},
};
#[cfg(test)]
pub(crate) use access::Asked;
pub use access::{Denied, Guarded, PermitError};
pub use consumed::ConsumeError;
pub use health::{BackendHealth, Health};
pub use judged::{AckFailure, Judged, Judging};
pub use policies::WithPolicy;
pub use publish::PublishError;
pub use received::Receipts;
pub use streaming::{OpenStream, StreamStart};

use self::{ack_id::AckKey, health::LastCheck};
use crate::{
    clock::Clock,
    delivery::Drivers,
    limits::DELIVERY_BYTES_HELD_MAX,
    random::Random,
    store::{MessageLog, StateStore, cached::CachedResources, operations::Operations},
};

/// Everything that a request may do.
pub struct Service {
    /// For what is shown or read before a change: another node may have changed it just now.
    store: StateStore,
    /// Topics and subscriptions in memory. All changes go through it.
    pub(crate) resources: Arc<CachedResources>,
    pub(crate) log: Arc<dyn MessageLog>,
    pub(crate) delivery: Drivers,
    operations: Arc<Operations>,
    pub(crate) clock: Clock,
    random: Random,
    ack_key: AckKey,
    last_check: LastCheck,
}

impl Service {
    /// The service over a state store and a message log, with one clock and one source of random bytes. What a crash
    /// left half made is finished in the background: one topic that cannot be must not keep the others from being served.
    pub fn start(
        store: StateStore,
        log: Arc<dyn MessageLog>,
        clock: Clock,
        random: Random,
    ) -> Self {
        let ack_key = AckKey::new(store.backend.ack_key());
        let operations = Arc::new(Operations::new(clock.clone()));
        let resources = CachedResources::new(Arc::clone(&store.resources), Arc::clone(&operations));
        let resources = Arc::new(resources);
        let delivery = Drivers::start(
            store.clone(),
            Arc::clone(&resources),
            Arc::clone(&log),
            Arc::clone(&operations),
            clock.clone(),
            DELIVERY_BYTES_HELD_MAX,
        );
        Self {
            store,
            resources,
            log,
            delivery,
            operations,
            clock,
            random,
            ack_key,
            last_check: LastCheck::default(),
        }
    }

    /// Whether this node may answer for the cluster.
    pub fn node_lease(&self) -> NodeLease {
        self.store.membership.node_lease()
    }

    /// Fills `bytes` with random ones.
    fn random_bytes(&self, bytes: &mut [u8]) -> Result<(), StoreError> {
        self.random.fill(bytes).map_err(|error| {
            StoreError::Unavailable(format!("the system gives no random numbers: {error}"))
        })
    }

    /// Ends all streams and waiting pulls, and stores everything. Later consumers are refused.
    pub async fn drain(&self) {
        self.delivery.drain().await;
    }

    /// Closes the stores, when nothing is in flight any more.
    pub async fn close(&self) {
        self.log.close().await;
        self.store.backend.close().await;
    }
}
