//! Subscriptions in the state's file.

use sqlx::{Connection as _, Row as _, SqliteConnection, sqlite::SqliteRow};

use super::{database::Database, positions, state::write_failed, topics};
use crate::{
    resource::{
        id::{SubscriptionId, TopicIncarnation},
        name::{ProjectName, SubscriptionName},
        subscription::Subscription,
    },
    store::{
        StoreError,
        log::{Offset, Partition, TopicLog},
        resources::{CreateError, SubscriptionRecord, UpdateError},
        rows::{
            FIRST_GENERATION, Listing, from_sql, invalid, listed_names, read_config, to_json,
            to_sql,
        },
    },
};

pub(super) async fn create(
    database: &Database,
    topic: &TopicLog,
    subscription: &Subscription,
    starts: &[(Partition, Offset)],
) -> Result<SubscriptionRecord, CreateError> {
    let config = to_json(subscription).map_err(|error| database.failed(&error))?;
    let mut connection = database.writer().await?;
    let created = async {
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
        if !is_live(&mut transaction, topic.incarnation).await? {
            return Ok(Err(CreateError::TopicGone));
        }
        let id = match insert(&mut transaction, topic.incarnation, subscription, &config).await {
            Err(sqlx::Error::Database(error)) if error.is_unique_violation() => {
                return Ok(Err(CreateError::AlreadyExists));
            }
            id => id?,
        };
        positions::insert_owner(&mut transaction, id).await?;
        for &(partition, cursor) in starts {
            positions::put_position(&mut transaction, id, partition, FIRST_GENERATION, cursor)
                .await?;
        }
        transaction.commit().await?;
        Ok(Ok(id))
    }
    .await;
    let id = created.map_err(|error| write_failed(database, &mut connection, &error))??;
    Ok(SubscriptionRecord {
        id,
        log: topic.clone(),
        subscription: subscription.clone(),
        version: 1,
        needs: subscription.requirement().version,
    })
}

async fn is_live(
    connection: &mut SqliteConnection,
    topic: TopicIncarnation,
) -> Result<bool, sqlx::Error> {
    sqlx::query("SELECT 1 FROM topics WHERE incarnation = ? AND phase = 1")
        .bind(to_sql(topic.0))
        .fetch_optional(connection)
        .await
        .map(|row| row.is_some())
}

async fn insert(
    connection: &mut SqliteConnection,
    topic: TopicIncarnation,
    subscription: &Subscription,
    config: &str,
) -> Result<SubscriptionId, sqlx::Error> {
    sqlx::query_scalar(
        "INSERT INTO subscriptions (name, topic, detached, version, config, needs) VALUES (?, ?, ?, 1, ?, ?)
        RETURNING id",
    )
    .bind(subscription.name.as_str())
    .bind(to_sql(topic.0))
    .bind(subscription.detached)
    .bind(config)
    .bind(subscription.requirement().version)
    .fetch_one(connection)
    .await
    .map(|id| SubscriptionId(from_sql(id)))
}

pub(super) async fn get(
    database: &Database,
    name: &SubscriptionName,
) -> Result<Option<SubscriptionRecord>, StoreError> {
    sqlx::query(
        "SELECT id, topic, place, subscriptions.version, subscriptions.config, phase = 1,
            subscriptions.needs, subscriptions.name FROM subscriptions
        LEFT JOIN topics ON incarnation = topic WHERE subscriptions.name = ?",
    )
    .bind(name.as_str())
    .fetch_optional(database.readers())
    .await
    .and_then(|row| row.map(|row| record(&row)).transpose())
    .map_err(|error| database.failed(&error))
}

fn record(row: &SqliteRow) -> Result<SubscriptionRecord, sqlx::Error> {
    let needs = row.try_get(6)?;
    let mut subscription: Subscription = read_config(row.try_get(4)?, needs)?;
    if row.try_get::<Option<bool>, _>(5)? != Some(true) {
        subscription.topic = None;
    }
    Ok(SubscriptionRecord {
        id: SubscriptionId(from_sql(row.try_get(0)?)),
        log: topics::log(row, 1)?,
        subscription,
        version: from_sql(row.try_get(3)?),
        needs,
    })
}

pub(super) async fn update(
    database: &Database,
    read: &SubscriptionRecord,
    subscription: &Subscription,
) -> Result<SubscriptionRecord, UpdateError> {
    let config = to_json(subscription).map_err(|error| database.failed(&error))?;
    let mut connection = database.writer().await?;
    let updated = sqlx::query(
        "UPDATE subscriptions SET config = ?, detached = ?, needs = ?, version = version + 1
        WHERE id = ? AND version = ?",
    )
    .bind(config)
    .bind(subscription.detached)
    .bind(subscription.requirement().version)
    .bind(to_sql(read.id.0))
    .bind(to_sql(read.version))
    .execute(&mut *connection)
    .await
    .map_err(|error| write_failed(database, &mut connection, &error))?;
    drop(connection);
    let found = by_id(database, read.id).await?.ok_or(UpdateError::Gone)?;
    if updated.rows_affected() == 1 {
        Ok(SubscriptionRecord {
            subscription: Subscription {
                // Its topic may have been deleted meanwhile.
                topic: found.subscription.topic,
                ..subscription.clone()
            },
            version: read.version + 1,
            needs: subscription.requirement().version,
            ..found
        })
    } else {
        Err(UpdateError::Changed)
    }
}

