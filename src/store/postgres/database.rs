//! The connections to the database: a small pool for everything but flushes and heartbeats, and what its errors mean.

use std::{
    io,
    ops::{Deref, DerefMut},
    sync::Arc,
    time::Duration,
};

use sqlx::{
    PgConnection,
    postgres::{PgDatabaseError, PgSeverity},
};
use tokio::time::timeout;

use super::{
    connector::{Connector, Unusable},
    pool::{Pool, Pooled},
};
use crate::{
    limits::{POSTGRES_ANSWER_MILLIS_MAX, POSTGRES_CONNECT_MILLIS_MAX},
    store::{StoreError, rows::newer},
};

/// The database. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Database {
    pool: Pool,
    shown: Arc<str>,
}

impl Database {
    /// Connects when it is first used.
    pub(super) fn new(connector: Connector, shown: &str) -> Self {
        Self {
            pool: Pool::new(connector),
            shown: shown.into(),
        }
    }

    /// User, host, port and database.
    pub(super) fn shown(&self) -> &str {
        &self.shown
    }

    /// Makes room for what is more urgent.
    pub(super) const fn pool(&self) -> &Pool {
        &self.pool
    }

    /// A connection of the pool, of which the server has just said that it takes writes.
    pub(super) async fn connection(&self) -> Result<Checkout, StoreError> {
        self.connection_within(Duration::from_millis(POSTGRES_CONNECT_MILLIS_MAX))
            .await
    }

    async fn connection_within(&self, longest: Duration) -> Result<Checkout, StoreError> {
        let pooled = self.pool.take(longest).await;
        let pooled = pooled.map_err(|error| match error {
            sqlx::Error::PoolTimedOut => {
                let why = self.pool.failure();
                let why = why.map_or(String::new(), |why| format!(" ({why})"));
                let millis = longest.as_millis();
                let shown = &self.shown;
                StoreError::Unavailable(format!(
                    "{shown}: no connection was free within {millis} ms{why}"
                ))
            }
            error => self.failed(&error),
        })?;
        Ok(Checkout {
            pooled,
            database: self.clone(),
        })
    }

    /// Has the server answer on some connection, and say that it takes writes.
    pub(super) async fn check(&self, patience: Duration) -> Result<(), StoreError> {
        self.connection_within(patience).await.map(drop)
    }

    /// What the failure of a statement means. A write in it did not happen, as it was not committed.
    pub(super) fn failed(&self, error: &sqlx::Error) -> StoreError {
        let shown = &self.shown;
        if let Some(newer) = newer(error) {
            return newer;
        }
        if let Some(unusable) = Unusable::of(error) {
            return StoreError::Unavailable(format!("{shown}: {unusable}"));
        }
        match error {
            sqlx::Error::PoolClosed => StoreError::Unavailable("the store is closed".to_owned()),
            sqlx::Error::ColumnDecode { .. }
            | sqlx::Error::Decode(_)
            | sqlx::Error::RowNotFound => StoreError::Damaged(format!("{shown}: {error}")),
            sqlx::Error::Database(answer) => {
                let text = format!("{shown}: {}", answer.message());
                match answer.code().as_deref() {
                    Some(DATA_CORRUPTED | INDEX_CORRUPTED) => StoreError::Damaged(text),
                    _ => StoreError::Unavailable(text),
                }
            }
            _ => StoreError::Unavailable(format!("{shown}: {error}")),
        }
    }

    /// What the failure of a commit, or of a statement that commits by itself, means: unless the server itself says
    /// that it rolled back, nobody knows.
    pub(super) fn commit_failed(&self, error: &sqlx::Error) -> StoreError {
        match severity(error) {
            // There was no connection to send anything on.
            _ if matches!(error, sqlx::Error::PoolClosed) || Unusable::of(error).is_some() => {
                self.failed(error)
            }
            Some(PgSeverity::Error) => self.failed(error),
            _ if error_code(error).as_deref() == Some(TRANSACTION_IDLE) => self.failed(error),
            _ => StoreError::Uncertain(format!("{}: {error}", self.shown)),
        }
    }

    /// Waits for the connections that are in use, and closes all.
    pub(super) async fn close(&self) {
        self.pool.close().await;
    }
}

/// A connection while it is used.
#[derive(Debug)]
pub(super) struct Checkout {
    pooled: Pooled,
    database: Database,
}

impl Checkout {
    /// What a failure before the commit means. The connection is not used again if it is what failed.
    pub(super) fn failed(&mut self, error: &sqlx::Error) -> StoreError {
        self.settle(error);
        self.database.failed(error)
    }

    /// What the failure of a commit, or of a statement that commits by itself, means; see there.
    pub(super) fn commit_failed(&mut self, error: &sqlx::Error) -> StoreError {
        self.settle(error);
        self.database.commit_failed(error)
    }

    /// What the failure of a transaction means, which had sent its commit or not.
    pub(super) fn transaction_failed(
        &mut self,
        error: &sqlx::Error,
        committing: bool,
    ) -> StoreError {
        if committing {
            self.commit_failed(error)
        } else {
            self.failed(error)
        }
    }

    /// Begins a transaction that is rolled back when this is dropped.
    pub(super) async fn begin_to_drop(&mut self) -> Result<(), sqlx::Error> {
        self.pooled.begin_to_drop().await
    }

    /// It is not used again.
    pub(super) const fn breaks(&mut self) {
        self.pooled.breaks();
    }

    fn settle(&mut self, error: &sqlx::Error) {
        if breaks_connection(error) {
            self.breaks();
        }
    }
}

impl Deref for Checkout {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.pooled
    }
}

impl DerefMut for Checkout {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.pooled
    }
}

/// Runs what waits for the database, for as long as an answer may take: a network that hangs must show.
pub(super) async fn bounded<T>(
    work: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    within(Duration::from_millis(POSTGRES_ANSWER_MILLIS_MAX), work).await
}

/// The same, for as long as is given.
pub(super) async fn within<T>(
    longest: Duration,
    work: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    timeout(longest, work).await.unwrap_or_else(|_| {
        let text = format!("no answer within {} ms", longest.as_millis());
        Err(io::Error::new(io::ErrorKind::TimedOut, text).into())
    })
}

/// Whether nobody knows what the connection will say next, or it is closed.
pub(super) fn breaks_connection(error: &sqlx::Error) -> bool {
    match error {
        // The server takes no writes any more: another one may.
        _ if error_code(error).as_deref() == Some(READ_ONLY) => true,
        sqlx::Error::Database(_) => severity(error) != Some(PgSeverity::Error),
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::BeginFailed => true,
        _ => false,
    }
}

/// Whether the statement only waited too long for a lock.
pub(super) fn is_lock_timeout(error: &sqlx::Error) -> bool {
    error_code(error).as_deref() == Some(LOCK_NOT_AVAILABLE)
}

fn severity(error: &sqlx::Error) -> Option<PgSeverity> {
    let error = error.as_database_error()?;
    let error = error.try_downcast_ref::<PgDatabaseError>()?;
    Some(error.severity())
}

/// The five characters of SQL's error code.
pub(super) fn error_code(error: &sqlx::Error) -> Option<String> {
    let code = error.as_database_error()?.code()?;
    Some(code.into_owned())
}

const TRANSACTION_IDLE: &str = "25P03";
const READ_ONLY: &str = "25006";
const LOCK_NOT_AVAILABLE: &str = "55P03";
const DATA_CORRUPTED: &str = "XX001";
const INDEX_CORRUPTED: &str = "XX002";
