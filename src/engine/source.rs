//! Where a frame takes its messages from.

use super::input::{ConsumerId, LoadedMessage};

/// What is loaded of a partition, with the rule of who may have what.
pub(super) trait Source {
    /// The next message for this consumer; `shares`: also of what any other could have.
    fn next_for(&self, consumer: ConsumerId, shares: bool) -> Option<&LoadedMessage>;

    /// Takes what [`Source::next_for`] shows.
    fn take_next_for(&mut self, consumer: ConsumerId, shares: bool) -> Option<Taken>;
}

/// A message that is to be leased.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) message: LoadedMessage,
    /// Whether any consumer could have had it.
    pub(super) is_shared: bool,
}
