//! Reads the gRPC frames of a request before tonic does, because tonic answers bad ones with other statuses than the
//! documented ones and reserves the memory that a frame only claims to need.
//!
//! A frame goes on once all of it is there, in the pieces in which it came, and the entries of its message were
//! counted. A compressed one is decompressed here, so that tonic never sees compression; a large one on a thread beside
//! those of the runtime. What is wrong with a frame ends the request with INVALID_ARGUMENT.

mod pieces;
mod unpacking;

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderName, Request};
use http_body::{Body, Frame};
use tonic::Status;

use self::{
    pieces::Pieces,
    unpacking::{Step, Unpacked, Unpacking},
};
use super::{budget::Held, entries::Entries, pace::Patience, size::too_large};
use crate::{
    rpc::{Requests, Rpc},
    wire::timeout::client_timeout,
};

/// The flag that says whether a frame is compressed, and its length.
pub const HEADER_BYTES: usize = 5;
const ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");

/// Puts [`Frames`] around the body of a call of `rpc` and takes gzip out of its headers. `held` counts its bytes.
pub fn check<B>(mut request: Request<B>, rpc: &Rpc, held: Held) -> Request<Frames<B>> {
    let gzip = request
        .headers()
        .get(ENCODING)
        .is_some_and(|encoding| encoding.as_bytes() == b"gzip");
    if gzip {
        request.headers_mut().remove(ENCODING);
    }
    let messages = Messages {
        requests: rpc.requests,
        bytes_max: rpc.message_bytes_max,
        entries: Entries::of(rpc),
    };
    let patience = Patience::new(client_timeout(request.headers()));
    request.map(|body| Frames {
        patience,
        ..Frames::new(body, gzip, messages, held)
    })
}

/// What there may be in a request.
#[derive(Clone, Copy, Debug)]
struct Messages {
    /// How many messages there may be.
    requests: Requests,
    /// The largest one.
    bytes_max: usize,
    /// How what is in them is counted.
    entries: Entries,
}

/// A request's body in which every frame is whole, within its limit and not compressed.
#[derive(Debug)]
pub struct Frames<B> {
    body: B,
    gzip: bool,
    messages: Messages,
    /// One has come.
    has_message: bool,
    /// What it takes of the server's budget.
    held: Held,
    /// How long what is missing is waited for.
    patience: Patience,
    /// The beginning of a frame that is not whole yet.
    arrived: Pieces,
    /// The next frame, which is being unpacked.
    unpacking: Option<Unpacking>,
    /// Whole frames that tonic has not taken yet.
    ready: VecDeque<Bytes>,
    /// Nothing comes any more, because of an error or because the body ended.
    ended: bool,
}

impl<B> Frames<B> {
    fn new(body: B, gzip: bool, messages: Messages, held: Held) -> Self {
        Self {
            body,
            gzip,
            messages,
            has_message: false,
            held,
            patience: Patience::default(),
            arrived: Pieces::default(),
            unpacking: None,
            ready: VecDeque::new(),
            ended: false,
        }
    }

    /// Moves the next frame to `ready`, or to `unpacking`, if it is whole.
    fn take_frame(&mut self) -> Result<bool, Status> {
        let Some([flag, length @ ..]) = self.arrived.header() else {
            return Ok(false);
        };
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if flag > 1 {
            return Err(Status::invalid_argument(format!(
                "The request is not gRPC: a message begins with the compression flag {flag}, which must be 0 or 1."
            )));
        }
        if flag == 1 && !self.gzip {
            return Err(Status::invalid_argument(
                "A message of the request is compressed, but the header grpc-encoding does not say how. Send grpc-encoding: gzip with it.",
            ));
        }
        let Messages {
            bytes_max, entries, ..
        } = self.messages;
        if length > bytes_max {
            return Err(too_large(bytes_max));
        }
        if self.arrived.bytes < HEADER_BYTES + length {
            return Ok(false);
        }
        self.has_message = true;
        if self.messages.requests == Requests::Stream {
            self.patience.rest();
        }
        // The header is a piece of its own: tonic, which makes room for a message when it has read the header, would
        // else make that room behind what it has of the message, and copy this.
        if flag == 0 {
            self.arrived.take(HEADER_BYTES, &mut self.ready);
            let header = self.ready.len();
            self.arrived.take(length, &mut self.ready);
            let message = self.ready.iter().skip(header);
            let decoded = entries.check(message.map(|piece| &piece[..]))?;
            self.held.add(decoded)?;
            return Ok(true);
        }
        self.arrived.take(HEADER_BYTES, &mut VecDeque::new());
        let mut compressed = VecDeque::new();
        self.arrived.take(length, &mut compressed);
        match unpacking::begin(compressed, self.messages, &self.held)? {
            Step::Unpacked(unpacked) => self.take_unpacked(unpacked)?,
            Step::Unpacking(unpacking) => self.unpacking = Some(unpacking),
        }
        Ok(true)
    }

