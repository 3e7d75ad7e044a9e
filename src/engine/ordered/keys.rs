//! Messages with ordering keys of which something is known and that are not done, by key.
//!
//! A key is here while a message of it is, or a mark: the offset from which on its messages were read and not noted, as
//! there were too many. From there on the log is read again.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use foldhash::{HashMap, HashMapExt as _};

use crate::{
    engine::input::{ConsumerId, OrderingKey},
    limits::KEY_WAITING_MAX,
};

/// What of a key waits at most when the log is read again from its mark: enough for a while, so that each read finds much.
const KEY_WAITING_LOW: usize = KEY_WAITING_MAX / 2;

/// A message that is not leased.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Open {
    pub(super) state: State,
    /// Whether it may not go out yet: its failure is not stored, or its backoff is not over.
    pub(super) waits: bool,
    /// Whether its body is here.
    pub(super) is_loaded: bool,
}

/// Why a message is not leased.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum State {
    /// It was never delivered.
    Waiting,
    /// Its lease ended because of another message, or it never left.
    Returned,
    /// It failed itself: it goes out again when nothing before it in its key is undone.
    Failed,
}

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
    leased: u32,
    open: u32,
    mark: Option<u64>,
    /// Whether it is in [`Keys::rescan`].
    is_in_rescan: bool,
}

impl Key {
    pub(super) const fn is_leased(&self) -> bool {
        self.leased > 0
    }

    /// Whether [`Keys::settle`] has something to do.
    pub(super) const fn is_unsettled(&self) -> bool {
        self.mark.is_some() || (self.leased == 0 && self.open == 0)
    }
}

/// See the module. Hash maps, as each message asks them several times; where an order shows, what they tell is sorted.
#[derive(Debug)]
pub(super) struct Keys {
    /// The key of each message; `None` for those without one.
    known: HashMap<u64, Option<OrderingKey>>,
    /// Messages with a key that are leased.
    leased: BTreeSet<(OrderingKey, u64)>,
    /// Those that are not.
    open: BTreeMap<(OrderingKey, u64), Open>,
    by_key: HashMap<OrderingKey, Key>,
    /// Marks of the keys that have room again.
    rescan: BTreeSet<(u64, OrderingKey)>,
}

impl Default for Keys {
    fn default() -> Self {
        Self {
            known: HashMap::new(),
            leased: BTreeSet::new(),
            open: BTreeMap::new(),
            by_key: HashMap::new(),
            rescan: BTreeSet::new(),
        }
    }
}

