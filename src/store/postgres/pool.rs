//! The connections for everything but flushes and heartbeats. Whoever takes one gets one of which the server has just
//! said that it takes writes.
//!
//! Where the server has no connection left for a flush or a heartbeat, those of this pool that are idle are closed and
//! no others are opened, until it has.

use std::{
    fmt, io,
    ops::{Deref, DerefMut},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use sqlx::{Connection as _, Executor as _, PgConnection};
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep, timeout_at},
};

use super::{
    connector::{Connector, Unusable, is_full, open_within},
    database::within,
};
use crate::limits::{
    POSTGRES_CONNECTIONS_MAX, POSTGRES_IDLE_SECONDS_MAX, POSTGRES_LIFETIME_SECONDS_MAX,
    POSTGRES_PING_MILLIS, POSTGRES_RETRY_MILLIS,
};

/// See the module. Cheap to clone.
#[derive(Clone)]
pub(super) struct Pool(Arc<Shared>);

struct Shared {
    connector: Connector,
    places: Arc<Semaphore>,
    idle: Mutex<Vec<Idle>>,
    closed: AtomicBool,
    /// How many connections that are more urgent the server has refused.
    wanted_elsewhere: AtomicUsize,
    /// Why the last one was not opened.
    failure: Mutex<Option<String>>,
}

struct Idle {
    connection: PgConnection,
    opened: Instant,
    since: Instant,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The connector holds the password.
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}

impl Pool {
    /// Connects when it is first used.
    pub(super) fn new(connector: Connector) -> Self {
        Self(Arc::new(Shared {
            connector,
            places: Arc::new(Semaphore::new(POSTGRES_CONNECTIONS_MAX as usize)),
            idle: Mutex::default(),
            closed: AtomicBool::new(false),
            wanted_elsewhere: AtomicUsize::new(0),
            failure: Mutex::default(),
        }))
    }

    /// A connection, for which the caller waits so long at most. Fails with what the server said last.
    pub(super) async fn take(&self, longest: Duration) -> Result<Pooled, sqlx::Error> {
        let shared = &self.0;
        let deadline = Instant::now() + longest;
        let place = timeout_at(deadline, Arc::clone(&shared.places).acquire_owned());
        let place = place.await.map_err(|_| sqlx::Error::PoolTimedOut)?;
        let place = place.map_err(|_| sqlx::Error::PoolClosed)?;
        let mut refused = None;
        loop {
            if shared.closed.load(Ordering::Acquire) {
                return Err(sqlx::Error::PoolClosed);
            }
            let opened = match self.idle_that_lives().await {
                Some(taken) => Ok(taken),
                None => self.open(deadline).await,
            };
            match opened {
                Ok((connection, opened)) => {
                    return Ok(Pooled {
                        pool: self.clone(),
                        connection: Some(connection),
                        opened,
                        place: Some(place),
                        has_begun: false,
                        is_broken: false,
                    });
                }
                Err(error) => {
                    // What the server said tells more than that time ran out.
                    let error = match refused.take() {
                        Some(said) if is_late(&error) => said,
                        _ => error,
                    };
                    let retry = Instant::now() + Duration::from_millis(POSTGRES_RETRY_MILLIS);
                    if retry >= deadline {
                        return Err(error);
                    }
                    refused = Some(error);
                    sleep(Duration::from_millis(POSTGRES_RETRY_MILLIS)).await;
                }
            }
        }
    }

    async fn idle_that_lives(&self) -> Option<(PgConnection, Instant)> {
        loop {
            let Idle {
                mut connection,
                opened,
                since,
            } = self.0.idle.lock().pop()?;
            if is_young(opened, since) {
                let ping = Duration::from_millis(POSTGRES_PING_MILLIS);
                let checked = within(ping, self.0.connector.check(&mut connection)).await;
                match checked {
                    Ok(()) => return Some((connection, opened)),
                    Err(error) => tracing::debug!(%error, "a connection to postgres is replaced"),
                }
            }
        }
    }

