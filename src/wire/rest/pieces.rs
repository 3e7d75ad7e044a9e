//! The JSON of an answer in pieces, between which other requests continue: a large one takes its time to compress.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::limits::JSON_PIECE_BYTES;

/// See the module.
#[derive(Debug)]
pub(super) struct Pieces {
    rest: Bytes,
    /// The next piece comes when the task is polled again.
    pauses: bool,
}

impl Pieces {
    /// Of all of it.
    pub(super) const fn of(json: Bytes) -> Self {
        Self {
            rest: json,
            pauses: false,
        }
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        if self.pauses {
            self.pauses = false;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let bytes = self.rest.len().min(JSON_PIECE_BYTES);
        let piece = self.rest.split_to(bytes);
        self.pauses = !self.rest.is_empty();
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use http_body_util::BodyExt;

    use super::*;

    #[test]
    fn the_task_pauses_between_pieces_and_nothing_is_lost() {
        let json: Vec<u8> = (0..=255).cycle().take(2 * JSON_PIECE_BYTES + 1).collect();
        let mut body = Pieces::of(json.clone().into());
        assert_eq!(body.size_hint().exact(), Some(json.len() as u64));
        let mut arrived = Vec::new();
        let mut pauses = 0;
        while !body.is_end_stream() {
            match body.frame().now_or_never() {
                Some(frame) => {
                    let frame = frame.expect("not the end").expect("cannot fail");
                    arrived.extend_from_slice(&frame.into_data().expect("data"));
                }
                None => pauses += 1,
            }
        }
        assert!(arrived == json, "other bytes arrived");
        assert_eq!(pauses, 2);
        assert!(body.frame().now_or_never().expect("no pause").is_none());
    }
}
