//! What must hold of ordering keys: what of a key is out is all before what is not, and with one consumer.

use std::collections::{BTreeMap, BTreeSet};

use super::model::{Held, Model, Position, rounded};
use crate::{
    clock::Timestamp,
    engine::{
        input::{ClientId, Config, ConsumerId, OrderingKey},
        output::Ended,
    },
};

/// Some keys for the messages of the property test; `None` for some of them.
pub(super) fn key_of(offset: u64) -> Option<OrderingKey> {
    match offset * 7 % 11 {
        0 | 6 => None,
        1..6 => Some(OrderingKey::new(1)),
        7 | 8 => Some(OrderingKey::new(2)),
        _ => Some(OrderingKey::new(3 + offset % 40)),
    }
}

/// What the model knows besides, of an ordered subscription.
#[derive(Debug, Default)]
pub(super) struct Order {
    pub(super) clients: BTreeMap<ConsumerId, ClientId>,
    /// Could not be read at some time.
    pub(super) absent: BTreeSet<Position>,
    /// Failed themselves, and were not delivered since.
    itself: BTreeSet<Position>,
    /// Failed attempts.
    attempts: BTreeMap<Position, u32>,
}

/// A key's messages that are neither done nor absent.
#[derive(Debug, Default)]
pub(super) struct KeyState {
    held: BTreeMap<u64, Option<ConsumerId>>,
    others: BTreeSet<u64>,
}

impl KeyState {
    /// The first of them.
    pub(super) fn first(&self) -> Option<u64> {
        let held = self.held.first_key_value().map(|(offset, _)| *offset);
        held.into_iter().chain(self.others.first().copied()).min()
    }
}

pub(super) type KeyStates = BTreeMap<(u32, OrderingKey), KeyState>;

impl Order {
    pub(super) fn restarted(&mut self) {
        self.clients.clear();
        self.itself.clear();
        self.attempts.clear();
    }

    fn failed(&mut self, position: Position) {
        self.itself.insert(position);
        if let Some(attempts) = self.attempts.get_mut(&position) {
            *attempts += 1;
        }
    }
}

impl Model {
    /// A delivery was given back as failed.
    pub(super) fn failed(&mut self, position: Position) {
        if let Some(order) = &mut self.order {
            order.failed(position);
        }
    }

    /// Leases whose time has come: of a key the first one fails, and those behind it end with it.
    pub(super) fn leases_end(&mut self, now: Timestamp) -> Vec<Position> {
        let is_over = |held: &Held| rounded(held.deadline) <= now;
        let Some(order) = &mut self.order else {
            let over = self.held.extract_if(.., |_, held| is_over(held));
            return over.map(|(position, _)| position).collect();
        };
        let (mut failed, mut unsure) = (BTreeSet::new(), BTreeSet::new());
        let mut counted = Vec::new();
        let over = self.held.extract_if(.., |_, held| is_over(held));
        for (position, held) in over.collect::<Vec<_>>() {
            let key = key_of(position.1).map(|key| (position.0, key));
            if held.consumer.is_none() || order.absent.contains(&position) {
                // Its key may not be known, and then what is behind it fails by itself.
                unsure.extend(key);
            }
            if key.is_some_and(|key| unsure.contains(&key)) {
                order.attempts.remove(&position);
            } else if key.is_none_or(|key| failed.insert(key)) {
                order.failed(position);
                counted.push(position);
            }
        }
        counted
    }

    /// Whether a message before it in its key came back, so that its lease ends.
    fn is_behind_failed(&self, position: Position) -> bool {
        let key = key_of(position.1);
        let before = self.messages.range((position.0, 0)..position);
        let mut of_key = before.filter(|(it, _)| key.is_some() && key_of(it.1) == key);
        of_key.any(|(it, _)| !self.held.contains_key(it))
    }

    /// Takes in which leases ended because of others.
    pub(super) fn end_behind(&mut self, ended: &[Ended]) {
        for ended in ended {
            self.ends_behind((ended.partition, ended.offset), ended.number);
        }
    }

