//! What consumers hear and say.

use std::collections::BTreeSet;

use super::{
    Fate, Judge, Lease, Position, State,
    fate::{Ack, Confirmed},
};
use crate::{clock::Timestamp, sim::answer::Answer};

/// A message as a consumer is told it.
#[derive(Clone, Debug)]
pub(in crate::sim) struct Told {
    pub(in crate::sim) position: Position,
    pub(in crate::sim) ack_id: String,
    /// Which attempt it is said to be; 0: nothing is said.
    pub(in crate::sim) attempt: u32,
}

/// A delivery that a consumer may acknowledge.
#[derive(Clone, Debug)]
pub(in crate::sim) struct Held {
    pub(in crate::sim) position: Position,
    /// The how manieth time it was told.
    pub(in crate::sim) number: u32,
    pub(in crate::sim) ack_id: String,
}

/// A stream or a pull.
pub(super) struct Consumer {
    /// Who it is; a pull is nobody.
    pub(super) client: String,
    pub(super) messages_max: Option<usize>,
    pub(super) is_closed: bool,
    /// What it was told.
    pub(super) told: BTreeSet<Position>,
}

impl Judge {
    /// A consumer comes. Returns its number.
    pub(in crate::sim) fn opened(
        &self,
        subscription: usize,
        client: &str,
        messages_max: Option<u64>,
    ) -> u64 {
        let mut state = self.state.lock();
        state.consumers += 1;
        let number = state.consumers;
        let consumer = Consumer {
            client: client.to_owned(),
            messages_max: messages_max.map(|max| max as usize),
            is_closed: false,
            told: BTreeSet::new(),
        };
        let consumers = &mut state.subscriptions[subscription].consumers;
        consumers.insert(number, consumer);
        number
    }

    /// A consumer leaves.
    pub(in crate::sim) fn closed(&self, subscription: usize, consumer: u64) {
        let mut state = self.state.lock();
        let consumers = &mut state.subscriptions[subscription].consumers;
        if let Some(consumer) = consumers.get_mut(&consumer) {
            consumer.is_closed = true;
        }
    }

    /// A consumer is told messages, whose leases of `millis` began at `from` or later.
    pub(in crate::sim) fn received(
        &self,
        subscription: usize,
        consumer: u64,
        from: Timestamp,
        millis: u64,
        told: Vec<Told>,
    ) -> Vec<Held> {
        let now = self.clock.now();
        let mut state = self.state.lock();
        let mut held = Vec::with_capacity(told.len());
        for told in told {
            let Told {
                position,
                ack_id,
                attempt,
            } = told;
            let judged = state.judge(subscription, consumer, from, now, position);
            let judged = judged.and_then(|()| state.judge_attempt(subscription, position, attempt));
            if let Err(violation) = judged {
                let text =
                    format!("subscription {subscription}, {position:?} to {consumer}: {violation}");
                self.accuse_in(&mut state, text);
            }
            let subscription = &mut state.subscriptions[subscription];
            let fate = subscription.fates.entry(position).or_default();
            fate.told(Lease::new(consumer, from, now, millis), now);
            held.push(Held {
                position,
                number: fate.number(),
                ack_id,
            });
            if let Some(consumer) = subscription.consumers.get_mut(&consumer) {
                consumer.told.insert(position);
            }
        }
        if let Err(violation) = state.judge_credit(subscription, consumer, now) {
            let text = format!("subscription {subscription}, consumer {consumer}: {violation}");
            self.accuse_in(&mut state, text);
        }
        held
    }

    /// A consumer acknowledges.
    pub(in crate::sim) fn ack_sent(&self, subscription: usize, held: &[Held]) {
        let sent = self.clock.now();
        self.each(subscription, held, |fate, held| {
            fate.acks.entry(held.number).or_insert_with(|| Ack {
                id: held.ack_id.clone(),
                sent,
            });
        });
    }

