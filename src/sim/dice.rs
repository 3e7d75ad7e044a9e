//! Chance by seed.

use std::ops::RangeInclusive;

use crate::random::Random;

/// Throws that follow from a seed. Cheap to clone; clones go on with each other's throws.
#[derive(Clone)]
pub(super) struct Dice(Random);

impl Dice {
    /// Those of a seed.
    pub(super) fn seeded(seed: u64) -> Self {
        Self(Random::seeded(seed))
    }

    /// A number within these bounds.
    pub(super) fn within(&self, bounds: RangeInclusive<u64>) -> u64 {
        let mut bytes = [0; 8];
        self.0
            .fill(&mut bytes)
            .expect("a seeded source gives bytes");
        let span = bounds.end() - bounds.start() + 1;
        bounds.start() + u64::from_le_bytes(bytes) % span
    }

    /// True in so many of a hundred throws.
    pub(super) fn chance(&self, percent: u64) -> bool {
        self.within(0..=99) < percent
    }

    /// One of these, which are not none.
    pub(super) fn pick<'a, T>(&self, from: &'a [T]) -> &'a T {
        &from[self.within(0..=from.len() as u64 - 1) as usize]
    }
}
