//! Topics in the state's file.

use std::sync::Arc;

use sqlx::{Connection as _, Row as _, SqliteConnection, SqliteExecutor, sqlite::SqliteRow};

use super::{
    database::{Database, returned},
    state::write_failed,
};
use crate::{
    resource::{
        id::{SubscriptionId, TopicIncarnation},
        name::{ProjectName, TopicName},
        topic::Topic,
    },
    store::{
        StoreError,
        log::{LogLocation, TopicLog},
        resources::{
            CreateError, LogNeeds, LogReader, TopicPhase, TopicRecord, TopicRow, UpdateError,
        },
        rows::{
            Listing, from_json, from_sql, invalid, listed_names, read_config, readable, to_json,
            to_sql,
        },
    },
};

/// [`TopicPhase`] as it is stored; the SQL texts here and beside know 1 as live and 2 as deleted.
const fn phase_of(stored: i64) -> TopicPhase {
    match stored {
        0 => TopicPhase::Creating,
        1 => TopicPhase::Live,
        _ => TopicPhase::Deleted,
    }
}

pub(super) async fn create(
    database: &Database,
    topic: &Topic,
    attached: Option<&LogLocation>,
) -> Result<TopicIncarnation, CreateError> {
    let location = attached.map(to_json).transpose();
    let location = location.map_err(|error| database.failed(&error))?;
    let config = to_json(topic).map_err(|error| database.failed(&error))?;
    let mut connection = database.writer().await?;
    let incarnation = returned(
        &mut connection,
        sqlx::query_scalar(
            "INSERT INTO topics (name, phase, version, config, place, needs) VALUES (?, 0, 1, ?, ?, ?)
            RETURNING incarnation",
        )
        .bind(topic.name.as_str())
        .bind(config)
        .bind(location)
        .bind(topic.requirement().version),
    )
    .await
    .and_then(|row| row.ok_or(sqlx::Error::RowNotFound));
    match incarnation {
        Ok(incarnation) => Ok(TopicIncarnation(from_sql(incarnation))),
        Err(sqlx::Error::Database(error)) if error.is_unique_violation() => {
            Err(CreateError::AlreadyExists)
        }
        Err(error) => Err(write_failed(database, &mut connection, &error).into()),
    }
}

pub(super) async fn publish(
    database: &Database,
    topic: TopicIncarnation,
    location: &LogLocation,
) -> Result<bool, StoreError> {
    let location = to_json(location).map_err(|error| database.failed(&error))?;
    let mut connection = database.writer().await?;
    sqlx::query("UPDATE topics SET phase = 1, place = ? WHERE incarnation = ? AND phase = 0")
        .bind(location)
        .bind(to_sql(topic.0))
        .execute(&mut *connection)
        .await
        .map(|published| published.rows_affected() == 1)
        .map_err(|error| write_failed(database, &mut connection, &error))
}

pub(super) async fn unfinished(
    database: &Database,
    name: &TopicName,
) -> Result<Option<TopicRow>, StoreError> {
    // The first condition is the one of the index.
    sqlx::query(
        "SELECT incarnation, place, phase, name FROM topics
        WHERE phase <> 2 AND phase = 0 AND name = ?",
    )
    .bind(name.as_str())
    .fetch_optional(database.readers())
    .await
    .and_then(|row| row.map(|row| topic_row(&row)).transpose())
    .map_err(|error| database.failed(&error))
}

pub(super) async fn get(
    database: &Database,
    name: &TopicName,
) -> Result<Option<TopicRecord>, StoreError> {
    // The first condition is the one of the index.
    sqlx::query(
        "SELECT incarnation, place, version, config, needs FROM topics
        WHERE phase <> 2 AND phase = 1 AND name = ?",
    )
    .bind(name.as_str())
    .fetch_optional(database.readers())
    .await
    .and_then(|row| row.map(|row| record(&row)).transpose())
    .map_err(|error| database.failed(&error))
}

fn record(row: &SqliteRow) -> Result<TopicRecord, sqlx::Error> {
    let needs = row.try_get(4)?;
    Ok(TopicRecord {
        log: log(row, 0)?,
        version: from_sql(row.try_get(2)?),
        topic: read_config(row.try_get(3)?, needs)?,
        needs,
    })
}

/// A log whose incarnation and location are two columns that begin at `column`.
pub(super) fn log(row: &SqliteRow, column: usize) -> Result<TopicLog, sqlx::Error> {
    Ok(TopicLog {
        incarnation: TopicIncarnation(from_sql(row.try_get(column)?)),
        location: Arc::new(location(row, column + 1)?.unwrap_or_else(LogLocation::embedded)),
    })
}

