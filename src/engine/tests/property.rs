//! Random operations, with crashes at every point: nothing acknowledged returns, nothing else is lost, and nobody
//! gets what somebody else has.

use std::{collections::BTreeMap, env};

use bytes::Bytes;
use proptest::prelude::*;

use super::{
    host::Host,
    model::{Held, Message, Model, Place, rounded},
    operations::{Operation, operations},
};
use crate::{
    clock::Timestamp,
    engine::{
        Engine,
        input::{Config, ConsumerId, Demand, Input, LeaseId},
        output::Output,
        partition::Partition,
    },
    limits::{CHUNK_OFFSETS, PREFETCH_BYTES_MAX, PREFETCH_MESSAGES_MAX},
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
        let mut run = Run::new();
        for operation in operations {
            run.operate(operation);
            run.check();
        }
        run.deliver_all_that_is_left();
    }
}

struct Run {
    host: Host,
    model: Model,
    consumers: u64,
    /// Acknowledged since the last flush started.
    waiting: Vec<Place>,
    /// Confirmed by the flush that is on its way.
    flushing: Vec<Place>,
}

impl Run {
    fn new() -> Self {
        let config = Config {
            ack_deadline_millis: 10_003,
            retention_millis: 604_800_000,
        };
        Self {
            host: Host::new(Timestamp::from_millis(1_000_000_000_001), config, 2),
            model: Model::default(),
            consumers: 0,
            waiting: Vec::new(),
            flushing: Vec::new(),
        }
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
                messages,
                bytes,
                frames,
            } => self.open(Demand::Stream {
                ack_deadline_millis: self.host.config.ack_deadline_millis + 1,
                messages_max: messages.map_or(u64::MAX, u64::from),
                bytes_max: bytes.map_or(u64::MAX, u64::from),
                frames: frames.into(),
            }),
            Operation::Pull {
                messages,
                immediate,
            } => self.open(Demand::Pull {
                messages_max: messages.into(),
                immediate,
            }),
            Operation::Room { pick, frames } => {
                let frames = frames.into();
                if let Some((consumer, Demand::Stream { frames: room, .. })) = self.consumer(pick) {
                    *room = frames;
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
                self.ack(leases);
            }
            Operation::AckForeign { offset, generation } => {
                let lease = LeaseId {
                    generation: u32::from(generation) + 100,
                    partition: 0,
                    offset: offset.into(),
                    number: 1,
                };
                let end = self.host.log.ends()[1];
                let beyond = LeaseId {
                    generation: self.generation(1),
                    partition: 1,
                    offset: end + u64::from(offset),
                    number: 1,
                };
                self.ack(vec![lease, beyond]);
            }
            Operation::ModifyDeadline { pick, run, millis } => {
                let leases = self.issued(pick, run.into());
                let deadline = (millis > 0).then(|| self.host.now.plus_millis(millis));
                for lease in self.current(&leases) {
                    self.model.change(lease, deadline);
                }
                let changes = leases.into_iter().map(|lease| (lease, millis)).collect();
                self.handle(Input::ModifyDeadline(changes));
            }
            Operation::Return { pick, run } => {
                let leases = self.issued(pick, run.into());
                for lease in self.current(&leases) {
                    self.model.change(lease, None);
                }
                self.handle(Input::Returned(leases));
            }
            Operation::Wait { millis } => self.wait(u64::from(millis)),
            Operation::Read { limit, fails } => {
                let out = self.host.answer_read(limit.into(), fails);
                self.take(&out);
            }
            Operation::StartFlush => self.start_flush(false),
            Operation::EndFlush { stored } => self.end_flush(stored),
            Operation::Crash { stored } => self.crash(stored),
            Operation::Restart => {
                self.flush_all();
                let before = self.model.held.clone();
                self.restart();
                let kept =
                    |(place, held): (&Place, &Held)| (*place, held.number, rounded(held.deadline));
                let after: Vec<_> = self.model.held.iter().map(kept).collect();
                assert_eq!(before.iter().map(kept).collect::<Vec<_>>(), after);
            }
            Operation::LoseEnd {
                partition,
                messages,
            } => self.lose_end(partition, messages.into()),
            Operation::Damage { pick, run } => {
                for (partition, offset) in self.places(pick, run.into()) {
                    self.host.log.damage(partition, offset);
                }
            }
            Operation::Repair => self.host.log.repair(),
            Operation::Remove { pick, run } => {
                for place in self.places(pick, run) {
                    self.host.log.remove(place.0, place.1);
                    self.model
                        .messages
                        .get_mut(&place)
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
            let offset = self.host.log.append(partition, self.host.now, body);
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

    fn open(&mut self, demand: Demand) {
        self.consumers += 1;
        let consumer = ConsumerId(self.consumers);
        self.model.consumers.insert(consumer, demand);
        self.handle(Input::Open { consumer, demand });
    }

    fn ack(&mut self, leases: Vec<LeaseId>) {
        for lease in self.current(&leases) {
            let place = (lease.partition, lease.offset);
            if lease.offset < self.host.log.ends()[lease.partition as usize] {
                self.model.ack(place);
                self.waiting.push(place);
            }
        }
        self.handle(Input::Ack(leases));
    }

    fn start_flush(&mut self, all: bool) {
        let was_on_its_way = self.host.in_flight.is_some();
        if self.host.start_flush(all) {
            self.flushing.append(&mut self.waiting);
        } else if !was_on_its_way {
            self.model.confirmed.extend(self.waiting.drain(..));
        }
    }

    fn end_flush(&mut self, stored: bool) {
        if self.host.in_flight.is_none() {
            return;
        }
        if stored {
            self.model.confirmed.extend(self.flushing.drain(..));
        } else {
            self.waiting.append(&mut self.flushing);
        }
        let out = self.host.end_flush(stored);
        self.take(&out);
    }

    fn flush_all(&mut self) {
        self.end_flush(true);
        self.start_flush(true);
        self.end_flush(true);
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
        for (id, partition) in &self.host.engine.partitions {
            for (offset, lease) in &partition.leases {
                let held = Held {
                    number: lease.number,
                    deadline: lease.deadline,
                    consumer: None,
                };
                stored.insert((*id, *offset), held);
            }
        }
        self.model.restarted(stored);
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
        let mut turns = 0;
        while let Some(next) = self.host.engine.next_deadline(self.host.now) {
            if next > until {
                break;
            }
            turns += 1;
            assert!(turns < 100_000, "a busy loop");
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
        self.model.pass_time(self.host.now);
        self.model.take(self.host.now, self.host.config, out);
    }

    fn generation(&self, partition: u32) -> u32 {
        self.host.engine.partitions[&partition].generation
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

    fn places(&self, pick: u16, run: u16) -> Vec<Place> {
        let places = self.model.messages.keys();
        let from = usize::from(pick) % places.len().max(1);
        places.skip(from).take(run.into()).copied().collect()
    }

    fn consumer(&mut self, pick: u16) -> Option<(ConsumerId, &mut Demand)> {
        let count = self.model.consumers.len();
        let mut all = self.model.consumers.iter_mut();
        let (consumer, demand) = all.nth(usize::from(pick) % count.max(1))?;
        Some((*consumer, demand))
    }

    fn check(&mut self) {
        self.leave_rounding();
        assert_eq!(self.host.engine.outstanding(), self.model.held.len());
        let now = self.host.now;
        if self.host.in_flight.is_none()
            && let Some(deadline) = self.host.engine.next_deadline(now)
            && deadline <= now
        {
            self.start_flush(false);
            assert!(
                self.host.in_flight.is_some(),
                "due, but there is nothing to do"
            );
        }
        if self.host.reads.is_empty() {
            let answered = |demand: &Demand| {
                !matches!(
                    demand,
                    Demand::Pull {
                        immediate: true,
                        ..
                    }
                )
            };
            assert!(self.model.consumers.values().all(answered));
        }
        for partition in self.host.engine.partitions.values() {
            check_partition(partition);
        }
    }

    fn compare_with_stored(&mut self) {
        self.flush_all();
        let states = self.host.stored.states();
        let (mut restored, voided) =
            Engine::restore(self.host.config, &states, &self.host.log.ends()).expect("readable");
        assert!(voided.is_empty());
        assert_eq!(restored.take_changes(self.host.now, true), None);
        for (id, partition) in &self.host.engine.partitions {
            let other = &restored.partitions[id];
            assert_eq!(partition.generation, other.generation);
            assert_eq!(partition.cursor, other.cursor);
            assert_eq!(partition.acked, other.acked);
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
        for _ in 0..100_000 {
            while !self.host.reads.is_empty() {
                let out = self.host.answer_read(u64::MAX >> 1, false);
                self.take(&out);
            }
            let mine = |held: &Held| held.consumer == Some(ConsumerId(self.consumers));
            let mut to_ack = Vec::new();
            for (place, held) in &self.model.held {
                if mine(held) {
                    to_ack.push(LeaseId {
                        generation: self.generation(place.0),
                        partition: place.0,
                        offset: place.1,
                        number: held.number,
                    });
                }
            }
            self.ack(to_ack);
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
            if self.host.reads.is_empty() {
                let next = self.host.engine.next_deadline(self.host.now);
                let next = next.expect("something is missing and nothing is awaited");
                self.host.now = self.host.now.max(next);
                self.handle(Input::Tick);
            }
        }
        panic!("messages are never delivered");
    }
}

/// Leases with their deadlines as they are stored, and failed messages.
fn facts(partition: &Partition) -> Vec<(u64, bool, Timestamp, u32, u32)> {
    let leases = partition.leases.iter().map(|(offset, lease)| {
        let deadline = rounded(lease.deadline);
        (*offset, true, deadline, lease.number, lease.attempts)
    });
    let failed = partition.failed.iter().map(|(offset, failed)| {
        // Not the time: what damage puts off is not worth storing, a restart tries it at once.
        let any_time = Timestamp::ZERO;
        (*offset, false, any_time, failed.number, failed.attempts)
    });
    leases.chain(failed).collect()
}

fn check_partition(partition: &Partition) {
    let ready_bytes: usize = partition
        .ready
        .values()
        .map(|message| message.body.len())
        .sum();
    assert_eq!(partition.ready_bytes, ready_bytes);
    assert!(ready_bytes <= PREFETCH_BYTES_MAX && partition.ready.len() <= PREFETCH_MESSAGES_MAX);
    assert!(partition.cursor <= partition.next && partition.next <= partition.end);
    assert!(!partition.acked.contains(&partition.cursor));
    for offset in partition.leases.keys() {
        assert!(!partition.is_done(*offset) && !partition.failed.contains_key(offset));
        assert!(!partition.ready.contains_key(offset));
    }
    for (offset, failed) in &partition.failed {
        let places = [
            partition.due.contains(offset),
            partition.delayed.contains(&(failed.not_before, *offset)),
            partition.ready.contains_key(offset),
        ];
        assert!(!partition.is_done(*offset));
        assert_eq!(places.iter().filter(|is_there| **is_there).count(), 1);
    }
    let waiting = partition.due.len() + partition.delayed.len();
    assert!(waiting <= partition.failed.len());
    assert!(
        partition
            .ready
            .keys()
            .all(|offset| !partition.is_done(*offset))
    );
}
