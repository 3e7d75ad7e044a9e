//! This node among those that share the database: its row, its heartbeat, its lease, and whether it may take over
//! from a node whose lease has run out.
//!
//! The lease that this process counts on begins before a heartbeat is sent, and is a little shorter than the one that
//! the others see in its row, which begins when the database carries the heartbeat out.
//!
//! What is owned is owned by a session. When the lease has run out, by this process's clock or by the database's, the
//! next heartbeat gives the row another session: whatever was owned is anybody's, whether or not this process still
//! knows of it.

use std::time::Duration;

use parking_lot::Mutex;
use sqlx::{PgConnection, Row as _, postgres::PgRow};
use tokio::{sync::Notify, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{
    database::{Database, bounded, within},
    link::Link,
};
use crate::{
    clock::{Clock, Timestamp},
    limits::{HEARTBEATS_PER_LEASE, POSTGRES_RETRY_MILLIS},
    resource::requirement::DATA_VERSION,
    store::{NodeLease, StoreError, node_lease::NodeLeaseRenewer, rows::from_sql},
};

/// See the module.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) name: String,
    address: String,
    node_lease_length: Duration,
    /// For leases: it counts while this machine sleeps, and nobody sets it.
    clock: Clock,
    /// For everything else: it has the time of the database, as heartbeats bring it.
    time: Clock,
    node_lease: NodeLease,
    renewer: NodeLeaseRenewer,
    standing: Mutex<Standing>,
    database: Database,
    link: Link,
    /// Something may have to be applied.
    pub(super) news: Notify,
}

#[derive(Debug)]
struct Standing {
    /// Which process, and which of its leases, the row is of.
    session: i64,
    /// What the session is after the next lapse.
    next_session: i64,
    /// Until when this node's row is good, as this process counts.
    row_until: Timestamp,
    /// Since when the database has answered every heartbeat, and when it did last.
    answering: Option<(Timestamp, Timestamp)>,
    /// The latest change that was applied.
    applied: i64,
    /// How often the row has not been good. Nobody waited for this node to apply changes then.
    lapses: u64,
    /// What stands between the row and the lease.
    unapplied: Unapplied,
}

/// What is left to apply after a lapse, in which this node may have missed any change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unapplied {
    /// There was none.
    Nothing,
    /// There was one, and nobody here was told.
    Everything,
    /// There was one, and the caller was told that anything up to this change may have happened.
    Told(i64),
}

/// What a heartbeat told.
#[derive(Debug)]
struct Renewed {
    last_change: i64,
    /// The row's, by now.
    session: i64,
    /// One that nobody has had.
    after: i64,
}

/// What the row is worth after a heartbeat.
#[derive(Debug)]
enum Row {
    Good,
    /// What was owned before must not count any more: another heartbeat is due at once.
    OfNoSession,
}

/// What has to be applied next.
#[derive(Clone, Copy, Debug)]
pub(super) enum Next {
    /// Changes after this one.
    After(i64),
    /// Everything, because of this lapse.
    Everything {
        /// Which one.
        lapse: u64,
    },
}

impl Member {
    pub(super) fn new(
        name: String,
        address: String,
        node_lease_length: Duration,
        time: Clock,
        database: Database,
        link: Link,
    ) -> Result<Self, getrandom::Error> {
        let clock = time.steady();
        let (node_lease, renewer) = NodeLease::renewable(clock.clone());
        Ok(Self {
            name,
            address,
            node_lease_length,
            clock,
            time,
            node_lease,
            renewer,
            standing: Mutex::new(Standing {
                session: new_session()?,
                next_session: new_session()?,
                row_until: Timestamp::ZERO,
                answering: None,
                applied: 0,
                lapses: 0,
                unapplied: Unapplied::Nothing,
            }),
            database,
            link,
            news: Notify::new(),
        })
    }

    /// Under which this node owns what it takes over now.
    pub(super) fn session(&self) -> i64 {
        self.standing.lock().session
    }

    /// Whether this node may speak.
    pub(super) fn node_lease(&self) -> NodeLease {
        self.node_lease.clone()
    }

    /// Writes this node's row, which replaces that of an older process of the same name, and holds the lease.
    pub(super) async fn join(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        let sent = self.clock.now();
        let (last_change, time) = self.enter(connection).await?;
        let now = self.clock.now();
        self.time.observe(time, sent, now);
        let mut standing = self.standing.lock();
        standing.row_until = self.good_until(sent);
        standing.answering = Some((now, now));
        standing.applied = last_change;
        self.renewer.renew(standing.row_until);
        Ok(())
    }

    fn good_until(&self, sent: Timestamp) -> Timestamp {
        // Clocks need not run equally fast.
        sent + self.node_lease_length * 9 / 10
    }

