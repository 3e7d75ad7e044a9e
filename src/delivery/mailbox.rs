//! What a subscription's consumers tell its driver without waiting: notices from destructors and polls.
//!
//! Bounded by what is outstanding: a delivery is returned once, a consumer leaves once and has room once per
//! full queue.

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{
    engine::input::{ConsumerId, LeaseId},
    store::NodeLease,
};

/// Notices since the driver last took them.
#[derive(Debug, Default)]
pub(super) struct Notices {
    /// Deliveries that never reached their consumer.
    pub(super) returned: Vec<LeaseId>,
    /// Streams whose full queue has room again.
    pub(super) roomy: Vec<ConsumerId>,
    /// Consumers that are gone.
    pub(super) closed: Vec<ConsumerId>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Mailbox {
    notices: Mutex<Notices>,
    bell: Notify,
    /// Without it nothing more reaches a consumer: another node may deliver the same by now.
    pub(super) node_lease: NodeLease,
}

impl Mailbox {
    pub(super) fn new(node_lease: NodeLease) -> Self {
        Self {
            notices: Mutex::default(),
            bell: Notify::new(),
            node_lease,
        }
    }

    pub(super) fn put(&self, add: impl FnOnce(&mut Notices)) {
        add(&mut self.notices.lock());
        self.bell.notify_one();
    }

    pub(super) fn take(&self) -> Notices {
        std::mem::take(&mut self.notices.lock())
    }

    /// Returns when something was put in since the last call. Safe to cancel.
    pub(super) async fn rung(&self) {
        self.bell.notified().await;
    }
}
