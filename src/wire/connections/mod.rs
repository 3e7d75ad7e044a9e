//! Connections: accepts them, finds out which protocol each speaks, hands its requests on, and ends it when it is silent
//! or stands still (docs/operating.md has all deadlines).

mod admission;
mod protocol;
mod refusing;
mod stream;

use std::{io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use hyper::{
    rt::Executor,
    server::conn::{http1, http2},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulConnection,
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    admission::{Admission, Admitted},
    protocol::Protocol,
    stream::Stream,
};
use super::{dispatch::Dispatch, gate::Gate, layers::unread};
use crate::{auth::web::WebAccess, limits};

/// How connections end, and what is waited for then. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Ends {
    pub(super) stop_accepting: CancellationToken,
    /// Connections finish the requests they have and take no more.
    pub(super) closing: CancellationToken,
    /// Connections end now.
    pub(super) abort: CancellationToken,
    /// Accepting, connections and requests.
    pub(super) tasks: TaskTracker,
}

/// What all connections need.
pub(super) struct Connections {
    http1: http1::Builder,
    http2: http2::Builder<Tracked>,
    dispatch: Dispatch,
    access: Arc<WebAccess>,
    admission: Arc<Admission>,
    ends: Ends,
}

/// Runs the requests of HTTP/2 connections as tasks that are waited for.
#[derive(Clone)]
struct Tracked(TaskTracker);

impl<F> Executor<F> for Tracked
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    fn execute(&self, request: F) {
        // Else it would be moved into each of the futures around it, and it is large.
        let request = Box::pin(request);
        self.0.spawn(async {
            if unread::watch(request).await.is_none() {
                tracing::debug!("an answer ended, as its client does not take it");
            }
        });
    }
}

impl Connections {
    /// Of a process that may have so many `descriptors`, with browsers that may ask what `access` says. Until `ends` says
    /// so.
    pub(super) fn new(
        dispatch: Dispatch,
        access: WebAccess,
        ends: &Ends,
        descriptors: u64,
    ) -> Arc<Self> {
        let connections = Arc::new(Self {
            http1: http1(),
            http2: http2(ends.tasks.clone()),
            dispatch,
            access: Arc::new(access),
            admission: Arc::new(Admission::new(descriptors)),
            ends: ends.clone(),
        });
        let admission = Arc::clone(&connections.admission);
        let stop = ends.stop_accepting.clone();
        ends.tasks.spawn(async move {
            stop.run_until_cancelled(admission.refusing().log_ends())
                .await;
        });
        connections
    }

    /// Accepts those of `listener`.
    pub(super) async fn accept(self: Arc<Self>, listener: TcpListener) {
        let address = listener.local_addr();
        let is_local = address.is_ok_and(|address| address.ip().to_canonical().is_loopback());
        let accepting = async {
            loop {
                match listener.accept().await {
                    Ok((stream, peer)) => {
                        // Answers are small and a client waits for each.
                        if let Err(error) = stream.set_nodelay(true) {
                            tracing::debug!(%peer, %error, "cannot turn delayed sending off");
                        }
                        let admitted = self.admission.admit(peer.ip()).await;
                        let served = Arc::clone(&self).serve(stream, peer, is_local, admitted);
                        self.ends.tasks.spawn(served);
                    }
                    Err(error) if is_of_one_connection(&error) => {}
                    Err(error) => {
                        self.admission.machine_refuses(&error);
                        let pause = Duration::from_millis(limits::ACCEPT_PAUSE_MILLIS);
                        tokio::time::sleep(pause).await;
                    }
                }
            }
        };
        let stop = &self.ends.stop_accepting;
        stop.run_until_cancelled(accepting).await;
    }

    /// `is_local`: only this machine reaches the address at which it came in.
    async fn serve<S>(
        self: Arc<Self>,
        mut stream: S,
        peer: SocketAddr,
        is_local: bool,
        admitted: Admitted,
    ) where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let Admitted {
            slot: _slot,
            silent,
        } = admitted;
        let patience = Duration::from_millis(limits::PROTOCOL_WAIT_MILLIS);
        let said = tokio::select! {
            said = timeout(patience, protocol::read(&mut stream)) => said,
            () = silent.closed() => return,
            () = self.ends.closing.cancelled() => return,
        };
        let Ok(Ok(Some((protocol, first)))) = said else {
            return;
        };
        drop(silent);
        let dispatch = self.dispatch.for_connection();
        let heads = matches!(protocol, Protocol::Http1).then(|| dispatch.share().clone());
        let stream = TokioIo::new(Stream::new(stream, first, heads));
        let access = Arc::clone(&self.access);
        let gate = Gate::new(dispatch, access, is_local);
        let service = TowerToHyperService::new(gate);
        let ended = match protocol {
            Protocol::Http1 => self.run(self.http1.serve_connection(stream, service)).await,
            Protocol::Http2 => self.run(self.http2.serve_connection(stream, service)).await,
        };
        if let Err(error) = ended {
            tracing::debug!(%peer, %error, "connection ended with an error");
        }
    }

    /// Runs a connection to its end.
    async fn run<C: GracefulConnection>(&self, connection: C) -> Result<(), C::Error> {
        let mut connection = pin!(connection);
        tokio::select! {
            ended = connection.as_mut() => return ended,
            () = self.ends.closing.cancelled() => {}
        }
        connection.as_mut().graceful_shutdown();
        tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.ends.abort.cancelled() => Ok(()),
        }
    }
}

fn http1() -> http1::Builder {
    let mut http1 = http1::Builder::new();
    http1
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(limits::HEADERS_WAIT_MILLIS))
        .max_buf_size(limits::HEADER_BYTES_MAX);
    http1
}

/// HTTP/2 pings are answered however often they come: clients that ping every few seconds are not disconnected for it
/// (docs/behaviour.md, section 21).
fn http2(tasks: TaskTracker) -> http2::Builder<Tracked> {
    let mut http2 = http2::Builder::new(Tracked(tasks));
    http2
        .timer(TokioTimer::new())
        .initial_stream_window_size(limits::HTTP2_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(limits::HTTP2_CONNECTION_WINDOW_BYTES)
        .max_frame_size(limits::HTTP2_FRAME_BYTES_MAX)
        .max_concurrent_streams(limits::HTTP2_STREAMS_MAX)
        // A client that cancels all of its requests at once is not an attack.
        .max_pending_accept_reset_streams(limits::HTTP2_STREAMS_MAX as usize)
        .max_header_list_size(limits::HTTP2_HEADER_BYTES_MAX)
        .keep_alive_interval(Duration::from_millis(limits::HTTP2_PING_AFTER_MILLIS))
        .keep_alive_timeout(Duration::from_millis(limits::HTTP2_PING_WAIT_MILLIS));
    http2
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

#[cfg(test)]
mod tests;
