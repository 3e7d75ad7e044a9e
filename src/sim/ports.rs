//! The state store as a node sees it: positions through its gate, with the owners that several nodes share.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{
    gate::{FLUSH, Gate},
    judge::Judge,
};
use crate::{
    clock::{Clock, Timestamp},
    resource::{id::SubscriptionId, name::SubscriptionName},
    store::{
        Membership, NodeLease, Positions, StoreError,
        log::{Offset, Partition},
        membership::Changes,
        memory::MemoryState,
        positions::{Acquire, Flush, FlushOutcome, Owner, PositionsRead, ReadFrom, Retained},
    },
};

/// Who lives, and who delivers what.
#[derive(Default)]
pub(super) struct Cluster {
    /// Until when the store takes each life of a node for living.
    until: BTreeMap<u64, Timestamp>,
    owners: BTreeMap<SubscriptionId, Owned>,
    /// Who had each subscription last, whether or not it was given up.
    last: BTreeMap<SubscriptionId, u64>,
}

#[derive(Clone, Copy)]
struct Owned {
    life: u64,
    epoch: u64,
}

impl Cluster {
    /// The node lives until then.
    pub(super) fn renew(&mut self, life: u64, until: Timestamp) {
        self.until.insert(life, until);
    }

    /// The node is known to be dead.
    pub(super) fn bury(&mut self, life: u64) {
        self.until.remove(&life);
    }

    /// The node owns nothing any more.
    pub(super) fn forget(&mut self, life: u64) {
        self.owners.retain(|_, owned| owned.life != life);
    }

    /// The other living node that delivers a subscription.
    fn other(&self, subscription: SubscriptionId, life: u64, now: Timestamp) -> Option<Owner> {
        let owned = self.owners.get(&subscription)?;
        let until = self.until.get(&owned.life).copied().unwrap_or_default();
        (owned.life != life && now < until).then(|| Owner {
            node: format!("node {}", owned.life),
            address: "nowhere".to_owned(),
        })
    }
}

/// Positions of all nodes, as this one sees them.
pub(super) struct NodePositions {
    pub(super) inner: Arc<MemoryState>,
    pub(super) cluster: Arc<Mutex<Cluster>>,
    pub(super) life: u64,
    pub(super) gate: Gate,
    pub(super) clock: Clock,
    pub(super) judge: Judge,
}

#[async_trait]
impl Positions for NodePositions {
    async fn owner(&self, subscription: SubscriptionId) -> Result<Option<Owner>, StoreError> {
        let owner = async {
            let cluster = self.cluster.lock();
            Ok(cluster.other(subscription, self.life, self.clock.now()))
        };
        self.gate.read("owner", owner).await
    }

    async fn acquire(&self, subscription: SubscriptionId) -> Result<Acquire, StoreError> {
        let acquire = async {
            let now = self.clock.now();
            let other = self.cluster.lock().other(subscription, self.life, now);
            if let Some(owner) = other {
                return Ok(Acquire::OwnedBy(owner));
            }
            let acquire = self.inner.acquire(subscription).await?;
            if let Acquire::Acquired(acquired) = &acquire {
                let owned = Owned {
                    life: self.life,
                    epoch: acquired.epoch,
                };
                let mut cluster = self.cluster.lock();
                cluster.owners.insert(subscription, owned);
                let before = cluster.last.insert(subscription, self.life);
                self.judge.acquired(subscription, before);
            }
            Ok(acquire)
        };
        self.gate.store("acquire", acquire).await
    }

    async fn owned(
        &self,
        subscriptions: &[SubscriptionId],
    ) -> Result<Vec<(SubscriptionId, u64)>, StoreError> {
        let owned = async {
            let cluster = self.cluster.lock();
            let owned = |id| {
                let owned = cluster.owners.get(id)?;
                (owned.life == self.life).then_some((*id, owned.epoch))
            };
            Ok(subscriptions.iter().filter_map(owned).collect())
        };
        self.gate.read("owned", owned).await
    }

    async fn release(&self, owned: &[(SubscriptionId, u64)]) -> Result<(), StoreError> {
        let release = async {
            let owners = &mut self.cluster.lock().owners;
            owners.retain(|id, current| !owned.contains(&(*id, current.epoch)));
            Ok(())
        };
        self.gate.store("release", release).await
    }

    async fn flush(&self, flushes: &[Flush]) -> Result<Vec<FlushOutcome>, StoreError> {
        self.gate.store(FLUSH, self.inner.flush(flushes)).await
    }

    async fn positions(
        &self,
        subscriptions: &[ReadFrom],
        partition: Partition,
        until: Offset,
        chunks_max: usize,
    ) -> Result<PositionsRead, StoreError> {
        let positions = self
            .inner
            .positions(subscriptions, partition, until, chunks_max);
        self.gate.read("positions", positions).await
    }

    async fn unattended(
        &self,
        after: Option<&SubscriptionName>,
        limit: usize,
    ) -> Result<Vec<SubscriptionName>, StoreError> {
        let unattended = self.inner.unattended(after, limit);
        self.gate.read("unattended", unattended).await
    }

    async fn retained(
        &self,
        subscriptions: &[SubscriptionId],
        partition: Partition,
        key: u64,
    ) -> Result<Vec<Retained>, StoreError> {
        let retained = self.inner.retained(subscriptions, partition, key);
        self.gate.read("retained", retained).await
    }
}

/// A node among others: whether it may speak, and that it has to start anew when it could not.
pub(super) struct NodeMembership {
    pub(super) lease: NodeLease,
    pub(super) lost: Arc<Notify>,
    pub(super) applied: Arc<Notify>,
}

#[async_trait]
impl Membership for NodeMembership {
    fn node_lease(&self) -> NodeLease {
        self.lease.clone()
    }

    async fn changes(&self) -> Result<Changes, StoreError> {
        self.lost.notified().await;
        Ok(Changes {
            everything: true,
            ..Changes::default()
        })
    }

    async fn applied(&self, _: u64) -> Result<(), StoreError> {
        self.applied.notify_one();
        Ok(())
    }
}
