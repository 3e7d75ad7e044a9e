//! One SQLite file: a single writer connection, one for checkpoints, a few readers, its settings and its migrations.

use std::{path::Path, sync::Arc, time::Duration};

use sqlx::{
    ConnectOptions as _, Connection as _, Row as _, Sqlite, SqliteConnection, SqlitePool,
    query::QueryScalar,
    sqlite::{
        SqliteArguments, SqliteAutoVacuum, SqliteConnectOptions, SqliteJournalMode,
        SqlitePoolOptions, SqliteSynchronous,
    },
};

use tokio::time::timeout;

use super::{
    checkpointer::Checkpointer,
    checkpoints::Checkpoints,
    errors::Errors,
    reserve::Reserve,
    writer::{Writer, WriterGuard},
};
use crate::store::StoreError;

/// Blobs of many KiB go into these at 1.5 times the rate of SQLite's default of 4 KiB.
pub(super) const PAGE_BYTES: u32 = 16 * 1024;
/// The writer's page cache in KiB (negative by SQLite's convention): a commit of the largest size fits in.
const WRITER_CACHE_KIB: &str = "-32768";
/// How long a connection waits for another one's lock; only a checkpoint ever holds one.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// What a file is, as its header and its migrations say.
#[derive(Debug)]
pub(super) struct Kind {
    /// Its name in the data directory.
    pub(super) file: &'static str,
    /// SQLite's `application_id`, which the first migration sets.
    pub(super) application_id: u32,
    /// The first leads from an empty file to version 1, and so on. Each sets `user_version`.
    pub(super) migrations: &'static [&'static str],
}

/// The settings that durability hangs on, as the writer's connection reports them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriterSettings {
    /// `PRAGMA synchronous`: 2 is FULL.
    pub synchronous: i64,
    /// `PRAGMA journal_mode`.
    pub journal_mode: String,
    /// `PRAGMA page_size`.
    pub page_size: i64,
    /// `PRAGMA auto_vacuum`: 2 is INCREMENTAL.
    pub auto_vacuum: i64,
}

/// An open file.
#[derive(Clone, Debug)]
pub(super) struct Database {
    writer: Arc<Writer>,
    readers: SqlitePool,
    errors: Arc<Errors>,
    pub(super) checkpoints: Arc<Checkpoints>,
    checkpointer: Arc<Checkpointer>,
}

impl Database {
    /// Opens the file, or creates it empty, and migrates it.
    pub(super) async fn open(
        path: &Path,
        kind: &Kind,
        create: bool,
        readers_max: u32,
        reserve: &Arc<Reserve>,
    ) -> Result<Self, sqlx::Error> {
        let common = SqliteConnectOptions::new()
            .filename(path)
            .busy_timeout(BUSY_TIMEOUT)
            .foreign_keys(false)
            .statement_cache_capacity(64)
            .disable_statement_logging();
        let new = common.clone().create_if_missing(create);
        // Only of a new file: SQLite writes the mode into an existing one again, which may turn out not to be ours.
        let new = if create {
            new.page_size(PAGE_BYTES)
                .auto_vacuum(SqliteAutoVacuum::Incremental)
        } else {
            new
        };
        let writer = new
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .pragma("journal_size_limit", reserve.wal_bytes_max().to_string())
            // The checkpointer does them.
            .pragma("wal_autocheckpoint", "0")
            .pragma("cache_size", WRITER_CACHE_KIB);
        // Rows may be blobs of a megabyte and more: none are read ahead of their consumer.
        let reader = common.clone().pragma("query_only", "ON").row_buffer_size(1);
        let writer = Arc::new(Writer::open(writer).await?);
        let errors = Arc::new(Errors::new(path.to_owned(), Arc::clone(reserve)));
        let checkpoints =
            Checkpoints::open(common, Arc::clone(&writer), Arc::clone(&errors)).await?;
        let checkpoints = Arc::new(checkpoints);
        let checkpointer = Checkpointer::start(Arc::clone(&checkpoints), Arc::clone(&writer));
        let database = Self {
            readers: pool(readers_max).connect_lazy_with(reader),
            checkpointer: Arc::new(checkpointer),
            writer,
            errors,
            checkpoints,
        };
        database.migrate(kind).await?;
        Ok(database)
    }

    async fn migrate(&self, kind: &Kind) -> Result<(), sqlx::Error> {
        let mut connection = self.writer.lock().await?;
        let version: i64 = sqlx::query_scalar("PRAGMA user_version")
            .fetch_one(&mut *connection)
            .await?;
        let done = usize::try_from(version).unwrap_or(usize::MAX);
        for migration in kind.migrations.iter().skip(done) {
            let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
            sqlx::raw_sql(*migration).execute(&mut *transaction).await?;
            transaction.commit().await?;
        }
        Ok(())
    }

