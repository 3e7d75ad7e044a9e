//! Who delivers a subscription: taking it over, and giving it up.

use sqlx::{Connection as _, PgConnection, Row as _, postgres::PgRow};

use super::{
    database::{Checkout, Database, bounded, is_lock_timeout},
    positions,
};
use crate::{
    limits::OWNER_LOCK_ATTEMPTS_MAX,
    resource::{id::SubscriptionId, name::SubscriptionName},
    store::{
        StoreError,
        positions::{Acquire, Acquired, Owner},
        resources::check_known,
        rows::{from_sql, invalid, to_sql},
    },
};

/// Takes the subscription over for `session`, unless a living node has it. `from_expired`: also from a node whose
/// lease has run out.
pub(super) async fn acquire(
    database: &Database,
    session: i64,
    subscription: SubscriptionId,
    from_expired: bool,
) -> Result<Acquire, StoreError> {
    let mut attempts = 1;
    let acquire = loop {
        let mut connection = database.connection().await?;
        let attempt = attempt(
            database,
            &mut connection,
            session,
            subscription,
            from_expired,
        );
        match attempt.await {
            // A flush of a node that is slow, or frozen: the server ends such a transaction before long.
            Err((error, _)) if is_lock_timeout(&error) && attempts < OWNER_LOCK_ATTEMPTS_MAX => {
                attempts += 1;
            }
            Err((error, committing)) => {
                return Err(connection.transaction_failed(&error, committing));
            }
            Ok(acquire) => break acquire?,
        }
    };
    match acquire {
        // Both rows come and go together.
        Acquire::Gone if exists(database, subscription).await? => {
            Err(lost(database, subscription, "owner"))
        }
        acquire => Ok(acquire),
    }
}

fn lost(database: &Database, subscription: SubscriptionId, what: &str) -> StoreError {
    StoreError::Damaged(format!(
        "{}: the {what} of subscription {} is missing; restore the database from a backup, or delete the subscription",
        database.shown(),
        subscription.0
    ))
}

/// The error comes with whether the commit had been sent.
async fn attempt(
    database: &Database,
    connection: &mut Checkout,
    session: i64,
    subscription: SubscriptionId,
    from_expired: bool,
) -> Result<Result<Acquire, StoreError>, (sqlx::Error, bool)> {
    let mut committing = false;
    let acquire = bounded(async {
        let mut transaction = connection.begin().await?;
        let Some(owner) = lock(&mut transaction, subscription).await? else {
            transaction.rollback().await?;
            return Ok(Ok(Acquire::Gone));
        };
        if let Some((name, needs)) = owner.needs
            && let Err(newer) = check_known("subscription", &name, needs)
        {
            transaction.rollback().await?;
            return Ok(Err(newer));
        }
        if let Some(owner) = owner.session.filter(|owner| *owner != session)
            && let Some(owner) = living(&mut transaction, owner, from_expired).await?
        {
            transaction.rollback().await?;
            return Ok(Ok(Acquire::OwnedBy(owner)));
        }
        let epoch = take(&mut transaction, subscription, session).await?;
        // A later statement than the one that waited for the lock, so that it sees what was flushed meanwhile.
        let mut partitions = positions::read(&mut transaction, subscription).await?;
        if partitions.is_empty() {
            transaction.rollback().await?;
            return Ok(Err(lost(database, subscription, "position")));
        }
        positions::read_retained(&mut transaction, subscription, &mut partitions).await?;
        committing = true;
        transaction.commit().await?;
        Ok(Ok(Acquire::Acquired(Acquired { epoch, partitions })))
    })
    .await;
    acquire.map_err(|error| (error, committing))
}

/// The row of an owner, locked.
struct Locked {
    /// Who delivers the subscription, if anybody does.
    session: Option<i64>,
    /// The subscription's name, and the data version that it needs; nothing if its row is missing.
    needs: Option<(String, u32)>,
}

async fn lock(
    connection: &mut PgConnection,
    subscription: SubscriptionId,
) -> Result<Option<Locked>, sqlx::Error> {
    let row = sqlx::query(
        "SELECT session, name, needs FROM owners LEFT JOIN subscriptions ON id = subscription
        WHERE subscription = $1 FOR UPDATE OF owners",
    )
    .bind(to_sql(subscription.0))
    .fetch_optional(connection)
    .await?;
    let Some(row) = row else {
        return Ok(None);
    };
    let needs = match row.try_get(1)? {
        Some(name) => Some((name, positions::small(&row, 2)?)),
        None => None,
    };
    Ok(Some(Locked {
        session: row.try_get(0)?,
        needs,
    }))
}

/// The node with that session, if it is there and nobody may take over from it.
async fn living(
    connection: &mut PgConnection,
    session: i64,
    from_expired: bool,
) -> Result<Option<Owner>, sqlx::Error> {
    let row = sqlx::query(
        "SELECT name, address FROM nodes WHERE session = $1 AND (NOT $2 OR expires > clock_timestamp())",
    )
    .bind(session)
    .bind(from_expired)
    .fetch_optional(connection)
    .await?;
    row.as_ref().map(owner_of).transpose()
}

fn owner_of(row: &PgRow) -> Result<Owner, sqlx::Error> {
    Ok(Owner {
        node: row.try_get(0)?,
        address: row.try_get(1)?,
    })
}

