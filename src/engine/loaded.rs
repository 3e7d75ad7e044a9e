//! Messages by offset, with what they take.

use std::{collections::BTreeMap, ops::Range};

use super::input::LoadedMessage;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    pub(super) messages: BTreeMap<u64, LoadedMessage>,
    pub(super) bytes: usize,
}

impl Loaded {
    pub(super) fn insert(&mut self, message: LoadedMessage) {
        self.bytes += message.body.len();
        self.messages.insert(message.offset, message);
    }

    pub(super) fn remove(&mut self, offset: u64) -> Option<LoadedMessage> {
        let message = self.messages.remove(&offset)?;
        self.bytes -= message.body.len();
        Some(message)
    }

    pub(super) fn forget(&mut self, offsets: &Range<u64>) {
        while let Some((&offset, _)) = self.messages.range(offsets.clone()).next() {
            self.remove(offset);
        }
    }
}
