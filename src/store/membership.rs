//! The port to the nodes that share a store: whether this one may answer, and what the others changed.

use std::collections::BTreeSet;

use async_trait::async_trait;

use super::{NodeLease, StoreError, records::RecordKey};
use crate::resource::{
    id::SubscriptionId,
    name::{SubscriptionName, TopicName},
};

/// A change that caches and running deliveries have to apply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The topic has another configuration.
    TopicChanged(TopicName),
    /// The topic was deleted.
    TopicDeleted(TopicName),
    /// The subscription has another configuration; to be detached is part of it.
    SubscriptionChanged(SubscriptionName),
    /// The subscription was deleted.
    SubscriptionDeleted(SubscriptionId, SubscriptionName),
    /// A document was written or deleted.
    RecordChanged(RecordKey),
}

/// Changes in the order in which they were made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// [`Membership::applied`] takes it.
    pub through: u64,
    /// What changed.
    pub what: Vec<Change>,
    /// More may have changed than is told: this node was away for too long.
    pub everything: bool,
}

/// This node among those that share the store. What is not implemented is that of a store of one node.
#[async_trait]
pub trait Membership: Send + Sync + 'static {
    /// Whether this node may speak for what it owns; always, in a store of one node.
    fn node_lease(&self) -> NodeLease {
        NodeLease::always()
    }

    /// A living node whose data version is less than `version`, for a text; nothing in a store of one node.
    async fn behind(&self, version: u32) -> Result<Option<String>, StoreError> {
        let _ = version;
        Ok(None)
    }

    /// Numbers of the processes that live, each of which is never used twice; none in a store of one node.
    async fn living(&self) -> Result<BTreeSet<u64>, StoreError> {
        Ok(BTreeSet::new())
    }

    /// Waits for changes, by any node, that this one must apply. Pending for ever in a store of one node.
    async fn changes(&self) -> Result<Changes, StoreError> {
        std::future::pending().await
    }
    /// Says that this node applies everything up to `through`, so that the node that made the changes may answer.
    async fn applied(&self, through: u64) -> Result<(), StoreError> {
        let _ = through;
        Ok(())
    }
}
