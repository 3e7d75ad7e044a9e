//! What a run may do, one operation after the other.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{
    super::{
        model::{Held, Message, Model, Position, rounded},
        operations::Operation,
        order::key_of,
    },
    Run,
};
use crate::{
    clock::Timestamp,
    engine::{
        chunk::Slot,
        dead_letter::Outcome,
        input::{ClientId, Config, ConsumerId, Demand, Input, Issue, LeaseId},
        output::Verdict,
    },
    limits::CHUNK_OFFSETS,
};

impl Run {
    pub(super) fn operate(&mut self, operation: Operation) {
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
            Operation::Filter {
                partition,
                run,
                stale,
            } => self.filter(partition, run.into(), stale),
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

    /// Offsets without a message are found to be filtered out, before they are read.
    fn filter(&mut self, partition: u32, run: usize, stale: bool) {
        let cursor = self.partition(partition).ledger().progress().cursor();
        let offsets = self.host.log.gaps(partition, cursor).take(run);
        let offsets = offsets.map(|offset| offset..offset + 1).collect();
        self.handle(Input::Filtered {
            partition,
            generation: self.generation(partition).wrapping_sub(stale.into()),
            offsets,
        });
    }

    /// The next stream is of this client.
    fn is_of(&mut self, client: ClientId) {
        let consumer = ConsumerId(self.consumers + 1);
        if let Some(order) = &mut self.model.order {
            order.clients.insert(consumer, client);
        }
        self.handle(Input::Client { consumer, client });
    }

    pub(super) fn open(&mut self, demand: Demand) {
        self.consumers += 1;
        let consumer = ConsumerId(self.consumers);
        self.model.consumers.insert(consumer, demand);
        self.handle(Input::Open { consumer, demand });
    }

    pub(super) fn ack(&mut self, leases: &[LeaseId]) {
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
    pub(super) fn forwarded(&mut self, letters: &[Position], outcome: Outcome) {
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

    pub(super) fn start_flush(&mut self, all: bool) {
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

    pub(super) fn flush_all(&mut self) {
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
    pub(super) fn leave_rounding(&mut self) {
        while let Some(until) = self.model.rounding_until(self.host.now) {
            self.host.now = until;
            self.handle(Input::Tick);
        }
    }
}
