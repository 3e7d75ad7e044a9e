//! Deletes batches from the log's file, a bounded number at a time.

use std::{ops::Range, slice};

use sqlx::{Connection as _, Row as _, SqliteConnection};

use super::{
    database::Database,
    log_rows::{Head, PARTITION},
};
use crate::{
    resource::id::TopicIncarnation,
    store::{
        StoreError,
        log::Offset,
        rows::{from_sql, to_json, to_sql},
    },
};

/// Ranges of what is done that are searched for batches in one pass.
const RANGES_MAX: usize = 1024;
/// Batches that are deleted in one pass of the writer.
const BATCHES_MAX: usize = 1024;
/// Bytes of batches that are deleted in one pass of the writer, unless one alone is larger.
const BYTES_MAX: u64 = 8 * 1024 * 1024;

/// What can still be deleted in one pass.
struct Allowance {
    batches: usize,
    bytes: u64,
}

impl Allowance {
    const fn new() -> Self {
        Self {
            batches: BATCHES_MAX,
            bytes: BYTES_MAX,
        }
    }

    fn take(&mut self, bytes: u64) -> bool {
        if self.batches == 0 || (bytes > self.bytes && self.batches < BATCHES_MAX) {
            return false;
        }
        self.batches -= 1;
        self.bytes = self.bytes.saturating_sub(bytes);
        true
    }
}

/// The runs of batches wholly inside one of `done` that one pass can delete, and where the next one has to go on.
pub(super) async fn select(
    database: &Database,
    topic: TopicIncarnation,
    done: &[Range<Offset>],
) -> Result<(Vec<Range<Offset>>, Option<Offset>), StoreError> {
    let (asked, rest) = done.split_at(done.len().min(RANGES_MAX));
    let mut connection = database
        .readers()
        .acquire()
        .await
        .map_err(|error| database.failed(&error))?;
    let (runs, next) = runs(&mut connection, topic, asked)
        .await
        .map_err(|error| database.failed(&error))?;
    Ok((runs, next.or(rest.first().map(|range| range.start))))
}

/// From the bases of batches wholly inside one of `done` to the ends of their last neighbours that the allowance has
/// room for, and the base of the batch that it has none for.
pub(super) async fn runs(
    connection: &mut SqliteConnection,
    topic: TopicIncarnation,
    done: &[Range<Offset>],
) -> Result<(Vec<Range<Offset>>, Option<Offset>), sqlx::Error> {
    // The join is a loop over the ranges in their order, and over the keys within each.
    let rows = sqlx::query(
        "SELECT base, count, bytes
        FROM json_each(?3) AS done CROSS JOIN batches INDEXED BY batches_by_position
        ON topic = ?1 AND partition = ?2 AND base >= done.value ->> 0 AND base < done.value ->> 1
            AND base + count <= done.value ->> 1
        LIMIT ?4",
    )
    .bind(to_sql(topic.0))
    .bind(PARTITION)
    .bind(ranges_json(done)?)
    .bind(to_sql(BATCHES_MAX as u64 + 1))
    .fetch_all(connection)
    .await?;
    let mut allowance = Allowance::new();
    let mut runs: Vec<Range<Offset>> = Vec::new();
    for row in rows {
        let base = from_sql(row.try_get(0)?);
        let end = base.saturating_add(from_sql(row.try_get(1)?));
        if !allowance.take(from_sql(row.try_get(2)?)) {
            return Ok((runs, Some(base)));
        }
        match runs.last_mut() {
            Some(run) if run.end == base => run.end = end,
            _ => runs.push(base..end),
        }
    }
    Ok((runs, None))
}

fn ranges_json(ranges: &[Range<Offset>]) -> Result<String, sqlx::Error> {
    let pair = |range: &Range<Offset>| (to_sql(range.start), to_sql(range.end));
    to_json(&ranges.iter().map(pair).collect::<Vec<_>>())
}

/// Deletes runs of batches. If the last batch goes too, `head` is stored, so that no offset is used twice.
pub(super) async fn trim(
    database: &Database,
    topic: TopicIncarnation,
    runs: &[Range<Offset>],
    head: Head,
) -> Result<(), StoreError> {
    let mut connection = database.writer().await?;
    let trimmed = async {
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
        if runs.iter().any(|run| run.end >= head.end) {
            store_head(&mut transaction, topic, head).await?;
        }
        delete_runs(&mut transaction, topic, runs).await?;
        transaction.commit().await
    }
    .await;
    trimmed.map_err(|error| {
        connection.give_up();
        database.commit_failed(&error)
    })
}

async fn store_head(
    connection: &mut SqliteConnection,
    topic: TopicIncarnation,
    head: Head,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE logs SET trimmed_end = ?2, trimmed_time = ?3 WHERE topic = ?1")
        .bind(to_sql(topic.0))
        .bind(to_sql(head.end))
        .bind(to_sql(head.last_time.as_millis()))
        .execute(connection)
        .await
        .map(|_| ())
}

async fn delete_runs(
    connection: &mut SqliteConnection,
    topic: TopicIncarnation,
    runs: &[Range<Offset>],
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "DELETE FROM batches WHERE id IN (
            SELECT batches.id FROM json_each(?3) AS run CROSS JOIN batches INDEXED BY batches_by_position
            ON topic = ?1 AND partition = ?2 AND base >= run.value ->> 0 AND base < run.value ->> 1
        )",
    )
    .bind(to_sql(topic.0))
    .bind(PARTITION)
    .bind(ranges_json(runs)?)
    .execute(connection)
    .await
    .map(|_| ())
}

/// Deletes a topic's log, so that nothing can be appended to it, and its first batches. Answers whether more are
/// left.
pub(super) async fn delete_some(
    database: &Database,
    topic: TopicIncarnation,
) -> Result<bool, StoreError> {
    let mut connection = database.writer().await?;
    let deleted = async {
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
        delete_log(&mut transaction, topic).await?;
        let everything = 0..Offset::MAX;
        let (runs, next) = runs(&mut transaction, topic, slice::from_ref(&everything)).await?;
        delete_runs(&mut transaction, topic, &runs).await?;
        transaction.commit().await?;
        Ok(next.is_some())
    }
    .await;
    deleted.map_err(|error| {
        connection.give_up();
        database.commit_failed(&error)
    })
}

async fn delete_log(
    connection: &mut SqliteConnection,
    topic: TopicIncarnation,
) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM logs WHERE topic = ?")
        .bind(to_sql(topic.0))
        .execute(connection)
        .await
        .map(|_| ())
}
