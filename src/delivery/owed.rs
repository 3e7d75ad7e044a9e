//! Subscriptions that this node may own and does not deliver. Clients would wait for it while it lives, so they are
//! given up as soon as the store answers.

use std::{collections::BTreeMap, mem, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{sync::Notify, time::sleep};

use super::node::Node;
use crate::{limits::STORE_RETRY_MILLIS, resource::id::SubscriptionId, store::StoreError};

/// Under which epoch a subscription was taken over.
pub(super) type Epoch = Option<u64>;

/// See the module. At most one entry for each subscription that was in use here.
#[derive(Debug, Default)]
pub(super) struct Owed {
    subscriptions: Mutex<BTreeMap<SubscriptionId, Epoch>>,
    added: Notify,
}

impl Owed {
    /// Has it given up. `None`: whether it was taken over, and under which epoch, is not known.
    pub(super) fn add(&self, subscription: SubscriptionId, epoch: Epoch) {
        self.put(subscription, epoch);
        self.added.notify_one();
    }

    fn put(&self, subscription: SubscriptionId, epoch: Epoch) {
        let mut subscriptions = self.subscriptions.lock();
        let owed = subscriptions.entry(subscription).or_insert(epoch);
        // The later epoch is the one that can be current; what is not known has to be asked for.
        *owed = owed.zip(epoch).map(|(one, other)| one.max(other));
    }

    fn take(&self) -> BTreeMap<SubscriptionId, Epoch> {
        mem::take(&mut *self.subscriptions.lock())
    }
}

/// Gives up what is owed, until the server stops: then this node gives up everything at once.
pub(super) async fn give_up(node: Arc<Node>) {
    let given_up = async {
        let mut failing = false;
        loop {
            if !failing {
                node.owed.added.notified().await;
            }
            let owed = node.owed.take();
            let result = release(&node, &owed).await;
            if let Err(error) = &result {
                if !failing {
                    let subscriptions = owed.len();
                    tracing::warn!(%error, subscriptions, "subscriptions were not given up; trying again");
                }
                for (subscription, epoch) in owed {
                    node.owed.put(subscription, epoch);
                }
                sleep(Duration::from_millis(STORE_RETRY_MILLIS)).await;
            }
            failing = result.is_err();
        }
    };
    tokio::select! {
        biased;
        () = node.stopping.cancelled() => {}
        () = given_up => {}
    }
}

async fn release(node: &Node, owed: &BTreeMap<SubscriptionId, Epoch>) -> Result<(), StoreError> {
    let positions = &node.store.positions;
    let unknown: Vec<_> = owed
        .iter()
        .filter_map(|(id, epoch)| epoch.is_none().then_some(*id))
        .collect();
    let mut known: Vec<_> = owed
        .iter()
        .filter_map(|(id, epoch)| Some((*id, (*epoch)?)))
        .collect();
    if !unknown.is_empty() {
        let found = positions.owned(&unknown).await?;
        // One that was started since has its own epoch, or will have: a later one than was found.
        let unused = found
            .into_iter()
            .filter(|(id, _)| !node.registry.is_running(*id));
        known.extend(unused);
    }
    if known.is_empty() {
        return Ok(());
    }
    positions.release(&known).await
}
