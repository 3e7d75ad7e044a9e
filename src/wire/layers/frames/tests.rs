use std::{convert::Infallible, io::Write, time::Duration};

use flate2::{Compression, write::GzEncoder};
use futures_util::{FutureExt, StreamExt, stream};
use http_body_util::{BodyExt, StreamBody};
use tokio::time::Instant;
use tonic::Code;

use super::{super::budget::Budget, *};
use crate::limits::{UNPACKED_AT_ONCE_MAX, UNPACKERS};

const LIMIT: usize = 1000;

fn messages(requests: Requests, bytes_max: usize) -> Messages {
    Messages {
        requests,
        bytes_max,
        entries: Entries::of(Rpc::at("")),
    }
}

fn frame(flag: u8, message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).expect("small");
    [&[flag], &length.to_be_bytes()[..], message].concat()
}

/// That of a request on a connection of its own.
fn account(budget: &Budget) -> Held {
    let held = budget.connection().request(0);
    held.expect("there is room")
}

/// What tonic would get of `body` if it came in pieces of `piece_bytes`, and the error behind it.
async fn read(body: &[u8], piece_bytes: usize, gzip: bool) -> (Vec<Bytes>, Option<Status>) {
    let pieces: Vec<_> = body
        .chunks(piece_bytes)
        .map(|piece| Ok::<_, Infallible>(Frame::data(Bytes::copy_from_slice(piece))))
        .collect();
    let held = account(&Budget::new(1 << 20, usize::MAX));
    let body = StreamBody::new(stream::iter(pieces));
    let mut frames = Frames::new(body, gzip, messages(Requests::One, LIMIT), held);
    let mut read = Vec::new();
    loop {
        match frames.frame().await {
            Some(Ok(frame)) => read.push(frame.into_data().expect("data")),
            Some(Err(status)) => return (read, Some(status)),
            None => return (read, None),
        }
    }
}

#[tokio::test]
async fn frames_pass_unchanged_however_they_were_cut() {
    let body = [
        frame(0, &[1; LIMIT]),
        frame(0, b""),
        frame(0, b"the last one"),
    ]
    .concat();
    for piece_bytes in [1, 3, 600, body.len()] {
        let (read, error) = read(&body, piece_bytes, false).await;
        assert_eq!(read.concat(), body);
        assert!(error.is_none());
    }
}

#[tokio::test]
async fn a_frame_that_is_not_whole_is_withheld_and_then_refused() {
    let whole = frame(0, b"whole");
    let body = [whole.clone(), frame(0, b"cut off")].concat();
    let (read, error) = read(&body[..body.len() - 1], 4, false).await;
    assert_eq!(read.concat(), whole);
    let error = error.expect("refused");
    assert_eq!(error.code(), Code::InvalidArgument);
    assert_eq!(
        error.message(),
        "The request ends inside a message: 11 of 12 bytes arrived."
    );
}

#[tokio::test]
async fn a_frame_that_claims_more_than_the_limit_is_refused_by_its_header() {
    let mut body = vec![0];
    body.extend(u32::MAX.to_be_bytes());
    let (read, error) = read(&body, 2, false).await;
    assert!(read.is_empty());
    let error = error.expect("refused");
    assert_eq!(error.code(), Code::InvalidArgument);
    assert_eq!(
        error.message(),
        "Request payload size exceeds the limit: 1000 bytes."
    );
}

#[tokio::test]
async fn broken_frames_are_the_clients_fault() {
    for (body, gzip) in [
        (frame(2, b"unknown flag"), false),
        (frame(1, b"no grpc-encoding"), false),
        (frame(1, b"not gzip"), true),
        (frame(1, b""), true),
        (vec![0, 0], false),
        (Vec::new(), false),
    ] {
        let (read, error) = read(&body, 100, gzip).await;
        assert!(read.is_empty());
        assert_eq!(error.expect("refused").code(), Code::InvalidArgument);
    }
}

#[tokio::test]
async fn many_tiny_pieces_are_kept_together() {
    let mut pieces = Pieces::default();
    for _ in 0..10_000 {
        pieces.push(Bytes::from_static(b"x"));
    }
    assert_eq!(pieces.whole.len(), 1);
    assert_eq!(pieces.bytes, 10_000);
}

