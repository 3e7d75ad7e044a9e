//! HTTP/JSON: every RPC that has a `google.api.http` annotation, through the same handlers as gRPC
//! (docs/behaviour.md, section 20). A request becomes the gRPC request that it stands for, inside of this process.

mod aside;
pub mod call;
pub mod error;
pub mod openapi;
pub mod pages;
mod pieces;
pub mod query;
pub mod routes;
pub mod template;
pub mod transcode;
mod unpacked;

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::body::Body;
use http::{Extensions, Request, Response, header, request::Parts};
use prost_reflect::{DescriptorError, DescriptorPool};
use thiserror::Error;
use tonic::Status;
use tower::{ServiceBuilder, service_fn, util::BoxCloneSyncService};
use tower_http::{
    compression::{CompressionLayer, CompressionLevel, predicate::SizeAbove},
    cors::{AllowHeaders, AllowMethods, AllowOrigin, CorsLayer},
};

use self::{
    error::{Failure, JSON},
    pages::Pages,
    pieces::Pieces,
    query::Query,
    routes::{BadRoutes, BodyIs, Route, Routes},
    transcode::{
        Encoder,
        from_json::{self, Bound, Given},
        to_json::{self, Encoded, Style},
    },
    unpacked::Unpacked,
};
use super::{
    caller,
    calls::Calls,
    layers::{budget::Held, pace::Patience},
};
use crate::{proto::DESCRIPTORS, service::Guarded};

/// How long a browser remembers that it may ask.
const CORS_SECONDS: u64 = 3600;
/// Some editors begin a text in UTF-8 with it; it says nothing.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// A shorter answer is one packet anyway.
const COMPRESSED_BYTES_MIN: u64 = 1024;

