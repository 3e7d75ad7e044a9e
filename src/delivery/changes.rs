//! Applies changes that any node made, and the loss of this node's lease.

use std::{mem, sync::Arc, time::Duration};

use super::{error::EndCause, node::Node};
use crate::{
    limits::STORE_RETRY_MILLIS,
    store::{StoreError, membership::Change},
};

/// Ends or configures deliveries as changes come, and says that it has. The cache forgets what changed first.
pub(super) async fn apply(node: Arc<Node>) {
    let mut failing = false;
    loop {
        let applied = tokio::select! {
            biased;
            () = node.stopping.cancelled() => return,
            applied = apply_next(&node) => applied,
        };
        let failed_before = mem::replace(&mut failing, applied.is_err());
        if let Err(error) = applied {
            if !failed_before {
                tracing::warn!(%error, "changes that other servers made cannot be read; trying again");
            }
            tokio::select! {
            biased;
                () = node.stopping.cancelled() => return,
                () = tokio::time::sleep(Duration::from_millis(STORE_RETRY_MILLIS)) => {}
            }
        }
    }
}

async fn apply_next(node: &Arc<Node>) -> Result<(), StoreError> {
    let changes = node.store.membership.changes().await?;
    node.resources.apply(&changes);
    if changes.everything {
        node.registry.end_all(&EndCause::lease_lost()).await;
    }
    for change in changes.what {
        match change {
            Change::TopicChanged(_) | Change::TopicDeleted(_) | Change::RecordChanged(_) => {}
            Change::SubscriptionDeleted(id, _) => node.registry.end(id, EndCause::Deleted).await,
            Change::SubscriptionChanged(name) => {
                match node.store.resources.subscription(&name).await? {
                    Some(record) if record.subscription.detached => {
                        node.registry.end(record.id, EndCause::Detached).await;
                    }
                    Some(record) => {
                        // It is tried again with the driver's next flush.
                        drop(node.configure(&record).await);
                    }
                    // Its deletion is a change of its own.
                    None => {}
                }
            }
        }
    }
    node.store.membership.applied(changes.through).await
}

/// Ends all deliveries each time that this node's lease runs out: others may take them over.
pub(super) async fn watch_lease(node: Arc<Node>) {
    loop {
        tokio::select! {
            biased;
            () = node.stopping.cancelled() => return,
            () = node.membership.lost() => {}
        }
        tracing::error!(
            "the state store has not answered for too long: everything is refused until it does"
        );
        node.registry.end_all(&EndCause::lease_lost()).await;
        tokio::select! {
            biased;
            () = node.stopping.cancelled() => return,
            () = node.membership.held() => tracing::info!("the state store answers again"),
        }
    }
}
