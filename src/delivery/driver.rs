//! The task that carries out what one subscription's engine wants.
//!
//! Its order is: store, then speak. An ack is answered when the flush that holds it is durable.

use std::{collections::BTreeMap, mem, sync::Arc};

use futures_util::future::{BoxFuture, FutureExt, OptionFuture};
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    activity::AckedBytes,
    command::{Command, Reply},
    consumer::{self, Parcel, PendingPull, StreamSender},
    error::{DeliveryError, EndCause},
    flusher::Flushed,
    mailbox::Mailbox,
    node::Node,
    reads::{Read, Reads},
    registry::Inbox,
    stored::unreadable,
};
use crate::{
    clock::Timestamp,
    engine::{
        Engine,
        input::{Config, ConsumerId, Input, LeaseId},
        output::Output,
    },
    limits::{
        BUSY_RETRY_MILLIS, COMMANDS_PER_PASS_MAX, CONSUMERS_MAX, DRIVER_IDLE_MILLIS,
        STORE_RETRY_MILLIS,
    },
    store::{
        log::LogEnds,
        positions::{Acquire, Flush, FlushOutcome},
        resources::SubscriptionRecord,
    },
};

/// Runs until the subscription ends, nobody uses it, or the server stops.
pub(super) async fn run(node: Arc<Node>, record: Arc<SubscriptionRecord>, inbox: Inbox) {
    let id = record.id;
    let Inbox {
        mut commands,
        config,
    } = inbox;
    let error = match Driver::load(&node, &record, config).await {
        Ok(mut driver) => {
            let cause = driver.drive(&mut commands).await;
            driver.finish(&mut commands, cause.as_ref()).await;
            cause.unwrap_or(EndCause::Stopping).into()
        }
        Err(error) => {
            tracing::warn!(subscription = %record.subscription.name, %error, "delivery did not start");
            node.registry.forget(id, &mut commands);
            error
        }
    };
    while let Some(command) = commands.recv().await {
        command.refuse(&error);
    }
}

/// What ended a driver's wait.
enum Wake {
    Stopping,
    Flushed(Flushed),
    Read(Read),
    /// Commands are in the batch; none when nobody can send any more.
    Commands(usize),
    /// Something that is taken in by itself, or the time.
    Other,
}

struct Driver {
    node: Arc<Node>,
    record: Arc<SubscriptionRecord>,
    epoch: u64,
    engine: Engine,
    config: watch::Receiver<Config>,
    ends: LogEnds,
    mailbox: Arc<Mailbox>,
    streams: BTreeMap<ConsumerId, StreamSender>,
    pulls: BTreeMap<ConsumerId, oneshot::Sender<Result<Option<Parcel>, EndCause>>>,
    reads: Reads,
    flush: Option<BoxFuture<'static, Flushed>>,
    /// Acks that the flush on its way makes durable.
    flushing: Vec<Reply<()>>,
    /// Acks for the next flush.
    waiting: Vec<Reply<()>>,
    flush_not_before: Timestamp,
    acked_bytes: AckedBytes,
    /// What the flush on its way lets retention delete.
    flushing_bytes: u64,
    last_used: Timestamp,
    outputs: Vec<Output>,
    /// Commands that are being taken in.
    batch: Vec<Command>,
}

