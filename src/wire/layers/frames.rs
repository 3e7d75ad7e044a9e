//! Reads the gRPC frames of a request before tonic does, because tonic answers bad ones with other statuses than the
//! documented ones and reserves the memory that a frame only claims to need.
//!
//! A frame goes on once all of it is there, in the pieces in which it came. A compressed one is decompressed here, so
//! that tonic never sees compression. What is wrong with a frame ends the request with INVALID_ARGUMENT.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use http::{HeaderName, Request};
use http_body::{Body, Frame};
use tonic::Status;

use super::{
    budget::Held,
    gzip::{InflateError, inflate},
    size::too_large,
};
use crate::{
    limits::REQUEST_BYTES_UNCOUNTED,
    rpc::{Requests, Rpc},
};

/// The flag that says whether a frame is compressed, and its length.
pub const HEADER_BYTES: usize = 5;
/// Pieces smaller than this are put together: each costs about 100 bytes to keep.
const PIECE_BYTES_MIN: usize = 512;
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
    let limit_bytes = rpc.message_bytes_max;
    request.map(|body| Frames::new(body, gzip, limit_bytes, rpc.requests, held))
}

/// A request's body in which every frame is whole, within its limit and not compressed.
#[derive(Debug)]
pub struct Frames<B> {
    body: B,
    gzip: bool,
    limit_bytes: usize,
    /// How many messages there may be.
    requests: Requests,
    /// One has to come yet.
    needs_message: bool,
    /// What its large messages take of the server's budget.
    held: Held,
    /// The beginning of a frame that is not whole yet.
    arrived: Pieces,
    /// Whole frames that tonic has not taken yet.
    ready: VecDeque<Bytes>,
    /// Nothing comes any more, because of an error or because the body ended.
    ended: bool,
}

impl<B> Frames<B> {
    fn new(body: B, gzip: bool, limit_bytes: usize, requests: Requests, held: Held) -> Self {
        Self {
            body,
            gzip,
            limit_bytes,
            requests,
            needs_message: requests == Requests::One,
            held,
            arrived: Pieces::default(),
            ready: VecDeque::new(),
            ended: false,
        }
    }

    /// Moves the next frame to `ready` if it is whole.
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
        if length > self.limit_bytes {
            return Err(too_large(self.limit_bytes));
        }
        if self.arrived.bytes < HEADER_BYTES + length {
            return Ok(false);
        }
        self.needs_message = false;
        // The header is a piece of its own: tonic, which makes room for a message when it has read the header, would
        // else make that room behind what it has of the message, and copy this.
        if flag == 0 {
            self.arrived.take(HEADER_BYTES, &mut self.ready);
            self.arrived.take(length, &mut self.ready);
            return Ok(true);
        }
        self.arrived.take(HEADER_BYTES, &mut VecDeque::new());
        let mut compressed = VecDeque::new();
        self.arrived.take(length, &mut compressed);
        let mut frame = decompress(compressed, self.limit_bytes)?;
        self.count(frame.len(), frame.len())?;
        self.ready.push_back(frame.split_to(HEADER_BYTES));
        self.ready.push_back(frame);
        Ok(true)
    }

    /// Takes in what has arrived.
    fn arrive(&mut self, piece: Bytes) -> Result<(), Status> {
        let bytes = piece.len();
        if self.requests == Requests::Stream && self.arrived.bytes == 0 && bytes > 0 {
            // What came before it has been handed on and answered for. Of any other call the answer is still to come.
            self.held.clear();
        }
        self.arrived.push(piece);
        self.count(bytes, self.arrived.bytes)
    }

    /// Counts `bytes` more of a message of which there are `of` now.
    fn count(&self, bytes: usize, of: usize) -> Result<(), Status> {
        if of <= REQUEST_BYTES_UNCOUNTED {
            return Ok(());
        }
        self.held.add(bytes)
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
        if self.needs_message {
            return Err(Status::invalid_argument("The request has no message."));
        }
        Ok(())
    }

    fn fail(&mut self, status: Status) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.ended = true;
        self.arrived = Pieces::default();
        Poll::Ready(Some(Err(status)))
    }
}

/// A frame that is not compressed, of one that was.
fn decompress(compressed: VecDeque<Bytes>, limit_bytes: usize) -> Result<Bytes, Status> {
    let mut frame =
        inflate(compressed, HEADER_BYTES, limit_bytes).map_err(|error| match error {
            InflateError::TooLarge { limit_bytes } => too_large(limit_bytes),
            InflateError::Broken(error) => Status::invalid_argument(format!(
                "A message of the request is not valid gzip: {error}."
            )),
        })?;
    let length =
        u32::try_from(frame.len() - HEADER_BYTES).expect("limits of messages are far below 4 GiB");
    frame[1..HEADER_BYTES].copy_from_slice(&length.to_be_bytes());
    Ok(frame.into())
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
            match this.take_frame() {
                Ok(true) => continue,
                Ok(false) => {}
                Err(status) => return this.fail(status),
            }
            match ready!(Pin::new(&mut this.body).poll_frame(context)) {
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

/// Bytes in the pieces in which they came.
#[derive(Debug, Default)]
struct Pieces {
    whole: VecDeque<Bytes>,
    /// Small pieces behind `whole`, put together.
    small: BytesMut,
    /// Of both.
    bytes: usize,
}

impl Pieces {
    fn push(&mut self, piece: Bytes) {
        if piece.is_empty() {
            return;
        }
        let first = self.bytes == 0;
        self.bytes += piece.len();
        // The usual request is one small piece, which need not be copied.
        if !first && piece.len() < PIECE_BYTES_MIN {
            self.small.extend_from_slice(&piece);
        } else {
            self.seal();
            self.whole.push_back(piece);
        }
    }

    fn seal(&mut self) {
        if !self.small.is_empty() {
            self.whole.push_back(self.small.split().freeze());
        }
    }

    /// The first five bytes, if they are there.
    fn header(&self) -> Option<[u8; HEADER_BYTES]> {
        if self.bytes < HEADER_BYTES {
            return None;
        }
        if let Some(header) = self.whole.front().and_then(|piece| piece.first_chunk()) {
            return Some(*header);
        }
        let mut header = [0; HEADER_BYTES];
        let bytes = self.whole.iter().flatten().chain(&self.small);
        for (to, from) in header.iter_mut().zip(bytes) {
            *to = *from;
        }
        Some(header)
    }

    /// Moves the first `count` bytes, which are there, to `out`.
    fn take(&mut self, count: usize, out: &mut VecDeque<Bytes>) {
        self.seal();
        self.bytes -= count;
        let mut missing = count;
        while missing > 0 {
            let piece = self
                .whole
                .front_mut()
                .expect("the pieces together have as many bytes as were counted");
            if piece.len() <= missing {
                missing -= piece.len();
                out.extend(self.whole.pop_front());
            } else {
                out.push_back(piece.split_to(missing));
                missing = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests;
