//! Topics: create, get, update, list, delete.

use std::sync::Arc;

use super::{
    Service,
    completion::to_the_end,
    error::{CreateError, FindError, UpdateError},
};
use crate::{
    delivery::topic_logs::{self, Finished},
    limits::UPDATE_ATTEMPTS_MAX,
    resource::{
        name::{ProjectName, SubscriptionName, TopicName},
        page::{Page, PageRequest},
        topic::{Topic, TopicChange},
    },
    store::{
        StoreError,
        log::LogLocation,
        resources::{self, TopicPhase, TopicRecord, TopicRow},
    },
};

impl Service {
    /// Creates a topic and its log.
    pub async fn create_topic(self: &Arc<Self>, topic: Topic) -> Result<Topic, CreateError> {
        let service = Arc::clone(self);
        to_the_end(async move { service.make_topic(&topic, None).await }).await
    }

    /// The topic of that name.
    pub async fn topic(&self, name: &TopicName) -> Result<Topic, FindError> {
        Ok(self.topic_record(name).await?.topic)
    }

    /// Makes the changes, all or none.
    pub async fn update_topic(
        self: &Arc<Self>,
        name: &TopicName,
        changes: Vec<TopicChange>,
    ) -> Result<Topic, UpdateError> {
        let (service, name) = (Arc::clone(self), name.clone());
        to_the_end(async move { service.change_topic(&name, &changes).await }).await
    }

    async fn change_topic(
        &self,
        name: &TopicName,
        changes: &[TopicChange],
    ) -> Result<Topic, UpdateError> {
        let not_found = || UpdateError::NotFound {
            resource: name.id().to_owned(),
        };
        for _ in 0..UPDATE_ATTEMPTS_MAX {
            let read = self
                .store
                .resources
                .topic(name)
                .await?
                .ok_or_else(not_found)?;
            let topic = read.topic.with(changes);
            self.check_setting(topic.requirement()).await?;
            match self.resources.update_topic(&read, &topic).await {
                Ok(written) => return Ok(written.topic),
                // Gone may also mean that the name has a new life, which the next read tells.
                Err(resources::UpdateError::Changed | resources::UpdateError::Gone) => {}
                Err(resources::UpdateError::Store(error)) => return Err(error.into()),
            }
        }
        Err(UpdateError::Contended {
            resource: name.id().to_owned(),
        })
    }

    /// The project's topics in order of name.
    pub async fn list_topics(
        &self,
        project: &ProjectName,
        page: &PageRequest,
    ) -> Result<Page<Topic>, StoreError> {
        let records = self
            .store
            .resources
            .list_topics(project, page.after(), page.read_limit())
            .await?;
        let topics = records.into_iter().map(|record| record.topic).collect();
        Ok(Page::new(page, topics, |topic: &Topic| topic.name.as_str()))
    }

    /// Names of the topic's attached subscriptions, of any project, in order.
    pub async fn list_topic_subscriptions(
        &self,
        topic: &TopicName,
        page: &PageRequest,
    ) -> Result<Page<SubscriptionName>, FindError> {
        let record = self.topic_record(topic).await?;
        let names = self
            .store
            .resources
            .list_topic_subscriptions(record.log.incarnation, page.after(), page.read_limit())
            .await?;
        Ok(Page::new(page, names, SubscriptionName::as_str))
    }

    /// Deletes the topic. Its subscriptions stay and deliver what they have.
    pub async fn delete_topic(self: &Arc<Self>, name: &TopicName) -> Result<(), FindError> {
        let (service, name) = (Arc::clone(self), name.clone());
        to_the_end(async move {
            let (stored, log) = (service.store.resources.as_ref(), service.log.as_ref());
            let mut abandoned = false;
            for _ in 0..UPDATE_ATTEMPTS_MAX {
                // Where it is gone since it was read, the name may have a new life, which the next read tells.
                if let Some(topic) = stored.topic(&name).await? {
                    if service.end_topic(&topic).await? {
                        return Ok(());
                    }
                } else if topic_logs::abandon(stored, log, &name).await? {
                    // Unless another caller has just finished it, which the next read tells.
                    abandoned = true;
                } else if abandoned {
                    return Ok(());
                } else {
                    break;
                }
            }
            Err(not_found(&name))
        })
        .await
    }

    /// Deletes a topic that was read; false when it is gone.
    pub(super) async fn end_topic(&self, topic: &TopicRecord) -> Result<bool, StoreError> {
        let deleted = self.resources.delete_topic(topic).await?;
        if deleted {
            self.delivery.mark_for_retention(topic.log.incarnation);
        }
        Ok(deleted)
    }

    pub(super) async fn topic_record(&self, name: &TopicName) -> Result<TopicRecord, FindError> {
        let record = self.store.resources.topic(name).await?;
        record.ok_or_else(|| not_found(name))
    }

    /// The row goes first, unseen, so that a crash leaves no log without a row that knows of it. A caller that finds a
    /// row whose making failed or goes on finishes it: that may be done twice.
    pub(super) async fn make_topic(
        &self,
        topic: &Topic,
        attached: Option<&LogLocation>,
    ) -> Result<Topic, CreateError> {
        self.check_setting(topic.requirement()).await?;
        let (stored, log) = (self.store.resources.as_ref(), self.log.as_ref());
        let incarnation = match self.resources.create_topic(topic, attached).await {
            Ok(incarnation) => incarnation,
            Err(resources::CreateError::Store(error)) => return Err(error.into()),
            Err(resources::CreateError::AlreadyExists | resources::CreateError::TopicGone) => {
                if let Some(row) = stored.unfinished_topic(&topic.name).await?
                    && topic_logs::finish(stored, log, &row).await? == Finished::Deleted
                {
                    return Err(deleted_meanwhile().into());
                }
                return Err(CreateError::AlreadyExists {
                    resource: topic.name.id().to_owned(),
                });
            }
        };
        let row = TopicRow {
            incarnation,
            name: topic.name.clone(),
            phase: TopicPhase::Creating,
            location: attached.cloned(),
        };
        match topic_logs::make(stored, log, &row).await {
            Ok(Finished::Live) => Ok(topic.clone()),
            Ok(Finished::Deleted) => Err(deleted_meanwhile().into()),
            Err(error) => {
                self.delivery.mark_for_retention(incarnation);
                Err(error.into())
            }
        }
    }
}

/// Nothing of the topic is left, so it may be made again.
fn deleted_meanwhile() -> StoreError {
    StoreError::Unavailable("the topic was deleted while it was made".to_owned())
}

fn not_found(name: &TopicName) -> FindError {
    FindError::NotFound {
        resource: name.id().to_owned(),
    }
}