impl Driver {
    async fn load(
        node: &Arc<Node>,
        record: &SubscriptionRecord,
        config: watch::Receiver<Config>,
    ) -> Result<Self, DeliveryError> {
        // What we were started with may have been read before a change; later changes find us running.
        let record = node
            .resources
            .subscription(&record.subscription.name)
            .await?
            .filter(|current| current.id == record.id)
            .ok_or(EndCause::Deleted)?;
        if record.subscription.detached {
            return Err(EndCause::Detached.into());
        }
        node.configure(&record);

        let acquired = match node.store.positions.acquire(record.id).await? {
            Acquire::Acquired(acquired) => acquired,
            Acquire::OwnedBy(owner) => return Err(DeliveryError::OwnedBy(owner)),
            Acquire::Gone => return Err(EndCause::Deleted.into()),
        };
        let mut ends = node.log.watch(&record.log).await?;
        let now_ends = ends.borrow_and_update().clone();
        let restored = Engine::restore(*config.borrow(), &acquired.partitions, &now_ends);
        let (engine, voided) = match restored {
            Ok(restored) => restored,
            Err(error) => {
                // Another node may be able to read it.
                release(node, &record, acquired.epoch).await;
                return Err(unreadable(&error).into());
            }
        };
        if !voided.is_empty() {
            tracing::error!(
                subscription = %record.subscription.name, partitions = ?voided,
                "the log ends before what this subscription has seen: messages were lost from it, and what the \
                 subscription knew of their offsets is void"
            );
        }
        Ok(Self {
            node: Arc::clone(node),
            epoch: acquired.epoch,
            engine,
            config,
            ends,
            mailbox: Arc::new(Mailbox::new(node.lease.clone())),
            streams: BTreeMap::new(),
            pulls: BTreeMap::new(),
            reads: Reads::default(),
            flush: None,
            flushing: Vec::new(),
            acked_bytes: AckedBytes::default(),
            flushing_bytes: 0,
            waiting: Vec::new(),
            flush_not_before: Timestamp::ZERO,
            last_used: node.clock.now(),
            outputs: Vec::new(),
            batch: Vec::new(),
            record,
        })
    }

    /// Returns why delivery ended; `None` when nobody uses it any more.
    async fn drive(&mut self, commands: &mut mpsc::Receiver<Command>) -> Option<EndCause> {
        loop {
            // Others may own the subscription by now, whatever was to be sent.
            if !self.node.lease.holds() {
                return Some(EndCause::lease_lost());
            }
            self.carry_out();
            self.start_flush();
            let now = self.node.clock.now();
            if self.is_unused(now) && self.node.registry.forget_idle(self.record.id, commands) {
                return None;
            }
            let wake = self.wait(now, commands).await;
            if let Some(cause) = self.take_in(wake, commands) {
                return Some(cause);
            }
        }
    }

    /// Waits until something has happened.
    async fn wait(&mut self, now: Timestamp, commands: &mut mpsc::Receiver<Command>) -> Wake {
        let wake_at = self.wake_at(now);
        let flush: OptionFuture<_> = self.flush.as_mut().into();
        tokio::select! {
            biased;
            () = self.node.stopping.cancelled() => Wake::Stopping,
            Some(flushed) = flush => Wake::Flushed(flushed),
            Some(read) = self.reads.next() => Wake::Read(read),
            taken = commands.recv_many(&mut self.batch, COMMANDS_PER_PASS_MAX) => Wake::Commands(taken),
            () = self.mailbox.rung() => Wake::Other,
            // A log is deleted when no subscription needs it any more, so ours is about to be told that it ends.
            Ok(()) = wait_for(&mut self.ends) => Wake::Other,
            Ok(()) = wait_for(&mut self.config) => Wake::Other,
            () = self.node.clock.sleep_until(wake_at) => Wake::Other,
        }
    }

    /// Takes in everything that waits, whatever ended the wait: many requests keep nothing else out. Returns a cause
    /// when delivery ends.
    fn take_in(&mut self, wake: Wake, commands: &mut mpsc::Receiver<Command>) -> Option<EndCause> {
        match wake {
            Wake::Stopping | Wake::Commands(0) => return Some(EndCause::Stopping),
            Wake::Flushed(flushed) => {
                if let Some(cause) = self.flushed(flushed) {
                    return Some(cause);
                }
            }
            Wake::Read(read) => self.loaded(read),
            Wake::Commands(_) | Wake::Other => {}
        }
        while let Some(Some(read)) = self.reads.next().now_or_never() {
            self.loaded(read);
        }
        self.read_mail();
        self.see_log_ends();
        self.see_config();
        while self.batch.len() < COMMANDS_PER_PASS_MAX
            && let Ok(command) = commands.try_recv()
        {
            self.batch.push(command);
        }
        if let Some(cause) = self.obey() {
            return Some(cause);
        }
        let now = self.node.clock.now();
        if self.engine.next_deadline().is_some_and(|due| due <= now) {
            self.handle(Input::Tick);
        }
        None
    }

