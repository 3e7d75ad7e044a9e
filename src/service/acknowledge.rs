//! Acknowledge and ModifyAckDeadline (docs/behaviour.md, section 8).

use super::{ConsumeError, EndCause, Service};
use crate::{
    delivery::DeliveryError,
    engine::input::LeaseId,
    resource::{
        id::SubscriptionId, name::SubscriptionName, subscription::lease_millis,
        violation::Violation,
    },
    store::resources::SubscriptionRecord,
};

impl Service {
    /// Acknowledges; returns when that is durable. One ack id that is not ours refuses all.
    pub async fn acknowledge(
        &self,
        name: &SubscriptionName,
        ack_ids: &[String],
    ) -> Result<(), ConsumeError> {
        let record = self.found(name).await?;
        let Some(leases) = self.leases(&record, ack_ids)? else {
            return Ok(());
        };
        let done = self.delivery.acknowledge(&record, leases).await;
        settled(&record, done)
    }

    /// Moves the deadline of these deliveries to now plus `seconds`, at most 600; 0 gives them back.
    pub async fn modify_ack_deadline(
        &self,
        name: &SubscriptionName,
        ack_ids: &[String],
        seconds: i32,
    ) -> Result<(), ConsumeError> {
        let record = self.found(name).await?;
        let millis = lease_millis(seconds)?;
        let Some(leases) = self.leases(&record, ack_ids)? else {
            return Ok(());
        };
        let changes = leases.into_iter().map(|lease| (lease, millis)).collect();
        let done = self.delivery.modify_deadlines(&record, changes).await;
        settled(&record, done)
    }

    /// The deliveries of the subscription that a unary request is about; `None` when there is nothing to do.
    fn leases(
        &self,
        record: &SubscriptionRecord,
        ack_ids: &[String],
    ) -> Result<Option<Vec<LeaseId>>, Violation> {
        if ack_ids.is_empty() {
            return Err(Violation::NoAckIds);
        }
        let leases = ack_ids
            .iter()
            .map(|ack_id| self.decode(ack_id))
            .collect::<Result<Vec<_>, _>>()?;
        let leases = own(record, leases);
        Ok((!leases.is_empty() && !record.subscription.detached).then_some(leases))
    }

    fn decode(&self, ack_id: &str) -> Result<(SubscriptionId, LeaseId), Violation> {
        self.ack_key.decode(ack_id).ok_or_else(|| Violation::AckId {
            ack_id: ack_id.to_owned(),
        })
    }

    /// Deliveries that a stream's request is about. What is not ours is ignored there, as the public service does.
    pub(super) fn known_leases<'a>(
        &self,
        record: &SubscriptionRecord,
        ack_ids: impl IntoIterator<Item = &'a String>,
    ) -> Vec<Option<LeaseId>> {
        ack_ids
            .into_iter()
            .map(|ack_id| {
                self.ack_key
                    .decode(ack_id)
                    .filter(|(subscription, _)| *subscription == record.id)
                    .map(|(_, lease)| lease)
            })
            .collect()
    }
}

/// A detached subscription has nothing left to acknowledge; that is no error, also when it was detached meanwhile.
fn settled(
    record: &SubscriptionRecord,
    done: Result<(), DeliveryError>,
) -> Result<(), ConsumeError> {
    match done {
        Ok(()) | Err(DeliveryError::Ended(EndCause::Detached)) => Ok(()),
        Err(error) => Err(ConsumeError::of_delivery(&record.subscription.name, error)),
    }
}

/// An id of another subscription, or of another life of this one, has no effect.
fn own(record: &SubscriptionRecord, leases: Vec<(SubscriptionId, LeaseId)>) -> Vec<LeaseId> {
    leases
        .into_iter()
        .filter(|(subscription, _)| *subscription == record.id)
        .map(|(_, lease)| lease)
        .collect()
}
