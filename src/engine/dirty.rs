//! Which chunks of a partition's state differ from what is stored, and how soon they must be written.

use std::{collections::BTreeSet, mem, ops::Range};

use crate::limits::CHUNK_OFFSETS;

/// How soon a change must be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Urgency {
    /// There is none.
    #[default]
    None,
    /// Some time.
    Lazy,
    /// A caller waits for it.
    Urgent,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Dirty {
    /// Chunks with changes that a caller waits for.
    urgent: BTreeSet<u64>,
    /// Chunks with other changes of leases and attempts, or skipped offsets.
    lazy: BTreeSet<u64>,
    cursor: Urgency,
    /// Chunks that have a row.
    stored: BTreeSet<u64>,
    /// What the flush on its way writes, to be written again should it fail.
    in_flight: Vec<u64>,
    /// A lease or an attempt changed since the last full flush; skipping alone waits longer.
    leases_changed: bool,
}

impl Dirty {
    /// Nothing differs from these rows.
    pub(super) fn restored(stored: BTreeSet<u64>) -> Self {
        Self {
            stored,
            ..Self::default()
        }
    }

    /// Everything from `end` on is void: every row is written again or removed.
    pub(super) fn voided(&mut self, end: u64) {
        self.urgent.append(&mut self.stored);
        // A done chunk that the end now cuts has no row yet.
        self.urgent
            .extend(end.checked_sub(1).map(|last| last / CHUNK_OFFSETS));
        self.cursor = Urgency::Urgent;
    }

    pub(super) fn acked(&mut self, offsets: &Range<u64>) {
        self.urgent.extend(chunks(offsets));
        self.cursor = Urgency::Urgent;
    }

    /// A caller waits for what was done already: if it was skipped, that is not stored yet.
    pub(super) fn acked_again(&mut self, offsets: &Range<u64>) {
        let lazy = chunks(offsets).filter(|chunk| self.lazy.remove(chunk));
        self.urgent.extend(lazy);
        if self.cursor == Urgency::Lazy {
            self.cursor = Urgency::Urgent;
        }
    }

    pub(super) fn leased(&mut self, offsets: &Range<u64>, urgency: Urgency) {
        match urgency {
            Urgency::None => {}
            Urgency::Lazy => {
                self.lazy.extend(chunks(offsets));
                self.leases_changed = true;
            }
            Urgency::Urgent => self.urgent.extend(chunks(offsets)),
        }
    }

    pub(super) fn skipped(&mut self, offsets: &Range<u64>) {
        self.lazy.extend(chunks(offsets));
    }

    /// Chunks below the cursor's are removed with it.
    pub(super) fn cursor_moved(&mut self, cursor: u64) {
        let first = cursor / CHUNK_OFFSETS;
        self.urgent = self.urgent.split_off(&first);
        self.lazy = self.lazy.split_off(&first);
        self.cursor = self.cursor.max(Urgency::Lazy);
    }

    /// Something beside the chunks is to be written some time.
    pub(super) fn rows_forgotten(&mut self) {
        self.cursor = self.cursor.max(Urgency::Lazy);
    }

    /// How soon a flush is needed.
    pub(super) fn urgency(&self) -> Urgency {
        if self.cursor == Urgency::Urgent || !self.urgent.is_empty() {
            Urgency::Urgent
        } else if self.cursor == Urgency::Lazy || !self.lazy.is_empty() {
            Urgency::Lazy
        } else {
            Urgency::None
        }
    }

    /// Whether something other than skipping differs.
    pub(super) fn leases_changed(&self) -> bool {
        self.leases_changed
    }

    /// Chunks that have a row.
    pub(super) fn stored(&self) -> impl Iterator<Item = u64> {
        self.stored.iter().copied()
    }

    /// Starts a flush: the chunks to write, from the cursor's on; `all`: also what nobody waits for.
    pub(super) fn start_flush(&mut self, cursor: u64, all: bool) -> BTreeSet<u64> {
        let first = cursor / CHUNK_OFFSETS;
        let mut write = mem::take(&mut self.urgent);
        if all {
            write.append(&mut self.lazy);
            self.leases_changed = false;
        }
        self.cursor = Urgency::None;
        self.stored = self.stored.split_off(&first);
        write.split_off(&first)
    }

    /// The flush writes this chunk's row, or removes it. Whether there is something to do.
    pub(super) fn written(&mut self, index: u64, has_row: bool) -> bool {
        self.lazy.remove(&index);
        self.in_flight.push(index);
        if has_row {
            self.stored.insert(index);
            true
        } else {
            self.stored.remove(&index)
        }
    }

    /// The changes of the last flush are durable, or must be written again.
    pub(super) fn flushed(&mut self, stored: bool) {
        let in_flight = mem::take(&mut self.in_flight);
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