    fn loaded(&mut self, read: Read) {
        let name = &self.record.subscription.name;
        let input = read.into_input(name, self.node.clock.now());
        self.handle(input);
    }

    fn handle(&mut self, input: Input) {
        let now = self.node.clock.now();
        self.engine.handle(now, input, &mut self.outputs);
    }

    fn see_log_ends(&mut self) {
        if self.ends.has_changed().unwrap_or(false) {
            let ends = self.ends.borrow_and_update().clone();
            self.handle(Input::LogEnds(ends));
        }
    }

    fn see_config(&mut self) {
        if self.config.has_changed().unwrap_or(false) {
            let config = *self.config.borrow_and_update();
            self.handle(Input::Configure(config));
        }
    }

    fn is_unused(&self, now: Timestamp) -> bool {
        now.millis_since(self.last_used) >= DRIVER_IDLE_MILLIS
            && self.streams.is_empty()
            && self.pulls.is_empty()
            && self.waiting.is_empty()
            && self.engine.is_idle()
    }

    fn wake_at(&self, now: Timestamp) -> Timestamp {
        let idle = self.last_used.plus_millis(DRIVER_IDLE_MILLIS);
        let idle = (idle > now).then_some(idle);
        let retry = (self.flush_not_before > now).then_some(self.flush_not_before);
        self.engine
            .next_deadline()
            .into_iter()
            .chain(idle)
            .chain(retry)
            .min()
            .unwrap_or(Timestamp::NEVER)
    }

    /// Carries out the commands of the batch. Acks that come together are one event. Returns a cause when delivery ends
    /// with one of them.
    fn obey(&mut self) -> Option<EndCause> {
        if self.batch.is_empty() {
            return None;
        }
        self.last_used = self.node.clock.now();
        let mut batch = mem::take(&mut self.batch);
        let mut acked = Vec::new();
        let mut commands = batch.drain(..);
        let mut cause = None;
        for command in commands.by_ref() {
            match command {
                Command::Ack { mut leases, reply } => {
                    if acked.is_empty() {
                        acked = leases;
                    } else {
                        acked.append(&mut leases);
                    }
                    self.waiting.extend(reply);
                }
                command => {
                    self.ack(mem::take(&mut acked));
                    cause = self.obey_one(command);
                }
            }
            if cause.is_some() {
                break;
            }
        }
        self.ack(acked);
        if let Some(cause) = &cause {
            let error = cause.clone().into();
            commands.by_ref().for_each(|command| command.refuse(&error));
        }
        drop(commands);
        // Its room is used again.
        self.batch = batch;
        cause
    }

    fn ack(&mut self, leases: Vec<LeaseId>) {
        if !leases.is_empty() {
            self.acked_bytes.ack(leases.len());
            self.handle(Input::Ack(leases));
        }
    }

    fn obey_one(&mut self, command: Command) -> Option<EndCause> {
        match command {
            Command::Stream {
                consumer,
                demand,
                reply,
            } => {
                if let Some(reply) = self.admit(reply) {
                    let (sender, stream) = consumer::stream(consumer, &self.mailbox);
                    self.streams.insert(consumer, sender);
                    self.handle(Input::Open { consumer, demand });
                    // Dropped with an unanswered reply, the stream says itself that it is gone.
                    drop(reply.send(Ok(stream)));
                }
            }
            Command::Pull {
                consumer,
                demand,
                reply,
            } => {
                if let Some(reply) = self.admit(reply) {
                    let (answer, receiver) = oneshot::channel();
                    self.pulls.insert(consumer, answer);
                    let pull = PendingPull::new(consumer, &self.mailbox, receiver);
                    self.handle(Input::Open { consumer, demand });
                    drop(reply.send(Ok(pull)));
                }
            }
            Command::StreamDeadline {
                consumer,
                ack_deadline_millis,
            } => self.handle(Input::StreamDeadline {
                consumer,
                ack_deadline_millis,
            }),
            Command::Ack { leases, reply } => {
                self.ack(leases);
                self.waiting.extend(reply);
            }
            Command::Modify { changes, reply } => {
                self.handle(Input::ModifyDeadline(changes));
                drop(reply.send(Ok(())));
            }
            Command::End { cause, reply } => {
                self.end_consumers(&cause);
                // The caller may be gone; it has ended all the same.
                let _ = reply.send(());
                return Some(cause);
            }
        }
        None
    }

