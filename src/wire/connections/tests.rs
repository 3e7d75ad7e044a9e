//! Whole connections over pipes in memory, on a clock that stands still while anything is left to do.

use std::time::Duration;

use bytes::Bytes;
use h2::{RecvStream, client::SendRequest};
use http::{Request, Response};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    time::Instant,
};

use super::*;
use crate::{
    clock::{Clock, Timestamp},
    random::Random,
    service::{Guarded, Service},
    store::{
        StateStore,
        memory::{MemoryLog, MemoryState},
    },
    wire::{
        calls::Calls,
        grpc::{self, health::Health},
        rest,
    },
};

/// Bytes that a pipe takes before they are read.
const PIPE_BYTES: usize = 64 * 1024;

/// A server in memory.
struct World(Arc<Connections>);

impl World {
    async fn new() -> Self {
        let (clock, _hand) = Clock::manual(Timestamp::from_millis(1_000_000));
        let log = Arc::new(MemoryLog::new(clock.clone(), usize::MAX));
        let state = MemoryState::new().expect("random bytes");
        let state = StateStore::new(Arc::new(state));
        let service = Service::start(state, log, clock, Random::seeded(1));
        let guarded = Guarded::open(Arc::new(service));
        let ends = Ends::default();
        let (_, health) = Health::new().await;
        let services = grpc::services(&guarded, health).expect("descriptors");
        let calls = Calls::new(services, guarded.node_lease(), ends.closing.clone());
        let rest = rest::service(calls.clone(), guarded).expect("routes");
        Self(Connections::new(
            Dispatch::new(calls, rest),
            WebAccess::default(),
            &ends,
            1024,
        ))
    }

