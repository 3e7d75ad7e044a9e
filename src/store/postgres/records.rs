//! Documents in the database.

use async_trait::async_trait;
use bytes::Bytes;
use sqlx::{PgConnection, Row as _, postgres::PgRow};

use super::{PostgresState, changes, database::bounded, positions::small};
use crate::{
    resource::name::ProjectName,
    store::{
        Records, StoreError,
        membership::Change,
        records::{Record, RecordKey, WriteError},
        rows::{from_sql, to_sql},
    },
};

#[async_trait]
impl Records for PostgresState {
    async fn record(&self, key: &RecordKey) -> Result<Option<Record>, StoreError> {
        let mut connection = self.database.connection().await?;
        bounded(
            sqlx::query(
                "SELECT name, etag, needs, body FROM records
                WHERE kind = $1 AND project = $2 AND name = $3",
            )
            .bind(key.kind.as_ref())
            .bind(key.project.as_str())
            .bind(&key.name)
            .fetch_optional(&mut *connection),
        )
        .await
        .and_then(|row| {
            row.map(|row| record(&key.kind, &key.project, &row))
                .transpose()
        })
        .map_err(|error| connection.failed(&error))
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
        let written = changes::write(&self.database, async |transaction| {
            let etag = match read {
                None => insert(transaction, key, needs, body).await?,
                Some(read) => replace(transaction, key, read.etag, needs, body).await?,
            };
            Ok(etag.map(|etag| (from_sql(etag), Change::RecordChanged(key.clone()))))
        })
        .await?;
        written
            .map(|written| written.value)
            .ok_or(WriteError::Changed)
    }

    async fn delete_record(&self, key: &RecordKey, etag: u64) -> Result<(), WriteError> {
        let written = changes::write(&self.database, async |transaction| {
            let deleted = sqlx::query(
                "DELETE FROM records WHERE kind = $1 AND project = $2 AND name = $3 AND etag = $4",
            )
            .bind(key.kind.as_ref())
            .bind(key.project.as_str())
            .bind(&key.name)
            .bind(to_sql(etag))
            .execute(transaction)
            .await?;
            let deleted = deleted.rows_affected() == 1;
            Ok(deleted.then(|| ((), Change::RecordChanged(key.clone()))))
        })
        .await?;
        written.map(|_| ()).ok_or(WriteError::Changed)
    }

    async fn list_records(
        &self,
        kind: &str,
        project: &ProjectName,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Record>, StoreError> {
        let mut connection = self.database.connection().await?;
        bounded(
            sqlx::query(
                "SELECT name, etag, needs, body FROM records
                WHERE kind = $1 AND project = $2 AND name > $3 ORDER BY name LIMIT $4",
            )
            .bind(kind)
            .bind(project.as_str())
            .bind(after.unwrap_or_default())
            .bind(to_sql(limit as u64))
            .fetch_all(&mut *connection),
        )
        .await
        .and_then(|rows| rows.iter().map(|row| record(kind, project, row)).collect())
        .map_err(|error| connection.failed(&error))
    }
}

fn record(kind: &str, project: &ProjectName, row: &PgRow) -> Result<Record, sqlx::Error> {
    Ok(Record {
        key: RecordKey {
            kind: kind.to_owned().into(),
            project: project.clone(),
            name: row.try_get(0)?,
        },
        etag: from_sql(row.try_get(1)?),
        needs: small(row, 2)?,
        body: row.try_get::<Vec<u8>, _>(3)?.into(),
    })
}

async fn insert(
    connection: &mut PgConnection,
    key: &RecordKey,
    needs: u32,
    body: &Bytes,
) -> Result<Option<i64>, sqlx::Error> {
    sqlx::query_scalar(
        "INSERT INTO records (kind, project, name, etag, needs, body)
        VALUES ($1, $2, $3, nextval('etags'), $4, $5) ON CONFLICT DO NOTHING RETURNING etag",
    )
    .bind(key.kind.as_ref())
    .bind(key.project.as_str())
    .bind(&key.name)
    .bind(i64::from(needs))
    .bind(body.as_ref())
    .fetch_optional(connection)
    .await
}

async fn replace(
    connection: &mut PgConnection,
    key: &RecordKey,
    read: u64,
    needs: u32,
    body: &Bytes,
) -> Result<Option<i64>, sqlx::Error> {
    sqlx::query_scalar(
        "UPDATE records SET etag = nextval('etags'), needs = $5, body = $6
        WHERE kind = $1 AND project = $2 AND name = $3 AND etag = $4 RETURNING etag",
    )
    .bind(key.kind.as_ref())
    .bind(key.project.as_str())
    .bind(&key.name)
    .bind(to_sql(read))
    .bind(i64::from(needs))
    .bind(body.as_ref())
    .fetch_optional(connection)
    .await
}