    async fn open(&self, deadline: Instant) -> Result<(PgConnection, Instant), sqlx::Error> {
        if self.is_making_room() {
            return Err(Unusable::Scarce.into());
        }
        let rest = deadline.saturating_duration_since(Instant::now());
        let opened = open_within(&self.0.connector, rest).await;
        match &opened {
            Ok(_) => *self.0.failure.lock() = None,
            Err(error) if is_late(error) => {}
            Err(error) => *self.0.failure.lock() = Some(error.to_string()),
        }
        if let Err(error) = &opened
            && is_full(error)
        {
            // Other nodes may have more use for them.
            self.0.idle.lock().clear();
        }
        Ok((opened?, Instant::now()))
    }

    /// Why the last connection could not be opened, if that is how it is.
    pub(super) fn failure(&self) -> Option<String> {
        self.0.failure.lock().clone()
    }

    /// The server refused a more urgent connection: this pool has no more than those in use until the answer is
    /// dropped.
    pub(super) fn make_room(&self) -> Room {
        self.0.wanted_elsewhere.fetch_add(1, Ordering::AcqRel);
        self.0.idle.lock().clear();
        Room(self.clone())
    }

    /// Whether more urgent connections wait for room.
    pub(super) fn is_making_room(&self) -> bool {
        self.0.wanted_elsewhere.load(Ordering::Acquire) > 0
    }

    /// Waits for the connections that are in use, and closes all.
    pub(super) async fn close(&self) {
        self.0.closed.store(true, Ordering::Release);
        let all = self.0.places.acquire_many(POSTGRES_CONNECTIONS_MAX).await;
        let idle = std::mem::take(&mut *self.0.idle.lock());
        for Idle { connection, .. } in idle {
            // The server ends it in any case.
            connection.close().await.ok();
        }
        drop(all);
        self.0.places.close();
    }

    /// Ends what was left open, and has the next one take it.
    async fn give_back(self, mut connection: PgConnection, opened: Instant, has_begun: bool) {
        let ping = Duration::from_millis(POSTGRES_PING_MILLIS);
        let ended = within(ping, async {
            if has_begun {
                connection.execute("ROLLBACK").await.map(drop)
            } else {
                // What was dropped is rolled back, and what nobody waited for is read.
                connection.ping().await
            }
        });
        if ended.await.is_err() || self.is_making_room() {
            return;
        }
        let since = Instant::now();
        let mut idle = self.0.idle.lock();
        idle.retain(|one| is_young(one.opened, one.since));
        idle.push(Idle {
            connection,
            opened,
            since,
        });
    }
}

fn is_late(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Io(error) if error.kind() == io::ErrorKind::TimedOut)
}

fn is_young(opened: Instant, since: Instant) -> bool {
    opened.elapsed() < Duration::from_secs(POSTGRES_LIFETIME_SECONDS_MAX)
        && since.elapsed() < Duration::from_secs(POSTGRES_IDLE_SECONDS_MAX)
}

/// Room that is made; see [`Pool::make_room`].
#[derive(Debug)]
pub(super) struct Room(Pool);

impl Drop for Room {
    fn drop(&mut self) {
        self.0.0.wanted_elsewhere.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A connection while it is used.
pub(super) struct Pooled {
    pool: Pool,
    connection: Option<PgConnection>,
    opened: Instant,
    place: Option<OwnedSemaphorePermit>,
    has_begun: bool,
    is_broken: bool,
}

impl fmt::Debug for Pooled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pooled").finish_non_exhaustive()
    }
}

impl Pooled {
    /// Begins a transaction that is rolled back when this is dropped.
    pub(super) async fn begin_to_drop(&mut self) -> Result<(), sqlx::Error> {
        self.has_begun = true;
        self.execute("BEGIN").await.map(drop)
    }

    /// It is closed, and not used again.
    pub(super) const fn breaks(&mut self) {
        self.is_broken = true;
    }
}

impl Deref for Pooled {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        match &self.connection {
            Some(connection) => connection,
            None => unreachable!("only dropping takes it"),
        }
    }
}

impl DerefMut for Pooled {
    fn deref_mut(&mut self) -> &mut PgConnection {
        match &mut self.connection {
            Some(connection) => connection,
            None => unreachable!("only dropping takes it"),
        }
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        let (connection, place) = (self.connection.take(), self.place.take());
        if !self.is_broken
            && let Some(connection) = connection
            && let Ok(runtime) = Handle::try_current()
        {
            let (pool, opened, has_begun) = (self.pool.clone(), self.opened, self.has_begun);
            runtime.spawn(async move {
                pool.give_back(connection, opened, has_begun).await;
                drop(place);
            });
        }
    }
}
