//! Messages of a partition that are loaded and wait for a consumer, and which of them a consumer may have.
//!
//! What was delivered before has room of its own, and every second place: neither does a backlog hold up what came
//! back, nor do messages that come back again and again hold up the backlog.

use std::ops::Range;

use super::{
    input::{ConsumerId, LoadedMessage},
    loaded::Loaded,
    queue::Queue,
    source::{Source, Taken},
};
use crate::limits::{
    PREFETCH_BYTES_MAX, PREFETCH_MESSAGES_MAX, REDELIVERY_BYTES_MAX, REDELIVERY_MESSAGES_MAX,
};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Ready {
    /// Never delivered, and anybody may have these, the oldest first.
    fresh: Loaded,
    /// Delivered before, and anybody may have these, first come first served.
    again: Queue<LoadedMessage>,
    again_bytes: usize,
    /// Whether what was taken last had been delivered before.
    took_again: bool,
    /// Nobody may have these yet. Their bodies are here to save a read, and go when others need the room.
    parked: Loaded,
}

impl Ready {
    /// Messages that a consumer may have.
    pub(super) fn len(&self) -> usize {
        self.fresh.messages.len() + self.again.len()
    }

    /// How many more messages that were never delivered may be loaded; `None` while there are enough of them.
    pub(super) fn room(&self) -> Option<usize> {
        let loaded = self.fresh.messages.len();
        let enough =
            self.fresh.bytes >= PREFETCH_BYTES_MAX / 2 || loaded >= PREFETCH_MESSAGES_MAX / 2;
        (!enough).then(|| PREFETCH_MESSAGES_MAX - loaded)
    }

    /// Whether only messages are here that were delivered before: they would take every place.
    pub(super) fn lacks_fresh(&self) -> bool {
        self.fresh.messages.is_empty() && !self.again.is_empty()
    }

    /// How many more messages that were delivered before may be loaded; `None` while there are enough of them.
    pub(super) fn redelivery_room(&self) -> Option<usize> {
        let loaded = self.again.len();
        let enough =
            self.again_bytes >= REDELIVERY_BYTES_MAX / 2 || loaded >= REDELIVERY_MESSAGES_MAX / 2;
        (!enough).then(|| REDELIVERY_MESSAGES_MAX - loaded)
    }

    /// Whether this message is loaded.
    pub(super) fn contains(&self, offset: u64) -> bool {
        let is_in = |loaded: &Loaded| loaded.messages.contains_key(&offset);
        is_in(&self.fresh) || is_in(&self.parked) || self.again.contains(offset)
    }

    /// Takes a message in that was never delivered.
    pub(super) fn insert(&mut self, message: LoadedMessage) {
        self.fresh.insert(message);
        self.make_room();
    }

    /// Takes a message in that may be delivered again. False when there is no room for it.
    pub(super) fn insert_again(&mut self, message: LoadedMessage) -> bool {
        let is_full =
            self.again_bytes >= REDELIVERY_BYTES_MAX || self.again.len() >= REDELIVERY_MESSAGES_MAX;
        if !is_full {
            self.again_bytes += message.body.len();
            self.again.push(message.offset, message);
        }
        !is_full
    }

    /// Takes a message in that nobody may have yet.
    pub(super) fn park(&mut self, message: LoadedMessage) {
        self.parked.insert(message);
        self.make_room();
    }

    /// Anybody may have this message from now on. False when it must be read again, as its body is not here or there is
    /// no room.
    pub(super) fn release(&mut self, offset: u64) -> bool {
        match self.parked.remove(offset) {
            Some(message) => self.insert_again(message),
            None => false,
        }
    }

    pub(super) fn forget(&mut self, offsets: &Range<u64>) {
        self.fresh.forget(offsets);
        self.parked.forget(offsets);
        let again: Vec<u64> = self.again.offsets(offsets.clone()).collect();
        for message in again.into_iter().filter_map(|it| self.again.remove(it)) {
            self.again_bytes -= message.body.len();
        }
    }

    /// Whether anything is loaded.
    pub(super) fn holds_nothing(&self) -> bool {
        self.len() == 0 && self.parked.messages.is_empty()
    }

    /// Bytes of everything that is loaded.
    pub(super) fn bytes(&self) -> usize {
        self.fresh.bytes + self.again_bytes + self.parked.bytes
    }

    /// Drops everything. Tells what was delivered before and anybody could have had, the last one first, and returns the
    /// first of what was never delivered.
    pub(super) fn clear(&mut self, mut again: impl FnMut(u64)) -> Option<u64> {
        while let Some((offset, _)) = self.again.pop_last() {
            again(offset);
        }
        let first = self.fresh.messages.first_key_value();
        let first = first.map(|(offset, _)| *offset);
        *self = Self {
            took_again: self.took_again,
            ..Self::default()
        };
        first
    }

    /// What is parked makes room for what is not, the newest first.
    fn make_room(&mut self) {
        while self.fresh.bytes + self.parked.bytes > PREFETCH_BYTES_MAX
            || self.fresh.messages.len() + self.parked.messages.len() > PREFETCH_MESSAGES_MAX
        {
            let Some((&last, _)) = self.parked.messages.last_key_value() else {
                return;
            };
            self.parked.remove(last);
        }
    }
}

