//! Positions and chunks in the database, but for the flushes that write them.

use sqlx::{PgConnection, Row as _, postgres::PgRow};

use crate::{
    clock::Timestamp,
    engine::change::{PartitionState, RetainedRow, StoredChunk},
    resource::id::SubscriptionId,
    store::{
        log::{Offset, Partition},
        rows::{FIRST_GENERATION, from_sql, to_sql},
    },
};

/// Writes the owner row and the positions of a new subscription.
pub(super) async fn insert(
    connection: &mut PgConnection,
    subscription: SubscriptionId,
    starts: &[(Partition, Offset)],
) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT INTO owners (subscription, epoch) VALUES ($1, 0)")
        .bind(to_sql(subscription.0))
        .execute(&mut *connection)
        .await?;
    let (partitions, cursors): (Vec<i64>, Vec<i64>) = starts
        .iter()
        .map(|&(partition, cursor)| (i64::from(partition), to_sql(cursor)))
        .unzip();
    sqlx::query(
        "INSERT INTO positions (subscription, partition, generation, cursor)
        SELECT $1, partition, $2, cursor FROM unnest($3::bigint[], $4::bigint[]) AS starts (partition, cursor)",
    )
    .bind(to_sql(subscription.0))
    .bind(i64::from(FIRST_GENERATION))
    .bind(partitions)
    .bind(cursors)
    .execute(connection)
    .await
    .map(|_| ())
}

/// Deletes owner and positions, once a flush that holds the owner's row is through, and leaves the chunks over.
pub(super) async fn delete(
    connection: &mut PgConnection,
    subscription: SubscriptionId,
) -> Result<(), sqlx::Error> {
    let id = to_sql(subscription.0);
    sqlx::query("DELETE FROM owners WHERE subscription = $1")
        .bind(id)
        .execute(&mut *connection)
        .await?;
    sqlx::query("DELETE FROM positions WHERE subscription = $1")
        .bind(id)
        .execute(&mut *connection)
        .await?;
    sqlx::query("INSERT INTO leftovers (subscription) VALUES ($1)")
        .bind(id)
        .execute(connection)
        .await
        .map(|_| ())
}

/// The stored state of all partitions, as of one moment: it is one statement.
pub(super) async fn read(
    connection: &mut PgConnection,
    subscription: SubscriptionId,
) -> Result<Vec<PartitionState>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT partition, generation, cursor, chunk, done_after, body
        FROM positions LEFT JOIN chunks USING (subscription, partition, generation)
        WHERE subscription = $1 ORDER BY partition, chunk",
    )
    .bind(to_sql(subscription.0))
    .fetch_all(connection)
    .await?;
    let mut states: Vec<PartitionState> = Vec::new();
    for row in &rows {
        let partition = small(row, 0)?;
        // A position without chunks is one row without one.
        let has_chunk = row.try_get::<Option<i64>, _>(3)?.is_some();
        let chunk = has_chunk.then(|| chunk(row, 3)).transpose()?;
        match states.last_mut() {
            Some(state) if state.partition == partition => state.chunks.extend(chunk),
            _ => states.push(PartitionState {
                partition,
                generation: small(row, 1)?,
                cursor: from_sql(row.try_get(2)?),
                chunks: Vec::from_iter(chunk),
                retained: Vec::new(),
            }),
        }
    }
    Ok(states)
}

/// The rows that each of a subscription's partitions retains.
pub(super) async fn read_retained(
    connection: &mut PgConnection,
    subscription: SubscriptionId,
    states: &mut [PartitionState],
) -> Result<(), sqlx::Error> {
    let rows = sqlx::query(
        "SELECT partition, key, until, body
        FROM positions JOIN retained USING (subscription, partition, generation)
        WHERE subscription = $1 ORDER BY partition, key",
    )
    .bind(to_sql(subscription.0))
    .fetch_all(connection)
    .await?;
    for row in &rows {
        let partition = small(row, 0)?;
        if let Some(state) = states.iter_mut().find(|state| state.partition == partition) {
            state.retained.push(RetainedRow {
                key: from_sql(row.try_get(1)?),
                until: Timestamp::from_millis(from_sql(row.try_get(2)?)),
                body: row.try_get::<Vec<u8>, _>(3)?.into(),
            });
        }
    }
    Ok(())
}

/// A chunk of which the index, what is done after it, and the body are in three columns from `first` on.
pub(super) fn chunk(row: &PgRow, first: usize) -> Result<StoredChunk, sqlx::Error> {
    Ok(StoredChunk {
        index: from_sql(row.try_get(first)?),
        done_after: from_sql(row.try_get(first + 1)?),
        body: row.try_get::<Vec<u8>, _>(first + 2)?.into(),
    })
}

/// A number of 32 bits, which Postgres has no unsigned type for.
pub(super) fn small(row: &PgRow, column: usize) -> Result<u32, sqlx::Error> {
    u32::try_from(row.try_get::<i64, _>(column)?).map_err(|error| sqlx::Error::Decode(error.into()))
}
