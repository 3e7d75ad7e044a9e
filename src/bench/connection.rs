//! A gRPC connection of the load generator: HTTP/2 without the layers of a client library, so that the figures are
//! the server's and not the generator's.

use std::{future::poll_fn, io, time::Duration};

use bytes::{Buf, Bytes, BytesMut};
use h2::{RecvStream, SendStream, client::SendRequest};
use http::{
    HeaderMap, HeaderValue, Request, Uri,
    header::{CONTENT_TYPE, TE},
    uri::{Authority, PathAndQuery, Scheme},
};
use thiserror::Error;
use tokio::{net::TcpStream, time::timeout};

/// Length of a gRPC frame's head: a flag and four bytes of length.
pub(super) const HEAD_BYTES: usize = 5;
/// The longest wait for an answer, or for progress while there are many.
pub(super) const ANSWER_WAIT_MAX: Duration = Duration::from_mins(1);
/// The largest message that is taken from a server; real ones are far smaller.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Flow control windows: what client libraries built on hyper offer.
const STREAM_WINDOW_BYTES: u32 = 2 * 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 5 * 1024 * 1024;

/// Why a call failed.
#[derive(Debug, Error)]
pub enum CallError {
    /// No connection came about.
    #[error("cannot connect to {addr}: {error}")]
    Connect {
        /// Where to.
        addr: String,
        /// What the machine said.
        error: io::Error,
    },
    /// The address cannot be part of a URI.
    #[error("`{0}` is not HOST:PORT")]
    Address(String),
    /// The connection broke, or the other side does not speak HTTP/2.
    #[error("{method}: {error}")]
    Http {
        /// The RPC.
        method: &'static str,
        /// What went wrong.
        error: h2::Error,
    },
    /// The server refused.
    #[error("{method} was answered with status {code}: {message}")]
    Status {
        /// The RPC.
        method: &'static str,
        /// The number of the gRPC status, or of the HTTP status where there is none.
        code: u32,
        /// The server's words.
        message: String,
    },
    /// The server took too long.
    #[error("{method}: no answer within a minute")]
    NoAnswer {
        /// The RPC.
        method: &'static str,
    },
    /// The answer is not what the protocol says.
    #[error("{method}: the answer cannot be read")]
    Answer {
        /// The RPC.
        method: &'static str,
    },
}

/// One HTTP/2 connection; clones share it.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    requests: SendRequest<Bytes>,
    authority: Authority,
}

impl Connection {
    /// Connects to `addr`, HOST:PORT.
    pub(super) async fn open(addr: &str) -> Result<Self, CallError> {
        let authority: Authority = addr
            .parse()
            .map_err(|_| CallError::Address(addr.to_owned()))?;
        let connect = |error| CallError::Connect {
            addr: addr.to_owned(),
            error,
        };
        let socket = timeout(ANSWER_WAIT_MAX, TcpStream::connect(addr)).await;
        let socket = socket
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(connect)?;
        socket.set_nodelay(true).map_err(connect)?;
        let (requests, connection) = h2::client::Builder::new()
            .initial_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .enable_push(false)
            .handshake(socket)
            .await
            .map_err(|error| CallError::Http {
                method: "connecting",
                error,
            })?;
        // Its end shows in the calls that it carries.
        tokio::spawn(connection);
        Ok(Self {
            requests,
            authority,
        })
    }

    /// Calls a unary `method` (`/package.Service/Method`) with a framed request; returns the answer's message.
    pub(super) async fn call(
        &self,
        method: &'static str,
        request: Bytes,
    ) -> Result<Bytes, CallError> {
        let (mut upstream, downstream) = self.start(method).await?;
        upstream.send(request).await?;
        upstream.finish()?;
        let mut answers = downstream.await_head().await?;
        let answer = answers.next().await?.ok_or(CallError::Answer { method })?;
        match answers.next().await? {
            None => Ok(answer),
            Some(_) => Err(CallError::Answer { method }),
        }
    }

    /// Starts `method`: what is sent, and what will come.
    pub(super) async fn start(
        &self,
        method: &'static str,
    ) -> Result<(Upstream, PendingAnswers), CallError> {
        let failed = |error| CallError::Http { method, error };
        let mut requests = self.requests.clone().ready().await.map_err(failed)?;
        let (response, stream) = requests
            .send_request(self.head(method), false)
            .map_err(failed)?;
        Ok((
            Upstream { method, stream },
            PendingAnswers { method, response },
        ))
    }

