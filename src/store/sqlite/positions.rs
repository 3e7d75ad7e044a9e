//! Owners, positions and chunks in the state's file. A write is made only under the current epoch.

use sqlx::{Connection as _, Row as _, SqliteConnection};

use super::{
    checksum::{check, chunk_checksum, position_checksum},
    database::{Database, from_sql, returned, to_sql},
    state::write_failed,
};
use crate::{
    engine::change::{PartitionChange, PartitionState, StoredChunk},
    limits::CHUNK_OFFSETS,
    resource::id::SubscriptionId,
    store::{
        StoreError,
        log::{Offset, Partition},
        state::{Acquired, Flush, FlushOutcome},
    },
};

/// Chunks of a deleted subscription that one transaction removes.
const LEFTOVER_CHUNKS_MAX: u64 = 1024;

pub(super) async fn insert_owner(
    connection: &mut SqliteConnection,
    subscription: SubscriptionId,
) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT INTO owners (subscription, epoch) VALUES (?, 0)")
        .bind(to_sql(subscription.0))
        .execute(connection)
        .await
        .map(|_| ())
}

pub(super) async fn put_position(
    connection: &mut SqliteConnection,
    subscription: SubscriptionId,
    partition: Partition,
    generation: u32,
    cursor: Offset,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO positions (subscription, partition, generation, cursor, crc32) VALUES (?, ?, ?, ?, ?)
        ON CONFLICT DO UPDATE SET
            generation = excluded.generation, cursor = excluded.cursor, crc32 = excluded.crc32",
    )
    .bind(to_sql(subscription.0))
    .bind(partition)
    .bind(generation)
    .bind(to_sql(cursor))
    .bind(position_checksum(subscription, partition, generation, cursor))
    .execute(connection)
    .await
    .map(|_| ())
}

/// Deletes owner and positions, and leaves the chunks to [`remove_leftovers`].
pub(super) async fn delete(
    connection: &mut SqliteConnection,
    subscription: SubscriptionId,
) -> Result<(), sqlx::Error> {
    let id = to_sql(subscription.0);
    sqlx::query("DELETE FROM owners WHERE subscription = ?")
        .bind(id)
        .execute(&mut *connection)
        .await?;
    sqlx::query("DELETE FROM positions WHERE subscription = ?")
        .bind(id)
        .execute(&mut *connection)
        .await?;
    sqlx::query("INSERT INTO leftovers (subscription) VALUES (?)")
        .bind(id)
        .execute(&mut *connection)
        .await?;
    Ok(())
}

/// Removes the chunks of deleted subscriptions, in short transactions between which others write.
pub(super) async fn remove_leftovers(database: &Database) -> Result<(), sqlx::Error> {
    let ids: Vec<i64> = sqlx::query_scalar("SELECT subscription FROM leftovers")
        .fetch_all(database.readers())
        .await?;
    for id in ids {
        while remove_chunks(database, id).await? == LEFTOVER_CHUNKS_MAX {}
        sqlx::query("DELETE FROM leftovers WHERE subscription = ?")
            .bind(id)
            .execute(&mut *database.lock_writer().await?)
            .await?;
    }
    Ok(())
}

async fn remove_chunks(database: &Database, subscription: i64) -> Result<u64, sqlx::Error> {
    sqlx::query(
        "DELETE FROM chunks WHERE (subscription, partition, generation, chunk) IN (
            SELECT subscription, partition, generation, chunk FROM chunks WHERE subscription = ? LIMIT ?
        )",
    )
    .bind(subscription)
    .bind(to_sql(LEFTOVER_CHUNKS_MAX))
    .execute(&mut *database.lock_writer().await?)
    .await
    .map(|done| done.rows_affected())
}

pub(super) async fn acquire(
    database: &Database,
    subscription: SubscriptionId,
) -> Result<Option<Acquired>, StoreError> {
    let lost = |what: &str| {
        StoreError::Damaged(format!(
            "{}: the {what} of subscription {} is missing; restore the data directory from a backup, or delete \
             the subscription",
            database.path().display(),
            subscription.0
        ))
    };
    let Some(epoch) = raise_epoch(database, subscription).await? else {
        // Both rows come and go together.
        let exists = exists(database, subscription).await?;
        return if exists { Err(lost("owner")) } else { Ok(None) };
    };
    // From here on nobody with an older epoch can write, so what is read is what counts.
    let partitions = read(database, subscription).await?;
    if partitions.is_empty() {
        return Err(lost("position"));
    }
    Ok(Some(Acquired { epoch, partitions }))
}