    fn take_unpacked(&mut self, unpacked: Unpacked) -> Result<(), Status> {
        let Unpacked {
            mut frame,
            counted_bytes,
            decoded_bytes,
            ..
        } = unpacked;
        self.held.add(frame.len() - counted_bytes + decoded_bytes)?;
        self.ready.push_back(frame.split_to(HEADER_BYTES));
        self.ready.push_back(frame);
        Ok(())
    }

    /// Takes in what has arrived.
    fn arrive(&mut self, piece: Bytes) -> Result<(), Status> {
        let bytes = piece.len();
        if self.messages.requests == Requests::Stream && self.arrived.bytes == 0 && bytes > 0 {
            // What came before it has been handed on and answered for. Of any other call the answer is still to come.
            self.held.clear();
        }
        self.patience.moved(bytes);
        self.arrived.push(piece);
        self.held.add(bytes)
    }

    /// What is wrong when nothing arrives for too long. A stream may pause between two messages.
    fn poll_over(&mut self, context: &mut Context<'_>) -> Poll<Status> {
        let is_between = self.has_message && self.arrived.bytes == 0;
        let owes = self.messages.requests == Requests::One || !is_between;
        self.arrived.settle();
        self.patience.poll_over(owes, context)
    }

    /// What is wrong with a body that ends now.
    fn check_end(&self) -> Result<(), Status> {
        if self.arrived.bytes > 0 {
            let expected = match self.arrived.header() {
                Some([_, length @ ..]) => {
                    HEADER_BYTES as u64 + u64::from(u32::from_be_bytes(length))
                }
                None => HEADER_BYTES as u64,
            };
            return Err(Status::invalid_argument(format!(
                "The request ends inside a message: {} of {expected} bytes arrived.",
                self.arrived.bytes
            )));
        }
        if self.messages.requests == Requests::One && !self.has_message {
            return Err(Status::invalid_argument("The request has no message."));
        }
        Ok(())
    }

    fn fail(&mut self, status: Status) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.ended = true;
        self.arrived = Pieces::default();
        self.ready.clear();
        Poll::Ready(Some(Err(status)))
    }
}

impl<B> Body for Frames<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<tonic::codegen::StdError>,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        loop {
            if let Some(piece) = this.ready.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            if this.ended {
                return Poll::Ready(None);
            }
            if let Some(unpacking) = &mut this.unpacking {
                let unpacked = ready!(unpacking.poll(context));
                this.unpacking = None;
                if let Err(status) = unpacked.and_then(|unpacked| this.take_unpacked(unpacked)) {
                    return this.fail(status);
                }
                continue;
            }
            match this.take_frame() {
                Ok(true) => continue,
                Ok(false) => {}
                Err(status) => return this.fail(status),
            }
            let Poll::Ready(arrived) = Pin::new(&mut this.body).poll_frame(context) else {
                let status = ready!(this.poll_over(context));
                return this.fail(status);
            };
            match arrived {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(piece) => {
                        if let Err(status) = this.arrive(piece) {
                            return this.fail(status);
                        }
                    }
                    // Trailers of a request mean nothing in gRPC; its end may.
                    Err(_trailers) => {}
                },
                Some(Err(error)) => return this.fail(Status::from_error(error.into())),
                None => {
                    if let Err(status) = this.check_end() {
                        return this.fail(status);
                    }
                    this.ended = true;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
