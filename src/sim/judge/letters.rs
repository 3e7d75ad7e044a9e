//! What is promised of dead letters (docs/behaviour.md, section 11.2): each comes from a message that nobody has or gets
//! any more, in the order of its key, and once, but for crashes and answers that were lost.

use super::{Fate, Judge, Position, State};
use crate::{
    clock::Timestamp,
    resource::message::{DEAD_LETTER_ATTRIBUTES, SOURCE_SUBSCRIPTION, ScannedMessage},
    sim::plan::ATTEMPTS_MAX,
};

/// A message that was forwarded.
pub(super) struct Letter {
    /// When that was in the log last.
    appended: Timestamp,
    /// Whether who forwarded it may not know that.
    is_unsure: bool,
}

/// What a dead letter says of where it comes from.
pub(super) struct Source {
    /// The subscription's id.
    name: String,
    attempts: String,
    data: Vec<u8>,
}

/// Where a message comes from, if it is a dead letter.
pub(super) fn source(message: &ScannedMessage<'_>) -> Option<Source> {
    let text = |name: &str| {
        let value = message.attribute(name.as_bytes())?;
        Some(String::from_utf8_lossy(value).into_owned())
    };
    Some(Source {
        name: text(SOURCE_SUBSCRIPTION)?,
        attempts: text(DEAD_LETTER_ATTRIBUTES[0])?,
        data: message.data().to_vec(),
    })
}

impl Judge {
    /// An append may go wrong, or takes so long.
    pub(in crate::sim) fn append_goes_wrong(&self, millis: u64) {
        let until = self.clock.now().plus_millis(millis);
        let troubles = &mut self.state.lock().append_troubles;
        *troubles = until.max(*troubles);
    }
}

impl State {
    /// Takes in that a message was forwarded; whether it was rightly.
    pub(super) fn forwarded(&mut self, source: Source, now: Timestamp) -> Result<(), String> {
        let Source {
            name,
            attempts,
            data,
        } = source;
        let mut subscriptions = self.subscriptions.iter();
        let number = subscriptions.position(|it| it.plan.name.id() == name);
        let position = self.published.get(&data).copied();
        let (Some(number), Some(position)) = (number, position) else {
            return Err(format!("it is of no subscription or message: {name}"));
        };
        let letter = Letter {
            appended: now,
            is_unsure: now <= self.append_troubles,
        };
        let judged = self.judge_letter(number, position, &attempts, &letter);
        self.letters.insert((number, position), letter);
        judged.map_err(|violation| format!("subscription {number}, {position:?}: {violation}"))
    }

    fn judge_letter(
        &self,
        subscription: usize,
        position: Position,
        attempts: &str,
        letter: &Letter,
    ) -> Result<(), String> {
        let of = &self.subscriptions[subscription];
        let now = letter.appended;
        if of.plan.dead_letter.is_none() || attempts != ATTEMPTS_MAX.to_string() {
            return Err(format!("is forwarded after {attempts} attempts"));
        }
        if let Some(before) = self.letters.get(&(subscription, position)) {
            let is_excused = before.is_unsure || letter.is_unsure || of.acquired >= before.appended;
            if !is_excused {
                return Err(format!("was forwarded at {} already", before.appended));
            }
            return Ok(());
        }
        let fate = of.fates.get(&position);
        if of.plan.is_exactly_once
            && let Some(confirmed) = fate.and_then(|fate| fate.confirmed)
        {
            return Err(format!("is forwarded, and was acknowledged: {confirmed:?}"));
        }
        let last = fate.and_then(|fate| fate.last.as_ref());
        let last = last.filter(|lease| lease.lasts(now));
        if let Some(lease) = last
            && !self.may_be_released(subscription, position, now)
        {
            let (consumer, end) = (lease.consumer, lease.ends_min);
            return Err(format!("is forwarded while {consumer} has it until {end}"));
        }
        let was_damaged =
            |position: &Position| self.log.get(position).is_some_and(|it| it.was_damaged);
        let before = self.others(of, position);
        let mut before = before.take_while(|other| *other < position);
        let open = before.find(|other| {
            let may_be_acked = of.fates.get(other).is_some_and(Fate::may_be_acked);
            let is_forwarded = self.letters.contains_key(&(subscription, *other));
            !may_be_acked && !is_forwarded && !was_damaged(other)
        });
        // What cannot be read counts as absent.
        let open = open.filter(|_| !was_damaged(&position));
        match open {
            Some(other) => Err(format!("is forwarded before {other:?} of its key")),
            None => Ok(()),
        }
    }

    /// Whether a message may go out with this attempt, as far as dead letters are concerned.
    pub(super) fn judge_attempt(
        &self,
        subscription: usize,
        position: Position,
        attempt: u32,
    ) -> Result<(), String> {
        let of = &self.subscriptions[subscription];
        if of.plan.dead_letter.is_none() {
            return match attempt {
                0 => Ok(()),
                _ => Err(format!("is said to be attempt {attempt}")),
            };
        }
        if let Some(letter) = self.letters.get(&(subscription, position)) {
            return Err(format!(
                "goes out, and was forwarded at {}",
                letter.appended
            ));
        }
        // Failures are stored before the message goes out again.
        let fate = of.fates.get(&position);
        let failures = fate.map_or(0, |fate| fate.failures + u32::from(fate.has_failed_last()));
        if !(failures + 1..=ATTEMPTS_MAX).contains(&attempt) {
            return Err(format!(
                "is said to be attempt {attempt} after {failures} failures"
            ));
        }
        Ok(())
    }
}