/// The node other than `session` that owns the subscription, unless it may be taken over from. Locks nothing.
pub(super) async fn owner(
    database: &Database,
    session: i64,
    subscription: SubscriptionId,
    from_expired: bool,
) -> Result<Option<Owner>, StoreError> {
    let mut connection = database.connection().await?;
    bounded(
        sqlx::query(
            "SELECT name, address FROM owners JOIN nodes USING (session)
            WHERE subscription = $1 AND session <> $2 AND (NOT $3 OR expires > clock_timestamp())",
        )
        .bind(to_sql(subscription.0))
        .bind(session)
        .bind(from_expired)
        .fetch_optional(&mut *connection),
    )
    .await
    .and_then(|row| row.as_ref().map(owner_of).transpose())
    .map_err(|error| connection.failed(&error))
}

/// See [`crate::store::Positions::unattended`]. `from_expired`: a node whose lease has run out does not live.
pub(super) async fn unattended(
    database: &Database,
    after: Option<&SubscriptionName>,
    limit: usize,
    from_expired: bool,
) -> Result<Vec<SubscriptionName>, StoreError> {
    let mut connection = database.connection().await?;
    let name = |row: &PgRow| SubscriptionName::parse("name", row.try_get(0)?).map_err(invalid);
    bounded(
        sqlx::query(
            r#"SELECT name FROM subscriptions JOIN owners ON subscription = id
            WHERE NOT detached AND name > $1 AND config LIKE '%"dead_letter_policy":%'
                AND EXISTS (SELECT 1 FROM chunks WHERE chunks.subscription = id)
                AND NOT EXISTS (
                    SELECT 1 FROM nodes WHERE nodes.session = owners.session
                        AND (NOT $2 OR expires > clock_timestamp())
                )
            ORDER BY name LIMIT $3"#,
        )
        .bind(after.map_or("", SubscriptionName::as_str))
        .bind(from_expired)
        .bind(to_sql(limit as u64))
        .fetch_all(&mut *connection),
    )
    .await
    .and_then(|rows| rows.iter().map(name).collect())
    .map_err(|error| connection.failed(&error))
}

async fn take(
    connection: &mut PgConnection,
    subscription: SubscriptionId,
    session: i64,
) -> Result<u64, sqlx::Error> {
    sqlx::query_scalar(
        "UPDATE owners SET epoch = epoch + 1, session = $2 WHERE subscription = $1 RETURNING epoch",
    )
    .bind(to_sql(subscription.0))
    .bind(session)
    .fetch_one(connection)
    .await
    .map(from_sql)
}

async fn exists(database: &Database, subscription: SubscriptionId) -> Result<bool, StoreError> {
    let mut connection = database.connection().await?;
    // Both tables in one statement: a deletion may have come between.
    bounded(
        sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM subscriptions WHERE id = $1)
                AND NOT EXISTS (SELECT 1 FROM owners WHERE subscription = $1)",
        )
        .bind(to_sql(subscription.0))
        .fetch_one(&mut *connection),
    )
    .await
    .map_err(|error| connection.failed(&error))
}

/// Those of the subscriptions that `session` owns, with their epochs. Waits for take-overs that are on their way: each
/// has its row locked until the server has carried out, or given up, what it was sent.
pub(super) async fn owned(
    database: &Database,
    session: i64,
    subscriptions: &[SubscriptionId],
) -> Result<Vec<(SubscriptionId, u64)>, StoreError> {
    let subscriptions: Vec<i64> = subscriptions.iter().map(|id| to_sql(id.0)).collect();
    let mut connection = database.connection().await?;
    bounded(
        sqlx::query(
            "SELECT subscription, epoch, session FROM owners WHERE subscription = ANY ($1)
            ORDER BY subscription FOR UPDATE",
        )
        .bind(subscriptions)
        .fetch_all(&mut *connection),
    )
    .await
    .and_then(|rows| {
        let mut owned = Vec::new();
        for row in &rows {
            if row.try_get::<Option<i64>, _>(2)? == Some(session) {
                let subscription = SubscriptionId(from_sql(row.try_get(0)?));
                owned.push((subscription, from_sql(row.try_get(1)?)));
            }
        }
        Ok(owned)
    })
    .map_err(|error| connection.failed(&error))
}

/// Gives up those of the subscriptions that are still this session's under these epochs.
pub(super) async fn release(
    database: &Database,
    session: i64,
    owned: &[(SubscriptionId, u64)],
) -> Result<(), StoreError> {
    let (subscriptions, epochs): (Vec<i64>, Vec<i64>) = owned
        .iter()
        .map(|&(subscription, epoch)| (to_sql(subscription.0), to_sql(epoch)))
        .unzip();
    let mut connection = database.connection().await?;
    bounded(
        sqlx::query(
            "UPDATE owners SET session = NULL FROM unnest($1::bigint[], $2::bigint[]) AS released (subscription, epoch)
            WHERE owners.subscription = released.subscription AND owners.epoch = released.epoch
                AND owners.session = $3",
        )
        .bind(subscriptions)
        .bind(epochs)
        .bind(session)
        .execute(&mut *connection),
    )
    .await
    .map(|_| ())
    .map_err(|error| connection.commit_failed(&error))
}
