//! A unary gRPC call inside of this process.

use std::{future::poll_fn, pin::Pin, task::Poll, time::Duration};

use axum::body::{Body, HttpBody};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Request, Version, header};
use tokio::{task::yield_now, time::timeout};
use tonic::Status;

use super::routes::Route;
use crate::{
    auth::caller::Caller,
    limits::{DISCARD_MILLIS_MAX, DISCARDED_BYTES_MAX, JSON_PIECE_BYTES},
    rpc::Rpc,
    wire::{
        calls::Calls,
        layers::{budget::Held, pace::Patience, places::Place, size::too_large, whole},
    },
};

/// A request's body, counted as long as it is in memory.
pub struct Collected {
    bytes: Bytes,
    held: Held,
}

impl Collected {
    /// What arrived.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The call with the message that the body stands for, which is counted from now on in its place.
    ///
    /// # Errors
    /// The message is larger than the body, and the server holds too much.
    pub fn becomes(self, message: Vec<u8>) -> Result<Encoded, Status> {
        let Self { bytes, held } = self;
        drop(bytes);
        held.replace(message.len())?;
        Ok(Encoded { message, held })
    }
}

/// A request in protobuf, counted as long as it is in memory.
pub struct Encoded {
    message: Vec<u8>,
    held: Held,
}

impl Encoded {
    /// That of a call without a body.
    pub const fn without_body(message: Vec<u8>, held: Held) -> Self {
        Self { message, held }
    }
}

