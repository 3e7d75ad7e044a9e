//! What forwards of all subscriptions of a node share: how many there are at a time, and what was published and may not be
//! acknowledged durably yet.

use std::collections::{BTreeSet, VecDeque};

use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::{
    limits::{FORWARD_BATCHES_MAX, FORWARDED_MAX},
    resource::id::SubscriptionId,
};

/// A message whose publication was answered, and that may not be acknowledged durably yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Forwarded {
    pub(super) subscription: SubscriptionId,
    pub(super) partition: u32,
    pub(super) generation: u32,
    pub(super) offset: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Forwarding {
    /// One permit for each batch.
    pub(super) batches: Semaphore,
    forwarded: Mutex<Recent>,
}

/// What was forwarded, the oldest first. Those are forgotten when there are too many: a driver that ends before they are
/// acknowledged durably, and starts again, publishes them twice.
#[derive(Debug, Default)]
struct Recent {
    known: BTreeSet<Forwarded>,
    order: VecDeque<Forwarded>,
}

impl Default for Forwarding {
    fn default() -> Self {
        Self {
            batches: Semaphore::new(FORWARD_BATCHES_MAX),
            forwarded: Mutex::default(),
        }
    }
}

impl Forwarding {
    /// Whether it was published.
    pub(super) fn knows(&self, forwarded: &Forwarded) -> bool {
        self.forwarded.lock().known.contains(forwarded)
    }

    /// These are published.
    pub(super) fn add(&self, forwarded: impl Iterator<Item = Forwarded>) {
        let mut recent = self.forwarded.lock();
        forwarded.for_each(|it| recent.add(it));
    }

    /// These are acknowledged durably.
    pub(super) fn forget(&self, forwarded: &[Forwarded]) {
        if !forwarded.is_empty() {
            let mut recent = self.forwarded.lock();
            for forwarded in forwarded {
                recent.known.remove(forwarded);
            }
            let Recent { known, order } = &mut *recent;
            if order.len() > 2 * known.len() {
                order.retain(|it| known.contains(it));
            }
        }
    }
}

impl Recent {
    fn add(&mut self, forwarded: Forwarded) {
        if self.known.insert(forwarded) {
            self.order.push_back(forwarded);
        }
        if self.order.len() > FORWARDED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}
