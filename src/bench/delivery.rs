//! How subscriptions of a run deliver.

use prost_types::Duration;

use super::resources::Names;
use crate::proto::google::pubsub::v1 as proto;

/// Long enough that nothing comes twice because of it.
const ACK_DEADLINE_SECONDS: i32 = 600;
/// The shortest that there is.
pub(super) const SHORT_ACK_DEADLINE_SECONDS: i32 = 10;
/// The longest that there is.
const BACKOFF_SECONDS: i64 = 600;
/// The fewest that there may be.
const DELIVERY_ATTEMPTS_MAX: i32 = 5;

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
    /// A long wait before what failed comes again.
    Backoff,
    /// Dead letters to the next topic, and those of the last one to the first.
    DeadLetterRing,
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
        matches!(self, Self::ExactlyOnce | Self::Backoff)
    }

    pub(super) fn retry_policy(self) -> Option<proto::RetryPolicy> {
        let backoff = Some(Duration {
            seconds: BACKOFF_SECONDS,
            nanos: 0,
        });
        (self == Self::Backoff).then_some(proto::RetryPolicy {
            minimum_backoff: backoff,
            maximum_backoff: backoff,
        })
    }

    /// Of the subscriptions of topic number `topic` of a run with so many.
    pub(super) fn dead_letter_policy(
        self,
        names: &Names,
        topic: usize,
        topics: usize,
    ) -> Option<proto::DeadLetterPolicy> {
        (self == Self::DeadLetterRing).then(|| proto::DeadLetterPolicy {
            dead_letter_topic: names.topic((topic + 1) % topics),
            max_delivery_attempts: DELIVERY_ATTEMPTS_MAX,
        })
    }
}
