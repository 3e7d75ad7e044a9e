//! How subscriptions of a run deliver.

/// What a load asks of its subscriptions beside filters and ordering.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Delivery {
    /// Nothing.
    #[default]
    AtLeastOnce,
    /// Exactly-once delivery.
    ExactlyOnce,
}