async fn exists(database: &Database, subscription: SubscriptionId) -> Result<bool, StoreError> {
    sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM subscriptions WHERE id = ?)")
        .bind(to_sql(subscription.0))
        .fetch_one(database.readers())
        .await
        .map_err(|error| database.failed(&error))
}

/// The stored state of all partitions, as of one moment.
pub(super) async fn read(
    database: &Database,
    subscription: SubscriptionId,
) -> Result<Vec<PartitionState>, StoreError> {
    let states = async {
        let mut connection = database.readers().acquire().await?;
        let mut snapshot = connection.begin().await?;
        let mut states = positions(&mut snapshot, subscription).await?;
        for state in &mut states {
            state.chunks = chunks(&mut snapshot, subscription, state).await?;
        }
        Ok(states)
    };
    states
        .await
        .map_err(|error: sqlx::Error| database.failed(&error))
}

async fn raise_epoch(
    database: &Database,
    subscription: SubscriptionId,
) -> Result<Option<u64>, StoreError> {
    let mut connection = database.writer().await?;
    let epoch = returned(
        &mut connection,
        sqlx::query_scalar(
            "UPDATE owners SET epoch = epoch + 1 WHERE subscription = ? RETURNING epoch",
        )
        .bind(to_sql(subscription.0)),
    )
    .await;
    epoch
        .map(|epoch| epoch.map(from_sql))
        .map_err(|error| write_failed(database, &mut connection, &error))
}

async fn positions(
    connection: &mut SqliteConnection,
    subscription: SubscriptionId,
) -> Result<Vec<PartitionState>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT partition, generation, cursor, crc32 FROM positions WHERE subscription = ? ORDER BY partition",
    )
    .bind(to_sql(subscription.0))
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| {
            let state = PartitionState {
                partition: row.try_get(0)?,
                generation: row.try_get(1)?,
                cursor: from_sql(row.try_get(2)?),
                chunks: Vec::new(),
            };
            let expected = position_checksum(
                subscription,
                state.partition,
                state.generation,
                state.cursor,
            );
            check(subscription, row.try_get(3)?, expected)?;
            Ok(state)
        })
        .collect()
}

async fn chunks(
    connection: &mut SqliteConnection,
    subscription: SubscriptionId,
    state: &PartitionState,
) -> Result<Vec<StoredChunk>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT chunk, done_after, body, crc32 FROM chunks
        WHERE subscription = ? AND partition = ? AND generation = ? ORDER BY chunk",
    )
    .bind(to_sql(subscription.0))
    .bind(state.partition)
    .bind(state.generation)
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| {
            let chunk = StoredChunk {
                index: from_sql(row.try_get(0)?),
                done_after: from_sql(row.try_get(1)?),
                body: row.try_get::<Vec<u8>, _>(2)?.into(),
            };
            let expected = chunk_checksum(subscription, state.partition, state.generation, &chunk);
            check(subscription, row.try_get(3)?, expected)?;
            Ok(chunk)
        })
        .collect()
}

pub(super) async fn flush(
    database: &Database,
    flushes: &[Flush],
) -> Result<Vec<FlushOutcome>, StoreError> {
    let mut writer = database.writer().await?;
    let outcomes = async {
        let mut transaction = writer.begin_with("BEGIN IMMEDIATE").await?;
        let mut outcomes = Vec::with_capacity(flushes.len());
        for flush in flushes {
            outcomes.push(flush_one(&mut transaction, flush).await?);
        }
        transaction.commit().await?;
        Ok(outcomes)
    }
    .await;
    outcomes.map_err(|error| write_failed(database, &mut writer, &error))
}

async fn flush_one(
    connection: &mut SqliteConnection,
    flush: &Flush,
) -> Result<FlushOutcome, sqlx::Error> {
    let epoch: Option<i64> = sqlx::query_scalar("SELECT epoch FROM owners WHERE subscription = ?")
        .bind(to_sql(flush.subscription.0))
        .fetch_optional(&mut *connection)
        .await?;
    match epoch {
        None => return Ok(FlushOutcome::Gone),
        Some(epoch) if epoch != to_sql(flush.epoch) => return Ok(FlushOutcome::Stale),
        Some(_) => {}
    }
    for change in &flush.changes {
        apply(connection, flush.subscription, change).await?;
    }
    Ok(FlushOutcome::Stored)
}

