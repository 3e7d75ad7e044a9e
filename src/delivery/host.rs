//! Tells one subscription's engine what happens, and carries out what it wants. Waits for nothing by itself.

use std::{mem, slice, sync::Arc, time::Duration};

use tokio::time::timeout;

use super::{
    budget::{Held, Share},
    command::{Command, Reply, Skipped, of_one_pass},
    consumers::Consumers,
    error::EndCause,
    flusher::Flushed,
    flushes::Flushes,
    forward,
    forwards::Forwards,
    judgement::{Awaiting, Verdicts},
    mailbox::Mailbox,
    marks::AllMarks,
    node::Node,
    reads::{Read, Reads},
};
use crate::{
    clock::Timestamp,
    engine::{
        Engine,
        input::{Config, ConsumerId, Input, LeaseId},
        output::Output,
    },
    limits::{CONFIRMED_MILLIS, DRIVER_IDLE_MILLIS, FORWARD_END_MILLIS},
    store::resources::SubscriptionRecord,
};

/// See the module.
pub(super) struct Host {
    node: Arc<Node>,
    record: Arc<SubscriptionRecord>,
    engine: Engine,
    /// `None` where the log cannot become another one.
    pub(super) marks: Option<AllMarks>,
    consumers: Consumers,
    reads: Reads,
    share: Share,
    /// What the engine has loaded.
    held: Held,
    /// The last read was a small one: the budget has no room.
    is_short: bool,
    flushes: Flushes,
    forwards: Forwards,
    last_used: Timestamp,
    /// Whether anything was asked for but to skip.
    is_used: bool,
    /// The next flush also takes along what may wait.
    flush_all: bool,
    /// How often it changed here whether delivery is exactly once.
    switches: u32,
    /// When acknowledged deliveries were forgotten early last.
    forgotten_told: Timestamp,
    outputs: Vec<Output>,
}

/// Something that was waited for.
pub(super) enum Event {
    Flushed(Flushed),
    Read(Read),
    Forwarded(forward::Ended),
    /// A consumer has said something.
    Mail,
}

impl Host {
    /// Of a subscription that was acquired with this epoch.
    pub(super) fn new(
        node: Arc<Node>,
        record: Arc<SubscriptionRecord>,
        epoch: u64,
        engine: Engine,
        marks: Option<AllMarks>,
    ) -> Self {
        let share = Share::new(&node.budget);
        let is_ordered = record.subscription.ordered;
        let hashes = is_ordered.then(|| node.hashes.clone());
        let mailbox = Mailbox::new(node.membership.clone(), node.clock.clone());
        mailbox.set_exactly_once(engine.is_exactly_once());
        Self {
            engine,
            marks,
            consumers: Consumers::new(mailbox),
            reads: Reads::new(record.subscription.filter.clone(), hashes),
            held: share.nothing(),
            share,
            is_short: false,
            flushes: Flushes::new(node.flusher.clone(), record.id, epoch),
            forwards: Forwards::new(&node, &record),
            last_used: node.clock.now(),
            is_used: false,
            flush_all: false,
            switches: 0,
            forgotten_told: Timestamp::ZERO,
            outputs: Vec::new(),
            node,
            record,
        }
    }

    /// Waits for what was started to end, or for a consumer. Safe to cancel.
    pub(super) async fn event(&mut self) -> Event {
        tokio::select! {
            biased;
            Some(flushed) = self.flushes.ended() => Event::Flushed(flushed),
            Some(read) = self.reads.next() => Event::Read(read),
            Some(ended) = self.forwards.next() => Event::Forwarded(ended),
            () = self.consumers.mailbox().rung() => Event::Mail,
        }
    }

    /// Whether nobody has used the subscription for a while, and everything of it is stored.
    pub(super) fn is_unused(&self, now: Timestamp) -> bool {
        now.millis_since(self.last_used) >= DRIVER_IDLE_MILLIS
            && self.consumers.is_empty()
            && !self.flushes.are_awaited()
            && self.engine.is_idle()
    }

