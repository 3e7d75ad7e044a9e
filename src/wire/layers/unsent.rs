//! Counts the messages of an answer until its connection has sent them: HTTP/2 holds encoded bytes for as long as the
//! client does not take them.

use std::{
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use http_body::Frame;
use parking_lot::Mutex;
use tonic::Response;

use crate::service::Unsent;

/// What belongs to the bytes that the encoder makes next: put in by the handler, in front of it, and taken out by
/// [`count`], behind it. The encoder holds nothing back between the two. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Sending(Arc<Mutex<Vec<Unsent>>>);

impl Sending {
    /// Has the bytes of `response` counted by what is put in here.
    pub fn attach<T>(&self, response: &mut Response<T>) {
        response.extensions_mut().insert(self.clone());
    }

    /// Counts the message that is handed to the encoder next.
    pub fn put(&self, unsent: Unsent) {
        self.0.lock().push(unsent);
    }
}

/// The answer, whose bytes drop what was put into its [`Sending`] when they are dropped themselves.
pub fn count(mut response: http::Response<Body>) -> http::Response<Body> {
    match response.extensions_mut().remove::<Sending>() {
        Some(sending) => response.map(|body| Body::new(Counted { body, sending })),
        None => response,
    }
}

struct Counted {
    body: Body,
    sending: Sending,
}

/// Encoded bytes with what counts them.
struct Owner {
    bytes: Bytes,
    _unsent: Vec<Unsent>,
}

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        let unsent = mem::take(&mut *self.sending.0.lock());
        if unsent.is_empty() {
            return frame;
        }
        let owned = |bytes| {
            Bytes::from_owner(Owner {
                bytes,
                _unsent: unsent,
            })
        };
        frame.map(|frame| frame.map(|frame| frame.map(|frame| frame.map_data(owned))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use http_body_util::{BodyExt, StreamBody};

    use super::*;

    #[test]
    fn messages_count_until_their_bytes_are_dropped() {
        let (first, bytes_of_first) = Unsent::of_bytes(10);
        let (second, bytes_of_second) = Unsent::of_bytes(20);
        let sending = Sending::default();
        let mut answer = Response::new(());
        sending.attach(&mut answer);
        let mut to_come = vec![(None, "c"), (Some(second), "b"), (Some(first), "a")];
        let frames = std::iter::from_fn(move || {
            let (unsent, bytes) = to_come.pop()?;
            if let Some(one) = unsent {
                sending.put(one);
            }
            Some(Ok::<_, axum::Error>(Frame::data(Bytes::from(bytes))))
        });
        let frames = StreamBody::new(futures_util::stream::iter(frames));
        let mut response = http::Response::new(Body::new(frames));
        response
            .extensions_mut()
            .extend(mem::take(answer.extensions_mut()));
        let mut body = count(response).into_body();
        let mut next = || {
            let frame = body.frame().now_or_never().expect("no wait");
            let frame = frame.expect("a frame").expect("no error");
            frame.into_data().expect("data")
        };
        let (a, b, c) = (next(), next(), next());
        assert_eq!((&*a, &*b, &*c), (&b"a"[..], &b"b"[..], &b"c"[..]));
        assert_eq!((bytes_of_first(), bytes_of_second()), (10, 20));
        let part_of_a = a.slice(..1);
        drop((a, b));
        assert_eq!(bytes_of_second(), 0);
        assert_eq!(bytes_of_first(), 10, "some of it is not sent");
        drop(part_of_a);
        assert_eq!(bytes_of_first(), 0);
    }
}