    /// The number of the latest change, and the database's clock.
    async fn enter(&self, connection: &mut PgConnection) -> Result<(i64, Timestamp), sqlx::Error> {
        sqlx::query(
            "INSERT INTO nodes (name, session, address, expires, seen, version)
            SELECT $1, $2, $3, clock_timestamp() + $4 * interval '1 millisecond', last_change, $5 FROM packetboat
            ON CONFLICT (name) DO UPDATE SET session = excluded.session, address = excluded.address,
                expires = excluded.expires, seen = excluded.seen, version = excluded.version
            RETURNING seen, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint",
        )
        .bind(&self.name)
        .bind(self.session())
        .bind(&self.address)
        .bind(self.lease_millis())
        .bind(i64::from(DATA_VERSION))
        .fetch_one(connection)
        .await
        .and_then(|row| told(&row))
    }

    fn lease_millis(&self) -> i64 {
        i64::try_from(self.node_lease_length.as_millis()).unwrap_or(i64::MAX)
    }

    /// Renews the lease until it is told to stop, or another process has taken this node's name.
    pub(super) async fn beat(&self, stopping: CancellationToken) {
        let interval = self.node_lease_length / HEARTBEATS_PER_LEASE;
        let retry = Duration::from_millis(POSTGRES_RETRY_MILLIS).min(interval);
        let mut pause = interval;
        let mut failing = false;
        loop {
            tokio::select! {
                () = stopping.cancelled() => return,
                () = sleep(pause) => {}
            }
            let sent = self.clock.now();
            // So that there is time for another try within the lease.
            match within(self.node_lease_length * 3 / 10, self.renew()).await {
                Ok(Some(renewed)) => {
                    if failing {
                        tracing::info!(
                            database = self.database.shown(),
                            "the database answers again"
                        );
                    }
                    failing = false;
                    pause = match self.answered(sent, &renewed) {
                        Row::Good => interval,
                        Row::OfNoSession => Duration::ZERO,
                    };
                    self.tell_news(renewed.last_change);
                }
                Ok(None) => match within(self.node_lease_length, self.missing()).await {
                    Ok(None) => {
                        tracing::warn!(
                            node = self.name,
                            "this node's row is gone: it is made again"
                        );
                        pause = Duration::ZERO;
                    }
                    Ok(Some(other)) => {
                        self.renewer.end(format!(
                            "another process was started as node {other}, and this one was replaced by it: give each \
                             process a node name of its own"
                        ));
                        return;
                    }
                    Err(error) => {
                        self.unanswered(&error, &mut failing);
                        pause = retry;
                    }
                },
                Err(error) => {
                    self.unanswered(&error, &mut failing);
                    pause = retry;
                }
            }
        }
    }

    /// Sends one heartbeat; `None` when the row is not this process's.
    async fn renew(&self) -> Result<Option<Renewed>, sqlx::Error> {
        let mut link = self.link.lock().await?;
        let asked = self.clock.now();
        let (session, next_session, lapsed) = {
            let standing = self.standing.lock();
            let lapsed = asked >= standing.row_until;
            (standing.session, standing.next_session, lapsed)
        };
        // The answer to an earlier heartbeat, which changed the session, may be lost.
        let row = sqlx::query(
            "UPDATE nodes SET expires = clock_timestamp() + $4 * interval '1 millisecond',
                session = CASE WHEN $5 OR expires <= clock_timestamp() THEN $3 ELSE session END
            WHERE name = $1 AND session IN ($2, $3) RETURNING (SELECT last_change FROM packetboat),
                floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint, session",
        )
        .bind(&self.name)
        .bind(session)
        .bind(next_session)
        .bind(self.lease_millis())
        .bind(lapsed)
        .fetch_optional(&mut *link)
        .await?;
        let answered = self.clock.now();
        let Some(row) = row else {
            link.reuse();
            return Ok(None);
        };
        let (last_change, time) = told(&row)?;
        let session = row.try_get(2)?;
        link.reuse();
        self.time.observe(time, asked, answered);
        // Before it is needed: without random bytes there is no other session, and this one is not renewed for long.
        let after = new_session().map_err(|error| sqlx::Error::Configuration(error.into()))?;
        Ok(Some(Renewed {
            last_change,
            session,
            after,
        }))
    }

    /// Name and address of the process whose row it is now. Where there is no row, makes it again: it is removed when a
    /// node was away for very long.
    async fn missing(&self) -> Result<Option<String>, sqlx::Error> {
        let mut link = self.link.lock().await?;
        let row = sqlx::query("SELECT name || ' at ' || address FROM nodes WHERE name = $1")
            .bind(&self.name)
            .fetch_optional(&mut *link)
            .await?;
        let other = if let Some(row) = row {
            Some(row.try_get(0)?)
        } else {
            // Whatever was before, it is over: the next heartbeat finds a lapse.
            self.standing.lock().row_until = Timestamp::ZERO;
            self.renewer.lapse();
            self.enter(&mut link).await?;
            None
        };
        link.reuse();
        Ok(other)
    }

