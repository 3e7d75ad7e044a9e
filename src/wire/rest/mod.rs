//! HTTP/JSON: every RPC that has a `google.api.http` annotation, through the same handlers as gRPC
//! (docs/behaviour.md, section 20). A request becomes the gRPC request that it stands for, inside of this process.

pub mod call;
pub mod error;
pub mod pages;
pub mod query;
pub mod routes;
pub mod template;
pub mod transcode;

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::body::Body;
use http::{Request, Response, header};
use prost_reflect::{DescriptorError, DescriptorPool};
use thiserror::Error;
use tower::{ServiceBuilder, service_fn, util::BoxCloneSyncService};
use tower_http::{
    compression::{CompressionLayer, CompressionLevel, predicate::SizeAbove},
    cors::{AllowHeaders, AllowMethods, Any, CorsLayer},
    decompression::RequestDecompressionLayer,
};

use self::{
    error::{Failure, JSON},
    query::Query,
    routes::{BadRoutes, BodyIs, Route, Routes},
    transcode::{
        Encoder,
        from_json::{self, Bound, Given},
        to_json::{self, Encoded, Style},
    },
};
use super::calls::Calls;
use crate::proto::DESCRIPTORS;

/// How long a browser remembers that it may ask.
const CORS_SECONDS: u64 = 3600;
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

/// The gateway to what `calls` answers, with what browsers and compressing clients need around it.
///
/// # Errors
/// The descriptors that were compiled in are not those of Pub/Sub.
pub fn service(calls: Calls) -> Result<Rest, BadDescriptors> {
    let gateway = Gateway::new(calls)?;
    let answer = service_fn(move |request| {
        let gateway = gateway.clone();
        async move { Ok::<_, Infallible>(gateway.answer(request).await) }
    });
    let cors = CorsLayer::new()
        .allow_origin(Any)
        .allow_methods(AllowMethods::mirror_request())
        .allow_headers(AllowHeaders::mirror_request())
        .max_age(Duration::from_secs(CORS_SECONDS));
    let compress = CompressionLayer::new()
        .quality(CompressionLevel::Fastest)
        .compress_when(SizeAbove::new(COMPRESSED_BYTES_MIN));
    let around = ServiceBuilder::new()
        .map_response(|response: Response<_>| response.map(Body::new))
        .layer(cors)
        .layer(compress)
        .map_response(|response: Response<_>| response.map(Body::new))
        .layer(RequestDecompressionLayer::new())
        .map_request(|request: Request<_>| request.map(Body::new));
    Ok(BoxCloneSyncService::new(around.service(answer)))
}

#[derive(Clone, Debug)]
struct Gateway(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    descriptors: DescriptorPool,
    routes: Routes,
    calls: Calls,
}

impl Gateway {
    fn new(calls: Calls) -> Result<Self, BadDescriptors> {
        let descriptors = DescriptorPool::decode(DESCRIPTORS)?;
        let routes = Routes::read(&descriptors)?;
        Ok(Self(Arc::new(Inner {
            descriptors,
            routes,
            calls,
        })))
    }

    /// Answers a request that is not gRPC.
    async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let (head, body) = request.into_parts();
        let found = self.0.routes.find(&head.method, head.uri.path());
        let (route, values) = match found {
            Ok(Some(found)) => found,
            Ok(None) => return pages::answer(&head),
            Err(error) => {
                return self.failed(Failure::invalid(error.to_string()), &Style::default());
            }
        };
        let query = match Query::parse(head.uri.query().unwrap_or_default()) {
            Ok(query) => query,
            Err(failure) => return self.failed(failure, &Style::default()),
        };
        match self.carry_out(route, values, &query, body).await {
            Ok(response) => response,
            Err(failure) => self.failed(failure, &query.style),
        }
    }

    async fn carry_out(
        &self,
        route: &Route,
        values: Vec<String>,
        query: &Query,
        body: Body,
    ) -> Result<Response<Body>, Failure> {
        let calls = &self.0.calls;
        let request = {
            let body = match route.body {
                BodyIs::Nothing => None,
                _ => Some(call::collect(body, calls.budget()).await?),
            };
            encode(
                route,
                values,
                query,
                body.as_ref().map_or(&[], |body| body.bytes()),
            )?
        };
        let answer = call::unary(calls, &route.grpc_path, request).await?;
        let message = route.rpc.output();
        let json = to_json::write(&Encoded::new(&message, &answer, &query.style), &query.style);
        let json = json.map_err(|error| Failure::internal(&error))?;
        let mut response = Response::new(Body::from(json));
        response.headers_mut().insert(header::CONTENT_TYPE, JSON);
        Ok(response)
    }

    fn failed(&self, failure: Failure, style: &Style) -> Response<Body> {
        failure.into_response(&self.0.descriptors, style)
    }
}

/// The request in protobuf: what the body gives, then the query, then the path.
fn encode(
    route: &Route,
    values: Vec<String>,
    query: &Query,
    body: &[u8],
) -> Result<Vec<u8>, Failure> {
    let message = route.rpc.input();
    let paths = route.variables.iter().cloned();
    let bound: Vec<_> = paths
        .zip(values)
        .map(|(path, value)| Bound { path, value })
        .collect();
    let mut request = Encoder::with_capacity(body.len());
    let given = match &route.body {
        BodyIs::Request if !body.is_empty() => {
            from_json::read(&mut request, &message, body, &bound)?
        }
        BodyIs::Field(field) if !body.is_empty() => {
            let mut given = Given::default();
            given.add(field);
            from_json::read_field(&mut request, field, body)?;
            given
        }
        _ => Given::default(),
    };
    query.write(&mut request, &message, &given, &bound)?;
    for bound in &bound {
        bound.write(&mut request);
    }
    Ok(request.finish())
}
