//! Random operations, with crashes at every point: nothing acknowledged returns, nothing else is lost, and nobody
//! gets what another consumer has.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
};

use bytes::Bytes;
use proptest::prelude::*;

use super::{
    dead_letters::forwards,
    host::Host,
    model::{Held, Message, Model, Position, rounded},
    operations::{Operation, operations},
    order::key_of,
    stored::Stored,
};
use crate::{
    clock::Timestamp,
    engine::{
        Engine,
        chunk::{Delivered, Slot},
        dead_letter::Outcome,
        input::{ClientId, Config, ConsumerId, Demand, Input, Issue, LeaseId},
        output::{Delivery, Output, Verdict},
        partition::Partition,
        retry::Backoff,
    },
    limits::{CHUNK_OFFSETS, UNWANTED_MILLIS},
};

fn cases() -> u32 {
    if env::var_os("PACKETBOAT_LONG").is_some() {
        20_000
    } else {
        256
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: cases(),
        max_shrink_iters: 3000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn nothing_acknowledged_returns_and_nothing_else_is_lost(operations in operations()) {
        Run::new(false, Rules::default(), false).run(operations);
    }

    #[test]
    fn nothing_leaves_before_its_lease_is_durable_if_so_configured(operations in operations()) {
        Run::new(true, Rules::default(), false).run(operations);
    }

    #[test]
    fn nothing_leaves_again_before_its_failure_is_stored_and_its_backoff_over(
        operations in operations(),
        exactly_once: bool,
        min_millis in 0u64..20_000,
        more in 0u64..60_000,
    ) {
        let retry = Backoff { min_millis, max_millis: min_millis + more };
        Run::new(exactly_once, Rules::retrying(retry), false).run(operations);
    }
}

proptest! {
    // What is checked of keys is the dearer part.
    #![proptest_config(ProptestConfig {
        cases: cases() / 2,
        max_shrink_iters: 3000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn keys_keep_their_order_and_their_consumer(operations in operations()) {
        Run::new(false, Rules::default(), true).run(operations);
    }

    #[test]
    fn keys_keep_their_order_when_nothing_leaves_before_its_lease_is_durable(operations in operations()) {
        Run::new(true, Rules::default(), true).run(operations);
    }

    #[test]
    fn keys_keep_their_order_while_messages_back_off(
        operations in operations(),
        min_millis in 0u64..20_000,
        more in 0u64..60_000,
    ) {
        let retry = Backoff { min_millis, max_millis: min_millis + more };
        Run::new(false, Rules::retrying(retry), true).run(operations);
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: cases() / 2,
        max_shrink_iters: 3000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn dead_letters_are_forwarded_and_nobody_gets_them(
        operations in operations(),
        is_ordered: bool,
        exactly_once: bool,
        attempts_max in 1u32..4,
        millis in prop::option::of(0u64..20_000),
    ) {
        let rules = Rules {
            retry: millis.map(|millis| Backoff { min_millis: millis, max_millis: millis }),
            attempts_max: Some(attempts_max),
        };
        Run::new(exactly_once, rules, is_ordered).run(operations);
    }
}

/// What becomes of failed messages.
#[derive(Clone, Copy, Default)]
struct Rules {
    retry: Option<Backoff>,
    attempts_max: Option<u32>,
}

impl Rules {
    fn retrying(retry: Backoff) -> Self {
        Self {
            retry: Some(retry),
            attempts_max: None,
        }
    }
}

struct Run {
    host: Host,
    model: Model,
    consumers: u64,
    /// Acknowledged since the last flush started.
    waiting: Vec<Position>,
    /// Confirmed by the flush that is on its way.
    flushing: Vec<Position>,
    /// How many frames went to others, per partition, since it has had messages to deliver.
    passed_over: BTreeMap<u32, usize>,
    /// Messages that were handed out, per partition.
    handed_out: BTreeMap<u32, u64>,
    /// How many will have been when a failed message that is loaded has been too, at the latest.
    redelivered_by: BTreeMap<Position, u64>,
    /// The number of each lease after the last event.
    leased: BTreeMap<Position, u32>,
    /// When a consumer was last there that would have taken a message.
    wanted_at: Timestamp,
}

impl Run {
    fn new(exactly_once: bool, rules: Rules, is_ordered: bool) -> Self {
        let config = Config {
            ack_deadline_millis: 10_003,
            retention_millis: 604_800_000,
            exactly_once,
            retry: rules.retry,
            attempts_max: rules.attempts_max,
            is_ordered,
        };
        Self {
            host: Host::new(Timestamp::from_millis(1_000_000_000_001), config, 2),
            model: Model::new(is_ordered),
            consumers: 0,
            waiting: Vec::new(),
            flushing: Vec::new(),
            passed_over: BTreeMap::new(),
            handed_out: BTreeMap::new(),
            redelivered_by: BTreeMap::new(),
            leased: BTreeMap::new(),
            wanted_at: Timestamp::ZERO,
        }
    }

    fn run(mut self, operations: Vec<Operation>) {
        for operation in operations {
            self.operate(operation);
            self.check();
        }
        self.deliver_all_that_is_left();
    }

    fn operate(&mut self, operation: Operation) {
        match operation {
            Operation::Publish {
                partition,
                messages,
                gap,
            } => {
                self.publish(partition, messages, gap);
            }
            Operation::Open {
                client,
                messages,
                bytes,
                frames,
            } => {
                if client > 0 {
                    self.is_of(ClientId(client.into()));
                }
                self.open(Demand::Stream {
                    ack_deadline_millis: self.host.config.ack_deadline_millis + 1,
                    messages_max: messages.map_or(u64::MAX, u64::from),
                    bytes_max: bytes.map_or(u64::MAX, u64::from),
                    frames: frames.into(),
                });
            }
            Operation::Pull {
                messages,
                immediate,
            } => self.open(Demand::Pull {
                messages_max: messages.into(),
                immediate,
            }),
            Operation::Room { pick, frames } => {
                let mut frames = frames.into();
                if let Some((consumer, Demand::Stream { .. })) = self.consumer(pick) {
                    // There is room for what waits to leave.
                    frames = self.host.engine.consumers.held_frames(consumer).max(frames);
                    let frames = frames as u32;
                    if let Some(Demand::Stream { frames: room, .. }) =
                        self.model.consumers.get_mut(&consumer)
                    {
                        *room = frames;
                    }
                    self.handle(Input::Room { consumer, frames });
                }
            }
            Operation::StreamDeadline { pick, millis } => {
                if let Some((
                    consumer,
                    Demand::Stream {
                        ack_deadline_millis,
                        ..
                    },
                )) = self.consumer(pick)
                {
                    *ack_deadline_millis = millis;
                    self.handle(Input::StreamDeadline {
                        consumer,
                        ack_deadline_millis: millis,
                    });
                }
            }
            Operation::Close { pick } => {
                if let Some((consumer, _)) = self.consumer(pick) {
                    self.model.consumers.remove(&consumer);
                    self.handle(Input::Close { consumer });
                }
            }
            Operation::Ack { pick, run } => {
                let leases = self.issued(pick, run);
                self.ack(&leases);
            }
            Operation::AckForeign { offset, generation } => {
                let issue = Issue {
                    epoch: self.host.epoch,
                    exactly_once: self.host.config.exactly_once,
                };
                let lease = LeaseId {
                    generation: u32::from(generation) + 100,
                    partition: 0,
                    offset: offset.into(),
                    number: 1,
                    issue,
                };
                let end = self.host.log.ends()[1];
                let beyond = LeaseId {
                    generation: self.generation(1),
                    partition: 1,
                    offset: end + u64::from(offset),
                    number: 1,
                    issue,
                };
                self.ack(&[lease, beyond]);
            }
            Operation::ModifyDeadline { pick, run, millis } => {
                let leases = self.issued(pick, run.into());
                let (now, config) = (self.host.now, self.host.config);
                let deadline = now.plus_millis(millis);
                let changes = leases.iter().map(|lease| (*lease, millis)).collect();
                let input = Input::ModifyDeadline(changes);
                self.ask(&leases, input, |model, lease, _| {
                    if millis > 0 {
                        model.extend(lease, deadline);
                    } else if model.give_back(now, config, lease, true) {
                        model.failed((lease.partition, lease.offset));
                    }
                });
            }
            Operation::Return { pick, run } => {
                let leases = self.issued(pick, run.into());
                for lease in self.current(&leases) {
                    let (now, config) = (self.host.now, self.host.config);
                    self.model.give_back(now, config, lease, false);
                }
                self.handle(Input::Returned(leases));
            }
            Operation::Wait { millis } => self.wait(u64::from(millis)),
            Operation::Read { limit, fails } if !self.host.reads.is_empty() => {
                let out = self.host.answer_read(limit.into(), fails);
                self.take(&out);
            }
            Operation::Read { .. } => {}
            Operation::Forwarded { pick, run, outcome } => {
                let letters = self.model.letters.out(pick, run.into());
                self.forwarded(
                    &letters,
                    match outcome {
                        0..6 => Outcome::Done,
                        6 | 7 => Outcome::Refused,
                        _ => Outcome::Failed {
                            retry_at: self.host.now.plus_millis(1000),
                        },
                    },
                );
            }
            Operation::StartFlush => self.start_flush(false),
            Operation::EndFlush { stored } => self.end_flush(stored),
            Operation::Crash { stored } => self.crash(stored),
            Operation::Restart => {
                self.flush_all();
                let before = self.model.held.clone();
                self.restart();
                let kept = |(position, held): (&Position, &Held)| {
                    (*position, held.number, rounded(held.deadline))
                };
                let after: Vec<_> = self.model.held.iter().map(kept).collect();
                assert_eq!(before.iter().map(kept).collect::<Vec<_>>(), after);
            }
            Operation::LoseEnd {
                partition,
                messages,
            } => self.lose_end(partition, messages.into()),
            Operation::Damage { pick, run } => {
                for (partition, offset) in self.positions(pick, run.into()) {
                    self.host.log.damage(partition, offset);
                    if let Some(order) = &mut self.model.order {
                        order.absent.insert((partition, offset));
                    }
                }
            }
            Operation::Repair => self.host.log.repair(),
            Operation::Remove { pick, run } => {
                for position in self.positions(pick, run) {
                    self.host.log.remove(position.0, position.1);
                    self.model
                        .messages
                        .get_mut(&position)
                        .expect("a message")
                        .removed = true;
                }
            }
            Operation::Configure {
                ack_deadline_millis,
                retention_millis,
            } => {
                self.model
                    .retention_changes(self.host.now, self.host.config);
                self.host.config = Config {
                    ack_deadline_millis,
                    retention_millis,
                    ..self.host.config
                };
                self.handle(Input::Configure(self.host.config));
            }
            Operation::CompareWithStored => self.compare_with_stored(),
        }
    }

    fn publish(&mut self, partition: u32, messages: u16, gap: bool) {
        for n in 0..u64::from(messages) {
            let bytes = n * 7 % 64;
            let body = Bytes::from(vec![0; bytes as usize]);
            let log = &mut self.host.log;
            let offset = log.append_of(partition, self.host.now, body, key_of);
            self.model.messages.insert(
                (partition, offset),
                Message {
                    publish_time: self.host.now,
                    bytes,
                    removed: false,
                },
            );
        }
        if gap {
            self.host.log.append_gap(partition);
        }
        self.handle(Input::LogEnds(self.host.log.ends()));
    }

    /// The next stream is of this client.
    fn is_of(&mut self, client: ClientId) {
        let consumer = ConsumerId(self.consumers + 1);
        if let Some(order) = &mut self.model.order {
            order.clients.insert(consumer, client);
        }
        self.handle(Input::Client { consumer, client });
    }

    fn open(&mut self, demand: Demand) {
        self.consumers += 1;
        let consumer = ConsumerId(self.consumers);
        self.model.consumers.insert(consumer, demand);
        self.handle(Input::Open { consumer, demand });
    }

    fn ack(&mut self, leases: &[LeaseId]) {
        let mut acked = Vec::new();
        let (now, exactly_once) = (self.host.now, self.host.config.exactly_once);
        self.ask(
            leases,
            Input::Ack(leases.to_vec()),
            |model, lease, verdict| {
                let position = (lease.partition, lease.offset);
                if exactly_once {
                    if verdict != Verdict::Applied {
                        return;
                    }
                    assert!(!model.holds(lease) || !model.is_held_before(position));
                    let by = model.acked_by.entry(position).or_insert((0, now));
                    if by.0 != lease.number {
                        *by = (lease.number, now);
                    }
                }
                model.ack(position);
                acked.push(position);
            },
        );
        self.waiting.append(&mut acked);
    }

    /// Makes a request, compares what the engine says of each id, and does in the model what it did.
    fn ask(
        &mut self,
        leases: &[LeaseId],
        input: Input,
        mut effect: impl FnMut(&mut Model, LeaseId, Verdict),
    ) {
        let is_set = self.host.config.exactly_once && matches!(input, Input::Ack(_));
        let (out, verdicts) = self.host.handle_with_verdicts(input);
        // The time may have passed for leases since the last event.
        self.model.pass_time(self.host.now, self.host.config);
        assert_eq!(leases.len(), verdicts.len());
        let ends = self.host.log.ends();
        let mut each: Vec<_> = leases.iter().zip(verdicts).collect();
        if is_set {
            each.sort_by_key(|(lease, _)| **lease);
        }
        for (lease, verdict) in each {
            let is_current = lease.generation == self.generation(lease.partition);
            if !is_current || lease.offset >= ends[lease.partition as usize] {
                assert_eq!(verdict, Verdict::Void);
                continue;
            }
            let (now, config) = (self.host.now, self.host.config);
            assert_eq!(
                verdict,
                self.model.judge(now, config, *lease, (verdict, is_set))
            );
            effect(&mut self.model, *lease, verdict);
        }
        self.take(&out);
    }

    /// Something has come of these dead letters.
    fn forwarded(&mut self, letters: &[Position], outcome: Outcome) {
        for of_one in letters.chunk_by(|a, b| a.0 == b.0) {
            for position in of_one {
                // Those that became too old or are gone meanwhile are done.
                if outcome == Outcome::Done {
                    self.model.ack(*position);
                    // An ack of it that a crash undid confirms nothing.
                    self.model.acked_by.remove(position);
                    self.waiting.push(*position);
                }
                self.model.letters.came(*position, outcome);
            }
            self.handle(Input::Forwarded {
                partition: of_one[0].0,
                outcomes: of_one.iter().map(|it| (it.1, outcome)).collect(),
            });
        }
    }

    fn start_flush(&mut self, all: bool) {
        let was_on_its_way = self.host.in_flight.is_some();
        if self.host.start_flush(all) {
            self.flushing.append(&mut self.waiting);
        } else if !was_on_its_way {
            for position in &self.waiting {
                self.model.letters.unstored.remove(position);
            }
            self.model.confirmed.extend(self.waiting.drain(..));
        }
    }

    fn end_flush(&mut self, stored: bool) {
        if self.host.in_flight.is_none() {
            return;
        }
        if stored {
            for position in &self.flushing {
                self.model.letters.unstored.remove(position);
            }
            self.model.confirmed.extend(self.flushing.drain(..));
        } else {
            self.waiting.append(&mut self.flushing);
        }
        let out = self.host.end_flush(stored);
        self.take(&out);
    }

    fn flush_all(&mut self) {
        self.end_flush(true);
        // What leaves or does not makes for more that has to be stored.
        for _ in 0..1000 {
            self.start_flush(true);
            if self.host.in_flight.is_none() {
                assert!(self.host.engine.consumers.hold_nothing());
                return;
            }
            self.end_flush(true);
        }
        panic!("there is always something to store");
    }

    fn crash(&mut self, stored: bool) {
        if let Some(changes) = self.host.in_flight.take().filter(|_| stored) {
            self.host.stored.apply(&changes);
        }
        self.restart();
    }

    fn restart(&mut self) {
        self.waiting.clear();
        self.flushing.clear();
        let voided = self.host.restart();
        let mut stored = BTreeMap::new();
        let mut attempts = Vec::new();
        for partition in self.host.engine.partitions.iter() {
            for (offset, slot) in partition.ledger().slots(0..u64::MAX) {
                let Slot::Leased(lease) = slot else { continue };
                let held = Held {
                    number: lease.number,
                    deadline: lease.time,
                    consumer: None,
                    issue: None,
                };
                stored.insert((partition.id(), offset), held);
                attempts.push(((partition.id(), offset), lease.attempts));
            }
        }
        let exactly_once = self.host.config.exactly_once;
        self.model.restarted(stored, exactly_once, self.host.epoch);
        let config = self.host.config;
        self.model
            .dead_letters_restarted(config, &self.host.stored, attempts);
        self.passed_over.clear();
        self.redelivered_by.clear();
        self.leased = self.leases();
        self.wanted_at = Timestamp::ZERO;
        if !voided.is_empty() {
            self.flush_all();
        }
        self.handle(Input::Tick);
    }

    /// A crash that takes the log's tail along.
    fn lose_end(&mut self, partition: u32, messages: u64) {
        self.host.in_flight = None;
        let end = self.host.log.ends()[partition as usize].saturating_sub(messages);
        self.host.log.truncate(partition, end);
        self.model.lose(partition, end);
        let old = self.generation(partition);
        let states = self.host.stored.states();
        let knew_more = states.iter().any(|state| {
            let covered = |chunk: &crate::engine::change::StoredChunk| {
                let slots = crate::engine::chunk::decode(chunk.index, &chunk.body);
                let slots = slots.map_or(0, |slots| slots.len()) as u64;
                let after = (chunk.index + 1 + chunk.done_after) * CHUNK_OFFSETS;
                if chunk.done_after > 0 {
                    after
                } else {
                    chunk.index * CHUNK_OFFSETS + slots
                }
            };
            let seen = state.chunks.iter().map(covered).chain([state.cursor]).max();
            state.partition == partition && seen > Some(end)
        });
        self.restart();
        if knew_more {
            assert!(self.generation(partition) > old.min(states[0].generation));
        }
    }

    fn wait(&mut self, millis: u64) {
        let until = self.host.now.plus_millis(millis);
        let mut rounds = 0;
        while let Some(next) = self.host.engine.next_deadline() {
            if next > until {
                break;
            }
            rounds += 1;
            assert!(rounds < 100_000, "a busy loop");
            self.host.now = self.host.now.max(next);
            self.handle(Input::Tick);
            self.check();
        }
        self.host.now = until;
        self.handle(Input::Tick);
        self.leave_rounding();
    }

    /// Moves on while it is a matter of rounding whether a lease is still valid.
    fn leave_rounding(&mut self) {
        while let Some(until) = self.model.rounding_until(self.host.now) {
            self.host.now = until;
            self.handle(Input::Tick);
        }
    }

    fn handle(&mut self, input: Input) {
        let out = self.host.handle(input);
        self.take(&out);
    }

    fn take(&mut self, out: &[Output]) {
        self.check_ended();
        let answers = |it: &Output| matches!(it, Output::Deliver { .. } | Output::Empty { .. });
        if out.iter().any(answers) {
            self.wanted_at = self.host.now;
        }
        self.see_wanted();
        self.model.pass_time(self.host.now, self.host.config);
        self.model.end_behind(self.host.engine.ended());
        let partitions = &self.host.engine.partitions;
        let leased = |lease: LeaseId| {
            let mut partitions = partitions.iter();
            let partition = partitions.find(|it| it.id() == lease.partition);
            let slot = partition.and_then(|it| slot_of(it, lease.offset));
            match slot {
                Some(Slot::Leased(leased)) if leased.number == lease.number => leased,
                slot => panic!("{lease:?} was delivered, and is {slot:?}"),
            }
        };
        let (now, config) = (self.host.now, self.host.config);
        self.model.take(now, config, out, leased);
        for (partition, messages) in out.iter().filter_map(forwards) {
            let messages = (partition, messages);
            self.model.forward(now, config, messages, &self.host.stored);
        }
        // An event may have taken what was ready, or all of it was handed out.
        for partition in partitions.iter().filter(|it| it.ready() == 0) {
            self.passed_over.remove(&partition.id());
        }
        let frames = out.iter().filter_map(|output| match output {
            Output::Deliver { deliveries, .. } => Some(deliveries),
            Output::Read { .. }
            | Output::Empty { .. }
            | Output::Late { .. }
            | Output::Forward { .. } => None,
        });
        if config.retry.is_some() || config.attempts_max.is_some() {
            let frames = frames.clone();
            frames.for_each(|frame| check_stored_failures(&self.host.stored, frame, leased));
        }
        if config.exactly_once {
            frames.for_each(|frame| check_durable(&self.host.stored, frame, leased));
        } else {
            let frames: Vec<&[Delivery]> = frames.map(Vec::as_slice).collect();
            for frame in &frames {
                self.check_round_robin(frame);
            }
            if !config.is_ordered {
                self.check_redelivery(&frames);
            }
        }
    }

    /// A failed message is handed out within twice as many messages of its partition as failed before it, and those that
    /// never were have every second place.
    fn check_redelivery(&mut self, frames: &[&[Delivery]]) {
        for partition in self.host.engine.partitions.iter() {
            let (id, loaded) = (partition.id(), partition.loaded_messages());
            let handed_out = self.handed_out.entry(id).or_default();
            let mut last_again = false;
            for delivery in frames.iter().copied().flatten() {
                let lease = delivery.lease;
                if lease.partition != id {
                    continue;
                }
                *handed_out += 1;
                let latest = self.redelivered_by.remove(&(id, lease.offset));
                assert!(
                    latest.is_none_or(|latest| *handed_out <= latest),
                    "{lease:?} is late"
                );
                let is_again = lease.number > 1;
                let has_fresh = loaded.fresh().next().is_some();
                assert!(
                    !(last_again && is_again && has_fresh),
                    "{lease:?} holds others up"
                );
                last_again = is_again;
            }
            let waits =
                |(of, offset): &Position| *of != id || loaded.again().any(|it| it == *offset);
            self.redelivered_by.retain(|position, _| waits(position));
            for (before, offset) in (1..).zip(loaded.again()) {
                let latest = *handed_out + 2 * before;
                let latest = *self.redelivered_by.entry((id, offset)).or_insert(latest);
                assert!(*handed_out < latest, "{offset} of {id} is passed over");
            }
        }
    }

    /// No partition with messages to deliver is passed over more than once for each of the others.
    fn check_round_robin(&mut self, deliveries: &[Delivery]) {
        let partitions = self.host.engine.partitions.iter();
        for id in partitions.map(Partition::id) {
            if deliveries.iter().any(|it| it.lease.partition == id) {
                self.passed_over.remove(&id);
            } else if let Some(frames) = self.passed_over.get_mut(&id) {
                *frames += 1;
                assert!(*frames <= 1, "partition {id} is passed over");
            }
        }
    }

    /// The number of each lease.
    fn leases(&self) -> BTreeMap<Position, u32> {
        let mut leases = BTreeMap::new();
        for partition in self.host.engine.partitions.iter() {
            for (offset, slot) in partition.ledger().slots(0..u64::MAX) {
                if let Slot::Leased(lease) = slot {
                    leases.insert((partition.id(), offset), lease.number);
                }
            }
        }
        leases
    }

    /// Each lease that is over was reported when it ended, and no other.
    fn check_ended(&mut self) {
        let leased = self.leases();
        let ended = self.host.engine.ended().iter();
        let reported: BTreeSet<_> = ended
            .map(|it| ((it.partition, it.offset), it.number))
            .collect();
        let before = std::mem::replace(&mut self.leased, leased);
        let over = before
            .iter()
            .filter(|(position, number)| self.leased.get(position) != Some(number));
        let over: BTreeSet<_> = over
            .map(|(position, number)| (*position, *number))
            .collect();
        assert_eq!(reported, over);
    }

    fn generation(&self, partition: u32) -> u32 {
        self.partition(partition).ledger().generation()
    }

    fn partition(&self, partition: u32) -> &Partition {
        let mut partitions = self.host.engine.partitions.iter();
        let found = partitions.find(|it| it.id() == partition);
        found.expect("a partition of the log")
    }

    /// Those ids that still count.
    fn current(&self, leases: &[LeaseId]) -> Vec<LeaseId> {
        let is_current = |lease: &&LeaseId| lease.generation == self.generation(lease.partition);
        leases.iter().filter(is_current).copied().collect()
    }

    fn issued(&self, pick: u16, run: u16) -> Vec<LeaseId> {
        let issued = &self.model.issued;
        if issued.is_empty() {
            return Vec::new();
        }
        // Mostly newer ones: those at the end of the list.
        let back = usize::from(pick) % issued.len().min(3000) + 1;
        let from = issued.len() - back;
        issued[from..issued.len().min(from + usize::from(run))].to_vec()
    }

    fn positions(&self, pick: u16, run: u16) -> Vec<Position> {
        let positions = self.model.messages.keys();
        let from = usize::from(pick) % positions.len().max(1);
        positions.skip(from).take(run.into()).copied().collect()
    }

    fn consumer(&mut self, pick: u16) -> Option<(ConsumerId, &mut Demand)> {
        let count = self.model.consumers.len();
        let mut all = self.model.consumers.iter_mut();
        let (consumer, demand) = all.nth(usize::from(pick) % count.max(1))?;
        Some((*consumer, demand))
    }

    fn check(&mut self) {
        self.leave_rounding();
        let partitions = self.host.engine.partitions.iter();
        let waiting: usize = partitions.map(waiting_to_leave).sum();
        let outstanding = self.host.engine.outstanding();
        assert_eq!(outstanding - waiting, self.model.held.len());
        if !self.host.engine.ended().is_empty() {
            self.model.check_keys(self.host.now, self.host.config);
        }
        assert_eq!(self.host.engine.timers.leases(), outstanding as u64);
        let next = self.host.engine.next_deadline();
        assert!(next.is_none_or(|next| next > self.host.now), "overdue");
        if self.host.in_flight.is_none() && self.host.engine.lazy_flush.is_due() {
            self.start_flush(false);
            assert!(
                self.host.in_flight.is_some(),
                "due, but there is nothing to do"
            );
        }
        let has_unstored = |it: &Partition| it.ledger().failed().has_unstored();
        let is_storing = self.host.engine.partitions.iter().any(has_unstored);
        if self.host.reads.is_empty() && !is_storing {
            for (consumer, demand) in &self.model.consumers {
                let is_immediate = matches!(
                    demand,
                    Demand::Pull {
                        immediate: true,
                        ..
                    }
                );
                assert!(!is_immediate || self.host.engine.consumers.held_frames(*consumer) > 0);
            }
        }
        for partition in self.host.engine.partitions.iter() {
            if partition.ready() > 0 {
                self.passed_over.entry(partition.id()).or_default();
            }
        }
        self.see_wanted();
        let wanted_until = self.wanted_at.plus_millis(UNWANTED_MILLIS);
        let is_wanted = if self.host.config.exactly_once {
            // What is handed out and held back shows to nobody.
            self.host.engine.unwanted.is_wanted(self.host.now)
        } else {
            self.host.now < wanted_until
        };
        for partition in self.host.engine.partitions.iter() {
            partition.check(&self.host.engine.timers);
            assert!(is_wanted || !partition.has_loaded(), "nobody wants it");
            assert!(!is_wanted || !partition.leaves_due_unread());
            assert!(
                partition
                    .delayed()
                    .all(|time| rounded(time) > self.host.now)
            );
        }
    }

    fn see_wanted(&mut self) {
        if self.host.engine.consumers.are_hungry() {
            self.wanted_at = self.host.now;
        }
    }

    fn compare_with_stored(&mut self) {
        self.flush_all();
        let states = self.host.stored.states();
        let (mut restored, voided) = Engine::restore(
            self.host.now,
            self.host.config,
            &states,
            &self.host.log.ends(),
            self.host.epoch + 1,
        )
        .expect("readable");
        assert!(voided.is_empty());
        assert_eq!(restored.take_changes(true), None);
        for (partition, other) in self
            .host
            .engine
            .partitions
            .iter()
            .zip(restored.partitions.iter())
        {
            assert_eq!(partition.id(), other.id());
            assert_eq!(partition.ledger().generation(), other.ledger().generation());
            let (progress, same) = (partition.ledger().progress(), other.ledger().progress());
            assert_eq!(progress.cursor(), same.cursor());
            assert_eq!(progress.done_above_cursor(), same.done_above_cursor());
            assert_eq!(facts(partition), facts(other));
        }
    }

    fn deliver_all_that_is_left(&mut self) {
        for consumer in self.model.consumers.keys().copied().collect::<Vec<_>>() {
            self.model.consumers.remove(&consumer);
            self.handle(Input::Close { consumer });
        }
        self.host.log.repair();
        self.open(Demand::Stream {
            ack_deadline_millis: 10_000,
            messages_max: u64::MAX,
            bytes_max: u64::MAX,
            frames: u32::MAX,
        });
        for _ in 0..5_000 {
            while !self.host.reads.is_empty() {
                let out = self.host.answer_read(u64::MAX >> 1, false);
                self.take(&out);
            }
            let letters = self.model.letters.out(0, usize::MAX);
            self.forwarded(&letters, Outcome::Done);
            // What waits to leave is acknowledged too, before time passes.
            self.flush_all();
            let mine = |held: &Held| held.consumer == Some(ConsumerId(self.consumers));
            let mut to_ack = Vec::new();
            for (position, held) in &self.model.held {
                if mine(held) {
                    to_ack.push(LeaseId {
                        generation: self.generation(position.0),
                        partition: position.0,
                        offset: position.1,
                        number: held.number,
                        issue: held.issue.expect("of this engine"),
                    });
                }
            }
            self.ack(&to_ack);
            self.flush_all();
            self.check();
            if self
                .model
                .missing(self.host.now, self.host.config)
                .is_empty()
            {
                self.compare_with_stored();
                return;
            }
            let is_forwarding = !self.model.letters.out(0, 1).is_empty();
            if self.host.reads.is_empty() && !is_forwarding {
                let next = self.host.engine.next_deadline();
                let next = next.expect("something is missing and nothing is awaited");
                self.host.now = self.host.now.max(next);
                self.handle(Input::Tick);
            }
        }
        panic!("messages are never delivered");
    }
}

fn slot_of(partition: &Partition, offset: u64) -> Option<Slot> {
    let mut slots = partition.ledger().slots(offset..offset + 1);
    slots.next().map(|(_, slot)| slot)
}

/// Messages that are leased and wait to leave.
fn waiting_to_leave(partition: &Partition) -> usize {
    let ledger = partition.ledger();
    let offsets = ledger.leased_offsets();
    offsets
        .filter(|offset| ledger.waits_to_leave(*offset))
        .count()
}

/// What was delivered is stored as leased, until the deadline that the engine knows.
fn check_durable(stored: &Stored, deliveries: &[Delivery], leased: impl Fn(LeaseId) -> Delivered) {
    let chunk = |delivery: &Delivery| {
        let lease = delivery.lease;
        (lease.partition, lease.offset / CHUNK_OFFSETS)
    };
    for of_chunk in deliveries.chunk_by(|a, b| chunk(a) == chunk(b)) {
        let (partition, index) = chunk(&of_chunk[0]);
        let slots = stored.slots(partition, index);
        for delivery in of_chunk {
            let known = leased(delivery.lease);
            let known = Slot::Leased(Delivered {
                time: rounded(known.time),
                ..known
            });
            let slot = slots.get((delivery.lease.offset % CHUNK_OFFSETS) as usize);
            assert_eq!(slot, Some(&known));
        }
    }
}

/// What was delivered again is stored with all its failures.
fn check_stored_failures(
    stored: &Stored,
    deliveries: &[Delivery],
    leased: impl Fn(LeaseId) -> Delivered,
) {
    for delivery in deliveries {
        let lease = delivery.lease;
        let failures = leased(lease).attempts;
        if failures == 0 {
            continue;
        }
        let slots = stored.slots(lease.partition, lease.offset / CHUNK_OFFSETS);
        match slots.get((lease.offset % CHUNK_OFFSETS) as usize) {
            Some(Slot::Failed(stored) | Slot::Leased(stored)) => {
                assert_eq!(stored.attempts, failures, "{lease:?}");
            }
            slot => panic!("{lease:?} is {slot:?}"),
        }
    }
}

/// Leases with their deadlines as they are stored, and failed messages.
fn facts(partition: &Partition) -> Vec<(u64, Slot)> {
    let slots = partition.ledger().slots(0..u64::MAX).map(|(offset, slot)| {
        let slot = match slot {
            Slot::Leased(lease) => Slot::Leased(Delivered {
                time: rounded(lease.time),
                ..lease
            }),
            // Not the time: what damage puts off is not worth storing, a restart tries it at once.
            Slot::Failed(failed) => Slot::Failed(Delivered {
                time: Timestamp::ZERO,
                ..failed
            }),
            slot => slot,
        };
        (offset, slot)
    });
    slots.collect()
}
