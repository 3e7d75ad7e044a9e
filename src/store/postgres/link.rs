//! A connection that one purpose has for itself, so that nothing else in this process ever makes it wait.

use std::{
    fmt,
    ops::{Deref, DerefMut},
    time::Duration,
};

use sqlx::{ConnectOptions as _, Connection as _, PgConnection, postgres::PgConnectOptions};
use tokio::{
    sync::{Mutex, MutexGuard},
    time::sleep,
};

use super::database::within;
use crate::limits::{POSTGRES_CONNECT_MILLIS_MAX, POSTGRES_RETRY_MILLIS};

/// The connection, or how to get a new one.
pub(super) struct Link {
    options: PgConnectOptions,
    slot: Mutex<Slot>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The options hold the password.
        f.debug_struct("Link").finish_non_exhaustive()
    }
}

#[derive(Debug)]
enum Slot {
    Open(PgConnection),
    /// Never used, or given up after a failure; the next user connects.
    Lost,
    Closed,
}

impl Link {
    /// Connects when it is first used.
    pub(super) fn new(options: PgConnectOptions) -> Self {
        Self {
            options,
            slot: Mutex::new(Slot::Lost),
        }
    }

    /// Waits until the connection is free, and connects if need be. Fails with `PoolClosed` after [`Link::close`].
    pub(super) async fn lock(&self) -> Result<LinkGuard<'_>, sqlx::Error> {
        let mut slot = self.slot.lock().await;
        let mut taken = std::mem::replace(&mut *slot, Slot::Lost);
        if matches!(taken, Slot::Lost) {
            taken = Slot::Open(self.connect().await?);
        }
        match taken {
            Slot::Open(connection) => Ok(LinkGuard {
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
    async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        let longest = Duration::from_millis(POSTGRES_CONNECT_MILLIS_MAX);
        let mut last = None;
        let tries = async {
            loop {
                match self.options.connect().await {
                    Ok(connection) => return Ok(connection),
                    Err(error) => last = Some(error),
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

    /// Closes the connection when its user is done.
    pub(super) async fn close(&self) {
        let mut slot = self.slot.lock().await;
        if let Slot::Open(connection) = std::mem::replace(&mut *slot, Slot::Closed)
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
            *self.slot = Slot::Open(connection);
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
