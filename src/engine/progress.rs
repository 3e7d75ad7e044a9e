//! What of a partition is done: a cursor, the done ranges above it, and the form in which all of its state is stored.
//!
//! The state above the cursor is stored in chunks of 256 offsets. A chunk in which everything is done has no row:
//! the row of the chunk before it counts those that follow. So a poison message at the bottom of a long backlog
//! costs one row, and a flush rewrites only the chunks that changed.

use std::{collections::BTreeSet, ops::Range};

use rangemap::RangeSet;

use super::{
    change::{PartitionChange, PartitionState, StoredChunk},
    chunk::{self, ChunkError, Slot},
    dirty::{Dirty, Urgency},
};
use crate::limits::CHUNK_OFFSETS;

/// See the module.
#[derive(Debug)]
pub(super) struct Progress {
    generation: u32,
    /// Everything below is done.
    cursor: u64,
    /// Done above the cursor; never the cursor itself.
    done: RangeSet<u64>,
    dirty: Dirty,
}

/// What was stored of a partition.
pub(super) struct Restored {
    pub(super) progress: Progress,
    /// Nothing is known of the offsets from here on.
    pub(super) seen: u64,
    /// The log ends below `seen`, which made a new generation.
    pub(super) is_void: bool,
}

/// Offsets that are done according to what is stored.
pub fn done(state: &PartitionState) -> Result<RangeSet<u64>, ChunkError> {
    let mut done = RangeSet::new();
    if state.cursor > 0 {
        done.insert(0..state.cursor);
    }
    for stored in &state.chunks {
        done.extend(followers(stored)?);
        if !stored.body.is_empty() {
            let slots = chunk::decode(stored.index, &stored.body)?;
            let offsets = stored.index * CHUNK_OFFSETS..;
            done.extend(
                offsets
                    .zip(slots)
                    .filter(|(_, slot)| *slot == Slot::Done)
                    .map(|(offset, _)| offset..offset + 1),
            );
        }
    }
    Ok(done)
}

/// Where what is stored ends: nothing is known of the offsets from there on.
pub fn seen(state: &PartitionState) -> Result<u64, ChunkError> {
    let mut seen = state.cursor;
    for stored in &state.chunks {
        seen = followers(stored)?.map_or(seen, |done| seen.max(done.end));
    }
    if let Some(last) = state.chunks.last()
        && !last.body.is_empty()
    {
        let slots = chunk::decode(last.index, &last.body)?;
        let offsets = last.index * CHUNK_OFFSETS..;
        let known = offsets
            .zip(slots)
            .filter(|(_, slot)| *slot != Slot::Pending);
        seen = known.fold(seen, |seen, (offset, _)| seen.max(offset + 1));
    }
    Ok(seen)
}

/// The offsets of the done chunks behind a stored one.
fn followers(stored: &StoredChunk) -> Result<Option<Range<u64>>, ChunkError> {
    let offsets = || {
        let first = stored.index.checked_add(1)?;
        let end = first.checked_add(stored.done_after)?;
        Some(first.checked_mul(CHUNK_OFFSETS)?..end.checked_mul(CHUNK_OFFSETS)?)
    };
    let offsets = offsets().ok_or(ChunkError::Damaged {
        index: stored.index,
    })?;
    Ok((!offsets.is_empty()).then_some(offsets))
}

impl Progress {
    /// Nothing above `cursor` is done.
    pub(super) fn new(generation: u32, cursor: u64) -> Self {
        Self {
            generation,
            cursor,
            done: RangeSet::new(),
            dirty: Dirty::default(),
        }
    }

    /// As it was stored. What lies at or above `end`, where the log has nothing (any more), is void: the offsets will
    /// be used for other messages. Leases and failed messages go to `delivered`.
    pub(super) fn restore(
        state: &PartitionState,
        end: u64,
        mut delivered: impl FnMut(u64, Slot),
    ) -> Result<Restored, ChunkError> {
        let mut progress = Self::new(state.generation, state.cursor.min(end));
        let seen = seen(state)?;
        let mut rows = BTreeSet::new();
        for stored in &state.chunks {
            if let Some(done) = followers(stored)? {
                progress.done.insert(done);
            }
            rows.insert(stored.index);
        }
        progress.dirty = Dirty::restored(rows);
        for stored in &state.chunks {
            if stored.body.is_empty() {
                continue;
            }
            let slots = chunk::decode(stored.index, &stored.body)?;
            for (offset, slot) in (stored.index * CHUNK_OFFSETS..).zip(slots) {
                if slot == Slot::Pending || progress.is_done(offset) {
                    continue;
                }
                if offset >= end {
                    continue;
                }
                match slot {
                    Slot::Done => progress.done.insert(offset..offset + 1),
                    slot => delivered(offset, slot),
                }
            }
        }
        let is_void = seen > end;
        if is_void {
            progress.done.remove(end..u64::MAX);
            progress.generation += 1;
            progress.dirty.voided(end);
        }
        progress.advance_cursor();
        // A chunk that was skipped entirely may have been counted before its own row was removed.
        let counted: Vec<u64> = progress
            .dirty
            .stored()
            .filter(|index| progress.done_around(*index).is_some())
            .collect();
        for index in counted {
            let start = index * CHUNK_OFFSETS;
            progress.dirty.skipped(&(start..start + CHUNK_OFFSETS));
        }
        Ok(Restored {
            progress,
            seen,
            is_void,
        })
    }

    pub(super) fn generation(&self) -> u32 {
        self.generation
    }

    pub(super) fn cursor(&self) -> u64 {
        self.cursor
    }

    pub(super) fn is_done(&self, offset: u64) -> bool {
        offset < self.cursor || self.done.contains(&offset)
    }

