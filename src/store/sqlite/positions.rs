//! Owners, positions and chunks in the state's file.

use sqlx::{Connection as _, Row as _, SqliteConnection, sqlite::SqliteRow};

use super::{
    checksum::{check, chunk_checksum, position_checksum, retained_checksum},
    database::Database,
    epochs::Epochs,
};
use crate::{
    clock::Timestamp,
    engine::change::{PartitionState, RetainedRow, StoredChunk},
    resource::id::SubscriptionId,
    store::{
        StoreError,
        log::{Offset, Partition},
        positions::{Acquire, Acquired},
        resources::check_known,
        rows::{from_sql, to_sql},
    },
};

/// Chunks, or retained rows, of a deleted subscription that one transaction removes.
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

/// Deletes owner and positions, and leaves chunks and retained rows to [`remove_leftovers`].
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

/// Removes chunks and retained rows of deleted subscriptions, in short transactions between which others write.
pub(super) async fn remove_leftovers(database: &Database) -> Result<(), sqlx::Error> {
    let ids: Vec<i64> = sqlx::query_scalar("SELECT subscription FROM leftovers")
        .fetch_all(database.readers())
        .await?;
    for id in ids {
        while remove_chunks(database, id).await? == LEFTOVER_CHUNKS_MAX {}
        while remove_retained(database, id).await? == LEFTOVER_CHUNKS_MAX {}
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

async fn remove_retained(database: &Database, subscription: i64) -> Result<u64, sqlx::Error> {
    sqlx::query(
        "DELETE FROM retained WHERE (subscription, partition, generation, key) IN (
            SELECT subscription, partition, generation, key FROM retained WHERE subscription = ? LIMIT ?
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
    epochs: &Epochs,
    subscription: SubscriptionId,
) -> Result<Acquire, StoreError> {
    if let Some((name, needs)) = needs(database, subscription).await? {
        check_known("subscription", &name, needs)?;
    }
    match epochs.raise(database, subscription).await? {
        Some(epoch) => acquired(database, subscription, epoch).await,
        None => gone_or_lost(database, subscription, "owner").await,
    }
}

/// What was taken over under `epoch`. Nobody with an older epoch can write any more, so what is read is what counts.
pub(super) async fn acquired(
    database: &Database,
    subscription: SubscriptionId,
    epoch: u64,
) -> Result<Acquire, StoreError> {
    let mut partitions = read(database, subscription).await?;
    if partitions.is_empty() {
        // Deleted since the epoch was raised, most likely.
        return gone_or_lost(database, subscription, "position").await;
    }
    retained(database, subscription, &mut partitions).await?;
    Ok(Acquire::Acquired(Acquired { epoch, partitions }))
}

/// What it means that rows of a subscription are not there: they come and go together with that of the subscription
/// itself, so only where that is left are they lost.
async fn gone_or_lost(
    database: &Database,
    subscription: SubscriptionId,
    what: &str,
) -> Result<Acquire, StoreError> {
    if !exists(database, subscription).await? {
        return Ok(Acquire::Gone);
    }
    Err(StoreError::Damaged(format!(
        "{}: the {what} of subscription {} is missing; restore the data directory from a backup, or delete the \
         subscription",
        database.path().display(),
        subscription.0
    )))
}

/// Name of the subscription, and the data version that it needs.
async fn needs(
    database: &Database,
    subscription: SubscriptionId,
) -> Result<Option<(String, u32)>, StoreError> {
    sqlx::query_as("SELECT name, needs FROM subscriptions WHERE id = ?")
        .bind(to_sql(subscription.0))
        .fetch_optional(database.readers())
        .await
        .map_err(|error| database.failed(&error))
}

async fn exists(database: &Database, subscription: SubscriptionId) -> Result<bool, StoreError> {
    sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM subscriptions WHERE id = ?)")
        .bind(to_sql(subscription.0))
        .fetch_one(database.readers())
        .await
        .map_err(|error| database.failed(&error))
}

/// The stored state of all partitions, as of one moment.
async fn read(
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

/// The rows that each of a subscription's partitions retains.
async fn retained(
    database: &Database,
    subscription: SubscriptionId,
    states: &mut [PartitionState],
) -> Result<(), StoreError> {
    let rows = sqlx::query(
        "SELECT partition, generation, key, until, body, crc32 FROM retained WHERE subscription = ?
        ORDER BY partition, key",
    )
    .bind(to_sql(subscription.0))
    .fetch_all(database.readers())
    .await
    .map_err(|error| database.failed(&error))?;
    for row in &rows {
        let read = || {
            let (partition, generation) = (row.try_get(0)?, row.try_get(1)?);
            let retained = RetainedRow {
                key: from_sql(row.try_get(2)?),
                until: Timestamp::from_millis(from_sql(row.try_get(3)?)),
                body: row.try_get::<Vec<u8>, _>(4)?.into(),
            };
            let expected = retained_checksum(subscription, partition, generation, &retained);
            check(subscription, row.try_get(5)?, expected)?;
            Ok((partition, generation, retained))
        };
        let (partition, generation, retained) = read().map_err(|error| database.failed(&error))?;
        let mut states = states.iter_mut();
        let state =
            states.find(|state| (state.partition, state.generation) == (partition, generation));
        if let Some(state) = state {
            state.retained.push(retained);
        }
    }
    Ok(())
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
                retained: Vec::new(),
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
        .map(|row| chunk(row, subscription, state))
        .collect()
}

/// A row with a chunk's index, what is done after it, its body and its checksum.
pub(super) fn chunk(
    row: &SqliteRow,
    subscription: SubscriptionId,
    state: &PartitionState,
) -> Result<StoredChunk, sqlx::Error> {
    let chunk = StoredChunk {
        index: from_sql(row.try_get(0)?),
        done_after: from_sql(row.try_get(1)?),
        body: row.try_get::<Vec<u8>, _>(2)?.into(),
    };
    let expected = chunk_checksum(subscription, state.partition, state.generation, &chunk);
    check(subscription, row.try_get(3)?, expected)?;
    Ok(chunk)
}
