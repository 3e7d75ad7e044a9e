//! Subscriptions: create, get, update, list, delete, detach.

use std::{fmt::Write, sync::Arc};

use super::{
    Service,
    completion::to_the_end,
    error::{CreateError, FindError, UpdateError},
};
use crate::{
    delivery::{EndCause, topic_logs},
    limits::UPDATE_ATTEMPTS_MAX,
    resource::{
        name::{ProjectName, SubscriptionName, TopicName},
        page::{Page, PageRequest},
        subscription::{DeadLetterPolicy, Subscription, SubscriptionChange, SubscriptionSettings},
        violation::Violation,
    },
    store::{
        StoreError,
        resources::{self, SubscriptionRecord},
    },
};

/// Random bytes in a generated id: two equal ones will not be seen.
const GENERATED_ID_BYTES: usize = 16;

impl Service {
    /// Creates a subscription to the topic, under a generated name in the topic's project when `name` is `None`.
    ///
    /// Every publish that is answered after this returns is delivered.
    pub async fn create_subscription(
        &self,
        name: Option<SubscriptionName>,
        topic: TopicName,
        settings: SubscriptionSettings,
    ) -> Result<Subscription, CreateError> {
        let name = if let Some(name) = name {
            name
        } else {
            let mut random = [0; GENERATED_ID_BYTES];
            self.random_bytes(&mut random)?;
            generated_name(&topic.project(), random)
        };
        let topic_gone = CreateError::ParentNotFound {
            resource: topic.id().to_owned(),
        };
        let Some(record) = self.resources.topic(&topic).await? else {
            return Err(topic_gone);
        };
        let subscription = Subscription::new(name, topic, settings)?;
        if let Some(missing) = self
            .missing_dead_letter_topic(subscription.dead_letter_policy.as_ref())
            .await?
        {
            let resource = subscription.name.id().to_owned();
            let exists = self.resources.subscription(&subscription.name).await?;
            return Err(exists.map_or_else(
                || CreateError::ParentNotFound { resource: missing },
                |_| CreateError::AlreadyExists { resource },
            ));
        }
        self.check_setting(subscription.requirement()).await?;
        let topic = record;
        let bounds = match self.log.bounds(&topic.log).await {
            Ok(bounds) => bounds,
            Err(StoreError::NoSuchLog) => {
                let name = &topic.topic.name;
                return Err(match self.delivery.lost_log(name, &topic.log).await? {
                    Some(text) => StoreError::Refused(text).into(),
                    // Deleted since it was read.
                    None => topic_gone,
                });
            }
            Err(error) => return Err(error.into()),
        };
        let starts: Vec<_> = bounds
            .iter()
            .map(|bounds| (bounds.partition, bounds.end))
            .collect();
        let created = self
            .resources
            .create_subscription(&topic.log, &subscription, &starts)
            .await;
        match created {
            Ok(record) => {
                self.retain_log(&record).await?;
                Ok(record.subscription)
            }
            Err(resources::CreateError::AlreadyExists) => Err(CreateError::AlreadyExists {
                resource: subscription.name.id().to_owned(),
            }),
            Err(resources::CreateError::TopicGone) => Err(topic_gone),
            Err(resources::CreateError::Store(error)) => Err(error.into()),
        }
    }

    /// The subscription of that name.
    pub async fn subscription(&self, name: &SubscriptionName) -> Result<Subscription, FindError> {
        match self.store.resources.subscription(name).await? {
            Some(record) => Ok(record.subscription),
            None => Err(not_found(name)),
        }
    }

    /// Makes the changes, all or none, and tells a running delivery of them.
    pub async fn update_subscription(
        self: &Arc<Self>,
        name: &SubscriptionName,
        changes: Vec<SubscriptionChange>,
    ) -> Result<Subscription, UpdateError> {
        let (service, name) = (Arc::clone(self), name.clone());
        to_the_end(async move {
            let policy = changes.iter().find_map(|change| match change {
                SubscriptionChange::DeadLetterPolicy(policy) => policy.as_ref(),
                _ => None,
            });
            let written = service
                .change_subscription(&name, policy, |subscription| subscription.with(&changes))
                .await?;
            service.retain_log(&written).await?;
            let applied = service.delivery.configure(&written).await;
            applied.map_err(UpdateError::Delivery)?;
            Ok(written.subscription)
        })
        .await
    }

    /// The project's subscriptions in order of name.
    pub async fn list_subscriptions(
        &self,
        project: &ProjectName,
        page: &PageRequest,
    ) -> Result<Page<Subscription>, StoreError> {
        let records = self
            .store
            .resources
            .list_subscriptions(project, page.after(), page.read_limit())
            .await?;
        let subscriptions = records
            .into_iter()
            .map(|record| record.subscription)
            .collect();
        Ok(Page::new(
            page,
            subscriptions,
            |subscription: &Subscription| subscription.name.as_str(),
        ))
    }

