//! What must hold, in sets and maps: who has which message until when, and what is acknowledged.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    dead_letters::DeadLetters,
    order::{KeyStates, Order},
};
use crate::{
    clock::Timestamp,
    engine::{
        chunk::Delivered,
        input::{Config, ConsumerId, Demand, Issue, LeaseId},
        output::{Delivery, Output, Verdict},
    },
    limits::{CONFIRMED_MILLIS, DELIVERY_BYTES_MAX, DELIVERY_MESSAGES_MAX},
};

/// Partition and offset.
pub(super) type Position = (u32, u64);

/// A published message.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) publish_time: Timestamp,
    pub(super) bytes: u64,
    /// The log does not have it any more.
    pub(super) removed: bool,
}

/// A delivery that may still be acknowledged in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) number: u32,
    pub(super) deadline: Timestamp,
    pub(super) consumer: Option<ConsumerId>,
    /// `None` for one from before a restart.
    pub(super) issue: Option<Issue>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) messages: BTreeMap<Position, Message>,
    pub(super) held: BTreeMap<Position, Held>,
    pub(super) consumers: BTreeMap<ConsumerId, Demand>,
    /// Whose acks were confirmed: for ever.
    pub(super) confirmed: BTreeSet<Position>,
    /// Acknowledged in this life of the engine; a crash may forget those that are not confirmed.
    pub(super) acked: BTreeSet<Position>,
    /// May come again, or not: acknowledged before a crash and not confirmed, or too old for a while.
    pub(super) perhaps: BTreeSet<Position>,
    /// Every delivery, for later acks.
    pub(super) issued: Vec<LeaseId>,
    /// Which delivery acknowledged each under exactly-once delivery, and when.
    pub(super) acked_by: BTreeMap<Position, (u32, Timestamp)>,
    /// Of the engine.
    pub(super) epoch: u64,
    /// If keys keep their order.
    pub(super) order: Option<Order>,
    pub(super) letters: DeadLetters,
    /// The last number of each message in this life of the engine.
    numbers: BTreeMap<Position, u32>,
    /// Failed deliveries of each message at its last one.
    pub(super) attempts: BTreeMap<Position, u32>,
    /// When messages may be delivered again that failed in this life of the engine.
    not_before: BTreeMap<Position, Timestamp>,
}

/// Deadlines are in ticks of 10 ms, rounded up.
pub(super) fn rounded(deadline: Timestamp) -> Timestamp {
    Timestamp::from_millis(deadline.as_millis().div_ceil(10) * 10)
}

impl Model {
    /// Nothing has happened; whether keys keep their order.
    pub(super) fn new(is_ordered: bool) -> Self {
        Self {
            order: is_ordered.then(Order::default),
            epoch: 1,
            ..Self::default()
        }
    }

    pub(super) fn pass_time(&mut self, now: Timestamp, config: Config) {
        for position in self.leases_end(now) {
            self.fails(now, config, position);
        }
    }

    fn fails(&mut self, now: Timestamp, config: Config, position: Position) {
        let failures = self.attempts.get(&position).copied().unwrap_or(0) + 1;
        let wait = config.retry.map_or(0, |backoff| {
            let doubled = u128::from(backoff.min_millis) << (failures - 1).min(64);
            doubled.min(backoff.max_millis.into()) as u64
        });
        self.not_before.insert(position, now.plus_millis(wait));
        self.letters.fails(config, position, failures);
    }

    /// The next time at which a lease is over but may last a little, because of rounding.
    pub(super) fn rounding_until(&self, now: Timestamp) -> Option<Timestamp> {
        let over = |held: &&Held| held.deadline <= now && rounded(held.deadline) > now;
        let until = |held: &Held| rounded(held.deadline);
        self.held.values().filter(over).map(until).max()
    }

    /// What a request with this id must find, by what is known here; the id is of the current generation and of a
    /// message that the log has. What the engine may count as done by itself is `Done` or not. The repeat of what
    /// `is_repeatable` succeeds.
    pub(super) fn judge(
        &mut self,
        now: Timestamp,
        config: Config,
        lease: LeaseId,
        (found, is_repeatable): (Verdict, bool),
    ) -> Verdict {
        let position = (lease.partition, lease.offset);
        let is_held = self.holds(lease);
        if is_held && found == Verdict::Ended && self.ends_behind(position, lease.number) {
            return found;
        }
        if self.holds(lease) {
            if found == Verdict::Unordered {
                assert!(config.exactly_once && self.is_undone_before(position));
                return found;
            }
            return Verdict::Applied;
        }
        if is_repeatable
            && let Some((number, at)) = self.acked_by.get(&position)
            && *number == lease.number
        {
            let is_remembered = at.plus_millis(CONFIRMED_MILLIS) > now;
            if is_remembered && self.acked.contains(&position) {
                return Verdict::Applied;
            }
            // It may be remembered a little longer, or the flush of it was stored before a crash.
            if found == Verdict::Applied {
                return found;
            }
        }
        if self.acked.contains(&position) {
            return Verdict::Done;
        }
        let message = self.messages.get(&position);
        let may_be_done = self.perhaps.contains(&position)
            || message.is_none_or(|message| {
                message.removed || message.publish_time.plus_millis(config.retention_millis) <= now
            });
        if may_be_done && found == Verdict::Done {
            return found;
        }
        Verdict::Ended
    }

