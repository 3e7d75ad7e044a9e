//! What is promised of ordering keys (docs/behaviour.md, section 10).

use super::{Fate, Position, State, Subscription};
use crate::clock::Timestamp;

impl State {
    /// Other messages of a message's key that its subscription gets, ascending.
    pub(super) fn others(
        &self,
        subscription: &Subscription,
        position: Position,
    ) -> impl Iterator<Item = Position> {
        let (place, offset) = position;
        let message = self.log.get(&position);
        let key = message.map(|message| message.key.clone());
        let key = key.filter(|key| subscription.plan.is_ordered && !key.is_empty());
        let offsets = key.and_then(|key| self.keys.get(&(place, key)));
        let others = offsets.into_iter().flatten().copied();
        others
            .filter(move |other| *other != offset)
            .map(move |other| (place, other))
            .filter(|other| {
                let message = self.log.get(other);
                message.is_some_and(|message| subscription.wants(*other, message))
            })
    }

    /// Whether the last lease of a message may have been ended by a failure before it in its key.
    pub(super) fn may_be_released(
        &self,
        subscription: usize,
        position: Position,
        now: Timestamp,
    ) -> bool {
        let of = &self.subscriptions[subscription];
        let Some(lease) = of.fates.get(&position).and_then(|fate| fate.last.as_ref()) else {
            return false;
        };
        let before = self
            .others(of, position)
            .take_while(|other| *other < position);
        // One that could not be read for a while counts as absent until it can be, and then as what it was before.
        let mut before = before.filter(|other| {
            let message = self.log.get(other);
            let fate = of.fates.get(other);
            message.is_some_and(|message| message.was_damaged)
                || fate.is_some_and(|fate| fate.may_have_failed_since(lease.from, now))
        });
        before.next().is_some()
    }

    /// Whether a message may go out now as far as others of its key are concerned, with a lease that began at `from` or
    /// later.
    pub(super) fn judge_key(
        &self,
        subscription: usize,
        consumer: u64,
        from: Timestamp,
        now: Timestamp,
        position: Position,
    ) -> Result<(), String> {
        let of = &self.subscriptions[subscription];
        let was_damaged =
            |position: &Position| self.log.get(position).is_some_and(|it| it.was_damaged);
        let failed_itself = of.fates.get(&position).is_some_and(|fate| {
            let last = fate.last.as_ref();
            last.is_some_and(|last| !last.is_restored && last.has_failed(from))
        });
        let failed_itself = failed_itself && !self.may_be_released(subscription, position, now);
        for other in self.others(of, position) {
            let fate = of.fates.get(&other);
            let is_forwarded = self.letters.contains_key(&(subscription, other));
            if is_forwarded || fate.is_some_and(Fate::may_be_acked) {
                continue;
            }
            let lease = fate.and_then(|fate| fate.last.as_ref());
            if other < position && !was_damaged(&other) {
                let Some(lease) = lease else {
                    return Err(format!("goes out before {other:?}, which was never"));
                };
                if lease.has_failed(from) {
                    return Err(format!("goes out before {other:?}, which has failed"));
                }
                if failed_itself {
                    return Err(format!("has failed, and goes out before {other:?} is done"));
                }
            }
            let Some(lease) = lease.filter(|lease| lease.lasts(now)) else {
                continue;
            };
            // What cannot be read counts as absent.
            if was_damaged(&other) || self.may_be_released(subscription, other, now) {
                continue;
            }
            if !of.may_share(lease.consumer, consumer, lease.is_restored) {
                return Err(format!(
                    "goes out while {} has {other:?} of its key",
                    lease.consumer
                ));
            }
        }
        Ok(())
    }
}

impl Subscription {
    /// Whether a consumer may get messages of a key of which another has some.
    fn may_share(&self, has: u64, gets: u64, is_restored: bool) -> bool {
        if is_restored {
            return false;
        }
        if has == gets {
            return true;
        }
        let (has, gets) = (self.consumers.get(&has), self.consumers.get(&gets));
        let (Some(has), Some(gets)) = (has, gets) else {
            return false;
        };
        has.is_closed && !has.client.is_empty() && has.client == gets.client
    }
}
