//! Decides for each request whether it is gRPC, whatever else its connection carries (docs/behaviour.md, section 1.1).

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use axum::{Router, body::Body};
use futures_util::future::BoxFuture;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header};
use hyper::body::Incoming;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tower::{Service, ServiceExt};

use super::layers::{budget::Budget, closing, frames, lease, unserved};
use crate::{limits::REQUEST_BYTES_HELD_MAX, service::Lease};

/// Answers every request of every connection. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Dispatch {
    grpc: Router,
    lease: Lease,
    closing: CancellationToken,
    budget: Budget,
}

impl Dispatch {
    /// `closing` ends what would otherwise never end.
    pub(super) fn new(routes: Routes, lease: Lease, closing: CancellationToken) -> Self {
        Self {
            grpc: routes.prepare().into_axum_router(),
            lease,
            closing,
            budget: Budget::new(REQUEST_BYTES_HELD_MAX),
        }
    }
}

impl Service<Request<Incoming>> for Dispatch {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        if !is_grpc(&request) {
            let response = plain(&request);
            return Box::pin(async { Ok(response) });
        }
        if let Some(refused) = lease::refuse(&self.lease, request.uri().path()) {
            return Box::pin(async {
                lease::let_arrive(request.into_body()).await;
                Ok(refused)
            });
        }
        let Self {
            grpc,
            lease,
            closing,
            budget,
        } = self.clone();
        Box::pin(async move {
            let uri = request.uri().clone();
            // A published message is a slice of its request, which is held until the answer.
            let held = budget.request();
            let request = frames::check(request, held.clone()).map(Body::new);
            let mut response = grpc.oneshot(request).await?;
            drop(held);
            // What was done meanwhile may be undone elsewhere: the client has to ask again.
            if let Some(refused) = lease::refuse(&lease, uri.path()) {
                return Ok(refused);
            }
            unserved::name_method(&mut response, uri.path());
            if closing::ends_on_closing(uri.path()) {
                response =
                    response.map(|body| Body::new(closing::UntilClosing::new(body, closing)));
            }
            Ok(response)
        })
    }
}

fn is_grpc<B>(request: &Request<B>) -> bool {
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

/// The answer to what is not gRPC.
fn plain<B>(request: &Request<B>) -> Response<Body> {
    let (status, text) = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/") => (StatusCode::OK, "Ok"),
        (&Method::POST, path) if path.starts_with("/google.") || path.starts_with("/grpc.") => (
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "This path takes gRPC: HTTP/2 with content-type: application/grpc.\n",
        ),
        _ => (
            StatusCode::NOT_FOUND,
            "There is nothing here. This server speaks gRPC; GET / answers Ok.\n",
        ),
    };
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}
