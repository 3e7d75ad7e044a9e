//! What can go wrong with topics and subscriptions, one enum per kind of operation, each with the facts that its
//! text needs.

use thiserror::Error;

use crate::{delivery::DeliveryError, resource::violation::Violation, store::StoreError};

/// Why a resource was not created.
#[derive(Debug, Error)]
pub enum CreateError {
    /// The values contradict each other.
    #[error(transparent)]
    Violation(#[from] Violation),
    /// What it is to be attached to does not exist.
    #[error("{resource} does not exist")]
    ParentNotFound {
        /// The parent's id.
        resource: String,
    },
    /// The name is taken, whether or not by an equal resource.
    #[error("{resource} exists")]
    AlreadyExists {
        /// The resource's id.
        resource: String,
    },
    /// A store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why no topic was made for an existing log.
#[derive(Debug, Error)]
pub enum AttachError {
    /// Kafka has no such topic.
    #[error("Kafka has no topic {kafka_topic}")]
    NoSuchKafkaTopic {
        /// Its name.
        kafka_topic: String,
    },
    /// The topic could not be made.
    #[error(transparent)]
    Create(#[from] CreateError),
    /// A store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a topic was not detached.
#[derive(Debug, Error)]
pub enum DetachError {
    /// It has a log of its own, which would be deleted with it.
    #[error("{resource} was not attached, so it can only be deleted")]
    NotAttached {
        /// Its id.
        resource: String,
    },
    /// It could not be found or deleted.
    #[error(transparent)]
    Find(#[from] FindError),
}

/// Why a resource was not found, listed or deleted.
#[derive(Debug, Error)]
pub enum FindError {
    /// It does not exist.
    #[error("{resource} does not exist")]
    NotFound {
        /// Its id.
        resource: String,
    },
    /// A store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a resource was not changed.
#[derive(Debug, Error)]
pub enum UpdateError {
    /// The resource would contradict itself.
    #[error(transparent)]
    Violation(#[from] Violation),
    /// It does not exist.
    #[error("{resource} does not exist")]
    NotFound {
        /// Its id.
        resource: String,
    },
    /// Others changed it each time between our reading and our writing.
    #[error("{resource} is being changed by others; try again")]
    Contended {
        /// Its id.
        resource: String,
    },
    /// It was changed, and its delivery could not apply that now.
    #[error(transparent)]
    Delivery(DeliveryError),
    /// A store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a policy was not set.
#[derive(Debug, Error)]
pub enum SetPolicyError {
    /// Another client has set it since this one read it.
    #[error("the policy of {resource} was changed since it was read; read it again and repeat")]
    Replaced {
        /// The resource's id.
        resource: String,
    },
    /// The resource could not be changed.
    #[error(transparent)]
    Update(#[from] UpdateError),
    /// A store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
