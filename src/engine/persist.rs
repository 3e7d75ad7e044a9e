//! What of a partition's state must be written, in which form, and how it is read back.
//!
//! The state above the cursor is stored in chunks of 256 offsets. A chunk in which everything is done has no row:
//! the row of the chunk before it counts those that follow. So a poison message at the bottom of a long backlog
//! costs one row, and a flush rewrites only the chunks that changed.

use std::{collections::BTreeSet, ops::Range};

use rangemap::RangeSet;

use super::{
    change::{PartitionChange, PartitionState, StoredChunk},
    chunk::{self, ChunkError, Delivered, Slot},
    partition::{Failed, Lease, Partition},
    timers::{Timers, tick_of},
};
use crate::limits::CHUNK_OFFSETS;

/// Which chunks differ from what is stored.
#[derive(Debug, Default)]
pub(super) struct Dirty {
    /// Hold an ack that somebody waits for.
    urgent: BTreeSet<u64>,
    /// Hold changes of leases and attempts, or skipped offsets.
    lazy: BTreeSet<u64>,
    cursor: Urgency,
    /// Chunks that have a row.
    stored: BTreeSet<u64>,
    /// What the flush on its way writes, to be written again should it fail.
    in_flight: Vec<u64>,
    /// An ack or a lease changed since the last full flush; skipping alone waits longer.
    leases_changed: bool,
}

/// How soon a moved cursor must be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Urgency {
    #[default]
    None,
    Lazy,
    Urgent,
}

impl Dirty {
    pub(super) fn acked(&mut self, offsets: Range<u64>) {
        self.urgent.extend(chunks(&offsets));
        self.cursor = Urgency::Urgent;
    }

    /// Somebody waits for what was done already: if it was skipped, that is not stored yet.
    pub(super) fn acked_again(&mut self, offsets: Range<u64>) {
        let lazy = chunks(&offsets).filter(|chunk| self.lazy.remove(chunk));
        self.urgent.extend(lazy);
        if self.cursor == Urgency::Lazy {
            self.cursor = Urgency::Urgent;
        }
    }

    pub(super) fn leased(&mut self, offset: u64) {
        self.lazy.insert(offset / CHUNK_OFFSETS);
        self.leases_changed = true;
    }

    pub(super) fn skipped(&mut self, offsets: Range<u64>) {
        self.lazy.extend(chunks(&offsets));
    }

    /// Chunks below the cursor's are removed with it.
    pub(super) fn cursor_moved(&mut self, cursor: u64) {
        let first = cursor / CHUNK_OFFSETS;
        self.urgent = self.urgent.split_off(&first);
        self.lazy = self.lazy.split_off(&first);
        self.cursor = self.cursor.max(Urgency::Lazy);
    }

    /// Whether somebody waits for a flush.
    pub(super) fn is_urgent(&self) -> bool {
        self.cursor == Urgency::Urgent || !self.urgent.is_empty()
    }

    /// Whether anything differs from what is stored.
    pub(super) fn is_any(&self) -> bool {
        self.cursor != Urgency::None || !self.urgent.is_empty() || !self.lazy.is_empty()
    }

    /// Whether something other than skipping differs.
    pub(super) fn leases_changed(&self) -> bool {
        self.leases_changed
    }

    /// The changes of the last flush are durable, or must be written again.
    pub(super) fn flushed(&mut self, stored: bool) {
        let in_flight = std::mem::take(&mut self.in_flight);
        if !stored {
            // What was to be removed may still be there, so that it counts as stored.
            self.stored.extend(&in_flight);
            self.urgent.extend(in_flight);
            self.cursor = Urgency::Urgent;
        }
    }
}

