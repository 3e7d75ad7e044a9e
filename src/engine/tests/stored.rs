//! The store's part: stores exactly what `engine::change` describes.

use std::collections::BTreeMap;

use crate::{
    engine::{
        change::{PartitionChange, PartitionState, RetainedRow, StoredChunk},
        chunk::{self, Slot},
    },
    limits::CHUNK_OFFSETS,
};

#[derive(Clone, Debug, Default)]
struct Row {
    generation: u32,
    cursor: u64,
    chunks: BTreeMap<u64, StoredChunk>,
    retained: BTreeMap<u64, RetainedRow>,
}

/// The stored state of one subscription.
#[derive(Clone, Debug, Default)]
pub(super) struct Stored {
    rows: BTreeMap<u32, Row>,
}

impl Stored {
    pub(super) fn apply(&mut self, changes: &[PartitionChange]) {
        for change in changes {
            let row = self.rows.entry(change.partition).or_default();
            assert!(
                row.generation <= change.generation,
                "a generation never falls"
            );
            if row.generation != change.generation {
                row.chunks.clear();
                row.retained.clear();
            }
            row.generation = change.generation;
            row.cursor = change.cursor;
            for index in &change.delete {
                row.chunks.remove(index);
            }
            for chunk in &change.put {
                row.chunks.insert(chunk.index, chunk.clone());
            }
            for key in &change.release {
                row.retained.remove(key);
            }
            for retained in &change.retain {
                row.retained.insert(retained.key, retained.clone());
            }
            row.chunks = row.chunks.split_off(&(change.cursor / CHUNK_OFFSETS));
        }
    }

    /// The slots of a chunk, up to the last that is not pending.
    pub(super) fn slots(&self, partition: u32, index: u64) -> Vec<Slot> {
        let row = self.rows.get(&partition);
        let chunk = row.and_then(|row| row.chunks.get(&index));
        chunk.map_or_else(Vec::new, |chunk| {
            if chunk.body.is_empty() {
                return Vec::new();
            }
            chunk::decode(index, &chunk.body).expect("as it was encoded")
        })
    }

    pub(super) fn states(&self) -> Vec<PartitionState> {
        let state = |(partition, row): (&u32, &Row)| PartitionState {
            partition: *partition,
            generation: row.generation,
            cursor: row.cursor,
            chunks: row.chunks.values().cloned().collect(),
            retained: row.retained.values().cloned().collect(),
        };
        self.rows.iter().map(state).collect()
    }
}
