//! What the other nodes have to apply: written with the change itself, told to them, and waited for.

use std::time::Duration;

use sqlx::{
    Connection as _, PgConnection, Postgres, Row as _,
    postgres::{PgArguments, PgRow},
    query::QueryScalar,
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout, timeout_at},
};

use super::database::{Database, bounded};
use crate::{
    limits::{CHANGE_CONFIRM_MILLIS_MAX, CHANGE_POLL_MILLIS, CHANGES_PER_READ_MAX},
    resource::{
        id::{SubscriptionId, TopicIncarnation},
        name::{ProjectName, SubscriptionName, TopicName},
    },
    store::{
        StoreError,
        membership::Change,
        records::RecordKey,
        rows::{from_sql, invalid, to_sql},
    },
};

/// What was written, and the number of the change.
#[derive(Debug)]
pub(super) struct Written<T> {
    pub(super) value: T,
    pub(super) number: i64,
}

/// Runs `work` in a transaction. Where it made a change, that is numbered in the same one; otherwise nothing happens.
pub(super) async fn write<T>(
    database: &Database,
    work: impl AsyncFnOnce(&mut PgConnection) -> Result<Option<(T, Change)>, sqlx::Error>,
) -> Result<Option<Written<T>>, StoreError> {
    let mut connection = database.connection().await?;
    let mut committing = false;
    let written = bounded(async {
        let mut transaction = connection.begin().await?;
        let Some((value, change)) = work(&mut transaction).await? else {
            transaction.rollback().await?;
            return Ok(None);
        };
        let number = announce(&mut transaction, &change).await?;
        committing = true;
        transaction.commit().await?;
        Ok(Some(Written { value, number }))
    })
    .await;
    written.map_err(|error| connection.transaction_failed(&error, committing))
}

/// The number of the last deletion of a topic's name that nodes may still have to apply, if there is one.
pub(super) async fn last_deletion_of_topic(
    database: &Database,
    topic: TopicIncarnation,
) -> Result<Option<i64>, StoreError> {
    let deletion = sqlx::query_scalar(
        "SELECT max(changes.number) FROM changes JOIN topics ON topics.name = changes.name
        WHERE topics.incarnation = $1 AND changes.kind = 1",
    );
    last_number(database, deletion, topic.0).await
}

/// The same for a subscription's name.
pub(super) async fn last_deletion_of_subscription(
    database: &Database,
    subscription: SubscriptionId,
) -> Result<Option<i64>, StoreError> {
    let deletion = sqlx::query_scalar(
        "SELECT max(changes.number) FROM changes JOIN subscriptions ON subscriptions.name = changes.name
        WHERE subscriptions.id = $1 AND changes.kind = 3",
    );
    last_number(database, deletion, subscription.0).await
}

async fn last_number(
    database: &Database,
    number: QueryScalar<'static, Postgres, Option<i64>, PgArguments>,
    id: u64,
) -> Result<Option<i64>, StoreError> {
    let mut connection = database.connection().await?;
    bounded(number.bind(to_sql(id)).fetch_one(&mut *connection))
        .await
        .map_err(|error| connection.failed(&error))
}

/// Numbers the change. The caller commits at once, as nobody else makes a change until then.
async fn announce(connection: &mut PgConnection, change: &Change) -> Result<i64, sqlx::Error> {
    let record;
    let (kind, subscription, name) = match change {
        Change::TopicChanged(name) => (0, None, name.as_str()),
        Change::TopicDeleted(name) => (1, None, name.as_str()),
        Change::SubscriptionChanged(name) => (2, None, name.as_str()),
        Change::SubscriptionDeleted(id, name) => (3, Some(to_sql(id.0)), name.as_str()),
        Change::RecordChanged(key) => {
            let RecordKey {
                kind,
                project,
                name,
            } = key;
            record = format!("{kind}/{project}/{name}");
            (4, None, record.as_str())
        }
    };
    sqlx::query(
        "WITH counted AS (UPDATE packetboat SET last_change = last_change + 1 RETURNING last_change)
        INSERT INTO changes (number, kind, subscription, name)
        SELECT last_change, $1, $2, $3 FROM counted
        RETURNING number, pg_notify('packetboat_changes', '')",
    )
    .bind::<i16>(kind)
    .bind(subscription)
    .bind(name)
    .fetch_one(connection)
    .await
    .and_then(|row| row.try_get(0))
}

