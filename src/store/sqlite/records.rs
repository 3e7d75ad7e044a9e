//! Documents in the state's file.

use async_trait::async_trait;
use bytes::Bytes;
use sqlx::{Connection as _, Row as _, SqliteConnection, sqlite::SqliteRow};

use super::{SqliteState, state::write_failed};
use crate::{
    resource::name::ProjectName,
    store::{
        Records, StoreError,
        records::{Record, RecordKey, WriteError},
        rows::{from_sql, to_sql},
    },
};

#[async_trait]
impl Records for SqliteState {
    async fn record(&self, key: &RecordKey) -> Result<Option<Record>, StoreError> {
        let row = sqlx::query(
            "SELECT name, etag, needs, body FROM records WHERE kind = ? AND project = ? AND name = ?",
        )
        .bind(key.kind.as_ref())
        .bind(key.project.as_str())
        .bind(&key.name)
        .fetch_optional(self.database.readers())
        .await;
        row.and_then(|row| {
            row.map(|row| record(&key.kind, &key.project, &row))
                .transpose()
        })
        .map_err(|error| self.database.failed(&error))
    }

    async fn put_record(
        &self,
        key: &RecordKey,
        read: Option<&Record>,
        needs: u32,
        body: &Bytes,
    ) -> Result<u64, WriteError> {
        if let Some(read) = read {
            read.check_known()?;
        }
        self.database.reserve().admit().await?;
        let mut writer = self.database.writer().await?;
        let put = async {
            let mut transaction = writer.begin_with("BEGIN IMMEDIATE").await?;
            let etag = next_etag(&mut transaction).await?;
            let written = match read {
                None => insert(&mut transaction, key, etag, needs, body).await?,
                Some(read) => replace(&mut transaction, key, read.etag, etag, needs, body).await?,
            };
            if written {
                transaction.commit().await?;
            }
            Ok(written.then_some(from_sql(etag)))
        }
        .await;
        match put {
            Ok(etag) => etag.ok_or(WriteError::Changed),
            Err(error) => Err(write_failed(&self.database, &mut writer, &error).into()),
        }
    }

    async fn delete_record(&self, key: &RecordKey, etag: u64) -> Result<(), WriteError> {
        let mut writer = self.database.writer().await?;
        let deleted = sqlx::query(
            "DELETE FROM records WHERE kind = ? AND project = ? AND name = ? AND etag = ?",
        )
        .bind(key.kind.as_ref())
        .bind(key.project.as_str())
        .bind(&key.name)
        .bind(to_sql(etag))
        .execute(&mut *writer)
        .await;
        match deleted {
            Ok(deleted) if deleted.rows_affected() == 1 => Ok(()),
            Ok(_) => Err(WriteError::Changed),
            Err(error) => Err(write_failed(&self.database, &mut writer, &error).into()),
        }
    }

    async fn list_records(
        &self,
        kind: &str,
        project: &ProjectName,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Record>, StoreError> {
        let rows = sqlx::query(
            "SELECT name, etag, needs, body FROM records WHERE kind = ? AND project = ? AND name > ?
            ORDER BY name LIMIT ?",
        )
        .bind(kind)
        .bind(project.as_str())
        .bind(after.unwrap_or_default())
        .bind(to_sql(limit as u64))
        .fetch_all(self.database.readers())
        .await;
        rows.and_then(|rows| rows.iter().map(|row| record(kind, project, row)).collect())
            .map_err(|error| self.database.failed(&error))
    }
}

fn record(kind: &str, project: &ProjectName, row: &SqliteRow) -> Result<Record, sqlx::Error> {
    Ok(Record {
        key: RecordKey {
            kind: kind.to_owned().into(),
            project: project.clone(),
            name: row.try_get(0)?,
        },
        etag: from_sql(row.try_get(1)?),
        needs: row.try_get(2)?,
        body: row.try_get::<Vec<u8>, _>(3)?.into(),
    })
}

async fn next_etag(connection: &mut SqliteConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("UPDATE etags SET last = last + 1 RETURNING last")
        .fetch_one(connection)
        .await
}

async fn insert(
    connection: &mut SqliteConnection,
    key: &RecordKey,
    etag: i64,
    needs: u32,
    body: &Bytes,
) -> Result<bool, sqlx::Error> {
    sqlx::query(
        "INSERT INTO records (kind, project, name, etag, needs, body) VALUES (?, ?, ?, ?, ?, ?)
        ON CONFLICT DO NOTHING",
    )
    .bind(key.kind.as_ref())
    .bind(key.project.as_str())
    .bind(&key.name)
    .bind(etag)
    .bind(needs)
    .bind(body.as_ref())
    .execute(connection)
    .await
    .map(|done| done.rows_affected() == 1)
}

async fn replace(
    connection: &mut SqliteConnection,
    key: &RecordKey,
    read: u64,
    etag: i64,
    needs: u32,
    body: &Bytes,
) -> Result<bool, sqlx::Error> {
    sqlx::query(
        "UPDATE records SET etag = ?, needs = ?, body = ?
        WHERE kind = ? AND project = ? AND name = ? AND etag = ?",
    )
    .bind(etag)
    .bind(needs)
    .bind(body.as_ref())
    .bind(key.kind.as_ref())
    .bind(key.project.as_str())
    .bind(&key.name)
    .bind(to_sql(read))
    .execute(connection)
    .await
    .map(|done| done.rows_affected() == 1)
}
