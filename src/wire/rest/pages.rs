//! What is served beside the RPCs.

use axum::body::Body;
use http::{HeaderValue, Method, Response, StatusCode, header, request::Parts};

/// The answer to a request that is no RPC over REST.
pub fn answer(head: &Parts) -> Response<Body> {
    match (&head.method, head.uri.path()) {
        (&Method::GET | &Method::HEAD, "/") => page(StatusCode::OK, TEXT, "Ok".to_owned()),
        (&Method::POST, path) if path.starts_with("/google.") || path.starts_with("/grpc.") => {
            let text = "This path takes gRPC: HTTP/2 with content-type: application/grpc.\n";
            page(StatusCode::UNSUPPORTED_MEDIA_TYPE, TEXT, text.to_owned())
        }
        _ => page(StatusCode::NOT_FOUND, HTML, NOT_FOUND.to_owned()),
    }
}

const TEXT: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";
/// As Google's front end answers, in HTML: a resource that does not exist is told in JSON instead.
const NOT_FOUND: &str = "<!DOCTYPE html>
<html lang=en><title>Error 404 (Not Found)</title>
<p><b>404.</b> There is no such method and path here.
";

fn page(status: StatusCode, content_type: &'static str, text: String) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    let content_type = HeaderValue::from_static(content_type);
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, content_type);
    response
}
