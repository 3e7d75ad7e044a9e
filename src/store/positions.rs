//! The port to the delivery state of subscriptions: who delivers them, and how far they are.

use std::{collections::BTreeMap, fmt};

use async_trait::async_trait;

use super::{
    StoreError,
    log::{Offset, Partition},
};
use crate::{
    engine::change::{PartitionChange, PartitionState, RetainedRow},
    limits::CHUNK_OFFSETS,
    resource::{
        id::{SubscriptionId, TopicIncarnation},
        name::SubscriptionName,
    },
};

/// A subscription's delivery state, taken over by the caller.
#[derive(Debug)]
pub struct Acquired {
    /// Flushes carry it; an older one is refused.
    pub epoch: u64,
    /// One entry per partition that the subscription has a position in.
    pub partitions: Vec<PartitionState>,
}

/// How far the subscriptions of a topic have come in one partition, for an examination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Furthest {
    /// The topic.
    pub topic: TopicIncarnation,
    /// The partition.
    pub partition: Partition,
    /// The highest cursor of its subscriptions that are not detached.
    pub cursor: Offset,
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

/// A subscription, and where the part of its state begins that is asked for.
#[derive(Clone, Copy, Debug)]
pub struct ReadFrom {
    /// Which one.
    pub subscription: SubscriptionId,
    /// Chunks that say nothing of this offset or of one above it are left out.
    pub offset: Offset,
}

/// What one read of positions found.
#[derive(Debug, PartialEq, Eq)]
pub struct PositionsRead {
    /// All chunks that say anything of the offsets below were read.
    pub complete_to: Offset,
    /// Of the subscriptions that have a position in the partition.
    pub states: BTreeMap<SubscriptionId, PartitionState>,
}

/// A retained row of a subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retained {
    /// Whose.
    pub subscription: SubscriptionId,
    /// The generation that its state in the partition has.
    pub generation: u32,
    /// The row.
    pub row: RetainedRow,
}

impl PositionsRead {
    /// Up to which chunk, exclusive, a read goes that may not go to `limit` or above, and up to which offset it is
    /// complete then.
    pub(super) fn end(until: Offset, limit: Option<u64>) -> (u64, Offset) {
        let chunks = until.div_ceil(CHUNK_OFFSETS);
        let end = limit.map_or(chunks, |limit| limit.min(chunks));
        (end, end.saturating_mul(CHUNK_OFFSETS))
    }
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
    /// Which of these subscriptions this node owns, and under which epochs, once a take-over that is still on its way
    /// has come to its end.
    async fn owned(
        &self,
        subscriptions: &[SubscriptionId],
    ) -> Result<Vec<(SubscriptionId, u64)>, StoreError> {
        let _ = subscriptions;
        Ok(Vec::new())
    }
    /// Subscriptions with a dead letter policy and with messages that were delivered and may not be done, which no living
    /// node delivers; in order of name, behind `after`, at most `limit`. Some may be among them that have no such policy.
    async fn unattended(
        &self,
        after: Option<&SubscriptionName>,
        limit: usize,
    ) -> Result<Vec<SubscriptionName>, StoreError>;
    /// Gives subscriptions up, so that any node may take them over; leaves each of which the epoch is not the current
    /// one.
    async fn release(&self, owned: &[(SubscriptionId, u64)]) -> Result<(), StoreError> {
        let _ = owned;
        Ok(())
    }
    /// Writes all entries in one transaction, each only under its current epoch. A stale entry fails alone.
    /// The outcomes are in the order of `flushes`.
    async fn flush(&self, flushes: &[Flush]) -> Result<Vec<FlushOutcome>, StoreError>;
    /// What is stored of these subscriptions (each at most once) in one partition but for retained rows, without taking
    /// them over. Chunks are read below `until` only (0: none), and about `chunks_max` of each subscription at most, but
    /// always enough to be complete to a higher offset than the lowest that was asked for.
    async fn positions(
        &self,
        subscriptions: &[ReadFrom],
        partition: Partition,
        until: Offset,
        chunks_max: usize,
    ) -> Result<PositionsRead, StoreError>;
    /// The rows with this key that these subscriptions (each at most once) retain in one partition, in any order. Those
    /// of voided generations are left out.
    async fn retained(
        &self,
        subscriptions: &[SubscriptionId],
        partition: Partition,
        key: u64,
    ) -> Result<Vec<Retained>, StoreError>;
}
