//! The task that carries out what one subscription's engine wants.
//!
//! Its order is: store, then speak. An ack is answered when the flush that holds it is durable.

use std::{collections::HashMap, mem, sync::Arc};

use futures_util::future::{BoxFuture, FutureExt, OptionFuture};
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    activity::AckedBytes,
    consumer::{self, MessageStream, Parcel, PendingPull, StreamSender},
    flusher::Flushed,
    hub::{EndCause, Shared},
    mailbox::Mailbox,
    reads::Reads,
};
use crate::{
    clock::Timestamp,
    engine::{
        ChunkError, Engine,
        input::{Config, ConsumerId, Demand, Input, LeaseId},
        output::Output,
    },
    limits::{
        BUSY_RETRY_MILLIS, COMMANDS_PER_TURN_MAX, CONSUMERS_MAX, DRIVER_IDLE_MILLIS,
        STORE_RETRY_MILLIS,
    },
    resource::requirement::DATA_VERSION,
    store::{
        StoreError,
        log::LogEnds,
        positions::{Acquire, Flush, FlushOutcome},
        resources::SubscriptionRecord,
    },
};

type Reply<T> = oneshot::Sender<Result<T, EndCause>>;

/// What a driver is asked for.
pub(super) enum Command {
    Stream {
        consumer: ConsumerId,
        demand: Demand,
        reply: Reply<MessageStream>,
    },
    Pull {
        consumer: ConsumerId,
        demand: Demand,
        reply: Reply<PendingPull>,
    },
    StreamDeadline {
        consumer: ConsumerId,
        ack_deadline_millis: u64,
    },
    /// Answered when durable.
    Ack {
        leases: Vec<LeaseId>,
        reply: Option<Reply<()>>,
    },
    Modify {
        changes: Vec<(LeaseId, u64)>,
        reply: Reply<()>,
    },
    /// The subscription is deleted or detached in the store.
    End {
        cause: EndCause,
        reply: oneshot::Sender<()>,
    },
}

impl Command {
    fn refuse(self, cause: &EndCause) {
        // Whoever does not wait any more needs no answer.
        match self {
            Self::Stream { reply, .. } => drop(reply.send(Err(cause.clone()))),
            Self::Pull { reply, .. } => drop(reply.send(Err(cause.clone()))),
            Self::StreamDeadline { .. } => {}
            Self::Ack { reply, .. } => {
                if let Some(reply) = reply {
                    drop(reply.send(Err(cause.clone())));
                }
            }
            Self::Modify { reply, .. } => drop(reply.send(Err(cause.clone()))),
            Self::End { reply, .. } => {
                let _ = reply.send(());
            }
        }
    }
}

/// Runs until the subscription ends, nobody uses it, or the server stops.
pub(super) async fn run(
    shared: Arc<Shared>,
    record: Arc<SubscriptionRecord>,
    mut commands: mpsc::Receiver<Command>,
    config: watch::Receiver<Config>,
) {
    let id = record.id;
    let cause = match Driver::load(&shared, &record, config).await {
        Ok(mut driver) => {
            let cause = driver.drive(&mut commands).await;
            driver.finish(&mut commands, cause.as_ref()).await;
            cause
        }
        Err(cause) => {
            tracing::warn!(subscription = %record.subscription.name, %cause, "delivery did not start");
            shared.forget(id, &mut commands, false);
            Some(cause)
        }
    };
    let cause = cause.unwrap_or(EndCause::Stopping);
    while let Some(command) = commands.recv().await {
        command.refuse(&cause);
    }
}

struct Driver {
    shared: Arc<Shared>,
    record: Arc<SubscriptionRecord>,
    epoch: u64,
    engine: Engine,
    config: watch::Receiver<Config>,
    ends: LogEnds,
    mailbox: Arc<Mailbox>,
    streams: HashMap<ConsumerId, StreamSender>,
    pulls: HashMap<ConsumerId, oneshot::Sender<Result<Option<Parcel>, EndCause>>>,
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
}