    /// Whether this delivery is leased.
    pub(super) fn holds(&self, lease: LeaseId) -> bool {
        let held = self.held.get(&(lease.partition, lease.offset));
        held.is_some_and(|held| {
            let is_of_issuer = match held.issue {
                Some(issue) => issue == lease.issue,
                None => lease.issue.epoch < self.epoch,
            };
            held.number == lease.number && is_of_issuer
        })
    }

    pub(super) fn ack(&mut self, position: Position) {
        self.held.remove(&position);
        self.acked.insert(position);
        self.letters.forget(position);
    }

    /// Moves the lease, if the id is that of the newest delivery.
    pub(super) fn extend(&mut self, lease: LeaseId, deadline: Timestamp) {
        if self.holds(lease)
            && let Some(held) = self.held.get_mut(&(lease.partition, lease.offset))
        {
            held.deadline = deadline;
        }
    }

    /// Ends the lease, if the id is that of the newest delivery, which failed if it `counts`. Whether it ended.
    pub(super) fn give_back(
        &mut self,
        now: Timestamp,
        config: Config,
        lease: LeaseId,
        counts: bool,
    ) -> bool {
        let position = (lease.partition, lease.offset);
        if !self.holds(lease) {
            return false;
        }
        self.held.remove(&position);
        if counts {
            self.fails(now, config, position);
        }
        true
    }

    /// What is too old now may be dropped, and need not come when the retention is raised.
    pub(super) fn retention_changes(&mut self, now: Timestamp, old: Config) {
        let too_old =
            |message: &Message| message.publish_time.plus_millis(old.retention_millis) <= now;
        let dropped = self.messages.iter().filter(|(_, message)| too_old(message));
        self.perhaps.extend(dropped.map(|(position, _)| *position));
    }

    /// A new engine: consumers are gone, and what `stored` says about leases holds. Only leases that were durable
    /// before their messages left are remembered.
    pub(super) fn restarted(
        &mut self,
        stored: BTreeMap<Position, Held>,
        exactly_once: bool,
        epoch: u64,
    ) {
        self.epoch = epoch;
        self.consumers.clear();
        self.not_before.clear();
        self.order.iter_mut().for_each(Order::restarted);
        self.held = stored;
        let acked = std::mem::replace(&mut self.acked, self.confirmed.clone());
        self.perhaps.extend(acked);
        if !exactly_once {
            self.numbers.clear();
            self.attempts.clear();
        }
    }

    pub(super) fn lose(&mut self, partition: u32, end: u64) {
        let lost = |position: &Position| position.0 == partition && position.1 >= end;
        self.messages.retain(|position, _| !lost(position));
        self.held.retain(|position, _| !lost(position));
        self.confirmed.retain(|position| !lost(position));
        self.acked.retain(|position| !lost(position));
        self.acked_by.retain(|position, _| !lost(position));
        self.perhaps.retain(|position| !lost(position));
        self.numbers.retain(|position, _| !lost(position));
        self.attempts.retain(|position, _| !lost(position));
        if let Some(order) = &mut self.order {
            order.absent.retain(|position| !lost(position));
        }
        // The store may not have known these yet, and then cannot void their ids.
        self.issued
            .retain(|lease| !lost(&(lease.partition, lease.offset)));
    }

    /// Messages that a consumer must get, sooner or later.
    pub(super) fn missing(&self, now: Timestamp, config: Config) -> Vec<Position> {
        let wanted = |(position, message): &(&Position, &Message)| {
            !message.removed
                && !self.acked.contains(position)
                && !self.perhaps.contains(position)
                && message.publish_time.plus_millis(config.retention_millis) > now
        };
        let missing = self.messages.iter().filter(wanted);
        missing.map(|(position, _)| *position).collect()
    }

