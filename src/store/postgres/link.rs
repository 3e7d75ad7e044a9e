//! A connection that one purpose has for itself, so that nothing else in this process ever makes it wait.

use std::{
    fmt,
    ops::{Deref, DerefMut},
    time::Duration,
};

use sqlx::{Connection as _, PgConnection};
use tokio::{
    sync::{Mutex, MutexGuard},
    time::{Instant, sleep},
};

use super::{
    connector::{Connector, is_full},
    database::within,
    pool::Pool,
};
use crate::limits::{
    POSTGRES_CONNECT_MILLIS_MAX, POSTGRES_PING_MILLIS, POSTGRES_RETRY_MILLIS,
    POSTGRES_TRUSTED_MILLIS,
};

/// The connection, or how to get a new one.
pub(super) struct Link {
    connector: Connector,
    /// Gives way where the server has no connection left.
    pool: Pool,
    slot: Mutex<Slot>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The connector holds the password.
        f.debug_struct("Link").finish_non_exhaustive()
    }
}

#[derive(Debug)]
enum Slot {
    /// And when it was used last.
    Open(PgConnection, Instant),
    /// Never used, or given up after a failure; the next user connects.
    Lost,
    Closed,
}

impl Link {
    /// Connects when it is first used.
    pub(super) fn new(connector: Connector, pool: Pool) -> Self {
        Self {
            connector,
            pool,
            slot: Mutex::new(Slot::Lost),
        }
    }

    /// Waits until the connection is free, and connects if need be: also where one that nobody has used for a while
    /// does not answer, or its server takes no writes any more. Fails with `PoolClosed` after [`Link::close`].
    pub(super) async fn lock(&self) -> Result<LinkGuard<'_>, sqlx::Error> {
        self.lock_within(Duration::from_millis(POSTGRES_CONNECT_MILLIS_MAX))
            .await
    }

    /// The same, where connecting takes no longer than that: then it fails with what the server said last.
    pub(super) async fn lock_within(
        &self,
        longest: Duration,
    ) -> Result<LinkGuard<'_>, sqlx::Error> {
        let mut slot = self.slot.lock().await;
        let mut taken = std::mem::replace(&mut *slot, Slot::Lost);
        if let Slot::Open(connection, used) = &mut taken
            && used.elapsed() >= Duration::from_millis(POSTGRES_TRUSTED_MILLIS)
        {
            let ping = Duration::from_millis(POSTGRES_PING_MILLIS);
            if let Err(error) = within(ping, self.connector.check(connection)).await {
                tracing::debug!(%error, "a connection to postgres is replaced");
                taken = Slot::Lost;
            }
        }
        if matches!(taken, Slot::Lost) {
            taken = Slot::Open(self.connect(longest).await?, Instant::now());
        }
        match taken {
            Slot::Open(connection, _) => Ok(LinkGuard {
                slot,
                connection: Some(connection),
            }),
            closed => {
                *slot = closed;
                Err(sqlx::Error::PoolClosed)
            }
        }
    }

    /// Tries for a while: a server that comes back is found at once.
    async fn connect(&self, longest: Duration) -> Result<PgConnection, sqlx::Error> {
        let mut last = None;
        let tries = async {
            let mut room = None;
            loop {
                match self.connector.open().await {
                    Ok(connection) => return Ok(connection),
                    Err(error) => {
                        if room.is_none() && is_full(&error) {
                            room = Some(self.pool.make_room());
                        }
                        last = Some(error);
                    }
                }
                sleep(Duration::from_millis(POSTGRES_RETRY_MILLIS)).await;
            }
        };
        match within(longest, tries).await {
            Ok(connection) => Ok(connection),
            // What the server said tells more than that time ran out.
            Err(error) => Err(last.unwrap_or(error)),
        }
    }

    /// Connects now, so that it is there before others need one.
    pub(super) async fn open(&self) -> Result<(), sqlx::Error> {
        self.lock().await.map(LinkGuard::reuse)
    }

    /// Closes the connection when its user is done.
    pub(super) async fn close(&self) {
        let mut slot = self.slot.lock().await;
        if let Slot::Open(connection, _) = std::mem::replace(&mut *slot, Slot::Closed)
            && let Err(error) = connection.close().await
        {
            tracing::debug!(%error, "a connection to postgres did not close in order");
        }
    }
}

/// The connection while it is used. Unless its user calls `reuse` in the end, it is closed: nobody knows its state, and
/// the server rolls back what was open.
#[derive(Debug)]
pub(super) struct LinkGuard<'a> {
    slot: MutexGuard<'a, Slot>,
    connection: Option<PgConnection>,
}

impl LinkGuard<'_> {
    /// The next user gets this connection, which has nothing open.
    pub(super) fn reuse(mut self) {
        if let Some(connection) = self.connection.take() {
            *self.slot = Slot::Open(connection, Instant::now());
        }
    }
}

impl Deref for LinkGuard<'_> {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        match &self.connection {
            Some(connection) => connection,
            None => unreachable!("only `reuse` takes it, which ends the guard"),
        }
    }
}

impl DerefMut for LinkGuard<'_> {
    fn deref_mut(&mut self) -> &mut PgConnection {
        match &mut self.connection {
            Some(connection) => connection,
            None => unreachable!("only `reuse` takes it, which ends the guard"),
        }
    }
}
