//! A server to ask, in one of the situations in which it answers. The only file of these tests that knows how a server
//! is put together: everything else goes through gRPC and REST.

use std::{future::Future, sync::Arc, time::Duration};

use axum::body::Body;
use http::{Request, Response};
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::call;
use crate::{
    clock::{Clock, ManualClock, Timestamp},
    random::Random,
    service::{Guarded, NodeLease, Service, StoreError},
    store::{
        Membership, StateStore,
        faulty::{Faults, Faulty, faulty_state},
        memory::{MemoryLog, MemoryState},
    },
    wire::{
        calls::Calls,
        dispatch::Dispatch,
        grpc::{self, health::Health},
        rest,
    },
};

/// What a server is like that is asked.
#[derive(Clone, Debug)]
pub(super) enum Situation {
    /// Everything works.
    Serving,
    /// The caller may do nothing.
    Denying,
    /// The node has a lease that will run out.
    WithLease,
    /// The node has none.
    WithoutLease,
    /// Another node delivers every subscription.
    NotOwner,
    /// It was told to stop, and connections that are open are still answered.
    Stopping,
    /// Every call of the state store fails.
    StateFails(StoreError),
    /// The same, when a subscription is being delivered and the resources are remembered.
    StateFailsInUse(StoreError),
    /// Every call of the message log fails.
    LogFails(StoreError),
}

impl Situation {
    /// The lease of the node.
    fn node_lease(&self, clock: &Clock) -> NodeLease {
        let (node_lease, renewer) = NodeLease::renewable(clock.clone());
        match self {
            Self::WithoutLease => node_lease,
            Self::WithLease => {
                renewer.renew(clock.now() + LEASE, clock.reading());
                node_lease
            }
            _ => NodeLease::always(),
        }
    }
}

/// A node of which nothing but its lease matters.
struct Node(NodeLease);

impl Membership for Node {
    fn node_lease(&self) -> NodeLease {
        self.0.clone()
    }
}

/// What the resources are made with, over gRPC, before anything is asked.
fn there_is() -> Vec<(&'static str, Value)> {
    let topic = |id: &str| json!({"name": format!("projects/p/topics/{id}")});
    let subscription = |id: &str, topic: &str| {
        json!({
            "name": format!("projects/p/subscriptions/{id}"),
            "topic": format!("projects/p/topics/{topic}"),
        })
    };
    vec![
        ("Publisher/CreateTopic", topic("top")),
        ("Publisher/CreateTopic", topic("gone")),
        ("Subscriber/CreateSubscription", subscription("sub", "top")),
        (
            "Subscriber/CreateSubscription",
            subscription("detached", "top"),
        ),
        (
            "Subscriber/CreateSubscription",
            subscription("orphan", "gone"),
        ),
        (
            "Publisher/DetachSubscription",
            json!({"subscription": "projects/p/subscriptions/detached"}),
        ),
        (
            "Publisher/DeleteTopic",
            json!({"topic": "projects/p/topics/gone"}),
        ),
        (
            "Publisher/Publish",
            json!({"topic": "projects/p/topics/top", "messages": [{"data": "b25l"}]}),
        ),
    ]
}

