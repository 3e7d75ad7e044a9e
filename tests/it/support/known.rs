//! What clients know of servers that are killed, frozen or cut off while they use them: what was answered, and so must
//! never be lost or undone.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::time::Instant;
use tonic::Status;

use super::{
    Client,
    backlog::pull_request,
    values::{Received, ack_ids, message, publish_request},
};

/// Cheap to clone; the clones know the same.
#[derive(Clone, Default)]
pub(crate) struct Known(Arc<Mutex<Ids>>);

/// Message ids.
#[derive(Default)]
struct Ids {
    published: HashSet<String>,
    /// An ack was answered, and when.
    acked: HashMap<String, Instant>,
    /// An ack was sent; whether it counts, nobody knows.
    maybe_acked: HashSet<String>,
}

impl Known {
    /// Publishes `count` messages of 1,000 bytes.
    pub(crate) async fn publish(
        &self,
        client: &Client,
        topic: &str,
        count: usize,
    ) -> Result<(), Status> {
        let request = publish_request(topic, &vec![message("x".repeat(1000)); count]);
        let answer = client.publisher().publish(request).await?;
        let ids = answer.into_inner().message_ids;
        self.0.lock().published.extend(ids);
        Ok(())
    }

    /// Pulls what is there, at most `max` messages, and acknowledges it. Returns how many came.
    pub(crate) async fn pull_and_ack(
        &self,
        client: &Client,
        subscription: &str,
        max: i32,
    ) -> Result<usize, Status> {
        let asked = Instant::now();
        let request = pull_request(subscription, max, true);
        let answer = client.subscriber().pull(request).await?.into_inner();
        let received = answer.received_messages.into_iter();
        let received: Vec<_> = received.map(Received::from).collect();
        self.received(&received, asked);
        self.ack(client, subscription, &received).await?;
        Ok(received.len())
    }

    /// Fails if any of it was acknowledged before, and that was answered before it was asked for, `since` then. A server
    /// may be frozen in the middle of an answer: that arrives late, as if the network were slow.
    #[track_caller]
    pub(crate) fn received(&self, received: &[Received], since: Instant) {
        let ids = self.0.lock();
        for id in received.iter().map(|one| &one.message.message_id) {
            let acked = ids.acked.get(id);
            assert!(
                acked.is_none_or(|acked| *acked >= since),
                "{id} came although its ack had been answered"
            );
        }
    }

    /// Acknowledges.
    pub(crate) async fn ack(
        &self,
        client: &Client,
        subscription: &str,
        received: &[Received],
    ) -> Result<(), Status> {
        if received.is_empty() {
            return Ok(());
        }
        let ids = || received.iter().map(|one| one.message.message_id.clone());
        self.0.lock().maybe_acked.extend(ids());
        client.ack(subscription, ack_ids(received)).await?;
        let now = Instant::now();
        self.0.lock().acked.extend(ids().map(|id| (id, now)));
        Ok(())
    }

    /// Number of messages whose publish was answered.
    pub(crate) fn published(&self) -> usize {
        self.0.lock().published.len()
    }

    /// Number of messages whose ack was answered.
    pub(crate) fn acked(&self) -> usize {
        self.0.lock().acked.len()
    }

    /// Receives until everything has come that was published and not acknowledged. What is leased to a client that is
    /// gone comes back within its 10 s.
    pub(crate) async fn receive_the_rest(&self, client: &Client, subscription: &str) {
        let mut missing: HashSet<_> = {
            let ids = self.0.lock();
            let missing = ids.published.difference(&ids.maybe_acked);
            missing.cloned().collect()
        };
        while !missing.is_empty() {
            let asked = Instant::now();
            let received = client.receive_some(subscription, 1000).await;
            self.received(&received, asked);
            for received in received {
                missing.remove(&received.message.message_id);
            }
        }
    }
}
