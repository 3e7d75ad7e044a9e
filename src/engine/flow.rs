//! Who takes messages: credit of streams, waiting pulls, and whose turn it is.

use std::collections::{BTreeMap, BTreeSet};

use super::input::{ConsumerId, Demand};

#[derive(Debug)]
struct Consumer {
    demand: Demand,
    outstanding_messages: u64,
    outstanding_bytes: u64,
}

impl Consumer {
    fn is_hungry(&self) -> bool {
        match self.demand {
            Demand::Stream {
                messages_max,
                bytes_max,
                frames,
                ..
            } => {
                frames > 0
                    && self.outstanding_messages < messages_max
                    && self.outstanding_bytes < bytes_max
            }
            Demand::Pull { .. } => true,
        }
    }
}

/// What one consumer may get in the next frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Portion {
    pub(super) consumer: ConsumerId,
    /// Messages at most.
    pub(super) messages: u64,
    /// The frame ends with the message that reaches this.
    pub(super) bytes: u64,
    /// `None`: the subscription's.
    pub(super) ack_deadline_millis: Option<u64>,
}

/// All consumers of a subscription.
#[derive(Debug, Default)]
pub(super) struct Flow {
    consumers: BTreeMap<ConsumerId, Consumer>,
    /// Those that would take a message now.
    hungry: BTreeSet<ConsumerId>,
    last_served: Option<ConsumerId>,
}

impl Flow {
    pub(super) fn open(&mut self, id: ConsumerId, demand: Demand) {
        self.consumers.insert(
            id,
            Consumer {
                demand,
                outstanding_messages: 0,
                outstanding_bytes: 0,
            },
        );
        self.update(id, |_| ());
    }

    pub(super) fn close(&mut self, id: ConsumerId) {
        self.consumers.remove(&id);
        self.hungry.remove(&id);
    }

    pub(super) fn set_room(&mut self, id: ConsumerId, room: u32) {
        self.update(id, |consumer| {
            if let Demand::Stream { frames, .. } = &mut consumer.demand {
                *frames = room;
            }
        });
    }

    pub(super) fn set_ack_deadline(&mut self, id: ConsumerId, millis: u64) {
        self.update(id, |consumer| {
            if let Demand::Stream {
                ack_deadline_millis,
                ..
            } = &mut consumer.demand
            {
                *ack_deadline_millis = millis;
            }
        });
    }

    /// So many leases of this consumer ended, by whatever route.
    pub(super) fn release(&mut self, id: ConsumerId, messages: u64, bytes: u64) {
        self.update(id, |consumer| {
            consumer.outstanding_messages -= messages;
            consumer.outstanding_bytes -= bytes;
        });
    }

    pub(super) fn hungry(&self) -> usize {
        self.hungry.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.consumers.is_empty()
    }

    /// The hungry consumer whose turn it is, with at most `messages` for it.
    pub(super) fn next(&self, messages: u64) -> Option<Portion> {
        let after = self.last_served.map_or(0, |ConsumerId(last)| last + 1);
        let id = self
            .hungry
            .range(ConsumerId(after)..)
            .next()
            .or_else(|| self.hungry.first())?;
        let consumer = self.consumers.get(id)?;
        Some(match consumer.demand {
            Demand::Stream {
                messages_max,
                bytes_max,
                ack_deadline_millis,
                ..
            } => Portion {
                consumer: *id,
                messages: messages.min(messages_max - consumer.outstanding_messages),
                bytes: bytes_max - consumer.outstanding_bytes,
                ack_deadline_millis: Some(ack_deadline_millis),
            },
            Demand::Pull { messages_max, .. } => Portion {
                consumer: *id,
                messages: messages.min(messages_max as u64),
                bytes: u64::MAX,
                ack_deadline_millis: None,
            },
        })
    }

    /// The consumer got one frame. A pull leaves with it.
    pub(super) fn served(&mut self, id: ConsumerId, messages: u64, bytes: u64) {
        self.last_served = Some(id);
        if matches!(
            self.consumers.get(&id),
            Some(Consumer {
                demand: Demand::Pull { .. },
                ..
            })
        ) {
            self.close(id);
            return;
        }
        self.update(id, |consumer| {
            consumer.outstanding_messages += messages;
            consumer.outstanding_bytes += bytes;
            if let Demand::Stream { frames, .. } = &mut consumer.demand {
                *frames -= 1;
            }
        });
    }

    /// Pulls that want an answer now although nothing is available; with `all`, every pull.
    pub(super) fn unserved_pulls(&self, all: bool) -> Vec<ConsumerId> {
        let wants = |id: &&ConsumerId| {
            matches!(
                self.consumers.get(id).map(|consumer| consumer.demand),
                Some(Demand::Pull { immediate, .. }) if immediate || all
            )
        };
        self.hungry.iter().filter(wants).copied().collect()
    }

    fn update(&mut self, id: ConsumerId, change: impl FnOnce(&mut Consumer)) {
        let Some(consumer) = self.consumers.get_mut(&id) else {
            return;
        };
        change(consumer);
        if consumer.is_hungry() {
            self.hungry.insert(id);
        } else {
            self.hungry.remove(&id);
        }
    }
}
