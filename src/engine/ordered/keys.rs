//! Messages with ordering keys of which something is known and that are not done, by key.
//!
//! A key is here while a message of it is, or a mark: the offset from which on its messages were read and not noted, as
//! there were too many. From there on the log is read again.

use std::{collections::BTreeSet, ops::Range};

use foldhash::{HashMap, HashMapExt as _};

use super::messages::{Messages, Open, State};
use crate::{
    engine::input::{ConsumerId, OrderingKey},
    limits::KEY_WAITING_MAX,
};

/// What of a key waits at most when the log is read again from its mark: enough for a while, so that each read finds much.
const KEY_WAITING_LOW: usize = KEY_WAITING_MAX / 2;

/// The next message of a key, as the lanes have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Offer {
    pub(super) offset: u64,
    /// Whether it was delivered before.
    pub(super) is_again: bool,
    pub(super) is_loaded: bool,
    /// Whether anybody may have it.
    pub(super) is_free: bool,
}

#[derive(Debug, Default)]
pub(super) struct Key {
    /// Who had the first of its leases.
    pub(super) owner: Option<ConsumerId>,
    pub(super) offer: Option<Offer>,
    messages: Messages,
    mark: Option<u64>,
    /// Whether it is in [`Keys::rescan`].
    is_in_rescan: bool,
}

impl Key {
    pub(super) fn is_leased(&self) -> bool {
        self.messages.is_leased()
    }

    /// Whether [`Keys::settle`] has something to do.
    pub(super) fn is_unsettled(&self) -> bool {
        self.mark.is_some() || self.messages.is_empty()
    }

    /// What of it comes next, and who may have it.
    pub(super) fn next_offer(&self) -> Option<Offer> {
        let mut open = self.messages.open_from(0);
        #[cfg(test)]
        let mut open = open.by_ref().skip_while(|(_, open)| {
            open.waits && crate::sim::planted::Bug::OrderBrokenByRetry.is_planted()
        });
        let (offset, open) = open.next().filter(|(_, open)| !open.waits)?;
        let first_leased = self.messages.first_leased();
        if open.state == State::Failed && first_leased.is_some_and(|leased| leased < offset) {
            return None;
        }
        Some(Offer {
            offset,
            is_again: open.state != State::Waiting,
            is_loaded: open.is_loaded,
            is_free: first_leased.is_none(),
        })
    }
}

/// See the module. Hash maps, as each message asks them several times; where an order shows, what they tell is sorted.
#[derive(Debug)]
pub(super) struct Keys {
    /// The key of each message; `None` for those without one.
    known: HashMap<u64, Option<OrderingKey>>,
    /// Messages with a key that are not leased.
    open: usize,
    by_key: HashMap<OrderingKey, Key>,
    /// Marks of the keys that have room again.
    rescan: BTreeSet<(u64, OrderingKey)>,
}

impl Default for Keys {
    fn default() -> Self {
        Self {
            known: HashMap::new(),
            open: 0,
            by_key: HashMap::new(),
            rescan: BTreeSet::new(),
        }
    }
}

impl Keys {
    /// Whether something is known of a message.
    pub(super) fn knows(&self, offset: u64) -> bool {
        self.known.contains_key(&offset)
    }

    /// The key of a message that is known, if it has one.
    pub(super) fn key_of(&self, offset: u64) -> Option<OrderingKey> {
        self.known.get(&offset).copied().flatten()
    }

    /// Those of these offsets of which something is known, ascending.
    pub(super) fn known(&self, offsets: Range<u64>) -> Vec<(u64, Option<OrderingKey>)> {
        if offsets.end.saturating_sub(offsets.start) <= self.known.len() as u64 {
            let known = |offset| Some((offset, *self.known.get(&offset)?));
            return offsets.filter_map(known).collect();
        }
        let known = self.known.iter().map(|(offset, key)| (*offset, *key));
        let mut known: Vec<_> = known
            .filter(|(offset, _)| offsets.contains(offset))
            .collect();
        known.sort_unstable();
        known
    }

    /// All keys, ascending.
    pub(super) fn all(&self) -> Vec<OrderingKey> {
        let mut all: Vec<_> = self.by_key.keys().copied().collect();
        all.sort_unstable();
        all
    }

    /// Whether nothing is known of the key.
    pub(super) fn lacks(&self, key: OrderingKey) -> bool {
        !self.by_key.contains_key(&key)
    }

    pub(super) fn get_mut(&mut self, key: OrderingKey) -> Option<&mut Key> {
        self.by_key.get_mut(&key)
    }

