//! Topics that stand for logs which others made.

use std::sync::Arc;

use super::{
    Service,
    completion::to_the_end,
    error::{AttachError, DetachError, FindError},
};
use crate::{
    resource::{name::TopicName, topic::Topic},
    store::log::LogLocation,
};

impl Service {
    /// Gives an existing Kafka topic a Pub/Sub name, and says where it is.
    pub async fn attach_topic(
        self: &Arc<Self>,
        name: TopicName,
        kafka_topic: &str,
    ) -> Result<LogLocation, AttachError> {
        let location = self.log.attach(kafka_topic).await?;
        let location = LogLocation {
            attached: true,
            ..location.ok_or_else(|| AttachError::NoSuchKafkaTopic {
                kafka_topic: kafka_topic.to_owned(),
            })?
        };
        let (service, topic) = (Arc::clone(self), Topic::new(name));
        to_the_end(async move {
            service.make_topic(&topic, Some(&location)).await?;
            Ok(location)
        })
        .await
    }

    /// Takes the Pub/Sub name from a topic that was attached. What is in Kafka stays as it is.
    pub async fn detach_topic(self: &Arc<Self>, name: &TopicName) -> Result<(), DetachError> {
        let (service, name) = (Arc::clone(self), name.clone());
        to_the_end(async move {
            let not_found = || FindError::NotFound {
                resource: name.id().to_owned(),
            };
            let record = service.topic_record(&name).await?;
            if !record.log.location.attached {
                return Err(DetachError::NotAttached {
                    resource: name.id().to_owned(),
                });
            }
            let deleted = service.end_topic(&record).await.map_err(FindError::from)?;
            deleted.then_some(()).ok_or_else(|| not_found().into())
        })
        .await
    }
}
