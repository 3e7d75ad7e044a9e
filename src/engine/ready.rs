//! Messages of a partition that are loaded and wait for a consumer, and who may have which.

use std::{collections::BTreeMap, ops::Range};

use super::input::{ConsumerId, LoadedMessage};
use crate::limits::{PREFETCH_BYTES_MAX, PREFETCH_MESSAGES_MAX};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Ready {
    /// Anybody may have these.
    open: Loaded,
    /// Nobody may have these yet. Their bodies are here to save a read, and go when others need the room.
    parked: Loaded,
}

impl Ready {
    /// The next message for this consumer. At present anybody may have everything that is open, the oldest first.
    pub(super) fn next_for(&self, _consumer: ConsumerId) -> Option<&LoadedMessage> {
        self.open.messages.first_key_value().map(|(_, next)| next)
    }

    /// Takes what [`Ready::next_for`] shows.
    pub(super) fn take_next_for(&mut self, _consumer: ConsumerId) -> Option<LoadedMessage> {
        let (_, message) = self.open.messages.pop_first()?;
        self.open.bytes -= message.body.len();
        Some(message)
    }

    /// Whether this consumer would find nothing.
    pub(super) fn is_empty_for(&self, _consumer: ConsumerId) -> bool {
        self.open.messages.is_empty()
    }

    /// Messages that a consumer may have.
    pub(super) fn len(&self) -> usize {
        self.open.messages.len()
    }

    /// How many more messages may be loaded; `None` while there are enough of them.
    pub(super) fn room(&self) -> Option<usize> {
        let enough = self.open.bytes >= PREFETCH_BYTES_MAX / 2
            || self.open.messages.len() >= PREFETCH_MESSAGES_MAX / 2;
        (!enough).then(|| PREFETCH_MESSAGES_MAX - self.open.messages.len())
    }

    /// Whether this message is loaded.
    pub(super) fn contains(&self, offset: u64) -> bool {
        self.open.messages.contains_key(&offset) || self.parked.messages.contains_key(&offset)
    }

    pub(super) fn insert(&mut self, message: LoadedMessage) {
        self.open.insert(message);
        self.keep_budget();
    }

    /// Takes a message in that nobody may have yet.
    pub(super) fn park(&mut self, message: LoadedMessage) {
        self.parked.insert(message);
        self.keep_budget();
    }

    /// Anybody may have this message from now on. False when it must be read again, as its body is not here.
    pub(super) fn release(&mut self, offset: u64) -> bool {
        match self.parked.remove(offset) {
            Some(message) => {
                self.open.insert(message);
                true
            }
            None => false,
        }
    }

    pub(super) fn forget(&mut self, offsets: &Range<u64>) {
        self.open.forget(offsets);
        self.parked.forget(offsets);
    }

    /// What is parked makes room for what is not, the newest first.
    fn keep_budget(&mut self) {
        while self.open.bytes + self.parked.bytes > PREFETCH_BYTES_MAX
            || self.open.messages.len() + self.parked.messages.len() > PREFETCH_MESSAGES_MAX
        {
            let Some((&last, _)) = self.parked.messages.last_key_value() else {
                return;
            };
            self.parked.remove(last);
        }
    }
}

/// Messages by offset.
#[derive(Debug, Default)]
struct Loaded {
    messages: BTreeMap<u64, LoadedMessage>,
    bytes: usize,
}

impl Loaded {
    fn insert(&mut self, message: LoadedMessage) {
        self.bytes += message.body.len();
        self.messages.insert(message.offset, message);
    }

    fn remove(&mut self, offset: u64) -> Option<LoadedMessage> {
        let message = self.messages.remove(&offset)?;
        self.bytes -= message.body.len();
        Some(message)
    }

    fn forget(&mut self, offsets: &Range<u64>) {
        while let Some((&offset, _)) = self.messages.range(offsets.clone()).next() {
            self.remove(offset);
        }
    }
}

#[cfg(test)]
impl Ready {
    pub(super) fn check(&self) {
        for loaded in [&self.open, &self.parked] {
            let bytes: usize = loaded.messages.values().map(|it| it.body.len()).sum();
            assert_eq!(loaded.bytes, bytes);
        }
        assert!(self.open.bytes + self.parked.bytes <= PREFETCH_BYTES_MAX);
        assert!(self.open.messages.len() + self.parked.messages.len() <= PREFETCH_MESSAGES_MAX);
        let both = |offset| self.open.messages.contains_key(offset);
        assert!(!self.parked.messages.keys().any(both));
    }

    pub(super) fn is_open(&self, offset: u64) -> bool {
        self.open.messages.contains_key(&offset)
    }

    pub(super) fn offsets(&self) -> impl Iterator<Item = u64> {
        let open = self.open.messages.keys();
        open.chain(self.parked.messages.keys()).copied()
    }

    pub(super) fn parked(&self) -> impl Iterator<Item = u64> {
        self.parked.messages.keys().copied()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::clock::Timestamp;

    const ANYBODY: ConsumerId = ConsumerId(1);

    fn message(offset: u64, bytes: usize) -> LoadedMessage {
        LoadedMessage {
            offset,
            publish_time: Timestamp::ZERO,
            body: Bytes::from(vec![0; bytes]),
        }
    }

    #[test]
    fn nobody_finds_what_is_parked_until_it_is_released() {
        let mut ready = Ready::default();
        ready.park(message(3, 10));
        assert!(ready.is_empty_for(ANYBODY) && ready.contains(3));
        assert_eq!(ready.next_for(ANYBODY), None);
        ready.insert(message(5, 10));
        assert_eq!(ready.next_for(ANYBODY).map(|next| next.offset), Some(5));
        assert!(ready.release(3));
        let mut taken = || ready.take_next_for(ANYBODY).map(|next| next.offset);
        assert_eq!([taken(), taken(), taken()], [Some(3), Some(5), None]);
        ready.check();
    }

    #[test]
    fn what_is_parked_makes_room_for_what_is_open_and_must_then_be_read_again() {
        let mut ready = Ready::default();
        ready.insert(message(1, PREFETCH_BYTES_MAX / 2 - 1));
        ready.park(message(2, PREFETCH_BYTES_MAX / 4));
        ready.park(message(4, PREFETCH_BYTES_MAX / 4));
        ready.check();
        assert!(ready.room().is_some(), "what is parked keeps nothing out");
        ready.insert(message(3, 100));
        ready.check();
        assert!(!ready.release(4) && ready.release(2));
    }

    #[test]
    fn more_messages_than_fit_do_not_stay_parked() {
        let mut ready = Ready::default();
        for offset in 0..=PREFETCH_MESSAGES_MAX as u64 {
            ready.park(message(offset, 0));
        }
        ready.check();
        assert!(!ready.release(PREFETCH_MESSAGES_MAX as u64) && ready.release(0));
    }
}
