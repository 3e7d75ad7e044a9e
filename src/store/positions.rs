//! The port to the delivery state of subscriptions: who delivers them, and how far they are.

use std::fmt;

use async_trait::async_trait;

use super::StoreError;
use crate::{
    engine::change::{PartitionChange, PartitionState},
    resource::id::SubscriptionId,
};

/// A subscription's delivery state, taken over by the caller.
#[derive(Debug)]
pub struct Acquired {
    /// Flushes carry it; an older one is refused.
    pub epoch: u64,
    /// One entry per partition that the subscription has a position in.
    pub partitions: Vec<PartitionState>,
}

/// The living node that delivers a subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Its name.
    pub node: String,
    /// Where it is reached.
    pub address: String,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.node, self.address)
    }
}

/// Whether a subscription was taken over.
#[derive(Debug)]
pub enum Acquire {
    /// It is the caller's now.
    Acquired(Acquired),
    /// A living node delivers it.
    OwnedBy(Owner),
    /// It is deleted.
    Gone,
}

/// Changes of one subscription, written in one transaction with those of others.
#[derive(Debug)]
pub struct Flush {
    /// Whose.
    pub subscription: SubscriptionId,
    /// As [`Acquired`] gave it.
    pub epoch: u64,
    /// What changed, one entry per partition at most.
    pub changes: Vec<PartitionChange>,
}

/// What became of one entry of a flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushOutcome {
    /// Durable.
    Stored,
    /// Not written: another node owns the subscription now.
    Stale,
    /// Not written: the subscription is deleted.
    Gone,
    /// Not written: another transaction has its row locked. The same entry may be flushed again.
    Busy,
}

/// Owners and positions. A method that writes returns when the write is durable.
#[async_trait]
pub trait Positions: Send + Sync + 'static {
    /// The other node that delivers a subscription, if that node lives. Locks nothing.
    async fn owner(&self, subscription: SubscriptionId) -> Result<Option<Owner>, StoreError> {
        let _ = subscription;
        Ok(None)
    }
    /// Takes the delivery of a subscription over, unless a living node has it: raises its epoch, then reads its state.
    /// [`StoreError::Newer`], and the owner stays, where this process does not know a setting of the subscription.
    async fn acquire(&self, subscription: SubscriptionId) -> Result<Acquire, StoreError>;
    /// Gives a subscription up, so that any node may take it over; changes nothing if the epoch is not the current one.
    async fn release(&self, subscription: SubscriptionId, epoch: u64) -> Result<(), StoreError> {
        let _ = (subscription, epoch);
        Ok(())
    }
    /// Writes all entries in one transaction, each only under its current epoch. A stale entry fails alone.
    /// The outcomes are in the order of `flushes`.
    async fn flush(&self, flushes: &[Flush]) -> Result<Vec<FlushOutcome>, StoreError>;
    /// The stored state of a subscription but for its retained rows, without taking it over; nothing when it is gone.
    async fn positions(
        &self,
        subscription: SubscriptionId,
    ) -> Result<Vec<PartitionState>, StoreError>;
}
