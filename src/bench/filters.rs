//! Filters of a run's subscriptions, and the attribute that they ask for.
//!
//! Each message says in which hundredth of its request it is, so that it is known how many match of each hundred.

use super::{delivery::Delivery, keys::Keys};

/// Messages of a request in these loads: one of each part.
pub(super) const PARTS: usize = 100;
/// The attribute.
pub(super) const ATTRIBUTE: &str = "part";

/// What messages carry for their subscriptions, which of them these get, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) filters: Filters,
    pub(super) keys: Keys,
    pub(super) delivery: Delivery,
}

/// Which messages the subscriptions of a load get.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Filters {
    /// All of them, and messages have no attribute.
    #[default]
    None,
    /// Each gets one message in ten.
    Tenth,
    /// Each gets one message in a hundred, and each another one.
    Hundredth,
}

impl Filters {
    /// The value of the attribute of a message that is at this place of its request.
    pub(super) fn part(at: usize) -> String {
        format!("{:02}", at % PARTS)
    }

    /// The filter of subscription number `subscription` of a topic.
    pub(super) fn of(self, subscription: usize) -> String {
        let part = Self::part(subscription);
        match self {
            Self::None => String::new(),
            Self::Tenth => format!("hasPrefix(attributes.{ATTRIBUTE}, \"{}\")", &part[1..]),
            Self::Hundredth => format!("attributes.{ATTRIBUTE} = \"{part}\""),
        }
    }

    /// Of how many messages, in requests of [`PARTS`], a subscription gets one.
    pub(super) const fn one_in(self) -> u64 {
        match self {
            Self::None => 1,
            Self::Tenth => 10,
            Self::Hundredth => 100,
        }
    }
}
