//! What it means that stored state cannot be read.

use crate::{engine::ChunkError, resource::requirement::DATA_VERSION, store::StoreError};

/// The store's error for a chunk that cannot be read.
pub(super) fn unreadable(error: &ChunkError) -> StoreError {
    match error {
        ChunkError::Damaged { .. } => StoreError::Damaged(error.to_string()),
        &ChunkError::Newer { index, needs } => StoreError::Newer {
            what: format!("chunk {index} of the subscription's state"),
            needs,
            known: DATA_VERSION,
        },
    }
}
