//! The one way from the wire to the service: past the decision on what a caller may do.

use std::{fmt, sync::Arc};

#[cfg(test)]
use parking_lot::Mutex;
use thiserror::Error;

use super::{Health, NodeLease, Service, StoreError};
use crate::{
    auth::{caller::Caller, permission::Permission},
    resource::name::{SubscriptionName, TopicName},
    rpc::Needs,
};

/// The caller may not do this.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("User not authorized to perform this action.")]
pub struct Denied {
    /// What the caller would need.
    pub permission: Permission,
    /// On what.
    pub on: String,
}

/// Why it could not be permitted what is about a subscription's topic.
#[derive(Clone, Debug, Error)]
pub enum PermitError {
    /// The caller may not do this.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// It is not known which topic that is.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Who decides.
#[derive(Clone, Debug)]
enum Access {
    /// Everybody may do everything.
    Open,
    /// Nobody may do anything.
    #[cfg(test)]
    Closed(Arc<Mutex<Vec<Asked>>>),
}

/// A permission that was asked for.
#[cfg(test)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) caller: Caller,
    pub(crate) permission: &'static str,
    pub(crate) on: String,
}

impl Access {
    /// The first of the permissions, each on what has this full name, that `caller` does not have.
    #[expect(clippy::unused_async, reason = "deciding will take reading policies")]
    async fn missing<'a>(
        &self,
        caller: &Caller,
        needed: &[(Permission, &'a str)],
    ) -> Option<(Permission, &'a str)> {
        match (self, caller, needed) {
            (Self::Open, Caller::Anonymous, _) => None,
            #[cfg(test)]
            (Self::Closed(asked), ..) => {
                let needed = needed.iter();
                let all = needed.clone().map(|(permission, on)| Asked {
                    caller: caller.clone(),
                    permission: permission.name(),
                    on: (*on).to_owned(),
                });
                asked.lock().extend(all);
                needed.copied().next()
            }
        }
    }
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

    /// The service, if `caller` may call the RPC that has these needs; `names` are those that the request gives, one
    /// for each need.
    pub async fn permit<const N: usize>(
        &self,
        caller: &Caller,
        needs: &Needs<N>,
        names: [&str; N],
    ) -> Result<&Arc<Service>, Denied> {
        match self.access.missing(caller, &needs.on(names)).await {
            None => Ok(&self.service),
            Some((permission, on)) => {
                let on = on.to_owned();
                Err(Denied { permission, on })
            }
        }
    }

    /// The same for an RPC that needs a permission on the topic of the subscription that it names, as the request does
    /// not say which that is. One that does not exist, or whose topic does not any more, is asked about itself.
    pub async fn permit_on_topic_of(
        &self,
        caller: &Caller,
        needs: &Needs<1>,
        subscription: &SubscriptionName,
    ) -> Result<&Arc<Service>, PermitError> {
        let found = self.service.resources.subscription(subscription).await?;
        let topic = found
            .as_ref()
            .and_then(|record| record.subscription.topic.as_ref());
        let on = topic.map_or(subscription.as_str(), TopicName::as_str);
        Ok(self.permit(caller, needs, [on]).await?)
    }
}

#[cfg(test)]
impl Guarded {
    /// A service that nobody may use.
    pub(crate) fn closed(service: Arc<Service>) -> Self {
        Self {
            service,
            access: Access::Closed(Arc::default()),
        }
    }

    /// What was asked for since the last time, in order.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        match &self.access {
            Access::Open => Vec::new(),
            Access::Closed(asked) => std::mem::take(&mut asked.lock()),
        }
    }
}

/// What nobody needs a permission for.
impl Guarded {
    /// Whether this node may answer for the cluster.
    pub fn node_lease(&self) -> NodeLease {
        self.service.node_lease()
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