const fn all_of(key: OrderingKey) -> std::ops::RangeInclusive<(OrderingKey, u64)> {
    (key, 0)..=(key, u64::MAX)
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
        self.open.len()
    }

    pub(super) fn open_mut(&mut self, key: OrderingKey, offset: u64) -> Option<&mut Open> {
        self.open.get_mut(&(key, offset))
    }

    /// What of the key comes next, and who may have it.
    pub(super) fn next_offer(&self, key: OrderingKey) -> Option<Offer> {
        let entry = self.by_key.get(&key).filter(|entry| entry.open > 0)?;
        #[cfg(not(test))]
        let mut open = self.open.range(all_of(key));
        #[cfg(test)]
        let mut open = self.open.range(all_of(key)).skip_while(|(_, open)| {
            open.waits && crate::sim::planted::Bug::OrderBrokenByRetry.is_planted()
        });
        let (&(_, offset), open) = open.next()?;
        if open.waits {
            return None;
        }
        let is_free = !entry.is_leased();
        if open.state == State::Failed && !is_free {
            let first_leased = self.leased.range(all_of(key)).next();
            if first_leased.is_some_and(|(_, leased)| *leased < offset) {
                return None;
            }
        }
        Some(Offer {
            offset,
            is_again: open.state != State::Waiting,
            is_loaded: open.is_loaded,
            is_free,
        })
    }

    /// The first message of the key that is not done, unless it is leased.
    pub(super) fn open_head(&self, key: OrderingKey) -> Option<u64> {
        let (&(_, head), _) = self.open.range(all_of(key)).next()?;
        let first_leased = self.leased.range(all_of(key)).next();
        let is_first = first_leased.is_none_or(|(_, leased)| *leased > head);
        is_first.then_some(head)
    }

    /// The first message of the key that failed itself.
    pub(super) fn first_failed(&self, key: OrderingKey) -> Option<u64> {
        let mut open = self.open.range(all_of(key));
        let failed = open.find(|(_, open)| open.state == State::Failed)?;
        Some(failed.0.1)
    }

    /// The first message of the key that is known.
    pub(super) fn first(&self, key: OrderingKey) -> Option<u64> {
        let leased = self.leased.range(all_of(key)).next();
        let open = self.open.range(all_of(key)).next();
        let leased = leased.map(|(_, offset)| *offset);
        let open = open.map(|((_, offset), _)| *offset);
        leased.into_iter().chain(open).min()
    }

    /// Those of the key that are not leased, from this one on.
    pub(super) fn open_from(&self, key: OrderingKey, offset: u64) -> impl Iterator<Item = u64> {
        let open = self.open.range((key, offset)..=(key, u64::MAX));
        open.map(|((_, offset), _)| *offset)
    }

    /// A message without a key is known from now on.
    pub(super) fn add_keyless(&mut self, offset: u64) {
        self.known.insert(offset, None);
    }

    /// A message is known from now on, and not leased.
    pub(super) fn add_open(&mut self, key: OrderingKey, offset: u64, open: Open) {
        self.known.insert(offset, Some(key));
        self.by_key.entry(key).or_default().open += 1;
        self.open.insert((key, offset), open);
    }

    /// A leased message is known from now on.
    pub(super) fn add_leased(&mut self, key: OrderingKey, offset: u64) -> &mut Key {
        self.known.insert(offset, Some(key));
        self.leased.insert((key, offset));
        let entry = self.by_key.entry(key).or_default();
        entry.leased += 1;
        entry
    }

    /// A message is leased.
    pub(super) fn lease(&mut self, key: OrderingKey, offset: u64) -> Option<&mut Key> {
        self.open.remove(&(key, offset))?;
        self.leased.insert((key, offset));
        let entry = self.by_key.get_mut(&key)?;
        entry.open -= 1;
        entry.leased += 1;
        Some(entry)
    }

    /// A message's lease ended. False when it had none.
    pub(super) fn end_lease(
        &mut self,
        key: OrderingKey,
        offset: u64,
        (state, waits): (State, bool),
    ) -> bool {
        if !self.leased.remove(&(key, offset)) {
            return false;
        }
        let open = Open {
            state,
            waits,
            is_loaded: false,
        };
        self.open.insert((key, offset), open);
        let entry = self.by_key.entry(key).or_default();
        entry.leased -= 1;
        entry.open += 1;
        true
    }

    /// The leased messages of the key behind this one.
    pub(super) fn leased_behind(&self, key: OrderingKey, offset: u64) -> Vec<u64> {
        if !self.by_key.get(&key).is_some_and(Key::is_leased) {
            return Vec::new();
        }
        let behind = self
            .leased
            .range((key, offset.saturating_add(1))..=(key, u64::MAX));
        behind.map(|(_, offset)| *offset).collect()
    }

    /// A message is done, or counts as absent. Returns what it was if it had a key and was not leased.
    pub(super) fn remove(&mut self, offset: u64) -> Option<Open> {
        let key = self.known.remove(&offset)??;
        let entry = self.by_key.get_mut(&key)?;
        if self.leased.remove(&(key, offset)) {
            entry.leased -= 1;
            return None;
        }
        entry.open -= 1;
        self.open.remove(&(key, offset))
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
        let admits = room > 0 && (entry.open as usize) < KEY_WAITING_MAX;
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
            None if entry.open == 0 && entry.leased == 0 => {
                self.by_key.remove(&key);
            }
            None => {}
            Some(mark) => {
                let has_room = entry.open as usize <= KEY_WAITING_LOW;
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
        for (offset, key) in &self.known {
            if let Some(key) = key {
                let is_open = self.open.contains_key(&(*key, *offset));
                assert!(is_open != self.leased.contains(&(*key, *offset)));
            }
        }
        let with_key = self.known.values().flatten().count();
        assert_eq!(self.open.len() + self.leased.len(), with_key);
        for (key, entry) in &self.by_key {
            assert_eq!(entry.open as usize, self.open.range(all_of(*key)).count());
            let leased = self.leased.range(all_of(*key)).count();
            assert_eq!(entry.leased as usize, leased);
            assert!(entry.open + entry.leased > 0 || entry.mark.is_some());
            assert_eq!(entry.owner.is_some(), leased > 0);
            assert_eq!(entry.offer, self.next_offer(*key).filter(|_| !is_holding));
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
        key.is_some_and(|key| self.leased.contains(&(key, offset)))
    }

    pub(super) fn loaded(&self) -> Vec<u64> {
        let loaded = self.open.iter().filter(|(_, open)| open.is_loaded);
        loaded.map(|((_, offset), _)| *offset).collect()
    }
}