fn location(row: &SqliteRow, column: usize) -> Result<Option<LogLocation>, sqlx::Error> {
    let location = row.try_get::<Option<&str>, _>(column)?;
    location.map(from_json).transpose()
}

fn topic_row(row: &SqliteRow) -> Result<TopicRow, sqlx::Error> {
    Ok(TopicRow {
        incarnation: TopicIncarnation(from_sql(row.try_get(0)?)),
        location: location(row, 1)?,
        phase: phase_of(row.try_get(2)?),
        name: TopicName::parse("name", row.try_get(3)?).map_err(invalid)?,
    })
}

pub(super) async fn update(
    database: &Database,
    read: &TopicRecord,
    topic: &Topic,
) -> Result<TopicRecord, UpdateError> {
    let config = to_json(topic).map_err(|error| database.failed(&error))?;
    let mut connection = database.writer().await?;
    let needs = topic.requirement().version;
    let updated = sqlx::query(
        "UPDATE topics SET config = ?, needs = ?, version = version + 1
        WHERE incarnation = ? AND version = ? AND phase = 1",
    )
    .bind(config)
    .bind(needs)
    .bind(to_sql(read.log.incarnation.0))
    .bind(to_sql(read.version))
    .execute(&mut *connection)
    .await
    .map_err(|error| write_failed(database, &mut connection, &error))?;
    drop(connection);
    if updated.rows_affected() == 1 {
        return Ok(TopicRecord {
            log: read.log.clone(),
            topic: topic.clone(),
            version: read.version + 1,
            needs,
        });
    }
    if is_live(database, read.log.incarnation).await? {
        Err(UpdateError::Changed)
    } else {
        Err(UpdateError::Gone)
    }
}

async fn is_live(database: &Database, topic: TopicIncarnation) -> Result<bool, StoreError> {
    sqlx::query("SELECT 1 FROM topics WHERE incarnation = ? AND phase = 1")
        .bind(to_sql(topic.0))
        .fetch_optional(database.readers())
        .await
        .map(|row| row.is_some())
        .map_err(|error| database.failed(&error))
}

pub(super) async fn list(
    database: &Database,
    project: &ProjectName,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<TopicRecord>, StoreError> {
    let (after, end) = listed_names(project, "topics", after);
    let mut listing = Listing::new(after, limit);
    while let Some((after, wanted)) = listing.next() {
        let rows = sqlx::query(
            "SELECT incarnation, place, version, config, needs, name FROM topics
            WHERE phase <> 2 AND phase = 1 AND name > ? AND name < ? ORDER BY name LIMIT ?",
        )
        .bind(after)
        .bind(&end)
        .bind(wanted)
        .fetch_all(database.readers())
        .await
        .map_err(|error| database.failed(&error))?;
        listing.add(rows.iter().map(|row| (row.get(5), record(row))));
    }
    Ok(listing.found())
}

pub(super) async fn delete(
    database: &Database,
    topic: TopicIncarnation,
) -> Result<bool, StoreError> {
    let mut connection = database.writer().await?;
    sqlx::query("UPDATE topics SET phase = 2 WHERE incarnation = ? AND phase = 1")
        .bind(to_sql(topic.0))
        .execute(&mut *connection)
        .await
        .map(|deleted| deleted.rows_affected() == 1)
        .map_err(|error| write_failed(database, &mut connection, &error))
}

pub(super) async fn logs(database: &Database) -> Result<Vec<TopicRow>, StoreError> {
    rows(database.readers())
        .await
        .map_err(|error| database.failed(&error))
}

/// All rows, through any connection to the file.
pub(super) async fn rows(
    connection: impl SqliteExecutor<'_>,
) -> Result<Vec<TopicRow>, sqlx::Error> {
    let rows =
        sqlx::query("SELECT incarnation, place, phase, name FROM topics ORDER BY incarnation")
            .fetch_all(connection)
            .await?;
    let rows = rows.iter();
    Ok(rows
        .filter_map(|row| readable(row.get(3), topic_row(row)))
        .collect())
}

pub(super) async fn log_needs(
    database: &Database,
    topic: TopicIncarnation,
) -> Result<Option<LogNeeds>, StoreError> {
    let needs = async {
        let mut connection = database.readers().acquire().await?;
        let mut snapshot = connection.begin().await?;
        let Some(row) = row_of(&mut snapshot, topic).await? else {
            return Ok(None);
        };
        let readers = readers(&mut snapshot, topic).await?;
        Ok(Some(LogNeeds { row, readers }))
    }
    .await;
    needs.map_err(|error| database.failed(&error))
}

async fn row_of(
    connection: &mut SqliteConnection,
    topic: TopicIncarnation,
) -> Result<Option<TopicRow>, sqlx::Error> {
    sqlx::query("SELECT incarnation, place, phase, name FROM topics WHERE incarnation = ?")
        .bind(to_sql(topic.0))
        .fetch_optional(connection)
        .await
        .and_then(|row| row.map(|row| topic_row(&row)).transpose())
}

async fn readers(
    connection: &mut SqliteConnection,
    topic: TopicIncarnation,
) -> Result<Vec<LogReader>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT id, config, name FROM subscriptions WHERE detached = 0 AND topic = ? ORDER BY name",
    )
    .bind(to_sql(topic.0))
    .fetch_all(connection)
    .await?;
    let reader = |row: &SqliteRow| {
        let subscription = SubscriptionId(from_sql(row.try_get(0)?));
        let config = from_json(row.try_get(1)?);
        Ok(LogReader::of_stored(subscription, row.get(2), config))
    };
    rows.iter().map(reader).collect()
}

