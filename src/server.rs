//! A whole server in this process: opens the stores, serves, and stops in an order in which nothing is lost.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use thiserror::Error;
use tokio::time::Instant;

use crate::{
    clock::Clock,
    limits,
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
    /// The descriptors that were compiled in cannot be read.
    #[error("the descriptors of the API are damaged: {0}")]
    Descriptors(#[from] tonic_reflection::server::Error),
}

/// A server that takes requests.
#[derive(Debug)]
pub struct Server {
    addresses: Vec<SocketAddr>,
    health: Health,
    listening: Listening,
}

/// Starts a server. When this returns, clients can connect.
pub async fn start(options: Options) -> Result<Server, StartError> {
    // Addresses first: a start that cannot succeed does not touch the data.
    let bound = Bound::take(&options.listen)?;
    let addresses = bound.addresses();
    let (health, health_rpcs) = Health::new().await;
    let listening = bound.serve(grpc::routes(health_rpcs)?)?;
    health.serving().await;
    Ok(Server {
        addresses,
        health,
        listening,
    })
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
        let patience = deadline.saturating_duration_since(Instant::now());
        if !self.listening.close(patience).await {
            tracing::warn!("requests were cut off because they did not end in time");
        }
    }
}
