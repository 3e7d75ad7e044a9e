//! Moves the write-ahead log of a file into it, on a connection and so on a thread of its own.
//!
//! Who has its turn here may ask for the writer; who has the writer never asks for a turn.

use std::{
    fs::{self, File},
    mem,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteSynchronous},
};
use tokio::sync::{Mutex, MutexGuard};

use super::{errors::Errors, writer::Writer};

/// How long a checkpoint that holds up the writer waits for those who read the write-ahead log. Reads of this process
/// are bounded and take milliseconds; another program's may take any time.
const READERS_WAIT: Duration = Duration::from_secs(1);

/// Tells how far it is, and does nothing.
const NOOP: &str = "PRAGMA wal_checkpoint(NOOP)";
/// Waits for nobody, and nobody for it. The file is synced if nothing is left at the end; then the next commit starts
/// the write-ahead log anew, if nobody reads it.
const PASSIVE: &str = "PRAGMA wal_checkpoint(PASSIVE)";
/// Waits for readers, and leaves a write-ahead log of no bytes.
const TRUNCATE: &str = "PRAGMA wal_checkpoint(TRUNCATE)";

/// How far a write-ahead log is moved, in pages.
#[derive(Clone, Copy, Debug)]
pub(super) struct Progress {
    /// Pages in the write-ahead log.
    pub(super) written: u64,
    /// Of these, pages that are in the file too.
    pub(super) moved: u64,
    /// Whether a reader was in the way.
    pub(super) is_busy: bool,
}

impl Progress {
    /// Pages that are still to be moved.
    pub(super) const fn left(&self) -> u64 {
        self.written.saturating_sub(self.moved)
    }
}

/// The checkpoints of one file, one at a time.
#[derive(Debug)]
pub(super) struct Checkpoints {
    errors: Arc<Errors>,
    writer: Arc<Writer>,
    wal: PathBuf,
    /// What the write-ahead log may have.
    bytes_max: u64,
    /// The same, or more while something keeps it from being started anew.
    bytes_now: AtomicU64,
    /// For syncing the file while the writer goes on. It stays open as long as the connections: closing any descriptor
    /// of a file takes all locks from it that the process has, SQLite's too.
    file: Arc<File>,
    state: Mutex<State>,
}

/// The connection, and how it went.
#[derive(Debug)]
pub(super) struct State {
    pub(super) options: SqliteConnectOptions,
    pub(super) connection: Option<SqliteConnection>,
    is_closed: bool,
    is_failing: bool,
}

impl Checkpoints {
    /// Of the file that `options` lead to, whose writer does no checkpoints of its own.
    pub(super) async fn open(
        options: SqliteConnectOptions,
        writer: Arc<Writer>,
        errors: Arc<Errors>,
    ) -> Result<Self, sqlx::Error> {
        let options = options
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(READERS_WAIT);
        let connection = options.connect().await?;
        let mut wal = errors.path().as_os_str().to_owned();
        wal.push("-wal");
        let bytes_max = errors.reserve().wal_bytes_max();
        Ok(Self {
            writer,
            wal: wal.into(),
            bytes_max,
            bytes_now: AtomicU64::new(bytes_max),
            file: Arc::new(File::open(errors.path())?),
            state: Mutex::new(State {
                options,
                connection: Some(connection),
                is_closed: false,
                is_failing: false,
            }),
            errors,
        })
    }

    /// Bytes of the write-ahead log's file. No disk is asked: it is open.
    pub(super) fn wal_bytes(&self) -> u64 {
        fs::metadata(&self.wal).map_or(0, |wal| wal.len())
    }

    /// Bytes that the write-ahead log may have.
    pub(super) const fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// Bytes at which the writer waits.
    pub(super) fn bytes_now(&self) -> u64 {
        self.bytes_now.load(Relaxed)
    }

    /// Waits until the write-ahead log is below its bound, if it is not: who is about to write must not be faster than
    /// the disk. If it cannot be started anew, it may grow by as much again until that is tried once more.
    pub(super) async fn bound(&self) {
        if self.wal_bytes() <= self.bytes_now() {
            return;
        }
        let mut turn = self.turn().await;
        // Another one may have done it meanwhile.
        if self.wal_bytes() > self.bytes_now() {
            turn.empty().await.ok();
        }
    }

    /// Waits for the checkpoint under way, first come first served.
    pub(super) async fn turn(&self) -> Turn<'_> {
        Turn {
            checkpoints: self,
            state: self.state.lock().await,
        }
    }

    /// Closes the connection. Repeating it changes nothing.
    pub(super) async fn close(&self) {
        let mut state = self.state.lock().await;
        state.is_closed = true;
        if let Some(connection) = state.connection.take()
            && let Err(error) = connection.close().await
        {
            tracing::warn!(%error, "a connection to a file did not close in order");
        }
    }
}

