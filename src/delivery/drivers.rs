//! Hands requests to the driver of their subscription, and starts it when there is none.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

use super::{
    activity::Freed,
    budget::Budget,
    changes,
    command::{Command, Skipped},
    consumer::{MessageStream, PendingPull},
    driver,
    error::{DeliveryError, EndCause},
    flusher::Flusher,
    judgement::Judgement,
    node::{Node, engine_config},
    owed, resume, retention,
};
use crate::{
    clock::Clock,
    engine::{
        input::{ConsumerId, Demand, LeaseId},
        output::Verdict,
    },
    limits::STREAM_FRAMES_MAX,
    resource::id::{SubscriptionId, TopicIncarnation},
    store::{
        MessageLog, StateStore, cached::CachedResources, operations::Operations,
        resources::SubscriptionRecord,
    },
};

/// What a stream asks for when it opens.
#[derive(Clone, Debug)]
pub struct StreamOpening {
    /// Who opens it; empty if that was not said.
    pub client_id: String,
    /// Lease of its deliveries, milliseconds.
    pub ack_deadline_millis: u64,
    /// Outstanding messages at most; `None` for no limit.
    pub messages_max: Option<u64>,
    /// Outstanding bytes below which it gets another message; `None` for no limit.
    pub bytes_max: Option<u64>,
}

/// All drivers of this node. Cheap to clone.
#[derive(Clone)]
pub struct Drivers {
    pub(super) node: Arc<Node>,
    tasks: TaskTracker,
}

impl Drivers {
    /// None yet, and the tasks for flushes, retention and changes. All subscriptions together hold at most
    /// `bytes_held_max` bytes of messages on their way from the log to clients, and what small reads find beside that.
    pub fn start(
        store: StateStore,
        resources: Arc<CachedResources>,
        log: Arc<dyn MessageLog>,
        operations: Arc<Operations>,
        clock: Clock,
        bytes_held_max: usize,
    ) -> Self {
        let positions = Arc::clone(&store.positions);
        let (flusher, flush_task) = Flusher::new(positions, Arc::clone(&operations));
        let budget = Budget::new(bytes_held_max);
        let node = Node::new(store, resources, log, operations, clock, flusher, budget);
        let node = Arc::new(node);
        // Ends with the last clone of the flusher, after the last driver.
        tokio::spawn(flush_task);
        let tasks = TaskTracker::new();
        let drivers = Self {
            node: Arc::clone(&node),
            tasks: tasks.clone(),
        };
        tasks.spawn(retention::run(drivers.clone()));
        tasks.spawn(resume::run(drivers.clone()));
        tasks.spawn(changes::apply(Arc::clone(&node)));
        tasks.spawn(changes::watch_lease(Arc::clone(&node)));
        tasks.spawn(owed::give_up(node));
        drivers
    }

    /// Asks for up to `messages_max` messages. `immediate`: without waiting for any.
    pub async fn pull(
        &self,
        subscription: &Arc<SubscriptionRecord>,
        messages_max: usize,
        immediate: bool,
    ) -> Result<PendingPull, DeliveryError> {
        let consumer = self.node.next_consumer();
        let demand = Demand::Pull {
            messages_max,
            immediate,
        };
        let (reply, opened) = oneshot::channel();
        let command = Command::Pull {
            consumer,
            demand,
            reply,
        };
        self.send(subscription, command).await?;
        opened.await.unwrap_or(Err(EndCause::Stopping.into()))
    }

    /// Opens a stream.
    pub async fn stream(
        &self,
        subscription: &Arc<SubscriptionRecord>,
        opening: StreamOpening,
    ) -> Result<MessageStream, DeliveryError> {
        let consumer = self.node.next_consumer();
        let demand = Demand::Stream {
            ack_deadline_millis: opening.ack_deadline_millis,
            messages_max: opening.messages_max.unwrap_or(u64::MAX),
            bytes_max: opening.bytes_max.unwrap_or(u64::MAX),
            frames: STREAM_FRAMES_MAX as u32,
        };
        let (reply, opened) = oneshot::channel();
        let command = Command::Stream {
            consumer,
            client: self.node.client(&opening.client_id),
            demand,
            reply,
        };
        self.send(subscription, command).await?;
        opened.await.unwrap_or(Err(EndCause::Stopping.into()))
    }

    /// Changes the lease of a stream's later deliveries.
    pub async fn set_stream_deadline(
        &self,
        subscription: &Arc<SubscriptionRecord>,
        consumer: ConsumerId,
        ack_deadline_millis: u64,
    ) -> Result<(), DeliveryError> {
        let command = Command::StreamDeadline {
            consumer,
            ack_deadline_millis,
        };
        self.send(subscription, command).await
    }

    /// Acknowledges; returns when that is durable. See [`Judgement::pronounced`].
    pub async fn acknowledge(
        &self,
        subscription: &Arc<SubscriptionRecord>,
        leases: Vec<LeaseId>,
    ) -> Result<Vec<Verdict>, DeliveryError> {
        let judgement = self.begin_acknowledge(subscription, leases).await?;
        judgement.pronounced().await
    }

