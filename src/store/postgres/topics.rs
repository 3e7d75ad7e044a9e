//! Topics in the database.

use std::time::Duration;

use sqlx::{Connection as _, PgConnection, Row as _, postgres::PgRow};

use super::{
    changes::{self, Written},
    database::{Checkout, Database, bounded, within},
    positions::small,
};
use crate::{
    limits::TOPIC_LOCK_MILLIS_MAX,
    resource::{
        id::{SubscriptionId, TopicIncarnation},
        name::{ProjectName, TopicName},
        topic::Topic,
    },
    store::{
        StoreError,
        log::{LogLocation, TopicLog},
        membership::Change,
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
const fn phase_of(stored: i16) -> TopicPhase {
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
    let mut connection = database.connection().await?;
    let incarnation = bounded(
        sqlx::query_scalar(
            "INSERT INTO topics (name, phase, version, config, place, needs) VALUES ($1, 0, 1, $2, $3, $4)
            RETURNING incarnation",
        )
        .bind(topic.name.as_str())
        .bind(config)
        .bind(location)
        .bind(i64::from(topic.requirement().version))
        .fetch_one(&mut *connection),
    )
    .await;
    match incarnation {
        Ok(incarnation) => Ok(TopicIncarnation(from_sql(incarnation))),
        Err(sqlx::Error::Database(error)) if error.is_unique_violation() => {
            Err(CreateError::AlreadyExists)
        }
        Err(error) => Err(connection.commit_failed(&error).into()),
    }
}

pub(super) async fn publish(
    database: &Database,
    topic: TopicIncarnation,
    location: &LogLocation,
) -> Result<bool, StoreError> {
    let location = to_json(location).map_err(|error| database.failed(&error))?;
    let mut connection = database.connection().await?;
    bounded(
        sqlx::query("UPDATE topics SET phase = 1, place = $1 WHERE incarnation = $2 AND phase = 0")
            .bind(location)
            .bind(to_sql(topic.0))
            .execute(&mut *connection),
    )
    .await
    .map(|published| published.rows_affected() == 1)
    .map_err(|error| connection.commit_failed(&error))
}

pub(super) async fn unfinished(
    database: &Database,
    name: &TopicName,
) -> Result<Option<TopicRow>, StoreError> {
    let mut connection = database.connection().await?;
    // The first condition is the one of the index.
    bounded(
        sqlx::query(
            "SELECT incarnation, place, phase, name FROM topics
            WHERE phase <> 2 AND phase = 0 AND name = $1",
        )
        .bind(name.as_str())
        .fetch_optional(&mut *connection),
    )
    .await
    .and_then(|row| row.map(|row| topic_row(&row)).transpose())
    .map_err(|error| connection.failed(&error))
}

pub(super) async fn get(
    database: &Database,
    name: &TopicName,
) -> Result<Option<TopicRecord>, StoreError> {
    let mut connection = database.connection().await?;
    // The first condition is the one of the index.
    bounded(
        sqlx::query(
            "SELECT incarnation, place, version, config, needs FROM topics
            WHERE phase <> 2 AND phase = 1 AND name = $1",
        )
        .bind(name.as_str())
        .fetch_optional(&mut *connection),
    )
    .await
    .and_then(|row| row.map(|row| record(&row)).transpose())
    .map_err(|error| connection.failed(&error))
}

fn record(row: &PgRow) -> Result<TopicRecord, sqlx::Error> {
    let needs = small(row, 4)?;
    Ok(TopicRecord {
        log: log(row, 0)?,
        version: from_sql(row.try_get(2)?),
        topic: read_config(row.try_get(3)?, needs)?,
        needs,
    })
}

/// A log whose incarnation and location are two columns that begin at `column`.
pub(super) fn log(row: &PgRow, column: usize) -> Result<TopicLog, sqlx::Error> {
    Ok(TopicLog {
        incarnation: TopicIncarnation(from_sql(row.try_get(column)?)),
        location: location(row, column + 1)?
            .unwrap_or_else(LogLocation::embedded)
            .into(),
    })
}

fn location(row: &PgRow, column: usize) -> Result<Option<LogLocation>, sqlx::Error> {
    let location = row.try_get::<Option<&str>, _>(column)?;
    location.map(from_json).transpose()
}

fn topic_row(row: &PgRow) -> Result<TopicRow, sqlx::Error> {
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
    let needs = topic.requirement().version;
    let change = Change::TopicChanged(topic.name.clone());
    let updated = changes::write(database, async |transaction| {
        let updated = sqlx::query(
            "UPDATE topics SET config = $1, version = version + 1, needs = $4
            WHERE incarnation = $2 AND version = $3 AND phase = 1",
        )
        .bind(&config)
        .bind(to_sql(read.log.incarnation.0))
        .bind(to_sql(read.version))
        .bind(i64::from(needs))
        .execute(transaction)
        .await?;
        let updated = updated.rows_affected() == 1;
        Ok(updated.then_some(((), change)))
    })
    .await?;
    if updated.is_some() {
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
    let mut connection = database.connection().await?;
    bounded(
        sqlx::query("SELECT 1 FROM topics WHERE incarnation = $1 AND phase = 1")
            .bind(to_sql(topic.0))
            .fetch_optional(&mut *connection),
    )
    .await
    .map(|row| row.is_some())
    .map_err(|error| connection.failed(&error))
}

pub(super) async fn list(
    database: &Database,
    project: &ProjectName,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<TopicRecord>, StoreError> {
    let (after, end) = listed_names(project, "topics", after);
    let mut connection = database.connection().await?;
    let mut listing = Listing::new(after, limit);
    while let Some((after, wanted)) = listing.next() {
        let rows = bounded(
            sqlx::query(
                "SELECT incarnation, place, version, config, needs, name FROM topics
                WHERE phase <> 2 AND phase = 1 AND name > $1 AND name < $2 ORDER BY name LIMIT $3",
            )
            .bind(after)
            .bind(&end)
            .bind(wanted)
            .fetch_all(&mut *connection),
        )
        .await
        .map_err(|error| connection.failed(&error))?;
        listing.add(rows.iter().map(|row| (row.get(5), record(row))));
    }
    Ok(listing.found())
}

/// Moves a live topic to `Deleted`, and says which change that is.
pub(super) async fn delete(
    database: &Database,
    topic: &TopicRecord,
) -> Result<Option<Written<()>>, StoreError> {
    changes::write(database, async |transaction| {
        let deleted =
            sqlx::query("UPDATE topics SET phase = 2 WHERE incarnation = $1 AND phase = 1")
                .bind(to_sql(topic.log.incarnation.0))
                .execute(transaction)
                .await?;
        let change = Change::TopicDeleted(topic.topic.name.clone());
        Ok((deleted.rows_affected() == 1).then_some(((), change)))
    })
    .await
}

pub(super) async fn logs(database: &Database) -> Result<Vec<TopicRow>, StoreError> {
    let mut connection = database.connection().await?;
    let rows = bounded(
        sqlx::query("SELECT incarnation, place, phase, name FROM topics ORDER BY incarnation")
            .fetch_all(&mut *connection),
    )
    .await
    .map_err(|error| connection.failed(&error))?;
    let rows = rows.iter();
    Ok(rows
        .filter_map(|row| readable(row.get(3), topic_row(row)))
        .collect())
}

pub(super) async fn log_needs(
    database: &Database,
    topic: TopicIncarnation,
) -> Result<Option<LogNeeds>, StoreError> {
    let mut connection = database.connection().await?;
    let needs = bounded(async {
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
        let mut snapshot = connection.begin_with(begin).await?;
        let row = sqlx::query(
            "SELECT incarnation, place, phase, name FROM topics WHERE incarnation = $1",
        )
        .bind(to_sql(topic.0))
        .fetch_optional(&mut *snapshot)
        .await?;
        let needs = match row {
            Some(row) => Some(needs(&mut snapshot, &row).await?),
            None => None,
        };
        snapshot.commit().await?;
        Ok(needs)
    })
    .await;
    needs.map_err(|error| connection.failed(&error))
}

async fn needs(connection: &mut PgConnection, row: &PgRow) -> Result<LogNeeds, sqlx::Error> {
    let row = topic_row(row)?;
    let readers = sqlx::query(
        "SELECT id, config, name FROM subscriptions WHERE NOT detached AND topic = $1 ORDER BY name",
    )
    .bind(to_sql(row.incarnation.0))
    .fetch_all(connection)
    .await?;
    let reader = |row: &PgRow| {
        let subscription = SubscriptionId(from_sql(row.try_get(0)?));
        let config = from_json(row.try_get(1)?);
        Ok(LogReader::of_stored(subscription, row.get(2), config))
    };
    let readers = readers
        .iter()
        .map(reader)
        .collect::<Result<_, sqlx::Error>>()?;
    Ok(LogNeeds { row, readers })
}

/// Locks the topic's row until the connection is dropped, which has a transaction open. The subscriptions are read in
/// a later statement than the one that waited, so that all are seen that the last lock has seen.
pub(super) async fn lock(
    database: &Database,
    topic: TopicIncarnation,
) -> Result<Option<(LogNeeds, Checkout)>, StoreError> {
    let mut connection = database.connection().await?;
    let locked = async {
        connection.begin_to_drop().await?;
        // The log may take longer than others may keep a transaction idle or wait for a lock.
        sqlx::query(
            "SELECT set_config('idle_in_transaction_session_timeout', $1, true),
                set_config('lock_timeout', $1, true), set_config('statement_timeout', $1, true)",
        )
        .bind(TOPIC_LOCK_MILLIS_MAX.to_string())
        .execute(&mut *connection)
        .await?;
        let row = sqlx::query(
            "SELECT incarnation, place, phase, name FROM topics WHERE incarnation = $1 FOR UPDATE",
        )
        .bind(to_sql(topic.0))
        .fetch_optional(&mut *connection)
        .await?;
        Ok(match row {
            Some(row) => Some(needs(&mut connection, &row).await?),
            None => None,
        })
    };
    let locked = within(Duration::from_millis(TOPIC_LOCK_MILLIS_MAX), locked).await;
    let needs = locked.map_err(|error| connection.failed(&error))?;
    Ok(needs.map(|needs| (needs, connection)))
}

pub(super) async fn forget(database: &Database, topic: TopicIncarnation) -> Result<(), StoreError> {
    let mut connection = database.connection().await?;
    bounded(
        sqlx::query("DELETE FROM topics WHERE incarnation = $1 AND phase <> 1")
            .bind(to_sql(topic.0))
            .execute(&mut *connection),
    )
    .await
    .map(|_| ())
    .map_err(|error| connection.commit_failed(&error))
}
