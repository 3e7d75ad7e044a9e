//! What is served beside the RPCs.

mod api;
mod health;
mod packed;

use std::sync::OnceLock;

use axum::body::Body;
use http::{HeaderValue, Method, Response, StatusCode, header, request::Parts};

use self::packed::Packed;
use super::error::JSON;
use crate::service::Guarded;

/// Answers what is no RPC.
#[derive(Debug)]
pub struct Pages {
    service: Guarded,
    /// Made when a client first asks for it.
    description: OnceLock<Packed>,
}

impl Pages {
    /// Pages that tell of this service.
    pub const fn new(service: Guarded) -> Self {
        Self {
            service,
            description: OnceLock::new(),
        }
    }

    /// The answer to a request that is no RPC over REST. `describe` writes the API's description.
    pub async fn answer(&self, head: &Parts, describe: impl FnOnce() -> Vec<u8>) -> Response<Body> {
        let answer = self.page(head, describe).await;
        if head.method == Method::HEAD {
            // HTTP/2 would send it.
            return answer.map(|_| Body::empty());
        }
        answer
    }

    async fn page(&self, head: &Parts, describe: impl FnOnce() -> Vec<u8>) -> Response<Body> {
        match (&head.method, head.uri.path()) {
            (&Method::GET | &Method::HEAD, path) => match path {
                "/" => page(StatusCode::OK, TEXT, "Ok"),
                "/healthz" => {
                    let health = self.service.health().await;
                    health::answer(&health)
                }
                "/openapi.json" => {
                    let describe = || Packed::new(JSON, describe());
                    self.description.get_or_init(describe).answer(&head.headers)
                }
                path => api::answer(path, &head.headers).unwrap_or_else(not_found),
            },
            (&Method::POST, path) if path.starts_with("/google.") || path.starts_with("/grpc.") => {
                let text = "This path takes gRPC: HTTP/2 with content-type: application/grpc.\n";
                page(StatusCode::UNSUPPORTED_MEDIA_TYPE, TEXT, text)
            }
            _ => not_found(),
        }
    }
}

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
/// As Google's front end answers, in HTML: a resource that does not exist is told in JSON instead.
const NOT_FOUND: &str = "<!DOCTYPE html>
<html lang=en><title>Error 404 (Not Found)</title>
<p><b>404.</b> There is no such method and path here.
";

fn not_found() -> Response<Body> {
    page(StatusCode::NOT_FOUND, HTML, NOT_FOUND)
}

fn page(status: StatusCode, content_type: HeaderValue, content: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(content.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, content_type);
    response
}