impl Driver {
    async fn load(
        shared: &Arc<Shared>,
        record: &SubscriptionRecord,
        config: watch::Receiver<Config>,
    ) -> Result<Self, EndCause> {
        // What we were started with may have been read before a change; later changes find us running.
        let record = shared
            .resources
            .subscription(&record.subscription.name)
            .await
            .map_err(store_failed)?
            .filter(|current| current.id == record.id)
            .ok_or(EndCause::Deleted)?;
        if record.subscription.detached {
            return Err(EndCause::Detached);
        }
        shared.configure(&record);

        let acquired = match shared.store.positions.acquire(record.id).await {
            Ok(Acquire::Acquired(acquired)) => acquired,
            Ok(Acquire::OwnedBy(node)) => return Err(EndCause::OwnedBy(node)),
            Ok(Acquire::Gone) => return Err(EndCause::Deleted),
            Err(error) => return Err(store_failed(error)),
        };
        let mut ends = shared.log.watch(&record.log).await.map_err(store_failed)?;
        let now_ends = ends.borrow_and_update().clone();
        let restored = Engine::restore(*config.borrow(), &acquired.partitions, &now_ends);
        let (engine, voided) = match restored {
            Ok(restored) => restored,
            Err(error) => {
                // Another node may be able to read it.
                release(shared, &record, acquired.epoch).await;
                return Err(store_failed(unreadable(error)));
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
            shared: Arc::clone(shared),
            epoch: acquired.epoch,
            engine,
            config,
            ends,
            mailbox: Arc::new(Mailbox::new(shared.lease.clone())),
            streams: HashMap::new(),
            pulls: HashMap::new(),
            reads: Reads::default(),
            flush: None,
            flushing: Vec::new(),
            acked_bytes: AckedBytes::default(),
            flushing_bytes: 0,
            waiting: Vec::new(),
            flush_not_before: Timestamp::ZERO,
            last_used: shared.clock.now(),
            outputs: Vec::new(),
            record,
        })
    }

    /// Returns why delivery ended; `None` when nobody uses it any more.
    async fn drive(&mut self, commands: &mut mpsc::Receiver<Command>) -> Option<EndCause> {
        let shared = Arc::clone(&self.shared);
        let mailbox = Arc::clone(&self.mailbox);
        let mut batch = Vec::new();
        loop {
            // Others may own the subscription by now, whatever was to be sent.
            if !shared.lease.holds() {
                return Some(EndCause::cut_off());
            }
            self.carry_out();
            self.start_flush();
            let now = shared.clock.now();
            if self.is_unused(now) && shared.forget(self.record.id, commands, true) {
                return None;
            }
            let wake = self.wake_at(now);
            let flush: OptionFuture<_> = self.flush.as_mut().into();
            tokio::select! {
                biased;
                () = shared.stopping.cancelled() => return Some(EndCause::Stopping),
                Some(flushed) = flush => {
                    if let Some(cause) = self.flushed(flushed) {
                        return Some(cause);
                    }
                }
                Some(read) = self.reads.next() => {
                    let name = &self.record.subscription.name;
                    let input = read.into_input(name, shared.clock.now());
                    self.handle(input);
                }
                taken = commands.recv_many(&mut batch, COMMANDS_PER_TURN_MAX) => {
                    if taken == 0 {
                        return Some(EndCause::Stopping);
                    }
                    // However many requests come, what others say is heard too.
                    self.read_mail();
                    self.see_log_ends();
                    self.see_config();
                    self.last_used = shared.clock.now();
                    let mut taken = batch.drain(..);
                    while let Some(command) = taken.next() {
                        if let Some(cause) = self.obey(command) {
                            taken.for_each(|command| command.refuse(&cause));
                            return Some(cause);
                        }
                    }
                }
                () = mailbox.rung() => self.read_mail(),
                // A log is deleted when no subscription needs it any more, so ours is about to be told that it ends.
                Ok(()) = self.ends.changed() => {
                    // `changed` has marked them as seen.
                    let ends = self.ends.borrow_and_update().clone();
                    self.handle(Input::LogEnds(ends));
                }
                Ok(()) = self.config.changed() => {
                    // `changed` has marked it as seen.
                    let config = *self.config.borrow_and_update();
                    self.handle(Input::Configure(config));
                }
                () = shared.clock.sleep_until(wake) => self.handle(Input::Tick),
            }
        }
    }

    fn handle(&mut self, input: Input) {
        let now = self.shared.clock.now();
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
        let engine = self.engine.next_deadline(now).map(|deadline| {
            if deadline <= now {
                // Only a flush that has to wait leaves something overdue.
                self.flush_not_before.max(now.plus_millis(1))
            } else {
                deadline
            }
        });
        engine
            .into_iter()
            .chain(idle)
            .chain(retry)
            .min()
            .unwrap_or(Timestamp::NEVER)
    }

    /// Returns a cause when delivery ends with this command.
    fn obey(&mut self, command: Command) -> Option<EndCause> {
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
                self.acked_bytes.ack(leases.len());
                self.handle(Input::Ack(leases));
                self.waiting.extend(reply);
            }
            Command::Modify { changes, reply } => {
                self.handle(Input::ModifyDeadline(changes));
                drop(reply.send(Ok(())));
            }
            Command::End { cause, reply } => {
                self.end_consumers(&cause);
                // Whoever asked may be gone; it has ended all the same.
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
        drop(reply.send(Err(EndCause::TooManyConsumers(CONSUMERS_MAX))));
        None
    }