#[tokio::test]
async fn large_requests_count_with_what_has_arrived_until_they_are_answered() {
    let budget = Budget::new(200 * 1024, usize::MAX);
    let large = frame(0, &vec![1; 200 * 1024]);
    let read = async |body: &[u8], held: Held| {
        let pieces: Vec<_> = body
            .chunks(16 * 1024)
            .map(|piece| Ok::<_, Infallible>(Frame::data(Bytes::copy_from_slice(piece))))
            .collect();
        let body = StreamBody::new(stream::iter(pieces));
        Frames::new(body, false, messages(Requests::One, 1 << 20), held)
            .collect()
            .await
            .map(http_body_util::Collected::to_bytes)
    };
    let first = account(&budget);
    let whole = read(&large, first.clone())
        .await
        .expect("within the budget");
    assert_eq!(whole, large);
    let refused = read(&large, account(&budget)).await;
    assert_eq!(refused.expect_err("too much").code(), Code::Unavailable);
    let small = frame(0, b"small");
    assert!(read(&small, account(&budget)).await.is_ok());
    // The first request is answered.
    drop(first);
    assert!(read(&large, account(&budget)).await.is_ok());
}

/// Reads a large message and then `rest`, and tells whether another large request has room beside it.
async fn leaves_room(requests: Requests, rest: &'static [u8]) -> bool {
    let budget = Budget::new(200 * 1024, usize::MAX);
    let held = account(&budget);
    let large = Bytes::from(frame(0, &vec![1; 190 * 1024]));
    let pieces = [large, Bytes::from_static(rest)];
    let pieces = pieces.map(|piece| Ok::<_, Infallible>(Frame::data(piece)));
    let body = StreamBody::new(stream::iter(pieces));
    let frames = Frames::new(body, false, messages(requests, 1 << 20), held.clone());
    frames.collect().await.expect("within the budget");
    account(&budget).add(190 * 1024).is_ok()
}

#[tokio::test]
async fn only_the_next_message_of_a_stream_gives_back_what_came_before_it() {
    const NEXT: &[u8] = &[0, 0, 0, 0, 0];
    assert!(!leaves_room(Requests::One, b"").await);
    assert!(!leaves_room(Requests::One, NEXT).await);
    assert!(!leaves_room(Requests::Stream, b"").await);
    assert!(leaves_room(Requests::Stream, NEXT).await);
}

const PUBLISH: &str = "/google.pubsub.v1.Publisher/Publish";

fn gzip(message: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(message).expect("memory takes it");
    encoder.finish().expect("memory takes it")
}

/// The frames of a Publish whose body is one frame.
fn published(flag: u8, message: &[u8], budget: &Budget) -> Frames<http_body_util::Full<Bytes>> {
    let messages = Messages {
        requests: Requests::One,
        bytes_max: 10 << 20,
        entries: Entries::of(Rpc::at(PUBLISH)),
    };
    let body = http_body_util::Full::new(frame(flag, message).into());
    Frames::new(body, true, messages, account(budget))
}

/// A request with so many messages, each of so many bytes.
fn request(messages: usize, bytes: u8) -> Vec<u8> {
    let message = [&[0x12, bytes][..], &vec![0; bytes.into()]].concat();
    message.repeat(messages)
}

#[tokio::test]
async fn a_large_message_is_unpacked_while_others_have_their_turn() {
    let budget = Budget::new(1 << 30, usize::MAX);
    for bytes in [
        UNPACKED_AT_ONCE_MAX - 1,
        UNPACKED_AT_ONCE_MAX,
        UNPACKED_AT_ONCE_MAX + 1,
        3 << 20,
    ] {
        let message: Vec<u8> = (0..=u8::MAX).cycle().skip(1).take(bytes).collect();
        let mut busy = Vec::new();
        for _ in 0..UNPACKERS {
            busy.push(account(&budget).unpacker().await.expect("a permit"));
        }
        let mut frames = published(1, &gzip(&message), &budget);
        let at_once = frames.frame().now_or_never();
        assert_eq!(
            at_once.is_some(),
            bytes < UNPACKED_AT_ONCE_MAX,
            "{bytes} bytes"
        );
        drop(busy);
        let mut read =
            at_once.map_or_else(Vec::new, |_| frame(0, &message)[..HEADER_BYTES].to_vec());
        while let Some(piece) = frames.frame().await {
            read.extend(piece.expect("no error").into_data().expect("data"));
        }
        assert_eq!(read, frame(0, &message));
    }
}

#[tokio::test]
async fn a_message_with_too_many_entries_is_refused_before_it_is_unpacked() {
    let budget = Budget::new(1 << 30, usize::MAX);
    let many = request(5_000_000, 0);
    for (flag, message) in [(0, many.clone()), (1, gzip(&many))] {
        let refused = published(flag, &message, &budget).frame().now_or_never();
        let refused = refused.expect("at once").expect("an end");
        let refused = refused.expect_err("too many");
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert_eq!(
            refused.message(),
            "The request has more than 4000 entries in PublishRequest.messages, which takes 1000."
        );
    }
    // The entries lie behind what is unpacked at first.
    let topic = vec![b'a'; UNPACKED_AT_ONCE_MAX];
    let mut late = vec![0x0a, 0x80, 0x80, 0x10];
    late.extend_from_slice(&topic);
    late.extend_from_slice(&many);
    let refused = published(1, &gzip(&late), &budget).collect().await;
    assert!(
        refused
            .expect_err("too many")
            .message()
            .contains("PublishRequest.messages")
    );
}

