//! Reads a part of the state of many subscriptions, with as many statements whatever their number.
//!
//! A flush between two of them does no harm: the chunks are those of one moment, and what was done once stays done.

use std::collections::BTreeMap;

use sqlx::{PgConnection, Row as _, postgres::PgRow};

use super::{
    database::{Database, bounded},
    positions::{chunk, small},
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
        rows::{from_sql, to_sql},
    },
};

type States = BTreeMap<SubscriptionId, PartitionState>;

/// Subscriptions, their generations and the first chunks that are asked for.
#[derive(Default)]
struct Asked {
    subscriptions: Vec<i64>,
    generations: Vec<i64>,
    chunks: Vec<i64>,
}

pub(super) async fn read(
    database: &Database,
    subscriptions: &[ReadFrom],
    partition: Partition,
    until: Offset,
    chunks_max: usize,
) -> Result<PositionsRead, StoreError> {
    let mut connection = database.connection().await?;
    let read = async {
        let mut states = cursors(&mut connection, subscriptions, partition).await?;
        if until == 0 {
            return Ok((states, 0));
        }
        let mut asked = Asked::default();
        for one in subscriptions {
            if let Some(state) = states.get(&one.subscription) {
                asked.subscriptions.push(to_sql(one.subscription.0));
                asked.generations.push(i64::from(state.generation));
                asked.chunks.push(to_sql(one.offset / CHUNK_OFFSETS));
            }
        }
        let limit = limit(&mut connection, &asked, partition, chunks_max).await?;
        let (end, complete_to) = PositionsRead::end(until, limit);
        chunks(&mut connection, &asked, partition, end, &mut states).await?;
        Ok((states, complete_to))
    };
    let read = bounded(read).await;
    let (states, complete_to) = read.map_err(|error| connection.failed(&error))?;
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
    let mut connection = database.connection().await?;
    let rows = bounded(
        sqlx::query(
            "SELECT subscription, generation, until, body
            FROM positions JOIN retained USING (subscription, partition, generation)
            WHERE subscription = ANY ($1::bigint[]) AND partition = $2 AND key = $3",
        )
        .bind(asked)
        .bind(i64::from(partition))
        .bind(to_sql(key))
        .fetch_all(&mut *connection),
    );
    let rows = rows.await.map_err(|error| connection.failed(&error))?;
    let retained = |row: &PgRow| {
        Ok(Retained {
            subscription: SubscriptionId(from_sql(row.try_get(0)?)),
            generation: small(row, 1)?,
            row: RetainedRow {
                key,
                until: Timestamp::from_millis(from_sql(row.try_get(2)?)),
                body: row.try_get::<Vec<u8>, _>(3)?.into(),
            },
        })
    };
    let retained: Result<_, sqlx::Error> = rows.iter().map(retained).collect();
    retained.map_err(|error| connection.failed(&error))
}

/// The highest cursor in each partition of each topic.
pub(super) async fn furthest(database: &Database) -> Result<Vec<Furthest>, StoreError> {
    let mut connection = database.connection().await?;
    let rows = bounded(
        sqlx::query(
            "SELECT topic, partition, max(cursor) FROM positions JOIN subscriptions ON id = subscription
            WHERE NOT detached GROUP BY topic, partition ORDER BY topic, partition",
        )
        .fetch_all(&mut *connection),
    );
    let rows = rows.await.map_err(|error| connection.failed(&error))?;
    let furthest = |row: &PgRow| {
        Ok(Furthest {
            topic: TopicIncarnation(from_sql(row.try_get(0)?)),
            partition: small(row, 1)?,
            cursor: from_sql(row.try_get(2)?),
        })
    };
    let furthest: Result<_, sqlx::Error> = rows.iter().map(furthest).collect();
    furthest.map_err(|error| connection.failed(&error))
}

async fn cursors(
    connection: &mut PgConnection,
    subscriptions: &[ReadFrom],
    partition: Partition,
) -> Result<States, sqlx::Error> {
    let asked = subscriptions
        .iter()
        .map(|asked| to_sql(asked.subscription.0));
    let rows = sqlx::query(
        "SELECT subscription, generation, cursor FROM positions
        WHERE subscription = ANY ($1::bigint[]) AND partition = $2",
    )
    .bind(asked.collect::<Vec<_>>())
    .bind(i64::from(partition))
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| {
            let state = PartitionState {
                partition,
                generation: small(row, 1)?,
                cursor: from_sql(row.try_get(2)?),
                chunks: Vec::new(),
                retained: Vec::new(),
            };
            Ok((SubscriptionId(from_sql(row.try_get(0)?)), state))
        })
        .collect()
}

/// The lowest chunk that some subscription has behind `chunks_max` others of its own.
async fn limit(
    connection: &mut PgConnection,
    asked: &Asked,
    partition: Partition,
    chunks_max: usize,
) -> Result<Option<u64>, sqlx::Error> {
    let limit: Option<i64> = sqlx::query_scalar(
        "SELECT min((
            SELECT chunk FROM chunks
            WHERE subscription = asked.id AND partition = $4 AND generation = asked.generation AND chunk >= first
            ORDER BY chunk LIMIT 1 OFFSET $5
        )) FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS asked (id, generation, first)",
    )
    .bind(&asked.subscriptions)
    .bind(&asked.generations)
    .bind(&asked.chunks)
    .bind(i64::from(partition))
    .bind(to_sql(chunks_max as u64))
    .fetch_one(connection)
    .await?;
    Ok(limit.map(from_sql))
}

/// Adds the chunks below `end`, and of those below what was asked for the last, which may count done ones behind it.
async fn chunks(
    connection: &mut PgConnection,
    asked: &Asked,
    partition: Partition,
    end: u64,
    states: &mut States,
) -> Result<(), sqlx::Error> {
    let rows = sqlx::query(
        "SELECT chunk, done_after, body, subscription
        FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS asked (id, generation, first)
        JOIN chunks ON subscription = asked.id AND partition = $4 AND chunks.generation = asked.generation
            AND chunk < $5 AND chunk >= coalesce((
                SELECT max(lower.chunk) FROM chunks AS lower
                WHERE lower.subscription = asked.id AND lower.partition = $4
                    AND lower.generation = asked.generation AND lower.chunk < asked.first
            ), asked.first)
        ORDER BY subscription, chunk",
    )
    .bind(&asked.subscriptions)
    .bind(&asked.generations)
    .bind(&asked.chunks)
    .bind(i64::from(partition))
    .bind(to_sql(end))
    .fetch_all(connection)
    .await?;
    for row in &rows {
        let subscription = SubscriptionId(from_sql(row.try_get(3)?));
        if let Some(state) = states.get_mut(&subscription) {
            state.chunks.push(chunk(row, 0)?);
        }
    }
    Ok(())
}
