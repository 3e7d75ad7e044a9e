//! What a data directory has, for an examination. Changes nothing in it, and locks it for no longer than a check takes.

use std::{
    fs::OpenOptions,
    path::{Path, PathBuf},
};

use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection, sqlite::SqliteConnectOptions};

use super::{
    LOG, STATE,
    database::Kind,
    directory::{self, LogId, OpenError},
    open_error, positions_read, private, topics,
};
use crate::store::{positions::Furthest, resources::TopicRow};

/// One of the files of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DataFile {
    /// Messages.
    Log,
    /// Everything else.
    State,
}

/// A data directory whose files were made completely once.
#[derive(Debug)]
pub(crate) struct Inspection {
    path: PathBuf,
    log_id: LogId,
    danger: Option<(String, String)>,
}

/// Reads the rows of topics. The default has none, as where no file is yet.
#[derive(Debug, Default)]
pub(crate) struct TopicRows {
    file: Option<PathBuf>,
}

impl DataFile {
    const fn kind(self) -> &'static Kind {
        match self {
            Self::Log => &LOG,
            Self::State => &STATE,
        }
    }
}

impl Inspection {
    /// `None` where the next start makes everything.
    ///
    /// # Errors
    ///
    /// If the directory is something else's, cannot be read, or everybody may write to it.
    pub(crate) fn of(path: &Path) -> Result<Option<Self>, OpenError> {
        match path.try_exists() {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            Err(source) => return Err(directory::io_error(path, source)),
        }
        let path = path.to_owned();
        let danger = private::check(&path)?;
        match directory::read_marker(&path)? {
            Some((log_id, true)) => Ok(Some(Self {
                path,
                log_id,
                danger,
            })),
            Some((_, false)) => Ok(None),
            None if directory::is_empty(&path)? => Ok(None),
            None => Err(OpenError::NotOurs { path }),
        }
    }

    /// What is dangerous about who may use the directory, if anything is, and what to do.
    pub(crate) const fn danger(&self) -> Option<&(String, String)> {
        self.danger.as_ref()
    }

    /// The identity of the directory's own log.
    pub(crate) fn log_identity(&self) -> String {
        self.log_id.identity()
    }

    /// Who uses the directory just now.
    pub(crate) fn user(&self) -> Result<Option<String>, OpenError> {
        directory::user(&self.path)
    }

    /// Whether the tables of a file are those of this version, not of an older one.
    ///
    /// # Errors
    ///
    /// If the file is not complete, or this process may not read and write it.
    pub(crate) fn is_current(&self, file: DataFile) -> Result<bool, OpenError> {
        let kind = file.kind();
        let is_current = directory::check_file(&self.path, kind)? == kind.migrations.len() as u32;
        let file = self.path.join(kind.file);
        let opened = OpenOptions::new().read(true).write(true).open(&file);
        opened.map_err(|source| directory::io_error(&file, source))?;
        Ok(is_current)
    }

    /// The topics, if the log that the state belongs to is known.
    ///
    /// # Errors
    ///
    /// If the state cannot be read, or belongs to another log.
    pub(crate) async fn topics(&self, log: Option<&str>) -> Result<Option<TopicRows>, OpenError> {
        let file = self.path.join(STATE.file);
        let found = log_of(&file).await;
        let found = found.map_err(|source| open_error(&file, source))?;
        match log {
            None => Ok(None),
            Some(log) if found == log.as_bytes() => Ok(Some(TopicRows { file: Some(file) })),
            Some(log) => Err(OpenError::OtherLog {
                path: file,
                found: directory::shown_log(&found),
                expected: log.to_owned(),
            }),
        }
    }
}

impl TopicRows {
    /// All rows, as they are now.
    pub(crate) async fn read(&self) -> Result<Vec<TopicRow>, OpenError> {
        let Some(file) = &self.file else {
            return Ok(Vec::new());
        };
        let read = async {
            let mut connection = connect(file).await?;
            let rows = topics::rows(&mut connection).await;
            connection.close().await?;
            rows
        };
        read.await.map_err(|source| open_error(file, source))
    }

    /// How far subscriptions have come, as it is now.
    pub(crate) async fn furthest(&self) -> Result<Vec<Furthest>, OpenError> {
        let Some(file) = &self.file else {
            return Ok(Vec::new());
        };
        let read = async {
            let mut connection = connect(file).await?;
            let furthest = positions_read::furthest(&mut connection).await;
            connection.close().await?;
            furthest
        };
        read.await.map_err(|source| open_error(file, source))
    }
}

async fn log_of(file: &Path) -> Result<Vec<u8>, sqlx::Error> {
    let mut connection = connect(file).await?;
    let log = sqlx::query_scalar("SELECT log_id FROM store")
        .fetch_one(&mut connection)
        .await;
    connection.close().await?;
    log
}

/// Without making a file beside it, unless a crash has left some that have to be read with it.
async fn connect(file: &Path) -> Result<SqliteConnection, sqlx::Error> {
    SqliteConnectOptions::new()
        .filename(file)
        .read_only(true)
        .immutable(!directory::has_wal(file))
        .disable_statement_logging()
        .connect()
        .await
}
