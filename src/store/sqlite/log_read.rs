//! Reads batches from the log's file, and finds the way around damaged ones.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use sqlx::{Row as _, sqlite::SqliteRow};

use super::{database::Database, log_rows, log_rows::PARTITION};
use crate::{
    clock::Timestamp,
    resource::id::TopicIncarnation,
    store::{
        StoreError,
        batch::Batch,
        log::{Offset, ReadBatch},
        reading::Reading,
        rows::{from_sql, to_sql},
    },
};

/// Reads what lies in `range` of a log that ends at `end`. Damage behind readable records is left to the next read.
pub(super) async fn read(
    database: &Database,
    topic: TopicIncarnation,
    range: Range<Offset>,
    bytes_max: usize,
    end: Offset,
) -> Result<ReadBatch, StoreError> {
    let mut rows = sqlx::query(
        "SELECT base, count, publish_time, crc32, body FROM batches
        WHERE topic = ?1 AND partition = ?2 AND base < ?4 AND base >= coalesce((
            SELECT base FROM batches WHERE topic = ?1 AND partition = ?2 AND base <= ?3 ORDER BY base DESC LIMIT 1
        ), ?3)
        ORDER BY base",
    )
    .bind(to_sql(topic.0))
    .bind(PARTITION)
    .bind(to_sql(range.start))
    .bind(to_sql(range.end.min(end)))
    .fetch(database.readers());
    let mut complete_to = range.start;
    let mut reading = Reading::new(range, bytes_max);
    loop {
        let batch = match rows.try_next().await {
            Ok(Some(row)) => decode(database, topic, &row),
            Ok(None) => {
                complete_to = end;
                break;
            }
            Err(error) => Err(at(database.failed(&error), topic, complete_to)),
        };
        match batch {
            Ok((base, publish_time, messages)) => {
                complete_to = base + messages.len() as u64;
                let batch = Batch::of_neighbours(base, publish_time, messages);
                if !reading.take_batch(&Arc::new(batch)) {
                    break;
                }
            }
            Err(error) if reading.is_empty() => return Err(error),
            Err(_) => break,
        }
    }
    Ok(reading.finish(complete_to))
}

/// Says which log and where in it.
fn at(error: StoreError, topic: TopicIncarnation, offset: Offset) -> StoreError {
    match error {
        StoreError::Damaged(text) => StoreError::Damaged(format!(
            "{text} (log of topic incarnation {}, at or after offset {offset})",
            topic.0
        )),
        error => error,
    }
}

fn decode(
    database: &Database,
    topic: TopicIncarnation,
    row: &SqliteRow,
) -> Result<(Offset, Timestamp, Vec<Bytes>), StoreError> {
    let columns = || -> Result<_, sqlx::Error> {
        let base = from_sql(row.try_get(0)?);
        let count: i64 = row.try_get(1)?;
        let time = Timestamp::from_millis(from_sql(row.try_get(2)?));
        let crc32: u32 = row.try_get(3)?;
        let body: Vec<u8> = row.try_get(4)?;
        Ok((base, count, time, crc32, body))
    };
    let (base, count, time, crc32, body) = columns().map_err(|error| database.failed(&error))?;
    let messages = (crc32fast::hash(&body) == crc32)
        .then(|| log_rows::decode_body(body.into(), usize::try_from(count).unwrap_or(0)))
        .flatten();
    match messages {
        Some(messages) => Ok((base, time, messages)),
        None => Err(StoreError::Damaged(format!(
            "{}: the batch of topic incarnation {} at offset {base} does not match its checksum",
            database.path().display(),
            topic.0
        ))),
    }
}

/// Walks the batches at and after `from` by their keys, which lie apart from their bodies, to the first one that
/// can be read. `end` when there is none.
pub(super) async fn skip_damage(
    database: &Database,
    topic: TopicIncarnation,
    from: Offset,
    end: Offset,
) -> Result<Offset, StoreError> {
    let mut at = from;
    while at < end {
        let Some(batch) = first_batch(database, topic, at).await? else {
            return Ok(end);
        };
        if is_readable(database, topic, batch.start).await? {
            return Ok(batch.start.max(from));
        }
        at = batch.end;
    }
    Ok(end)
}