    /// That was answered so, or never will be.
    pub(in crate::sim) fn ack_answered(
        &self,
        subscription: usize,
        held: &[Held],
        answers: &[Answer],
    ) {
        let now = self.clock.now();
        let mut state = self.state.lock();
        for (held, answer) in held.iter().zip(answers) {
            let judged = state.judge_ack(subscription, held, *answer, now);
            self.accuse_of(&mut state, subscription, held, judged);
            let fates = &mut state.subscriptions[subscription].fates;
            let Some(fate) = fates.get_mut(&held.position) else {
                continue;
            };
            match answer {
                Answer::Done => {
                    let number = held.number;
                    fate.confirmed.get_or_insert(Confirmed { at: now, number });
                }
                Answer::Invalid | Answer::Unordered => drop(fate.acks.remove(&held.number)),
                Answer::Unknown => {}
            }
        }
    }

    fn accuse_of(
        &self,
        state: &mut State,
        subscription: usize,
        held: &Held,
        judged: Result<(), String>,
    ) {
        if let Err(violation) = judged {
            let Held {
                position, number, ..
            } = held;
            let text = format!("subscription {subscription}, {position:?}#{number}: {violation}");
            self.accuse_in(state, text);
        }
    }

    /// A consumer gives messages back.
    pub(in crate::sim) fn nack_sent(&self, subscription: usize, held: &[Held]) {
        let now = self.clock.now();
        self.each(subscription, held, |fate, held| {
            if fate.may_be_of_last(held)
                && let Some(lease) = &mut fate.last
            {
                lease.nack_sent.get_or_insert(now);
                fate.may_have_failed = Timestamp::NEVER;
            }
        });
    }

    /// That was answered so, or never will be. It was sent at `sent`.
    pub(in crate::sim) fn nacked(
        &self,
        subscription: usize,
        held: &[Held],
        answers: &[Answer],
        sent: Timestamp,
    ) {
        let now = self.clock.now();
        let mut state = self.state.lock();
        for (held, answer) in held.iter().zip(answers) {
            let judged = state.judge_change(subscription, held, *answer, sent, now);
            self.accuse_of(&mut state, subscription, held, judged);
            let was_released = state.may_be_released(subscription, held.position, now);
            let is_exactly_once = state.subscriptions[subscription].plan.is_exactly_once;
            let is_ok = *answer == Answer::Done;
            let fates = &mut state.subscriptions[subscription].fates;
            let Some(fate) = fates.get_mut(&held.position) else {
                continue;
            };
            fate.may_have_failed = fate.may_have_failed.min(now);
            let (is_last, may_be_acked) = (fate.number() == held.number, fate.may_be_acked());
            if let Some(lease) = &mut fate.last
                && is_last
            {
                let lasted = !lease.is_shaky && now < lease.ends_min;
                let lasted = lasted && !was_released && !may_be_acked;
                if is_ok && (lasted || is_exactly_once) {
                    lease.nacked.get_or_insert(now);
                }
            }
        }
    }

    /// A consumer moves deadlines to `millis` from when that is carried out.
    pub(in crate::sim) fn extension_sent(&self, subscription: usize, held: &[Held], millis: u64) {
        let now = self.clock.now();
        self.each(subscription, held, |fate, held| {
            if fate.may_be_of_last(held)
                && let Some(lease) = &mut fate.last
            {
                // It may be earlier than before.
                lease.before_extension = lease.ends_min;
                lease.max_before = lease.ends_max;
                lease.ends_min = lease.ends_min.min(now.plus_millis(millis));
                lease.ends_max = Timestamp::NEVER;
                lease.changed = Timestamp::NEVER;
            }
        });
    }

    /// That was answered so, or never will be. It was sent at `sent`.
    pub(in crate::sim) fn extended(
        &self,
        subscription: usize,
        held: &[Held],
        millis: u64,
        answers: &[Answer],
        sent: Timestamp,
    ) {
        let now = self.clock.now();
        let mut state = self.state.lock();
        for (held, answer) in held.iter().zip(answers) {
            let judged = state.judge_change(subscription, held, *answer, sent, now);
            self.accuse_of(&mut state, subscription, held, judged);
            let was_released = state.may_be_released(subscription, held.position, now);
            let is_exactly_once = state.subscriptions[subscription].plan.is_exactly_once;
            let is_ok = *answer == Answer::Done;
            let fates = &mut state.subscriptions[subscription].fates;
            let Some(fate) = fates.get_mut(&held.position) else {
                continue;
            };
            let is_last = fate.number() == held.number;
            let Some(lease) = fate.last.as_mut().filter(|_| is_last) else {
                continue;
            };
            if is_ok && is_exactly_once {
                // It lasted then.
                lease.from = lease.from.max(sent);
                lease.ends_min = sent.plus_millis(millis);
                lease.ends_max = now.plus_millis(millis);
                continue;
            }
            let lasted = now < lease.before_extension && lease.nack_sent.is_none();
            if is_ok && lasted && !was_released && !lease.is_shaky {
                lease.ends_min = sent.plus_millis(millis);
            }
            lease.changed = now;
            lease.ends_max = lease.max_before.max(now.plus_millis(millis));
        }
    }