    fn admit<T>(&self, reply: Reply<T>) -> Option<Reply<T>> {
        if self.streams.len() + self.pulls.len() < CONSUMERS_MAX {
            return Some(reply);
        }
        drop(reply.send(Err(DeliveryError::TooManyConsumers(CONSUMERS_MAX))));
        None
    }

    fn read_mail(&mut self) {
        let mail = self.mailbox.take();
        if !mail.returned.is_empty() {
            self.handle(Input::Returned(mail.returned));
        }
        for consumer in mail.closed {
            self.last_used = self.node.clock.now();
            self.streams.remove(&consumer);
            self.pulls.remove(&consumer);
            self.handle(Input::Close { consumer });
        }
        for consumer in mail.roomy {
            self.tell_room(consumer);
        }
    }

    fn tell_room(&mut self, consumer: ConsumerId) {
        if let Some(stream) = self.streams.get(&consumer) {
            let frames = stream.room();
            self.handle(Input::Room { consumer, frames });
        }
    }

    /// Carries the engine's commands out until it has no more.
    fn carry_out(&mut self) {
        while !self.outputs.is_empty() {
            let mut served = Vec::new();
            for output in mem::take(&mut self.outputs) {
                match output {
                    Output::Read {
                        partition,
                        range,
                        bytes_max,
                    } => self.reads.start(
                        &self.node.log,
                        &self.record.log,
                        partition,
                        range,
                        bytes_max,
                    ),
                    Output::Deliver {
                        consumer,
                        deliveries,
                    } => {
                        let sizes = deliveries.iter().map(|delivery| delivery.body.len());
                        self.acked_bytes.deliver(sizes);
                        let parcel = Parcel::new(deliveries, &self.mailbox);
                        if let Some(stream) = self.streams.get(&consumer) {
                            stream.send(parcel);
                            served.push(consumer);
                        } else if let Some(pull) = self.pulls.remove(&consumer) {
                            // A pull that is gone drops the parcel, which thereby goes back.
                            drop(pull.send(Ok(Some(parcel))));
                        }
                    }
                    Output::Empty { consumer, damaged } => {
                        if let Some(pull) = self.pulls.remove(&consumer) {
                            let answer = if damaged {
                                Err(EndCause::Damaged(
                                    "the remaining messages cannot be read; see the server's log"
                                        .to_owned(),
                                ))
                            } else {
                                Ok(None)
                            };
                            drop(pull.send(answer));
                        }
                    }
                }
            }
            for consumer in served {
                self.tell_room(consumer);
            }
        }
    }

    /// Starts the next flush if one is needed and none is on its way.
    fn start_flush(&mut self) {
        let now = self.node.clock.now();
        if self.flush.is_some() || self.flush_not_before > now {
            return;
        }
        match self.engine.take_changes(false) {
            Some(changes) => {
                self.flushing.append(&mut self.waiting);
                self.flushing_bytes = self.acked_bytes.take();
                let flush = self.node.flusher.clone().flush(Flush {
                    subscription: self.record.id,
                    epoch: self.epoch,
                    changes,
                });
                self.flush = Some(flush.boxed());
            }
            // What was acknowledged before is durable already.
            None => answer(&mut self.waiting, &Ok(())),
        }
    }