async fn first_batch(
    database: &Database,
    topic: TopicIncarnation,
    from: Offset,
) -> Result<Option<Range<Offset>>, StoreError> {
    let row = sqlx::query(
        "SELECT base, count FROM batches
        WHERE topic = ?1 AND partition = ?2 AND base + count > ?3 AND base >= coalesce((
            SELECT base FROM batches WHERE topic = ?1 AND partition = ?2 AND base <= ?3 ORDER BY base DESC LIMIT 1
        ), ?3)
        ORDER BY base LIMIT 1",
    )
    .bind(to_sql(topic.0))
    .bind(PARTITION)
    .bind(to_sql(from))
    .fetch_optional(database.readers())
    .await
    .map_err(|error| database.failed(&error))?;
    row.map(|row| {
        let base = from_sql(row.try_get(0)?);
        // A batch holds at least one message, whatever its row says, so a walk over batches ends.
        let count = from_sql(row.try_get(1)?).max(1);
        Ok(base..base.saturating_add(count))
    })
    .transpose()
    .map_err(|error| database.failed(&error))
}

async fn is_readable(
    database: &Database,
    topic: TopicIncarnation,
    base: Offset,
) -> Result<bool, StoreError> {
    let row = sqlx::query(
        "SELECT base, count, publish_time, crc32, body FROM batches
        WHERE topic = ?1 AND partition = ?2 AND base = ?3",
    )
    .bind(to_sql(topic.0))
    .bind(PARTITION)
    .bind(to_sql(base))
    .fetch_optional(database.readers())
    .await
    .map_err(|error| database.failed(&error));
    match row.and_then(|row| {
        row.map(|row| decode(database, topic, &row))
            .transpose()
            .map(|_| ())
    }) {
        Ok(()) => Ok(true),
        Err(StoreError::Damaged(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The base of the first batch at or after `time`.
///
/// Publish times never decrease with the offset, so this is a binary search over the keys: for the lowest offset with
/// no older batch at or above it.
pub(super) async fn offset_at(
    database: &Database,
    topic: TopicIncarnation,
    time: Timestamp,
) -> Result<Option<Offset>, StoreError> {
    sqlx::query_scalar(
        "WITH RECURSIVE search (low, high) AS (
            SELECT (SELECT min(base) FROM batches WHERE topic = ?1 AND partition = ?2),
                (SELECT max(base) + 1 FROM batches WHERE topic = ?1 AND partition = ?2)
            UNION ALL
            SELECT iif(publish_time < ?3, base + 1, low), iif(publish_time < ?3, high, low + (high - low) / 2)
            FROM search CROSS JOIN batches ON topic = ?1 AND partition = ?2 AND base = (
                SELECT above.base FROM batches AS above
                WHERE above.topic = ?1 AND above.partition = ?2 AND above.base >= low + (high - low) / 2
                ORDER BY above.base LIMIT 1
            )
            WHERE low < high
        )
        SELECT base FROM batches
        WHERE topic = ?1 AND partition = ?2 AND base >= (SELECT low FROM search WHERE low >= high)
        ORDER BY base LIMIT 1",
    )
    .bind(to_sql(topic.0))
    .bind(PARTITION)
    .bind(to_sql(time.as_millis()))
    .fetch_optional(database.readers())
    .await
    .map(|base| base.map(from_sql))
    .map_err(|error| database.failed(&error))
}

/// The range, widened at both ends by the rest of a batch that it has only a part of.
pub(super) async fn whole_batches(
    database: &Database,
    topic: TopicIncarnation,
    range: Range<Offset>,
) -> Result<Range<Offset>, StoreError> {
    let (start, end): (i64, i64) = sqlx::query_as(
        "SELECT
            coalesce((SELECT iif(base + count > ?3, base, NULL) FROM batches
                WHERE topic = ?1 AND partition = ?2 AND base < ?3 ORDER BY base DESC LIMIT 1), ?3),
            coalesce((SELECT iif(base + count > ?4, base + count, NULL) FROM batches
                WHERE topic = ?1 AND partition = ?2 AND base < ?4 ORDER BY base DESC LIMIT 1), ?4)",
    )
    .bind(to_sql(topic.0))
    .bind(PARTITION)
    .bind(to_sql(range.start))
    .bind(to_sql(range.end))
    .fetch_one(database.readers())
    .await
    .map_err(|error| database.failed(&error))?;
    Ok(from_sql(start)..from_sql(end))
}