    /// The done piece above the cursor that this offset is in.
    pub(super) fn piece_at(&self, offset: u64) -> Option<&Range<u64>> {
        self.done.get(&offset)
    }

    /// The done pieces above the cursor that these offsets touch.
    pub(super) fn pieces(&self, offsets: Range<u64>) -> impl Iterator<Item = &Range<u64>> {
        self.done.overlapping(offsets)
    }

    /// Counts offsets that hold nothing to deliver as done. Never worth a flush of its own.
    pub(super) fn skip(&mut self, offsets: Range<u64>) {
        self.dirty.skipped(&offsets);
        self.done.insert(offsets);
    }

    pub(super) fn ack(&mut self, offsets: Range<u64>) {
        self.dirty.acked(&offsets);
        self.done.insert(offsets);
    }

    /// A caller waits for what was done already.
    pub(super) fn ack_again(&mut self, offsets: Range<u64>) {
        self.dirty.acked_again(&offsets);
    }

    /// Leases or attempts of these offsets changed.
    pub(super) fn leases_changed(&mut self, offsets: Range<u64>, urgency: Urgency) {
        self.dirty.leased(&offsets, urgency);
    }

    /// Retained rows are to be removed some time.
    pub(super) fn rows_forgotten(&mut self) {
        self.dirty.rows_forgotten();
    }

    /// Moves the cursor over what is done; whether it moved.
    pub(super) fn advance_cursor(&mut self) -> bool {
        let Some(done) = self.done.get(&self.cursor).cloned() else {
            return false;
        };
        self.cursor = done.end;
        self.done.remove(done);
        self.dirty.cursor_moved(self.cursor);
        true
    }

    /// How soon a flush is needed.
    pub(super) fn urgency(&self) -> Urgency {
        self.dirty.urgency()
    }

    /// Whether something other than skipping has to be stored.
    pub(super) fn has_changed_leases(&self) -> bool {
        self.dirty.leases_changed()
    }

    /// The changes of the last flush are durable, or must be written again.
    pub(super) fn flushed(&mut self, stored: bool) {
        self.dirty.flushed(stored);
    }

    /// What a flush must write; `all`: also what nobody waits for. `delivered` gives leases and failed messages.
    pub(super) fn take_changes<S>(
        &mut self,
        partition: u32,
        all: bool,
        delivered: impl Fn(Range<u64>) -> S,
    ) -> Option<PartitionChange>
    where
        S: Iterator<Item = (u64, Slot)>,
    {
        match self.dirty.urgency() {
            Urgency::Urgent => {}
            Urgency::Lazy if all => {}
            Urgency::Lazy | Urgency::None => return None,
        }
        let mut write = self.dirty.start_flush(self.cursor, all);
        // Chunks that became done are counted by the one before them.
        let owners: Vec<u64> = write
            .iter()
            .filter_map(|chunk| self.owner(*chunk))
            .collect();
        write.extend(owners);

        let mut change = PartitionChange {
            partition,
            generation: self.generation,
            cursor: self.cursor,
            put: Vec::new(),
            delete: Vec::new(),
            retain: Vec::new(),
            release: Vec::new(),
        };
        for index in write {
            let row = self.stored_form(index, &delivered);
            let changes = self.dirty.written(index, row.is_some());
            match row {
                Some(row) => change.put.push(row),
                None if changes => change.delete.push(index),
                None => {}
            }
        }
        Some(change)
    }

    /// The chunk whose row counts the done chunk `index`; `None` when that one is not done.
    fn owner(&self, index: u64) -> Option<u64> {
        let done = self.done_around(index)?;
        // What is done in one piece never starts at the cursor, so there is an offset before it.
        Some((done.start - 1) / CHUNK_OFFSETS)
    }

    /// The done piece that covers the whole chunk.
    fn done_around(&self, index: u64) -> Option<&Range<u64>> {
        let start = index * CHUNK_OFFSETS;
        self.done
            .get(&start)
            .filter(|done| done.end >= start + CHUNK_OFFSETS)
    }

    fn stored_form<S>(&self, index: u64, delivered: impl Fn(Range<u64>) -> S) -> Option<StoredChunk>
    where
        S: Iterator<Item = (u64, Slot)>,
    {
        if self.done_around(index).is_some() {
            return None;
        }
        let done_after = self.done_around(index + 1).map_or(0, |done| {
            (done.end - (index + 1) * CHUNK_OFFSETS) / CHUNK_OFFSETS
        });
        let start = index * CHUNK_OFFSETS;
        let offsets = start..start + CHUNK_OFFSETS;
        let at = |offset: u64| (offset - start) as usize;
        let mut slots = [Slot::Pending; CHUNK_OFFSETS as usize];
        let end = offsets.end;
        #[cfg(test)]
        let end = end - u64::from(crate::sim::planted::Bug::ChunkEdge.is_planted());
        for done in self.done.overlapping(offsets.clone()) {
            let done = done.start.max(start)..done.end.min(end);
            slots[at(done.start)..at(done.end)].fill(Slot::Done);
        }
        for (offset, slot) in delivered(offsets) {
            slots[at(offset)] = slot;
        }
        let body = chunk::encode(&slots);
        if body.is_none() && done_after == 0 {
            return None;
        }
        Some(StoredChunk {
            index,
            done_after,
            body: body.unwrap_or_default(),
        })
    }
}

#[cfg(test)]
impl Progress {
    pub(super) fn check(&self) {
        assert!(!self.done.contains(&self.cursor));
    }

    pub(super) fn done_above_cursor(&self) -> &RangeSet<u64> {
        &self.done
    }
}
