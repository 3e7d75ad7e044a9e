//! One port for gRPC and plain HTTP: accepts connections, tells HTTP/1.1 and HTTP/2 apart, hands requests on, and
//! closes everything in order.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use hyper::rt::Executor;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use thiserror::Error;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::service::Routes;

use super::{
    calls::Calls,
    dispatch::Dispatch,
    rest::{self, BadDescriptors},
};
use crate::{limits, service::Guarded};

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

    /// Lets clients connect and answers with `routes`, over gRPC and REST, while the service's lease holds.
    pub fn serve(self, routes: Routes, service: Guarded) -> Result<Listening, ServeError> {
        let listeners = self
            .0
            .into_iter()
            .map(|(address, socket)| {
                socket
                    .listen(limits::ACCEPT_BACKLOG_MAX)
                    .map_err(|error| BindError { address, error })
            })
            .collect::<Result<Vec<_>, _>>()?;
        let listening = Listening {
            stop_accepting: CancellationToken::new(),
            closing: CancellationToken::new(),
            abort: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        let calls = Calls::new(routes, service.node_lease(), listening.closing.clone());
        let rest = rest::service(calls.clone(), service)?;
        let shared = Arc::new(Shared {
            http: http(listening.tasks.clone()),
            dispatch: Dispatch::new(calls, rest),
            slots: Arc::new(Semaphore::new(limits::CONNECTIONS_MAX)),
            closing: listening.closing.clone(),
            abort: listening.abort.clone(),
            tasks: listening.tasks.clone(),
        });
        for listener in listeners {
            listening.tasks.spawn(accept(
                listener,
                Arc::clone(&shared),
                listening.stop_accepting.clone(),
            ));
        }
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
    stop_accepting: CancellationToken,
    /// Connections finish the requests they have and take no more.
    closing: CancellationToken,
    /// Connections end now.
    abort: CancellationToken,
    /// Accepting, connections and requests.
    tasks: TaskTracker,
}

impl Listening {
    /// Takes no further connections. Those that there are go on.
    pub fn stop_accepting(&self) {
        self.stop_accepting.cancel();
    }

    /// Tells connections to end and waits, at most `patience`, until their requests are answered; what is left then
    /// is cut off. Returns whether everything was answered.
    pub async fn close(self, patience: Duration) -> bool {
        self.stop_accepting();
        self.closing.cancel();
        self.tasks.close();
        let answered = timeout(patience, self.tasks.wait()).await.is_ok();
        self.abort.cancel();
        answered
    }
}

/// What all connections need.
struct Shared {
    http: auto::Builder<Tracked>,
    dispatch: Dispatch,
    slots: Arc<Semaphore>,
    closing: CancellationToken,
    abort: CancellationToken,
    tasks: TaskTracker,
}

/// Runs the requests of HTTP/2 connections as tasks that are waited for.
#[derive(Clone)]
struct Tracked(TaskTracker);

impl<F> Executor<F> for Tracked
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    fn execute(&self, request: F) {
        self.0.spawn(request);
    }
}

/// The settings of both HTTP versions. HTTP/2 pings are answered however often they come: clients that ping every few
/// seconds are not disconnected for it (docs/behaviour.md, section 21).
fn http(tasks: TaskTracker) -> auto::Builder<Tracked> {
    let mut http = auto::Builder::new(Tracked(tasks));
    http.http1()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(limits::FIRST_BYTES_WAIT_MILLIS))
        .max_buf_size(limits::HEADER_BYTES_MAX as usize);
    http.http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(limits::HTTP2_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(limits::HTTP2_CONNECTION_WINDOW_BYTES)
        .max_frame_size(limits::HTTP2_FRAME_BYTES_MAX)
        .max_concurrent_streams(limits::HTTP2_STREAMS_MAX)
        // A client that cancels all of its requests at once is not an attack.
        .max_pending_accept_reset_streams(limits::HTTP2_STREAMS_MAX as usize)
        .max_header_list_size(limits::HEADER_BYTES_MAX)
        .keep_alive_interval(Duration::from_millis(limits::HTTP2_PING_AFTER_MILLIS))
        .keep_alive_timeout(Duration::from_millis(limits::HTTP2_PING_WAIT_MILLIS));
    http
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, stop: CancellationToken) {
    let accepting = async {
        loop {
            let slot = Arc::clone(&shared.slots)
                .acquire_owned()
                .await
                .expect("the semaphore is never closed");
            match listener.accept().await {
                Ok((stream, peer)) => {
                    shared
                        .tasks
                        .spawn(connection(stream, peer, Arc::clone(&shared), slot));
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot accept connections, trying again");
                    tokio::time::sleep(Duration::from_millis(limits::ACCEPT_PAUSE_MILLIS)).await;
                }
            }
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = accepting => {}
    }
}

/// Whether the error says that a client gave up before it was accepted.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    shared: Arc<Shared>,
    _slot: OwnedSemaphorePermit,
) {
    // Answers are small and a client waits for each.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%peer, %error, "cannot turn delayed sending off");
    }
    let patience = Duration::from_millis(limits::FIRST_BYTES_WAIT_MILLIS);
    tokio::select! {
        said = timeout(patience, stream.readable()) => if said.is_err() { return },
        () = shared.closing.cancelled() => return,
    }
    let service = TowerToHyperService::new(shared.dispatch.clone());
    let serving = shared.http.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(serving);
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = shared.closing.cancelled() => {
            serving.as_mut().graceful_shutdown();
            tokio::select! {
                ended = serving.as_mut() => ended,
                () = shared.abort.cancelled() => return,
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, error, "connection ended with an error");
    }
}
