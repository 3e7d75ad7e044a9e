//! The bare writers.

use std::{
    fs::{File, OpenOptions},
    io::Write as _,
    path::Path,
};

use sqlx::{
    ConnectOptions as _, Connection as _, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};

/// Something that makes a batch of messages durable.
#[derive(Debug)]
pub(crate) enum Writer {
    Sqlite(SqliteWriter),
    File(FileWriter),
}

impl Writer {
    /// Writes the next messages and returns once they are on the disk.
    pub(crate) async fn commit(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Sqlite(sqlite) => Ok(sqlite.commit().await?),
            Self::File(file) => Ok(file.commit()?),
        }
    }

    /// Closes the files.
    pub(crate) async fn close(self) -> anyhow::Result<()> {
        if let Self::Sqlite(sqlite) = self {
            sqlite.connection.close().await?;
        }
        Ok(())
    }
}

/// A table of blobs.
#[derive(Debug)]
pub(crate) struct SqliteWriter {
    connection: SqliteConnection,
    body: Vec<u8>,
    rows: usize,
}

impl SqliteWriter {
    /// A new database in `folder`, for transactions of `rows` rows of `row_bytes` each.
    ///
    /// What its durability and its pages are is as in `src/store/sqlite/database.rs`, but for `auto_vacuum`: giving
    /// room back to the disk is something that a bare writer does without.
    pub(crate) async fn create(
        folder: &Path,
        row_bytes: usize,
        rows: usize,
    ) -> Result<Self, sqlx::Error> {
        let mut connection = SqliteConnectOptions::new()
            .filename(folder.join("floor.sqlite"))
            .create_if_missing(true)
            .disable_statement_logging()
            .page_size(16 * 1024)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .pragma("journal_size_limit", "67108864")
            .pragma("wal_autocheckpoint", "2000")
            .pragma("cache_size", "-32768")
            .connect()
            .await?;
        sqlx::query("CREATE TABLE batches (id INTEGER PRIMARY KEY, body BLOB NOT NULL)")
            .execute(&mut connection)
            .await?;
        Ok(Self {
            connection,
            body: incompressible(row_bytes),
            rows,
        })
    }

    async fn commit(&mut self) -> Result<(), sqlx::Error> {
        if self.rows == 1 {
            return insert(&mut self.connection, &self.body).await;
        }
        let mut transaction = self.connection.begin_with("BEGIN IMMEDIATE").await?;
        for _ in 0..self.rows {
            insert(&mut transaction, &self.body).await?;
        }
        transaction.commit().await
    }
}

async fn insert(connection: &mut SqliteConnection, body: &[u8]) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT INTO batches (body) VALUES (?)")
        .bind(body)
        .execute(connection)
        .await?;
    Ok(())
}

/// A file that is appended to.
#[derive(Debug)]
pub(crate) struct FileWriter {
    file: File,
    body: Vec<u8>,
}

impl FileWriter {
    /// A new file in `folder`, for appends of `append_bytes` each.
    pub(crate) fn create(folder: &Path, append_bytes: usize) -> std::io::Result<Self> {
        let file = OpenOptions::new()
            .create_new(true)
            .append(true)
            .open(folder.join("floor.log"))?;
        Ok(Self {
            file,
            body: incompressible(append_bytes),
        })
    }

    fn commit(&mut self) -> std::io::Result<()> {
        self.file.write_all(&self.body)?;
        self.file.sync_data()
    }
}

/// Bytes that no file system makes smaller.
fn incompressible(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    getrandom::fill(&mut bytes).expect("the system has random bytes");
    bytes
}