    /// A client's end of a connection.
    async fn connect(&self) -> DuplexStream {
        let (client, server) = tokio::io::duplex(PIPE_BYTES);
        let peer: SocketAddr = "127.0.0.1:1".parse().expect("an address");
        let admitted = self.0.admission.admit(peer.ip()).await;
        tokio::spawn(Arc::clone(&self.0).serve(server, peer, false, admitted));
        client
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_does_not_say_what_it_speaks_ends() {
    let world = World::new().await;
    for said in [&b""[..], b"P", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r"] {
        let mut client = world.connect().await;
        let began = Instant::now();
        client.write_all(said).await.expect("it is open");
        assert_eq!(client.read(&mut [0; 64]).await.expect("an end"), 0);
        assert_eq!(began.elapsed().as_millis(), 10_000, "{said:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_connection_gives_its_place_to_others_until_it_speaks() {
    let world = World::new().await;
    let mut first = world.connect().await;
    let mut second = world.connect().await;
    second.write_all(b"GET /").await.expect("it is open");
    tokio::time::sleep(Duration::from_millis(1)).await;
    let max = world.0.admission.silent_per_address_max;
    let mut others = Vec::new();
    for _ in 0..max {
        others.push(world.connect().await);
    }
    assert_eq!(first.read(&mut [0; 64]).await.expect("an end"), 0);
    let rest = b" HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    second.write_all(rest).await.expect("it is open");
    let mut answer = String::new();
    second.read_to_string(&mut answer).await.expect("text");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

/// A client of HTTP/2 on a new connection.
async fn http2(world: &World) -> SendRequest<Bytes> {
    let connected = h2::client::handshake(world.connect().await).await;
    let (requests, connection) = connected.expect("a connection");
    tokio::spawn(connection);
    requests.ready().await.expect("it is open")
}

fn publish() -> http::request::Builder {
    Request::post("http://x/google.pubsub.v1.Publisher/Publish")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
}

/// The status of an answer that has nothing else.
fn status(answer: &Response<RecvStream>) -> (tonic::Code, String) {
    let status = tonic::Status::from_header_map(answer.headers()).expect("a status");
    (status.code(), status.message().to_owned())
}

#[tokio::test(start_paused = true)]
async fn an_answer_ends_of_which_the_client_takes_no_more() {
    let world = World::new().await;
    for takes in [true, false] {
        let mut client = http2(&world).await;
        let request = Request::get("http://x/openapi.json").body(());
        let sent = client.send_request(request.expect("a request"), true);
        let (answer, _) = sent.expect("it is open");
        let mut body = answer.await.expect("an answer").into_body();
        let began = Instant::now();
        let mut taken = 0;
        let end = loop {
            match body.data().await {
                Some(Ok(piece)) => taken += piece.len(),
                Some(Err(error)) => break Some(error),
                None => break None,
            }
            if takes {
                let released = body.flow_control().release_capacity(taken);
                released.expect("it has arrived");
                taken = 0;
            }
        };
        if takes {
            assert!(end.is_none(), "{end:?}");
        } else {
            let end = end.expect("not all of it");
            assert_eq!(end.reason(), Some(h2::Reason::CANCEL), "{end:?}");
            assert_eq!(began.elapsed().as_secs(), 30);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn few_small_answers_wait_without_an_end_for_a_client_that_takes_nothing() {
    const CALLS: usize = 200;
    let world = World::new().await;
    let mut client = h2::client::Builder::new();
    // What has begun is handed to HTTP/2 as a whole.
    let client = client
        .initial_window_size(512)
        .handshake::<_, Bytes>(world.connect().await);
    let (client, connection) = client.await.expect("a connection");
    tokio::spawn(connection);
    // An error that repeats it, as far as that is short.
    let path = format!("http://x/v1/projects/p/topics/{}", "%20".repeat(3_000));
    let mut answers = Vec::new();
    for _ in 0..CALLS {
        let request = Request::get(&path).body(()).expect("a request");
        let mut client = client.clone().ready().await.expect("it is open");
        answers.push(client.send_request(request, true).expect("it is open").0);
    }
    let mut bytes = 0;
    let mut unread = Vec::new();
    for answer in answers {
        let answer = answer.await.expect("an answer");
        let length = &answer.headers()["content-length"];
        bytes = length
            .to_str()
            .ok()
            .and_then(|length| length.parse().ok())
            .expect("a number");
        unread.push(answer.into_body());
    }
    assert!((limits::TINY_ANSWER_BYTES..limits::SMALL_ANSWER_BYTES).contains(&bytes));
    let ends = unread.into_iter().map(|mut body| async move {
        let end = async { while let Some(Ok(_)) = body.data().await {} };
        timeout(Duration::from_mins(1), end).await.is_ok()
    });
    let ended = futures_util::future::join_all(ends).await;
    let waiting = ended.iter().filter(|ended| !**ended).count();
    assert!(
        waiting > 0 && waiting * bytes <= limits::SMALL_ANSWERS_UNSENT_MAX,
        "{waiting}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_call_ends_whose_request_does_not_arrive() {
    let world = World::new().await;
    let mut client = http2(&world).await;
    for (timeout, after) in [(None, 30), (Some("2S"), 2)] {
        let mut request = publish();
        if let Some(timeout) = timeout {
            request = request.header("grpc-timeout", timeout);
        }
        let request = request.body(()).expect("a request");
        let (answer, mut body) = client.send_request(request, false).expect("it is open");
        let began = Instant::now();
        let half = Bytes::from_static(&[0, 0, 0, 0, 100, 1, 2]);
        body.send_data(half, false).expect("it is open");
        let answer = answer.await.expect("an answer");
        assert_eq!(status(&answer).0, tonic::Code::DeadlineExceeded);
        assert_eq!(began.elapsed().as_secs(), after);
    }
}

#[tokio::test]
async fn too_many_headers_are_answered_and_harm_no_other_call() {
    let world = World::new().await;
    let mut client = http2(&world).await;
    let (other, mut other_body) = client
        .send_request(publish().body(()).expect("a request"), false)
        .expect("it is open");
    for (count, bytes) in [(101, 1), (66, 1000)] {
        let mut request = publish();
        for number in 0..count {
            request = request.header(format!("x-{number}"), "v".repeat(bytes));
        }
        let request = request.body(()).expect("a request");
        let (answer, _) = client.send_request(request, true).expect("it is open");
        let (code, text) = status(&answer.await.expect("an answer"));
        assert_eq!(code, tonic::Code::InvalidArgument, "{text}");
        assert!(text.contains("headers"), "{text}");
    }
    let empty = Bytes::from_static(&[0, 0, 0, 0, 0]);
    other_body.send_data(empty, true).expect("it is open");
    let (code, text) = status(&other.await.expect("an answer"));
    assert_eq!(code, tonic::Code::InvalidArgument);
    assert!(text.contains("name"), "it was carried out: {text}");
}

#[tokio::test]
async fn a_transfer_encoding_other_than_chunked_is_refused_and_ends_the_connection() {
    let world = World::new().await;
    for (headers, status) in [
        ("transfer-encoding: chunked\r\nconnection: close\r\n", "200"),
        (
            "Transfer-Encoding:  Chunked \r\nconnection: close\r\n",
            "200",
        ),
        ("transfer-encoding: gzip, chunked\r\n", "501"),
        ("transfer-encoding: identity, chunked\r\n", "501"),
        ("transfer-encoding: chunked, chunked\r\n", "501"),
        (
            "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
            "501",
        ),
        // Here HTTP/1.1 itself says that the length of the body is not known.
        ("transfer-encoding: chunked, gzip\r\n", "400"),
        ("transfer-encoding: xchunked\r\n", "400"),
    ] {
        let mut client = world.connect().await;
        let request = format!("GET / HTTP/1.1\r\nhost: x\r\n{headers}\r\n0\r\n\r\n");
        client
            .write_all(request.as_bytes())
            .await
            .expect("it is open");
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.expect("text");
        let found = answer.get(9..12);
        assert_eq!(found, Some(status), "{headers}: {answer}");
    }
}