/// Why there is no gateway.
#[derive(Debug, Error)]
pub enum BadDescriptors {
    /// They cannot be read.
    #[error("the descriptors of the API are damaged: {0}")]
    Damaged(#[from] DescriptorError),
    /// They make no routes.
    #[error(transparent)]
    Routes(#[from] BadRoutes),
}

/// Answers every request that is not gRPC.
pub type Rest = BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;

/// The gateway to what `calls` answers, and pages that tell of the service, with what browsers and compressing clients
/// need around both.
///
/// # Errors
/// The descriptors that were compiled in are not those of Pub/Sub.
pub fn service(calls: Calls, service: Guarded) -> Result<Rest, BadDescriptors> {
    let gateway = Gateway::new(calls, Pages::new(service))?;
    let answer = service_fn(move |request| {
        let gateway = gateway.clone();
        async move { Ok::<_, Infallible>(gateway.answer(request).await) }
    });
    let cors = CorsLayer::new()
        // Those that may not ask do not come as far as this (`wire/gate.rs`).
        .allow_origin(AllowOrigin::mirror_request())
        .allow_methods(AllowMethods::mirror_request())
        .allow_headers(AllowHeaders::mirror_request())
        .max_age(Duration::from_secs(CORS_SECONDS));
    let compress = CompressionLayer::new()
        .quality(CompressionLevel::Fastest)
        .compress_when(SizeAbove::new(COMPRESSED_BYTES_MIN));
    let around = ServiceBuilder::new()
        .map_response(|response: Response<_>| response.map(Body::new))
        .layer(cors)
        .layer(compress);
    Ok(BoxCloneSyncService::new(around.service(answer)))
}

#[derive(Clone, Debug)]
struct Gateway(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    descriptors: DescriptorPool,
    routes: Routes,
    calls: Calls,
    pages: Pages,
}

impl Gateway {
    fn new(calls: Calls, pages: Pages) -> Result<Self, BadDescriptors> {
        let descriptors = DescriptorPool::decode(DESCRIPTORS)?;
        let routes = Routes::read(&descriptors)?;
        Ok(Self(Arc::new(Inner {
            descriptors,
            routes,
            calls,
            pages,
        })))
    }

    /// Answers a request that is not gRPC.
    async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let (mut parts, body) = request.into_parts();
        let held = match held(&mut parts.extensions) {
            Ok(held) => held,
            Err(refused) => {
                call::discard(body).await;
                return self.failed(refused.into(), &Style::default());
            }
        };
        let (call, style) = match self.call(&parts) {
            Ok(Some(call)) => call,
            Ok(None) => {
                call::discard(body).await;
                let (pool, routes) = (&self.0.descriptors, &self.0.routes);
                let describe = || openapi::document(pool, routes);
                return self.0.pages.answer(&parts, describe).await;
            }
            Err(failure) => {
                call::discard(body).await;
                return self.failed(failure, &Style::default());
            }
        };
        let carried_out = self.carry_out(&parts.extensions, call, body, held, &style);
        match carried_out.await {
            Ok(response) => response,
            Err(failure) => self.failed(failure, &style),
        }
    }

    /// What is called, as far as it is not in the body, and how the answer is wanted; nothing if it is no RPC.
    fn call(&self, head: &Parts) -> Result<Option<(Call, Style)>, Failure> {
        let found = self.0.routes.find(&head.method, head.uri.path());
        let Some((route, values)) = found.map_err(|error| Failure::invalid(error.to_string()))?
        else {
            return Ok(None);
        };
        let is_gzip = match head.headers.get(header::CONTENT_ENCODING) {
            None => false,
            Some(encoding) if encoding.as_bytes().eq_ignore_ascii_case(b"gzip") => true,
            Some(encoding) => {
                return Err(Failure::invalid(format!(
                    "The content-encoding {encoding:?} is not known; gzip is."
                )));
            }
        };
        let (query, style) = Query::parse(head.uri.query().unwrap_or_default())?;
        let paths = route.variables.iter().cloned();
        let bound = paths.zip(values);
        let bound = bound.map(|(path, value)| Bound { path, value }).collect();
        let call = Call {
            route: Arc::clone(route),
            bound,
            query,
            is_gzip,
            timeout: call::timeout_given(&head.headers),
        };
        Ok(Some((call, style)))
    }

    async fn carry_out(
        &self,
        extensions: &Extensions,
        call: Call,
        body: Body,
        held: Held,
        style: &Style,
    ) -> Result<Response<Body>, Failure> {
        let caller = caller::of(extensions)?;
        let (calls, route) = (&self.0.calls, Arc::clone(&call.route));
        let timeout = call.timeout;
        let request = if let BodyIs::Nothing = route.body {
            call::discard(body).await;
            call::Encoded::without_body(call.encode(&[])?, held.clone())
        } else {
            let body = if call.is_gzip {
                Body::new(Unpacked::new(body, route.json_bytes_max))
            } else {
                body
            };
            let patience = Patience::new(timeout);
            let body = call::collect(body, &route, held.clone(), patience).await?;
            let bytes = body.bytes().len();
            let encode = move || {
                let message = call.encode(body.bytes())?;
                Ok(body.becomes(message)?)
            };
            aside::run(&held, bytes, encode).await?
        };
        let (answer, place) = call::unary(calls, route.rpc, caller, request, timeout).await?;
        let (style, bytes) = (style.clone(), answer.len());
        let write = move || {
            let message = route.descriptor.output();
            let json = to_json::write(&Encoded::new(&message, &answer, &style), &style);
            json.map_err(|error| Failure::internal(&error))
        };
        let json = aside::run(&held, bytes, write).await?;
        // Until the client has taken it.
        held.replace(json.len())?;
        let mut response = Response::new(Body::new(Pieces::of(json.into())));
        response.headers_mut().insert(header::CONTENT_TYPE, JSON);
        // It stays with the answer until that is taken.
        if let Some(place) = place {
            response.extensions_mut().insert(place);
        }
        Ok(response)
    }

    fn failed(&self, failure: Failure, style: &Style) -> Response<Body> {
        failure.into_response(&self.0.descriptors, style)
    }
}

/// The account of a request, or why it cannot have one.
fn held(extensions: &mut Extensions) -> Result<Held, Status> {
    let held = extensions.remove::<Result<Held, Status>>();
    held.unwrap_or_else(|| Err(Status::internal("the request came in without an account")))
}

/// A call of an RPC, as far as it is not in the body.
struct Call {
    route: Arc<Route>,
    bound: Vec<Bound>,
    query: Query,
    /// Whether the body is compressed.
    is_gzip: bool,
    /// How long the client waits.
    timeout: Option<Duration>,
}

impl Call {
    /// The request in protobuf: what the body gives, then the query, then the path.
    fn encode(&self, body: &[u8]) -> Result<Vec<u8>, Failure> {
        let message = self.route.descriptor.input();
        let body = body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body);
        let mut request = Encoder::with_capacity(body.len());
        let given = match &self.route.body {
            BodyIs::Request if !body.is_empty() => {
                from_json::read(&mut request, &message, body, &self.bound)?
            }
            BodyIs::Field(field) if !body.is_empty() => {
                let mut given = Given::default();
                given.add(field);
                from_json::read_field(&mut request, field, body)?;
                given
            }
            _ => Given::default(),
        };
        self.query
            .write(&mut request, &message, &given, &self.bound)?;
        for bound in &self.bound {
            bound.write(&mut request);
        }
        Ok(request.finish())
    }
}
