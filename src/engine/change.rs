//! Changes that the engine has the store write, and the state that it loads after a restart.

use bytes::Bytes;

use crate::clock::Timestamp;

/// The stored state of a subscription in one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionState {
    /// Which partition.
    pub partition: u32,
    /// Rises when the state is voided as a whole; state and ack ids of an older one do not count.
    pub generation: u32,
    /// Everything below is done.
    pub cursor: u64,
    /// Stored chunks at or above the cursor's, ascending by index.
    pub chunks: Vec<StoredChunk>,
    /// What was retained, ascending by key, also what has ended.
    pub retained: Vec<RetainedRow>,
}

/// 256 offsets ([`crate::limits::CHUNK_OFFSETS`]) of a partition, in the form that is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredChunk {
    /// Its first offset divided by 256.
    pub index: u64,
    /// How many chunks right behind it are done entirely and therefore have no row of their own.
    pub done_after: u64,
    /// The state of each offset, as `engine::chunk` encodes it.
    pub body: Bytes,
}

/// Changes of a subscription's state in one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionChange {
    /// Which partition.
    pub partition: u32,
    /// The current generation; rows of older ones are removed.
    pub generation: u32,
    /// The new cursor. Chunks below the one that it is in are removed.
    pub cursor: u64,
    /// Chunks to insert or replace.
    pub put: Vec<StoredChunk>,
    /// Indexes of chunks to remove.
    pub delete: Vec<u64>,
    /// Rows to retain, whatever becomes of the cursor. They replace rows with the same keys. Each key at most once.
    pub retain: Vec<RetainedRow>,
    /// Keys of retained rows to remove.
    pub release: Vec<u64>,
}

/// Something about a partition that outlives the cursor, of the current generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetainedRow {
    /// Tells it from the others of its partition.
    pub key: u64,
    /// When it has no meaning any more. Only the engine removes it then.
    pub until: Timestamp,
    /// What is retained.
    pub body: Bytes,
}
