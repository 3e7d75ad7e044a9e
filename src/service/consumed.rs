//! A subscription that a client consumes: how it is found, and how that can fail.

use std::sync::Arc;

use thiserror::Error;

use super::{Service, judged::AckFailure};
use crate::{
    delivery::{DeliveryError, EndCause},
    resource::{name::SubscriptionName, subscription::Subscription, violation::Violation},
    store::{StoreError, resources::SubscriptionRecord},
};

/// Why Pull, StreamingPull, Acknowledge or ModifyAckDeadline failed.
#[derive(Debug, Error)]
pub enum ConsumeError {
    /// A value breaks a rule.
    #[error(transparent)]
    Violation(#[from] Violation),
    /// There is no such subscription, or not any more.
    #[error("no subscription {resource}")]
    NotFound {
        /// Its id.
        resource: String,
    },
    /// The subscription is cut off from its topic for good.
    #[error("subscription {resource} is detached")]
    Detached {
        /// Its id.
        resource: String,
    },
    /// Some ids of the request had no effect, where delivery is exactly once. All others had theirs.
    #[error("{} ack ids failed", failed.len())]
    AckIds {
        /// Which, and why.
        failed: Vec<(String, AckFailure)>,
    },
    /// Delivery ended, or could not be had, for another cause.
    #[error(transparent)]
    Delivery(DeliveryError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ConsumeError {
    /// What an error of this subscription's delivery means to its consumer.
    pub(super) fn of_delivery(name: &SubscriptionName, error: DeliveryError) -> Self {
        let resource = name.id().to_owned();
        match error {
            DeliveryError::Ended(EndCause::Deleted) => Self::NotFound { resource },
            DeliveryError::Ended(EndCause::Detached) => Self::Detached { resource },
            error => Self::Delivery(error),
        }
    }
}

impl Service {
    /// The subscription that a request is about.
    pub(super) async fn found(
        &self,
        name: &SubscriptionName,
    ) -> Result<Arc<SubscriptionRecord>, ConsumeError> {
        self.resources
            .subscription(name)
            .await?
            .ok_or_else(|| ConsumeError::NotFound {
                resource: name.id().to_owned(),
            })
    }
}

/// Refuses a subscription that no messages may be had of any more.
pub(super) fn check_attached(record: &SubscriptionRecord) -> Result<(), ConsumeError> {
    let Subscription { name, detached, .. } = &record.subscription;
    if *detached {
        return Err(ConsumeError::Detached {
            resource: name.id().to_owned(),
        });
    }
    Ok(())
}
