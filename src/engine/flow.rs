//! Who takes messages: credit of streams, waiting pulls, and the round robin among consumers.
//!
//! An event costs a visit to each consumer that it is about or that gets something, however many others wait.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
};

use super::{
    input::{ConsumerId, Demand},
    wanted::Wanted,
};

#[derive(Debug)]
struct Consumer {
    demand: Demand,
    outstanding_messages: u64,
    outstanding_bytes: u64,
    /// Frames that wait for their leases to be durable.
    held: u32,
    /// What it counts for in [`Flow::wanted`].
    wanted: Wanted,
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
                frames > self.held
                    && self.outstanding_messages < messages_max
                    && self.outstanding_bytes < bytes_max
            }
            Demand::Pull { .. } => self.held == 0,
        }
    }

    /// What it would take now.
    fn wants(&self) -> Wanted {
        if !self.is_hungry() {
            return Wanted::default();
        }
        let frames = match self.demand {
            Demand::Stream { frames, .. } => frames - self.held,
            Demand::Pull { .. } => 1,
        };
        let (messages, bytes) = (self.outstanding_messages, self.outstanding_bytes);
        Wanted::by(self.demand, messages, bytes, frames)
    }

    /// A frame goes to it; whether it takes more than this one.
    fn answer(&mut self) -> bool {
        match &mut self.demand {
            Demand::Stream { frames, .. } => {
                *frames = frames.saturating_sub(1);
                true
            }
            Demand::Pull { .. } => false,
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
    /// Those of them that are pulls.
    pulls: BTreeSet<ConsumerId>,
    /// Those of these that want an answer now, also with nothing.
    impatient: BTreeSet<ConsumerId>,
    last_served: Option<ConsumerId>,
    /// Those that have become hungry since this was asked last; `None` where nobody asks.
    hungrier: Option<Vec<ConsumerId>>,
    /// What all hungry ones would take together.
    wanted: Wanted,
    #[cfg(test)]
    visits: usize,
}

impl Flow {
    pub(super) fn open(&mut self, id: ConsumerId, demand: Demand) {
        self.consumers.insert(
            id,
            Consumer {
                demand,
                outstanding_messages: 0,
                outstanding_bytes: 0,
                held: 0,
                wanted: Wanted::default(),
            },
        );
        self.update(id, |_| true);
    }

    pub(super) fn close(&mut self, id: ConsumerId) {
        if let Some(consumer) = self.consumers.remove(&id) {
            self.wanted.replace(consumer.wanted, Wanted::default());
        }
        self.hungry.remove(&id);
        self.pulls.remove(&id);
        self.impatient.remove(&id);
    }

    pub(super) fn set_room(&mut self, id: ConsumerId, room: u32) {
        self.update(id, |consumer| {
            if let Demand::Stream { frames, .. } = &mut consumer.demand {
                *frames = room;
            }
            true
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
            true
        });
    }

    /// So many leases of this consumer ended, by whatever route.
    pub(super) fn release(&mut self, id: ConsumerId, messages: u64, bytes: u64) {
        self.update(id, |consumer| {
            consumer.outstanding_messages -= messages;
            consumer.outstanding_bytes -= bytes;
            true
        });
    }

    /// Notes from now on who becomes hungry.
    pub(super) fn note_hunger(&mut self) {
        self.hungrier = Some(Vec::new());
    }

    /// Who has become hungry since this was asked last.
    pub(super) fn take_hungrier(&mut self) -> Vec<ConsumerId> {
        self.hungrier.as_mut().map(mem::take).unwrap_or_default()
    }

    /// Whether this consumer would take a message now.
    pub(super) fn is_hungry(&self, id: ConsumerId) -> bool {
        self.hungry.contains(&id)
    }

    /// Who was served last.
    pub(super) fn last_served(&self) -> Option<ConsumerId> {
        self.last_served
    }

    pub(super) fn hungry(&self) -> usize {
        self.hungry.len()
    }

    /// What all consumers would take together if it were there.
    pub(super) fn wanted(&self) -> Wanted {
        self.wanted
    }

    pub(super) fn is_empty(&self) -> bool {
        self.consumers.is_empty()
    }

    /// The next hungry consumer in order, with at most `messages` for it.
    pub(super) fn next(&mut self, messages: u64) -> Option<Portion> {
        let after = self.last_served.map_or(0, |ConsumerId(last)| last + 1);
        let mut behind = self.hungry.range(ConsumerId(after)..);
        let id = *behind.next().or_else(|| self.hungry.first())?;
        self.portion(id, messages)
    }

    /// What this hungry consumer may get, with at most `messages` for it.
    pub(super) fn portion(&mut self, id: ConsumerId, messages: u64) -> Option<Portion> {
        let consumer = self.visit(id)?;
        Some(match consumer.demand {
            Demand::Stream {
                messages_max,
                bytes_max,
                ack_deadline_millis,
                ..
            } => Portion {
                consumer: id,
                messages: messages.min(messages_max - consumer.outstanding_messages),
                bytes: bytes_max - consumer.outstanding_bytes,
                ack_deadline_millis: Some(ack_deadline_millis),
            },
            Demand::Pull { messages_max, .. } => Portion {
                consumer: id,
                messages: messages.min(messages_max as u64),
                bytes: u64::MAX,
                ack_deadline_millis: None,
            },
        })
    }

    /// One frame was filled for the consumer, and leaves at once or, if it is `held`, with [`Flow::left`]. A pull
    /// leaves with it.
    pub(super) fn served(&mut self, id: ConsumerId, messages: u64, bytes: u64, held: bool) {
        self.last_served = Some(id);
        self.update(id, |consumer| {
            consumer.outstanding_messages += messages;
            consumer.outstanding_bytes += bytes;
            if held {
                consumer.held += 1;
                return true;
            }
            consumer.answer()
        });
    }

    /// A held frame leaves, unless nothing was left of it.
    pub(super) fn left(&mut self, id: ConsumerId, is_sent: bool) {
        self.update(id, |consumer| {
            consumer.held -= 1;
            !is_sent || consumer.answer()
        });
    }

    /// Whether some consumer wants an answer now, also with nothing.
    pub(super) fn is_impatient(&self) -> bool {
        !self.impatient.is_empty()
    }

    /// Pulls that want an answer now although nothing is available; with `all`, every pull that has no frame.
    pub(super) fn unserved_pulls(&self, all: bool) -> Vec<ConsumerId> {
        let pulls = if all { &self.pulls } else { &self.impatient };
        pulls.iter().copied().collect()
    }

    fn visit(&mut self, id: ConsumerId) -> Option<&mut Consumer> {
        #[cfg(test)]
        {
            self.visits += 1;
        }
        self.consumers.get_mut(&id)
    }

    /// Changes a consumer, which leaves unless the change says that it stays.
    fn update(&mut self, id: ConsumerId, change: impl FnOnce(&mut Consumer) -> bool) {
        let Some(consumer) = self.visit(id) else {
            return;
        };
        if !change(consumer) {
            self.close(id);
            return;
        }
        let wants = consumer.wants();
        let wanted = mem::replace(&mut consumer.wanted, wants);
        let is_hungry = consumer.is_hungry();
        let (is_pull, is_immediate) = match consumer.demand {
            Demand::Stream { .. } => (false, false),
            Demand::Pull { immediate, .. } => (true, immediate),
        };
        self.wanted.replace(wanted, wants);
        if let Some(hungrier) = &mut self.hungrier
            && is_hungry
            && !self.hungry.contains(&id)
        {
            hungrier.push(id);
        }
        note(&mut self.hungry, id, is_hungry);
        note(&mut self.pulls, id, is_hungry && is_pull);
        note(&mut self.impatient, id, is_hungry && is_immediate);
    }
}

/// Whether the consumer is one of these.
fn note(these: &mut BTreeSet<ConsumerId>, id: ConsumerId, is_one: bool) {
    if is_one {
        these.insert(id);
    } else {
        these.remove(&id);
    }
}

#[cfg(test)]
impl Flow {
    /// Whether a pull waits.
    pub(super) fn has_pulls(&self) -> bool {
        !self.pulls.is_empty()
    }

    /// How often a consumer was visited since this was asked last.
    pub(super) fn take_visits(&mut self) -> usize {
        mem::take(&mut self.visits)
    }
}