fn chunks(offsets: &Range<u64>) -> Range<u64> {
    offsets.start / CHUNK_OFFSETS..(offsets.end - 1) / CHUNK_OFFSETS + 1
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

impl Partition {
    /// What a flush must write; `all`: also what nobody waits for.
    pub(super) fn take_changes(&mut self, all: bool) -> Option<PartitionChange> {
        if !(self.dirty.is_urgent() || all && self.dirty.is_any()) {
            return None;
        }
        let first = self.cursor / CHUNK_OFFSETS;
        let mut write = std::mem::take(&mut self.dirty.urgent);
        if all {
            write.append(&mut self.dirty.lazy);
            self.dirty.leases_changed = false;
        }
        let mut write = write.split_off(&first);
        // Chunks that became done are counted by the one before them.
        let owners: Vec<u64> = write
            .iter()
            .filter_map(|chunk| self.owner(*chunk))
            .collect();
        write.extend(owners);

        self.dirty.cursor = Urgency::None;
        self.dirty.stored = self.dirty.stored.split_off(&first);
        let mut change = PartitionChange {
            partition: self.id,
            generation: self.generation,
            cursor: self.cursor,
            put: Vec::new(),
            delete: Vec::new(),
            retain: Vec::new(),
            release: Vec::new(),
        };
        for index in write {
            self.dirty.lazy.remove(&index);
            self.dirty.in_flight.push(index);
            match self.stored_form(index) {
                Some(chunk) => {
                    self.dirty.stored.insert(index);
                    change.put.push(chunk);
                }
                None => {
                    if self.dirty.stored.remove(&index) {
                        change.delete.push(index);
                    }
                }
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
        self.acked
            .get(&start)
            .filter(|done| done.end >= start + CHUNK_OFFSETS)
    }

    fn stored_form(&self, index: u64) -> Option<StoredChunk> {
        if self.done_around(index).is_some() {
            return None;
        }
        let done_after = self.done_around(index + 1).map_or(0, |done| {
            (done.end - (index + 1) * CHUNK_OFFSETS) / CHUNK_OFFSETS
        });
        let body = chunk::encode(&self.slots(index));
        if body.is_none() && done_after == 0 {
            return None;
        }
        Some(StoredChunk {
            index,
            done_after,
            body: body.unwrap_or_default(),
        })
    }

    fn slots(&self, index: u64) -> [Slot; CHUNK_OFFSETS as usize] {
        let start = index * CHUNK_OFFSETS;
        let offsets = start..start + CHUNK_OFFSETS;
        let at = |offset: u64| (offset - start) as usize;
        let mut slots = [Slot::Pending; CHUNK_OFFSETS as usize];
        for done in self.acked.overlapping(offsets.clone()) {
            let done = done.start.max(start)..done.end.min(offsets.end);
            slots[at(done.start)..at(done.end)].fill(Slot::Done);
        }
        for (offset, lease) in self.leases.range(offsets.clone()) {
            slots[at(*offset)] = Slot::Leased(Delivered {
                time: lease.deadline,
                number: lease.number,
                attempts: lease.attempts,
            });
        }
        for (offset, failed) in self.failed.range(offsets) {
            slots[at(*offset)] = Slot::Failed(Delivered {
                time: failed.not_before,
                number: failed.number,
                attempts: failed.attempts,
            });
        }
        slots
    }

    /// The partition as it was stored. What lies at or above the known end, where the log has nothing (any more), is void:
    /// the offsets will be used for other messages. That makes a new generation, which the second value tells.
    pub(super) fn restore(
        state: &PartitionState,
        known_end: Option<u64>,
        timers: &mut Timers,
    ) -> Result<(Self, bool), ChunkError> {
        // A log that does not show this partition yet says nothing about its end.
        let end = known_end.unwrap_or(u64::MAX);
        let mut partition = Self::new(state.partition, state.generation, state.cursor.min(end));
        let mut seen = state.cursor;
        for stored in &state.chunks {
            if let Some(done) = followers(stored)? {
                seen = seen.max(done.end);
                partition.acked.insert(done);
            }
            partition.dirty.stored.insert(stored.index);
        }
        for stored in &state.chunks {
            if stored.body.is_empty() {
                continue;
            }
            let slots = chunk::decode(stored.index, &stored.body)?;
            for (offset, slot) in (stored.index * CHUNK_OFFSETS..).zip(slots) {
                if slot == Slot::Pending || partition.is_done(offset) {
                    continue;
                }
                seen = seen.max(offset + 1);
                if offset < end {
                    partition.restore_slot(offset, slot, timers);
                }
            }
        }
        partition.set_end(known_end.unwrap_or(seen));
        let voided = seen > end;
        if voided {
            partition.acked.remove(end..u64::MAX);
            partition.generation += 1;
            let Dirty {
                stored,
                urgent,
                cursor,
                ..
            } = &mut partition.dirty;
            urgent.append(stored);
            // A done chunk that the end now cuts has no row yet.
            urgent.extend(end.checked_sub(1).map(|last| last / CHUNK_OFFSETS));
            *cursor = Urgency::Urgent;
        }
        partition.advance_cursor();
        // A chunk that was skipped entirely may have been counted before its own row was removed.
        let counted: Vec<u64> = partition.dirty.stored.iter().copied().collect();
        for index in counted {
            if partition.done_around(index).is_some() {
                partition.dirty.lazy.insert(index);
            }
        }
        Ok((partition, voided))
    }

    fn restore_slot(&mut self, offset: u64, slot: Slot, timers: &mut Timers) {
        match slot {
            Slot::Pending => {}
            Slot::Done => self.acked.insert(offset..offset + 1),
            Slot::Leased(delivered) => {
                let timer = tick_of(delivered.time);
                timers.set(timer, self.id, offset);
                self.leases.insert(
                    offset,
                    Lease {
                        deadline: delivered.time,
                        number: delivered.number,
                        attempts: delivered.attempts,
                        consumer: None,
                        bytes: 0,
                        timer,
                    },
                );
            }
            Slot::Failed(delivered) => self.restore_failed(
                offset,
                Failed {
                    not_before: delivered.time,
                    number: delivered.number,
                    attempts: delivered.attempts,
                },
            ),
        }
    }
}
