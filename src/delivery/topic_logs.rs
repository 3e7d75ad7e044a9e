//! What spans the two stores: making a topic with its log, and how long the log retains messages.

use std::time::Duration;

use tokio::time::timeout;

use crate::{
    limits::TOPIC_LOCK_MILLIS_MAX,
    resource::id::TopicIncarnation,
    store::{
        MessageLog, Resources, StoreError,
        resources::{TopicPhase, TopicRow},
    },
};

/// Finishes all topics that are half made: before anything is served, and when one's name is in the way.
pub async fn recover(resources: &dyn Resources, log: &dyn MessageLog) -> Result<(), StoreError> {
    for row in resources.logs().await? {
        if row.phase == TopicPhase::Creating {
            finish(resources, log, &row).await?;
        }
    }
    Ok(())
}

/// Makes the log of a topic whose row is there, and lets the topic be seen. Repeating it changes nothing.
pub async fn finish(
    resources: &dyn Resources,
    log: &dyn MessageLog,
    row: &TopicRow,
) -> Result<(), StoreError> {
    let location = match &row.location {
        Some(attached) => attached.clone(),
        None => log.create(row.incarnation, &row.name).await?,
    };
    resources.publish_topic(row.incarnation, &location).await
}

/// Has the topic's log retain messages for as long as any of its subscriptions wants. The row is locked meanwhile: the
/// last to do the same has seen all subscriptions.
pub async fn retain(
    resources: &dyn Resources,
    log: &dyn MessageLog,
    topic: TopicIncarnation,
) -> Result<(), StoreError> {
    let Some(locked) = resources.lock_topic(topic).await? else {
        return Ok(());
    };
    let Some(topic) = locked.needs.row.log() else {
        return Ok(());
    };
    let longest = Duration::from_millis(TOPIC_LOCK_MILLIS_MAX);
    let retained = timeout(longest, log.retain(&topic, locked.needs.retention())).await;
    retained.unwrap_or_else(|_| {
        Err(StoreError::Unavailable(format!(
            "the log was not configured within {TOPIC_LOCK_MILLIS_MAX} ms"
        )))
    })
}
