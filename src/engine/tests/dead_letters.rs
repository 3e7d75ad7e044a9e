//! What must hold of dead letters: each is forwarded when that it is one is stored, by one at a time, and meanwhile nobody
//! gets it.

use std::collections::BTreeSet;

use super::{
    model::{Model, Position},
    order::{KeyState, key_of},
    stored::Stored,
};
use crate::{
    clock::Timestamp,
    engine::{
        chunk::Slot,
        dead_letter::Outcome,
        input::Config,
        output::{DeadLetter, Output},
    },
    limits::{CHUNK_OFFSETS, FORWARDS_PER_PARTITION_MAX},
};

/// What the model knows of them.
#[derive(Debug, Default)]
pub(super) struct DeadLetters {
    /// Not refused, and not acknowledged.
    dead: BTreeSet<Position>,
    /// Those that are being forwarded.
    out: BTreeSet<Position>,
    /// Forwarded, and not acknowledged durably.
    pub(super) unstored: BTreeSet<Position>,
}

impl DeadLetters {
    pub(super) fn is_dead(&self, position: Position) -> bool {
        self.dead.contains(&position)
    }

    /// A message failed, altogether so often.
    pub(super) fn fails(&mut self, config: Config, position: Position, failures: u32) {
        if config.attempts_max.is_some_and(|max| failures >= max) {
            self.dead.insert(position);
        }
    }

    pub(super) fn forget(&mut self, position: Position) {
        for positions in [&mut self.dead, &mut self.out, &mut self.unstored] {
            positions.remove(&position);
        }
    }

    /// Some of those that are being forwarded.
    pub(super) fn out(&self, pick: u16, run: usize) -> Vec<Position> {
        let from = usize::from(pick) % self.out.len().max(1);
        self.out.iter().skip(from).take(run).copied().collect()
    }

    /// What came of one, of which the engine knows.
    pub(super) fn came(&mut self, position: Position, outcome: Outcome) {
        self.out.remove(&position);
        match outcome {
            Outcome::Done => {
                self.dead.remove(&position);
                self.unstored.insert(position);
            }
            Outcome::Refused => drop(self.dead.remove(&position)),
            Outcome::Failed { .. } => {}
        }
    }
}

impl Model {
    /// A new engine: what is stored as failed so often is dead. `leased`: how often what is leased has failed.
    pub(super) fn dead_letters_restarted(
        &mut self,
        config: Config,
        stored: &Stored,
        leased: Vec<(Position, u32)>,
    ) {
        self.attempts.extend(leased);
        self.letters = DeadLetters::default();
        for state in stored.states() {
            for chunk in &state.chunks {
                let offsets = chunk.index * CHUNK_OFFSETS..;
                let slots = stored.slots(state.partition, chunk.index);
                for (offset, slot) in offsets.zip(slots) {
                    let position = (state.partition, offset);
                    if let Slot::Dead(failed) = slot
                        && offset >= state.cursor
                        && self.messages.contains_key(&position)
                    {
                        self.letters.fails(config, position, failed.attempts);
                    }
                }
            }
        }
    }

    /// Checks and takes in what the engine wants forwarded.
    pub(super) fn forward(
        &mut self,
        now: Timestamp,
        config: Config,
        (partition, messages): (u32, &[DeadLetter]),
        stored: &Stored,
    ) {
        assert!(!messages.is_empty());
        let states = self.key_states(now, config);
        for message in messages {
            let position = (partition, message.offset);
            assert!(!self.held.contains_key(&position) && !self.acked.contains(&position));
            // What of a key fails after a restart is not always known here.
            let is_dead = self.letters.dead.contains(&position) || self.order.is_some();
            assert!(is_dead, "{position:?} is not dead");
            self.letters.dead.insert(position);
            assert!(
                self.letters.out.insert(position),
                "{position:?} is out already"
            );
            let max = config.attempts_max.expect("a policy");
            assert!(message.attempts >= max);
            let slots = stored.slots(partition, message.offset / CHUNK_OFFSETS);
            match slots.get((message.offset % CHUNK_OFFSETS) as usize) {
                Some(Slot::Dead(failed)) => assert_eq!(failed.attempts, message.attempts),
                slot => panic!("{position:?} is {slot:?}"),
            }
            // Of a message that is gone from the log there is nothing to publish, whenever that is.
            let is_gone = self.messages.get(&position).is_none_or(|it| it.removed);
            if let Some(key) = key_of(message.offset).filter(|_| !is_gone)
                && let Some(first) = states.get(&(partition, key)).and_then(KeyState::first)
            {
                assert!(
                    first >= message.offset,
                    "{position:?} is not the next of its key"
                );
            }
        }
        let out = self.letters.out.range((partition, 0)..(partition + 1, 0));
        assert!(out.count() <= FORWARDS_PER_PARTITION_MAX);
    }
}

/// The messages that are to be forwarded, if this asks for some.
pub(super) fn forwards(output: &Output) -> Option<(u32, &[DeadLetter])> {
    match output {
        Output::Forward {
            partition,
            messages,
            ..
        } => Some((*partition, messages)),
        _ => None,
    }
}