    /// Messages with a key that are not leased.
    pub(super) fn open_len(&self) -> usize {
        self.open
    }

    pub(super) fn open_mut(&mut self, key: OrderingKey, offset: u64) -> Option<&mut Open> {
        self.by_key.get_mut(&key)?.messages.open_mut(offset)
    }

    /// The first message of the key that is not done, unless it is leased.
    pub(super) fn open_head(&self, key: OrderingKey) -> Option<u64> {
        let messages = &self.by_key.get(&key)?.messages;
        let (head, _) = messages.open_from(0).next()?;
        let first_leased = messages.first_leased();
        first_leased
            .is_none_or(|leased| leased > head)
            .then_some(head)
    }

    /// The first message of the key that failed itself.
    pub(super) fn first_failed(&self, key: OrderingKey) -> Option<u64> {
        let mut open = self.by_key.get(&key)?.messages.open_from(0);
        let failed = open.find(|(_, open)| open.state == State::Failed)?;
        Some(failed.0)
    }

    /// The first message of the key that is known.
    pub(super) fn first(&self, key: OrderingKey) -> Option<u64> {
        let messages = &self.by_key.get(&key)?.messages;
        let open = messages.open_from(0).next().map(|(offset, _)| offset);
        messages.first_leased().into_iter().chain(open).min()
    }

    /// Those of the key that are not leased, from this one on.
    pub(super) fn open_from(&self, key: OrderingKey, offset: u64) -> impl Iterator<Item = u64> {
        let entry = self.by_key.get(&key).into_iter();
        let open = entry.flat_map(move |entry| entry.messages.open_from(offset));
        open.map(|(offset, _)| offset)
    }

    /// A message without a key is known from now on.
    pub(super) fn add_keyless(&mut self, offset: u64) {
        self.known.insert(offset, None);
    }

    /// A message is known from now on, and not leased.
    pub(super) fn add_open(&mut self, key: OrderingKey, offset: u64, open: Open) -> &mut Key {
        self.known.insert(offset, Some(key));
        self.open += 1;
        let entry = self.by_key.entry(key).or_default();
        entry.messages.insert(offset, Some(open));
        entry
    }

    /// A leased message is known from now on.
    pub(super) fn add_leased(&mut self, key: OrderingKey, offset: u64) -> &mut Key {
        self.known.insert(offset, Some(key));
        let entry = self.by_key.entry(key).or_default();
        entry.messages.insert(offset, None);
        entry
    }

    /// A message is leased.
    pub(super) fn lease(&mut self, key: OrderingKey, offset: u64) -> Option<&mut Key> {
        let entry = self.by_key.get_mut(&key)?;
        if !entry.messages.lease(offset) {
            return None;
        }
        self.open -= 1;
        Some(entry)
    }

    /// A message's lease ended. False when it had none.
    pub(super) fn end_lease(
        &mut self,
        key: OrderingKey,
        offset: u64,
        (state, waits): (State, bool),
    ) -> bool {
        let open = Open {
            state,
            waits,
            is_loaded: false,
        };
        let entry = self.by_key.get_mut(&key);
        let ended = entry.is_some_and(|entry| entry.messages.end_lease(offset, open));
        self.open += usize::from(ended);
        ended
    }

    /// The leased messages of the key behind this one.
    pub(super) fn leased_behind(&self, key: OrderingKey, offset: u64) -> Vec<u64> {
        let messages = self.by_key.get(&key).map(|entry| &entry.messages);
        let behind = messages.map(|messages| messages.leased_from(offset.saturating_add(1)));
        behind.into_iter().flatten().collect()
    }

    /// A message is done, or counts as absent. Returns what it was if it had a key and was not leased.
    pub(super) fn remove(&mut self, offset: u64) -> Option<Open> {
        let key = self.known.remove(&offset)??;
        let open = self.by_key.get_mut(&key)?.messages.remove(offset)?;
        self.open -= 1;
        Some(open)
    }

    /// Whether a message that was not known may be; `from` is where its read began. Otherwise the key has a mark there or
    /// before it. `room`: for so many there is, of all keys.
    pub(super) fn admits(&mut self, key: OrderingKey, offset: u64, from: u64, room: usize) -> bool {
        let Some(entry) = self.by_key.get_mut(&key) else {
            // Nothing of it is in its way.
            return true;
        };
        match entry.mark {
            Some(mark) if offset < mark => return true,
            Some(mark) if mark < from || !entry.is_in_rescan => return false,
            Some(_) | None => {}
        }
        let admits = room > 0 && entry.messages.open_len() < KEY_WAITING_MAX;
        if !admits {
            self.set_mark(key, Some(offset));
        }
        admits
    }