    fn read_mail(&mut self) {
        let mail = self.mailbox.take();
        if !mail.returned.is_empty() {
            self.handle(Input::Returned(mail.returned));
        }
        for consumer in mail.closed {
            self.last_used = self.shared.clock.now();
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
                        &self.shared.log,
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
        let now = self.shared.clock.now();
        if self.flush.is_some() || self.flush_not_before > now {
            return;
        }
        match self.engine.take_changes(now, false) {
            Some(changes) => {
                self.flushing.append(&mut self.waiting);
                self.flushing_bytes = self.acked_bytes.take();
                let flush = self.shared.flusher.clone().flush(Flush {
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
                let (topic, now) = (self.record.log.incarnation, self.shared.clock.now());
                self.shared.activity.add(topic, self.flushing_bytes, now);
                self.handle(Input::Flushed { stored: true });
                None
            }
            Ok(FlushOutcome::Stale) => Some(EndCause::TakenOver),
            Ok(FlushOutcome::Busy) => {
                let now = self.shared.clock.now();
                self.flush_not_before = now.plus_millis(BUSY_RETRY_MILLIS);
                self.waiting.append(&mut self.flushing);
                self.handle(Input::Flushed { stored: false });
                None
            }
            // Its deletion has not been announced yet.
            Ok(FlushOutcome::Gone) => Some(EndCause::Deleted),
            Err(error) => {
                let now = self.shared.clock.now();
                self.flush_not_before = now.plus_millis(STORE_RETRY_MILLIS);
                answer(&mut self.flushing, &Err(store_failed(error)));
                self.handle(Input::Flushed { stored: false });
                None
            }
        }
    }

    fn end_consumers(&mut self, cause: &EndCause) {
        let mut ended = Vec::new();
        for (consumer, stream) in self.streams.drain() {
            ended.push(consumer);
            stream.end(cause.clone());
        }
        for (consumer, pull) in self.pulls.drain() {
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
                    Command::Ack { .. } | Command::Modify { .. } => drop(self.obey(command)),
                    command => command.refuse(&EndCause::Stopping),
                }
            }
            self.flush_everything().await;
        }
        let refusal = Err(cause.cloned().unwrap_or(EndCause::Stopping));
        answer(&mut self.flushing, &refusal);
        answer(&mut self.waiting, &refusal);
        match cause {
            Some(_) => {
                self.shared.forget(self.record.id, commands, false);
            }
            None => release(&self.shared, &self.record, self.epoch).await,
        }
    }

    async fn flush_everything(&mut self) {
        if let Some(flush) = self.flush.take() {
            let flushed = flush.await;
            if self.flushed(flushed).is_some() {
                return;
            }
        }
        let now = self.shared.clock.now();
        let Some(changes) = self.engine.take_changes(now, true) else {
            answer(&mut self.waiting, &Ok(()));
            return;
        };
        self.flushing.append(&mut self.waiting);
        let flush = Flush {
            subscription: self.record.id,
            epoch: self.epoch,
            changes,
        };
        let flushed = self.shared.flusher.clone().flush(flush).await;
        self.flushed(flushed);
    }
}

/// Lets any node have the subscription.
async fn release(shared: &Shared, record: &SubscriptionRecord, epoch: u64) {
    if let Err(error) = shared.store.positions.release(record.id, epoch).await {
        // Another node waits until this one's lease ends, or until somebody uses the subscription here again.
        tracing::warn!(subscription = %record.subscription.name, %error, "the subscription was not given up");
    }
}

/// What it means that a chunk of the stored state cannot be read.
pub(super) fn unreadable(error: ChunkError) -> StoreError {
    match error {
        ChunkError::Damaged { .. } => StoreError::Damaged(error.to_string()),
        ChunkError::Newer { index, needs } => StoreError::Newer {
            what: format!("chunk {index} of the subscription's state"),
            needs,
            known: DATA_VERSION,
        },
    }
}

fn answer(replies: &mut Vec<Reply<()>>, result: &Result<(), EndCause>) {
    for reply in replies.drain(..) {
        // Whoever does not wait any more needs no answer.
        drop(reply.send(result.clone()));
    }
}

fn store_failed(error: StoreError) -> EndCause {
    match error {
        StoreError::Damaged(what) => EndCause::Damaged(what),
        error => EndCause::Unavailable(error.to_string()),
    }
}
