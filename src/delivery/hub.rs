//! Finds the driver of a subscription, and starts it when there is none.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    activity::Activity,
    changes,
    consumer::{MessageStream, PendingPull},
    driver::{self, Command},
    flusher::Flusher,
    retention,
};
use crate::{
    clock::Clock,
    engine::input::{Config, ConsumerId, Demand, LeaseId},
    limits::{DRIVER_QUEUE_MAX, RETENTION_BYTES, STREAM_FRAMES_MAX},
    resource::id::{SubscriptionId, TopicIncarnation},
    store::{
        Lease, MessageLog, StateStore, cached::CachedResources, resources::SubscriptionRecord,
    },
};

/// Why deliveries of a subscription ended, or could not be had.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EndCause {
    /// The subscription was deleted.
    #[error("the subscription was deleted")]
    Deleted,
    /// The subscription was detached from its topic.
    #[error("the subscription is detached from its topic")]
    Detached,
    /// The server stops.
    #[error("the server is stopping; try again")]
    Stopping,
    /// Somebody else delivers the subscription now.
    #[error("another server took the subscription over; try again")]
    TakenOver,
    /// A living server delivers the subscription; the text names it.
    #[error(
        "the subscription is delivered by {0}; try again there, or when that server has given it up"
    )]
    OwnedBy(String),
    /// Too many consumers at once.
    #[error("the subscription has {0} consumers, which is the limit")]
    TooManyConsumers(usize),
    /// The store does not answer; the text is its error's.
    #[error("{0}; try again")]
    Unavailable(String),
    /// What is stored cannot be read.
    #[error("stored data is damaged: {0}")]
    Damaged(String),
}

impl EndCause {
    /// This server may not speak for its subscriptions.
    pub(super) fn cut_off() -> Self {
        Self::Unavailable("this server cannot reach the state store".to_owned())
    }
}

/// What a stream asks for when it opens.
#[derive(Clone, Copy, Debug)]
pub struct StreamOpening {
    /// Lease of its deliveries, milliseconds.
    pub ack_deadline_millis: u64,
    /// Outstanding messages at most; `None` for no limit.
    pub messages_max: Option<u64>,
    /// Outstanding bytes below which it gets another message; `None` for no limit.
    pub bytes_max: Option<u64>,
}

/// All drivers of this node. Cheap to clone.
#[derive(Clone)]
pub struct Hub(Arc<Shared>);

pub(super) struct Shared {
    pub(super) store: StateStore,
    /// The same topics and subscriptions, in memory.
    pub(super) resources: Arc<CachedResources>,
    pub(super) log: Arc<dyn MessageLog>,
    pub(super) lease: Lease,
    pub(super) clock: Clock,
    pub(super) flusher: Flusher,
    pub(super) activity: Activity,
    pub(super) stopping: CancellationToken,
    running: Mutex<HashMap<SubscriptionId, Running>>,
    consumers: AtomicU64,
    drivers: TaskTracker,
}

struct Running {
    commands: mpsc::Sender<Command>,
    config: watch::Sender<Config>,
    /// Of the subscription that the configuration is of.
    version: u64,
}

impl Hub {
    /// A hub without drivers, and its flush and retention tasks.
    pub fn start(
        store: StateStore,
        resources: Arc<CachedResources>,
        log: Arc<dyn MessageLog>,
        clock: Clock,
    ) -> Self {
        let (flusher, flush_task) = Flusher::new(Arc::clone(&store.positions));
        let shared = Arc::new(Shared {
            lease: store.membership.lease(),
            store,
            resources,
            log,
            clock,
            flusher,
            activity: Activity::default(),
            stopping: CancellationToken::new(),
            running: Mutex::default(),
            consumers: AtomicU64::new(1),
            drivers: TaskTracker::new(),
        });
        // Ends with the last clone of the flusher, after the last driver.
        tokio::spawn(flush_task);
        shared.drivers.spawn(retention::run(Arc::clone(&shared)));
        shared.drivers.spawn(changes::apply(Arc::clone(&shared)));
        shared
            .drivers
            .spawn(changes::watch_lease(Arc::clone(&shared)));
        Self(shared)
    }

