//! One port for gRPC and plain HTTP: takes addresses, lets clients connect, and closes everything in order.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use thiserror::Error;
use tokio::{net::TcpSocket, time::timeout};

use super::{
    calls::Calls,
    connections::{Connections, Ends},
    dispatch::Dispatch,
    grpc::services::Services,
    rest::{self, BadDescriptors},
};
use crate::{auth::web::WebAccess, limits, service::Guarded};

/// Why an address cannot be listened on.
#[derive(Debug, Error)]
#[error("cannot listen on {address}: {}", hint(.error))]
pub struct BindError {
    /// The address.
    pub address: SocketAddr,
    /// What the machine said.
    pub error: io::Error,
}

/// Why nothing is served.
#[derive(Debug, Error)]
pub enum ServeError {
    /// An address is taken or not ours.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// There is no REST.
    #[error(transparent)]
    Descriptors(#[from] BadDescriptors),
}

fn hint(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another program uses this port; stop it, or choose another with --listen".to_owned()
        }
        io::ErrorKind::AddrNotAvailable => {
            "this machine does not have the address; choose another with --listen".to_owned()
        }
        io::ErrorKind::PermissionDenied => {
            "this user may not use the port; choose one above 1023 with --listen".to_owned()
        }
        _ => error.to_string(),
    }
}

/// Addresses that are ours, on which nobody can connect yet.
#[derive(Debug)]
pub struct Bound(Vec<(SocketAddr, TcpSocket)>);

impl Bound {
    /// Takes all `addresses`; port 0 means a free one.
    pub fn take(addresses: &[SocketAddr]) -> Result<Self, BindError> {
        let take = |&address| {
            bind(address)
                .and_then(|socket| Ok((socket.local_addr()?, socket)))
                .map_err(|error| BindError { address, error })
        };
        addresses
            .iter()
            .map(take)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// The addresses with their real ports, in the order in which they were asked for.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.0.iter().map(|(address, _)| *address).collect()
    }

    /// Lets clients connect and answers with `services`, over gRPC and REST, while the service's lease holds. `access` says
    /// what browsers may ask. Of the process's `descriptors`, some are left to the stores.
    pub fn serve(
        self,
        services: Services,
        service: Guarded,
        access: WebAccess,
        descriptors: u64,
    ) -> Result<Listening, ServeError> {
        let listeners = self
            .0
            .into_iter()
            .map(|(address, socket)| {
                socket
                    .listen(limits::ACCEPT_BACKLOG_MAX)
                    .map_err(|error| BindError { address, error })
            })
            .collect::<Result<Vec<_>, _>>()?;
        let ends = Ends::default();
        let calls = Calls::new(services, service.node_lease(), ends.closing.clone());
        let rest = rest::service(calls.clone(), service)?;
        let connections = Connections::new(Dispatch::new(calls, rest), access, &ends, descriptors);
        for listener in listeners {
            let connections = Arc::clone(&connections);
            ends.tasks.spawn(connections.accept(listener));
        }
        let listening = Listening { ends };
        Ok(listening)
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // A restarted server takes its port back at once, although old connections of it are still remembered.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// Listeners that are running, and everything that came of them.
#[derive(Debug)]
pub struct Listening {
    ends: Ends,
}

impl Listening {
    /// Takes no further connections. Those that there are go on.
    pub fn stop_accepting(&self) {
        self.ends.stop_accepting.cancel();
    }

    /// Tells connections to end and waits, at most `patience`, until their requests are answered; what is left then
    /// is cut off. Returns whether everything was answered.
    pub async fn close(self, patience: Duration) -> bool {
        self.stop_accepting();
        self.ends.closing.cancel();
        self.ends.tasks.close();
        let answered = timeout(patience, self.ends.tasks.wait()).await.is_ok();
        self.ends.abort.cancel();
        answered
    }
}
