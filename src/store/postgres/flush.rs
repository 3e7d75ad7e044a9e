//! Writes the changes of many subscriptions in one transaction: it locks who owns them, then writes everything in one
//! statement, which comes later and so sees what was committed before the locks were had.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    mem,
};

use futures_util::FutureExt as _;
use sqlx::{Connection as _, PgConnection, Row as _};

use super::{
    connector::PURPOSE,
    database::{Database, bounded},
    link::Link,
};
use crate::{
    engine::change::{PartitionChange, RetainedRow},
    limits::CHUNK_OFFSETS,
    resource::id::SubscriptionId,
    store::{
        StoreError,
        positions::{Flush, FlushOutcome},
        rows::{distinct, from_sql, to_sql},
    },
};

/// Of the sessions that flush: how many rows a flush has is not known when its statements are planned, but an index
/// is always right for it.
pub(super) const SESSION_SETTINGS: [(&str, &str); 5] = [
    (PURPOSE, "flushes"),
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_seqscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
];

/// What a flush did.
#[derive(Debug)]
pub(super) struct Flushed {
    pub(super) outcomes: Vec<FlushOutcome>,
    pub(super) chunks_removed: u64,
}

/// Stores the changes of those whose epoch is the current one and whose owner is this session.
pub(super) async fn flush(
    database: &Database,
    link: &Link,
    session: i64,
    flushes: &[Flush],
) -> Result<Flushed, StoreError> {
    let link = bounded(link.lock().boxed()).await;
    let mut link = link.map_err(|error| database.failed(&error))?;
    let mut committing = false;
    let done = bounded(async {
        let mut transaction = link.begin().await?;
        let outcomes = decide(&mut transaction, session, flushes).await?;
        let mut chunks_removed = 0;
        let mut rest = flushes;
        let mut rest_outcomes = outcomes.as_slice();
        while !rest.is_empty() {
            let count = distinct(rest);
            let mut rows = Rows::default();
            for (flush, outcome) in rest[..count].iter().zip(rest_outcomes) {
                if *outcome == FlushOutcome::Stored {
                    for change in &flush.changes {
                        rows.add(flush.subscription, change);
                    }
                }
            }
            chunks_removed += rows.write(&mut transaction).await?;
            rest = &rest[count..];
            rest_outcomes = &rest_outcomes[count..];
        }
        committing = true;
        transaction.commit().await?;
        Ok(Flushed {
            outcomes,
            chunks_removed,
        })
    })
    .await;
    match done {
        Ok(done) => {
            link.reuse();
            Ok(done)
        }
        // The connection is given up, and what was open on it is rolled back.
        Err(error) if committing => Err(database.commit_failed(&error)),
        Err(error) => Err(database.failed(&error)),
    }
}

/// Locks the rows of all owners that nobody else holds, and says what becomes of each entry.
async fn decide(
    connection: &mut PgConnection,
    session: i64,
    flushes: &[Flush],
) -> Result<Vec<FlushOutcome>, sqlx::Error> {
    let wanted: BTreeSet<i64> = flushes
        .iter()
        .map(|flush| to_sql(flush.subscription.0))
        .collect();
    let locked = lock(connection, &wanted.iter().copied().collect::<Vec<_>>()).await?;
    let missing: Vec<i64> = wanted
        .into_iter()
        .filter(|subscription| !locked.contains_key(subscription))
        .collect();
    let held = if missing.is_empty() {
        HashSet::new()
    } else {
        existing(connection, &missing).await?
    };
    let outcome = |flush: &Flush| {
        let subscription = to_sql(flush.subscription.0);
        match locked.get(&subscription) {
            Some(&(epoch, owner)) if epoch == to_sql(flush.epoch) && owner == Some(session) => {
                FlushOutcome::Stored
            }
            Some(_) => FlushOutcome::Stale,
            None if held.contains(&subscription) => FlushOutcome::Busy,
            None => FlushOutcome::Gone,
        }
    };
    Ok(flushes.iter().map(outcome).collect())
}

