//! Messages of a partition that failed as often as the dead letter policy allows, until they were forwarded
//! (docs/behaviour.md, section 11.2).
//!
//! Each is a failed message (`failed`), stored as such, that nobody gets: it is forwarded when its failure is stored and,
//! if it has an ordering key, nothing before it in its key is undone.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    ops::Range,
};

use super::timers::{Timer, Timers, rounded};
use crate::{clock::Timestamp, limits::FORWARDS_PER_PARTITION_MAX};

/// What came of forwarding a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was published, or there is nothing to publish any more.
    Done,
    /// It cannot be published where the policy says. It is delivered again.
    Refused,
    /// It was not published for now, or nobody knows.
    Failed {
        /// When to try again.
        retry_at: Timestamp,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// For its failure to be stored, or for what is before it in its key.
    Waits,
    Due,
    Out,
    /// It is tried again at this time.
    PutOff(Timestamp),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Forwards {
    partition: u32,
    messages: BTreeMap<u64, Stage>,
    /// Those that may be forwarded.
    due: BTreeSet<u64>,
    /// Those that were taken and have no outcome, with `gone`.
    out: usize,
    /// Those of them that are done meanwhile: they are still being published.
    gone: BTreeSet<u64>,
    /// Those whose failure was stored since this was asked last.
    stored: Vec<u64>,
    /// Those that were forwarded, and whose acknowledgement waits until the next flush has stored it.
    acked: BTreeSet<u64>,
    /// Those of which the flush on its way stores it.
    flushing: BTreeSet<u64>,
}

impl Forwards {
    pub(super) fn new(partition: u32) -> Self {
        Self {
            partition,
            messages: BTreeMap::new(),
            due: BTreeSet::new(),
            out: 0,
            gone: BTreeSet::new(),
            stored: Vec::new(),
            acked: BTreeSet::new(),
            flushing: BTreeSet::new(),
        }
    }

    /// A message is to be forwarded; [`Forwards::is_stored`] says when its failure is durable.
    pub(super) fn mark(&mut self, offset: u64) {
        self.messages.insert(offset, Stage::Waits);
    }

    pub(super) fn contains(&self, offset: u64) -> bool {
        self.messages.contains_key(&offset)
    }

    /// The failure of a message that is to be forwarded is durable.
    pub(super) fn is_stored(&mut self, offset: u64) {
        self.stored.push(offset);
    }

    /// What [`Forwards::is_stored`] was told since this was asked last.
    pub(super) fn take_stored(&mut self) -> Vec<u64> {
        mem::take(&mut self.stored)
    }

    /// Nothing is in the way of forwarding this message.
    pub(super) fn come_due(&mut self, offset: u64) {
        if let Some(stage) = self.messages.get_mut(&offset)
            && *stage == Stage::Waits
        {
            *stage = Stage::Due;
            self.due.insert(offset);
        }
    }

    /// The time of some of these offsets has come to be tried again.
    pub(super) fn retry(&mut self, now: Timestamp, offsets: Range<u64>) {
        for (&offset, stage) in self.messages.range_mut(offsets) {
            if matches!(stage, Stage::PutOff(until) if *until <= now) {
                *stage = Stage::Due;
                self.due.insert(offset);
            }
        }
    }

    /// Takes what to forward next, at most so many.
    pub(super) fn take_due(&mut self, max: usize) -> Vec<u64> {
        let room = FORWARDS_PER_PARTITION_MAX - self.out;
        let due: Vec<u64> = self.due.iter().copied().take(max.min(room)).collect();
        for offset in &due {
            self.due.remove(offset);
            self.messages.insert(*offset, Stage::Out);
        }
        self.out += due.len();
        due
    }

    /// Whether there may be something to take.
    pub(super) fn has_due(&self) -> bool {
        !self.due.is_empty() || !self.stored.is_empty()
    }

    /// How many were taken and have no outcome.
    pub(super) fn out(&self) -> usize {
        self.out
    }

    /// Whether something may be forwarded, or is being forwarded.
    pub(super) fn is_active(&self) -> bool {
        let is_retried = |stage: &Stage| matches!(stage, Stage::PutOff(_));
        self.out > 0 || self.has_due() || self.messages.values().any(is_retried)
    }

    /// A message is tried again at this time.
    pub(super) fn put_off(&mut self, offset: u64, until: Timestamp, timers: &mut Timers) {
        if let Some(stage) = self.messages.get_mut(&offset)
            && *stage == Stage::Out
        {
            *stage = Stage::PutOff(until);
            self.out -= 1;
            let timer = Timer::Forward(self.partition);
            timers.set_offsets(rounded(until), timer, offset..offset + 1);
        }
    }

    /// Those that have not been taken, and are not to be.
    pub(super) fn take_not_out(&mut self) -> Vec<u64> {
        self.stored.clear();
        let not_out = self.messages.iter().filter(|(_, it)| **it != Stage::Out);
        not_out.map(|(offset, _)| *offset).collect()
    }

    /// A message is not to be forwarded any more, or was; whether it was to be.
    pub(super) fn remove(&mut self, offset: u64, timers: &mut Timers) -> bool {
        let stage = self.messages.remove(&offset);
        match stage {
            None | Some(Stage::Waits) => {}
            Some(Stage::Due) => drop(self.due.remove(&offset)),
            Some(Stage::Out) => self.out -= 1,
            Some(Stage::PutOff(until)) => {
                let timer = Timer::Forward(self.partition);
                timers.unset_offsets(rounded(until), timer, offset..offset + 1);
            }
        }
        stage.is_some()
    }

    /// A message is done by itself; whether it was to be forwarded. If it was taken, it counts until it has an outcome.
    pub(super) fn forget(&mut self, offset: u64, timers: &mut Timers) -> bool {
        if self.messages.get(&offset) == Some(&Stage::Out) {
            self.gone.insert(offset);
            return self.messages.remove(&offset).is_some();
        }
        self.remove(offset, timers)
    }

    /// Whether a message with an outcome is done by itself.
    pub(super) fn take_gone(&mut self, offset: u64) -> bool {
        let was_gone = self.gone.remove(&offset);
        self.out -= usize::from(was_gone);
        was_gone
    }

    /// A message was forwarded and is acknowledged, which is not durable.
    pub(super) fn acked(&mut self, offset: u64) {
        self.acked.insert(offset);
    }

    /// A flush starts with all that there is to store urgently.
    pub(super) fn flush_started(&mut self) {
        self.flushing.append(&mut self.acked);
    }

    /// Takes those whose acknowledgement is durable with this flush.
    pub(super) fn flushed(&mut self, stored: bool) -> BTreeSet<u64> {
        if !stored {
            self.acked.append(&mut self.flushing);
        }
        mem::take(&mut self.flushing)
    }
}

#[cfg(test)]
impl Forwards {
    pub(super) fn check(&self, is_failed: impl Fn(u64) -> bool, timers: &Timers) {
        assert!(self.messages.keys().all(|it| is_failed(*it)));
        let of = |stage| self.messages.values().filter(move |it| **it == stage);
        assert_eq!(of(Stage::Out).count() + self.gone.len(), self.out);
        assert_eq!(of(Stage::Due).count(), self.due.len());
        assert!(
            self.due
                .iter()
                .all(|it| self.messages.get(it) == Some(&Stage::Due))
        );
        for (offset, stage) in &self.messages {
            if let Stage::PutOff(until) = stage {
                assert!(timers.has(rounded(*until), Timer::Forward(self.partition), *offset));
            }
        }
    }

    /// Whether a message is acknowledged that counts as undone for its key.
    pub(super) fn is_acked(&self, offset: u64) -> bool {
        self.acked.contains(&offset) || self.flushing.contains(&offset)
    }
}
