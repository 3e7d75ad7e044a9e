//! The row of this node in the database, one statement a function.
//!
//! Its commits wait for no standby (see [`SESSION_SETTINGS`]): a row says something for the length of a lease only, and
//! after a failover every node writes its own again. A standby that is lost must not end leases.

use sqlx::{PgConnection, Row as _, postgres::PgRow};

use super::connector::PURPOSE;
use crate::{clock::Timestamp, resource::requirement::DATA_VERSION, store::rows::from_sql};

/// Of the sessions that write the row.
pub(super) const SESSION_SETTINGS: [(&str, &str); 2] =
    [(PURPOSE, "heartbeats"), ("synchronous_commit", "local")];

/// Whose row it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Whose<'a> {
    pub(super) name: &'a str,
    pub(super) session: i64,
    /// The session's, if the answer to a heartbeat that changed it is lost.
    pub(super) next_session: i64,
}

/// What the database said.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told {
    /// The number of the latest change.
    pub(super) last_change: i64,
    /// The database's clock.
    pub(super) time: Timestamp,
    /// The row's, by now.
    pub(super) session: i64,
}

impl Told {
    fn read(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            last_change: row.try_get(0)?,
            time: Timestamp::from_millis(from_sql(row.try_get(1)?)),
            session: row.try_get(2)?,
        })
    }
}

/// Writes the row, in place of an older process of the same name.
pub(super) async fn enter(
    connection: &mut PgConnection,
    name: &str,
    session: i64,
    address: &str,
    lease_millis: i64,
) -> Result<Told, sqlx::Error> {
    let row = sqlx::query(
        "INSERT INTO nodes (name, session, address, expires, seen, version)
        SELECT $1, $2, $3, clock_timestamp() + $4 * interval '1 millisecond', last_change, $5 FROM packetboat
        ON CONFLICT (name) DO UPDATE SET session = excluded.session, address = excluded.address,
            expires = excluded.expires, seen = excluded.seen, version = excluded.version
        RETURNING seen, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint, session",
    )
    .bind(name)
    .bind(session)
    .bind(address)
    .bind(lease_millis)
    .bind(i64::from(DATA_VERSION))
    .fetch_one(connection)
    .await?;
    Told::read(&row)
}

/// Renews the lease, and says again what was applied: a failover may have undone that. The session changes if the lease
/// has run out, for this process (`lapsed`) or for the database. `None` when the row is not this process's.
pub(super) async fn renew(
    connection: &mut PgConnection,
    whose: Whose<'_>,
    lease_millis: i64,
    lapsed: bool,
    applied: i64,
) -> Result<Option<Told>, sqlx::Error> {
    let row = sqlx::query(
        "UPDATE nodes SET expires = clock_timestamp() + $4 * interval '1 millisecond',
            seen = least(greatest(seen, $6), (SELECT last_change FROM packetboat)),
            session = CASE WHEN $5 OR expires <= clock_timestamp() THEN $3 ELSE session END
        WHERE name = $1 AND session IN ($2, $3) RETURNING (SELECT last_change FROM packetboat),
            floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint, session",
    )
    .bind(whose.name)
    .bind(whose.session)
    .bind(whose.next_session)
    .bind(lease_millis)
    .bind(lapsed)
    .bind(applied)
    .fetch_optional(connection)
    .await?;
    row.as_ref().map(Told::read).transpose()
}

/// Says that everything up to that change is applied.
pub(super) async fn apply(
    connection: &mut PgConnection,
    whose: Whose<'_>,
    through: i64,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE nodes SET seen = $4 WHERE name = $1 AND session IN ($2, $3) AND seen < $4
        RETURNING pg_notify('packetboat_applied', '')",
    )
    .bind(whose.name)
    .bind(whose.session)
    .bind(whose.next_session)
    .bind(through)
    .execute(connection)
    .await
    .map(|_| ())
}

/// Name and address of the process whose row it is.
pub(super) async fn holder(
    connection: &mut PgConnection,
    name: &str,
) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar("SELECT name || ' at ' || address FROM nodes WHERE name = $1")
        .bind(name)
        .fetch_optional(connection)
        .await
}

/// Removes it.
pub(super) async fn remove(
    connection: &mut PgConnection,
    whose: Whose<'_>,
) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM nodes WHERE name = $1 AND session IN ($2, $3)")
        .bind(whose.name)
        .bind(whose.session)
        .bind(whose.next_session)
        .execute(connection)
        .await
        .map(|_| ())
}