/// What has a server remember what it uses.
fn in_use() -> [(&'static str, Value); 2] {
    let publish = json!({"topic": "projects/p/topics/top", "messages": [{"data": "dHdv"}]});
    [("Publisher/Publish", publish), pull()]
}

fn pull() -> (&'static str, Value) {
    let request = json!({
        "subscription": "projects/p/subscriptions/sub",
        "maxMessages": 1,
        "returnImmediately": true,
    });
    ("Subscriber/Pull", request)
}

/// How long an answer may take before the test fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long the lease of a node holds that has one.
const LEASE: Duration = Duration::from_secs(10);

/// A server with topics, subscriptions and a message in memory.
pub(super) struct World {
    stores: Stores,
    server: Server,
    hand: Arc<ManualClock>,
    /// Of a delivery of the message, which is outstanding.
    pub(super) ack_id: String,
}

/// What outlives a server.
#[derive(Clone)]
struct Stores {
    state: Arc<MemoryState>,
    log: Arc<MemoryLog>,
    clock: Clock,
}

struct Server {
    dispatch: Dispatch,
    service: Arc<Service>,
}

impl Stores {
    async fn serve(&self, situation: &Situation, faults: (&Faults, &Faults)) -> Server {
        let state = StateStore {
            membership: Arc::new(Node(situation.node_lease(&self.clock))),
            ..faulty_state(&self.state, faults.0)
        };
        let log = Faulty::new(&self.log, faults.1);
        let service = Service::start(state, log, self.clock.clone(), Random::seeded(1));
        let service = Arc::new(service);
        let guarded = match situation {
            Situation::Denying => Guarded::closed(Arc::clone(&service)),
            _ => Guarded::open(Arc::clone(&service)),
        };
        let (_health, health_rpcs) = Health::new().await;
        let services = grpc::services(&guarded, health_rpcs).expect("descriptors");
        let calls = Calls::new(services, guarded.node_lease(), CancellationToken::new());
        let rest = rest::service(calls.clone(), guarded).expect("routes");
        Server {
            dispatch: Dispatch::new(calls, rest),
            service,
        }
    }
}

impl World {
    pub(super) async fn new(situation: &Situation) -> Self {
        let (clock, hand) = Clock::manual(Timestamp::from_millis(1_000_000_000));
        let stores = Stores {
            state: Arc::new(MemoryState::new().expect("random bytes")),
            log: Arc::new(MemoryLog::new(clock.clone(), usize::MAX)),
            clock,
        };
        let (of_state, of_log) = (Faults::default(), Faults::default());
        let faults = (&of_state, &of_log);
        let server = stores.serve(&Situation::Serving, faults).await;
        let mut world = Self {
            stores,
            server,
            hand: Arc::new(hand),
            ack_id: String::new(),
        };
        for (rpc, request) in there_is() {
            world.made(rpc, request).await;
        }
        let (rpc, pull) = pull();
        let pulled = world.made(rpc, pull).await;
        let ack_id = pulled["receivedMessages"][0]["ackId"].as_str();
        world.ack_id = ack_id.expect("a message").to_owned();

        // Another one over the same stores, which remembers nothing of them.
        world.stop().await;
        world.server = world.stores.serve(situation, faults).await;
        match situation {
            Situation::Serving
            | Situation::Denying
            | Situation::WithLease
            | Situation::WithoutLease => {}
            Situation::NotOwner => of_state.own("node-b", "b.example:8085"),
            Situation::Stopping => world.stop().await,
            Situation::StateFails(error) => of_state.always(error.clone()),
            Situation::StateFailsInUse(error) => {
                for (rpc, request) in in_use() {
                    world.made(rpc, request).await;
                }
                of_state.always(error.clone());
            }
            Situation::LogFails(error) => of_log.always(error.clone()),
        }
        world
    }

    /// Another server over the same stores.
    pub(super) async fn another(&self) -> Self {
        let none = Faults::default();
        let faults = (&none, &none);
        Self {
            stores: self.stores.clone(),
            server: self.stores.serve(&Situation::Serving, faults).await,
            hand: Arc::clone(&self.hand),
            ack_id: self.ack_id.clone(),
        }
    }

    async fn made(&self, rpc: &str, request: Value) -> Value {
        let answer = call::grpc(self, rpc, &[request]).await;
        let mut messages = answer.expect_ok(rpc);
        messages.pop().expect("an answer")
    }

    /// Stops taking requests for messages, as a server does before it closes its connections.
    pub(super) async fn stop(&self) {
        self.in_time(self.server.service.drain()).await;
    }

    /// What a request is answered with.
    pub(super) async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let answer = self.server.dispatch.clone().oneshot(request);
        let Ok(response) = self.in_time(answer).await;
        response
    }

    /// The result of `future`. The clock stands still.
    pub(super) async fn in_time<T>(&self, future: impl Future<Output = T>) -> T {
        timeout(PATIENCE, future).await.expect("an answer in time")
    }

    /// Lets time go on by so much.
    pub(super) fn advance(&self, by: Duration) {
        self.hand.advance(by);
    }

    /// Lets the node's lease run out.
    pub(super) fn lose_node_lease(&self) {
        self.advance(LEASE);
    }
}
