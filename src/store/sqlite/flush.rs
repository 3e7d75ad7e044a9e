//! Writes the changes of many subscriptions in one transaction, with one statement for each kind of row.
//!
//! Each statement gets its rows as one JSON array: a statement costs two switches between threads, whatever it does.

use std::collections::HashMap;

use serde::Serialize;
use sqlx::{Connection as _, Row as _, SqliteConnection};

use super::{
    checksum::{chunk_checksum, position_checksum, retained_checksum},
    database::Database,
    directory::hex,
    state::write_failed,
};
use crate::{
    engine::change::PartitionChange,
    limits::CHUNK_OFFSETS,
    resource::id::SubscriptionId,
    store::{
        StoreError,
        log::{Offset, Partition},
        positions::{Flush, FlushOutcome},
        rows::{distinct, from_sql, to_json, to_sql},
    },
};

/// Stores the changes of those whose epoch is the current one.
pub(super) async fn flush(
    database: &Database,
    flushes: &[Flush],
) -> Result<Vec<FlushOutcome>, StoreError> {
    let mut writer = database.writer().await?;
    let outcomes = async {
        let mut transaction = writer.begin_with("BEGIN IMMEDIATE").await?;
        let mut outcomes = Vec::with_capacity(flushes.len());
        let mut rest = flushes;
        while !rest.is_empty() {
            // A later change of the same subscription builds on the earlier one.
            let (group, later) = rest.split_at(distinct(rest));
            flush_group(&mut transaction, group, &mut outcomes).await?;
            rest = later;
        }
        transaction.commit().await?;
        Ok(outcomes)
    }
    .await;
    outcomes.map_err(|error| write_failed(database, &mut writer, &error))
}

async fn flush_group(
    connection: &mut SqliteConnection,
    flushes: &[Flush],
    outcomes: &mut Vec<FlushOutcome>,
) -> Result<(), sqlx::Error> {
    let stored = Stored::read(connection, flushes).await?;
    let mut rows = Rows::default();
    for flush in flushes {
        let outcome = match stored.epochs.get(&flush.subscription) {
            None => FlushOutcome::Gone,
            Some(epoch) if *epoch != to_sql(flush.epoch) => FlushOutcome::Stale,
            Some(_) => FlushOutcome::Stored,
        };
        if outcome == FlushOutcome::Stored {
            for change in &flush.changes {
                let before = stored
                    .positions
                    .get(&(flush.subscription, change.partition));
                rows.add(flush.subscription, change, before.copied());
            }
        }
        outcomes.push(outcome);
    }
    rows.write(connection).await
}

/// What the file says of the subscriptions of a flush.
#[derive(Default)]
struct Stored {
    epochs: HashMap<SubscriptionId, i64>,
    positions: HashMap<(SubscriptionId, Partition), (u32, Offset)>,
}

impl Stored {
    async fn read(
        connection: &mut SqliteConnection,
        flushes: &[Flush],
    ) -> Result<Self, sqlx::Error> {
        let ids: Vec<i64> = flushes
            .iter()
            .map(|flush| to_sql(flush.subscription.0))
            .collect();
        let rows = sqlx::query(
            "SELECT owners.subscription, epoch, partition, generation, cursor
            FROM json_each(?) AS wanted
            CROSS JOIN owners ON owners.subscription = wanted.value
            LEFT JOIN positions ON positions.subscription = owners.subscription",
        )
        .bind(to_json(&ids)?)
        .fetch_all(connection)
        .await?;
        let mut stored = Self::default();
        for row in rows {
            let subscription = SubscriptionId(from_sql(row.try_get(0)?));
            stored.epochs.insert(subscription, row.try_get(1)?);
            if let Some(partition) = row.try_get::<Option<u32>, _>(2)? {
                let position = (row.try_get(3)?, from_sql(row.try_get(4)?));
                stored.positions.insert((subscription, partition), position);
            }
        }
        Ok(stored)
    }
}

/// The rows that a flush writes, in the order of their tables' columns.
#[derive(Default)]
struct Rows {
    positions: Vec<(i64, Partition, u32, i64, u32)>,
    /// Subscription, partition, the generation that stays.
    other_generations: Vec<(i64, Partition, u32)>,
    deleted_chunks: Vec<(i64, Partition, u32, i64)>,
    chunks: Vec<(i64, Partition, u32, i64, i64, String, u32)>,
    /// Subscription, partition, generation, the lowest chunk that stays.
    below: Vec<(i64, Partition, u32, i64)>,
    retained: Vec<(i64, Partition, u32, i64, i64, String, u32)>,
    released: Vec<(i64, Partition, u32, i64)>,
}

