//! The one connection that writes a file. It has one user at a time.
//!
//! The lock is held across awaits because it is a checkout, not a critical section: a task that waits for it would wait
//! for the file all the same. Nobody who has one asks for another.
//!
//! Not a pool of one: a pool asks a connection whether it still lives each time that it comes back, which costs as
//! many switches between threads as the commit that went before.

use std::ops::{Deref, DerefMut};

use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection, sqlite::SqliteConnectOptions};
use tokio::sync::{Mutex, MutexGuard, Notify};

/// The connection, or how to get a new one.
#[derive(Debug)]
pub(super) struct Writer {
    options: SqliteConnectOptions,
    slot: Mutex<Slot>,
    used: Notify,
}

#[derive(Debug)]
enum Slot {
    Open(SqliteConnection),
    /// Given up after a failure; the next user connects anew.
    Lost,
    Closed,
}

impl Writer {
    /// Connects.
    pub(super) async fn open(options: SqliteConnectOptions) -> Result<Self, sqlx::Error> {
        let connection = options.connect().await?;
        Ok(Self {
            options,
            slot: Mutex::new(Slot::Open(connection)),
            used: Notify::new(),
        })
    }

    /// Waits until the connection is free, first come first served. Fails with `PoolClosed` after [`Writer::close`].
    pub(super) async fn lock(&self) -> Result<WriterGuard<'_>, sqlx::Error> {
        let mut slot = self.slot.lock().await;
        match *slot {
            Slot::Open(_) => {}
            Slot::Lost => *slot = Slot::Open(self.options.connect().await?),
            Slot::Closed => return Err(sqlx::Error::PoolClosed),
        }
        Ok(WriterGuard {
            slot,
            used: &self.used,
            lost: false,
        })
    }

    /// Returns when the connection was used since this was last asked.
    pub(super) async fn used(&self) {
        self.used.notified().await;
    }

    /// Closes the connection when its user is done. Repeating it changes nothing.
    pub(super) async fn close(&self) {
        let mut slot = self.slot.lock().await;
        if let Slot::Open(connection) = std::mem::replace(&mut *slot, Slot::Closed)
            && let Err(error) = connection.close().await
        {
            tracing::warn!(%error, "a connection to a file did not close in order");
        }
    }
}

/// The connection while it is used.
#[derive(Debug)]
pub(super) struct WriterGuard<'a> {
    slot: MutexGuard<'a, Slot>,
    used: &'a Notify,
    lost: bool,
}

impl WriterGuard<'_> {
    /// The connection is not used any more after this checkout: a failure left it in a state that nobody knows.
    pub(super) const fn give_up(&mut self) {
        self.lost = true;
    }
}

impl Deref for WriterGuard<'_> {
    type Target = SqliteConnection;

    fn deref(&self) -> &SqliteConnection {
        match &*self.slot {
            Slot::Open(connection) => connection,
            Slot::Lost | Slot::Closed => unreachable!("a guard is only made of an open connection"),
        }
    }
}

impl DerefMut for WriterGuard<'_> {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        match &mut *self.slot {
            Slot::Open(connection) => connection,
            Slot::Lost | Slot::Closed => unreachable!("a guard is only made of an open connection"),
        }
    }
}

impl Drop for WriterGuard<'_> {
    fn drop(&mut self) {
        if self.lost {
            *self.slot = Slot::Lost;
        }
        self.used.notify_one();
    }
}
