//! The one way from the wire to the service: past whoever decides what a caller may do.

use std::{fmt, sync::Arc};

use thiserror::Error;

use super::{Health, Lease, Service};
use crate::auth::permission::{Permission, Rpc};

/// The caller may not do this.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("User not authorized to perform this action.")]
pub struct Denied {
    /// What the caller would need.
    pub permission: Permission,
    /// On what.
    pub on: String,
}

/// Who decides.
#[derive(Clone, Copy, Debug)]
enum Access {
    /// Everybody may do everything.
    Open,
    /// Nobody may do anything.
    #[cfg(test)]
    Closed,
}

/// The service, for those who ask first. Cheap to clone.
#[derive(Clone)]
pub struct Guarded {
    service: Arc<Service>,
    access: Access,
}

impl Guarded {
    /// A service that everybody may use.
    pub const fn open(service: Arc<Service>) -> Self {
        Self {
            service,
            access: Access::Open,
        }
    }

    /// A service that nobody may use.
    #[cfg(test)]
    pub(crate) const fn closed(service: Arc<Service>) -> Self {
        Self {
            service,
            access: Access::Closed,
        }
    }

    /// The service, if the caller may call `rpc`; `on` are the names that the request gives, one for each need.
    pub fn permit(&self, rpc: &Rpc, on: &[&str]) -> Result<&Arc<Service>, Denied> {
        debug_assert_eq!(rpc.needs.len(), on.len(), "{}", rpc.name);
        match self.access {
            Access::Open => Ok(&self.service),
            #[cfg(test)]
            Access::Closed => rpc
                .needs
                .iter()
                .zip(on)
                .try_fold(&self.service, |_, (need, on)| {
                    Err(Denied {
                        permission: need.0,
                        on: (*on).to_owned(),
                    })
                }),
        }
    }
}

/// What nobody needs a permission for.
impl Guarded {
    /// Whether this node may answer for the cluster.
    pub fn lease(&self) -> Lease {
        self.service.lease()
    }

    /// Whether this node and its backends answer.
    pub async fn health(&self) -> Health {
        self.service.health().await
    }
}

impl fmt::Debug for Guarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guarded")
            .field("access", &self.access)
            .finish_non_exhaustive()
    }
}