    /// Acknowledges. The judgement comes when that is durable.
    pub async fn begin_acknowledge(
        &self,
        subscription: &Arc<SubscriptionRecord>,
        leases: Vec<LeaseId>,
    ) -> Result<Judgement, DeliveryError> {
        let (reply, judged) = oneshot::channel();
        let reply = Some(reply);
        self.send(subscription, Command::Ack { leases, reply })
            .await?;
        Ok(Judgement(judged))
    }

    /// Acknowledges without an answer, as a stream does where delivery is at least once.
    pub async fn acknowledge_later(
        &self,
        subscription: &Arc<SubscriptionRecord>,
        leases: Vec<LeaseId>,
    ) -> Result<(), DeliveryError> {
        let reply = None;
        self.send(subscription, Command::Ack { leases, reply })
            .await
    }

    /// Moves deadlines to now plus so many milliseconds; 0 gives a message back. Where delivery is exactly once, returns
    /// when that is durable.
    pub async fn modify_deadlines(
        &self,
        subscription: &Arc<SubscriptionRecord>,
        changes: Vec<(LeaseId, u64)>,
    ) -> Result<Vec<Verdict>, DeliveryError> {
        let judgement = self.begin_modify(subscription, changes).await?;
        judgement.pronounced().await
    }

    /// As [`Drivers::modify_deadlines`], without waiting for the judgement.
    pub async fn begin_modify(
        &self,
        subscription: &Arc<SubscriptionRecord>,
        changes: Vec<(LeaseId, u64)>,
    ) -> Result<Judgement, DeliveryError> {
        let (reply, judged) = oneshot::channel();
        self.send(subscription, Command::Modify { changes, reply })
            .await?;
        Ok(Judgement(judged))
    }

    /// Counts what a filter leaves out as done; returns when that is durable. A driver that is started for nothing else
    /// gives the subscription up then.
    pub(super) async fn skip(
        &self,
        subscription: &Arc<SubscriptionRecord>,
        skipped: Vec<Skipped>,
    ) -> Result<(), DeliveryError> {
        let (reply, done) = oneshot::channel();
        self.send(subscription, Command::Skip { skipped, reply })
            .await?;
        done.await.unwrap_or(Err(EndCause::Stopping.into()))
    }

    /// Has the subscription's driver do what it does by itself; returns when it has begun. One that is started for nothing
    /// else gives the subscription up when nothing is left to do.
    pub(super) async fn wake(
        &self,
        subscription: &Arc<SubscriptionRecord>,
    ) -> Result<(), DeliveryError> {
        let (reply, done) = oneshot::channel();
        self.send(subscription, Command::Wake { reply }).await?;
        done.await.unwrap_or(Err(EndCause::Stopping.into()))
    }

    /// A subscription's configuration changed. Of two changes the later one counts, whichever is told last. Returns when
    /// its driver, if there is one, has applied it, or ended; where it changed whether delivery is exactly once, when what
    /// was delivered before is stored, or that failed.
    pub async fn configure(&self, subscription: &SubscriptionRecord) -> Result<(), DeliveryError> {
        self.node.configure(subscription).await
    }

    /// Ends the delivery of a subscription that was deleted or detached in the store.
    pub async fn end(&self, id: SubscriptionId, cause: EndCause) {
        self.node.registry.end(id, cause).await;
    }

    /// A topic's log may be needed by fewer than before, or could not be made: retention is to check it at once.
    pub fn mark_for_retention(&self, topic: TopicIncarnation) {
        let now = self.node.clock.now();
        self.node.activity.add(topic, Freed::everything(), now);
    }

    /// Whether [`Drivers::drain`] was called.
    pub fn is_stopping(&self) -> bool {
        self.node.stopping.is_cancelled()
    }

    /// Ends all streams and pulls, stores everything, and returns when that is done. Later requests are refused.
    pub async fn drain(&self) {
        self.node.stopping.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Hands a command to the subscription's driver.
    async fn send(
        &self,
        subscription: &Arc<SubscriptionRecord>,
        mut command: Command,
    ) -> Result<(), DeliveryError> {
        // A driver that gives up meanwhile takes no more; the next one is ours.
        loop {
            let driver = self.driver(subscription).await?;
            match driver.send(command).await {
                Ok(()) => return Ok(()),
                Err(mpsc::error::SendError(unsent)) => command = unsent,
            }
        }
    }

    async fn driver(
        &self,
        record: &Arc<SubscriptionRecord>,
    ) -> Result<mpsc::Sender<Command>, DeliveryError> {
        self.check_serving()?;
        if let Some(driver) = self.node.registry.find(record.id) {
            return Ok(driver);
        }
        // What another node delivers costs a read, and the owner's row is left alone.
        if let Some(owner) = self.node.store.positions.owner(record.id).await? {
            return Err(DeliveryError::OwnedBy(owner));
        }
        self.check_serving()?;
        let config = engine_config(record);
        let registry = &self.node.registry;
        Ok(
            registry.find_or_start(record.id, config, record.version, |inbox| {
                let (node, record) = (Arc::clone(&self.node), Arc::clone(record));
                self.tasks.spawn(driver::run(node, record, inbox));
            }),
        )
    }

    /// Refuses while this node may not answer.
    fn check_serving(&self) -> Result<(), EndCause> {
        if self.node.stopping.is_cancelled() {
            return Err(EndCause::Stopping);
        }
        if !self.node.membership.holds() {
            return Err(EndCause::lease_lost());
        }
        Ok(())
    }
}
