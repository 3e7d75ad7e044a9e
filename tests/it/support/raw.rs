//! gRPC requests as bytes, for what no client library sends.

use std::io::Write;

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::Request;
use http_body_util::{BodyExt, Full};
use tonic::{Code, Status, body::Body, transport::Channel};
use tower::ServiceExt;

/// A gRPC frame.
pub(crate) fn frame(flag: u8, message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).expect("a test's message is small");
    [&[flag], &length.to_be_bytes()[..], message].concat()
}

/// `message`, compressed.
pub(crate) fn gzip(message: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(message).expect("memory takes it");
    encoder.finish().expect("memory takes it")
}

/// Sends `body` to the RPC at `path` and returns the status of the answer with its body.
pub(crate) async fn call(
    channel: &Channel,
    path: &str,
    encoding: Option<&str>,
    body: impl Into<Bytes>,
) -> (Status, Bytes) {
    let mut request = Request::post(path)
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    if let Some(encoding) = encoding {
        request = request.header("grpc-encoding", encoding);
    }
    let request = request
        .body(Body::new(Full::new(body.into())))
        .expect("a request");
    let response = channel.clone().oneshot(request).await.expect("an answer");
    if let Some(status) = Status::from_header_map(response.headers()) {
        return (status, Bytes::new());
    }
    let collected = response.into_body().collect().await.expect("a body");
    let status = collected
        .trailers()
        .and_then(Status::from_header_map)
        .expect("a gRPC answer ends with a status");
    (status, collected.to_bytes())
}

/// Asserts that the RPC at `path` answers `body` with INVALID_ARGUMENT and a text that contains `text`.
pub(crate) async fn assert_invalid(
    channel: &Channel,
    path: &str,
    encoding: Option<&str>,
    body: impl Into<Bytes>,
    text: &str,
) {
    let (status, _) = call(channel, path, encoding, body).await;
    assert_eq!(status.code(), Code::InvalidArgument, "{path}: {status:?}");
    assert!(status.message().contains(text), "{path}: {status:?}");
}