/// Waits for the whole body of a call.
///
/// # Errors
/// It is too large, stops arriving, is cut off or cannot be decompressed, or the server holds too much.
pub async fn collect(
    mut body: Body,
    route: &Route,
    held: Held,
    mut patience: Patience,
) -> Result<Collected, Status> {
    let bytes_max = route.json_bytes_max;
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    let mut arrived = 0;
    let mut at_once = 0;
    while let Some(piece) = next_piece(&mut body, &mut patience).await? {
        arrived += piece.len();
        at_once += piece.len();
        if at_once > JSON_PIECE_BYTES {
            // Compressed, it may all be here, and unpacking it is not to be all that this thread does.
            yield_now().await;
            at_once = 0;
        }
        let refused = if arrived > bytes_max {
            Some(too_large(bytes_max.min(route.rpc.message_bytes_max)))
        } else {
            held.add(piece.len()).err()
        };
        if let Some(refused) = refused {
            drop((first, all));
            held.clear();
            discard(body).await;
            return Err(refused);
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
    Ok(Collected { bytes, held })
}

/// What arrives next; nothing at the end.
async fn next_piece(body: &mut Body, patience: &mut Patience) -> Result<Option<Bytes>, Status> {
    loop {
        let frame = poll_fn(|context| match Pin::new(&mut *body).poll_frame(context) {
            Poll::Ready(frame) => Poll::Ready(Ok(frame)),
            Poll::Pending => patience.poll_over(true, context).map(Err),
        });
        match frame.await? {
            None => return Ok(None),
            Some(Err(error)) => {
                let text = format!("The request cannot be read: {error}");
                return Err(Status::invalid_argument(text));
            }
            Some(Ok(frame)) => {
                if let Ok(piece) = frame.into_data() {
                    patience.moved(piece.len());
                    return Ok(Some(piece));
                }
            }
        }
    }
}

/// Lets the rest of a refused request arrive, if that is soon: a client that still sends does not read its answer.
pub async fn discard(mut body: Body) {
    let arrives = async {
        let mut arrived = 0;
        let mut patience = Patience::default();
        while arrived < DISCARDED_BYTES_MAX
            && let Ok(Some(piece)) = next_piece(&mut body, &mut patience).await
        {
            arrived += piece.len();
        }
    };
    timeout(Duration::from_millis(DISCARD_MILLIS_MAX), arrives)
        .await
        .ok();
}

/// How long the client waits for its answer, as it says in `X-Server-Timeout`: seconds, with a fraction or without.
/// Anything else is ignored.
pub fn timeout_given(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get("x-server-timeout")?.to_str().ok()?;
    let timeout = Duration::try_from_secs_f64(seconds.parse().ok()?).ok()?;
    (timeout.as_millis() <= GRPC_TIMEOUT_MILLIS_MAX).then_some(timeout)
}

/// `grpc-timeout` has at most eight digits.
const GRPC_TIMEOUT_MILLIS_MAX: u128 = 99_999_999;

/// Calls `rpc` for `caller` and returns its encoded answer, with its place if it is the page of a list. `client_timeout` is how long the client waits for it.
///
/// # Errors
/// What the RPC answered instead.
pub async fn unary(
    calls: &Calls,
    rpc: &Rpc,
    caller: Caller,
    request: Encoded,
    client_timeout: Option<Duration>,
) -> Result<(Bytes, Option<Place>), Status> {
    let Encoded { message, held } = request;
    let mut request = self::request(rpc.path, message)?;
    request.extensions_mut().insert(caller);
    if let Some(timeout) = client_timeout {
        let millis = HeaderValue::try_from(format!("{}m", timeout.as_millis()));
        let millis = millis.map_err(|error| Status::internal(error.to_string()))?;
        request.headers_mut().insert("grpc-timeout", millis);
    }
    let (response, place) = calls.clone().call_whole(rpc, request, held).await;
    let (head, body) = response.into_parts();
    // An error without a message is in the headers.
    if let Some(status) = Status::from_header_map(&head.headers) {
        whole::ok(status)?;
    }
    Ok((whole::message(body).await?, place))
}

fn request(path: &'static str, message: Vec<u8>) -> Result<Request<Bytes>, Status> {
    let request = Request::builder()
        .method(Method::POST)
        .version(Version::HTTP_2)
        .uri(path)
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .body(message.into());
    request.map_err(|error| Status::internal(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{layers::budget::Budget, rest::routes::Routes};

    const JSON_BYTES: usize = 200 * 1024;

    async fn published(budget: &Budget) -> Result<Collected, Status> {
        let pool = prost_reflect::DescriptorPool::decode(crate::proto::DESCRIPTORS);
        let routes = Routes::read(&pool.expect("descriptors")).expect("routes");
        let found = routes.find(&Method::POST, "/v1/projects/p/topics/top:publish");
        let (route, _) = found.expect("a path").expect("a route");
        let held = budget.connection().request(0)?;
        let body = Body::from(vec![b' '; JSON_BYTES]);
        collect(body, route, held, Patience::default()).await
    }

    #[tokio::test]
    async fn a_body_is_counted_until_it_is_a_message_and_then_that_is() {
        let budget = Budget::new(JSON_BYTES + JSON_BYTES / 2, usize::MAX);
        let first = published(&budget).await.expect("there is room");
        assert!(published(&budget).await.is_err());
        let message = vec![0; JSON_BYTES / 4];
        let first = first.becomes(message).expect("it is smaller");
        let second = published(&budget).await.expect("there is room");
        let message = vec![0; JSON_BYTES];
        let second = second.becomes(message).expect("as large as the body");
        assert!(published(&budget).await.is_err());
        drop((first, second));
        published(&budget).await.expect("given back");
    }

    #[test]
    fn a_timeout_is_a_number_of_seconds_and_anything_else_is_ignored() {
        let given = |value: &str| {
            let mut headers = HeaderMap::new();
            let value = HeaderValue::from_str(value).expect("a header value");
            headers.insert("x-server-timeout", value);
            timeout_given(&headers)
        };
        assert_eq!(given("5"), Some(Duration::from_secs(5)));
        assert_eq!(given("0.25"), Some(Duration::from_millis(250)));
        assert_eq!(given("0"), Some(Duration::ZERO));
        assert_eq!(given("99999.999"), Some(Duration::from_millis(99_999_999)));
        for ignored in ["", "-1", "NaN", "inf", "1e300", "100000", "5s", "5 6", "é"] {
            assert_eq!(given(ignored), None, "{ignored}");
        }
    }
}
