//! Applies changes that any node made, and the loss of this node's lease.

use std::{sync::Arc, time::Duration};

use super::hub::{EndCause, Shared};
use crate::{
    limits::STORE_RETRY_MILLIS,
    store::{StoreError, membership::Change},
};

/// Ends or configures deliveries as changes come, and says that it has. The cache forgets what changed first.
pub(super) async fn apply(shared: Arc<Shared>) {
    loop {
        let applied = tokio::select! {
            () = shared.stopping.cancelled() => return,
            applied = apply_next(&shared) => applied,
        };
        if let Err(error) = applied {
            tracing::warn!(%error, "changes that other servers made cannot be read; trying again");
            tokio::select! {
                () = shared.stopping.cancelled() => return,
                () = tokio::time::sleep(Duration::from_millis(STORE_RETRY_MILLIS)) => {}
            }
        }
    }
}

async fn apply_next(shared: &Arc<Shared>) -> Result<(), StoreError> {
    let changes = shared.store.membership.changes().await?;
    shared.resources.apply(&changes);
    if changes.everything {
        shared.end_all(&EndCause::cut_off()).await;
    }
    for change in changes.what {
        match change {
            Change::TopicChanged(_) | Change::TopicDeleted(_) | Change::RecordChanged(_) => {}
            Change::SubscriptionDeleted(id, _) => shared.end(id, EndCause::Deleted).await,
            Change::SubscriptionChanged(name) => {
                match shared.store.resources.subscription(&name).await? {
                    Some(record) if record.subscription.detached => {
                        shared.end(record.id, EndCause::Detached).await;
                    }
                    Some(record) => shared.configure(&record),
                    // Its deletion is a change of its own.
                    None => {}
                }
            }
        }
    }
    shared.store.membership.applied(changes.through).await
}

/// Ends all deliveries each time that this node's lease runs out: others may take them over.
pub(super) async fn watch_lease(shared: Arc<Shared>) {
    loop {
        tokio::select! {
            () = shared.stopping.cancelled() => return,
            () = shared.lease.lost() => {}
        }
        tracing::error!(
            "the state store has not answered for too long: everything is refused until it does"
        );
        shared.end_all(&EndCause::cut_off()).await;
        tokio::select! {
            () = shared.stopping.cancelled() => return,
            () = shared.lease.held() => tracing::info!("the state store answers again"),
        }
    }
}
