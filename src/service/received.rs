//! A delivery in the form that clients get.

use super::ack_id::AckKey;
use crate::{
    engine::output::Delivery,
    resource::{
        id::{SubscriptionId, TopicIncarnation},
        message::{MessageIds, ReceivedMessage, ServerFields},
    },
    store::resources::SubscriptionRecord,
};

/// Makes received messages of one subscription's deliveries.
#[derive(Clone)]
pub struct Receipts {
    key: AckKey,
    subscription: SubscriptionId,
    topic: TopicIncarnation,
}

impl Receipts {
    pub(super) fn new(key: &AckKey, record: &SubscriptionRecord) -> Self {
        Self {
            key: key.clone(),
            subscription: record.id,
            topic: record.log.incarnation,
        }
    }

    /// The messages with their ids, publish times and ack ids.
    pub fn received(&self, deliveries: Vec<Delivery>) -> Vec<ReceivedMessage> {
        let Some(first) = deliveries.first() else {
            return Vec::new();
        };
        let mut partition = first.lease.partition;
        let mut ids = MessageIds::new(self.topic, partition);
        deliveries
            .into_iter()
            .map(|delivery| {
                let lease = delivery.lease;
                if lease.partition != partition {
                    partition = lease.partition;
                    ids = MessageIds::new(self.topic, partition);
                }
                ReceivedMessage {
                    ack_id: self.key.encode(self.subscription, lease),
                    server_fields: ServerFields::new(&ids, lease.offset, delivery.publish_time),
                    message: delivery.body,
                    delivery_attempt: i32::try_from(delivery.attempt).unwrap_or(i32::MAX),
                }
            })
            .collect()
    }
}