    /// When there is something to do if nothing happens before.
    pub(super) fn wake_at(&self, now: Timestamp) -> Timestamp {
        let idle = self.last_used.plus_millis(DRIVER_IDLE_MILLIS);
        let idle = (idle > now).then_some(idle);
        self.engine
            .next_deadline()
            .into_iter()
            .chain(idle)
            .chain(self.flushes.retry_at(now))
            .min()
            .unwrap_or(Timestamp::NEVER)
    }

    /// Tells the engine. What it wanted before is carried out first: leases in it may end now.
    pub(super) fn handle(&mut self, input: Input) {
        self.carry_out();
        self.tell(input);
    }

    /// As [`Host::handle`] of a request, of which is returned what each of its ids found.
    fn judge(&mut self, input: Input) -> Verdicts {
        self.carry_out();
        let (now, mut verdicts) = (self.node.clock.now(), Vec::new());
        let outputs = &mut self.outputs;
        self.engine
            .handle_with_verdicts(now, input, outputs, &mut verdicts);
        self.take_out_ended();
        if self.engine.take_has_forgotten() {
            self.tell_forgotten(now);
        }
        verdicts
    }

    /// Applies a configuration.
    pub(super) fn configure(&mut self, config: Config) {
        let is_switched = config.exactly_once != self.engine.is_exactly_once();
        self.switches = self.switches.saturating_add(is_switched.into());
        self.handle(Input::Configure(config));
        let mailbox = self.consumers.mailbox();
        mailbox.set_exactly_once(config.exactly_once);
    }

    fn tell(&mut self, input: Input) {
        let now = self.node.clock.now();
        self.engine.handle(now, input, &mut self.outputs);
        self.take_out_ended();
    }

    fn take_out_ended(&mut self) {
        for consumer in self.consumers.take_out(self.engine.ended()) {
            self.tell_room(consumer);
        }
    }

    /// Tells the engine of the time, if that is of interest.
    pub(super) fn pass_time(&mut self) {
        let due = self.engine.next_deadline();
        if due.is_some_and(|due| due <= self.node.clock.now()) {
            self.handle(Input::Tick);
        }
    }

    /// Takes this read in, if there is one, and all others that have ended.
    pub(super) fn take_reads(&mut self, read: Option<Read>) {
        let mut next = read.or_else(|| self.reads.ended());
        while let Some(read) = next {
            let name = &self.record.subscription.name;
            let now = self.node.clock.now();
            if let Some(marks) = &mut self.marks
                && let Some((partition, last)) = read.last()
            {
                marks.read(partition, slice::from_ref(last));
            }
            read.note_filtered(self.flushes.acked());
            let (input, held) = read.into_input(name, &self.node.operations, now);
            // Not before: what is held beyond what the engine has loaded is given back.
            self.carry_out();
            self.set_short(held.is_small_read());
            self.held.merge(held);
            self.tell(input);
            next = self.reads.ended();
        }
    }

    /// Takes in what came of forwarding dead letters.
    pub(super) fn forwarded(&mut self, ended: forward::Ended) {
        self.flushes.acked().ack(&ended.done());
        self.handle(ended.into_input());
    }

    /// Waits for a while for the dead letters that are being forwarded, and starts no more.
    pub(super) async fn end_forwards(&mut self) {
        self.forwards.end();
        let ended = async {
            while let Some(ended) = self.forwards.next().await {
                self.forwarded(ended);
            }
        };
        // What is still on its way then is forwarded again by the next driver.
        let _ = timeout(Duration::from_millis(FORWARD_END_MILLIS), ended).await;
    }

    /// Takes in what consumers have said.
    pub(super) fn read_mail(&mut self) {
        let mail = self.consumers.mailbox().take();
        if !mail.returned.is_empty() {
            self.handle(Input::Returned(mail.returned));
        }
        for consumer in mail.closed {
            self.last_used = self.node.clock.now();
            self.consumers.close(consumer);
            self.handle(Input::Close { consumer });
        }
        for consumer in mail.roomy {
            self.tell_room(consumer);
        }
    }

