//! Heeds what any node changed, and that this node may not speak for a while.

use std::{sync::Arc, time::Duration};

use super::hub::{EndCause, Shared};
use crate::{
    limits::STORE_RETRY_MILLIS,
    store::{StoreError, membership::Change},
};

/// Ends or configures deliveries as changes come, and says that it has. The cache forgets what changed first.
pub(super) async fn heed(shared: Arc<Shared>) {
    loop {
        let heeded = tokio::select! {
            () = shared.stopping.cancelled() => return,
            heeded = heed_next(&shared) => heeded,
        };
        if let Err(error) = heeded {
            tracing::warn!(%error, "changes that other servers made cannot be read; trying again");
            tokio::select! {
                () = shared.stopping.cancelled() => return,
                () = tokio::time::sleep(Duration::from_millis(STORE_RETRY_MILLIS)) => {}
            }
        }
    }
}

async fn heed_next(shared: &Arc<Shared>) -> Result<(), StoreError> {
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
    shared.store.membership.heeded(changes.through).await
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
