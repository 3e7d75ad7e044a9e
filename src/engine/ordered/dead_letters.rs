//! Dead letters with ordering keys: one is forwarded when nothing before it in its key is undone.

use std::{mem, ops::Range};

use super::Ordered;
use crate::engine::input::OrderingKey;

impl Ordered {
    /// The failure of a dead letter is stored. `is_read`: it was read already, if it could be.
    pub(in crate::engine) fn forward(&mut self, offset: u64, is_read: bool) {
        match self.keys.key_of(offset) {
            None if is_read => self.heads.push(offset),
            key => {
                self.dead.insert(offset);
                if let Some(key) = key {
                    self.place(key);
                }
            }
        }
    }

    /// Those that may be forwarded, since this was asked last.
    pub(in crate::engine) fn take_heads(&mut self) -> Vec<u64> {
        mem::take(&mut self.heads)
    }

    /// Whether there are any of them.
    pub(in crate::engine) const fn has_heads(&self) -> bool {
        !self.heads.is_empty()
    }

    /// A dead letter is not to be forwarded any more.
    pub(in crate::engine) fn keep(&mut self, offset: u64) {
        self.dead.remove(&offset);
        self.heads.retain(|head| *head != offset);
    }

    /// Whether dead letters are here of which the log has to tell the keys.
    pub(in crate::engine) fn seeks_dead_letters(&self) -> bool {
        self.is_holding() && !self.dead.is_empty()
    }

    /// These are done.
    pub(super) fn forget_dead_letters(&mut self, offsets: &Range<u64>) {
        if !self.dead.is_empty() {
            let _done: Vec<u64> = self.dead.extract_if(offsets.clone(), |_| true).collect();
        }
    }

    /// A dead letter turns out to have no key.
    pub(super) fn forward_keyless(&mut self, offset: u64) {
        if self.dead.remove(&offset) {
            self.heads.push(offset);
        }
    }

    /// Something of the key has changed.
    pub(super) fn note_head(&mut self, key: OrderingKey) {
        if !self.dead.is_empty()
            && !self.is_holding()
            && let Some(head) = self.keys.open_head(key)
            && self.dead.remove(&head)
        {
            self.heads.push(head);
        }
    }
}
