//! A unary gRPC call inside of this process.

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use http::{Method, Request, Version, header};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tonic::{Code, Status};

use crate::{
    limits::{JSON_BYTES_MAX, REQUEST_BYTES_UNCOUNTED},
    wire::{
        calls::Calls,
        layers::{
            budget::{Budget, Held},
            size::too_large,
        },
    },
};

/// The flag that says whether a message is compressed, and its length.
const HEADER_BYTES: usize = 5;

/// A request's body, counted as long as it is kept.
pub struct Collected {
    bytes: Bytes,
    _held: Held,
}

impl Collected {
    /// What arrived.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Waits for a whole body.
///
/// # Errors
/// It is too large, is cut off or cannot be decompressed, or the server holds too much.
pub async fn collect(mut body: Body, budget: &Budget) -> Result<Collected, Status> {
    let held = budget.request();
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    let mut arrived = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            Status::invalid_argument(format!("The request cannot be read: {error}"))
        })?;
        let Ok(piece) = frame.into_data() else {
            continue;
        };
        arrived += piece.len();
        if arrived > JSON_BYTES_MAX {
            return Err(too_large(JSON_BYTES_MAX));
        }
        if arrived > REQUEST_BYTES_UNCOUNTED {
            held.add(piece.len())?;
        }
        // The usual body is one piece, which need not be copied.
        if first.is_empty() && all.is_empty() {
            first = piece;
        } else {
            if all.is_empty() {
                all.extend_from_slice(&std::mem::take(&mut first));
            }
            all.extend_from_slice(&piece);
        }
    }
    let bytes = if all.is_empty() { first } else { all.freeze() };
    Ok(Collected { bytes, _held: held })
}

/// Calls the RPC with this path and returns its encoded answer.
///
/// # Errors
/// What the RPC answered instead.
pub async fn unary(calls: &Calls, path: &str, message: Vec<u8>) -> Result<Bytes, Status> {
    let response = calls.clone().call(request(path, message)?).await;
    let (head, body) = response.into_parts();
    // An error without a message is in the headers.
    if let Some(status) = Status::from_header_map(&head.headers) {
        ok(status)?;
    }
    let collected = body.collect().await;
    let collected = collected.map_err(|error| Status::from_error(error.into()))?;
    let trailers = collected.trailers().and_then(Status::from_header_map);
    if let Some(status) = trailers {
        ok(status)?;
    }
    let mut answer = collected.to_bytes();
    if answer.len() < HEADER_BYTES {
        return Err(Status::internal("the call ended without an answer"));
    }
    Ok(answer.split_off(HEADER_BYTES))
}

fn ok(status: Status) -> Result<(), Status> {
    match status.code() {
        Code::Ok => Ok(()),
        _ => Err(status),
    }
}

fn request(path: &str, message: Vec<u8>) -> Result<Request<Body>, Status> {
    let length = u32::try_from(message.len()).map_err(|_| too_large(JSON_BYTES_MAX))?;
    let mut header = BytesMut::with_capacity(HEADER_BYTES);
    header.extend_from_slice(&[0]);
    header.extend_from_slice(&length.to_be_bytes());
    let frames = [header.freeze(), message.into()];
    let frames = frames.map(|piece| Ok::<_, std::convert::Infallible>(Frame::data(piece)));
    let request = Request::builder()
        .method(Method::POST)
        .version(Version::HTTP_2)
        .uri(path)
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .body(Body::new(StreamBody::new(stream::iter(frames))));
    request.map_err(|error| Status::internal(error.to_string()))
}
