//! Something of single offsets, first come first served.

use std::{collections::BTreeMap, ops::Range};

/// See the module. At most one thing of each offset.
#[derive(Debug)]
pub(super) struct Queue<T> {
    /// The place of each offset.
    places: BTreeMap<u64, u64>,
    /// What waits, by place.
    waiting: BTreeMap<u64, (u64, T)>,
    next_place: u64,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self {
            places: BTreeMap::new(),
            waiting: BTreeMap::new(),
            // With as much before it as behind it.
            next_place: u64::MAX / 2,
        }
    }
}

impl<T> Queue<T> {
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn contains(&self, offset: u64) -> bool {
        self.places.contains_key(&offset)
    }

    /// Adds it as the last one, unless something of the offset waits already.
    pub(super) fn push(&mut self, offset: u64, what: T) {
        if !self.contains(offset) {
            self.places.insert(offset, self.next_place);
            self.waiting.insert(self.next_place, (offset, what));
            self.next_place += 1;
        }
    }

    /// Adds it as the first one, unless something of the offset waits already.
    pub(super) fn push_first(&mut self, offset: u64, what: T) {
        if !self.contains(offset) {
            let first = self.waiting.first_key_value();
            let place = first.map_or(self.next_place, |(first, _)| *first) - 1;
            self.places.insert(offset, place);
            self.waiting.insert(place, (offset, what));
        }
    }

    /// Takes what came last, with its offset.
    pub(super) fn pop_last(&mut self) -> Option<(u64, T)> {
        let (_, last) = self.waiting.pop_last()?;
        self.places.remove(&last.0);
        Some(last)
    }

    /// What has waited longest, with its offset.
    pub(super) fn first(&self) -> Option<&(u64, T)> {
        self.waiting.first_key_value().map(|(_, first)| first)
    }

    /// Takes what has waited longest, with its offset.
    pub(super) fn pop_first(&mut self) -> Option<(u64, T)> {
        let (_, first) = self.waiting.pop_first()?;
        self.places.remove(&first.0);
        Some(first)
    }

    pub(super) fn remove(&mut self, offset: u64) -> Option<T> {
        let place = self.places.remove(&offset)?;
        self.waiting.remove(&place).map(|(_, what)| what)
    }

    /// Those of these offsets of which something waits, ascending.
    pub(super) fn offsets(&self, offsets: Range<u64>) -> impl Iterator<Item = u64> {
        self.places.range(offsets).map(|(offset, _)| *offset)
    }
}

#[cfg(test)]
impl<T> Queue<T> {
    /// What waits, with its offset, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &(u64, T)> {
        assert_eq!(self.places.len(), self.waiting.len());
        self.waiting.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_first_goes_first_and_keeps_its_place() {
        let mut queue = Queue::default();
        for (offset, what) in [(7, 'a'), (3, 'b'), (5, 'c'), (7, 'd')] {
            queue.push(offset, what);
        }
        assert_eq!(queue.offsets(0..6).collect::<Vec<_>>(), [3, 5]);
        assert_eq!(queue.remove(3), Some('b'));
        queue.push(3, 'e');
        assert_eq!(queue.first(), Some(&(7, 'a')));
        assert_eq!(
            queue.iter().map(|it| it.1).collect::<Vec<_>>(),
            ['a', 'c', 'e']
        );
        let mut taken = || queue.pop_first().map(|it| it.0);
        assert_eq!(
            [taken(), taken(), taken(), taken()],
            [Some(7), Some(5), Some(3), None]
        );
        assert!(!queue.contains(3) && queue.is_empty());
    }

    #[test]
    fn what_is_put_back_goes_before_everything_else() {
        let mut queue = Queue::default();
        queue.push_first(9, ());
        queue.push(1, ());
        for offset in [4, 2, 1] {
            queue.push_first(offset, ());
        }
        let order: Vec<u64> = queue.iter().map(|it| it.0).collect();
        assert_eq!(order, [2, 4, 9, 1]);
        assert_eq!(queue.pop_last(), Some((1, ())));
        assert!(!queue.contains(1) && queue.contains(9));
    }
}
