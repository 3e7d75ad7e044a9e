//! How a driver takes its subscription over, and gives it up.

use std::sync::Arc;

use super::{
    compared::{self, Compared},
    error::{DeliveryError, EndCause},
    lost_logs,
    marks::AllMarks,
    node::Node,
    owed::Epoch,
    stored::unreadable,
};
use crate::{
    engine::{Engine, change::PartitionState, input::Config},
    resource::id::SubscriptionId,
    store::{
        StoreError,
        log::{LogEnds, Offset},
        positions::Acquire,
        resources::SubscriptionRecord,
    },
};

/// A subscription that this node delivers from now on.
pub(super) struct Owned {
    /// Gives it up in the end.
    pub(super) hold: Hold,
    /// With which its state is flushed.
    pub(super) epoch: u64,
    /// Its state as it was stored.
    pub(super) engine: Engine,
    /// By which it is told later whether the log is still the same, if it may become another one.
    pub(super) marks: Option<AllMarks>,
    /// Where its log ends, from now on.
    pub(super) ends: LogEnds,
}

/// A subscription that this node may own. However this ends, the subscription does not stay with a node that does not
/// deliver it.
pub(super) struct Hold {
    node: Arc<Node>,
    subscription: SubscriptionId,
    epoch: Epoch,
    is_over: bool,
}

impl Hold {
    /// From before the take-over: whether that succeeded may never be known.
    fn new(node: &Arc<Node>, subscription: SubscriptionId) -> Self {
        Self {
            node: Arc::clone(node),
            subscription,
            epoch: None,
            is_over: false,
        }
    }

    /// Lets any node have the subscription.
    pub(super) async fn release(mut self) {
        if let Some(epoch) = self.epoch {
            let positions = &self.node.store.positions;
            let released = positions.release(&[(self.subscription, epoch)]).await;
            // Otherwise it is tried again.
            self.is_over = released.is_ok();
        }
    }

    /// It was not taken over, for this reason.
    fn refused(self, error: DeliveryError) -> DeliveryError {
        self.ends();
        error
    }

    /// There is nothing to give up.
    pub(super) fn ends(mut self) {
        self.is_over = true;
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if !self.is_over {
            self.node.owed.add(self.subscription, self.epoch);
        }
    }
}

/// Takes over a subscription that is to be delivered here.
pub(super) async fn acquire(
    node: &Arc<Node>,
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
    node.tell_config(&record);

    let mut hold = Hold::new(node, record.id);
    let acquired = match node.store.positions.acquire(record.id).await {
        Ok(Acquire::Acquired(acquired)) => acquired,
        Ok(Acquire::OwnedBy(owner)) => return Err(hold.refused(DeliveryError::OwnedBy(owner))),
        Ok(Acquire::Gone) => return Err(hold.refused(EndCause::Deleted.into())),
        Err(error) if error.definitely_failed() => return Err(hold.refused(error.into())),
        Err(error) => return Err(error.into()),
    };
    hold.epoch = Some(acquired.epoch);
    let mut ends = match node.log.watch(&record.log).await {
        Ok(ends) => ends,
        Err(error) => {
            hold.release().await;
            return Err(why_unwatched(node, &record, error).await);
        }
    };
    lost_logs::found(node, &record.log);
    let now_ends = ends.borrow_and_update().clone();
    let compared = match compare(node, &record, &acquired.partitions, &now_ends).await {
        Ok(compared) => compared,
        Err(error) => {
            hold.release().await;
            return Err(why_unwatched(node, &record, error).await);
        }
    };
    let now = node.clock.now();
    let valid = compared.as_ref().map_or(&now_ends, |it| &it.valid);
    let restored = Engine::restore(now, config(), &acquired.partitions, valid, acquired.epoch);
    if *valid != now_ends {
        // The engine has to hear of what lies behind that as well.
        ends.mark_changed();
    }
    let (engine, voided) = match restored {
        Ok(restored) => restored,
        Err(error) => {
            // Another node may be able to read it.
            hold.release().await;
            return Err(unreadable(&error).into());
        }
    };
    if !voided.is_empty() {
        tracing::error!(
            subscription = %record.subscription.name, partitions = ?voided,
            "the log is not what this subscription has seen: messages were lost from it, or it was made again. What \
             the subscription knew of their offsets is void, and what lies there now is delivered"
        );
    }
    node.lost_logs.compared(record.id);
    Ok(Owned {
        hold,
        epoch: acquired.epoch,
        engine,
        marks: compared.map(|it| it.marks),
        ends,
    })
}

/// Compares a subscription's state with its log, if that may have become another one.
async fn compare(
    node: &Node,
    record: &SubscriptionRecord,
    states: &[PartitionState],
    ends: &[Offset],
) -> Result<Option<Compared>, StoreError> {
    if !node.log.may_lose_records() {
        return Ok(None);
    }
    let how = node.lost_logs.thoroughness(record.id);
    let compared = compared::compare(node.log.as_ref(), &record.log, states, ends, how);
    compared.await.map(Some)
}

/// Why a subscription's log cannot be watched. One that is not there was deleted after its last subscription was, or
/// detached, which this node may not have heard yet; or not by us.
async fn why_unwatched(
    node: &Node,
    record: &SubscriptionRecord,
    error: StoreError,
) -> DeliveryError {
    if !matches!(error, StoreError::NoSuchLog) {
        return error.into();
    }
    match end_in_store(node, record).await {
        Ok(Some(cause)) => cause.into(),
        Ok(None) => EndCause::LogGone(lost_logs::gone_from(node, record)).into(),
        Err(failed) => failed.into(),
    }
}

/// Why nothing more is heard of where a subscription's log ends.
pub(super) async fn why_closed(node: &Node, record: &SubscriptionRecord) -> EndCause {
    let ended = end_in_store(node, record).await;
    ended.ok().flatten().unwrap_or(EndCause::LogChanged)
}

/// Whether the subscription has ended, as it is stored: in memory it may still be what it was.
async fn end_in_store(
    node: &Node,
    record: &SubscriptionRecord,
) -> Result<Option<EndCause>, StoreError> {
    let name = &record.subscription.name;
    let current = node.store.resources.subscription(name).await?;
    Ok(match current {
        Some(current) if current.id != record.id => Some(EndCause::Deleted),
        Some(current) if current.subscription.detached => Some(EndCause::Detached),
        Some(_) => None,
        None => Some(EndCause::Deleted),
    })
}
