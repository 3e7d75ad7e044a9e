//! Why a delivery ended, and why one could not be had.

use thiserror::Error;

use crate::store::{StoreError, positions::Owner};

/// Why deliveries of a subscription ended.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EndCause {
    /// The subscription was deleted.
    #[error("the subscription was deleted")]
    Deleted,
    /// The subscription was detached from its topic.
    #[error("the subscription is detached from its topic")]
    Detached,
    /// The server stops.
    #[error("the server is stopping; try again")]
    Stopping,
    /// Another node delivers the subscription now.
    #[error("another server took the subscription over; try again")]
    TakenOver,
    /// The store does not answer; the text is its error's.
    #[error("{0}; try again")]
    Unavailable(String),
    /// The topic's log was cut, made again, or lost sight of: what is known is compared with it at the next start.
    #[error("the log of the subscription's topic has changed; try again")]
    LogChanged,
    /// The topic's log is gone although the topic is not. The text says what to do.
    #[error("{0}")]
    LogGone(String),
    /// What is stored cannot be read.
    #[error("stored data is damaged: {0}")]
    Damaged(String),
}

impl EndCause {
    /// This node may not answer for its subscriptions.
    pub(super) fn lease_lost() -> Self {
        Self::Unavailable("this server cannot reach the state store".to_owned())
    }
}

/// Why a request could not be carried out by the subscription's driver.
#[derive(Clone, Debug, Error)]
pub enum DeliveryError {
    /// The delivery ended before the answer, or there is none to be had any more.
    #[error(transparent)]
    Ended(#[from] EndCause),
    /// A living node delivers the subscription.
    #[error(
        "the subscription is delivered by {0}; try again there, or when that server has given it up"
    )]
    OwnedBy(Owner),
    /// Too many consumers at once.
    #[error("the subscription has {0} consumers, which is the limit")]
    TooManyConsumers(usize),
    /// A store failed.
    #[error("{}", store_failed(.0))]
    Store(#[from] StoreError),
}

fn store_failed(error: &StoreError) -> String {
    match error {
        // Repeating does not help.
        StoreError::Damaged(_) => error.to_string(),
        error => format!("{error}; try again"),
    }
}
