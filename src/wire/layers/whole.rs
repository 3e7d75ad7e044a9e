//! A unary call whose request is there as one message, and of whose answer only the message is wanted: what gRPC's
//! frames are to a caller inside of this process.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use axum::body::Body;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use tonic::{Code, Status};

use super::{frames::HEADER_BYTES, size::too_large};

/// A request's body that is one whole message within its limit. The generated services are the first to read it as a
/// frame.
#[derive(Debug)]
pub struct Whole {
    header: Option<Bytes>,
    message: Option<Bytes>,
}

impl Whole {
    /// The body of a request with this message.
    ///
    /// # Errors
    /// INVALID_ARGUMENT: it has more than `limit_bytes`.
    pub fn of(message: Bytes, limit_bytes: usize) -> Result<Self, Status> {
        let length = u32::try_from(message.len()).ok();
        let length = length.filter(|_| message.len() <= limit_bytes);
        let length = length.ok_or_else(|| too_large(limit_bytes))?;
        let mut header = [0; HEADER_BYTES];
        header[1..].copy_from_slice(&length.to_be_bytes());
        Ok(Self {
            header: Some(Bytes::copy_from_slice(&header)),
            message: Some(message),
        })
    }
}

impl http_body::Body for Whole {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        // Two pieces, or tonic would copy the message once more (`frames.rs`).
        let piece = self.header.take().or_else(|| self.message.take());
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.message.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let left = [&self.header, &self.message].into_iter().flatten();
        SizeHint::with_exact(left.map(|piece| piece.len() as u64).sum())
    }
}

/// The message of an answer's body: tonic sends it with its header in one piece, and the trailers after it.
///
/// # Errors
/// What the RPC answered instead.
pub async fn message(mut body: Body) -> Result<Bytes, Status> {
    let mut message = None;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Status::from_error(error.into()))?;
        match frame.into_data() {
            Ok(mut piece) if message.is_none() && piece.len() >= HEADER_BYTES => {
                message = Some(piece.split_off(HEADER_BYTES));
            }
            Ok(_) => return Err(Status::internal("the answer is not one message")),
            Err(frame) => {
                let trailers = frame.trailers_ref().and_then(Status::from_header_map);
                trailers.map_or(Ok(()), ok)?;
            }
        }
    }
    message.ok_or_else(|| Status::internal("the call ended without an answer"))
}

/// A status as a result.
///
/// # Errors
/// It is one.
pub fn ok(status: Status) -> Result<(), Status> {
    match status.code() {
        Code::Ok => Ok(()),
        _ => Err(status),
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use http_body_util::StreamBody;

    use super::*;

    const ANSWER: &[u8] = b"\0\0\0\0\x03abc";

    async fn answered(pieces: &[&'static [u8]], code: &str) -> Result<Bytes, Status> {
        let mut trailers = http::HeaderMap::new();
        trailers.insert("grpc-status", code.parse().expect("a header's value"));
        let pieces = pieces.iter().map(|piece| Bytes::from_static(piece));
        let frames: Vec<_> = pieces
            .map(Frame::data)
            .chain([Frame::trailers(trailers)])
            .map(Ok::<_, Infallible>)
            .collect();
        message(Body::new(StreamBody::new(stream::iter(frames)))).await
    }

    #[tokio::test]
    async fn a_request_is_one_frame_within_its_limit() {
        let message = Bytes::from(vec![7; 300]);
        let body = Whole::of(message.clone(), 300).expect("within its limit");
        assert_eq!(http_body::Body::size_hint(&body).exact(), Some(305));
        let sent = body.collect().await.expect("cannot fail").to_bytes();
        assert_eq!(sent[..HEADER_BYTES], [0, 0, 0, 1, 44]);
        assert_eq!(sent[HEADER_BYTES..], message);
        let refused = Whole::of(message, 299).expect_err("too large");
        assert_eq!(refused.code(), Code::InvalidArgument);
    }

    #[tokio::test]
    async fn the_trailers_decide_whether_an_answer_has_its_message() {
        let message = answered(&[ANSWER], "0").await.expect("a message");
        assert_eq!(message, "abc");
        let refused = answered(&[ANSWER], "5").await.expect_err("refused");
        assert_eq!(refused.code(), Code::NotFound);
        for broken in [&[][..], &[ANSWER, ANSWER], &[b"\0\0"]] {
            let refused = answered(broken, "0").await.expect_err("no message");
            assert_eq!(refused.code(), Code::Internal, "{broken:?}");
        }
    }
}