/// Epoch and session of the owners, by subscription.
async fn lock(
    connection: &mut PgConnection,
    subscriptions: &[i64],
) -> Result<HashMap<i64, (i64, Option<i64>)>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT subscription, epoch, session FROM owners WHERE subscription = ANY ($1)
        ORDER BY subscription FOR UPDATE SKIP LOCKED",
    )
    .bind(subscriptions)
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| Ok((row.try_get(0)?, (row.try_get(1)?, row.try_get(2)?))))
        .collect()
}

/// Which of the subscriptions have an owner row.
async fn existing(
    connection: &mut PgConnection,
    subscriptions: &[i64],
) -> Result<HashSet<i64>, sqlx::Error> {
    let found = sqlx::query_scalar("SELECT subscription FROM owners WHERE subscription = ANY ($1)")
        .bind(subscriptions)
        .fetch_all(connection)
        .await?;
    Ok(HashSet::from_iter(found))
}

/// The rows that a flush writes, as columns.
#[derive(Default)]
struct Rows<'a> {
    changed: Keys,
    cursors: Vec<i64>,
    deleted: Keys,
    deleted_chunks: Vec<i64>,
    put: Keys,
    put_chunks: Vec<i64>,
    put_done_after: Vec<i64>,
    put_bodies: Vec<&'a [u8]>,
    retained: Keys,
    retained_values: Vec<&'a RetainedRow>,
    released: Keys,
    released_keys: Vec<i64>,
}

#[derive(Default)]
struct Keys {
    subscriptions: Vec<i64>,
    partitions: Vec<i64>,
    generations: Vec<i64>,
}

impl Keys {
    fn push(&mut self, subscription: SubscriptionId, change: &PartitionChange) {
        self.subscriptions.push(to_sql(subscription.0));
        self.partitions.push(i64::from(change.partition));
        self.generations.push(i64::from(change.generation));
    }
}

impl<'a> Rows<'a> {
    fn add(&mut self, subscription: SubscriptionId, change: &'a PartitionChange) {
        self.changed.push(subscription, change);
        self.cursors.push(to_sql(change.cursor));
        // One statement must not touch a row twice, and removes what is below the cursor anyway.
        let lowest = change.cursor / CHUNK_OFFSETS;
        let put = change.put.iter().filter(|chunk| chunk.index >= lowest);
        let mut indexes = HashSet::new();
        for chunk in put {
            indexes.insert(chunk.index);
            self.put.push(subscription, change);
            self.put_chunks.push(to_sql(chunk.index));
            self.put_done_after.push(to_sql(chunk.done_after));
            self.put_bodies.push(&chunk.body);
        }
        for row in &change.retain {
            self.retained.push(subscription, change);
            self.retained_values.push(row);
        }
        for &key in &change.release {
            self.released.push(subscription, change);
            self.released_keys.push(to_sql(key));
        }
        let deleted = change.delete.iter();
        for &index in deleted.filter(|&index| *index >= lowest && !indexes.contains(index)) {
            self.deleted.push(subscription, change);
            self.deleted_chunks.push(to_sql(index));
        }
    }

    /// Removes what is not retained any more, if there is anything.
    async fn release(&mut self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        let released = mem::take(&mut self.released);
        if !self.released_keys.is_empty() {
            sqlx::query(
                "DELETE FROM retained USING unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[])
                    AS released (subscription, partition, generation, key)
                WHERE retained.subscription = released.subscription AND retained.partition = released.partition
                    AND retained.generation = released.generation AND retained.key = released.key",
            )
            .bind(released.subscriptions)
            .bind(released.partitions)
            .bind(released.generations)
            .bind(mem::take(&mut self.released_keys))
            .execute(&mut *connection)
            .await?;
        }
        Ok(())
    }

