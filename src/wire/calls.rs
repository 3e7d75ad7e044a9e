//! Answers gRPC requests: those of clients, and those that the gateway makes of other ones.

use std::sync::Arc;

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use http::{Request, Response};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::{
    grpc::services::Services,
    layers::{
        answer,
        budget::{Budget, Held},
        closing, details,
        entries::Entries,
        frames, moved_on, node_lease,
        places::Place,
        unsent, unserved,
        whole::Whole,
    },
};
use crate::{
    limits::{CONNECTION_REQUEST_BYTES_HELD_MAX, REQUEST_BYTES_HELD_MAX},
    rpc::{Answers, OnClosing, Rpc},
    service::NodeLease,
};

/// Everything that is served over gRPC, with what happens around it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Calls {
    grpc: Arc<Services>,
    node_lease: NodeLease,
    closing: CancellationToken,
    budget: Budget,
}

impl Calls {
    /// Answers with `services` while `node_lease` holds; `closing` ends what would otherwise never end.
    pub fn new(services: Services, node_lease: NodeLease, closing: CancellationToken) -> Self {
        Entries::prepare();
        Self {
            grpc: Arc::new(services),
            node_lease,
            closing,
            budget: Budget::new(REQUEST_BYTES_HELD_MAX, CONNECTION_REQUEST_BYTES_HELD_MAX),
        }
    }

    /// What requests count on.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Answers a client's gRPC request, which has its caller in its extensions, unless it may not be `held`.
    pub async fn call<B>(self, request: Request<B>, held: Result<Held, Status>) -> Response<Body>
    where
        B: HttpBody<Data = Bytes, Error: Into<axum::BoxError>> + Send + Unpin + 'static,
    {
        let rpc = Rpc::at(request.uri().path());
        let mut response = self.call_of(rpc, request, held).await;
        if rpc.details_errors {
            details::complete(&mut response);
        }
        response
    }

    async fn call_of<B>(
        self,
        rpc: &Rpc,
        request: Request<B>,
        held: Result<Held, Status>,
    ) -> Response<Body>
    where
        B: HttpBody<Data = Bytes, Error: Into<axum::BoxError>> + Send + Unpin + 'static,
    {
        if let Some(refused) = node_lease::refuse(&self.node_lease, rpc) {
            node_lease::let_arrive(request.into_body()).await;
            return refused;
        }
        let held = match held {
            Ok(held) => held,
            Err(refused) => {
                node_lease::let_arrive(request.into_body()).await;
                return refused.into_http();
            }
        };
        let mut request = frames::check(request, rpc, held.clone()).map(Body::new);
        if rpc.is_unserved() {
            // Nothing reads it.
            node_lease::let_arrive(std::mem::take(request.body_mut())).await;
        }
        let (response, place) = self.answer(rpc, request, &held).await;
        answer::hold(response, Some(held), place, rpc.answers == Answers::Stream)
    }

    /// Answers a call of `rpc` whose request is there as one message, in protobuf, which `held` counts. It is not read
    /// as gRPC's frames would be, nor counted again. Of the page of a list, its place comes with it.
    pub async fn call_whole(
        self,
        rpc: &Rpc,
        request: Request<Bytes>,
        held: Held,
    ) -> (Response<Body>, Option<Place>) {
        if let Some(refused) = node_lease::refuse(&self.node_lease, rpc) {
            return (refused, None);
        }
        let (parts, message) = request.into_parts();
        match counted(rpc, message, &held) {
            Ok(body) => {
                let request = Request::from_parts(parts, Body::new(body));
                self.answer(rpc, request, &held).await
            }
            Err(refused) => (refused.into_http(), None),
        }
    }

    async fn answer(
        self,
        rpc: &Rpc,
        request: Request<Body>,
        held: &Held,
    ) -> (Response<Body>, Option<Place>) {
        let place = match rpc.answers {
            Answers::Page => match held.place().await {
                Ok(place) => Some(place),
                Err(refused) => return (refused.into_http(), None),
            },
            Answers::One | Answers::Stream => None,
        };
        let uri = request.uri().clone();
        // A published message is a slice of its request, which is held until the answer.
        let call = self.grpc.call(request);
        let response = if place.is_some() {
            // A page may have as many entries as labels and texts that fit into megabytes.
            moved_on::throughout(call).await
        } else {
            call.await
        };
        held.clear();
        // What was done meanwhile may be undone elsewhere: the client has to ask again.
        if let Some(refused) = node_lease::refuse(&self.node_lease, rpc) {
            return (refused, None);
        }
        let mut response = unsent::count(response);
        unserved::name_method(&mut response, uri.path());
        if rpc.on_closing == OnClosing::Ended {
            response =
                response.map(|body| Body::new(closing::UntilClosing::new(body, self.closing)));
        }
        (response, place)
    }
}

/// A whole message as a request's body, when `held` counts what it becomes.
fn counted(rpc: &Rpc, message: Bytes, held: &Held) -> Result<Whole, Status> {
    let decoded_bytes = Entries::of(rpc).check([&message[..]])?;
    let body = Whole::of(message, rpc.message_bytes_max)?;
    held.add(decoded_bytes)?;
    Ok(body)
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        sync::{
            Arc,
            atomic::{AtomicBool, Ordering},
        },
    };

    use futures_util::stream;
    use tonic::Code;

    use super::*;

    #[tokio::test]
    async fn a_call_of_no_rpc_is_answered_when_its_request_is_there() {
        let services = Services::default();
        let calls = Calls::new(services, NodeLease::always(), CancellationToken::new());
        let held = calls.budget().connection().request(0);
        let has_arrived = Arc::new(AtomicBool::new(false));
        let arrives = Arc::clone(&has_arrived);
        let body = stream::once(async move {
            tokio::task::yield_now().await;
            arrives.store(true, Ordering::Relaxed);
            Ok::<_, Infallible>(Bytes::from_static(&[0; 5]))
        });
        let request = Request::post("/google.pubsub.v1.Publisher/Fly")
            .header("content-type", "application/grpc")
            .body(Body::from_stream(body))
            .expect("a request");
        let answer = calls.call(request, held).await;
        let status = Status::from_header_map(answer.headers()).expect("a status");
        assert_eq!(status.code(), Code::Unimplemented);
        assert!(has_arrived.load(Ordering::Relaxed));
    }
}
