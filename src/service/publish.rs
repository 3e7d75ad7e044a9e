//! Publish (docs/behaviour.md, section 3).

use thiserror::Error;

use super::Service;
use crate::{
    delivery::{AppendError, Appended},
    resource::{message::MessageIds, name::TopicName, published::Published, violation::Violation},
    store::StoreError,
};

/// Why Publish failed. Nothing of the request was published, unless the store says that it may have been.
#[derive(Debug, Error)]
pub enum PublishError {
    /// A value breaks a rule.
    #[error(transparent)]
    Violation(#[from] Violation),
    /// There is no such topic, or not any more.
    #[error("no topic {resource}")]
    NotFound {
        /// Its id.
        resource: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Service {
    /// Appends messages to a topic, all or none, and returns their ids in order once they are durable.
    pub async fn publish(
        &self,
        name: &TopicName,
        published: Published,
    ) -> Result<Vec<String>, PublishError> {
        let not_found = || PublishError::NotFound {
            resource: name.id().to_owned(),
        };
        let bytes = published.request_bytes() as u64;
        let messages = match published.messages() {
            Ok(messages) => messages,
            Err(fault) => {
                let topic = self.resources.topic(name).await?;
                return Err(topic.map_or_else(not_found, |_| fault.into()));
            }
        };

        let appended = self.delivery.append(name, messages, bytes).await;
        let Appended { topic, runs } = appended.map_err(|error| match error {
            AppendError::NoTopic => not_found(),
            AppendError::LogGone(text) => StoreError::Refused(text).into(),
            AppendError::Store(error) => error.into(),
        })?;
        Ok(runs
            .iter()
            .flat_map(|run| {
                let ids = MessageIds::new(topic, run.partition);
                (run.first..run.first + u64::from(run.count)).map(move |offset| ids.id(offset))
            })
            .collect())
    }
}
