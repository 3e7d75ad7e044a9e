//! Reads a part of the state of many subscriptions, with as many statements whatever their number.

use std::collections::BTreeMap;

use sqlx::{Connection as _, Row as _, SqliteConnection, sqlite::SqliteRow};

use super::{
    checksum::{check, position_checksum, retained_checksum},
    database::Database,
    positions,
};
use crate::{
    clock::Timestamp,
    engine::change::{PartitionState, RetainedRow},
    limits::CHUNK_OFFSETS,
    resource::id::{SubscriptionId, TopicIncarnation},
    store::{
        StoreError,
        log::{Offset, Partition},
        positions::{Furthest, PositionsRead, ReadFrom, Retained},
        rows::{from_sql, to_json, to_sql},
    },
};

type States = BTreeMap<SubscriptionId, PartitionState>;

pub(super) async fn read(
    database: &Database,
    subscriptions: &[ReadFrom],
    partition: Partition,
    until: Offset,
    chunks_max: usize,
) -> Result<PositionsRead, StoreError> {
    let read = async {
        let mut connection = database.readers().acquire().await?;
        let mut snapshot = connection.begin().await?;
        let mut states = cursors(&mut snapshot, subscriptions, partition).await?;
        if until == 0 {
            return Ok((states, 0));
        }
        let asked: Vec<(i64, u32, i64)> = subscriptions
            .iter()
            .filter_map(|asked| {
                let state = states.get(&asked.subscription)?;
                let first = to_sql(asked.offset / CHUNK_OFFSETS);
                Some((to_sql(asked.subscription.0), state.generation, first))
            })
            .collect();
        let asked = to_json(&asked)?;
        let limit = limit(&mut snapshot, &asked, partition, chunks_max).await?;
        let (end, complete_to) = PositionsRead::end(until, limit);
        chunks(&mut snapshot, &asked, partition, end, &mut states).await?;
        Ok((states, complete_to))
    };
    let (states, complete_to) = read
        .await
        .map_err(|error: sqlx::Error| database.failed(&error))?;
    Ok(PositionsRead {
        complete_to,
        states,
    })
}

/// The rows with this key, of the generation that each state has.
pub(super) async fn retained(
    database: &Database,
    subscriptions: &[SubscriptionId],
    partition: Partition,
    key: u64,
) -> Result<Vec<Retained>, StoreError> {
    let asked: Vec<_> = subscriptions.iter().map(|id| to_sql(id.0)).collect();
    let read = async {
        let rows = sqlx::query(
            "SELECT subscription, generation, until, body, retained.crc32
            FROM json_each(?1) AS asked CROSS JOIN positions ON subscription = asked.value AND partition = ?2
            JOIN retained USING (subscription, partition, generation) WHERE retained.key = ?3",
        )
        .bind(to_json(&asked)?)
        .bind(partition)
        .bind(to_sql(key))
        .fetch_all(database.readers())
        .await?;
        let retained = |row: &SqliteRow| {
            let subscription = SubscriptionId(from_sql(row.try_get(0)?));
            let generation = row.try_get(1)?;
            let retained = RetainedRow {
                key,
                until: Timestamp::from_millis(from_sql(row.try_get(2)?)),
                body: row.try_get::<Vec<u8>, _>(3)?.into(),
            };
            let expected = retained_checksum(subscription, partition, generation, &retained);
            check(subscription, row.try_get(4)?, expected)?;
            Ok(Retained {
                subscription,
                generation,
                row: retained,
            })
        };
        rows.iter().map(retained).collect::<Result<_, _>>()
    };
    read.await
        .map_err(|error: sqlx::Error| database.failed(&error))
}

/// The highest cursor in each partition of each topic.
pub(super) async fn furthest(
    connection: &mut SqliteConnection,
) -> Result<Vec<Furthest>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT topic, partition, max(cursor) FROM positions JOIN subscriptions ON id = subscription
        WHERE detached = 0 GROUP BY topic, partition ORDER BY topic, partition",
    )
    .fetch_all(connection)
    .await?;
    let furthest = |row: &SqliteRow| {
        Ok(Furthest {
            topic: TopicIncarnation(from_sql(row.try_get(0)?)),
            partition: row.try_get(1)?,
            cursor: from_sql(row.try_get(2)?),
        })
    };
    rows.iter().map(furthest).collect()
}

async fn cursors(
    connection: &mut SqliteConnection,
    subscriptions: &[ReadFrom],
    partition: Partition,
) -> Result<States, sqlx::Error> {
    let asked = subscriptions
        .iter()
        .map(|asked| to_sql(asked.subscription.0));
    let rows = sqlx::query(
        "SELECT subscription, generation, cursor, crc32
        FROM json_each(?1) AS asked CROSS JOIN positions ON subscription = asked.value AND partition = ?2",
    )
    .bind(to_json(&asked.collect::<Vec<_>>())?)
    .bind(partition)
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| {
            let subscription = SubscriptionId(from_sql(row.try_get(0)?));
            let state = PartitionState {
                partition,
                generation: row.try_get(1)?,
                cursor: from_sql(row.try_get(2)?),
                chunks: Vec::new(),
                retained: Vec::new(),
            };
            let expected =
                position_checksum(subscription, partition, state.generation, state.cursor);
            check(subscription, row.try_get(3)?, expected)?;
            Ok((subscription, state))
        })
        .collect()
}

/// The lowest chunk that some subscription has behind `chunks_max` others of its own.
async fn limit(
    connection: &mut SqliteConnection,
    asked: &str,
    partition: Partition,
    chunks_max: usize,
) -> Result<Option<u64>, sqlx::Error> {
    let limit: Option<i64> = sqlx::query_scalar(
        "SELECT min((
            SELECT chunk FROM chunks
            WHERE subscription = asked.value ->> 0 AND partition = ?2 AND generation = asked.value ->> 1
                AND chunk >= asked.value ->> 2
            ORDER BY chunk LIMIT 1 OFFSET ?3
        )) FROM json_each(?1) AS asked",
    )
    .bind(asked)
    .bind(partition)
    .bind(to_sql(chunks_max as u64))
    .fetch_one(connection)
    .await?;
    Ok(limit.map(from_sql))
}

/// Adds the chunks below `end`, and of those below what was asked for the last, which may count done ones behind it.
async fn chunks(
    connection: &mut SqliteConnection,
    asked: &str,
    partition: Partition,
    end: u64,
    states: &mut States,
) -> Result<(), sqlx::Error> {
    let rows = sqlx::query(
        "SELECT chunk, done_after, body, crc32, subscription
        FROM json_each(?1) AS asked CROSS JOIN chunks
        ON subscription = asked.value ->> 0 AND partition = ?2 AND generation = asked.value ->> 1
            AND chunk < ?3 AND chunk >= coalesce((
                SELECT max(chunk) FROM chunks AS lower
                WHERE lower.subscription = asked.value ->> 0 AND lower.partition = ?2
                    AND lower.generation = asked.value ->> 1 AND lower.chunk < asked.value ->> 2
            ), asked.value ->> 2)
        ORDER BY subscription, chunk",
    )
    .bind(asked)
    .bind(partition)
    .bind(to_sql(end))
    .fetch_all(connection)
    .await?;
    for row in &rows {
        let subscription = SubscriptionId(from_sql(row.try_get(4)?));
        if let Some(state) = states.get_mut(&subscription) {
            let chunk = positions::chunk(row, subscription, state)?;
            state.chunks.push(chunk);
        }
    }
    Ok(())
}
