//! Faults that are put into the product, on this thread, to see that a run finds them.

use std::cell::Cell;

/// A fault. The product asks for each in one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// A key goes on while its failed message waits for its retry.
    OrderBrokenByRetry,
    /// What was leased before a take-over does not hold its key back.
    AffinityLostAtTakeOver,
    /// What a filter leaves out is not done.
    FilteredHoldsCursor,
    /// What follows a failed message in its key gives no credit back.
    CreditOfReleasedKey,
    /// The last offset of a chunk is not stored as done.
    ChunkEdge,
    /// An ack is confirmed when it is taken in, and not when it is stored.
    ConfirmedBeforeCommit,
    /// Ids of deliveries that a later one has superseded count as valid.
    OldNumberAccepted,
    /// A dead letter is acknowledged before it was published.
    AckedBeforePublished,
}

thread_local! {
    static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
}

impl Bug {
    /// Whether it is there.
    pub(crate) fn is_planted(self) -> bool {
        PLANTED.get() == Some(self)
    }

    /// What `action` gives while it is there.
    pub(super) fn during<T>(self, action: impl FnOnce() -> T) -> T {
        PLANTED.set(Some(self));
        let result = action();
        PLANTED.set(None);
        result
    }
}
