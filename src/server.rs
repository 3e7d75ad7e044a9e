//! A whole server in this process: opens the stores, serves, and stops in an order in which nothing is lost.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use thiserror::Error;
use tokio::time::{Instant, timeout, timeout_at};

use crate::{
    clock::Clock,
    limits,
    service::Service,
    store::{
        MessageLog, StateStore, StoreError,
        memory::{MemoryLog, MemoryState},
        sqlite::{self, DirectoryLock, OpenError},
    },
    wire::{
        grpc::{self, health::Health},
        listener::{BindError, Bound, Listening},
    },
};

/// Where messages and subscriptions are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Storage {
    /// In memory: gone when the server stops.
    Memory,
    /// In files of this directory, which is made if it does not exist.
    Directory(PathBuf),
}

/// What a server needs to know.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where clients connect; port 0 means a free one.
    pub listen: Vec<SocketAddr>,
    /// Where data is kept.
    pub storage: Storage,
    /// What time it is.
    pub clock: Clock,
}

/// Why a server did not start. Nothing of it is left running.
#[derive(Debug, Error)]
pub enum StartError {
    /// An address is taken or not ours.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The data directory cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The stores opened, but do not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The descriptors that were compiled in cannot be read.
    #[error("the descriptors of the API are damaged: {0}")]
    Descriptors(#[from] tonic_reflection::server::Error),
}

/// A server that takes requests.
pub struct Server {
    addresses: Vec<SocketAddr>,
    health: Health,
    listening: Listening,
    service: Arc<Service>,
    /// Held until the stores are closed.
    lock: Option<DirectoryLock>,
}

type Stores = (
    Arc<dyn StateStore>,
    Arc<dyn MessageLog>,
    Option<DirectoryLock>,
);

async fn open(storage: &Storage, clock: &Clock) -> Result<Stores, OpenError> {
    match storage {
        Storage::Memory => {
            let log = MemoryLog::new(clock.clone(), limits::MEMORY_LOG_BYTES_MAX);
            Ok((Arc::new(MemoryState::new()?), Arc::new(log), None))
        }
        Storage::Directory(path) => {
            let (log, state, lock) = sqlite::open(path, clock.clone()).await?;
            Ok((Arc::new(state), Arc::new(log), Some(lock)))
        }
    }
}

/// Starts a server. When this returns, clients can connect.
pub async fn start(options: Options) -> Result<Server, StartError> {
    // Addresses first: a start that cannot succeed does not touch the data.
    let bound = Bound::take(&options.listen)?;
    let addresses = bound.addresses();
    let (state, log, lock) = open(&options.storage, &options.clock).await?;
    if let (Some(lock), Some(address)) = (&lock, addresses.first()) {
        lock.set_address(&address.to_string())?;
    }
    let service = Arc::new(Service::start(state, log, options.clock).await?);
    match serve(bound, &service).await {
        Ok((health, listening)) => Ok(Server {
            addresses,
            health,
            listening,
            service,
            lock,
        }),
        Err(error) => {
            service.drain().await;
            service.close().await;
            if let Some(lock) = lock {
                lock.release();
            }
            Err(error)
        }
    }
}

async fn serve(bound: Bound, service: &Arc<Service>) -> Result<(Health, Listening), StartError> {
    let (health, health_rpcs) = Health::new().await;
    let listening = bound.serve(grpc::routes(service, health_rpcs)?, service.lease())?;
    health.serving().await;
    Ok((health, listening))
}

impl Server {
    /// Where clients connect, with real ports, in the order of [`Options::listen`].
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Stops: no new connections, streams end with UNAVAILABLE, requests are answered, everything that was answered
    /// is durable. Takes at most [`limits::SHUTDOWN_MILLIS_MAX`] and [`limits::CLOSE_MILLIS_MAX`] together.
    pub async fn stop(self) {
        let deadline = Instant::now() + Duration::from_millis(limits::SHUTDOWN_MILLIS_MAX);
        self.listening.stop_accepting();
        self.health.not_serving().await;
        if timeout_at(deadline, self.service.drain()).await.is_err() {
            tracing::error!("subscriptions did not end in time");
        }
        let patience = deadline.saturating_duration_since(Instant::now());
        if !self.listening.close(patience).await {
            tracing::warn!("requests were cut off because they did not end in time");
        }
        let closing = Duration::from_millis(limits::CLOSE_MILLIS_MAX);
        if timeout(closing, self.service.close()).await.is_err() {
            tracing::error!(
                "the stores were not closed in time; what was answered is on disk all the same"
            );
        } else if let Some(lock) = self.lock {
            lock.release();
        }
    }
}
