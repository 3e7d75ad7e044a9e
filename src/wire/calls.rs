//! Answers gRPC requests: those of clients, and those that the gateway makes of other ones.

use axum::{
    Router,
    body::{Body, HttpBody},
};
use bytes::Bytes;
use http::{Request, Response};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tower::ServiceExt;

use super::layers::{budget::Budget, closing, frames, lease, unserved};
use crate::{
    limits::REQUEST_BYTES_HELD_MAX,
    rpc::{OnClosing, Rpc},
    service::Lease,
};

/// Everything that is served over gRPC, with what happens around it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Calls {
    grpc: Router,
    lease: Lease,
    closing: CancellationToken,
    budget: Budget,
}

impl Calls {
    /// Answers with `routes` while `lease` holds; `closing` ends what would otherwise never end.
    pub fn new(routes: Routes, lease: Lease, closing: CancellationToken) -> Self {
        Self {
            grpc: routes.prepare().into_axum_router(),
            lease,
            closing,
            budget: Budget::new(REQUEST_BYTES_HELD_MAX),
        }
    }

    /// What large requests count on.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Answers a gRPC request, which has its caller in its extensions.
    pub async fn call<B>(self, request: Request<B>) -> Response<Body>
    where
        B: HttpBody<Data = Bytes, Error: Into<axum::BoxError>> + Send + Unpin + 'static,
    {
        let uri = request.uri().clone();
        let rpc = Rpc::at(uri.path());
        if let Some(refused) = lease::refuse(&self.lease, rpc) {
            lease::let_arrive(request.into_body()).await;
            return refused;
        }
        // A published message is a slice of its request, which is held until the answer.
        let held = self.budget.request();
        let request = frames::check(request, rpc, held.clone()).map(Body::new);
        let Ok(mut response) = self.grpc.oneshot(request).await;
        drop(held);
        // What was done meanwhile may be undone elsewhere: the client has to ask again.
        if let Some(refused) = lease::refuse(&self.lease, rpc) {
            return refused;
        }
        unserved::name_method(&mut response, uri.path());
        if rpc.on_closing == OnClosing::Ended {
            response =
                response.map(|body| Body::new(closing::UntilClosing::new(body, self.closing)));
        }
        response
    }
}
