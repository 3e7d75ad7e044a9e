//! Removes what is not needed any more, in short transactions between which others write, by one node at a time:
//! chunks and retained rows that belong to no position,
//! changes that everybody has applied, rows of nodes that are long gone.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use sqlx::{Connection as _, PgConnection};
use tokio::{sync::Notify, time::timeout};
use tokio_util::sync::CancellationToken;

use super::database::{Database, bounded, within};
use crate::{
    limits::{
        CHANGES_RETENTION_SECONDS, NODES_RETENTION_SECONDS, SWEEP_CHUNKS_MAX, SWEEP_MILLIS,
        VACUUM_CHUNKS_MIN, VACUUM_MILLIS_MAX, VACUUM_SHARE,
    },
    store::{
        StoreError,
        rows::{from_sql, to_sql},
    },
};

/// First half of the advisory lock; the other one is the number of a table, which tells stores in one database apart.
const SWEEP_LOCK: i32 = 0x5042_5357;

/// When to sweep. What this node removes of the chunks is vacuumed by itself: what a busy node removes within a minute,
/// which is how often the server checks its tables by default, is many times what is there.
#[derive(Debug)]
pub(super) struct Sweep {
    wanted: Notify,
    /// Since the last vacuum by this node.
    chunks_removed: AtomicU64,
    /// After how many more there is another.
    vacuum_after: AtomicU64,
}

impl Sweep {
    pub(super) const fn new() -> Self {
        Self {
            wanted: Notify::const_new(),
            chunks_removed: AtomicU64::new(0),
            vacuum_after: AtomicU64::new(VACUUM_CHUNKS_MIN),
        }
    }

    /// There is something to remove.
    pub(super) fn wanted(&self) {
        self.wanted.notify_one();
    }

    /// A flush removed so many chunks.
    pub(super) fn chunks_removed(&self, count: u64) {
        let before = self.chunks_removed.fetch_add(count, Ordering::Relaxed);
        let limit = self.vacuum_after.load(Ordering::Relaxed);
        if before < limit && before + count >= limit {
            self.wanted();
        }
    }

    /// Sweeps when it is told that there is something, and now and then, until it is told to stop.
    pub(super) async fn run(&self, database: &Database, stopping: CancellationToken) {
        loop {
            tokio::select! {
                () = stopping.cancelled() => return,
                _ = timeout(Duration::from_millis(SWEEP_MILLIS), self.wanted.notified()) => {}
            }
            let swept = tokio::select! {
                () = stopping.cancelled() => return,
                swept = self.pass(database) => swept,
            };
            if let Err(error) = swept {
                tracing::debug!(%error, "what is not needed any more is removed later");
            }
        }
    }

    async fn pass(&self, database: &Database) -> Result<(), StoreError> {
        if self.chunks_removed.load(Ordering::Relaxed) >= self.vacuum_after.load(Ordering::Relaxed)
        {
            let chunks = vacuum(database).await?;
            self.chunks_removed.store(0, Ordering::Relaxed);
            let next = VACUUM_CHUNKS_MIN.max(chunks / VACUUM_SHARE);
            self.vacuum_after.store(next, Ordering::Relaxed);
        }
        sweep(database).await?;
        Ok(())
    }
}

/// Has the room of removed chunks used again, unless another node does so. Returns how many chunks there are.
async fn vacuum(database: &Database) -> Result<u64, StoreError> {
    let mut connection = database.connection().await?;
    let longest = Duration::from_millis(VACUUM_MILLIS_MAX);
    let vacuumed = within(longest, async {
        sqlx::query("SELECT set_config('statement_timeout', $1, false)")
            .bind(VACUUM_MILLIS_MAX.to_string())
            .execute(&mut *connection)
            .await?;
        // Where the user does not own the table, the server only warns, and its own vacuum has to do.
        sqlx::raw_sql("VACUUM (SKIP_LOCKED, TRUNCATE false) chunks")
            .execute(&mut *connection)
            .await?;
        sqlx::query_scalar(
            "SELECT greatest(reltuples, 0)::bigint FROM pg_class WHERE oid = 'chunks'::regclass",
        )
        .fetch_one(&mut *connection)
        .await
    })
    .await;
    // Its statements may take too long from now on.
    connection.breaks();
    vacuumed
        .map(from_sql)
        .map_err(|error| connection.failed(&error))
}

