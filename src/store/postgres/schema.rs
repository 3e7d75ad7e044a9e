//! The tables: made and brought up to date at start, by one process at a time.

use std::{pin::pin, time::Duration};

use sqlx::{Connection as _, PgConnection, Row as _};
use tokio::time::{Instant, sleep, timeout};

use super::{
    database::{bounded, is_lock_timeout},
    open::Refusal,
};
use crate::limits::{
    MIGRATION_POLL_MILLIS, MIGRATION_TELL_MILLIS, MIGRATION_WAIT_SECONDS_MAX, POSTGRES_VERSION_MIN,
};

/// The first leads from an empty schema to version 1, and so on.
pub(super) const MIGRATIONS: [&str; 2] = [
    include_str!("migrations/state_1.sql"),
    include_str!("migrations/state_2.sql"),
];
/// What the tables are like once all migrations are done.
pub(crate) const VERSION: i32 = 2;
const _: () = assert!(MIGRATIONS.len() == VERSION as usize);
/// First half of the advisory lock under which migrations run; the other one stands for the schema.
const MIGRATION_LOCK: i32 = 0x5042_4d47;

/// What the row of the store says.
#[derive(Debug)]
pub(super) struct Store {
    version: i32,
    pub(super) log_identity: String,
    pub(super) ack_key: Vec<u8>,
}

/// Whether the server is one that this version works with.
pub(super) async fn check_server(connection: &mut PgConnection) -> Result<(), Refusal> {
    let version: i32 = bounded(
        sqlx::query_scalar("SELECT current_setting('server_version_num')::integer")
            .fetch_one(&mut *connection),
    )
    .await?;
    if version < POSTGRES_VERSION_MIN * 10_000 {
        return Err(Refusal::OldServer {
            found: format!("{}.{}", version / 10_000, version % 10_000),
        });
    }
    let standby: bool =
        bounded(sqlx::query_scalar("SELECT pg_is_in_recovery()").fetch_one(&mut *connection))
            .await?;
    if standby {
        return Err(Refusal::Standby);
    }
    Ok(())
}

/// Brings the tables up to date, and makes the store one of that log if it is new.
pub(super) async fn prepare(
    connection: &mut PgConnection,
    log_identity: &str,
) -> Result<Store, Refusal> {
    match bounded(read(connection)).await {
        Ok(Some(store)) if store.version >= VERSION => return checked(store, log_identity),
        Ok(_) => {}
        // A migration holds it.
        Err(error) if is_lock_timeout(&error) => {}
        Err(error) => return Err(error.into()),
    }
    let mut ack_key = [0; 16];
    getrandom::fill(&mut ack_key)?;
    let longest = Duration::from_secs(MIGRATION_WAIT_SECONDS_MAX);
    let migrated = timeout(longest, async {
        loop {
            if let Some(store) = migrate(connection, log_identity, &ack_key).await? {
                return Ok::<_, sqlx::Error>(store);
            }
            sleep(Duration::from_millis(MIGRATION_POLL_MILLIS)).await;
        }
    });
    let store = telling(migrated).await.map_err(|_| Refusal::Migrating)??;
    checked(store, log_identity)
}

/// Says now and then that it is not done.
async fn telling<T>(work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    let started = Instant::now();
    let patience = Duration::from_millis(MIGRATION_TELL_MILLIS);
    loop {
        if let Ok(done) = timeout(patience, &mut work).await {
            return done;
        }
        tracing::info!(
            seconds = started.elapsed().as_secs(),
            "waiting for the tables to be brought up to date, here or by another process"
        );
    }
}

fn checked(store: Store, log_identity: &str) -> Result<Store, Refusal> {
    if store.version > VERSION {
        return Err(Refusal::Newer {
            found: store.version,
            known: VERSION,
        });
    }
    if store.log_identity != log_identity {
        return Err(Refusal::OtherLog {
            found: store.log_identity,
            expected: log_identity.to_owned(),
        });
    }
    Ok(store)
}

/// Runs the migrations that are missing, all in one transaction; `None` when another node does so.
async fn migrate(
    connection: &mut PgConnection,
    log_identity: &str,
    ack_key: &[u8],
) -> Result<Option<Store>, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    let alone: bool = sqlx::query_scalar(
        "SELECT pg_try_advisory_xact_lock($1, hashtext(coalesce(current_schema(), '')))",
    )
    .bind(MIGRATION_LOCK)
    .fetch_one(&mut *transaction)
    .await?;
    if !alone {
        transaction.rollback().await?;
        return Ok(None);
    }
    // A new table, or a row that is in use, may take longer than any other statement.
    sqlx::raw_sql("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0")
        .execute(&mut *transaction)
        .await?;
    let before = read(&mut transaction).await?;
    let done = before.as_ref().map_or(0, |store| store.version);
    let missing = MIGRATIONS
        .iter()
        .skip(usize::try_from(done).unwrap_or(usize::MAX));
    for migration in missing {
        sqlx::raw_sql(*migration).execute(&mut *transaction).await?;
    }
    if before.is_none() {
        sqlx::query("INSERT INTO packetboat (version, log_identity, ack_key) VALUES ($1, $2, $3)")
            .bind(VERSION)
            .bind(log_identity)
            .bind(ack_key)
            .execute(&mut *transaction)
            .await?;
    } else if done < VERSION {
        sqlx::query("UPDATE packetboat SET version = $1")
            .bind(VERSION)
            .execute(&mut *transaction)
            .await?;
    }
    let store = read(&mut transaction).await?;
    transaction.commit().await?;
    Ok(store)
}

/// The row of the store, if the tables are there.
async fn read(connection: &mut PgConnection) -> Result<Option<Store>, sqlx::Error> {
    // A session learns that a table was made when it locks one: without that, what another process made while this one
    // waited for its turn would still be missing.
    let exists: bool =
        sqlx::query_scalar("SELECT to_regclass('packetboat') IS NOT NULL FROM pg_class LIMIT 1")
            .fetch_one(&mut *connection)
            .await?;
    if !exists {
        return Ok(None);
    }
    // Of every version: only what the first migration made.
    let row = sqlx::query("SELECT version, log_identity, ack_key FROM packetboat")
        .fetch_one(connection)
        .await?;
    Ok(Some(Store {
        version: row.try_get(0)?,
        log_identity: row.try_get(1)?,
        ack_key: row.try_get(2)?,
    }))
}