impl Rows {
    fn add(&mut self, id: SubscriptionId, change: &PartitionChange, before: Option<(u32, Offset)>) {
        let (partition, generation) = (change.partition, change.generation);
        let subscription = to_sql(id.0);
        if before != Some((generation, change.cursor)) {
            let crc32 = position_checksum(id, partition, generation, change.cursor);
            let cursor = to_sql(change.cursor);
            self.positions
                .push((subscription, partition, generation, cursor, crc32));
        }
        if before.is_some_and(|(before, _)| before != generation) {
            self.other_generations
                .push((subscription, partition, generation));
        }
        for index in &change.delete {
            self.deleted_chunks
                .push((subscription, partition, generation, to_sql(*index)));
        }
        for chunk in &change.put {
            self.chunks.push((
                subscription,
                partition,
                generation,
                to_sql(chunk.index),
                to_sql(chunk.done_after),
                hex(&chunk.body),
                chunk_checksum(id, partition, generation, chunk),
            ));
        }
        for key in &change.release {
            self.released
                .push((subscription, partition, generation, to_sql(*key)));
        }
        for row in &change.retain {
            self.retained.push((
                subscription,
                partition,
                generation,
                to_sql(row.key),
                to_sql(row.until.as_millis()),
                hex(&row.body),
                retained_checksum(id, partition, generation, row),
            ));
        }
        let cursor_chunk = change.cursor / CHUNK_OFFSETS;
        let moved = before.is_none_or(|(_, cursor)| cursor / CHUNK_OFFSETS != cursor_chunk);
        if moved || change.put.iter().any(|chunk| chunk.index < cursor_chunk) {
            self.below
                .push((subscription, partition, generation, to_sql(cursor_chunk)));
        }
    }

    async fn write(&self, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        put_positions(connection, &self.positions).await?;
        delete_other_generations(connection, &self.other_generations).await?;
        release_other_generations(connection, &self.other_generations).await?;
        release(connection, &self.released).await?;
        retain(connection, &self.retained).await?;
        delete_chunks(connection, &self.deleted_chunks).await?;
        put_chunks(connection, &self.chunks).await?;
        delete_chunks_below(connection, &self.below).await
    }
}

/// Runs a statement whose only argument is a JSON array of rows, if there are any.
async fn write(
    connection: &mut SqliteConnection,
    statement: &'static str,
    rows: &[impl Serialize],
) -> Result<(), sqlx::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query(statement)
        .bind(to_json(&rows)?)
        .execute(connection)
        .await
        .map(|_| ())
}

async fn put_positions(
    connection: &mut SqliteConnection,
    rows: &[impl Serialize],
) -> Result<(), sqlx::Error> {
    let statement = "INSERT INTO positions (subscription, partition, generation, cursor, crc32)
        SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4 FROM json_each(?) WHERE true
        ON CONFLICT DO UPDATE SET
            generation = excluded.generation, cursor = excluded.cursor, crc32 = excluded.crc32";
    write(connection, statement, rows).await
}

async fn delete_other_generations(
    connection: &mut SqliteConnection,
    rows: &[impl Serialize],
) -> Result<(), sqlx::Error> {
    let statement = "DELETE FROM chunks WHERE (subscription, partition, generation, chunk) IN (
            SELECT subscription, partition, generation, chunk
            FROM json_each(?) AS kept CROSS JOIN chunks
            ON subscription = kept.value ->> 0 AND partition = kept.value ->> 1 AND generation <> kept.value ->> 2
        )";
    write(connection, statement, rows).await
}

async fn delete_chunks(
    connection: &mut SqliteConnection,
    rows: &[impl Serialize],
) -> Result<(), sqlx::Error> {
    let statement = "DELETE FROM chunks WHERE (subscription, partition, generation, chunk) IN (
            SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3 FROM json_each(?)
        )";
    write(connection, statement, rows).await
}

async fn put_chunks(
    connection: &mut SqliteConnection,
    rows: &[impl Serialize],
) -> Result<(), sqlx::Error> {
    let statement = "INSERT INTO chunks (subscription, partition, generation, chunk, done_after, body, crc32)
        SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, unhex(value ->> 5), value ->> 6
        FROM json_each(?) WHERE true
        ON CONFLICT DO UPDATE SET
            done_after = excluded.done_after, body = excluded.body, crc32 = excluded.crc32";
    write(connection, statement, rows).await
}

async fn delete_chunks_below(
    connection: &mut SqliteConnection,
    rows: &[impl Serialize],
) -> Result<(), sqlx::Error> {
    let statement = "DELETE FROM chunks WHERE (subscription, partition, generation, chunk) IN (
            SELECT subscription, partition, generation, chunk
            FROM json_each(?) AS kept CROSS JOIN chunks
            ON subscription = kept.value ->> 0 AND partition = kept.value ->> 1
                AND generation = kept.value ->> 2 AND chunk < kept.value ->> 3
        )";
    write(connection, statement, rows).await
}

async fn release_other_generations(
    connection: &mut SqliteConnection,
    rows: &[impl Serialize],
) -> Result<(), sqlx::Error> {
    let statement = "DELETE FROM retained WHERE (subscription, partition, generation, key) IN (
            SELECT subscription, partition, generation, retained.key
            FROM json_each(?) AS kept CROSS JOIN retained
            ON subscription = kept.value ->> 0 AND partition = kept.value ->> 1 AND generation <> kept.value ->> 2
        )";
    write(connection, statement, rows).await
}

async fn release(
    connection: &mut SqliteConnection,
    rows: &[impl Serialize],
) -> Result<(), sqlx::Error> {
    let statement = "DELETE FROM retained WHERE (subscription, partition, generation, key) IN (
            SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3 FROM json_each(?)
        )";
    write(connection, statement, rows).await
}

async fn retain(
    connection: &mut SqliteConnection,
    rows: &[impl Serialize],
) -> Result<(), sqlx::Error> {
    let statement = "INSERT INTO retained (subscription, partition, generation, key, until, body, crc32)
        SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, unhex(value ->> 5), value ->> 6
        FROM json_each(?) WHERE true
        ON CONFLICT DO UPDATE SET until = excluded.until, body = excluded.body, crc32 = excluded.crc32";
    write(connection, statement, rows).await
}