    /// Returns a cause when the subscription is not ours any more.
    fn flushed(&mut self, flushed: Flushed) -> Option<EndCause> {
        self.flush = None;
        match flushed {
            Ok(FlushOutcome::Stored) => {
                answer(&mut self.flushing, &Ok(()));
                let (topic, now) = (self.record.log.incarnation, self.node.clock.now());
                self.node.activity.add(topic, self.flushing_bytes, now);
                self.handle(Input::Flushed { stored: true });
                None
            }
            Ok(FlushOutcome::Stale) => Some(EndCause::TakenOver),
            Ok(FlushOutcome::Busy) => {
                let now = self.node.clock.now();
                self.flush_not_before = now.plus_millis(BUSY_RETRY_MILLIS);
                self.waiting.append(&mut self.flushing);
                self.handle(Input::Flushed { stored: false });
                None
            }
            // Its deletion has not been announced yet.
            Ok(FlushOutcome::Gone) => Some(EndCause::Deleted),
            Err(error) => {
                let now = self.node.clock.now();
                self.flush_not_before = now.plus_millis(STORE_RETRY_MILLIS);
                answer(&mut self.flushing, &Err(error.into()));
                self.handle(Input::Flushed { stored: false });
                None
            }
        }
    }

    fn end_consumers(&mut self, cause: &EndCause) {
        let mut ended = Vec::new();
        for (consumer, stream) in mem::take(&mut self.streams) {
            ended.push(consumer);
            stream.end(cause.clone());
        }
        for (consumer, pull) in mem::take(&mut self.pulls) {
            ended.push(consumer);
            let answer = match cause {
                // A client that is told "nothing yet" asks again, and finds the next server.
                EndCause::Stopping => Ok(None),
                cause => Err(cause.clone()),
            };
            drop(pull.send(answer));
        }
        // What comes now must not be leased to them.
        for consumer in ended {
            self.handle(Input::Close { consumer });
        }
    }

    /// Ends what is open, and stores everything where the subscription is still ours.
    async fn finish(&mut self, commands: &mut mpsc::Receiver<Command>, cause: Option<&EndCause>) {
        if let Some(cause) = cause {
            self.end_consumers(cause);
        }
        if matches!(cause, Some(EndCause::Stopping)) {
            self.read_mail();
            commands.close();
            while let Ok(command) = commands.try_recv() {
                match command {
                    Command::Ack { .. } | Command::Modify { .. } => self.batch.push(command),
                    command => command.refuse(&EndCause::Stopping.into()),
                }
            }
            self.obey();
            self.flush_everything().await;
        }
        let refusal = Err(cause.cloned().unwrap_or(EndCause::Stopping).into());
        answer(&mut self.flushing, &refusal);
        answer(&mut self.waiting, &refusal);
        match cause {
            Some(_) => {
                self.node.registry.forget(self.record.id, commands);
            }
            None => release(&self.node, &self.record, self.epoch).await,
        }
    }

    async fn flush_everything(&mut self) {
        if let Some(flush) = self.flush.take() {
            let flushed = flush.await;
            if self.flushed(flushed).is_some() {
                return;
            }
        }
        let Some(changes) = self.engine.take_changes(true) else {
            answer(&mut self.waiting, &Ok(()));
            return;
        };
        self.flushing.append(&mut self.waiting);
        let flush = Flush {
            subscription: self.record.id,
            epoch: self.epoch,
            changes,
        };
        let flushed = self.node.flusher.clone().flush(flush).await;
        self.flushed(flushed);
    }
}

/// Lets any node have the subscription.
async fn release(node: &Node, record: &SubscriptionRecord, epoch: u64) {
    if let Err(error) = node.store.positions.release(record.id, epoch).await {
        // Another node waits until this one's lease ends, or until a client uses the subscription here again.
        tracing::warn!(subscription = %record.subscription.name, %error, "the subscription was not given up");
    }
}

fn answer(replies: &mut Vec<Reply<()>>, result: &Result<(), DeliveryError>) {
    for reply in replies.drain(..) {
        // A caller that does not wait any more needs no answer.
        drop(reply.send(result.clone()));
    }
}

/// Waits for a change, and leaves it to be taken in.
async fn wait_for<T>(watched: &mut watch::Receiver<T>) -> Result<(), watch::error::RecvError> {
    watched.changed().await?;
    watched.mark_changed();
    Ok(())
}