    fn each(&self, subscription: usize, held: &[Held], mut what: impl FnMut(&mut Fate, &Held)) {
        let mut state = self.state.lock();
        let fates = &mut state.subscriptions[subscription].fates;
        for held in held {
            if let Some(fate) = fates.get_mut(&held.position) {
                what(fate, held);
            }
        }
    }
}

impl Fate {
    /// Whether what is said of a delivery may be of the last one.
    fn may_be_of_last(&self, held: &Held) -> bool {
        self.number() == held.number || self.has_forgotten
    }

    /// It is told again, with this lease.
    fn told(&mut self, lease: Lease, now: Timestamp) {
        if let Some(before) = self.last.replace(lease) {
            self.may_have_failed = self.may_have_failed.max(now);
            self.failures += u32::from(before.is_failure);
        }
        self.told.push(now);
    }
}

impl State {
    /// Whether a message goes rightly to a consumer now, whose lease began at `from` or later.
    fn judge(
        &mut self,
        subscription: usize,
        consumer: u64,
        from: Timestamp,
        now: Timestamp,
        position: Position,
    ) -> Result<(), String> {
        let Some(message) = self.log.get(&position) else {
            return Err("is not in the log".to_owned());
        };
        let of = &self.subscriptions[subscription];
        if !of.wants(position, message) {
            return Err("is none of its messages".to_owned());
        }
        let may_be_released = self.may_be_released(subscription, position, now);
        if let Some(fate) = of.fates.get(&position) {
            if let Some(Confirmed { at, .. }) = fate.confirmed {
                return Err(format!("comes back, and was acknowledged at {at}"));
            }
            let last = fate.last.as_ref().filter(|_| !may_be_released);
            if let Some(lease) = last {
                if lease.lasts(now) {
                    let (end, other) = (lease.ends_min, lease.consumer);
                    return Err(format!("is doubled: {other} has it until {end}"));
                }
                let retry = of.plan.retry.filter(|_| !lease.is_shaky);
                if let Some(retry) = retry {
                    let min = retry.minimum_backoff.as_millis() as u64;
                    let max = retry.maximum_backoff.as_millis() as u64;
                    let wait = min.saturating_mul(1 << fate.failures.min(20)).min(max);
                    let failed = lease.fails_min();
                    if now < failed.plus_millis(wait) {
                        return Err(format!(
                            "comes too early: it failed at {failed} or later, {} times before, and waits {wait} ms",
                            fate.failures
                        ));
                    }
                }
            }
        }
        self.judge_key(subscription, consumer, from, now, position)?;
        let of = &mut self.subscriptions[subscription];
        if let Some(fate) = of.fates.get_mut(&position)
            && let Some(lease) = &mut fate.last
        {
            lease.is_failure = !may_be_released && !lease.is_shaky && lease.has_failed(now);
        }
        Ok(())
    }

    /// Whether a stream has no more than it asked for.
    fn judge_credit(
        &self,
        subscription: usize,
        consumer: u64,
        now: Timestamp,
    ) -> Result<(), String> {
        let of = &self.subscriptions[subscription];
        let Some(it) = of.consumers.get(&consumer) else {
            return Ok(());
        };
        let Some(max) = it.messages_max else {
            return Ok(());
        };
        let lasts = |position: &&Position| {
            let Some(fate) = of.fates.get(position) else {
                return false;
            };
            let lease = fate
                .last
                .as_ref()
                .filter(|lease| lease.consumer == consumer);
            lease.is_some_and(|lease| lease.lasts(now))
                && !fate.may_be_acked()
                && !self.may_be_released(subscription, **position, now)
        };
        let has = it.told.iter().filter(lasts).count();
        if has > max {
            return Err(format!("it has {has} messages, and wanted {max} at most"));
        }
        Ok(())
    }
}
