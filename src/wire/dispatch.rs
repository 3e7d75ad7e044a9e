//! Where every request enters: says who its caller is, and whether it is gRPC, whatever else its connection carries
//! (docs/behaviour.md, section 1.1).

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt as _};
use http::{HeaderValue, Method, Request, Response, Version, header};
use tower::{Service, ServiceExt};

use super::{
    calls::Calls,
    layers::{answer, budget::Share, headers, places::Place},
    rest::Rest,
};
use crate::auth::caller::Caller;

/// Answers every request of one connection. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Dispatch {
    calls: Calls,
    rest: Rest,
    /// What the requests of the connection hold.
    share: Share,
}

impl Dispatch {
    /// For a connection; others are made of it.
    pub(super) fn new(calls: Calls, rest: Rest) -> Self {
        let share = calls.budget().connection();
        Self { calls, rest, share }
    }

    /// What the requests of the connection hold.
    pub(super) fn share(&self) -> &Share {
        &self.share
    }

    /// For another connection.
    pub(super) fn for_connection(&self) -> Self {
        Self::new(self.calls.clone(), self.rest.clone())
    }
}

impl<B> Service<Request<B>> for Dispatch
where
    B: HttpBody<Data = Bytes, Error: Into<axum::BoxError>> + Send + Unpin + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        request.extensions_mut().insert(Caller::Anonymous);
        let held = headers::held_bytes(&request).and_then(|bytes| self.share.request(bytes));
        if is_grpc(&request) {
            let calls = self.calls.clone();
            Box::pin(calls.call(request, held).map(Ok))
        } else {
            let encoded = headers::check_encoding(&request);
            let ends = encoded.is_err();
            let held = encoded.and(held);
            request.extensions_mut().insert(held.clone());
            let rest = self.rest.clone();
            Box::pin(async move {
                let mut response = rest.oneshot(request.map(Body::new)).await?;
                if ends {
                    let close = HeaderValue::from_static("close");
                    response.headers_mut().insert(header::CONNECTION, close);
                }
                let place = response.extensions_mut().remove::<Place>();
                Ok(answer::hold(response, held.ok(), place, false))
            })
        }
    }
}

/// Whether a request is gRPC, whatever else its connection carries.
pub(super) fn is_grpc<B>(request: &Request<B>) -> bool {
    request.version() == Version::HTTP_2
        && request.method() == Method::POST
        && request
            .headers()
            .get(header::CONTENT_TYPE)
            .is_some_and(is_grpc_content)
}

/// `application/grpc` alone, with a message format or with parameters; `application/grpc-web` is something else.
fn is_grpc_content(content_type: &HeaderValue) -> bool {
    content_type
        .as_bytes()
        .strip_prefix(b"application/grpc")
        .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}
