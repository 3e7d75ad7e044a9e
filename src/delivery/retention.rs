//! Deletes what no subscription needs any more, and finishes topics that a crash or a failing store left half made.

use std::sync::Arc;

use rangemap::RangeSet;

use super::{node::Node, stored::unreadable, topic_logs};
use crate::{
    engine,
    limits::{RETENTION_SWEEP_ALL_MILLIS, RETENTION_SWEEP_MILLIS},
    resource::id::TopicIncarnation,
    store::{
        StoreError,
        log::{Offset, PartitionBounds, TopicLog},
        resources::{LogReader, TopicPhase},
    },
};

/// Checks topics after something happened to them, and now and then all of them, as messages also expire by age.
pub(super) async fn run(node: Arc<Node>) {
    let mut all_at = node.clock.now();
    loop {
        node.agreement.tell();
        let now = node.clock.now();
        let topics = if now >= all_at {
            all_at = now.plus_millis(RETENTION_SWEEP_ALL_MILLIS);
            match node.store.resources.logs().await {
                Ok(logs) => logs.into_iter().map(|row| row.incarnation).collect(),
                Err(error) => {
                    tracing::warn!(%error, "retention could not list the topics; trying again later");
                    Vec::new()
                }
            }
        } else {
            node.activity.take_due(now)
        };
        for topic in topics {
            if let Err(error) = sweep(&node, topic).await {
                tracing::warn!(topic = topic.0, %error, "a topic's log was not cleaned; trying again later");
                node.activity.add(topic, 0, now);
            }
            if node.stopping.is_cancelled() {
                return;
            }
        }
        tokio::select! {
            biased;
            () = node.stopping.cancelled() => return,
            () = node.clock.sleep_until(node.clock.now().plus_millis(RETENTION_SWEEP_MILLIS)) => {}
        }
    }
}

async fn sweep(node: &Node, topic: TopicIncarnation) -> Result<(), StoreError> {
    let Some(needs) = node.store.resources.log_needs(topic).await? else {
        return Ok(());
    };
    let Some(log) = needs
        .row
        .log()
        .filter(|_| needs.row.phase != TopicPhase::Creating)
    else {
        return topic_logs::finish(node.store.resources.as_ref(), node.log.as_ref(), &needs.row)
            .await;
    };
    if needs.row.phase == TopicPhase::Deleted && needs.readers.is_empty() {
        node.log.delete(&log).await?;
        node.agreement.forget(topic);
        return node.store.resources.forget_topic(topic).await;
    }
    topic_logs::retain(node.store.resources.as_ref(), node.log.as_ref(), topic).await?;
    if node.log.trims() && !log.location.attached && node.agreement.holds(topic) {
        trim(node, &log).await?;
    }
    Ok(())
}

async fn trim(node: &Node, log: &TopicLog) -> Result<(), StoreError> {
    // The ends come first: a subscription that begins to be made after them starts at or above them, so that what
    // lies below is decided by those that are seen next. What was published while one was being made is not promised
    // to it.
    let bounds = match node.log.bounds(log).await {
        Ok(bounds) => bounds,
        // Deleted before its row was forgotten.
        Err(StoreError::NoSuchLog) => return Ok(()),
        Err(error) => return Err(error),
    };
    let Some(needs) = node.store.resources.log_needs(log.incarnation).await? else {
        return Ok(());
    };
    for partition in bounds {
        let done = done(node, log, partition, &needs.readers).await?;
        let done: Vec<_> = done.into_iter().collect();
        while node.log.trim(log, partition.partition, &done).await? {
            if node.stopping.is_cancelled() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// What every reader has done with, or may no longer be given.
async fn done(
    node: &Node,
    log: &TopicLog,
    bounds: PartitionBounds,
    readers: &[LogReader],
) -> Result<RangeSet<Offset>, StoreError> {
    let mut needed = RangeSet::new();
    for reader in readers {
        let retention_millis = u64::try_from(reader.retention.as_millis()).unwrap_or(u64::MAX);
        let horizon = node.clock.now().minus_millis(retention_millis);
        let first = node.log.offset_at(log, bounds.partition, horizon).await?;
        let mut rest = RangeSet::new();
        if first < bounds.end {
            rest.insert(first..bounds.end);
        }
        for state in node.store.positions.positions(reader.subscription).await? {
            if state.partition == bounds.partition {
                let done = engine::done(&state).map_err(|error| unreadable(&error))?;
                for range in done {
                    rest.remove(range);
                }
            }
        }
        needed.extend(rest);
    }
    let mut done = RangeSet::new();
    if bounds.start < bounds.end {
        done.insert(bounds.start..bounds.end);
    }
    for range in needed {
        done.remove(range);
    }
    Ok(done)
}
