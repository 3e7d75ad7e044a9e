//! What is loaded of a partition whose ordering keys keep their order (docs/behaviour.md, section 10), and which of it a
//! consumer may have.
//!
//! Of each key one message is offered: the first that is not leased. Anybody may have it while nothing of its key is
//! leased, and then the key is bound to that consumer. Messages without a key are offered to anybody.
//!
//! Bodies of what anybody may have are bounded like those of an unordered subscription. All others are parked: they make
//! room before the next read, and are read again when their consumer wants them.

#[cfg(test)]
mod check;
mod dead_letters;
mod keys;
mod lane;
mod messages;
mod offers;
mod owners;
mod reading;

use std::{collections::BTreeSet, mem, ops::Range};

use self::{keys::Keys, lane::Lane, messages::Open, owners::Owners};
use super::{
    input::{ConsumerId, LoadedMessage, OrderingKey},
    loaded::Loaded,
    source::{Source, Taken},
};
use crate::limits::{
    PREFETCH_BYTES_MAX, PREFETCH_MESSAGES_MAX, REDELIVERY_BYTES_MAX, REDELIVERY_MESSAGES_MAX,
};

pub(super) use messages::State;

/// Whose keys are those with leases from before a restart: nothing of them leaves until these have ended.
const NOBODY: ConsumerId = ConsumerId(0);

/// See the module.
#[derive(Debug)]
pub(super) struct Ordered {
    keys: Keys,
    owners: Owners,
    /// What anybody may have.
    free: Lane<LoadedMessage>,
    free_bytes: usize,
    /// The part of it that was delivered before.
    again_bytes: usize,
    /// All other bodies.
    parked: Loaded,
    /// Whether what was taken last had been delivered before.
    took_again: bool,
    /// Whether what was read last was what anybody may have.
    read_free: bool,
    /// Consumers for whom something is loaded that is their own, since this was asked last.
    offered: Vec<ConsumerId>,
    /// Consumers for whom something may have to be read that is their own.
    to_read: BTreeSet<ConsumerId>,
    /// Whose turn it was.
    read_last: ConsumerId,
    /// Whether the log is to be read again for keys with marks.
    rescans: bool,
    /// After a restart: no message with a key is offered before all below this was read.
    held_until: Option<u64>,
    /// Leases whose time has come with this event.
    late: Vec<(u64, u32)>,
    /// Messages whose leases end because something before them in their key turns out to have failed.
    behind: Vec<u64>,
    /// Dead letters that wait for what is before them in their key, or whose keys are not known.
    dead: BTreeSet<u64>,
    /// Those that may be forwarded.
    heads: Vec<u64>,
}

/// What the next message for a consumer is.
struct Pick {
    offset: u64,
    is_again: bool,
    is_free: bool,
}

impl Ordered {
    /// With state of before a restart below `seen`, which holds keys back until it was read.
    pub(super) fn new(seen: u64) -> Self {
        Self {
            keys: Keys::default(),
            owners: Owners::default(),
            free: Lane::default(),
            free_bytes: 0,
            again_bytes: 0,
            parked: Loaded::default(),
            took_again: false,
            read_free: false,
            offered: Vec::new(),
            to_read: BTreeSet::new(),
            read_last: NOBODY,
            rescans: false,
            held_until: Some(seen),
            late: Vec::new(),
            behind: Vec::new(),
            dead: BTreeSet::new(),
            heads: Vec::new(),
        }
    }

    fn pick(&self, consumer: ConsumerId, shares: bool) -> Option<Pick> {
        let own = self.owners.lane(consumer);
        let own_fresh = own.and_then(Lane::first_fresh);
        let free_fresh = self.free.first_fresh().filter(|_| shares);
        let fresh = match (own_fresh, free_fresh) {
            (Some(own), Some(free)) => Some((own.min(free), free < own)),
            (Some(own), None) => Some((own, false)),
            (None, free) => free.map(|free| (free, true)),
        };
        let own_again = own.and_then(Lane::first_again).map(|own| (own, false));
        let again = own_again.or_else(|| {
            let free = self.free.first_again().filter(|_| shares);
            free.map(|free| (free, true))
        });
        let is_again = again.is_some() && (fresh.is_none() || !self.took_again);
        let (offset, is_free) = if is_again { again } else { fresh }?;
        Some(Pick {
            offset,
            is_again,
            is_free,
        })
    }