    fn head(&self, method: &'static str) -> Request<()> {
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(Scheme::HTTP);
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(PathAndQuery::from_static(method));
        let mut request = Request::new(());
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = Uri::from_parts(parts).expect("all three parts are there");
        let headers = request.headers_mut();
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        request
    }
}

/// The sending half of a call.
#[derive(Debug)]
pub(super) struct Upstream {
    method: &'static str,
    stream: SendStream<Bytes>,
}

impl Upstream {
    /// Sends framed messages as flow control allows.
    pub(super) async fn send(&mut self, mut bytes: Bytes) -> Result<(), CallError> {
        let method = self.method;
        let failed = |error| CallError::Http { method, error };
        while !bytes.is_empty() {
            self.stream.reserve_capacity(bytes.len());
            let room = poll_fn(|context| self.stream.poll_capacity(context)).await;
            // Without an answer the stream is closed; the receiving half knows why.
            let Some(room) = room else { return Ok(()) };
            let part = bytes.split_to(room.map_err(failed)?.min(bytes.len()));
            self.stream.send_data(part, false).map_err(failed)?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), CallError> {
        let method = self.method;
        match self.stream.send_data(Bytes::new(), true) {
            Ok(()) => Ok(()),
            // The server answered before it had read everything.
            Err(error) if error.is_reset() || !error.is_io() => Ok(()),
            Err(error) => Err(CallError::Http { method, error }),
        }
    }
}

/// The receiving half of a call before anything came.
#[derive(Debug)]
pub(super) struct PendingAnswers {
    method: &'static str,
    response: h2::client::ResponseFuture,
}

impl PendingAnswers {
    /// Waits for the answer's headers.
    pub(super) async fn await_head(self) -> Result<Answers, CallError> {
        let method = self.method;
        let response = self
            .response
            .await
            .map_err(|error| CallError::Http { method, error })?;
        if !response.status().is_success() {
            return Err(CallError::Status {
                method,
                code: response.status().as_u16().into(),
                message: "this is an HTTP status: the server does not speak gRPC".to_owned(),
            });
        }
        let (head, stream) = response.into_parts();
        check_status(method, &head.headers)?;
        Ok(Answers {
            method,
            stream,
            buffer: BytesMut::new(),
        })
    }
}

/// The messages of an answer.
#[derive(Debug)]
pub(super) struct Answers {
    method: &'static str,
    stream: RecvStream,
    buffer: BytesMut,
}

impl Answers {
    /// The next message; none at the end of a call that succeeded.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, CallError> {
        let method = self.method;
        let failed = |error| CallError::Http { method, error };
        loop {
            if let Some(message) = self.buffered()? {
                return Ok(Some(message));
            }
            let Some(chunk) = self.stream.data().await else {
                let trailers = self.stream.trailers().await.map_err(failed)?;
                let trailers = trailers.unwrap_or_default();
                if !self.buffer.is_empty() || !trailers.contains_key("grpc-status") {
                    return Err(CallError::Answer { method });
                }
                check_status(method, &trailers)?;
                return Ok(None);
            };
            let chunk = chunk.map_err(failed)?;
            self.stream
                .flow_control()
                .release_capacity(chunk.len())
                .map_err(failed)?;
            self.buffer.extend_from_slice(&chunk);
        }
    }

    fn buffered(&mut self) -> Result<Option<Bytes>, CallError> {
        let Some(mut head) = self.buffer.get(..HEAD_BYTES) else {
            return Ok(None);
        };
        let (compressed, len) = (head.get_u8(), head.get_u32() as usize);
        if compressed != 0 || len > ANSWER_BYTES_MAX {
            return Err(CallError::Answer {
                method: self.method,
            });
        }
        if self.buffer.len() < HEAD_BYTES + len {
            self.buffer.reserve(HEAD_BYTES + len - self.buffer.len());
            return Ok(None);
        }
        self.buffer.advance(HEAD_BYTES);
        Ok(Some(self.buffer.split_to(len).freeze()))
    }
}

fn check_status(method: &'static str, headers: &HeaderMap) -> Result<(), CallError> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let Some(code) = text("grpc-status") else {
        return Ok(());
    };
    let code = code.parse().map_err(|_| CallError::Answer { method })?;
    if code == 0 {
        return Ok(());
    }
    let message = text("grpc-message").unwrap_or("no message").to_owned();
    Err(CallError::Status {
        method,
        code,
        message,
    })
}