    /// Writes everything else in one statement, and says how many chunks it removed. Its parts all see the rows as they were
    /// before it.
    async fn write(mut self, connection: &mut PgConnection) -> Result<u64, sqlx::Error> {
        if self.cursors.is_empty() {
            return Ok(0);
        }
        self.release(connection).await?;
        let retained = mem::take(&mut self.retained_values);
        let column = |value: fn(&RetainedRow) -> u64| -> Vec<i64> {
            retained.iter().map(|row| to_sql(value(row))).collect()
        };
        let retained_bodies: Vec<&[u8]> = retained.iter().map(|row| row.body.as_ref()).collect();
        sqlx::query_scalar(
            "WITH changed AS MATERIALIZED (
                SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[])
                    AS changed (subscription, partition, generation, cursor)
            ), before AS MATERIALIZED (
                SELECT changed.*, positions.generation AS generation_before, positions.cursor AS cursor_before
                FROM changed JOIN positions USING (subscription, partition)
            ), below AS (
                DELETE FROM chunks USING before
                WHERE before.cursor / $13 <> before.cursor_before / $13
                    AND chunks.subscription = before.subscription AND chunks.partition = before.partition
                    AND chunks.generation = before.generation AND chunks.chunk < before.cursor / $13
                RETURNING 1
            ), deleted AS (
                DELETE FROM chunks
                USING unnest($5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[])
                    AS deleted (subscription, partition, generation, chunk)
                WHERE chunks.subscription = deleted.subscription AND chunks.partition = deleted.partition
                    AND chunks.generation = deleted.generation AND chunks.chunk = deleted.chunk
                RETURNING 1
            ), put AS (
                INSERT INTO chunks (subscription, partition, generation, chunk, done_after, body)
                SELECT * FROM unnest($9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $14::bigint[],
                    $15::bytea[])
                ON CONFLICT (subscription, partition, generation, chunk)
                    DO UPDATE SET done_after = excluded.done_after, body = excluded.body
            ), kept AS (
                INSERT INTO retained (subscription, partition, generation, key, until, body)
                SELECT * FROM unnest($16::bigint[], $17::bigint[], $18::bigint[], $19::bigint[], $20::bigint[],
                    $21::bytea[])
                ON CONFLICT (subscription, partition, generation, key)
                    DO UPDATE SET until = excluded.until, body = excluded.body
            ), leftover AS (
                INSERT INTO leftovers (subscription)
                SELECT DISTINCT subscription FROM before WHERE generation_before <> generation
            ), moved AS (
                INSERT INTO positions (subscription, partition, generation, cursor)
                SELECT subscription, partition, generation, cursor FROM changed
                ON CONFLICT (subscription, partition)
                    DO UPDATE SET generation = excluded.generation, cursor = excluded.cursor
                    WHERE (positions.generation, positions.cursor) <> (excluded.generation, excluded.cursor)
            )
            SELECT (SELECT count(*) FROM below) + (SELECT count(*) FROM deleted)",
        )
        .bind(self.changed.subscriptions)
        .bind(self.changed.partitions)
        .bind(self.changed.generations)
        .bind(self.cursors)
        .bind(self.deleted.subscriptions)
        .bind(self.deleted.partitions)
        .bind(self.deleted.generations)
        .bind(self.deleted_chunks)
        .bind(self.put.subscriptions)
        .bind(self.put.partitions)
        .bind(self.put.generations)
        .bind(self.put_chunks)
        .bind(to_sql(CHUNK_OFFSETS))
        .bind(self.put_done_after)
        .bind(self.put_bodies)
        .bind(self.retained.subscriptions)
        .bind(self.retained.partitions)
        .bind(self.retained.generations)
        .bind(column(|row| row.key))
        .bind(column(|row| row.until.as_millis()))
        .bind(retained_bodies)
        .fetch_one(connection)
        .await
        .map(from_sql)
    }
}