    /// Messages that anybody could have without reading.
    pub(super) fn free_len(&self) -> usize {
        self.free.fresh_len() + self.free.again_len()
    }

    /// Whether this consumer would find nothing.
    pub(super) fn is_empty_for(&self, consumer: ConsumerId) -> bool {
        self.free_len() == 0 && !self.has_own(consumer)
    }

    /// Whether something is loaded that this consumer may have and no other.
    pub(super) fn has_own(&self, consumer: ConsumerId) -> bool {
        let own = self.owners.lane(consumer);
        own.is_some_and(Lane::has_loaded)
    }

    /// Consumers that may have got something of their own since this was asked last.
    pub(super) fn take_offered(&mut self) -> Vec<ConsumerId> {
        mem::take(&mut self.offered)
    }

    /// How many messages wait that were read and cannot be delivered yet, or could be and are not.
    pub(super) fn waiting(&self) -> usize {
        self.keys.open_len()
    }

    /// Whether keys belong to this consumer.
    pub(super) fn has_keys(&self, consumer: ConsumerId) -> bool {
        self.owners.has_keys(consumer)
    }

    /// The keys of a consumer that has left are those of another one.
    pub(super) fn inherit(&mut self, from: ConsumerId, to: ConsumerId) {
        if self.owners.inherit(from, to) {
            self.offered.push(to);
            self.to_read.insert(to);
        }
    }

    /// How many more messages that were never delivered may be loaded; `None` while there are enough of them.
    pub(super) fn room(&self) -> Option<usize> {
        let (loaded, bytes) = (self.free.fresh_len(), self.free_bytes - self.again_bytes);
        let enough = bytes >= PREFETCH_BYTES_MAX / 2
            || loaded >= PREFETCH_MESSAGES_MAX / 2
            // These come before what was never read.
            || self.free.unread_fresh() > 0;
        (!enough).then(|| PREFETCH_MESSAGES_MAX - loaded)
    }

    /// Whether only messages are there for anybody that were delivered before.
    pub(super) fn lacks_fresh(&self) -> bool {
        self.free.fresh_len() == 0 && self.free.again_len() > 0
    }

    fn is_full_of_again(&self) -> bool {
        self.again_bytes >= REDELIVERY_BYTES_MAX || self.free.again_len() >= REDELIVERY_MESSAGES_MAX
    }

    /// Whether messages of the key were passed over from some offset on, up to this one.
    pub(super) fn is_marked_before(&self, key: OrderingKey, offset: u64) -> bool {
        self.keys.mark(key).is_some_and(|mark| mark <= offset)
    }

    /// Whether something is known of this message.
    pub(super) fn knows(&self, offset: u64) -> bool {
        self.keys.knows(offset)
    }

    /// Takes in the body of a message that is known. Returns it when it turns out to have a key.
    pub(super) fn load(&mut self, message: LoadedMessage) -> Option<LoadedMessage> {
        let offset = message.offset;
        match (self.keys.key_of(offset), message.key) {
            (Some(key), _) => {
                let open = self.keys.open_mut(key, offset)?;
                if !open.is_loaded {
                    open.is_loaded = true;
                    self.parked.insert(message);
                    self.place(key);
                }
                None
            }
            (None, Some(_)) => {
                self.forget(&(offset..offset + 1));
                Some(message)
            }
            (None, None) => {
                if let Some(is_again) = self.free.take_unread(offset) {
                    self.offer_free(message, is_again);
                }
                None
            }
        }
    }