    fn set_mark(&mut self, key: OrderingKey, mark: Option<u64>) {
        if let Some(entry) = self.by_key.get_mut(&key) {
            if let Some(old) = entry.mark
                && entry.is_in_rescan
            {
                self.rescan.remove(&(old, key));
                entry.is_in_rescan = false;
            }
            entry.mark = mark;
        }
        self.settle(key);
    }

    /// The key's mark.
    pub(super) fn mark(&self, key: OrderingKey) -> Option<u64> {
        self.by_key.get(&key)?.mark
    }

    /// Where the log is to be read again for keys that have room.
    pub(super) fn rescan_from(&self) -> Option<u64> {
        self.rescan.first().map(|(mark, _)| *mark)
    }

    /// All of `offsets` was read, or counts as absent. What lies behind `fresh` is read anyway.
    pub(super) fn rescanned(&mut self, offsets: Range<u64>, fresh: u64) {
        let least = OrderingKey::MIN;
        let marks = (offsets.start, least)..(offsets.end, least);
        let keys: Vec<_> = self.rescan.range(marks).map(|(_, key)| *key).collect();
        for key in keys {
            self.set_mark(key, (offsets.end < fresh).then_some(offsets.end));
        }
    }

    /// Forgets a key of which nothing is known, and notes whether another has room.
    pub(super) fn settle(&mut self, key: OrderingKey) {
        let Some(entry) = self.by_key.get_mut(&key) else {
            return;
        };
        match entry.mark {
            None if entry.messages.is_empty() => {
                self.by_key.remove(&key);
            }
            None => {}
            Some(mark) => {
                let has_room = entry.messages.open_len() <= KEY_WAITING_LOW;
                if has_room != entry.is_in_rescan {
                    entry.is_in_rescan = has_room;
                    if has_room {
                        self.rescan.insert((mark, key));
                    } else {
                        self.rescan.remove(&(mark, key));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
impl Keys {
    pub(super) fn check(&self, is_holding: bool) {
        let mut with_key = 0;
        for (offset, key) in &self.known {
            if let Some(key) = key {
                let messages = &self.by_key[key].messages;
                let is_there = messages.leased_from(*offset).next() == Some(*offset);
                let is_open = messages.open_from(*offset).next();
                assert!(is_there != is_open.is_some_and(|(open, _)| open == *offset));
                with_key += 1;
            }
        }
        let open: usize = self.by_key.values().map(|it| it.messages.open_len()).sum();
        assert_eq!(open, self.open);
        let leased = self.by_key.values().map(|it| it.messages.leased().len());
        assert_eq!(open + leased.sum::<usize>(), with_key);
        for (key, entry) in &self.by_key {
            entry.messages.check();
            assert!(!entry.messages.is_empty() || entry.mark.is_some());
            assert_eq!(entry.owner.is_some(), entry.is_leased());
            assert_eq!(entry.offer, entry.next_offer().filter(|_| !is_holding));
            let is_in_rescan = entry
                .mark
                .is_some_and(|it| self.rescan.contains(&(it, *key)));
            assert_eq!(entry.is_in_rescan, is_in_rescan);
        }
    }

    /// Messages that are to be in a lane.
    pub(super) fn offered(&self) -> Vec<u64> {
        let offers = self.by_key.values().filter_map(|entry| entry.offer);
        let keyless = self.known.iter().filter(|(_, key)| key.is_none());
        let keyless = keyless.map(|(offset, _)| *offset);
        offers.map(|it| it.offset).chain(keyless).collect()
    }

    pub(super) fn has_marks(&self) -> bool {
        self.by_key.values().any(|entry| entry.mark.is_some())
    }

    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }

    pub(super) fn owned(&self) -> usize {
        self.by_key.values().filter(|it| it.owner.is_some()).count()
    }

    pub(super) fn is_leased(&self, offset: u64) -> bool {
        let key = self.key_of(offset);
        key.is_some_and(|key| self.by_key[&key].messages.leased().contains(&offset))
    }

    pub(super) fn loaded(&self) -> Vec<u64> {
        let messages = self.by_key.values().map(|entry| &entry.messages);
        let open = messages.flat_map(|messages| messages.open_from(0));
        let loaded = open.filter(|(_, open)| open.is_loaded);
        loaded.map(|(offset, _)| offset).collect()
    }
}
