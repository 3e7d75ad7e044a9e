//! Two servers on one Kafka and one Postgres.

use tonic::{Code, Status};

use super::{Client, location::Location, process::Process};

/// The servers `node-a` and `node-b`, each with a client that is connected to it alone.
pub(crate) struct Nodes {
    pub(crate) location: Location,
    pub(crate) a: Process,
    pub(crate) b: Process,
    pub(crate) on_a: Client,
    pub(crate) on_b: Client,
}

impl Nodes {
    pub(crate) async fn start() -> Self {
        Self::at(Location::kafka_and_postgres().await).await
    }

    /// On the services of `location`.
    pub(crate) async fn at(location: Location) -> Self {
        let (a, b) = tokio::join!(
            Process::serve_at(&location, "node-a"),
            Process::serve_at(&location, "node-b")
        );
        Self {
            on_a: a.client().await,
            on_b: b.client().await,
            location,
            a,
            b,
        }
    }

    /// With the topic `orders` and its subscription `orders-worker`.
    pub(crate) async fn with_subscription() -> (Self, String, String) {
        let nodes = Self::start().await;
        let topic = nodes.on_a.topic("orders").await;
        let subscription = nodes.on_a.subscription("orders-worker", &topic).await;
        (nodes, topic, subscription)
    }
}

/// Fails unless a call was refused because another node, this one, delivers the subscription.
#[track_caller]
pub(crate) fn assert_owned_by<T>(result: Result<T, Status>, node: &str) {
    let Err(status) = result else {
        panic!("accepted, although {node} delivers the subscription");
    };
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert!(status.message().contains(node), "{status:?}");
}
