//! Appends messages to a topic.

use thiserror::Error;

use super::{Drivers, activity::Freed};
use crate::{
    resource::{id::TopicIncarnation, message::AcceptedMessages, name::TopicName},
    store::{
        StoreError,
        log::{AppendedRun, Trims},
        operations::Operation,
    },
};

/// Where messages were appended.
#[derive(Debug)]
pub struct Appended {
    /// To which life of the topic.
    pub topic: TopicIncarnation,
    /// In the order of the messages.
    pub runs: Vec<AppendedRun>,
}

/// Why messages were not appended. Nothing was, unless the store says that it may have been.
#[derive(Debug, Error)]
pub enum AppendError {
    /// There is no such topic, or not any more.
    #[error("the topic does not exist")]
    NoTopic,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Drivers {
    /// Appends messages of about so many bytes to a live topic, all or none. Returns when they are durable.
    pub async fn append(
        &self,
        topic: &TopicName,
        messages: AcceptedMessages,
        bytes: u64,
    ) -> Result<Appended, AppendError> {
        let node = &self.node;
        let record = node.resources.topic(topic).await?;
        let log = &record.as_ref().ok_or(AppendError::NoTopic)?.log;
        let sent = node.clock.now();
        let appended = node.log.append(log, messages).await;
        node.operations
            .note(Operation::Append, appended.as_ref().err());
        let runs = match appended {
            Ok(runs) => runs,
            // Deleted since it was read.
            Err(StoreError::NoSuchLog) => return Err(AppendError::NoTopic),
            Err(error) => return Err(error.into()),
        };
        node.agreement.appended(log, &runs, sent);
        let topic = log.incarnation;
        if node.log.trims() == Trims::Anywhere {
            let freed = Freed::appended(bytes);
            node.activity.add(topic, freed, sent);
        }
        Ok(Appended { topic, runs })
    }
}