async fn apply(
    connection: &mut SqliteConnection,
    subscription: SubscriptionId,
    change: &PartitionChange,
) -> Result<(), sqlx::Error> {
    let (partition, generation) = (change.partition, change.generation);
    let stored = stored_position(connection, subscription, partition).await?;
    if stored != Some((generation, change.cursor)) {
        put_position(
            connection,
            subscription,
            partition,
            generation,
            change.cursor,
        )
        .await?;
    }
    if stored.is_some_and(|(stored, _)| stored != generation) {
        delete_other_generations(connection, subscription, change).await?;
    }
    for index in &change.delete {
        delete_chunk(connection, subscription, change, *index).await?;
    }
    for chunk in &change.put {
        put_chunk(connection, subscription, change, chunk).await?;
    }
    let cursor_chunk = change.cursor / CHUNK_OFFSETS;
    let moved = stored.is_none_or(|(_, cursor)| cursor / CHUNK_OFFSETS != cursor_chunk);
    if moved || change.put.iter().any(|chunk| chunk.index < cursor_chunk) {
        delete_chunks_below(connection, subscription, change, cursor_chunk).await?;
    }
    Ok(())
}

async fn stored_position(
    connection: &mut SqliteConnection,
    subscription: SubscriptionId,
    partition: Partition,
) -> Result<Option<(u32, Offset)>, sqlx::Error> {
    let row = sqlx::query(
        "SELECT generation, cursor FROM positions WHERE subscription = ? AND partition = ?",
    )
    .bind(to_sql(subscription.0))
    .bind(partition)
    .fetch_optional(connection)
    .await?;
    row.map(|row| Ok((row.try_get(0)?, from_sql(row.try_get(1)?))))
        .transpose()
}

async fn delete_other_generations(
    connection: &mut SqliteConnection,
    subscription: SubscriptionId,
    change: &PartitionChange,
) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM chunks WHERE subscription = ? AND partition = ? AND generation <> ?")
        .bind(to_sql(subscription.0))
        .bind(change.partition)
        .bind(change.generation)
        .execute(connection)
        .await
        .map(|_| ())
}

async fn delete_chunk(
    connection: &mut SqliteConnection,
    subscription: SubscriptionId,
    change: &PartitionChange,
    index: u64,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "DELETE FROM chunks WHERE subscription = ? AND partition = ? AND generation = ? AND chunk = ?",
    )
    .bind(to_sql(subscription.0))
    .bind(change.partition)
    .bind(change.generation)
    .bind(to_sql(index))
    .execute(connection)
    .await
    .map(|_| ())
}

async fn delete_chunks_below(
    connection: &mut SqliteConnection,
    subscription: SubscriptionId,
    change: &PartitionChange,
    index: u64,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "DELETE FROM chunks WHERE subscription = ? AND partition = ? AND generation = ? AND chunk < ?",
    )
    .bind(to_sql(subscription.0))
    .bind(change.partition)
    .bind(change.generation)
    .bind(to_sql(index))
    .execute(connection)
    .await
    .map(|_| ())
}

async fn put_chunk(
    connection: &mut SqliteConnection,
    subscription: SubscriptionId,
    change: &PartitionChange,
    chunk: &StoredChunk,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO chunks (subscription, partition, generation, chunk, done_after, body, crc32)
        VALUES (?, ?, ?, ?, ?, ?, ?)
        ON CONFLICT DO UPDATE SET
            done_after = excluded.done_after, body = excluded.body, crc32 = excluded.crc32",
    )
    .bind(to_sql(subscription.0))
    .bind(change.partition)
    .bind(change.generation)
    .bind(to_sql(chunk.index))
    .bind(to_sql(chunk.done_after))
    .bind(chunk.body.to_vec())
    .bind(chunk_checksum(
        subscription,
        change.partition,
        change.generation,
        chunk,
    ))
    .execute(connection)
    .await
    .map(|_| ())
}
