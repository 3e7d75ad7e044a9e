//! Requests that begin and never end.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::Request;
use http_body::Frame;
use http_body_util::StreamBody;
use tokio::{task::JoinSet, time::sleep};
use tonic::{body::Body, transport::Channel};
use tower::ServiceExt;

use crate::Target;

const PIECE_BYTES: usize = 16 * 1024;
/// What each of them claims to have.
const CLAIMED_BYTES: u32 = 9_000_000;

/// Opens so many requests on each of some connections and sends so many bytes of each. Returns when these were sent or
/// the request was answered, at the latest when the attack has lasted; they end when what is returned is dropped.
pub(super) async fn open(
    target: &Target,
    connections: usize,
    requests: usize,
    bytes: usize,
) -> JoinSet<()> {
    let start = Instant::now();
    let done = Arc::new(AtomicUsize::new(0));
    let mut open = JoinSet::new();
    for _ in 0..connections {
        let channel = target.channel().await;
        for _ in 0..requests {
            open.spawn(begin(channel.clone(), bytes, Arc::clone(&done)));
        }
    }
    while done.load(Ordering::Relaxed) < connections * requests && start.elapsed() < target.lasts {
        sleep(Duration::from_millis(20)).await;
    }
    open
}

/// One of them.
async fn begin(channel: Channel, bytes: usize, done: Arc<AtomicUsize>) {
    let header = [&[0], &CLAIMED_BYTES.to_be_bytes()[..]].concat();
    let piece = Bytes::from_static(&[0x12; PIECE_BYTES]);
    let pieces = bytes.div_ceil(PIECE_BYTES);
    let is_sent = Arc::clone(&done);
    let sent = stream::once(async move {
        is_sent.fetch_add(1, Ordering::Relaxed);
        None
    });
    let body = stream::iter([Some(Bytes::from(header))])
        .chain(stream::iter(vec![Some(piece); pieces]))
        .chain(sent)
        .filter_map(async |piece| piece.map(|piece| Ok::<_, Infallible>(Frame::data(piece))))
        .chain(stream::pending());
    let request = Request::post("/google.pubsub.v1.Publisher/Publish")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Body::new(StreamBody::new(Box::pin(body))))
        .expect("a request");
    // It may be refused, and then its body is not asked for more.
    drop(channel.oneshot(request).await);
    done.fetch_add(1, Ordering::Relaxed);
}