    /// Whether something before this message in its key is not acknowledged.
    pub(super) fn is_undone_before(&self, (partition, offset): Position) -> bool {
        let key = key_of(offset);
        let mut before = self.messages.range((partition, 0)..(partition, offset));
        key.is_some() && before.any(|(it, _)| key_of(it.1) == key && !self.acked.contains(it))
    }

    /// Whether something before this message in its key was delivered by this engine, and is leased.
    pub(super) fn is_held_before(&self, (partition, offset): Position) -> bool {
        let key = key_of(offset).filter(|_| self.order.is_some());
        let mut before = self.held.range((partition, 0)..(partition, offset));
        key.is_some() && before.any(|(it, held)| key_of(it.1) == key && held.issue.is_some())
    }

    /// Whether this lease ended because of another one.
    pub(super) fn ends_behind(&mut self, position: Position, number: u32) -> bool {
        let is_held = self
            .held
            .get(&position)
            .is_some_and(|it| it.number == number);
        if self.order.is_none() || !is_held {
            return false;
        }
        assert!(self.is_behind_failed(position), "{position:?} ended");
        self.held.remove(&position);
        true
    }

    /// What of each key is out and what is not.
    pub(super) fn key_states(&self, now: Timestamp, config: Config) -> KeyStates {
        let mut states = KeyStates::new();
        let Some(order) = &self.order else {
            return states;
        };
        for (position, message) in &self.messages {
            let Some(key) = key_of(position.1) else {
                continue;
            };
            // What was forwarded is left until its ack is durable.
            let is_acked =
                self.acked.contains(position) && !self.letters.unstored.contains(position);
            let is_left = !message.removed
                && !is_acked
                && !self.perhaps.contains(position)
                && !order.absent.contains(position)
                && message.publish_time.plus_millis(config.retention_millis) > now;
            if !is_left {
                continue;
            }
            let state = states.entry((position.0, key)).or_default();
            match self.held.get(position) {
                Some(held) => drop(state.held.insert(position.1, held.consumer)),
                None => drop(state.others.insert(position.1)),
            }
        }
        states
    }

    /// A message goes to a consumer.
    pub(super) fn goes_out(
        &mut self,
        states: &mut KeyStates,
        position: Position,
        consumer: ConsumerId,
        attempts: Option<u32>,
    ) {
        let (Some(key), Some(order)) = (key_of(position.1), &mut self.order) else {
            return;
        };
        let (partition, offset) = position;
        let expected = order.attempts.remove(&position);
        if let Some(attempts) = attempts {
            assert!(
                expected.is_none_or(|it| it == attempts),
                "{position:?}: {attempts} attempts, {expected:?} expected"
            );
            order.attempts.insert(position, attempts);
        }
        let is_itself = order.itself.remove(&position);
        let Some(state) = states.get_mut(&(partition, key)) else {
            return;
        };
        let before = state.others.range(..offset).next();
        assert_eq!(before, None, "{position:?} is not the next of its key");
        let is_head = state.held.range(..offset).next().is_none();
        assert!(!is_itself || is_head, "{position:?} failed and is not head");
        let ends = [state.held.first_key_value(), state.held.last_key_value()];
        for (held, owner) in ends.into_iter().flatten() {
            let is_same = owner.is_some_and(|owner| {
                let client = order.clients.get(&consumer);
                let is_gone = !self.consumers.contains_key(&owner);
                owner == consumer
                    || (is_gone && client.is_some() && order.clients.get(&owner) == client)
            });
            assert!(is_same, "{position:?}: {held} of its key is with {owner:?}");
        }
        if state.others.remove(&offset) {
            state.held.insert(offset, Some(consumer));
        }
    }

    /// Nothing of a key is out behind what is not.
    pub(super) fn check_keys(&self, now: Timestamp, config: Config) {
        for ((partition, key), state) in self.key_states(now, config) {
            let Some(open) = state.others.first() else {
                continue;
            };
            for (held, consumer) in state.held.range(open..) {
                assert_eq!(
                    *consumer, None,
                    "{held} of {partition} is out and {open} of {key:?} is not"
                );
            }
        }
    }
}
