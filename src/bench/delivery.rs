//! How subscriptions of a run deliver.

/// Long enough that nothing comes twice because of it.
const ACK_DEADLINE_SECONDS: i32 = 600;
/// The shortest that there is.
pub(super) const SHORT_ACK_DEADLINE_SECONDS: i32 = 10;

/// What a load asks of its subscriptions beside filters and ordering.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Delivery {
    /// Nothing.
    #[default]
    AtLeastOnce,
    /// Exactly-once delivery.
    ExactlyOnce,
    /// Leases that end soon.
    ShortLeases,
}

impl Delivery {
    /// Of subscriptions and streams.
    pub(super) const fn ack_deadline_seconds(self) -> i32 {
        match self {
            Self::ShortLeases => SHORT_ACK_DEADLINE_SECONDS,
            _ => ACK_DEADLINE_SECONDS,
        }
    }

    /// Whether a message must not come again in a run.
    pub(super) const fn comes_once(self) -> bool {
        matches!(self, Self::ExactlyOnce)
    }
}
