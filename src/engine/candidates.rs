//! What is loaded of a partition: in the form of an unordered subscription, or with ordering keys.

use std::ops::Range;

use super::{input::ConsumerId, ordered::Ordered, ready::Ready};

/// See the module. Chosen once per subscription; what is done for each message is not decided here.
#[derive(Debug)]
pub(super) enum Candidates {
    Unordered(Ready),
    Ordered(Box<Ordered>),
}

impl Candidates {
    /// None yet; `seen`: nothing is known of the offsets from there on.
    pub(super) fn new(is_ordered: bool, seen: u64) -> Self {
        if is_ordered {
            Self::Ordered(Box::new(Ordered::new(seen)))
        } else {
            Self::Unordered(Ready::default())
        }
    }

    /// Messages that any consumer could have without reading.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Unordered(ready) => ready.len(),
            Self::Ordered(ordered) => ordered.free_len(),
        }
    }

    /// Whether this consumer would find nothing.
    pub(super) fn is_empty_for(&self, consumer: ConsumerId) -> bool {
        match self {
            Self::Unordered(ready) => ready.len() == 0,
            Self::Ordered(ordered) => ordered.is_empty_for(consumer),
        }
    }

    /// Whether nothing is loaded.
    pub(super) fn holds_nothing(&self) -> bool {
        match self {
            Self::Unordered(ready) => ready.holds_nothing(),
            Self::Ordered(ordered) => ordered.holds_nothing(),
        }
    }

    /// Bytes of everything that is loaded.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Unordered(ready) => ready.bytes(),
            Self::Ordered(ordered) => ordered.bytes(),
        }
    }

    /// A message that failed may be delivered again. False when it must be read. `is_read`: it
    /// was read already, if it could be.
    pub(super) fn release(&mut self, offset: u64, is_read: bool) -> bool {
        match self {
            Self::Unordered(ready) => ready.release(offset),
            Self::Ordered(ordered) => {
                ordered.release(offset, is_read);
                true
            }
        }
    }

    /// These are done.
    pub(super) fn forget(&mut self, offsets: &Range<u64>) {
        match self {
            Self::Unordered(ready) => ready.forget(offsets),
            Self::Ordered(ordered) => ordered.forget(offsets),
        }
    }

    /// How many more messages that were never delivered may be loaded; `None` while there are enough of them.
    pub(super) fn room(&self) -> Option<usize> {
        match self {
            Self::Unordered(ready) => ready.room(),
            Self::Ordered(ordered) => ordered.room(),
        }
    }

    /// Whether only messages are here that were delivered before: they would take every place.
    pub(super) fn lacks_fresh(&self) -> bool {
        match self {
            Self::Unordered(ready) => ready.lacks_fresh(),
            Self::Ordered(ordered) => ordered.lacks_fresh(),
        }
    }

    /// What is known, if it has ordering keys.
    pub(super) fn ordered(&self) -> Option<&Ordered> {
        match self {
            Self::Unordered(_) => None,
            Self::Ordered(ordered) => Some(ordered),
        }
    }

    /// As [`Candidates::ordered`].
    pub(super) fn ordered_mut(&mut self) -> Option<&mut Ordered> {
        match self {
            Self::Unordered(_) => None,
            Self::Ordered(ordered) => Some(ordered),
        }
    }
}