    /// Checks and takes in what the engine did; `leased` says what it now knows of a lease.
    pub(super) fn take(
        &mut self,
        now: Timestamp,
        config: Config,
        out: &[Output],
        leased: impl Fn(LeaseId) -> Delivered,
    ) {
        let delivers = |it: &Output| matches!(it, Output::Deliver { .. });
        let mut keys = if out.iter().any(delivers) {
            self.key_states(now, config)
        } else {
            KeyStates::new()
        };
        for output in out {
            match output {
                Output::Deliver {
                    consumer,
                    deadline,
                    deliveries,
                } => {
                    let ends = |it: &Delivery| leased(it.lease).time == *deadline;
                    assert!(config.exactly_once || deliveries.iter().all(ends));
                    for delivery in deliveries {
                        let lease = delivery.lease;
                        let position = (lease.partition, lease.offset);
                        // What never left counts as no attempt, and shows to nobody here.
                        let attempts = (!config.exactly_once).then(|| leased(lease).attempts);
                        self.goes_out(&mut keys, position, *consumer, attempts);
                    }
                    self.delivered(now, config, *consumer, deliveries, &leased);
                }
                Output::Empty { consumer, .. } => {
                    let demand = self.consumers.remove(consumer);
                    assert!(matches!(demand, Some(Demand::Pull { .. })));
                }
                Output::Read { .. } | Output::Late { .. } | Output::Forward { .. } => {}
            }
        }
    }

    fn delivered(
        &mut self,
        now: Timestamp,
        config: Config,
        consumer: ConsumerId,
        deliveries: &[Delivery],
        leased: impl Fn(LeaseId) -> Delivered,
    ) {
        let demand = *self.consumers.get(&consumer).expect("it is still here");
        assert!(!deliveries.is_empty() && deliveries.len() <= DELIVERY_MESSAGES_MAX);
        let frame_bytes: usize = deliveries.iter().map(|delivery| delivery.body.len()).sum();
        assert!(deliveries.len() == 1 || frame_bytes <= DELIVERY_BYTES_MAX);
        let lease_millis = match demand {
            Demand::Stream {
                ack_deadline_millis,
                ..
            } => ack_deadline_millis,
            Demand::Pull { messages_max, .. } => {
                assert!(deliveries.len() <= messages_max);
                self.consumers.remove(&consumer);
                config.ack_deadline_millis
            }
        };
        let mine = |held: &&Held| held.consumer == Some(consumer);
        let outstanding = self.held.values().filter(mine).count() as u64;
        let of_mine = self.held.iter().filter(|(_, held)| mine(held));
        let mut outstanding_bytes: u64 = of_mine
            .map(|(position, _)| self.messages[position].bytes)
            .sum();
        for (outstanding, delivery) in (outstanding..).zip(deliveries) {
            if let Demand::Stream {
                messages_max,
                bytes_max,
                ..
            } = demand
            {
                assert!(
                    outstanding < messages_max,
                    "more messages than the stream takes"
                );
                assert!(
                    outstanding_bytes < bytes_max,
                    "more bytes than the stream takes"
                );
            }
            outstanding_bytes += delivery.body.len() as u64;
            let lease = leased(delivery.lease);
            self.one_delivered(now, config, delivery, lease.attempts);
            if !config.exactly_once {
                assert_eq!(lease.time, now.plus_millis(lease_millis));
            }
            self.held.insert(
                (delivery.lease.partition, delivery.lease.offset),
                Held {
                    number: delivery.lease.number,
                    deadline: lease.time,
                    consumer: Some(consumer),
                    issue: Some(delivery.lease.issue),
                },
            );
        }
        if let Some(Demand::Stream { frames, .. }) = self.consumers.get_mut(&consumer) {
            assert!(*frames > 0, "no room for a frame");
            *frames -= 1;
        }
    }

    fn one_delivered(
        &mut self,
        now: Timestamp,
        config: Config,
        delivery: &Delivery,
        attempts: u32,
    ) {
        let lease = delivery.lease;
        let position = (lease.partition, lease.offset);
        let message = self.messages.get(&position).expect("it was published");
        assert_eq!(message.publish_time, delivery.publish_time);
        assert_eq!(message.bytes, delivery.body.len() as u64);
        assert!(
            message.publish_time.plus_millis(config.retention_millis) > now,
            "{position:?} is too old"
        );
        assert!(
            !self.confirmed.contains(&position),
            "{position:?} was confirmed"
        );
        assert!(
            !self.acked.contains(&position),
            "{position:?} was acknowledged"
        );
        assert!(!self.held.contains_key(&position), "{position:?} is leased");
        assert!(!self.letters.is_dead(position), "{position:?} is dead");
        let not_before = self.not_before.get(&position);
        assert!(
            not_before.is_none_or(|it| *it <= now),
            "{position:?} is early"
        );
        let last = self.numbers.insert(position, lease.number).unwrap_or(0);
        assert!(
            lease.number > last,
            "{position:?} has number {last} already"
        );
        let before = self.attempts.insert(position, attempts).unwrap_or(0);
        assert!(
            attempts >= before,
            "{position:?} had {before} attempts already"
        );
        self.issued.push(lease);
    }
}