/// Changes after that number, in order, at most as many as one read takes.
pub(super) async fn read(
    database: &Database,
    after: i64,
) -> Result<Vec<(i64, Option<Change>)>, StoreError> {
    let mut connection = database.connection().await?;
    bounded(
        sqlx::query(
            "SELECT number, kind, subscription, name FROM changes
            WHERE number > $1 ORDER BY number LIMIT $2",
        )
        .bind(after)
        .bind(to_sql(CHANGES_PER_READ_MAX as u64))
        .fetch_all(&mut *connection),
    )
    .await
    .and_then(|rows| rows.iter().map(change).collect())
    .map_err(|error| connection.failed(&error))
}

fn change(row: &PgRow) -> Result<(i64, Option<Change>), sqlx::Error> {
    let name: &str = row.try_get(3)?;
    let topic = || TopicName::parse("name", name).map_err(invalid);
    let subscription = || SubscriptionName::parse("name", name).map_err(invalid);
    let change = match row.try_get::<i16, _>(1)? {
        0 => Some(Change::TopicChanged(topic()?)),
        1 => Some(Change::TopicDeleted(topic()?)),
        2 => Some(Change::SubscriptionChanged(subscription()?)),
        3 => Some(Change::SubscriptionDeleted(
            SubscriptionId(from_sql(row.try_get(2)?)),
            subscription()?,
        )),
        4 => Some(Change::RecordChanged(record(name)?)),
        // A newer version's, about something that this one does not have.
        _ => None,
    };
    Ok((row.try_get(0)?, change))
}

/// A document's name, as `schema/projects/p/name`.
fn record(text: &str) -> Result<RecordKey, sqlx::Error> {
    let mut parts = text.splitn(4, '/');
    let mut part = || parts.next().ok_or_else(|| invalid(text));
    let (kind, projects, project, name) = (part()?, part()?, part()?, part()?);
    let project = format!("{projects}/{project}");
    Ok(RecordKey {
        kind: kind.to_owned().into(),
        project: ProjectName::parse("project", &project).map_err(invalid)?,
        name: name.to_owned(),
    })
}

/// The number of the latest change.
pub(super) async fn last(database: &Database) -> Result<i64, StoreError> {
    let mut connection = database.connection().await?;
    bounded(sqlx::query_scalar("SELECT last_change FROM packetboat").fetch_one(&mut *connection))
        .await
        .map_err(|error| connection.failed(&error))
}

/// Waits until every other node has applied the change, or its lease has run out.
pub(super) async fn confirmed(
    database: &Database,
    session: i64,
    number: i64,
    hint: &Notify,
) -> Result<(), StoreError> {
    let deadline = Instant::now() + Duration::from_millis(CHANGE_CONFIRM_MILLIS_MAX);
    let poll = Duration::from_millis(CHANGE_POLL_MILLIS);
    let mut last = None;
    let waited = timeout_at(deadline, async {
        loop {
            let hinted = hint.notified();
            match waited_for(database, session, number).await {
                Ok(None) => return,
                Ok(Some(node)) => last = Some(format!("node {node} has not confirmed it")),
                Err(error) => {
                    last = Some(error.to_string());
                    sleep(poll).await;
                }
            }
            // Without the hint it takes until the next check.
            let _ = timeout(poll, hinted).await;
        }
    })
    .await;
    waited.map_err(|_| {
        let what = last.unwrap_or_default();
        StoreError::Uncertain(format!(
            "the change is stored, but after {CHANGE_CONFIRM_MILLIS_MAX} ms {what}"
        ))
    })
}

/// A living node that has not applied the change.
async fn waited_for(
    database: &Database,
    session: i64,
    number: i64,
) -> Result<Option<String>, StoreError> {
    let mut connection = database.connection().await?;
    bounded(
        sqlx::query_scalar(
            "SELECT name || ' at ' || address FROM nodes
            WHERE session <> $1 AND seen < $2 AND expires > clock_timestamp() LIMIT 1",
        )
        .bind(session)
        .bind(number)
        .fetch_optional(&mut *connection),
    )
    .await
    .map_err(|error| connection.failed(&error))
}