/// Removes everything that there is to remove, unless another node is at it; then this returns false.
pub(super) async fn sweep(database: &Database) -> Result<bool, StoreError> {
    loop {
        let mut connection = database.connection().await?;
        let step = bounded(async {
            let mut transaction = connection.begin().await?;
            let step = if lock(&mut transaction).await? {
                step(&mut transaction).await?
            } else {
                Step::NotOurs
            };
            transaction.commit().await?;
            Ok(step)
        })
        .await;
        match step.map_err(|error| connection.commit_failed(&error))? {
            Step::More => {}
            Step::Last => return Ok(true),
            Step::NotOurs => return Ok(false),
        }
    }
}

enum Step {
    More,
    Last,
    /// Another node sweeps.
    NotOurs,
}

/// Whether no other node sweeps until this transaction ends.
async fn lock(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT pg_try_advisory_xact_lock($1, 'packetboat'::regclass::oid::bigint::integer)",
    )
    .bind(SWEEP_LOCK)
    .fetch_one(connection)
    .await
}

async fn step(connection: &mut PgConnection) -> Result<Step, sqlx::Error> {
    let next = sqlx::query_as("SELECT id, subscription FROM leftovers ORDER BY id LIMIT 1")
        .fetch_optional(&mut *connection)
        .await?;
    let Some((id, subscription)) = next else {
        remove_changes(connection).await?;
        remove_nodes(connection).await?;
        return Ok(Step::Last);
    };
    let removed = remove_chunks(connection, subscription).await?;
    let released = remove_retained(connection, subscription).await?;
    if removed.max(released) < SWEEP_CHUNKS_MAX {
        remove_leftover(connection, id).await?;
    }
    Ok(Step::More)
}

/// Of a subscription that is deleted, or has newer generations. A generation never comes back.
async fn remove_chunks(
    connection: &mut PgConnection,
    subscription: i64,
) -> Result<u64, sqlx::Error> {
    sqlx::query(
        "DELETE FROM chunks WHERE ctid = ANY (ARRAY (
            SELECT chunks.ctid FROM chunks WHERE chunks.subscription = $1 AND NOT EXISTS (
                SELECT 1 FROM positions WHERE positions.subscription = chunks.subscription
                    AND positions.partition = chunks.partition AND positions.generation = chunks.generation
            ) LIMIT $2
        ))",
    )
    .bind(subscription)
    .bind(to_sql(SWEEP_CHUNKS_MAX))
    .execute(connection)
    .await
    .map(|done| done.rows_affected())
}

/// As [`remove_chunks`].
async fn remove_retained(
    connection: &mut PgConnection,
    subscription: i64,
) -> Result<u64, sqlx::Error> {
    sqlx::query(
        "DELETE FROM retained WHERE ctid = ANY (ARRAY (
            SELECT retained.ctid FROM retained WHERE retained.subscription = $1 AND NOT EXISTS (
                SELECT 1 FROM positions WHERE positions.subscription = retained.subscription
                    AND positions.partition = retained.partition AND positions.generation = retained.generation
            ) LIMIT $2
        ))",
    )
    .bind(subscription)
    .bind(to_sql(SWEEP_CHUNKS_MAX))
    .execute(connection)
    .await
    .map(|done| done.rows_affected())
}

async fn remove_leftover(connection: &mut PgConnection, id: i64) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM leftovers WHERE id = $1")
        .bind(id)
        .execute(connection)
        .await
        .map(|_| ())
}

async fn remove_changes(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query(
        "DELETE FROM changes WHERE made < clock_timestamp() - $1 * interval '1 second' AND number <= (
            SELECT coalesce(min(seen), 0) FROM nodes WHERE expires > clock_timestamp()
        )",
    )
    .bind(to_sql(CHANGES_RETENTION_SECONDS))
    .execute(connection)
    .await
    .map(|_| ())
}

async fn remove_nodes(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM nodes WHERE expires < clock_timestamp() - $1 * interval '1 second'")
        .bind(to_sql(NODES_RETENTION_SECONDS))
        .execute(connection)
        .await
        .map(|_| ())
}
