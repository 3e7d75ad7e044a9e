//! Publish (docs/behaviour.md, section 3).

use bytes::Bytes;

use thiserror::Error;

use super::Service;
use crate::{
    delivery::{AppendError, Appended},
    limits::{PUBLISH_BYTES_MAX, PUBLISH_MESSAGES_MAX},
    resource::{
        message::{AcceptedMessages, MessageIds},
        name::TopicName,
        violation::Violation,
    },
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
    /// Appends encoded messages to a topic, all or none, and returns their ids in order once they are durable.
    /// `request_bytes` is the size of the whole encoded request.
    pub async fn publish(
        &self,
        name: &TopicName,
        messages: Vec<Bytes>,
        request_bytes: usize,
    ) -> Result<Vec<String>, PublishError> {
        let count = messages.len();
        if count == 0 {
            return Err(Violation::too_small("message_count", 0, 1).into());
        }
        if count > PUBLISH_MESSAGES_MAX {
            return Err(Violation::too_large("message_count", count, PUBLISH_MESSAGES_MAX).into());
        }
        if request_bytes > PUBLISH_BYTES_MAX {
            let violation = Violation::too_large("request_size", request_bytes, PUBLISH_BYTES_MAX);
            return Err(violation.into());
        }
        let messages = AcceptedMessages::accept(messages)?.compact(request_bytes);

        let not_found = || PublishError::NotFound {
            resource: name.id().to_owned(),
        };
        let appended = self
            .delivery
            .append(name, messages, request_bytes as u64)
            .await;
        let Appended { topic, runs } = appended.map_err(|error| match error {
            AppendError::NoTopic => not_found(),
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
