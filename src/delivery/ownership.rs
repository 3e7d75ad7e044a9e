//! How a driver takes its subscription over, and gives it up.

use super::{
    error::{DeliveryError, EndCause},
    node::Node,
    stored::unreadable,
};
use crate::{
    engine::{Engine, input::Config},
    store::{StoreError, log::LogEnds, positions::Acquire, resources::SubscriptionRecord},
};

/// A subscription that this node delivers from now on.
pub(super) struct Owned {
    /// With which its state is flushed.
    pub(super) epoch: u64,
    /// Its state as it was stored.
    pub(super) engine: Engine,
    /// Where its log ends, from now on.
    pub(super) ends: LogEnds,
}

/// Takes over a subscription that is to be delivered here.
pub(super) async fn acquire(
    node: &Node,
    record: &SubscriptionRecord,
    config: impl FnOnce() -> Config,
) -> Result<Owned, DeliveryError> {
    // What the driver was started with may have been read before a change; later changes find it running.
    let record = node
        .resources
        .subscription(&record.subscription.name)
        .await?
        .filter(|current| current.id == record.id)
        .ok_or(EndCause::Deleted)?;
    if record.subscription.detached {
        return Err(EndCause::Detached.into());
    }
    node.configure(&record);

    let acquired = match node.store.positions.acquire(record.id).await? {
        Acquire::Acquired(acquired) => acquired,
        Acquire::OwnedBy(owner) => return Err(DeliveryError::OwnedBy(owner)),
        Acquire::Gone => return Err(EndCause::Deleted.into()),
    };
    let mut ends = match node.log.watch(&record.log).await {
        Ok(ends) => ends,
        Err(error) => {
            release(node, &record, acquired.epoch).await;
            return Err(why_unwatched(node, &record, error).await);
        }
    };
    let now_ends = ends.borrow_and_update().clone();
    let now = node.clock.now();
    let restored = Engine::restore(now, config(), &acquired.partitions, &now_ends);
    let (engine, voided) = match restored {
        Ok(restored) => restored,
        Err(error) => {
            // Another node may be able to read it.
            release(node, &record, acquired.epoch).await;
            return Err(unreadable(&error).into());
        }
    };
    if !voided.is_empty() {
        tracing::error!(
            subscription = %record.subscription.name, partitions = ?voided,
            "the log ends before what this subscription has seen: messages were lost from it, and what the \
             subscription knew of their offsets is void"
        );
    }
    Ok(Owned {
        epoch: acquired.epoch,
        engine,
        ends,
    })
}

/// Why a subscription's log cannot be watched. One that is not there was deleted after its last subscription was, or
/// detached, which this node may not have heard yet.
async fn why_unwatched(
    node: &Node,
    record: &SubscriptionRecord,
    error: StoreError,
) -> DeliveryError {
    if !matches!(error, StoreError::NoSuchLog) {
        return error.into();
    }
    // As it is stored: in memory it may still be what it was.
    let name = &record.subscription.name;
    match node.store.resources.subscription(name).await {
        Ok(Some(current)) if current.id != record.id => EndCause::Deleted.into(),
        Ok(Some(current)) if current.subscription.detached => EndCause::Detached.into(),
        Ok(None) => EndCause::Deleted.into(),
        Ok(Some(_)) => error.into(),
        Err(failed) => failed.into(),
    }
}

/// Lets any node have the subscription.
pub(super) async fn release(node: &Node, record: &SubscriptionRecord, epoch: u64) {
    if let Err(error) = node.store.positions.release(record.id, epoch).await {
        // Another node waits until this one's lease ends, or until a client uses the subscription here again.
        tracing::warn!(subscription = %record.subscription.name, %error, "the subscription was not given up");
    }
}