pub(super) async fn forget(database: &Database, topic: TopicIncarnation) -> Result<(), StoreError> {
    let mut connection = database.writer().await?;
    sqlx::query("DELETE FROM topics WHERE incarnation = ? AND phase <> 1")
        .bind(to_sql(topic.0))
        .execute(&mut *connection)
        .await
        .map(|_| ())
        .map_err(|error| write_failed(database, &mut connection, &error))
}

#[cfg(test)]
mod tests {
    use tempfile::tempdir;

    use super::{
        super::{STATE, epochs::Epochs, positions, reserve::Reserve},
        *,
    };

    /// What SQLite checks no earlier than at the commit.
    const FAILING_COMMITS: &str = "PRAGMA foreign_keys = ON;
        CREATE TABLE others (topic INTEGER REFERENCES topics (incarnation) DEFERRABLE INITIALLY DEFERRED);
        CREATE TRIGGER made AFTER INSERT ON topics BEGIN INSERT INTO others VALUES (0); END;
        CREATE TRIGGER changed AFTER UPDATE ON topics BEGIN INSERT INTO others VALUES (0); END;
        CREATE TRIGGER acquired AFTER UPDATE ON owners BEGIN INSERT INTO others VALUES (0); END;";

    #[tokio::test]
    async fn what_could_not_be_committed_is_not_answered_as_done() {
        let directory = tempdir().expect("a directory");
        let file = directory.path().join(STATE.file);
        let reserve = Reserve::open(directory.path()).expect("reserve");
        let open = || Database::open(&file, &STATE, true, 1, &reserve);
        let database = open().await.expect("open");
        let topic = |id: &str| {
            let name = TopicName::parse("name", &format!("projects/p/topics/{id}"));
            Topic::new(name.expect("valid"))
        };
        let location = LogLocation::embedded();
        let made = create(&database, &topic("kept"), None).await;
        let published = publish(&database, made.expect("created"), &location).await;
        published.expect("published");
        let kept = get(&database, &topic("kept").name).await;
        let kept = kept.expect("get").expect("is there");
        let mut writer = database.writer().await.expect("writer");
        positions::insert_owner(&mut writer, SubscriptionId(1))
            .await
            .expect("owner");
        sqlx::raw_sql(FAILING_COMMITS)
            .execute(&mut *writer)
            .await
            .expect("executed");
        drop(writer);

        let deleted = delete(&database, kept.log.incarnation).await;
        assert!(deleted.is_err(), "{deleted:?}");
        let found = get(&database, &kept.topic.name).await.expect("get");
        assert_eq!(found, Some(kept));
        for broken in ["create", "acquire"] {
            // The failure closed the connection that checks.
            let mut writer = database.writer().await.expect("writer");
            sqlx::raw_sql("PRAGMA foreign_keys = ON")
                .execute(&mut *writer)
                .await
                .expect("executed");
            drop(writer);
            let failed = match broken {
                "create" => create(&database, &topic("new"), None).await.is_err(),
                _ => positions::acquire(&database, &Epochs::default(), SubscriptionId(1))
                    .await
                    .is_err(),
            };
            assert!(failed, "{broken}");
        }
    }
}
