//! The body of an answer on its way to the connection. A large one goes in small pieces, of which the connection has a
//! few at most, and ends when the last of them is sent: so all of it is here until the client takes it, and is given up
//! when the client does not.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use http::Response;
use http_body::{Frame, SizeHint};
use tokio::time::Sleep;

use super::{budget::Held, places::Place, unread::Unread};
use crate::limits::{ANSWER_AHEAD_BYTES_MAX, ANSWER_PIECE_BYTES, TINY_ANSWER_BYTES};

/// `response` to the request that `held` counts until the answer has been taken; `place` is its place among the pages of
/// lists, `is_stream` says whether it may pause.
pub fn hold(
    response: Response<Body>,
    held: Option<Held>,
    place: Option<Place>,
    is_stream: bool,
) -> Response<Body> {
    let unread = Unread::current();
    if is_stream {
        unread.set_stream();
    }
    response.map(|body| {
        Body::new(Answer {
            body,
            unread,
            is_stream,
            rest: Bytes::new(),
            end: None,
            sleep: None,
            held,
            _place: place,
        })
    })
}

#[derive(Debug)]
struct Answer {
    body: Body,
    unread: Arc<Unread>,
    /// Its frames go on as they are: there are few at a time (docs/behaviour.md, section 7).
    is_stream: bool,
    /// What is still to be given of a large frame.
    rest: Bytes,
    /// What comes when that is sent.
    end: Option<Frame<Bytes>>,
    sleep: Option<Pin<Box<Sleep>>>,
    held: Option<Held>,
    _place: Option<Place>,
}

type Polled = Poll<Option<Result<Frame<Bytes>, axum::Error>>>;

impl Answer {
    /// The bytes of a frame that the connection gets in one piece; or those of one for which it has to have room.
    fn as_it_is(&self, data: Bytes) -> Result<Bytes, Bytes> {
        match &self.held {
            Some(held) if data.len() > TINY_ANSWER_BYTES && !self.is_stream => {
                held.small_answers().count(data)
            }
            _ => Ok(data),
        }
    }

    /// Waits until the connection has no more than so many bytes of a large answer.
    fn poll_unsent(
        &mut self,
        bytes: usize,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), axum::Error>> {
        let taken = self
            .unread
            .poll_unsent(bytes as u64, &mut self.sleep, context);
        Poll::Ready(if ready!(taken) {
            Ok(())
        } else {
            let late = "the client does not take the answer";
            Err(axum::Error::new(io::Error::new(
                io::ErrorKind::TimedOut,
                late,
            )))
        })
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Polled {
        let this = &mut *self;
        this.unread.asked();
        loop {
            if !this.rest.is_empty() {
                let ahead = ANSWER_AHEAD_BYTES_MAX - ANSWER_PIECE_BYTES;
                ready!(this.poll_unsent(ahead, context))?;
                let length = this.rest.len().min(ANSWER_PIECE_BYTES);
                let piece = this.unread.give_counted(this.rest.split_to(length));
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            if this.end.is_some() {
                ready!(this.poll_unsent(0, context))?;
                return Poll::Ready(this.end.take().map(Ok));
            }
            let Some(frame) = ready!(Pin::new(&mut this.body).poll_frame(context)?) else {
                ready!(this.poll_unsent(0, context))?;
                return Poll::Ready(None);
            };
            match frame.into_data() {
                Ok(data) => match this.as_it_is(data) {
                    Ok(data) => {
                        this.unread.give(&data);
                        return Poll::Ready(Some(Ok(Frame::data(data))));
                    }
                    Err(large) => this.rest = large,
                },
                Err(end) => this.end = Some(end),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        // One that is not sent yet ends later.
        self.rest.is_empty()
            && self.end.is_none()
            && self.unread.is_sent()
            && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.len() as u64;
        let hint = self.body.size_hint();
        let mut sum = SizeHint::new();
        if let Some(upper) = hint.upper() {
            sum.set_upper(upper + rest);
        }
        sum.set_lower(hint.lower() + rest);
        sum
    }
}
