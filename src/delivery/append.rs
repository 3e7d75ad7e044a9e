//! Appends messages to a topic.

use thiserror::Error;

use super::{Drivers, activity::Freed, lost_logs, node::Node};
use crate::{
    resource::{id::TopicIncarnation, message::AcceptedMessages, name::TopicName},
    store::{
        StoreError,
        log::{AppendedRun, TopicLog, Trims},
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
    /// The topic's log is gone although the topic is not. The text says what to do.
    #[error("{0}")]
    LogGone(String),
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
        append(&self.node, topic, messages, bytes).await
    }

    /// What to say of a topic whose log is not there; `None` when the topic is not there either.
    pub async fn lost_log(
        &self,
        topic: &TopicName,
        log: &TopicLog,
    ) -> Result<Option<String>, StoreError> {
        lost_logs::gone(&self.node, topic, log).await
    }
}

/// See [`Drivers::append`].
pub(super) async fn append(
    node: &Node,
    topic: &TopicName,
    messages: AcceptedMessages,
    bytes: u64,
) -> Result<Appended, AppendError> {
    let record = node.resources.topic(topic).await?;
    let log = &record.as_ref().ok_or(AppendError::NoTopic)?.log;
    let sent = node.clock.now();
    let appended = node.log.append(log, messages).await;
    node.operations
        .note(Operation::Append, appended.as_ref().err());
    let runs = match appended {
        Ok(runs) => runs,
        Err(StoreError::NoSuchLog) => return Err(why_not_appended(node, topic, log).await),
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

/// Why there is no such log: its topic was deleted since it was read, or not by us.
async fn why_not_appended(node: &Node, topic: &TopicName, log: &TopicLog) -> AppendError {
    match lost_logs::gone(node, topic, log).await {
        Ok(Some(text)) => AppendError::LogGone(text),
        Ok(None) => AppendError::NoTopic,
        Err(error) => error.into(),
    }
}