/// Anybody may have everything that is not parked.
impl Source for Ready {
    fn next_for(&self, _consumer: ConsumerId, _shares: bool) -> Option<&LoadedMessage> {
        let fresh = self.fresh.messages.first_key_value();
        match self.again.first() {
            Some((_, again)) if fresh.is_none() || !self.took_again => Some(again),
            _ => fresh.map(|(_, fresh)| fresh),
        }
    }

    fn take_next_for(&mut self, _consumer: ConsumerId, _shares: bool) -> Option<Taken> {
        let is_again =
            !self.again.is_empty() && (self.fresh.messages.is_empty() || !self.took_again);
        self.took_again = is_again;
        let message = if is_again {
            let (_, message) = self.again.pop_first()?;
            self.again_bytes -= message.body.len();
            message
        } else {
            let (_, message) = self.fresh.messages.pop_first()?;
            self.fresh.bytes -= message.body.len();
            message
        };
        Some(Taken {
            message,
            is_shared: true,
        })
    }
}

#[cfg(test)]
impl Ready {
    pub(super) fn check(&self) {
        for loaded in [&self.fresh, &self.parked] {
            let bytes: usize = loaded.messages.values().map(|it| it.body.len()).sum();
            assert_eq!(loaded.bytes, bytes);
        }
        let again_bytes: usize = self.again.iter().map(|(_, it)| it.body.len()).sum();
        assert_eq!(self.again_bytes, again_bytes);
        assert!(self.again_bytes <= REDELIVERY_BYTES_MAX);
        assert!(self.again.len() <= REDELIVERY_MESSAGES_MAX);
        assert!(self.fresh.bytes + self.parked.bytes <= PREFETCH_BYTES_MAX);
        assert!(self.fresh.messages.len() + self.parked.messages.len() <= PREFETCH_MESSAGES_MAX);
        let mut offsets: Vec<u64> = self.offsets().collect();
        let all = offsets.len();
        offsets.sort_unstable();
        offsets.dedup();
        assert_eq!(offsets.len(), all, "something is loaded twice");
    }

    pub(super) fn is_open(&self, offset: u64) -> bool {
        self.fresh.messages.contains_key(&offset) || self.again.contains(offset)
    }

    /// Messages that were never delivered.
    pub(super) fn fresh(&self) -> impl Iterator<Item = u64> {
        self.fresh.messages.keys().copied()
    }

    /// Messages that were delivered before, in the order in which they go out.
    pub(super) fn again(&self) -> impl Iterator<Item = u64> {
        self.again.iter().map(|(offset, _)| *offset)
    }

    pub(super) fn offsets(&self) -> impl Iterator<Item = u64> {
        let open = self.fresh().chain(self.again());
        open.chain(self.parked())
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
            key: None,
            body: Bytes::from(vec![0; bytes]),
        }
    }

    #[test]
    fn nobody_finds_what_is_parked_until_it_is_released() {
        let mut ready = Ready::default();
        ready.park(message(3, 10));
        assert!(ready.len() == 0 && ready.contains(3));
        assert_eq!(ready.bytes(), 10, "it counts as loaded");
        assert_eq!(ready.next_for(ANYBODY, true), None);
        ready.insert(message(5, 10));
        assert_eq!(
            ready.next_for(ANYBODY, true).map(|next| next.offset),
            Some(5)
        );
        assert!(ready.release(3));
        let mut taken = || {
            ready
                .take_next_for(ANYBODY, true)
                .map(|next| next.message.offset)
        };
        assert_eq!([taken(), taken(), taken()], [Some(3), Some(5), None]);
        ready.check();
    }

    #[test]
    fn what_was_delivered_before_has_every_second_place_in_the_order_in_which_it_came() {
        let mut ready = Ready::default();
        (10..14).for_each(|offset| ready.insert(message(offset, 1)));
        assert!(
            [5, 3, 20]
                .iter()
                .all(|it| ready.insert_again(message(*it, 1)))
        );
        ready.forget(&(3..4));
        ready.check();
        let taken = std::iter::from_fn(|| {
            let next = ready.next_for(ANYBODY, true).map(|next| next.offset);
            assert_eq!(
                ready
                    .take_next_for(ANYBODY, true)
                    .map(|next| next.message.offset),
                next
            );
            next
        });
        assert_eq!(taken.collect::<Vec<_>>(), [5, 10, 20, 11, 12, 13]);
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

    #[test]
    fn no_more_is_released_than_there_is_room_for_redelivery() {
        let mut ready = Ready::default();
        for offset in 0..PREFETCH_MESSAGES_MAX as u64 {
            ready.park(message(offset, 0));
        }
        let released = (0..PREFETCH_MESSAGES_MAX as u64).filter(|it| ready.release(*it));
        assert_eq!(released.count(), REDELIVERY_MESSAGES_MAX);
        ready.check();
        assert!(ready.redelivery_room().is_none() && ready.room().is_some());
    }
}
