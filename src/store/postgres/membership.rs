//! This node among those that share the database: its row, its heartbeat, its lease, and whether it may take over
//! from a node whose lease has run out.
//!
//! The lease that this process counts on begins before a heartbeat is sent, and is a little shorter than the one that
//! the others see in its row, which begins when the database carries the heartbeat out.
//!
//! What is owned is owned by a session. When the lease has run out, by this process's clock or by the database's, the
//! next heartbeat gives the row another session: whatever was owned is anybody's, whether or not this process still
//! knows of it.

use std::{collections::BTreeSet, time::Duration};

use parking_lot::Mutex;
use sqlx::PgConnection;
use tokio::{sync::Notify, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{
    database::{Database, bounded, within},
    link::Link,
    node_row::{self, Told, Whose},
};
use crate::{
    clock::{Clock, Reading, Timestamp},
    limits::{HEARTBEATS_PER_LEASE, POSTGRES_RETRY_MILLIS},
    store::{NodeLease, StoreError, node_lease::NodeLeaseRenewer},
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
    /// Which process, and which of its leases, the row is of: random at first, so that not even a restored backup
    /// brings one back, and one more after each lapse.
    session: i64,
    /// Until when this node's row is good, as this process counts.
    row_until: Timestamp,
    /// What the clocks said before the database was asked for that.
    asked: Reading,
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
        let mut session = [0; 8];
        getrandom::fill(&mut session)?;
        let clock = time.steady();
        let (node_lease, renewer) = NodeLease::renewable(clock.clone());
        let asked = clock.reading();
        Ok(Self {
            name,
            address,
            node_lease_length,
            clock,
            time,
            node_lease,
            renewer,
            standing: Mutex::new(Standing {
                session: i64::from_le_bytes(session),
                row_until: Timestamp::ZERO,
                asked,
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
    pub(super) async fn join(&self) -> Result<(), sqlx::Error> {
        let mut link = self.link.lock().await?;
        let (sent, asked) = (self.clock.now(), self.clock.reading());
        let told = self.enter(&mut link).await?;
        link.reuse();
        let now = self.clock.now();
        self.time.observe(told.time, sent, now);
        let mut standing = self.standing.lock();
        standing.row_until = self.good_until(sent);
        standing.asked = asked;
        standing.answering = Some((now, now));
        standing.applied = told.last_change;
        self.renewer.renew(standing.row_until, asked);
        Ok(())
    }

    fn good_until(&self, sent: Timestamp) -> Timestamp {
        // Clocks need not run equally fast.
        sent + self.node_lease_length * 9 / 10
    }

    async fn enter(&self, connection: &mut PgConnection) -> Result<Told, sqlx::Error> {
        let session = self.session();
        node_row::enter(
            connection,
            &self.name,
            session,
            &self.address,
            self.lease_millis(),
        )
        .await
    }

    fn whose(&self) -> Whose<'_> {
        let session = self.session();
        Whose {
            name: &self.name,
            session,
            next_session: session.wrapping_add(1),
        }
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
                // Everything waits for the answer; a database that does not answer is not asked more often.
                () = self.renewer.doubted(), if !failing => {}
            }
            let (sent, asked) = (self.clock.now(), self.clock.reading());
            // So that there is time for another try within the lease.
            match within(self.node_lease_length * 3 / 10, self.renew()).await {
                Ok(Some(told)) => {
                    if failing {
                        tracing::info!(
                            database = self.database.shown(),
                            "the database answers again"
                        );
                    }
                    failing = false;
                    pause = match self.answered(sent, asked, &told) {
                        Row::Good => interval,
                        Row::OfNoSession => Duration::ZERO,
                    };
                    self.tell_news(told.last_change);
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
    async fn renew(&self) -> Result<Option<Told>, sqlx::Error> {
        // Less than all of this takes, so that the log tells why.
        let mut link = self.link.lock_within(self.node_lease_length / 4).await?;
        let asked = self.clock.now();
        let (lapsed, applied) = {
            let standing = self.standing.lock();
            (asked >= standing.row_until, standing.applied)
        };
        let (whose, lease) = (self.whose(), self.lease_millis());
        let told = node_row::renew(&mut link, whose, lease, lapsed, applied).await?;
        link.reuse();
        if let Some(told) = &told {
            self.time.observe(told.time, asked, self.clock.now());
        }
        Ok(told)
    }

    /// Name and address of the process whose row it is now. Where there is no row, makes it again: it is removed when a
    /// node was away for very long.
    async fn missing(&self) -> Result<Option<String>, sqlx::Error> {
        let mut link = self.link.lock().await?;
        let other = node_row::holder(&mut link, &self.name).await?;
        if other.is_none() {
            // Whatever was before, it is over: the next heartbeat finds a lapse.
            self.standing.lock().row_until = Timestamp::ZERO;
            self.renewer.lapse();
            self.enter(&mut link).await?;
        }
        link.reuse();
        Ok(other)
    }

    /// Takes in the answer to a heartbeat that was sent then.
    fn answered(&self, sent: Timestamp, asked: Reading, told: &Told) -> Row {
        let now = self.clock.now();
        let mut standing = self.standing.lock();
        standing.answering = match standing.answering {
            // A gap is as bad as a failure: who knows what the database did meanwhile.
            Some((since, last)) if now < last + self.node_lease_length / 2 => Some((since, now)),
            _ => Some((now, now)),
        };
        if told.last_change < standing.applied {
            // The database is an older one, as after a failover to a late standby: whatever was known may be undone.
            standing.applied = told.last_change;
            standing.row_until = Timestamp::ZERO;
            self.renewer.lapse();
            return Row::OfNoSession;
        }
        if told.session != standing.session {
            standing.session = told.session;
            // Nor does this node know what the others did meanwhile.
            standing.answering = Some((now, now));
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
        standing.asked = asked;
        if standing.unapplied == Unapplied::Nothing {
            self.renewer.renew(standing.row_until, asked);
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

    /// Everything up to that change is applied: has the row say so. The row is not locked by anything else that waits
    /// for a standby.
    pub(super) async fn apply(&self, through: i64) -> Result<(), StoreError> {
        let applied = async {
            let mut link = self.link.lock().await?;
            node_row::apply(&mut link, self.whose(), through).await?;
            link.reuse();
            Ok(())
        };
        let applied = within(self.node_lease_length * 3 / 10, applied).await;
        applied.map_err(|error| self.database.commit_failed(&error))?;
        self.has_applied(through);
        Ok(())
    }

    /// The row says so.
    fn has_applied(&self, through: i64) {
        let mut standing = self.standing.lock();
        if standing.unapplied == Unapplied::Nothing {
            standing.applied = standing.applied.max(through);
        }
        if let Unapplied::Told(told) = standing.unapplied
            && told <= through
        {
            standing.unapplied = Unapplied::Nothing;
            standing.applied = through;
            self.renewer.renew(standing.row_until, standing.asked);
        }
    }

    /// Removes this node's row, so that the others may take over at once what it owned.
    pub(super) async fn leave(&self) {
        self.renewer.lapse();
        let left = async {
            let mut link = self.link.lock().await?;
            node_row::remove(&mut link, self.whose()).await?;
            link.reuse();
            Ok(())
        };
        if let Err(error) = within(self.node_lease_length, left).await {
            tracing::warn!(%error, "the others take over only when this node's lease has run out");
        }
        self.link.close().await;
    }
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

/// Sessions of the nodes that live.
pub(super) async fn living(database: &Database) -> Result<BTreeSet<u64>, StoreError> {
    let mut connection = database.connection().await?;
    let sessions: Vec<i64> = bounded(
        sqlx::query_scalar("SELECT session FROM nodes WHERE expires > clock_timestamp()")
            .fetch_all(&mut *connection),
    )
    .await
    .map_err(|error| connection.failed(&error))?;
    Ok(sessions.into_iter().map(i64::cast_unsigned).collect())
}
