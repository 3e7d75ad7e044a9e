//! Access policies of topics and subscriptions: get, set, test (docs/behaviour.md, section 19).

use std::sync::Arc;

use super::{
    Service,
    completion::to_the_end,
    error::{FindError, SetPolicyError, UpdateError},
};
use crate::{
    limits::UPDATE_ATTEMPTS_MAX,
    resource::{
        name::{SubscriptionName, TopicName},
        policy::{Etag, NewPolicy, Policy},
    },
    store::{StoreError, resources},
};

/// What has a policy.
#[derive(Clone, Debug)]
pub enum WithPolicy {
    /// A topic.
    Topic(TopicName),
    /// A subscription.
    Subscription(SubscriptionName),
}

impl WithPolicy {
    /// Its full name.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Topic(name) => name.as_str(),
            Self::Subscription(name) => name.as_str(),
        }
    }

    fn id(&self) -> &str {
        match self {
            Self::Topic(name) => name.id(),
            Self::Subscription(name) => name.id(),
        }
    }
}

impl Service {
    /// The policy; `None` if it was never set.
    pub async fn policy(&self, of: &WithPolicy) -> Result<Option<Arc<Policy>>, FindError> {
        Ok(match of {
            WithPolicy::Topic(name) => self.topic(name).await?.policy,
            WithPolicy::Subscription(name) => self.subscription(name).await?.policy,
        })
    }

    /// Whether there is such a resource.
    pub async fn has(&self, resource: &WithPolicy) -> Result<bool, StoreError> {
        match self.policy(resource).await {
            Ok(_) => Ok(true),
            Err(FindError::NotFound { .. }) => Ok(false),
            Err(FindError::Store(error)) => Err(error),
        }
    }

    /// Replaces the policy, if it is still the one that the client has read.
    pub async fn set_policy(
        self: &Arc<Self>,
        of: &WithPolicy,
        new: NewPolicy,
    ) -> Result<Arc<Policy>, SetPolicyError> {
        let (service, of) = (Arc::clone(self), of.clone());
        to_the_end(async move { service.replace_policy(&of, &new).await }).await
    }

    async fn replace_policy(
        &self,
        of: &WithPolicy,
        new: &NewPolicy,
    ) -> Result<Arc<Policy>, SetPolicyError> {
        let mut etag = Etag::default();
        self.random_bytes(&mut etag)?;
        let after = |current: Option<&Arc<Policy>>| {
            let policy = Policy::after(current.map(AsRef::as_ref), new, etag);
            let policy = policy.ok_or_else(|| SetPolicyError::Replaced {
                resource: of.id().to_owned(),
            });
            policy.map(Arc::new)
        };
        for _ in 0..UPDATE_ATTEMPTS_MAX {
            let not_found = || UpdateError::NotFound {
                resource: of.id().to_owned(),
            };
            let (policy, written) = match of {
                WithPolicy::Topic(name) => {
                    let read = self
                        .store
                        .resources
                        .topic(name)
                        .await?
                        .ok_or_else(not_found)?;
                    let mut topic = read.topic.clone();
                    let policy = after(topic.policy.as_ref())?;
                    topic.policy = Some(Arc::clone(&policy));
                    let written = self.resources.update_topic(&read, &topic).await;
                    (policy, written.map(|_| ()))
                }
                WithPolicy::Subscription(name) => {
                    let read = self.store.resources.subscription(name).await?;
                    let read = read.ok_or_else(not_found)?;
                    let mut subscription = read.subscription.clone();
                    let policy = after(subscription.policy.as_ref())?;
                    subscription.policy = Some(Arc::clone(&policy));
                    let written = self
                        .resources
                        .update_subscription(&read, &subscription)
                        .await;
                    (policy, written.map(|_| ()))
                }
            };
            match written {
                Ok(()) => return Ok(policy),
                // Gone may also mean that the name has a new life, which the next read tells.
                Err(resources::UpdateError::Changed | resources::UpdateError::Gone) => {}
                Err(resources::UpdateError::Store(error)) => return Err(error.into()),
            }
        }
        Err(SetPolicyError::Update(UpdateError::Contended {
            resource: of.id().to_owned(),
        }))
    }
}
