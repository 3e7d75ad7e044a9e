//! Ends answers that would otherwise go on for ever when their connections close: watched health, and reflection.
//! The streams of subscribers are ended by the service, which knows what it still owes them.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::Status;

/// A gRPC answer that ends with UNAVAILABLE once connections close.
#[derive(Debug)]
pub struct UntilClosing<B> {
    body: B,
    closing: Pin<Box<WaitForCancellationFutureOwned>>,
    ended: bool,
}

impl<B> UntilClosing<B> {
    /// Passes `body` on until `closing`.
    pub fn new(body: B, closing: CancellationToken) -> Self {
        Self {
            body,
            closing: Box::pin(closing.cancelled_owned()),
            ended: false,
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for UntilClosing<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        // The body first: the last change of health goes out before the end.
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            return Poll::Ready(frame);
        }
        if self.closing.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        self.ended = true;
        let mut trailers = HeaderMap::new();
        let written = Status::unavailable("the server is stopping").add_header(&mut trailers);
        Poll::Ready(written.is_ok().then(|| Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.body.is_end_stream()
    }
}
