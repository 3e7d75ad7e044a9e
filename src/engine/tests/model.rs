//! What must hold, in sets and maps: who has which message until when, and what is acknowledged.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    clock::Timestamp,
    engine::{
        chunk::Delivered,
        input::{Config, ConsumerId, Demand, LeaseId},
        output::{Delivery, Output, Verdict},
    },
    limits::{DELIVERY_BYTES_MAX, DELIVERY_MESSAGES_MAX},
};

/// Partition and offset.
pub(super) type Place = (u32, u64);

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
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) messages: BTreeMap<Place, Message>,
    pub(super) held: BTreeMap<Place, Held>,
    pub(super) consumers: BTreeMap<ConsumerId, Demand>,
    /// Whose acks were confirmed: for ever.
    pub(super) confirmed: BTreeSet<Place>,
    /// Acknowledged in this life of the engine; a crash may forget those that are not confirmed.
    pub(super) acked: BTreeSet<Place>,
    /// May come again, or not: acknowledged before a crash and not confirmed, or too old for a while.
    pub(super) perhaps: BTreeSet<Place>,
    /// Every delivery, for later acks.
    pub(super) issued: Vec<LeaseId>,
    /// The last number of each message in this life of the engine.
    numbers: BTreeMap<Place, u32>,
    /// Failed deliveries of each message at its last one.
    attempts: BTreeMap<Place, u32>,
}

/// Deadlines are kept in ticks of 10 ms, rounded up.
pub(super) fn rounded(deadline: Timestamp) -> Timestamp {
    Timestamp::from_millis(deadline.as_millis().div_ceil(10) * 10)
}

impl Model {
    pub(super) fn pass_time(&mut self, now: Timestamp) {
        self.held.retain(|_, held| rounded(held.deadline) > now);
    }

    /// The next time at which a lease is over but may last a little, because of rounding.
    pub(super) fn rounding_until(&self, now: Timestamp) -> Option<Timestamp> {
        let over = |held: &&Held| held.deadline <= now && rounded(held.deadline) > now;
        let until = |held: &Held| rounded(held.deadline);
        self.held.values().filter(over).map(until).max()
    }

    /// What a request with this id must find, by what is known here; the id is of the current generation and of a
    /// message that the log has. What the engine may count as done by itself is `Done` or not.
    pub(super) fn judge(
        &self,
        now: Timestamp,
        config: Config,
        lease: LeaseId,
        found: Verdict,
    ) -> Verdict {
        let place = (lease.partition, lease.offset);
        let held = self.held.get(&place);
        if held.is_some_and(|held| held.number == lease.number) {
            return Verdict::Applied;
        }
        if self.acked.contains(&place) {
            return Verdict::Done;
        }
        let message = self.messages.get(&place);
        let may_be_done = self.perhaps.contains(&place)
            || message.is_none_or(|message| {
                message.removed || message.publish_time.plus_millis(config.retention_millis) <= now
            });
        if may_be_done && found == Verdict::Done {
            return found;
        }
        Verdict::Ended
    }

    pub(super) fn ack(&mut self, place: Place) {
        self.held.remove(&place);
        self.acked.insert(place);
    }

    /// Ends or moves the lease, if the id is that of the newest delivery.
    pub(super) fn change(&mut self, lease: LeaseId, deadline: Option<Timestamp>) {
        let place = (lease.partition, lease.offset);
        let Some(held) = self.held.get_mut(&place) else {
            return;
        };
        if held.number == lease.number {
            match deadline {
                Some(deadline) => held.deadline = deadline,
                None => drop(self.held.remove(&place)),
            }
        }
    }

    /// What is too old now may be dropped, and need not come when the retention is raised.
    pub(super) fn retention_changes(&mut self, now: Timestamp, old: Config) {
        let too_old =
            |message: &Message| message.publish_time.plus_millis(old.retention_millis) <= now;
        let dropped = self.messages.iter().filter(|(_, message)| too_old(message));
        self.perhaps.extend(dropped.map(|(place, _)| *place));
    }

    /// A new engine: consumers are gone, and what `stored` says about leases holds. Only leases that were durable
    /// before their messages left are remembered.
    pub(super) fn restarted(&mut self, stored: BTreeMap<Place, Held>, durable_leases: bool) {
        self.consumers.clear();
        self.held = stored;
        let acked = std::mem::replace(&mut self.acked, self.confirmed.clone());
        self.perhaps.extend(acked);
        if !durable_leases {
            self.numbers.clear();
            self.attempts.clear();
        }
    }

    pub(super) fn lose(&mut self, partition: u32, end: u64) {
        let lost = |place: &Place| place.0 == partition && place.1 >= end;
        self.messages.retain(|place, _| !lost(place));
        self.held.retain(|place, _| !lost(place));
        self.confirmed.retain(|place| !lost(place));
        self.acked.retain(|place| !lost(place));
        self.perhaps.retain(|place| !lost(place));
        self.numbers.retain(|place, _| !lost(place));
        self.attempts.retain(|place, _| !lost(place));
        // The store may not have known these yet, and then cannot void their ids.
        self.issued
            .retain(|lease| !lost(&(lease.partition, lease.offset)));
    }

    /// What somebody must get, sooner or later.
    pub(super) fn missing(&self, now: Timestamp, config: Config) -> Vec<Place> {
        let wanted = |(place, message): &(&Place, &Message)| {
            !message.removed
                && !self.acked.contains(place)
                && !self.perhaps.contains(place)
                && message.publish_time.plus_millis(config.retention_millis) > now
        };
        let missing = self.messages.iter().filter(wanted);
        missing.map(|(place, _)| *place).collect()
    }

    /// Checks and takes in what the engine did; `leased` says what it now knows of a lease.
    pub(super) fn take(
        &mut self,
        now: Timestamp,
        config: Config,
        out: &[Output],
        leased: impl Fn(LeaseId) -> Delivered,
    ) {
        for output in out {
            match output {
                Output::Deliver {
                    consumer,
                    deliveries,
                } => self.delivered(now, config, *consumer, deliveries, &leased),
                Output::Empty { consumer, .. } => {
                    let demand = self.consumers.remove(consumer);
                    assert!(matches!(demand, Some(Demand::Pull { .. })));
                }
                Output::Read { .. } => {}
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
        let mut outstanding_bytes: u64 = of_mine.map(|(place, _)| self.messages[place].bytes).sum();
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
            if !config.durable_leases {
                assert_eq!(lease.time, now.plus_millis(lease_millis));
            }
            self.held.insert(
                (delivery.lease.partition, delivery.lease.offset),
                Held {
                    number: delivery.lease.number,
                    deadline: lease.time,
                    consumer: Some(consumer),
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
        let place = (lease.partition, lease.offset);
        let message = self.messages.get(&place).expect("it was published");
        assert_eq!(message.publish_time, delivery.publish_time);
        assert_eq!(message.bytes, delivery.body.len() as u64);
        assert!(
            message.publish_time.plus_millis(config.retention_millis) > now,
            "{place:?} is too old"
        );
        assert!(!self.confirmed.contains(&place), "{place:?} was confirmed");
        assert!(!self.acked.contains(&place), "{place:?} was acknowledged");
        assert!(!self.held.contains_key(&place), "{place:?} is leased");
        let last = self.numbers.insert(place, lease.number).unwrap_or(0);
        assert!(lease.number > last, "{place:?} has number {last} already");
        let before = self.attempts.insert(place, attempts).unwrap_or(0);
        assert!(
            attempts >= before,
            "{place:?} had {before} attempts already"
        );
        self.issued.push(lease);
    }
}
