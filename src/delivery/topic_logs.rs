//! What spans the two stores: making a topic with its log, ending one that is half made, and how long the log retains
//! messages.

use std::{sync::Arc, time::Duration};

use tokio::time::timeout;

use crate::{
    limits::TOPIC_LOCK_MILLIS_MAX,
    resource::{id::TopicIncarnation, name::TopicName},
    store::{
        MessageLog, Resources, StoreError,
        log::{LogLocation, TopicLog},
        resources::{TopicPhase, TopicRow},
    },
};

/// What became of a topic that was to be finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finished {
    /// It can be seen.
    Live,
    /// It was deleted meanwhile.
    Deleted,
}

/// Makes the log of a topic whose row was just added, and lets the topic be seen. Where the log certainly was not made
/// the row goes again; so it does where a log is in its place that has messages. That one is of a topic that this store
/// has forgotten, as one does that was restored from a backup, and which keeps its log.
pub async fn make(
    resources: &dyn Resources,
    log: &dyn MessageLog,
    row: &TopicRow,
) -> Result<Finished, StoreError> {
    let error = match make_log(log, row).await {
        Ok(location) if is_of_another(resources, log, row, &location).await? => {
            tracing::error!(
                topic = %row.name, log = location.name,
                "a topic's log is there already, with messages: was this store restored from an older backup?"
            );
            StoreError::Unavailable(format!(
                "the log {} is there already, with messages; trying again takes another one",
                location.name
            ))
        }
        Ok(location) => return publish(resources, log, row, location).await,
        Err(error) => error,
    };
    if error.definitely_failed()
        && let Err(error) = resources.forget_topic(row.incarnation).await
    {
        tracing::warn!(topic = %row.name, %error, "a topic that could not be made is finished later");
    }
    Err(error)
}

/// Whether anything was ever appended to a log that should be new, as nobody can have seen the topic. Where that cannot
/// be told it is taken for new.
async fn is_of_another(
    resources: &dyn Resources,
    log: &dyn MessageLog,
    row: &TopicRow,
    location: &LogLocation,
) -> Result<bool, StoreError> {
    if location.attached {
        return Ok(false);
    }
    let bounds = log.bounds(&of(row, location.clone())).await;
    if !bounds.is_ok_and(|bounds| bounds.iter().any(|partition| partition.end > 0)) {
        return Ok(false);
    }
    // Another caller may have finished it meanwhile.
    let unseen = resources.unfinished_topic(&row.name).await?;
    Ok(unseen.is_some_and(|unseen| unseen.incarnation == row.incarnation))
}

/// Makes the log of a topic whose row is there, and lets the topic be seen. Repeating it changes nothing.
pub async fn finish(
    resources: &dyn Resources,
    log: &dyn MessageLog,
    row: &TopicRow,
) -> Result<Finished, StoreError> {
    let location = make_log(log, row).await?;
    publish(resources, log, row, location).await
}

async fn make_log(log: &dyn MessageLog, row: &TopicRow) -> Result<LogLocation, StoreError> {
    match &row.location {
        Some(attached) => Ok(attached.clone()),
        None => log.create(row.incarnation, &row.name).await,
    }
}

async fn publish(
    resources: &dyn Resources,
    log: &dyn MessageLog,
    row: &TopicRow,
    location: LogLocation,
) -> Result<Finished, StoreError> {
    if resources.publish_topic(row.incarnation, &location).await? {
        return Ok(Finished::Live);
    }
    // Another caller was faster. If the topic has been deleted since, its log may have been, too, and was made again here.
    let needs = resources.log_needs(row.incarnation).await?;
    match needs {
        Some(needs) if needs.row.phase != TopicPhase::Deleted => Ok(Finished::Live),
        Some(needs) if !needs.readers.is_empty() => Ok(Finished::Deleted),
        _ => {
            log.delete(&of(row, location)).await?;
            Ok(Finished::Deleted)
        }
    }
}

/// Ends a topic of that name that is half made: its log, if there is one, and its row. False when there is none.
pub async fn abandon(
    resources: &dyn Resources,
    log: &dyn MessageLog,
    name: &TopicName,
) -> Result<bool, StoreError> {
    let Some(row) = resources.unfinished_topic(name).await? else {
        return Ok(false);
    };
    let location = row.location.clone();
    let location = location.unwrap_or_else(|| log.location(row.incarnation, name));
    log.delete(&of(&row, location)).await?;
    resources.forget_topic(row.incarnation).await?;
    Ok(true)
}

fn of(row: &TopicRow, location: LogLocation) -> TopicLog {
    TopicLog {
        incarnation: row.incarnation,
        location: Arc::new(location),
    }
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
    match retained {
        // The topic was deleted, and its log with it, as no subscription needs it any more.
        Ok(Err(StoreError::NoSuchLog)) if locked.needs.row.phase == TopicPhase::Deleted => Ok(()),
        Ok(retained) => retained,
        Err(_) => Err(StoreError::Unavailable(format!(
            "the log was not configured within {TOPIC_LOCK_MILLIS_MAX} ms"
        ))),
    }
}
