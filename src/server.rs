//! A whole server in this process: opens the stores, serves, and stops in an order in which nothing is lost.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use thiserror::Error;
use tokio::time::{Instant, timeout, timeout_at};

use crate::{
    auth::web::WebAccess,
    clock::Clock,
    descriptors, limits,
    random::Random,
    service::{Guarded, NodeLease, Service},
    storage::{self, DirectoryLock, OpenError, Opened, Storage},
    wire::{
        grpc::{self, health::Health},
        listener::{BindError, Bound, Listening, ServeError},
    },
};

/// What a server needs to know.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where clients connect; port 0 means a free one.
    pub listen: Vec<SocketAddr>,
    /// What browsers may ask.
    pub web: WebAccess,
    /// Where data is stored.
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
    /// A store cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The descriptors that were compiled in cannot be read.
    #[error("the descriptors of the API are damaged: {0}")]
    Descriptors(#[from] tonic_reflection::server::Error),
    /// There is nothing to answer with.
    #[error(transparent)]
    Serve(#[from] ServeError),
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

/// Starts a server. When this returns, clients can connect.
pub async fn start(options: Options) -> Result<Server, StartError> {
    let descriptors = descriptors::raise();
    // Addresses first: a start that cannot succeed does not touch the data.
    let bound = Bound::take(&options.listen)?;
    let addresses = bound.addresses();
    let address = addresses.first().map(ToString::to_string);
    let address = address.unwrap_or_default();
    let clock = options.storage.clock(&options.clock);
    let Opened { state, log, lock } = storage::open(&options.storage, &address, &clock).await?;
    if let Some(lock) = &lock {
        lock.set_address(&address).map_err(OpenError::from)?;
    }
    let service = Arc::new(Service::start(state, log, clock, Random::system()));
    match serve(bound, &service, options.web, descriptors).await {
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

async fn serve(
    bound: Bound,
    service: &Arc<Service>,
    web: WebAccess,
    descriptors: u64,
) -> Result<(Health, Listening), StartError> {
    let (health, health_rpcs) = Health::new().await;
    let guarded = Guarded::open(Arc::clone(service));
    let services = grpc::services(&guarded, health_rpcs)?;
    let listening = bound.serve(services, guarded, web, descriptors)?;
    tokio::spawn(follow_node_lease(service.node_lease(), health.clone()));
    Ok((health, listening))
}

/// Has health checks say whether this node may answer, until it never can again.
async fn follow_node_lease(node_lease: NodeLease, health: Health) {
    loop {
        node_lease.held().await;
        health.serving().await;
        node_lease.lost().await;
        health.not_serving().await;
    }
}

impl Server {
    /// Where clients connect, with real ports, in the order of [`Options::listen`].
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Returns why this server can never answer again, once that is so. Nothing but stopping is left to do then.
    pub async fn ended(&self) -> String {
        self.service.node_lease().ended().await
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
