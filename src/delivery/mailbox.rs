//! What a subscription's consumers tell its driver without waiting: notices from destructors and polls. And what they
//! have to know of it before they send something.
//!
//! Bounded by what is outstanding: a delivery is returned once, a consumer leaves once and has room once per full queue,
//! or per frame that its connection has sent.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, Ordering},
};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::error::EndCause;
use crate::{
    clock::{Clock, Timestamp},
    engine::input::{ConsumerId, LeaseId},
    store::NodeLease,
};

/// Notices since the driver last took them.
#[derive(Debug, Default)]
pub(super) struct Notices {
    /// Deliveries that never reached their consumer.
    pub(super) returned: Vec<LeaseId>,
    /// Streams that have room again.
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
    node_lease: NodeLease,
    clock: Clock,
    /// Why the subscription is not delivered here any more.
    ended: OnceLock<EndCause>,
    is_exactly_once: Arc<AtomicBool>,
}

/// Whether a subscription's delivery is exactly once by now. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ExactlyOnce(Arc<AtomicBool>);

impl ExactlyOnce {
    /// Whether it is.
    pub fn is_on(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

impl Mailbox {
    pub(super) fn new(node_lease: NodeLease, clock: Clock) -> Self {
        Self {
            notices: Mutex::default(),
            bell: Notify::new(),
            node_lease,
            clock,
            ended: OnceLock::new(),
            is_exactly_once: Arc::default(),
        }
    }

    /// Delivery is exactly once from now on, or not any more.
    pub(super) fn set_exactly_once(&self, is_on: bool) {
        self.is_exactly_once.store(is_on, Ordering::Release);
    }

    /// Whether delivery is exactly once, now and later.
    pub(super) fn exactly_once(&self) -> ExactlyOnce {
        ExactlyOnce(Arc::clone(&self.is_exactly_once))
    }

    /// The subscription is not delivered here any more: what was leased may be leased again elsewhere, or not exist.
    pub(super) fn end(&self, cause: EndCause) {
        // The first cause is the one that counts.
        let _ = self.ended.set(cause);
    }

    /// Why nothing may be sent any more, if that is so.
    pub(super) fn over(&self) -> Option<EndCause> {
        if let Some(cause) = self.ended.get() {
            return Some(cause.clone());
        }
        (!self.node_lease.holds()).then(EndCause::lease_lost)
    }

    /// Whether this time has passed.
    pub(super) fn is_past(&self, time: Timestamp) -> bool {
        time <= self.clock.now()
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
