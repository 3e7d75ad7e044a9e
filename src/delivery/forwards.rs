//! The dead letters of one subscription that are being forwarded, as its driver has them.

use std::sync::Arc;

use futures_util::{
    StreamExt as _,
    future::{BoxFuture, FutureExt as _},
    stream::FuturesUnordered,
};
use parking_lot::Mutex;

use super::{
    forward::{Batch, Ended, Refusal},
    forwarding::Forwarded,
    node::Node,
};
use crate::{
    engine::output::DeadLetter, limits::FORWARD_RETRY_MILLIS, store::resources::SubscriptionRecord,
};

/// See the module. At most one batch of each partition.
pub(super) struct Forwards {
    node: Arc<Node>,
    record: Arc<SubscriptionRecord>,
    refusal: Arc<Mutex<Option<Refusal>>>,
    on_their_way: FuturesUnordered<BoxFuture<'static, Ended>>,
    /// What was published and is acknowledged with the next flush, or with the one on its way.
    published: Vec<Forwarded>,
    flushing: Vec<Forwarded>,
    /// No more are started.
    is_ending: bool,
}

impl Forwards {
    /// None yet.
    pub(super) fn new(node: &Arc<Node>, record: &Arc<SubscriptionRecord>) -> Self {
        Self {
            node: Arc::clone(node),
            record: Arc::clone(record),
            refusal: Arc::default(),
            on_their_way: FuturesUnordered::new(),
            published: Vec::new(),
            flushing: Vec::new(),
            is_ending: false,
        }
    }

    /// Starts to forward dead letters of a partition.
    pub(super) fn start(&self, partition: u32, generation: u32, messages: Vec<DeadLetter>) {
        if self.is_ending {
            return;
        }
        let batch = Batch {
            node: Arc::clone(&self.node),
            record: Arc::clone(&self.record),
            refusal: Arc::clone(&self.refusal),
            partition,
            generation,
            messages,
        };
        let lost = Ended::all(&batch, batch.later(FORWARD_RETRY_MILLIS));
        #[cfg(test)]
        if crate::sim::planted::Bug::AckedBeforePublished.is_planted() {
            let done = Ended::all(&batch, crate::engine::dead_letter::Outcome::Done);
            tokio::spawn(batch.forward());
            self.on_their_way.push(std::future::ready(done).boxed());
            return;
        }
        // A task of its own: a publication that was sent comes to its end, whatever becomes of the driver.
        let task = tokio::spawn(batch.forward());
        let ended = async move { task.await.unwrap_or(lost) };
        self.on_their_way.push(ended.boxed());
    }

    /// The next batch of which something comes; `None` when none is on its way. Safe to cancel.
    pub(super) async fn next(&mut self) -> Option<Ended> {
        let ended = self.on_their_way.next().await?;
        let subscription = self.record.id;
        let published = ended.done().into_iter().map(|done| Forwarded {
            subscription,
            partition: done.partition,
            generation: done.generation,
            offset: done.offset,
        });
        self.published.extend(published);
        Some(ended)
    }

    /// From now on no more are started.
    pub(super) fn end(&mut self) {
        self.is_ending = true;
    }

    /// A flush starts with all that there is to store urgently.
    pub(super) fn flush_started(&mut self) {
        self.flushing.append(&mut self.published);
    }

    /// The flush is durable, or its changes are to be stored again.
    pub(super) fn flushed(&mut self, stored: bool) {
        if stored {
            self.node.forwarding.forget(&self.flushing);
            self.flushing.clear();
        } else {
            self.published.append(&mut self.flushing);
        }
    }
}
