//! What SQLite's errors mean.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use super::reserve::Reserve;
use crate::store::{StoreError, rows::newer};

/// A file, and its room on the disk, as its errors are about one or the other.
#[derive(Debug)]
pub(super) struct Errors {
    path: PathBuf,
    reserve: Arc<Reserve>,
}

impl Errors {
    pub(super) const fn new(path: PathBuf, reserve: Arc<Reserve>) -> Self {
        Self { path, reserve }
    }

    /// The file's path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Its room on the disk.
    pub(super) const fn reserve(&self) -> &Arc<Reserve> {
        &self.reserve
    }

    /// What the failure of a statement means. A write in it did not happen, as it was not committed.
    pub(super) fn failed(&self, error: &sqlx::Error) -> StoreError {
        let file = self.path.display();
        if let Some(newer) = newer(error) {
            return newer;
        }
        match error {
            sqlx::Error::PoolClosed => StoreError::Unavailable("the store is closed".to_owned()),
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => {
                StoreError::Damaged(format!("{file}: {error}"))
            }
            _ => match primary_code(error) {
                Some(SQLITE_CORRUPT | SQLITE_NOTADB) => StoreError::Damaged(format!(
                    "{file}: {error}; restore the data directory from a backup, or go on without what is damaged"
                )),
                Some(SQLITE_FULL) => self.full(error),
                Some(SQLITE_IOERR) if self.reserve.is_exhausted() => self.full(error),
                _ => StoreError::Unavailable(format!("{file}: {error}")),
            },
        }
    }

    /// What the failure of a commit means: unless it did not get as far as writing the commit mark, nobody knows
    /// whether that mark is on the disk.
    pub(super) fn commit_failed(&self, error: &sqlx::Error) -> StoreError {
        match primary_code(error) {
            Some(SQLITE_BUSY | SQLITE_FULL | SQLITE_CORRUPT | SQLITE_NOTADB) => self.failed(error),
            code => {
                if code == Some(SQLITE_IOERR) && self.reserve.is_exhausted() {
                    self.reserve.release();
                }
                StoreError::Uncertain(format!("{}: {error}", self.path.display()))
            }
        }
    }

    fn full(&self, error: &sqlx::Error) -> StoreError {
        self.reserve.release();
        let text = self.reserve.shortage();
        StoreError::Full(text.unwrap_or_else(|| format!("{}: {error}", self.path.display())))
    }
}

/// Whether the file itself is what failed.
pub(super) fn is_damage(error: &sqlx::Error) -> bool {
    matches!(
        error,
        sqlx::Error::RowNotFound | sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_)
    ) || matches!(
        primary_code(error),
        Some(SQLITE_CORRUPT | SQLITE_NOTADB | SQLITE_ERROR)
    )
}

/// A statement that does not fit the tables: here, tables that are not there.
const SQLITE_ERROR: i32 = 1;
const SQLITE_BUSY: i32 = 5;
const SQLITE_IOERR: i32 = 10;
const SQLITE_CORRUPT: i32 = 11;
const SQLITE_FULL: i32 = 13;
const SQLITE_NOTADB: i32 = 26;

/// SQLite's result code without its extension.
fn primary_code(error: &sqlx::Error) -> Option<i32> {
    let code: i32 = error.as_database_error()?.code()?.parse().ok()?;
    Some(code & 0xff)
}
