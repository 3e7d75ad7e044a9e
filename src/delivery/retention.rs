//! Deletes what no subscription needs any more, and finishes topics that a crash or a failing store left half made.

use std::sync::Arc;

use rangemap::RangeSet;

use super::{driver::unreadable, hub::Shared, topic_logs};
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

/// Looks at topics after something happened to them, and now and then at all, as messages also expire by age.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut all_at = shared.clock.now();
    loop {
        let now = shared.clock.now();
        let topics = if now >= all_at {
            all_at = now.plus_millis(RETENTION_SWEEP_ALL_MILLIS);
            match shared.store.resources.logs().await {
                Ok(logs) => logs.into_iter().map(|row| row.incarnation).collect(),
                Err(error) => {
                    tracing::warn!(%error, "retention could not list the topics; trying again later");
                    Vec::new()
                }
            }
        } else {
            shared.activity.take_due(now)
        };
        for topic in topics {
            if let Err(error) = sweep(&shared, topic).await {
                tracing::warn!(topic = topic.0, %error, "a topic's log was not cleaned; trying again later");
                shared.activity.add(topic, 0, now);
            }
            if shared.stopping.is_cancelled() {
                return;
            }
        }
        tokio::select! {
            () = shared.stopping.cancelled() => return,
            () = shared.clock.sleep_until(shared.clock.now().plus_millis(RETENTION_SWEEP_MILLIS)) => {}
        }
    }
}

async fn sweep(shared: &Shared, topic: TopicIncarnation) -> Result<(), StoreError> {
    let Some(needs) = shared.store.resources.log_needs(topic).await? else {
        return Ok(());
    };
    let Some(log) = needs
        .row
        .log()
        .filter(|_| needs.row.phase != TopicPhase::Creating)
    else {
        return topic_logs::finish(
            shared.store.resources.as_ref(),
            shared.log.as_ref(),
            &needs.row,
        )
        .await;
    };
    if needs.row.phase == TopicPhase::Deleted && needs.readers.is_empty() {
        shared.log.delete(&log).await?;
        return shared.store.resources.forget_topic(topic).await;
    }
    topic_logs::retain(shared.store.resources.as_ref(), shared.log.as_ref(), topic).await?;
    if shared.log.trims() && !log.place.attached {
        trim(shared, &log).await?;
    }
    Ok(())
}

async fn trim(shared: &Shared, log: &TopicLog) -> Result<(), StoreError> {
    // The ends come first: a subscription that begins to be made after them starts at or above them, so that what
    // lies below is decided by those that are seen next. What was published while one was being made is not promised
    // to it.
    let bounds = match shared.log.bounds(log).await {
        Ok(bounds) => bounds,
        // Deleted before its row was forgotten.
        Err(StoreError::NoSuchLog) => return Ok(()),
        Err(error) => return Err(error),
    };
    let Some(needs) = shared.store.resources.log_needs(log.incarnation).await? else {
        return Ok(());
    };
    for partition in bounds {
        let done = done(shared, log, partition, &needs.readers).await?;
        let done: Vec<_> = done.into_iter().collect();
        while shared.log.trim(log, partition.partition, &done).await? {
            if shared.stopping.is_cancelled() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// What every reader has done with, or may no longer be given.
async fn done(
    shared: &Shared,
    log: &TopicLog,
    bounds: PartitionBounds,
    readers: &[LogReader],
) -> Result<RangeSet<Offset>, StoreError> {
    let mut needed = RangeSet::new();
    for reader in readers {
        let retention_millis = u64::try_from(reader.retention.as_millis()).unwrap_or(u64::MAX);
        let horizon = shared.clock.now().minus_millis(retention_millis);
        let first = shared.log.offset_at(log, bounds.partition, horizon).await?;
        let mut rest = RangeSet::new();
        if first < bounds.end {
            rest.insert(first..bounds.end);
        }
        for state in shared
            .store
            .positions
            .positions(reader.subscription)
            .await?
        {
            if state.partition == bounds.partition {
                let done = engine::done(&state).map_err(unreadable)?;
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
