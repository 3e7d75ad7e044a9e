//! Deletes batches from the log's file, a bounded number at a time.

use std::ops::Range;

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
        rows::{from_sql, to_sql},
    },
};

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

/// The runs of batches wholly inside one of `done` that one pass can delete, and whether there are more.
pub(super) async fn select(
    database: &Database,
    topic: TopicIncarnation,
    done: &[Range<Offset>],
) -> Result<(Vec<Range<Offset>>, bool), StoreError> {
    let mut connection = database
        .readers()
        .acquire()
        .await
        .map_err(|error| database.failed(&error))?;
    let mut allowance = Allowance::new();
    let mut runs = Vec::new();
    for range in done {
        let (run, more) = first_run(&mut connection, topic, range, &mut allowance)
            .await
            .map_err(|error| database.failed(&error))?;
        runs.extend(run);
        if more {
            return Ok((runs, true));
        }
    }
    Ok((runs, false))
}

/// From the base of the first batch wholly inside `range` to the end of the last one that the allowance has room
/// for, and whether it ended there.
async fn first_run(
    connection: &mut SqliteConnection,
    topic: TopicIncarnation,
    range: &Range<Offset>,
    allowance: &mut Allowance,
) -> Result<(Option<Range<Offset>>, bool), sqlx::Error> {
    let rows = sqlx::query(
        "SELECT base, count, bytes FROM batches
        WHERE topic = ?1 AND partition = ?2 AND base >= ?3 AND base < ?4 ORDER BY base LIMIT ?5",
    )
    .bind(to_sql(topic.0))
    .bind(PARTITION)
    .bind(to_sql(range.start))
    .bind(to_sql(range.end))
    .bind(to_sql(BATCHES_MAX as u64 + 1))
    .fetch_all(connection)
    .await?;
    let mut run: Option<Range<Offset>> = None;
    for row in rows {
        let base = from_sql(row.try_get(0)?);
        let end = base.saturating_add(from_sql(row.try_get(1)?));
        if end > range.end {
            break;
        }
        if !allowance.take(from_sql(row.try_get(2)?)) {
            return Ok((run, true));
        }
        run = Some(run.map_or(base, |run| run.start)..end);
    }
    Ok((run, false))
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
        for run in runs {
            delete_run(&mut transaction, topic, run).await?;
        }
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

async fn delete_run(
    connection: &mut SqliteConnection,
    topic: TopicIncarnation,
    run: &Range<Offset>,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "DELETE FROM batches WHERE topic = ?1 AND partition = ?2 AND base >= ?3 AND base < ?4",
    )
    .bind(to_sql(topic.0))
    .bind(PARTITION)
    .bind(to_sql(run.start))
    .bind(to_sql(run.end))
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
        let (run, more) =
            first_run(&mut transaction, topic, &everything, &mut Allowance::new()).await?;
        if let Some(run) = run {
            delete_run(&mut transaction, topic, &run).await?;
        }
        transaction.commit().await?;
        Ok(more)
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
