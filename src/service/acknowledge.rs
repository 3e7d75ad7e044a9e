//! Acknowledge and ModifyAckDeadline (docs/behaviour.md, section 8).

use super::{
    ConsumeError, EndCause, Service,
    judged::{Ids, check_none_failed},
};
use crate::{
    delivery::DeliveryError,
    engine::{input::LeaseId, output::Verdict},
    limits::ACK_IDS_AT_ONCE_MAX,
    resource::{
        id::SubscriptionId, name::SubscriptionName, subscription::lease_millis,
        violation::Violation,
    },
    store::resources::SubscriptionRecord,
};

impl Service {
    /// Acknowledges; returns when that is durable. One ack id that is not ours refuses all, unless delivery is exactly
    /// once.
    pub async fn acknowledge(
        &self,
        name: &SubscriptionName,
        ack_ids: Vec<String>,
    ) -> Result<(), ConsumeError> {
        let record = self.found(name).await?;
        if record.subscription.exactly_once {
            let Some((ids, leases)) = self.each(&record, ack_ids).await? else {
                return Ok(());
            };
            let done = self.delivery.acknowledge(&record, leases).await;
            return judged(&record, ids, done);
        }
        let Some(leases) = self.leases(&record, &ack_ids).await? else {
            return Ok(());
        };
        let done = self.delivery.acknowledge(&record, once(leases)).await;
        settled(&record, done)
    }

    /// Moves the deadline of these deliveries to now plus `seconds`, at most 600; 0 gives them back.
    pub async fn modify_ack_deadline(
        &self,
        name: &SubscriptionName,
        ack_ids: Vec<String>,
        seconds: i32,
    ) -> Result<(), ConsumeError> {
        let record = self.found(name).await?;
        let millis = lease_millis(seconds)?;
        if record.subscription.exactly_once {
            let Some((ids, leases)) = self.each(&record, ack_ids).await? else {
                return Ok(());
            };
            let changes = leases.into_iter().map(|lease| (lease, millis)).collect();
            let done = self.delivery.modify_deadlines(&record, changes).await;
            return judged(&record, ids, done);
        }
        let Some(leases) = self.leases(&record, &ack_ids).await? else {
            return Ok(());
        };
        let changes = once(leases).into_iter().map(|lease| (lease, millis));
        let changes = changes.collect();
        let done = self.delivery.modify_deadlines(&record, changes).await;
        settled(&record, done)
    }

    /// The deliveries of the subscription that a unary request is about; `None` when there is nothing to do.
    async fn leases(
        &self,
        record: &SubscriptionRecord,
        ack_ids: &[String],
    ) -> Result<Option<Vec<LeaseId>>, Violation> {
        if ack_ids.is_empty() {
            return Err(Violation::NoAckIds);
        }
        let decoded = self.decode(ack_ids).await;
        if let Some(at) = decoded.iter().position(Option::is_none) {
            return Err(Violation::AckId {
                ack_id: ack_ids[at].clone(),
            });
        }
        let leases = decoded
            .into_iter()
            .filter_map(|decoded| own(record, decoded));
        let leases: Vec<_> = leases.collect();
        Ok((!leases.is_empty() && !record.subscription.detached).then_some(leases))
    }

    /// The ids of a unary request, and the deliveries of those that are ours; `None` when there is nothing to do.
    async fn each(
        &self,
        record: &SubscriptionRecord,
        ack_ids: Vec<String>,
    ) -> Result<Option<(Ids, Vec<LeaseId>)>, Violation> {
        if ack_ids.is_empty() {
            return Err(Violation::NoAckIds);
        }
        let each = self.ids(record, ack_ids).await;
        Ok((!record.subscription.detached).then_some(each))
    }

    /// The ids of a request where delivery is exactly once, and the deliveries of those that are ours.
    pub(super) async fn ids(
        &self,
        record: &SubscriptionRecord,
        ack_ids: Vec<String>,
    ) -> (Ids, Vec<LeaseId>) {
        let leases = self.known_leases(record, &ack_ids).await;
        let leases: Vec<_> = leases.collect();
        let ids = Ids::new(ack_ids, &leases);
        (ids, leases.into_iter().flatten().collect())
    }