    /// Takes in the answer to a heartbeat that was sent then.
    fn answered(&self, sent: Timestamp, renewed: &Renewed) -> Row {
        let now = self.clock.now();
        let mut standing = self.standing.lock();
        standing.answering = match standing.answering {
            // A gap is as bad as a failure: who knows what the database did meanwhile.
            Some((since, last)) if now < last + self.node_lease_length / 2 => Some((since, now)),
            _ => Some((now, now)),
        };
        if renewed.session != standing.session {
            standing.session = renewed.session;
            standing.next_session = renewed.after;
            standing.lapses += 1;
            standing.unapplied = Unapplied::Everything;
            // By this clock it may go on.
            self.renewer.lapse();
            self.news.notify_one();
        } else if now >= standing.row_until {
            // Nobody here spoke for a moment, and deliveries may have ended.
            return Row::OfNoSession;
        }
        standing.row_until = self.good_until(sent);
        if standing.unapplied == Unapplied::Nothing {
            self.renewer.renew(standing.row_until);
        }
        Row::Good
    }

    fn unanswered(&self, error: &sqlx::Error, failing: &mut bool) {
        self.standing.lock().answering = None;
        if !*failing {
            let database = self.database.shown();
            tracing::warn!(database, %error, "the database does not answer; trying again");
        }
        *failing = true;
    }

    fn tell_news(&self, last_change: i64) {
        if self.standing.lock().applied < last_change {
            self.news.notify_one();
        }
    }

    /// Whether the database has answered for a whole lease, so that every node that lives has renewed its row since it
    /// was away. Until then, an expired row says nothing.
    pub(super) fn sees_who_lives(&self) -> bool {
        let now = self.clock.now();
        self.standing.lock().answering.is_some_and(|(since, last)| {
            since + self.node_lease_length <= now && now < last + self.node_lease_length / 2
        })
    }

    /// What this node has to apply next.
    pub(super) fn next(&self) -> Next {
        let standing = self.standing.lock();
        match standing.unapplied {
            Unapplied::Nothing => Next::After(standing.applied),
            Unapplied::Everything | Unapplied::Told(_) => Next::Everything {
                lapse: standing.lapses,
            },
        }
    }

    /// Whether to tell that everything up to that change has to be applied: not if there was another lapse meanwhile.
    pub(super) fn tells_everything(&self, lapse: u64, through: i64) -> bool {
        let mut standing = self.standing.lock();
        let current = standing.lapses == lapse;
        if current {
            standing.unapplied = Unapplied::Told(through);
        }
        current
    }

    /// Everything up to that change is applied, and the row says so.
    pub(super) fn has_applied(&self, through: i64) {
        let mut standing = self.standing.lock();
        standing.applied = standing.applied.max(through);
        if let Unapplied::Told(told) = standing.unapplied
            && told <= through
        {
            standing.unapplied = Unapplied::Nothing;
            self.renewer.renew(standing.row_until);
        }
    }

    /// Removes this node's row, so that the others may take over at once what it owned.
    pub(super) async fn leave(&self) {
        self.renewer.lapse();
        let left = async {
            let mut link = self.link.lock().await?;
            let (session, next_session) = {
                let standing = self.standing.lock();
                (standing.session, standing.next_session)
            };
            sqlx::query("DELETE FROM nodes WHERE name = $1 AND session IN ($2, $3)")
                .bind(&self.name)
                .bind(session)
                .bind(next_session)
                .execute(&mut *link)
                .await?;
            link.reuse();
            Ok(())
        };
        if let Err(error) = within(self.node_lease_length, left).await {
            tracing::warn!(%error, "the others take over only when this node's lease has run out");
        }
        self.link.close().await;
    }
}

/// Random, so that not even a restored backup brings one back.
fn new_session() -> Result<i64, getrandom::Error> {
    let mut session = [0; 8];
    getrandom::fill(&mut session)?;
    Ok(i64::from_le_bytes(session))
}

/// What a row of this node's tells: the number of the latest change, and the database's clock.
fn told(row: &PgRow) -> Result<(i64, Timestamp), sqlx::Error> {
    let time = Timestamp::from_millis(from_sql(row.try_get(1)?));
    Ok((row.try_get(0)?, time))
}

/// Name and address of a living node whose data version is less than this one.
pub(super) async fn behind(
    database: &Database,
    version: u32,
) -> Result<Option<String>, StoreError> {
    let mut connection = database.connection().await?;
    bounded(
        sqlx::query_scalar(
            "SELECT name || ' at ' || address FROM nodes
            WHERE version < $1 AND expires > clock_timestamp() ORDER BY name LIMIT 1",
        )
        .bind(i64::from(version))
        .fetch_optional(&mut *connection),
    )
    .await
    .map_err(|error| connection.failed(&error))
}
