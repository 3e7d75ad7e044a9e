//! Who delivers a subscription: taking it over, and giving it up.

use sqlx::{Connection as _, PgConnection, Row as _, postgres::PgRow};

use super::{
    database::{Checkout, Database, bounded, is_lock_timeout},
    positions,
};
use crate::{
    limits::OWNER_LOCK_ATTEMPTS_MAX,
    resource::id::SubscriptionId,
    store::{
        StoreError,
        positions::{Acquire, Acquired, Owner},
        resources::check_known,
        rows::{from_sql, to_sql},
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
        let attempt = attempt(&mut connection, session, subscription, from_expired);
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
    let lost = |what: &str| {
        StoreError::Damaged(format!(
            "{}: the {what} of subscription {} is missing; restore the database from a backup, or delete the \
             subscription",
            database.shown(),
            subscription.0
        ))
    };
    match acquire {
        Acquire::Acquired(acquired) if acquired.partitions.is_empty() => Err(lost("position")),
        // Both rows come and go together.
        Acquire::Gone if exists(database, subscription).await? => Err(lost("owner")),
        acquire => Ok(acquire),
    }
}

/// The error comes with whether the commit had been sent.
async fn attempt(
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

/// Gives the subscription up, if it is still this session's under that epoch.
pub(super) async fn release(
    database: &Database,
    session: i64,
    subscription: SubscriptionId,
    epoch: u64,
) -> Result<(), StoreError> {
    let mut connection = database.connection().await?;
    bounded(
        sqlx::query(
            "UPDATE owners SET session = NULL WHERE subscription = $1 AND epoch = $2 AND session = $3",
        )
        .bind(to_sql(subscription.0))
        .bind(to_sql(epoch))
        .bind(session)
        .execute(&mut *connection),
    )
    .await
    .map(|_| ())
    .map_err(|error| connection.commit_failed(&error))
}
