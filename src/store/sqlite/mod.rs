//! Both stores in one data directory: `log.db` with the messages, `state.db` with resources and positions.

#[cfg(test)]
mod checkpoint_tests;
mod checkpointer;
mod checkpoints;
mod checksum;
mod database;
mod directory;
mod epochs;
mod errors;
mod flush;
mod inspection;
mod log;
mod log_delete;
mod log_read;
mod log_rows;
mod log_writer;
mod positions;
mod positions_read;
mod private;
mod records;
mod reserve;
mod state;
mod subscriptions;
#[cfg(test)]
mod tests;
mod topics;
mod writer;

use std::{path::Path, sync::Arc};

use database::{Database, Kind};
use directory::{Directory, LogId};
use reserve::Reserve;
use writer::WriterGuard;

pub(crate) use self::inspection::{DataFile, Inspection, TopicRows};
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
        include_str!("migrations/state_3.sql"),
    ],
};

/// One of the files of a data directory.
struct Part {
    kind: &'static Kind,
    readers_max: u32,
    /// What is written in it as its log.
    log: Vec<u8>,
}

/// Opens the stores in a data directory, which is made if it does not exist. A first start that did not finish is
/// done again. The lock is held until it and both stores are dropped or closed.
pub async fn open(
    path: &Path,
    clock: Clock,
) -> Result<(SqliteLog, SqliteState, DirectoryLock), OpenError> {
    let mut directory = Directory::open(path)?;
    let id = directory.log_id;
    let parts = [log_part(id), state_part(id.0.to_vec())];
    let [log, state] = open_parts(&mut directory, parts).await?;
    let state = start_state(state, &directory).await?;
    let log = SqliteLog::start(log, id, clock, directory.lock.clone());
    Ok((log, state, directory.lock))
}

/// Opens only a log, for a state that is stored elsewhere.
pub async fn open_log(path: &Path, clock: Clock) -> Result<(SqliteLog, DirectoryLock), OpenError> {
    let mut directory = Directory::open(path)?;
    let id = directory.log_id;
    let [log] = open_parts(&mut directory, [log_part(id)]).await?;
    let log = SqliteLog::start(log, id, clock, directory.lock.clone());
    Ok((log, directory.lock))
}

/// Opens only a state, which belongs to the log of that identity.
pub async fn open_state(
    path: &Path,
    log_identity: &str,
) -> Result<(SqliteState, DirectoryLock), OpenError> {
    let mut directory = Directory::open(path)?;
    let parts = [state_part(log_identity.as_bytes().to_vec())];
    let [state] = open_parts(&mut directory, parts).await?;
    let state = start_state(state, &directory).await?;
    Ok((state, directory.lock))
}

fn log_part(id: LogId) -> Part {
    Part {
        kind: &LOG,
        readers_max: LOG_READERS_MAX,
        log: id.0.to_vec(),
    }
}

const fn state_part(log: Vec<u8>) -> Part {
    Part {
        kind: &STATE,
        readers_max: STATE_READERS_MAX,
        log,
    }
}

async fn start_state(state: Database, directory: &Directory) -> Result<SqliteState, OpenError> {
    SqliteState::start(state, directory.lock.clone())
        .await
        .map_err(|(state, source)| open_error(&state, source))
}

async fn open_parts<const N: usize>(
    directory: &mut Directory,
    parts: [Part; N],
) -> Result<[Database; N], OpenError> {
    let is_new = !directory.is_ready;
    for part in &parts {
        if is_new {
            directory.remove_unfinished(part.kind)?;
            directory.make_file(part.kind)?;
        } else {
            // All files are checked before SQLite opens one.
            directory::check_file(&directory.path, part.kind)?;
        }
    }
    let reserve = Reserve::open(&directory.path)
        .map_err(|source| directory::io_error(&directory.path, source))?;
    let mut opened = Vec::with_capacity(N);
    for part in &parts {
        let database = open_file(directory, part, is_new, &reserve).await?;
        if is_new {
            set_log(&database, part).await?;
        }
        opened.push(database);
    }
    if is_new {
        for database in &opened {
            // The headers that the next start checks must be in the files themselves.
            database
                .checkpoint()
                .await
                .map_err(|source| open_error(database.path(), source))?;
        }
        directory.set_ready()?;
    }
    for (database, part) in opened.iter().zip(&parts) {
        check_log(database, part).await?;
    }
    let Ok(opened) = opened.try_into() else {
        unreachable!("one database for each part");
    };
    Ok(opened)
}

async fn open_file(
    directory: &Directory,
    part: &Part,
    create: bool,
    reserve: &Arc<Reserve>,
) -> Result<Database, OpenError> {
    let path = directory.path.join(part.kind.file);
    Database::open(&path, part.kind, create, part.readers_max, reserve)
        .await
        .map_err(|source| open_error(&path, source))
}

fn open_error(path: &Path, source: sqlx::Error) -> OpenError {
    let path = path.to_owned();
    if errors::is_damage(&source) {
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

async fn set_log(database: &Database, part: &Part) -> Result<(), OpenError> {
    let mut writer = lock_writer(database).await?;
    let insert = if part.kind.application_id == STATE.application_id {
        let mut ack_key = [0; 16];
        getrandom::fill(&mut ack_key)?;
        sqlx::query("INSERT INTO store (log_id, ack_key) VALUES (?, ?)")
            .bind(part.log.clone())
            .bind(ack_key.to_vec())
    } else {
        sqlx::query("INSERT INTO store (log_id) VALUES (?)").bind(part.log.clone())
    };
    let inserted = insert.execute(&mut *writer).await;
    inserted
        .map(|_| ())
        .map_err(|source| open_error(database.path(), source))
}

async fn check_log(database: &Database, part: &Part) -> Result<(), OpenError> {
    let mut writer = lock_writer(database).await?;
    let found: Vec<u8> = sqlx::query_scalar("SELECT log_id FROM store")
        .fetch_one(&mut *writer)
        .await
        .map_err(|source| open_error(database.path(), source))?;
    if found == part.log {
        return Ok(());
    }
    Err(OpenError::OtherLog {
        path: database.path().to_owned(),
        found: directory::shown_log(&found),
        expected: directory::shown_log(&part.log),
    })
}
