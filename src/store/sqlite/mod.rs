//! Both stores in one data directory: `log.db` with the messages, `state.db` with resources and positions.

mod checksum;
mod database;
mod directory;
mod flush;
mod log;
mod log_delete;
mod log_read;
mod log_rows;
mod log_writer;
mod positions;
mod state;
mod subscriptions;
#[cfg(test)]
mod tests;
mod topics;
mod writer;

use std::path::Path;

use database::{Database, Kind};
use directory::{Directory, LogId};
use writer::WriterGuard;

pub use self::{
    database::WriterSettings,
    directory::{DirectoryLock, OpenError},
    log::SqliteLog,
    state::SqliteState,
};
use crate::{
    clock::Clock,
    limits::{LOG_READERS_MAX, STATE_READERS_MAX},
};

const LOG: Kind = Kind {
    file: "log.db",
    application_id: 0x5042_4c47,
    migrations: &[include_str!("migrations/log_1.sql")],
};
const STATE: Kind = Kind {
    file: "state.db",
    application_id: 0x5042_5354,
    migrations: &[
        include_str!("migrations/state_1.sql"),
        include_str!("migrations/state_2.sql"),
    ],
};

/// Opens the stores in a data directory, which is made if it does not exist. A first start that did not finish is
/// done again. The lock is held until it and both stores are dropped or closed.
pub async fn open(
    path: &Path,
    clock: Clock,
) -> Result<(SqliteLog, SqliteState, DirectoryLock), OpenError> {
    let mut directory = Directory::open(path)?;
    let (log, state) = if directory.is_ready {
        // All files are looked at before SQLite touches one.
        directory.check_file(&LOG)?;
        directory.check_file(&STATE)?;
        let log = open_file(&directory, &LOG, false, LOG_READERS_MAX).await?;
        let state = open_file(&directory, &STATE, false, STATE_READERS_MAX).await?;
        (log, state)
    } else {
        directory.remove_unfinished(&LOG)?;
        directory.remove_unfinished(&STATE)?;
        create(&mut directory).await?
    };
    let lock = directory.lock;
    let log_id = directory.log_id;
    check_log_id(&log, log_id).await?;
    check_log_id(&state, log_id).await?;
    let state = SqliteState::start(state, lock.clone())
        .await
        .map_err(|(state, source)| open_error(&state, source))?;
    Ok((
        SqliteLog::start(log, log_id, clock, lock.clone()),
        state,
        lock,
    ))
}

async fn create(directory: &mut Directory) -> Result<(Database, Database), OpenError> {
    let log = open_file(directory, &LOG, true, LOG_READERS_MAX).await?;
    set_log_id(&log, directory.log_id).await?;
    let state = open_file(directory, &STATE, true, STATE_READERS_MAX).await?;
    let mut ack_key = [0; 16];
    getrandom::fill(&mut ack_key)?;
    set_log_id_and_ack_key(&state, directory.log_id, ack_key).await?;
    for database in [&log, &state] {
        // The headers that the next start looks at must be in the files themselves.
        database
            .checkpoint()
            .await
            .map_err(|source| open_error(database.path(), source))?;
    }
    directory.set_ready()?;
    Ok((log, state))
}

async fn open_file(
    directory: &Directory,
    kind: &Kind,
    create: bool,
    readers_max: u32,
) -> Result<Database, OpenError> {
    let path = directory.path.join(kind.file);
    Database::open(&path, kind, create, readers_max)
        .await
        .map_err(|source| open_error(&path, source))
}

fn open_error(path: &Path, source: sqlx::Error) -> OpenError {
    let path = path.to_owned();
    if database::is_damage(&source) {
        OpenError::Unreadable {
            path,
            reason: source.to_string(),
        }
    } else {
        OpenError::Sqlite { path, source }
    }
}

async fn lock_writer(database: &Database) -> Result<WriterGuard<'_>, OpenError> {
    let writer = database.lock_writer().await;
    writer.map_err(|source| open_error(database.path(), source))
}

async fn set_log_id(log: &Database, log_id: LogId) -> Result<(), OpenError> {
    let mut writer = lock_writer(log).await?;
    sqlx::query("INSERT INTO store (log_id) VALUES (?)")
        .bind(log_id.0.to_vec())
        .execute(&mut *writer)
        .await
        .map(|_| ())
        .map_err(|source| open_error(log.path(), source))
}

async fn set_log_id_and_ack_key(
    state: &Database,
    log_id: LogId,
    ack_key: [u8; 16],
) -> Result<(), OpenError> {
    let mut writer = lock_writer(state).await?;
    sqlx::query("INSERT INTO store (log_id, ack_key) VALUES (?, ?)")
        .bind(log_id.0.to_vec())
        .bind(ack_key.to_vec())
        .execute(&mut *writer)
        .await
        .map(|_| ())
        .map_err(|source| open_error(state.path(), source))
}

async fn check_log_id(database: &Database, expected: LogId) -> Result<(), OpenError> {
    let mut writer = lock_writer(database).await?;
    let found: Vec<u8> = sqlx::query_scalar("SELECT log_id FROM store")
        .fetch_one(&mut *writer)
        .await
        .map_err(|source| open_error(database.path(), source))?;
    if found == expected.0 {
        return Ok(());
    }
    Err(OpenError::OtherLog {
        path: database.path().to_owned(),
        found: directory::hex(&found),
        expected: expected.to_hex(),
    })
}