    /// The writer's connection. It has one user at a time.
    pub(super) async fn writer(&self) -> Result<WriterGuard<'_>, StoreError> {
        self.lock_writer()
            .await
            .map_err(|error| self.failed(&error))
    }

    /// The same, with SQLite's own error.
    pub(super) async fn lock_writer(&self) -> Result<WriterGuard<'_>, sqlx::Error> {
        self.checkpoints.bound().await;
        self.writer.lock().await
    }

    /// The readers' connections.
    pub(super) const fn readers(&self) -> &SqlitePool {
        &self.readers
    }

    /// The file's path.
    pub(super) fn path(&self) -> &Path {
        self.errors.path()
    }

    /// Its room on the disk.
    pub(super) fn reserve(&self) -> &Arc<Reserve> {
        self.errors.reserve()
    }

    /// Does what is to go on when the disk is full. What finds that it is full does it once more, in the reserve.
    pub(super) async fn in_reserve<T, E, W>(
        &self,
        is_full: impl Fn(&E) -> bool,
        work: impl Fn() -> W,
    ) -> Result<T, E>
    where
        W: Future<Output = Result<T, E>>,
    {
        let had_room = !self.reserve().is_released();
        match work().await {
            Err(error) if had_room && is_full(&error) => work().await,
            done => done,
        }
    }

    /// Reads something small.
    pub(super) async fn check(&self, patience: Duration) -> Result<(), StoreError> {
        let version = sqlx::query("PRAGMA user_version").fetch_one(&self.readers);
        let Ok(version) = timeout(patience, version).await else {
            let file = self.path().display();
            let waited = patience.as_millis();
            return Err(StoreError::Unavailable(format!(
                "{file}: nothing could be read within {waited} ms"
            )));
        };
        version.map(drop).map_err(|error| self.failed(&error))
    }

    /// What the failure of a statement means. A write in it did not happen, as it was not committed.
    pub(super) fn failed(&self, error: &sqlx::Error) -> StoreError {
        self.errors.failed(error)
    }

    /// What the failure of a commit means.
    pub(super) fn commit_failed(&self, error: &sqlx::Error) -> StoreError {
        self.errors.commit_failed(error)
    }

    /// Reads the settings back from the writer's connection.
    pub(super) async fn writer_settings(&self) -> Result<WriterSettings, StoreError> {
        let mut connection = self.writer().await?;
        let failed = |error| self.failed(&error);
        let settings = WriterSettings {
            synchronous: pragma_int(&mut connection, "PRAGMA synchronous")
                .await
                .map_err(failed)?,
            journal_mode: sqlx::query("PRAGMA journal_mode")
                .fetch_one(&mut *connection)
                .await
                .and_then(|row| row.try_get(0))
                .map_err(failed)?,
            page_size: pragma_int(&mut connection, "PRAGMA page_size")
                .await
                .map_err(failed)?,
            auto_vacuum: pragma_int(&mut connection, "PRAGMA auto_vacuum")
                .await
                .map_err(failed)?,
        };
        Ok(settings)
    }

    /// Moves the write-ahead log into the file as a whole, unless a reader does not let go of it.
    pub(super) async fn checkpoint(&self) -> Result<(), sqlx::Error> {
        self.checkpoints.turn().await.empty().await.map(drop)
    }

    /// Moves the write-ahead log into the file, so that a copy of the file is whole, and closes all connections.
    pub(super) async fn close(&self) {
        self.readers.close().await;
        self.checkpointer.stop().await;
        if let Err(error) = self.checkpoint().await
            && !self.failed(&error).is_full()
        {
            tracing::warn!(%error, file = %self.path().display(), "the write-ahead log stays for the next start");
        }
        self.checkpoints.close().await;
        self.writer.close().await;
    }
}

fn pool(connections_max: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .max_connections(connections_max)
        .test_before_acquire(false)
        .idle_timeout(None)
        .max_lifetime(None)
}

/// The number that a write of at most one row returns, once it is committed.
///
/// The transaction is there because sqlx takes one row of a statement and ends it then: a commit that fails at that
/// moment would go unnoticed.
pub(super) async fn returned(
    connection: &mut SqliteConnection,
    write: QueryScalar<'_, Sqlite, i64, SqliteArguments>,
) -> Result<Option<i64>, sqlx::Error> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let number = write.fetch_optional(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(number)
}

/// A pragma that answers one number.
pub(super) async fn pragma_int(
    connection: &mut SqliteConnection,
    pragma: &'static str,
) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(pragma).fetch_one(connection).await
}
