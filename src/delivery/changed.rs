//! Where messages were acknowledged: retention searches nothing else for what it may delete.

use std::{collections::BTreeMap, ops::Range};

use rangemap::RangeSet;

use crate::{
    limits::{CHUNK_OFFSETS, RETENTION_RANGES_MAX},
    store::log::{Offset, Partition},
};

/// Parts of a topic's log, or all of it. A bounded number of ranges: neighbours become one when there are more.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changed {
    is_everything: bool,
    /// In chunks.
    partitions: BTreeMap<Partition, RangeSet<u64>>,
    /// Acknowledgements come in runs, most of which lie in the same chunk.
    last: Option<(Partition, u64)>,
}

impl Changed {
    /// All of the log.
    pub(super) fn everything() -> Self {
        Self {
            is_everything: true,
            ..Self::default()
        }
    }

    pub(super) const fn is_everything(&self) -> bool {
        self.is_everything
    }

    /// A message was acknowledged.
    pub(super) fn note(&mut self, partition: Partition, offset: Offset) {
        let chunk = offset / CHUNK_OFFSETS;
        if self.last == Some((partition, chunk)) {
            return;
        }
        self.last = Some((partition, chunk));
        insert(
            self.partitions.entry(partition).or_default(),
            chunk..chunk + 1,
        );
    }

    /// Neighbours, at least one, need not be delivered.
    pub(super) fn note_range(&mut self, partition: Partition, offsets: Range<Offset>) {
        let chunks = offsets.start / CHUNK_OFFSETS..(offsets.end - 1) / CHUNK_OFFSETS + 1;
        insert(self.partitions.entry(partition).or_default(), chunks);
    }

    /// Adds what changed elsewhere.
    pub(super) fn merge(&mut self, other: Self) {
        self.is_everything |= other.is_everything;
        for (partition, chunks) in other.partitions {
            let all = self.partitions.entry(partition).or_default();
            for range in chunks {
                insert(all, range);
            }
        }
    }

    /// The ranges of a partition in which messages were acknowledged, ascending.
    pub(super) fn ranges(&self, partition: Partition) -> Vec<Range<Offset>> {
        let chunks = self.partitions.get(&partition).into_iter();
        let offsets = |chunk: u64| chunk.saturating_mul(CHUNK_OFFSETS);
        chunks
            .flat_map(RangeSet::iter)
            .map(|range| offsets(range.start)..offsets(range.end))
            .collect()
    }
}

fn insert(chunks: &mut RangeSet<u64>, range: Range<u64>) {
    chunks.insert(range);
    if chunks.len() > RETENTION_RANGES_MAX {
        let starts = chunks.iter().skip(1).map(|range| range.start);
        let gaps = chunks.iter().map(|range| range.end).zip(starts);
        if let Some((start, end)) = gaps.min_by_key(|(start, end)| end - start) {
            chunks.insert(start..end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acknowledgements_in_a_row_are_one_range_of_whole_chunks() {
        let mut changed = Changed::default();
        for offset in 300..900 {
            changed.note(0, offset);
        }
        changed.note(1, 5);
        let ranges = |partition| {
            changed
                .ranges(partition)
                .into_iter()
                .map(|range| (range.start, range.end))
        };
        assert!(ranges(0).eq([(256, 1024)]));
        assert!(ranges(1).eq([(0, 256)]));
        assert_eq!(changed.ranges(2), []);
    }

    #[test]
    fn of_too_many_ranges_the_nearest_become_one() {
        let (mut changed, mut more) = (Changed::default(), Changed::default());
        let most = RETENTION_RANGES_MAX as u64;
        for number in 0..most {
            changed.note(0, number * 10 * CHUNK_OFFSETS);
        }
        assert_eq!(changed.ranges(0).len(), RETENTION_RANGES_MAX);
        more.note(0, (most * 10 - 8) * CHUNK_OFFSETS);
        changed.merge(more);
        let ranges = changed.ranges(0);
        assert_eq!(ranges.len(), RETENTION_RANGES_MAX);
        let last = (most * 10 - 10) * CHUNK_OFFSETS..(most * 10 - 7) * CHUNK_OFFSETS;
        assert_eq!(ranges.last(), Some(&last));
        assert!(!changed.is_everything());
        changed.merge(Changed::everything());
        assert!(changed.is_everything());
    }
}