    /// Logs that acknowledged deliveries were forgotten early, once until they were not for as long as they are remembered.
    fn tell_forgotten(&mut self, now: Timestamp) {
        if now >= self.forgotten_told.plus_millis(CONFIRMED_MILLIS) {
            tracing::warn!(
                subscription = %self.record.subscription.name,
                "there are too many acknowledged messages to remember all of them for ten minutes: repeated \
                 acknowledgements of the oldest fail"
            );
        }
        self.forgotten_told = now;
    }

    /// Before what was read is handed out: streams that had room may have none now, or the other way round.
    fn set_short(&mut self, is_short: bool) {
        if self.is_short != is_short {
            self.is_short = is_short;
            for stream in self.consumers.streams() {
                self.tell_room(stream);
            }
        }
    }

    fn tell_room(&mut self, consumer: ConsumerId) {
        if let Some(frames) = self.consumers.room(consumer, self.is_short) {
            self.tell(Input::Room { consumer, frames });
        }
    }

    /// Carries commands out; those that are too many for one pass stay in the batch. Acks that come together are one
    /// event. Returns a cause when delivery ends with one of them.
    pub(super) fn obey(&mut self, batch: &mut Vec<Command>) -> Option<EndCause> {
        if batch.is_empty() {
            return None;
        }
        if batch.iter().any(Command::is_use) {
            self.last_used = self.node.clock.now();
            self.is_used = true;
        } else if !self.is_used {
            // Nobody waits for it: it is given up as soon as this is stored.
            self.last_used = Timestamp::ZERO;
        }
        let mut acked = Vec::new();
        let pass = of_one_pass(batch);
        let mut commands = batch.drain(..pass);
        let mut cause = None;
        for command in commands.by_ref() {
            match command {
                Command::Ack { mut leases, reply } if !self.engine.is_exactly_once() => {
                    if acked.is_empty() {
                        acked = leases;
                    } else {
                        acked.append(&mut leases);
                    }
                    self.answer_later(reply, Vec::new());
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
            commands.for_each(|command| command.refuse(&error));
            batch.drain(..).for_each(|command| command.refuse(&error));
        }
        cause
    }

    fn ack(&mut self, leases: Vec<LeaseId>) {
        if !leases.is_empty() {
            self.flushes.acked().ack(&leases);
            self.handle(Input::Ack(leases));
        }
    }

    fn answer_later(&mut self, reply: Option<Reply<Verdicts>>, verdicts: Verdicts) {
        if let Some(reply) = reply {
            #[cfg(test)]
            if !verdicts.is_empty() && crate::sim::planted::Bug::ConfirmedBeforeCommit.is_planted()
            {
                drop(reply.send(Ok(verdicts)));
                return;
            }
            self.flushes.answer_later(Awaiting::Judged(reply, verdicts));
        }
    }

    fn obey_one(&mut self, command: Command) -> Option<EndCause> {
        match command {
            Command::Stream {
                consumer,
                client,
                demand,
                reply,
            } => {
                if let Some(reply) = self.consumers.admit(reply) {
                    let stream = self.consumers.open_stream(consumer);
                    if let Some(client) = client {
                        self.handle(Input::Client { consumer, client });
                    }
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
                if let Some(reply) = self.consumers.admit(reply) {
                    let pull = self.consumers.open_pull(consumer);
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
                self.flushes.acked().ack(&leases);
                let verdicts = self.judge(Input::Ack(leases));
                self.answer_later(reply, verdicts);
            }
            Command::Modify { changes, reply } if self.engine.is_exactly_once() => {
                let verdicts = self.judge(Input::ModifyDeadline(changes));
                self.answer_later(Some(reply), verdicts);
            }
            Command::Modify { changes, reply } => {
                self.handle(Input::ModifyDeadline(changes));
                drop(reply.send(Ok(Vec::new())));
            }
            Command::Apply { reply } if self.switches > 0 => {
                self.flushes.answer_later(Awaiting::Done(reply));
                self.flush_all = true;
            }
            Command::Apply { reply } => drop(reply.send(Ok(()))),
            Command::Skip { skipped, reply } => {
                for skipped in skipped {
                    self.skip(skipped);
                }
                self.flushes.answer_later(Awaiting::Done(reply));
                self.flush_all = true;
            }
            Command::Wake { reply } => {
                self.handle(Input::Tick);
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

    fn skip(&mut self, skipped: Skipped) {
        let Skipped {
            partition,
            generation,
            offsets,
            last,
        } = skipped;
        if let (Some(marks), Some(last)) = (&mut self.marks, &last) {
            marks.read(partition, slice::from_ref(last));
        }
        self.handle(Input::Filtered {
            partition,
            generation,
            offsets,
        });
    }

    /// Carries the engine's commands out until it has no more.
    pub(super) fn carry_out(&mut self) {
        while !self.outputs.is_empty() {
            let mut served = Vec::new();
            for output in mem::take(&mut self.outputs) {
                match output {
                    Output::Read {
                        partition,
                        range,
                        bytes_max,
                    } => self.reads.start(
                        &self.share,
                        &self.node.log,
                        &self.record.log,
                        partition,
                        range,
                        bytes_max,
                    ),
                    Output::Deliver {
                        consumer,
                        deadline,
                        deliveries,
                    } => {
                        let sizes = deliveries.iter().map(|delivery| delivery.body.len());
                        let held = self.held.split(sizes.clone().sum());
                        self.flushes.acked().deliver(sizes);
                        self.consumers.deliver(consumer, deliveries, deadline, held);
                        served.push(consumer);
                    }
                    Output::Forward {
                        partition,
                        generation,
                        messages,
                    } => self.forwards.start(partition, generation, messages),
                    Output::Late { partition, offset } => tracing::warn!(
                        subscription = %self.record.subscription.name, partition, offset,
                        "a message with an ordering key could not be read before; it may come behind what followed it"
                    ),
                    Output::Empty { consumer, damaged } => {
                        self.consumers.answer_empty(consumer, damaged);
                    }
                }
            }
            for consumer in served {
                self.tell_room(consumer);
            }
        }
        self.held.shrink_to(self.engine.loaded_bytes());
        self.share.set_ready(self.engine.has_ready());
    }

    /// Starts the next flush if one is needed and none is on its way.
    pub(super) fn start_flush(&mut self, now: Timestamp) {
        if self.flushes.are_free(now) {
            let all = mem::take(&mut self.flush_all);
            self.flush(all);
        }
    }

    /// Starts a flush; `all`: also of what may wait.
    fn flush(&mut self, all: bool) {
        let mut changes = self.engine.take_changes(all);
        if let (Some(changes), Some(marks)) = (&mut changes, &mut self.marks) {
            marks.add_to(changes);
        }
        if changes.is_some() {
            self.forwards.flush_started();
        }
        self.flushes.start(changes);
    }

    /// Returns a cause when the subscription is not ours any more.
    pub(super) fn flushed(&mut self, flushed: Flushed) -> Option<EndCause> {
        let now = self.node.clock.now();
        match self.flushes.take_in(now, flushed) {
            Ok(freed) => {
                let stored = freed.is_some();
                if let Some(freed) = freed {
                    let topic = self.record.log.incarnation;
                    self.node.activity.add(topic, freed, now);
                }
                if !stored && let Some(marks) = &mut self.marks {
                    marks.were_not_stored();
                }
                self.forwards.flushed(stored);
                self.handle(Input::Flushed { stored });
                None
            }
            Err(cause) => Some(cause),
        }
    }

    /// Stores everything, as far as the store takes it.
    pub(super) async fn flush_everything(&mut self) {
        if let Some(flushed) = self.flushes.ended().await
            && self.flushed(flushed).is_some()
        {
            return;
        }
        self.flush(true);
        if let Some(flushed) = self.flushes.ended().await {
            self.flushed(flushed);
        }
    }

    /// Ends all streams and pulls. What comes from now on is not leased to them.
    pub(super) fn end_consumers(&mut self, cause: &EndCause) {
        for consumer in self.consumers.end(cause) {
            self.handle(Input::Close { consumer });
        }
        // What was leased to them meanwhile goes back.
        self.carry_out();
    }

    /// Refuses the acks that no flush has made durable.
    pub(super) fn refuse_acks(&mut self, cause: Option<&EndCause>) {
        let cause = cause.cloned().unwrap_or(EndCause::Stopping);
        self.flushes.refuse(&cause.into());
    }
}
