//! What is promised of exactly-once delivery beside the deliveries themselves: what ids are answered
//! (docs/behaviour.md, section 9).

use super::{
    Held, Judge, LATE_MILLIS, State,
    fate::{Confirmed, Fate},
};
use crate::{clock::Timestamp, limits::CONFIRMED_MILLIS, sim::answer::Answer};

impl Judge {
    /// Acknowledgements of an exactly-once subscription of which consumers have not heard whether they had an effect.
    pub(in crate::sim) fn unsettled(&self, subscription: usize) -> Vec<Held> {
        let state = self.state.lock();
        let fates = state.subscriptions[subscription].fates.iter();
        let fates = fates.filter(|(_, fate)| fate.confirmed.is_none());
        let acks = fates.flat_map(|(position, fate)| fate.acks.iter().map(|ack| (*position, ack)));
        let held = acks.map(|(position, (number, ack))| Held {
            position,
            number: *number,
            ack_id: ack.id.clone(),
        });
        held.collect()
    }

    /// The deliveries by which everything was acknowledged that was confirmed.
    pub(in crate::sim) fn confirmed(&self, subscription: usize) -> Vec<Held> {
        let state = self.state.lock();
        let fates = state.subscriptions[subscription].fates.iter();
        let held = fates.filter_map(|(position, fate)| {
            let Confirmed { number, .. } = fate.confirmed?;
            let ack_id = fate.acks.get(&number)?.id.clone();
            Some(Held {
                position: *position,
                number,
                ack_id,
            })
        });
        held.collect()
    }
}

impl State {
    /// Whether an ack was rightly answered so.
    pub(super) fn judge_ack(
        &self,
        subscription: usize,
        held: &Held,
        answer: Answer,
        now: Timestamp,
    ) -> Result<(), String> {
        let of = &self.subscriptions[subscription];
        let Some(fate) = of.fates.get(&held.position) else {
            return Ok(());
        };
        if !of.plan.is_exactly_once || answer == Answer::Unknown {
            return Ok(());
        }
        let confirmed = fate.confirmed.filter(|it| it.number == held.number);
        if let Some(Confirmed { at, .. }) = confirmed {
            let is_remembered = now < at.plus_millis(CONFIRMED_MILLIS);
            if is_remembered && answer != Answer::Done {
                return Err(format!("{answer:?}, and its ack was confirmed at {at}"));
            }
            return Ok(());
        }
        let is_forwarded = |position| self.letters.contains_key(&(subscription, position));
        if answer == Answer::Done && is_forwarded(held.position) {
            return Err("is acknowledged, and was forwarded".to_owned());
        }
        let Some(lease) = fate.current(held.number) else {
            return match answer {
                Answer::Done => Err("is acknowledged by an id that was superseded".to_owned()),
                _ => Ok(()),
            };
        };
        let sent = fate.acks.get(&held.number).map_or(now, |ack| ack.sent);
        let others = || self.others(of, held.position);
        let before = || others().take_while(|other| *other < held.position);
        match answer {
            Answer::Done if lease.has_failed(sent) => {
                Err("is acknowledged by the id of a lease that had ended".to_owned())
            }
            Answer::Done if !lease.is_restored => {
                let is_open = |other: &_| {
                    let message = self.log.get(other);
                    let may_be_acked = of.fates.get(other).is_some_and(Fate::may_be_acked);
                    !may_be_acked
                        && !is_forwarded(*other)
                        && message.is_some_and(|message| !message.was_damaged)
                };
                match before().find(is_open) {
                    Some(other) => Err(format!("is acknowledged before {other:?} of its key")),
                    None => Ok(()),
                }
            }
            Answer::Invalid if lease.lasts(now) => self.check_released(subscription, held, now),
            Answer::Unordered => {
                let is_confirmed = |other| {
                    let fate = of.fates.get(&other);
                    fate.and_then(|fate| fate.confirmed)
                        .is_some_and(|it| it.at <= sent)
                };
                if before().all(is_confirmed) {
                    return Err("is out of order, and nothing before it is left".to_owned());
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Whether the change of a deadline to another one, or to none, was rightly answered so.
    pub(super) fn judge_change(
        &self,
        subscription: usize,
        held: &Held,
        answer: Answer,
        sent: Timestamp,
        now: Timestamp,
    ) -> Result<(), String> {
        let of = &self.subscriptions[subscription];
        let Some(fate) = of
            .fates
            .get(&held.position)
            .filter(|_| of.plan.is_exactly_once)
        else {
            return Ok(());
        };
        if answer == Answer::Done && fate.is_superseded(held.number, sent) {
            return Err("is changed by an id that was superseded".to_owned());
        }
        let Some(lease) = fate.current(held.number) else {
            return Ok(());
        };
        // Before an extension that is on its way.
        let (min, max) = if lease.ends_max == Timestamp::NEVER {
            (lease.before_extension, lease.max_before)
        } else {
            (lease.ends_min, lease.ends_max)
        };
        let given_back = lease.nack_sent.is_some_and(|nack| nack < sent);
        match answer {
            Answer::Done if max.plus_millis(LATE_MILLIS) < sent => {
                Err("is changed by the id of a lease that had ended".to_owned())
            }
            Answer::Done if lease.nacked.is_some_and(|nacked| nacked < sent) => {
                Err("is changed by the id of a lease that was given back".to_owned())
            }
            Answer::Invalid if now < min && !given_back && !fate.may_be_acked() => {
                self.check_released(subscription, held, now)
            }
            Answer::Unordered => Err("is out of order, and is no ack".to_owned()),
            _ => Ok(()),
        }
    }

    /// Whether a lease that would last was ended by a failure before it in its key.
    fn check_released(
        &self,
        subscription: usize,
        held: &Held,
        now: Timestamp,
    ) -> Result<(), String> {
        if self.may_be_released(subscription, held.position, now) {
            return Ok(());
        }
        Err("fails by the id of a lease that lasts".to_owned())
    }
}
