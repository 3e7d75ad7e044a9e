//! Whether everything in it agrees.

use super::Ordered;

impl Ordered {
    pub(in crate::engine) fn check(&self) {
        let is_holding = self.held_until.is_some();
        self.keys.check(is_holding);
        assert_eq!(self.keys.owned(), self.owners.keys());
        self.free.check();
        let mut bodies: Vec<u64> = self.parked.messages.keys().copied().collect();
        let in_free = self.free.loaded();
        let sum = |again: bool| -> usize {
            let of = in_free.iter().filter(|(_, is_again, _)| *is_again == again);
            of.map(|(_, _, message)| message.body.len()).sum()
        };
        assert_eq!(self.free_bytes, sum(true) + sum(false));
        assert_eq!(self.again_bytes, sum(true));
        let keyed = in_free.iter().filter(|(_, _, it)| it.key.is_some());
        bodies.extend(keyed.map(|(offset, ..)| *offset));
        bodies.sort_unstable();
        let mut loaded = self.keys.loaded();
        loaded.sort_unstable();
        assert_eq!(bodies, loaded);
        let bytes: usize = self.parked.messages.values().map(|it| it.body.len()).sum();
        assert_eq!(self.parked.bytes, bytes);
        let mut offered = self.free.offsets();
        for (_, lane) in self.owners.lanes() {
            lane.check();
            offered.extend(lane.offsets());
        }
        let mut expected = self.keys.offered();
        offered.sort_unstable();
        expected.sort_unstable();
        assert_eq!(offered, expected);
    }

    /// What is known, and whether it is leased.
    pub(in crate::engine) fn known(&self) -> Vec<(u64, bool)> {
        let known = self.keys.known(0..u64::MAX).into_iter();
        known
            .map(|(offset, _)| (offset, self.keys.is_leased(offset)))
            .collect()
    }

    pub(in crate::engine) fn has_marks(&self) -> bool {
        self.keys.has_marks()
    }

    /// Keys of which something is known.
    pub(in crate::engine) fn keys(&self) -> usize {
        self.keys.len()
    }
}