#[tokio::test]
async fn a_message_counts_as_what_it_becomes() {
    // 63 KiB that become 190, of which 32 do not count.
    let message = request(4000, 14);
    for (flag, body) in [(0, message.clone()), (1, gzip(&message))] {
        let budget = Budget::new(144 * 1024, usize::MAX);
        let refused = published(flag, &body, &budget).collect().await;
        assert_eq!(refused.expect_err("too much").code(), Code::Unavailable);
        let budget = Budget::new(176 * 1024, usize::MAX);
        assert!(published(flag, &body, &budget).collect().await.is_ok());
    }
}

/// How long a request is waited for, seconds, with the answer: of an RPC at `path`, whose client waits for `timeout`, and
/// of which `pieces` arrive, each after so many seconds, and never the end.
async fn waits(
    path: &str,
    timeout: Option<&str>,
    pieces: &[(u64, usize)],
    body: &[u8],
) -> (u64, String) {
    let mut body = Bytes::copy_from_slice(body);
    let pieces = pieces.iter().map(move |&(after, bytes)| {
        let piece = body.split_to(bytes.min(body.len()));
        (Duration::from_secs(after), piece)
    });
    let pieces: Vec<_> = pieces.collect();
    let arriving = stream::iter(pieces).then(|(after, piece)| async move {
        tokio::time::sleep(after).await;
        Ok::<_, Infallible>(Frame::data(piece))
    });
    let body = StreamBody::new(Box::pin(arriving.chain(stream::pending())));
    let mut request = Request::post(path);
    if let Some(timeout) = timeout {
        request = request.header("grpc-timeout", timeout);
    }
    let request = request.body(body).expect("a request");
    let held = account(&Budget::new(1 << 24, usize::MAX));
    let mut frames = check(request, Rpc::at(path), held).into_body();
    let began = Instant::now();
    let status = loop {
        let frame = frames.frame();
        match tokio::time::timeout(Duration::from_secs(100_000), frame).await {
            Ok(Some(Ok(_))) => {}
            Ok(Some(Err(status))) => break status,
            Ok(None) => panic!("it does not end"),
            Err(_) => return (u64::MAX, String::new()),
        }
    };
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    (began.elapsed().as_secs(), status.message().to_owned())
}

const LATE: &str = "The rest of the request did not arrive in time.";
const PAST: &str = "The deadline of the call passed before all of its request had arrived.";
const STREAMING_PULL: &str = "/google.pubsub.v1.Subscriber/StreamingPull";

#[tokio::test(start_paused = true)]
async fn a_request_whose_rest_does_not_arrive_ends() {
    let whole = frame(0, &[7; 100]);
    let half = [(0, 50)];
    let trickle = [(20, 1); 100];
    let bursts = [(29, 1024 * 1024); 9];
    let large = frame(0, &vec![7; 9_000_000]);
    for (path, pieces, body, after) in [
        (PUBLISH, &[][..], &whole, 30),
        (PUBLISH, &half, &whole, 30),
        // All of it, but not its end.
        (PUBLISH, &[(0, 200)], &whole, 30),
        (PUBLISH, &trickle, &whole, 30),
        (PUBLISH, &bursts[..3], &large, 3 * 29 + 30),
        (STREAMING_PULL, &[], &whole, 30),
        (STREAMING_PULL, &half, &whole, 30),
        (STREAMING_PULL, &trickle, &whole, 30),
    ] {
        let waited = waits(path, None, pieces, body).await;
        assert_eq!(waited, (after, LATE.to_owned()), "{path} {pieces:?}");
    }
    // A stream may pause behind a message, also for longer than any message may take.
    let pauses = [(0, 105), (1000, 105), (29, 50), (29, 55)];
    let messages = whole.repeat(3);
    let waited = waits(STREAMING_PULL, None, &pauses, &messages).await;
    assert_eq!(waited.0, u64::MAX);
}

#[tokio::test(start_paused = true)]
async fn the_clients_deadline_holds_while_its_request_is_awaited() {
    let whole = frame(0, &[7; 100]);
    for (path, pieces) in [
        (PUBLISH, &[][..]),
        (PUBLISH, &[(0, 50)]),
        (PUBLISH, &[(0, 105)]),
        (STREAMING_PULL, &[(0, 105)]),
    ] {
        let waited = waits(path, Some("5S"), pieces, &whole).await;
        assert_eq!(waited, (5, PAST.to_owned()), "{path} {pieces:?}");
    }
}