    /// Asks for up to `messages_max` messages. `immediate`: without waiting for any.
    pub async fn pull(
        &self,
        subscription: &Arc<SubscriptionRecord>,
        messages_max: usize,
        immediate: bool,
    ) -> Result<PendingPull, EndCause> {
        let consumer = self.next_consumer();
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
        self.0.send(subscription, command).await?;
        opened.await.unwrap_or(Err(EndCause::Stopping))
    }

    /// Opens a stream.
    pub async fn stream(
        &self,
        subscription: &Arc<SubscriptionRecord>,
        opening: StreamOpening,
    ) -> Result<MessageStream, EndCause> {
        let consumer = self.next_consumer();
        let demand = Demand::Stream {
            ack_deadline_millis: opening.ack_deadline_millis,
            messages_max: opening.messages_max.unwrap_or(u64::MAX),
            bytes_max: opening.bytes_max.unwrap_or(u64::MAX),
            frames: STREAM_FRAMES_MAX as u32,
        };
        let (reply, opened) = oneshot::channel();
        let command = Command::Stream {
            consumer,
            demand,
            reply,
        };
        self.0.send(subscription, command).await?;
        opened.await.unwrap_or(Err(EndCause::Stopping))
    }

    /// Changes the lease of a stream's later deliveries.
    pub async fn set_stream_deadline(
        &self,
        subscription: &Arc<SubscriptionRecord>,
        consumer: ConsumerId,
        ack_deadline_millis: u64,
    ) -> Result<(), EndCause> {
        let command = Command::StreamDeadline {
            consumer,
            ack_deadline_millis,
        };
        self.0.send(subscription, command).await
    }

    /// Acknowledges; returns when that is durable.
    pub async fn acknowledge(
        &self,
        subscription: &Arc<SubscriptionRecord>,
        leases: Vec<LeaseId>,
    ) -> Result<(), EndCause> {
        let (reply, done) = oneshot::channel();
        let reply = Some(reply);
        self.0
            .send(subscription, Command::Ack { leases, reply })
            .await?;
        done.await.unwrap_or(Err(EndCause::Stopping))
    }

    /// Acknowledges without waiting, as a stream does.
    pub async fn acknowledge_later(
        &self,
        subscription: &Arc<SubscriptionRecord>,
        leases: Vec<LeaseId>,
    ) -> Result<(), EndCause> {
        let reply = None;
        self.0
            .send(subscription, Command::Ack { leases, reply })
            .await
    }

    /// Moves deadlines to now plus so many milliseconds; 0 gives a message back.
    pub async fn modify_deadlines(
        &self,
        subscription: &Arc<SubscriptionRecord>,
        changes: Vec<(LeaseId, u64)>,
    ) -> Result<(), EndCause> {
        let (reply, done) = oneshot::channel();
        self.0
            .send(subscription, Command::Modify { changes, reply })
            .await?;
        done.await.unwrap_or(Err(EndCause::Stopping))
    }

    /// A subscription's configuration changed. Of two changes the later one counts, whichever is told last.
    pub fn configure(&self, subscription: &SubscriptionRecord) {
        self.0.configure(subscription);
    }

    /// Ends the delivery of a subscription that was deleted or detached in the store.
    pub async fn end(&self, id: SubscriptionId, cause: EndCause) {
        self.0.end(id, cause).await;
    }

    /// Messages were appended to a topic's log.
    pub fn appended(&self, topic: TopicIncarnation, bytes: u64) {
        if self.0.log.trims() {
            self.0.activity.add(topic, bytes, self.0.clock.now());
        }
    }

    /// A topic's log may be needed by fewer than before, or could not be made: retention is to look at it
    /// at once.
    pub fn touched(&self, topic: TopicIncarnation) {
        let now = self.0.clock.now();
        self.0.activity.add(topic, RETENTION_BYTES, now);
    }

