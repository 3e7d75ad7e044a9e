//! A subscription that somebody consumes: how it is found, and how that can fail.

use std::sync::Arc;

use thiserror::Error;

use super::Service;
use crate::{
    delivery::EndCause,
    resource::{name::SubscriptionName, violation::Violation},
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
    /// Delivery ended or did not begin, for another cause.
    #[error(transparent)]
    Ended(EndCause),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ConsumeError {
    /// Delivery of this subscription ended for this cause.
    pub(super) fn ended(name: &SubscriptionName, cause: EndCause) -> Self {
        let resource = name.id().to_owned();
        match cause {
            EndCause::Deleted => Self::NotFound { resource },
            EndCause::Detached => Self::Detached { resource },
            cause => Self::Ended(cause),
        }
    }
}

impl Service {
    pub(super) fn consumed_name(name: &str) -> Result<SubscriptionName, Violation> {
        SubscriptionName::parse("name", name)
    }

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

    /// A subscription that messages may be had of.
    pub(super) async fn consumed(
        &self,
        name: &SubscriptionName,
    ) -> Result<Arc<SubscriptionRecord>, ConsumeError> {
        let record = self.found(name).await?;
        if record.subscription.detached {
            return Err(ConsumeError::Detached {
                resource: name.id().to_owned(),
            });
        }
        Ok(record)
    }
}