/// The connection while it is used.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    checkpoints: &'a Checkpoints,
    pub(super) state: MutexGuard<'a, State>,
}

impl Turn<'_> {
    /// How far it is.
    pub(super) async fn progress(&mut self) -> Result<Progress, sqlx::Error> {
        self.run(NOOP).await
    }

    /// Moves what the readers allow while the writer goes on.
    pub(super) async fn copy(&mut self) -> Result<Progress, sqlx::Error> {
        self.run(PASSIVE).await
    }

    /// Syncs what was copied, so that less is left to be synced while the writer waits: SQLite itself syncs the file
    /// only when nothing is left to be copied.
    pub(super) async fn sync(&mut self) -> Result<(), sqlx::Error> {
        let file = Arc::clone(&self.checkpoints.file);
        let synced = tokio::task::spawn_blocking(move || file.sync_data()).await;
        // A task that did not run has synced nothing, as if it had never been asked.
        let synced = synced.unwrap_or(Ok(())).map_err(sqlx::Error::from);
        if let Err(error) = &synced {
            self.failed(error);
        }
        synced
    }

    /// Moves what is left while the writer waits. Short, if nearly everything was copied and synced before. The commit
    /// that starts the log anew gives back what its file has over `file_bytes`.
    pub(super) async fn finish(&mut self, file_bytes: u64) -> Result<Progress, sqlx::Error> {
        let writer = Arc::clone(&self.checkpoints.writer);
        let mut writer = writer.lock().await?;
        let limit = format!("PRAGMA journal_size_limit = {file_bytes}");
        sqlx::raw_sql(AssertSqlSafe(limit))
            .execute(&mut *writer)
            .await?;
        self.run(PASSIVE).await
    }

    /// Moves everything while the writer waits, and waits for readers. Whether that was possible.
    pub(super) async fn empty(&mut self) -> Result<bool, sqlx::Error> {
        let writer = Arc::clone(&self.checkpoints.writer);
        let emptied = async {
            let _writer = writer.lock().await?;
            self.run(TRUNCATE).await
        }
        .await;
        if matches!(emptied, Ok(progress) if !progress.is_busy) {
            self.works();
            return Ok(true);
        }
        let bytes = self.checkpoints.wal_bytes() + self.checkpoints.bytes_max;
        self.checkpoints.bytes_now.store(bytes, Relaxed);
        emptied?;
        self.tell("a reader does not let go of it");
        Ok(false)
    }

    /// The write-ahead log was started anew.
    pub(super) fn works(&mut self) {
        let checkpoints = self.checkpoints;
        checkpoints.bytes_now.store(checkpoints.bytes_max, Relaxed);
        if mem::take(&mut self.state.is_failing) {
            let file = checkpoints.errors.path().display();
            tracing::info!("the write-ahead log of {file} was started anew again");
        }
    }

    /// A full disk gets room from the reserve, and one more try.
    async fn run(&mut self, pragma: &'static str) -> Result<Progress, sqlx::Error> {
        let had_room = !self.checkpoints.errors.reserve().is_released();
        match self.try_run(pragma).await {
            Err(error) if self.failed(&error) && had_room => {
                let done = self.try_run(pragma).await;
                if let Err(error) = &done {
                    self.failed(error);
                }
                done
            }
            done => done,
        }
    }

    async fn try_run(&mut self, pragma: &'static str) -> Result<Progress, sqlx::Error> {
        let state = &mut *self.state;
        if state.is_closed {
            return Err(sqlx::Error::PoolClosed);
        }
        // Given up if it fails: nobody knows its state then.
        let mut connection = match state.connection.take() {
            Some(connection) => connection,
            None => state.options.connect().await?,
        };
        let (busy, written, moved): (i64, i64, i64) =
            sqlx::query_as(pragma).fetch_one(&mut connection).await?;
        state.connection = Some(connection);
        Ok(Progress {
            written: u64::try_from(written).unwrap_or(0),
            moved: u64::try_from(moved).unwrap_or(0),
            is_busy: busy != 0,
        })
    }

    /// Tells of a failure. Whether it is that of a full disk, which the reserve tells of.
    fn failed(&mut self, error: &sqlx::Error) -> bool {
        if matches!(error, sqlx::Error::PoolClosed) {
            return false;
        }
        let is_full = self.checkpoints.errors.failed(error).is_full();
        if !is_full {
            self.tell(&error.to_string());
        }
        is_full
    }

    /// Once, until it works again.
    fn tell(&mut self, why: &str) {
        if !mem::replace(&mut self.state.is_failing, true) {
            let file = self.checkpoints.errors.path().display();
            let mib = self.checkpoints.wal_bytes() / (1024 * 1024);
            tracing::warn!(
                "the write-ahead log of {file} ({mib} MiB) cannot be moved into it: {why}"
            );
        }
    }
}