async fn by_id(
    database: &Database,
    id: SubscriptionId,
) -> Result<Option<SubscriptionRecord>, StoreError> {
    sqlx::query(
        "SELECT id, topic, place, subscriptions.version, subscriptions.config, phase = 1,
            subscriptions.needs, subscriptions.name FROM subscriptions
        LEFT JOIN topics ON incarnation = topic WHERE id = ?",
    )
    .bind(to_sql(id.0))
    .fetch_optional(database.readers())
    .await
    .and_then(|row| row.map(|row| record(&row)).transpose())
    .map_err(|error| database.failed(&error))
}

pub(super) async fn list(
    database: &Database,
    project: &ProjectName,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<SubscriptionRecord>, StoreError> {
    let (after, end) = listed_names(project, "subscriptions", after);
    let mut listing = Listing::new(after, limit);
    while let Some((after, wanted)) = listing.next() {
        let rows = sqlx::query(
        "SELECT id, topic, place, subscriptions.version, subscriptions.config, phase = 1,
            subscriptions.needs, subscriptions.name FROM subscriptions
        LEFT JOIN topics ON incarnation = topic
        WHERE subscriptions.name > ? AND subscriptions.name < ? ORDER BY subscriptions.name LIMIT ?",
    )
        .bind(after)
        .bind(&end)
        .bind(wanted)
        .fetch_all(database.readers())
        .await
        .map_err(|error| database.failed(&error))?;
        listing.add(rows.iter().map(|row| (row.get(7), record(row))));
    }
    Ok(listing.found())
}

pub(super) async fn list_of_topic(
    database: &Database,
    topic: TopicIncarnation,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<SubscriptionName>, StoreError> {
    let rows = sqlx::query(
        "SELECT name FROM subscriptions WHERE detached = 0 AND topic = ? AND name > ? ORDER BY name LIMIT ?",
    )
    .bind(to_sql(topic.0))
    .bind(after.unwrap_or_default())
    .bind(to_sql(limit as u64))
    .fetch_all(database.readers())
    .await
    .map_err(|error| database.failed(&error))?;
    names(&rows).map_err(|error| database.failed(&error))
}

/// See [`crate::store::Positions::unattended`].
pub(super) async fn unattended(
    database: &Database,
    after: Option<&SubscriptionName>,
    limit: usize,
) -> Result<Vec<SubscriptionName>, StoreError> {
    let rows = sqlx::query(
        r#"SELECT name FROM subscriptions
        WHERE detached = 0 AND name > ? AND config LIKE '%"dead_letter_policy":%'
            AND EXISTS (SELECT 1 FROM chunks WHERE subscription = id)
        ORDER BY name LIMIT ?"#,
    )
    .bind(after.map_or("", SubscriptionName::as_str))
    .bind(to_sql(limit as u64))
    .fetch_all(database.readers())
    .await
    .map_err(|error| database.failed(&error))?;
    names(&rows).map_err(|error| database.failed(&error))
}

fn names(rows: &[SqliteRow]) -> Result<Vec<SubscriptionName>, sqlx::Error> {
    let name = |row: &SqliteRow| SubscriptionName::parse("name", row.try_get(0)?).map_err(invalid);
    rows.iter().map(name).collect()
}

pub(super) async fn delete(
    database: &Database,
    name: &SubscriptionName,
) -> Result<Option<SubscriptionId>, StoreError> {
    let mut connection = database.writer().await?;
    let deleted = async {
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
        let Some(id) = delete_row(&mut transaction, name).await? else {
            return Ok(None);
        };
        positions::delete(&mut transaction, id).await?;
        transaction.commit().await?;
        Ok(Some(id))
    }
    .await;
    let deleted = deleted.map_err(|error| write_failed(database, &mut connection, &error))?;
    drop(connection);
    if deleted.is_some()
        && let Err(error) = positions::remove_leftovers(database).await
    {
        // It is deleted all the same; the next deletion or start removes the rest.
        tracing::warn!(%error, subscription = %name, "state of a deleted subscription could not be removed yet");
    }
    Ok(deleted)
}

async fn delete_row(
    connection: &mut SqliteConnection,
    name: &SubscriptionName,
) -> Result<Option<SubscriptionId>, sqlx::Error> {
    sqlx::query_scalar("DELETE FROM subscriptions WHERE name = ? RETURNING id")
        .bind(name.as_str())
        .fetch_optional(connection)
        .await
        .map(|id| id.map(|id| SubscriptionId(from_sql(id))))
}