    /// Takes in a message of which nothing was known, from a read that began at `from`. `room`: so many more messages of
    /// all keys may wait.
    pub(super) fn add(
        &mut self,
        message: LoadedMessage,
        (state, waits): (State, bool),
        from: u64,
        room: &mut usize,
    ) {
        let offset = message.offset;
        let Some(key) = message.key else {
            if waits {
                // It is read when it may go out.
                self.forward_keyless(offset);
                return;
            }
            self.keys.add_keyless(offset);
            self.offer_free(message, state != State::Waiting);
            return;
        };
        if !self.keys.admits(key, offset, from, *room) {
            return;
        }
        *room = room.saturating_sub(1);
        let open = Open {
            state,
            waits,
            is_loaded: true,
        };
        if state == State::Waiting && !waits && !self.is_holding() && self.keys.lacks(key) {
            // Nothing is in its way, so it is not parked first.
            let entry = self.keys.add_open(key, offset, open);
            entry.offer = entry.next_offer();
            self.put_free(message, false);
            return;
        }
        self.keys.add_open(key, offset, open);
        self.parked.insert(message);
        if state == State::Failed && !self.is_holding() {
            self.end_behind(key, offset);
        }
        self.place(key);
    }

    fn end_behind(&mut self, key: OrderingKey, failed: u64) {
        for offset in self.keys.leased_behind(key, failed) {
            self.keys.end_lease(key, offset, (State::Returned, false));
            self.behind.push(offset);
        }
    }

    /// The first message in the key of this one of which something is known: none of them is done.
    pub(super) fn first_undone(&self, offset: u64) -> Option<u64> {
        self.keys.first(self.keys.key_of(offset)?)
    }

    /// Takes the messages whose leases end because something before them in their key turned out to have failed.
    pub(super) fn take_behind(&mut self) -> Vec<u64> {
        mem::take(&mut self.behind)
    }

    /// A message turns out to have been leased before a restart.
    pub(super) fn add_leased(&mut self, key: OrderingKey, offset: u64) {
        let entry = self.keys.add_leased(key, offset);
        if entry.owner.is_none() {
            entry.owner = Some(NOBODY);
            self.owners.bind(NOBODY);
        }
        self.place(key);
    }

    /// The lease of a message ended that was never read, or had no key: it has to be read.
    fn expect(&mut self, offset: u64) {
        self.keys.add_keyless(offset);
        self.free.insert_unread(offset, true);
    }

    /// All of `offsets` was read. What lies behind `fresh` was never.
    pub(super) fn was_read(&mut self, offsets: Range<u64>, fresh: u64) {
        self.keys.rescanned(offsets, fresh);
    }

    /// Whether keys are held back until everything that was known before a restart was read.
    pub(super) const fn is_holding(&self) -> bool {
        self.held_until.is_some()
    }

    /// Everything below `fresh` was read, is done or counts as absent.
    pub(super) fn read_below(&mut self, fresh: u64) {
        if self.held_until.is_some_and(|until| until <= fresh) {
            self.held_until = None;
            for key in self.keys.all() {
                // It failed before its key was known.
                if let Some(failed) = self.keys.first_failed(key) {
                    self.end_behind(key, failed);
                }
                self.place(key);
            }
        }
    }

    /// These cannot be read for now, and count as absent.
    pub(super) fn damaged(&mut self, offsets: &Range<u64>) {
        for (offset, key) in self.keys.known(offsets.clone()) {
            let is_open = key.is_none_or(|key| self.keys.open_mut(key, offset).is_some());
            if is_open {
                self.forget(&(offset..offset + 1));
            }
        }
    }

    /// The lease of a message ended without an ack; `state` says why. `is_read`: it was read already, if it could be.
    /// Returns the messages whose leases end with it.
    pub(super) fn lease_ended(
        &mut self,
        offset: u64,
        (state, waits): (State, bool),
        is_read: bool,
    ) -> Vec<u64> {
        let Some(key) = self.keys.key_of(offset) else {
            // What waits is expected when it does no more.
            if is_read && !waits && !self.knows(offset) {
                self.expect(offset);
            }
            return Vec::new();
        };
        if !self.keys.end_lease(key, offset, (state, waits)) {
            return Vec::new();
        }
        let behind = self.keys.leased_behind(key, offset);
        for offset in &behind {
            self.keys.end_lease(key, *offset, (State::Returned, false));
        }
        self.place(key);
        behind
    }

    /// Leases whose time has come with this event. They end together, so that what follows in a key does not count.
    pub(super) fn come_late(&mut self, late: Vec<(u64, u32)>) {
        self.late.extend(late);
    }

    /// Takes what [`Ordered::come_late`] was told, in the order of the log.
    pub(super) fn take_late(&mut self) -> Vec<(u64, u32)> {
        self.late.sort_unstable();
        mem::take(&mut self.late)
    }

