//! Letters that were pulled and not acknowledged: their leases are extended until the end.

use std::{collections::BTreeSet, mem};

use tonic::{Status, transport::Channel};

use crate::{
    clock::{Clock, Timestamp},
    proto::google::pubsub::v1::{ModifyAckDeadlineRequest, subscriber_client::SubscriberClient},
};

/// How long leases are extended for.
const LEASE_SECONDS: i32 = 600;
/// After which they are extended again, milliseconds.
const EXTEND_AFTER_MILLIS: u64 = 240_000;
/// Ids in one request of at most 512 KiB.
const IDS_PER_REQUEST: usize = 2000;

/// See the module.
pub(super) struct Held {
    subscriber: SubscriberClient<Channel>,
    subscription: String,
    ids: BTreeSet<String>,
    clock: Clock,
    extended: Timestamp,
}

impl Held {
    pub(super) fn new(
        subscriber: SubscriberClient<Channel>,
        subscription: &str,
        clock: Clock,
    ) -> Self {
        Self {
            subscriber,
            subscription: subscription.to_owned(),
            ids: BTreeSet::new(),
            extended: clock.now(),
            clock,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    /// Holds letters that were pulled just now.
    pub(super) async fn add(&mut self, ids: Vec<String>) -> Result<(), Status> {
        self.modify(&ids, LEASE_SECONDS).await?;
        self.ids.extend(ids);
        Ok(())
    }

    /// These are acknowledged.
    pub(super) fn forget(&mut self, ids: &[String]) {
        for id in ids {
            self.ids.remove(id);
        }
    }

    /// Extends all leases, if it is time to.
    pub(super) async fn extend_if_due(&mut self) -> Result<(), Status> {
        let now = self.clock.now();
        if now.millis_since(self.extended) < EXTEND_AFTER_MILLIS {
            return Ok(());
        }
        self.extended = now;
        let ids: Vec<_> = self.ids.iter().cloned().collect();
        self.modify(&ids, LEASE_SECONDS).await
    }

    /// Lets anybody have what stays. Should this fail, they are available when their leases end.
    pub(super) async fn give_back(&mut self) {
        let ids: Vec<_> = mem::take(&mut self.ids).into_iter().collect();
        let _available_later = self.modify(&ids, 0).await;
    }

    async fn modify(&mut self, ids: &[String], ack_deadline_seconds: i32) -> Result<(), Status> {
        for ids in ids.chunks(IDS_PER_REQUEST) {
            let request = ModifyAckDeadlineRequest {
                subscription: self.subscription.clone(),
                ack_deadline_seconds,
                ack_ids: ids.to_vec(),
            };
            self.subscriber.modify_ack_deadline(request).await?;
        }
        Ok(())
    }
}