    /// Whether [`Hub::drain`] was called.
    pub fn is_stopping(&self) -> bool {
        self.0.stopping.is_cancelled()
    }

    /// Ends all streams and pulls, stores everything, and returns when that is done. Later requests are refused.
    pub async fn drain(&self) {
        self.0.stopping.cancel();
        self.0.drivers.close();
        self.0.drivers.wait().await;
    }

    fn next_consumer(&self) -> ConsumerId {
        ConsumerId(self.0.consumers.fetch_add(1, Ordering::Relaxed))
    }
}

impl Shared {
    /// Hands a command to the subscription's driver.
    pub(super) async fn send(
        self: &Arc<Self>,
        subscription: &Arc<SubscriptionRecord>,
        mut command: Command,
    ) -> Result<(), EndCause> {
        // A driver that gives up while we look for it takes no more; the next one is ours.
        loop {
            match self.driver(subscription)?.send(command).await {
                Ok(()) => return Ok(()),
                Err(mpsc::error::SendError(unsent)) => command = unsent,
            }
        }
    }

    fn driver(
        self: &Arc<Self>,
        record: &Arc<SubscriptionRecord>,
    ) -> Result<mpsc::Sender<Command>, EndCause> {
        let mut running = self.running.lock();
        if self.stopping.is_cancelled() {
            return Err(EndCause::Stopping);
        }
        if !self.lease.holds() {
            return Err(EndCause::cut_off());
        }
        if let Some(driver) = running.get(&record.id)
            && !driver.commands.is_closed()
        {
            return Ok(driver.commands.clone());
        }
        let (commands, waiting) = mpsc::channel(DRIVER_QUEUE_MAX);
        let (config, changes) = watch::channel(engine_config(record));
        running.insert(
            record.id,
            Running {
                commands: commands.clone(),
                config,
                version: record.version,
            },
        );
        self.drivers.spawn(driver::run(
            Arc::clone(self),
            Arc::clone(record),
            waiting,
            changes,
        ));
        Ok(commands)
    }

    /// Forgets a driver, so that the next request starts another. `unless_waiting`: not if somebody asked it for
    /// something meanwhile; then this returns false.
    pub(super) fn forget(
        &self,
        id: SubscriptionId,
        waiting: &mut mpsc::Receiver<Command>,
        unless_waiting: bool,
    ) -> bool {
        let mut running = self.running.lock();
        if unless_waiting && !waiting.is_empty() {
            return false;
        }
        waiting.close();
        running.remove(&id);
        true
    }

    /// Ends a subscription's driver, if there is one.
    pub(super) async fn end(&self, id: SubscriptionId, cause: EndCause) {
        let commands = self
            .running
            .lock()
            .get(&id)
            .map(|running| running.commands.clone());
        let (reply, done) = oneshot::channel();
        if let Some(commands) = commands
            && commands.send(Command::End { cause, reply }).await.is_ok()
        {
            // A driver that went away meanwhile has ended as well.
            drop(done.await);
        }
    }

    /// Ends all drivers.
    pub(super) async fn end_all(&self, cause: &EndCause) {
        let ids: Vec<_> = self.running.lock().keys().copied().collect();
        for id in ids {
            self.end(id, cause.clone()).await;
        }
    }

    /// Gives the driver, if there is one, this configuration, unless it has a newer one.
    pub(super) fn configure(&self, record: &SubscriptionRecord) {
        if let Some(running) = self.running.lock().get_mut(&record.id)
            && running.version < record.version
        {
            running.version = record.version;
            running.config.send_replace(engine_config(record));
        }
    }
}

fn engine_config(record: &SubscriptionRecord) -> Config {
    let subscription = &record.subscription;
    let retention = if record.log.place.attached {
        // Whoever made the log says how long it keeps a message.
        Duration::MAX
    } else {
        subscription.message_retention
    };
    Config {
        ack_deadline_millis: u64::from(subscription.ack_deadline_seconds) * 1000,
        retention_millis: u64::try_from(retention.as_millis()).unwrap_or(u64::MAX),
    }
}
