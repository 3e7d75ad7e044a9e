//! A state store as a whole: its ports together, and what is of none of them.

use std::{hash::Hasher as _, sync::Arc, time::Duration};

use async_trait::async_trait;
use siphasher::sip128::{Hasher128 as _, SipHasher24};

use super::{Membership, Positions, Records, Resources, StoreError};

/// What is of a state store as a whole.
#[async_trait]
pub trait StateBackend: Send + Sync + 'static {
    /// Name of the backend in health checks.
    fn backend(&self) -> &'static str;

    /// Asks the backend for a sign of life, which it has to give within `patience`. Else says what is wrong.
    async fn check(&self, patience: Duration) -> Result<(), StoreError>;

    /// Why nothing can be created or updated although the backend answers, if that is so.
    fn shortage(&self) -> Option<String> {
        None
    }

    /// The secret under which ack ids are authenticated, made once per store.
    fn ack_key(&self) -> [u8; 16];

    /// Names the store for ever, and tells nothing of its secret.
    fn store_id(&self) -> String {
        let mut hasher = SipHasher24::new_with_key(&self.ack_key());
        hasher.write(b"the id of a store");
        format!("{:032x}", hasher.finish128().as_u128())
    }

    /// Answers when everything accepted is durable and files are closed. Later calls fail.
    async fn close(&self);
}

/// The ports of a state store. Cheap to clone.
#[derive(Clone)]
pub struct StateStore {
    /// Topics and subscriptions.
    pub resources: Arc<dyn Resources>,
    /// Documents of other kinds.
    pub records: Arc<dyn Records>,
    /// Owners and positions.
    pub positions: Arc<dyn Positions>,
    /// The nodes that share the store.
    pub membership: Arc<dyn Membership>,
    /// What is of the store as a whole.
    pub backend: Arc<dyn StateBackend>,
}

impl StateStore {
    /// The ports of a backend that implements all of them.
    pub fn new<B>(backend: Arc<B>) -> Self
    where
        B: Resources + Records + Positions + Membership + StateBackend,
    {
        Self {
            resources: backend.clone(),
            records: backend.clone(),
            positions: backend.clone(),
            membership: backend.clone(),
            backend,
        }
    }
}