    /// Deletes the subscription with its backlog, and ends its deliveries.
    pub async fn delete_subscription(
        self: &Arc<Self>,
        name: &SubscriptionName,
    ) -> Result<(), FindError> {
        let (service, name) = (Arc::clone(self), name.clone());
        to_the_end(async move {
            let record = service.resources.subscription(&name).await?;
            let deleted = service.resources.delete_subscription(&name).await?;
            let id = deleted.ok_or_else(|| not_found(&name))?;
            service.delivery.end(id, EndCause::Deleted).await;
            if let Some(record) = record {
                service.delivery.mark_for_retention(record.log.incarnation);
            }
            Ok(())
        })
        .await
    }

    /// Cuts the subscription off from its topic, drops its backlog and ends its deliveries. Repeating it is fine.
    pub async fn detach_subscription(
        self: &Arc<Self>,
        name: &SubscriptionName,
    ) -> Result<(), UpdateError> {
        let (service, name) = (Arc::clone(self), name.clone());
        to_the_end(async move {
            let written = service
                .change_subscription(&name, None, |subscription| {
                    Ok(Subscription {
                        detached: true,
                        ..subscription.clone()
                    })
                })
                .await?;
            service.delivery.end(written.id, EndCause::Detached).await;
            service.delivery.mark_for_retention(written.log.incarnation);
            Ok(())
        })
        .await
    }

    /// The id of a policy's topic, if that does not exist.
    async fn missing_dead_letter_topic(
        &self,
        policy: Option<&DeadLetterPolicy>,
    ) -> Result<Option<String>, StoreError> {
        let Some(policy) = policy else {
            return Ok(None);
        };
        let found = self.resources.topic(&policy.topic).await?;
        Ok(found.is_none().then(|| policy.topic.id().to_owned()))
    }

    /// Before a subscription is answered that wants messages retained for longer than logs retain them anyway.
    async fn retain_log(&self, record: &SubscriptionRecord) -> Result<(), StoreError> {
        if record.subscription.message_retention <= self.log.retention_min() {
            return Ok(());
        }
        let (resources, log) = (self.store.resources.as_ref(), self.log.as_ref());
        topic_logs::retain(resources, log, record.log.incarnation).await
    }

    /// Changes what is stored. `policy`: a dead letter policy that the caller names; its topic has to exist.
    async fn change_subscription(
        &self,
        name: &SubscriptionName,
        policy: Option<&DeadLetterPolicy>,
        change: impl Fn(&Subscription) -> Result<Subscription, Violation>,
    ) -> Result<SubscriptionRecord, UpdateError> {
        let not_found = || UpdateError::NotFound {
            resource: name.id().to_owned(),
        };
        for _ in 0..UPDATE_ATTEMPTS_MAX {
            let read = self.store.resources.subscription(name).await?;
            let read = read.ok_or_else(not_found)?;
            let subscription = change(&read.subscription)?;
            if let Some(resource) = self.missing_dead_letter_topic(policy).await? {
                return Err(UpdateError::NotFound { resource });
            }
            self.check_setting(subscription.requirement()).await?;
            match self
                .resources
                .update_subscription(&read, &subscription)
                .await
            {
                Ok(written) => return Ok(written),
                // Gone may also mean that the name has a new life, which the next read tells.
                Err(resources::UpdateError::Changed | resources::UpdateError::Gone) => {}
                Err(resources::UpdateError::Store(error)) => return Err(error.into()),
            }
        }
        Err(UpdateError::Contended {
            resource: name.id().to_owned(),
        })
    }
}

fn generated_name(project: &ProjectName, random: [u8; GENERATED_ID_BYTES]) -> SubscriptionName {
    let mut id = "sub-".to_owned();
    for byte in random {
        // Writing to a string cannot fail.
        let _ = write!(id, "{byte:02x}");
    }
    SubscriptionName::in_project(project, &id)
}

fn not_found(name: &SubscriptionName) -> FindError {
    FindError::NotFound {
        resource: name.id().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_name_obeys_the_rules_and_lies_in_the_project() {
        let project = ProjectName::parse("name", "projects/example.com:p").expect("valid");
        let name = generated_name(&project, [1; GENERATED_ID_BYTES]);
        assert_eq!(name.project(), project);
        assert_eq!(
            SubscriptionName::parse("name", name.as_str()),
            Ok(name.clone())
        );
        assert_ne!(generated_name(&project, [2; GENERATED_ID_BYTES]), name);
    }
}
