//! Subscriptions in the database.

use sqlx::{Connection as _, PgConnection, Row as _, postgres::PgRow};

use super::{
    changes::{self, Written},
    database::{Database, bounded},
    positions::{self, small},
    topics,
};
use crate::{
    resource::{
        id::{SubscriptionId, TopicIncarnation},
        name::{ProjectName, SubscriptionName},
        subscription::Subscription,
    },
    store::{
        StoreError,
        log::{Offset, Partition, TopicLog},
        membership::Change,
        resources::{CreateError, SubscriptionRecord, UpdateError},
        rows::{Listing, from_sql, invalid, listed_names, read_config, to_json, to_sql},
    },
};

pub(super) async fn create(
    database: &Database,
    topic: &TopicLog,
    subscription: &Subscription,
    starts: &[(Partition, Offset)],
) -> Result<SubscriptionRecord, CreateError> {
    let config = to_json(subscription).map_err(|error| database.failed(&error))?;
    let mut connection = database.connection().await?;
    let mut committing = false;
    let created = bounded(async {
        let mut transaction = connection.begin().await?;
        if !lock_live(&mut transaction, topic.incarnation).await? {
            transaction.rollback().await?;
            return Ok(Err(CreateError::TopicGone));
        }
        let id = insert(&mut transaction, topic.incarnation, subscription, &config).await;
        let id = match id {
            Err(sqlx::Error::Database(error)) if error.is_unique_violation() => {
                transaction.rollback().await?;
                return Ok(Err(CreateError::AlreadyExists));
            }
            id => id?,
        };
        positions::insert(&mut transaction, id, starts).await?;
        committing = true;
        transaction.commit().await?;
        Ok(Ok(id))
    })
    .await;
    let id = created.map_err(|error| connection.transaction_failed(&error, committing))??;
    Ok(SubscriptionRecord {
        id,
        log: topic.clone(),
        subscription: subscription.clone(),
        version: 1,
        needs: subscription.requirement().version,
    })
}

/// Whether the topic is live; it stays so until the transaction ends.
async fn lock_live(
    connection: &mut PgConnection,
    topic: TopicIncarnation,
) -> Result<bool, sqlx::Error> {
    sqlx::query("SELECT 1 FROM topics WHERE incarnation = $1 AND phase = 1 FOR SHARE")
        .bind(to_sql(topic.0))
        .fetch_optional(connection)
        .await
        .map(|row| row.is_some())
}

async fn insert(
    connection: &mut PgConnection,
    topic: TopicIncarnation,
    subscription: &Subscription,
    config: &str,
) -> Result<SubscriptionId, sqlx::Error> {
    sqlx::query_scalar(
        "INSERT INTO subscriptions (name, topic, detached, version, config, needs)
        VALUES ($1, $2, $3, 1, $4, $5) RETURNING id",
    )
    .bind(subscription.name.as_str())
    .bind(to_sql(topic.0))
    .bind(subscription.detached)
    .bind(config)
    .bind(i64::from(subscription.requirement().version))
    .fetch_one(connection)
    .await
    .map(|id| SubscriptionId(from_sql(id)))
}

pub(super) async fn get(
    database: &Database,
    name: &SubscriptionName,
) -> Result<Option<SubscriptionRecord>, StoreError> {
    let mut connection = database.connection().await?;
    bounded(
        sqlx::query(
            "SELECT id, topic, place, subscriptions.version, subscriptions.config, phase = 1,
                subscriptions.needs, subscriptions.name
            FROM subscriptions LEFT JOIN topics ON incarnation = topic
            WHERE subscriptions.name = $1",
        )
        .bind(name.as_str())
        .fetch_optional(&mut *connection),
    )
    .await
    .and_then(|row| row.map(|row| record(&row)).transpose())
    .map_err(|error| connection.failed(&error))
}

