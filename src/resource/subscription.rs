//! A subscription's configuration.

use std::{collections::BTreeMap, time::Duration};

use super::name::{SubscriptionName, TopicName};

/// When an unused subscription is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiration {
    /// Never.
    Never,
    /// After this long without use.
    After(Duration),
}

/// A subscription as the API shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Subscription {
    /// Its name.
    pub name: SubscriptionName,
    /// What it is attached to; `None` once that topic was deleted.
    pub topic: Option<TopicName>,
    /// How long a consumer has for its ack, seconds.
    pub ack_deadline_seconds: u32,
    /// How long a message that nobody acknowledges is kept, from its publish time.
    pub message_retention: Duration,
    /// When an unused subscription is deleted.
    pub expiration: Expiration,
    /// Free key-value pairs.
    pub labels: BTreeMap<String, String>,
    /// Whether it was cut off from its topic.
    pub detached: bool,
}