    /// A message that failed waits no more. `is_read`: it was read already, if it could be.
    pub(super) fn release(&mut self, offset: u64, is_read: bool) {
        match self.keys.key_of(offset) {
            Some(key) => {
                if let Some(open) = self.keys.open_mut(key, offset) {
                    open.waits = false;
                }
                self.place(key);
            }
            None if is_read && !self.knows(offset) => self.expect(offset),
            None => {}
        }
    }

    /// These are done.
    pub(super) fn forget(&mut self, offsets: &Range<u64>) {
        self.forget_dead_letters(offsets);
        for (offset, key) in self.keys.known(offsets.clone()) {
            let Some(key) = key else {
                self.keys.remove(offset);
                self.take_keyless(offset);
                continue;
            };
            if self.keys.remove(offset).is_some_and(|open| open.is_loaded) {
                self.withdraw_if(key, offset);
                self.parked.remove(offset);
            }
            self.place(key);
        }
    }

    fn take_keyless(&mut self, offset: u64) {
        if self.free.take_unread(offset).is_some() {
            return;
        }
        for is_again in [false, true] {
            self.take_free(offset, is_again);
        }
    }

    /// Whether anything is loaded.
    pub(super) fn holds_nothing(&self) -> bool {
        self.free_len() == 0 && self.parked.messages.is_empty()
    }

    /// Bytes of everything that is loaded.
    pub(super) fn bytes(&self) -> usize {
        self.free_bytes + self.parked.bytes
    }

    /// Drops all bodies. What is known stays known, and is read when it is wanted.
    pub(super) fn drop_bodies(&mut self) {
        (self.free_bytes, self.again_bytes) = (0, 0);
        for (offset, is_again, message) in self.free.drain_loaded() {
            match message.key {
                Some(key) => {
                    if let Some(entry) = self.keys.get_mut(key) {
                        entry.offer = None;
                    }
                    self.unload(key, offset);
                }
                None => self.free.insert_unread(offset, is_again),
            }
        }
        self.evict(|_| true);
    }

    /// What is parked makes room for the next read, the newest first.
    pub(super) fn make_room(&mut self) {
        let (bytes, messages) = (self.free_bytes, self.free_len());
        self.evict(|parked| {
            bytes + parked.bytes > PREFETCH_BYTES_MAX
                || messages + parked.messages.len() > PREFETCH_MESSAGES_MAX
        });
    }

    fn evict(&mut self, is_too_much: impl Fn(&Loaded) -> bool) {
        while is_too_much(&self.parked)
            && let Some((&last, message)) = self.parked.messages.last_key_value()
        {
            let key = message.key;
            self.parked.remove(last);
            if let Some(key) = key {
                self.unload(key, last);
            }
        }
    }

    fn unload(&mut self, key: OrderingKey, offset: u64) {
        if let Some(open) = self.keys.open_mut(key, offset) {
            open.is_loaded = false;
        }
        self.place(key);
    }
}

impl Source for Ordered {
    fn next_for(&self, consumer: ConsumerId, shares: bool) -> Option<&LoadedMessage> {
        let pick = self.pick(consumer, shares)?;
        if pick.is_free {
            self.free.get(pick.offset, pick.is_again)
        } else {
            self.parked.messages.get(&pick.offset)
        }
    }

    fn take_next_for(&mut self, consumer: ConsumerId, shares: bool) -> Option<Taken> {
        let Pick {
            offset,
            is_again,
            is_free,
        } = self.pick(consumer, shares)?;
        self.took_again = is_again;
        let message = if is_free {
            self.take_free(offset, is_again)?
        } else {
            self.owners.lane_mut(consumer).take(offset, is_again);
            self.parked.remove(offset)?
        };
        let Some(key) = message.key else {
            self.keys.remove(offset);
            return Some(Taken {
                message,
                is_shared: is_free,
            });
        };
        if let Some(entry) = self.keys.lease(key, offset) {
            entry.offer = None;
            if entry.owner.is_none() {
                entry.owner = Some(consumer);
                self.owners.bind(consumer);
            }
        }
        self.place(key);
        Some(Taken {
            message,
            is_shared: is_free,
        })
    }
}