    /// What ack ids stand for; nothing for those that are not ours. Others have their turn between many of them.
    async fn decode(&self, ack_ids: &[String]) -> Vec<Option<(SubscriptionId, LeaseId)>> {
        let mut decoded = Vec::with_capacity(ack_ids.len());
        for (turn, some) in ack_ids.chunks(ACK_IDS_AT_ONCE_MAX).enumerate() {
            if turn > 0 {
                tokio::task::yield_now().await;
            }
            decoded.extend(some.iter().map(|ack_id| self.ack_key.decode(ack_id)));
        }
        decoded
    }

    /// Deliveries that a stream's request is about. What is not ours is ignored there, as the public service does.
    pub(super) async fn known_leases(
        &self,
        record: &SubscriptionRecord,
        ack_ids: &[String],
    ) -> impl Iterator<Item = Option<LeaseId>> {
        let decoded = self.decode(ack_ids).await;
        decoded.into_iter().map(|decoded| own(record, decoded))
    }
}

/// Many leases without repetitions, which cost the engine as much as others; a few as they are.
pub(super) fn once(mut leases: Vec<LeaseId>) -> Vec<LeaseId> {
    if leases.len() > ACK_IDS_AT_ONCE_MAX {
        leases.sort_unstable();
        leases.dedup();
    }
    leases
}

/// The same of changed deadlines. Of several changes of one lease the last counts, unless one before it gives the lease
/// back.
pub(super) fn changed_once(mut changes: Vec<(LeaseId, u64)>) -> Vec<(LeaseId, u64)> {
    if changes.len() > ACK_IDS_AT_ONCE_MAX {
        changes.sort_by_key(|(lease, _)| *lease);
        changes.dedup_by(|(later, later_millis), (lease, millis)| {
            if *millis != 0 && later == lease {
                *millis = *later_millis;
            }
            later == lease
        });
    }
    changes
}

/// A detached subscription has nothing left to acknowledge; that is no error, also when it was detached meanwhile.
fn settled(
    record: &SubscriptionRecord,
    done: Result<Vec<Verdict>, DeliveryError>,
) -> Result<(), ConsumeError> {
    match done.and_then(|verdicts| check_none_failed(&verdicts)) {
        Ok(()) | Err(DeliveryError::Ended(EndCause::Detached)) => Ok(()),
        Err(error) => Err(ConsumeError::of_delivery(&record.subscription.name, error)),
    }
}

/// The same where delivery is exactly once: ids that failed are an error, and the others had their effect.
fn judged(
    record: &SubscriptionRecord,
    ids: Ids,
    done: Result<Vec<Verdict>, DeliveryError>,
) -> Result<(), ConsumeError> {
    let Ok(verdicts) = done else {
        return settled(record, done);
    };
    let failed = ids.judged(verdicts).failed;
    if failed.is_empty() {
        Ok(())
    } else {
        Err(ConsumeError::AckIds { failed })
    }
}

/// An id of another subscription, or of another life of this one, has no effect.
fn own(record: &SubscriptionRecord, decoded: Option<(SubscriptionId, LeaseId)>) -> Option<LeaseId> {
    let (_, lease) = decoded.filter(|(subscription, _)| *subscription == record.id)?;
    Some(lease)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::input::Issue;

    fn lease(offset: u64) -> LeaseId {
        LeaseId {
            generation: 1,
            partition: 0,
            offset,
            number: 1,
            issue: Issue::default(),
        }
    }

    #[test]
    fn many_leases_are_each_there_once() {
        let repeated: Vec<_> = (0..10).cycle().take(ACK_IDS_AT_ONCE_MAX + 1).collect();
        let repeated = repeated.into_iter().map(lease).collect();
        assert_eq!(once(repeated), (0..10).map(lease).collect::<Vec<_>>());
        assert_eq!(once(vec![lease(1), lease(1)]), [lease(1), lease(1)]);
    }

    /// As the engine would have it one after the other.
    #[test]
    fn what_holds_of_many_changes_of_a_lease_is_what_would_hold_after_all_of_them() {
        for (changes, holds) in [
            (&[10, 20][..], 20),
            (&[20, 10], 10),
            (&[10, 0], 0),
            (&[0, 10], 0),
            (&[10, 0, 20], 0),
        ] {
            let others = (1..).map(|offset| (lease(offset), 5));
            let others: Vec<_> = others.take(ACK_IDS_AT_ONCE_MAX).collect();
            let mut all = others.clone();
            for (at, millis) in changes.iter().enumerate() {
                all.insert(at * 100, (lease(0), *millis));
            }
            let expected = [vec![(lease(0), holds)], others].concat();
            assert_eq!(changed_once(all), expected);
        }
    }
}
