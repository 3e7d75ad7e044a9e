//! Messages that the same consumers may have next: at most one of each ordering key.

use std::collections::BTreeMap;

use crate::engine::queue::Queue;

/// See the module. With each message goes a `T`.
#[derive(Debug)]
pub(super) struct Lane<T> {
    /// Never delivered, the oldest first.
    fresh: BTreeMap<u64, T>,
    /// Delivered before, first come first served.
    again: Queue<T>,
    /// Those that have to be read first, and whether each was delivered before.
    unread: BTreeMap<u64, bool>,
    /// How many of these were never delivered.
    unread_fresh: usize,
}

impl<T> Default for Lane<T> {
    fn default() -> Self {
        Self {
            fresh: BTreeMap::new(),
            again: Queue::default(),
            unread: BTreeMap::new(),
            unread_fresh: 0,
        }
    }
}

impl<T> Lane<T> {
    /// Adds a message whose body is loaded.
    pub(super) fn insert(&mut self, offset: u64, is_again: bool, what: T) {
        if is_again {
            self.again.push(offset, what);
        } else {
            self.fresh.insert(offset, what);
        }
    }

    /// Adds a message that has to be read.
    pub(super) fn insert_unread(&mut self, offset: u64, is_again: bool) {
        if self.unread.insert(offset, is_again).is_none() && !is_again {
            self.unread_fresh += 1;
        }
    }

    /// Takes a message whose body is loaded.
    pub(super) fn take(&mut self, offset: u64, is_again: bool) -> Option<T> {
        if is_again {
            self.again.remove(offset)
        } else {
            self.fresh.remove(&offset)
        }
    }

    /// Takes a message that has to be read, and tells whether it was delivered before.
    pub(super) fn take_unread(&mut self, offset: u64) -> Option<bool> {
        let is_again = self.unread.remove(&offset)?;
        self.unread_fresh -= usize::from(!is_again);
        Some(is_again)
    }

    pub(super) fn get(&self, offset: u64, is_again: bool) -> Option<&T> {
        if is_again {
            let first = self.again.first().filter(|(first, _)| *first == offset);
            first.map(|(_, what)| what)
        } else {
            self.fresh.get(&offset)
        }
    }

    /// The oldest that was never delivered.
    pub(super) fn first_fresh(&self) -> Option<u64> {
        self.fresh.first_key_value().map(|(offset, _)| *offset)
    }

    /// What came back first.
    pub(super) fn first_again(&self) -> Option<u64> {
        self.again.first().map(|(offset, _)| *offset)
    }

    /// What has to be read, ascending.
    pub(super) fn unread(&self) -> impl Iterator<Item = u64> {
        self.unread.keys().copied()
    }

    /// How many were never delivered and have to be read.
    pub(super) const fn unread_fresh(&self) -> usize {
        self.unread_fresh
    }

    pub(super) fn fresh_len(&self) -> usize {
        self.fresh.len()
    }

    pub(super) fn again_len(&self) -> usize {
        self.again.len()
    }

    /// Whether something is loaded.
    pub(super) fn has_loaded(&self) -> bool {
        !self.fresh.is_empty() || !self.again.is_empty()
    }

    /// Takes all that is loaded, in order, each with whether it was delivered before.
    pub(super) fn drain_loaded(&mut self) -> Vec<(u64, bool, T)> {
        let fresh = std::mem::take(&mut self.fresh).into_iter();
        let mut drained: Vec<_> = fresh.map(|(offset, it)| (offset, false, it)).collect();
        while let Some((offset, it)) = self.again.pop_first() {
            drained.push((offset, true, it));
        }
        drained
    }

    /// Adds everything of another one.
    pub(super) fn merge(&mut self, mut other: Self) {
        for (offset, is_again, what) in other.drain_loaded() {
            self.insert(offset, is_again, what);
        }
        for (offset, is_again) in other.unread {
            self.insert_unread(offset, is_again);
        }
    }
}

#[cfg(test)]
impl<T> Lane<T> {
    pub(super) fn offsets(&self) -> Vec<u64> {
        let again = self.again.iter().map(|(offset, _)| *offset);
        let loaded = self.fresh.keys().copied().chain(again);
        loaded.chain(self.unread()).collect()
    }

    pub(super) fn loaded(&self) -> Vec<(u64, bool, &T)> {
        let fresh = self.fresh.iter().map(|(offset, it)| (*offset, false, it));
        let again = self.again.iter().map(|(offset, it)| (*offset, true, it));
        fresh.chain(again).collect()
    }

    pub(super) fn check(&self) {
        let fresh = self.unread.values().filter(|is_again| !**is_again);
        assert_eq!(self.unread_fresh, fresh.count());
    }
}