fn record(row: &PgRow) -> Result<SubscriptionRecord, sqlx::Error> {
    let needs = small(row, 6)?;
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

/// Replaces the configuration, and says which change that is.
pub(super) async fn update(
    database: &Database,
    read: &SubscriptionRecord,
    subscription: &Subscription,
) -> Result<Written<SubscriptionRecord>, UpdateError> {
    let config = to_json(subscription).map_err(|error| database.failed(&error))?;
    let change = Change::SubscriptionChanged(subscription.name.clone());
    let updated = changes::write(database, async |transaction| {
        let updated = sqlx::query(
            "UPDATE subscriptions SET config = $1, detached = $2, version = version + 1, needs = $5
            WHERE id = $3 AND version = $4",
        )
        .bind(&config)
        .bind(subscription.detached)
        .bind(to_sql(read.id.0))
        .bind(to_sql(read.version))
        .bind(i64::from(subscription.requirement().version))
        .execute(transaction)
        .await?;
        let updated = updated.rows_affected() == 1;
        Ok(updated.then_some(((), change)))
    })
    .await?;
    let found = by_id(database, read.id).await?.ok_or(UpdateError::Gone)?;
    let Some(updated) = updated else {
        return Err(UpdateError::Changed);
    };
    let record = SubscriptionRecord {
        subscription: Subscription {
            // Its topic may have been deleted meanwhile.
            topic: found.subscription.topic,
            ..subscription.clone()
        },
        version: read.version + 1,
        needs: subscription.requirement().version,
        ..found
    };
    Ok(Written {
        value: record,
        number: updated.number,
    })
}

async fn by_id(
    database: &Database,
    id: SubscriptionId,
) -> Result<Option<SubscriptionRecord>, StoreError> {
    let mut connection = database.connection().await?;
    bounded(
        sqlx::query(
            "SELECT id, topic, place, subscriptions.version, subscriptions.config, phase = 1,
                subscriptions.needs, subscriptions.name
            FROM subscriptions LEFT JOIN topics ON incarnation = topic WHERE id = $1",
        )
        .bind(to_sql(id.0))
        .fetch_optional(&mut *connection),
    )
    .await
    .and_then(|row| row.map(|row| record(&row)).transpose())
    .map_err(|error| connection.failed(&error))
}

pub(super) async fn list(
    database: &Database,
    project: &ProjectName,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<SubscriptionRecord>, StoreError> {
    let (after, end) = listed_names(project, "subscriptions", after);
    let mut connection = database.connection().await?;
    let mut listing = Listing::new(after, limit);
    while let Some((after, wanted)) = listing.next() {
        let rows = bounded(
            sqlx::query(
                "SELECT id, topic, place, subscriptions.version, subscriptions.config, phase = 1,
                    subscriptions.needs, subscriptions.name
                FROM subscriptions LEFT JOIN topics ON incarnation = topic
                WHERE subscriptions.name > $1 AND subscriptions.name < $2
                ORDER BY subscriptions.name LIMIT $3",
            )
            .bind(after)
            .bind(&end)
            .bind(wanted)
            .fetch_all(&mut *connection),
        )
        .await
        .map_err(|error| connection.failed(&error))?;
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
    let mut connection = database.connection().await?;
    let name = |row: &PgRow| SubscriptionName::parse("name", row.try_get(0)?).map_err(invalid);
    bounded(
        sqlx::query(
            "SELECT name FROM subscriptions WHERE NOT detached AND topic = $1 AND name > $2
            ORDER BY name LIMIT $3",
        )
        .bind(to_sql(topic.0))
        .bind(after.unwrap_or_default())
        .bind(to_sql(limit as u64))
        .fetch_all(&mut *connection),
    )
    .await
    .and_then(|rows| rows.iter().map(name).collect())
    .map_err(|error| connection.failed(&error))
}

/// Deletes the subscription with owner and positions, and says which change that is. Its chunks are left over.
pub(super) async fn delete(
    database: &Database,
    name: &SubscriptionName,
) -> Result<Option<Written<SubscriptionId>>, StoreError> {
    changes::write(database, async |transaction| {
        let id = sqlx::query_scalar("DELETE FROM subscriptions WHERE name = $1 RETURNING id")
            .bind(name.as_str())
            .fetch_optional(&mut *transaction)
            .await?;
        let Some(id) = id.map(|id| SubscriptionId(from_sql(id))) else {
            return Ok(None);
        };
        positions::delete(transaction, id).await?;
        Ok(Some((id, Change::SubscriptionDeleted(id, name.clone()))))
    })
    .await
}
