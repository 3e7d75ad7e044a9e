//! Whole connections over pipes in memory, on a clock that stands still while anything is left to do.

use std::time::Duration;

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
        let routes = grpc::routes(&guarded, health).expect("descriptors");
        let calls = Calls::new(routes, guarded.node_lease(), ends.closing.clone());
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
