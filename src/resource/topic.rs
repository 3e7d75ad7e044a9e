//! A topic's configuration.

use std::collections::BTreeMap;

use super::name::TopicName;

/// A topic as the API shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Topic {
    /// Its name.
    pub name: TopicName,
    /// Free key-value pairs.
    pub labels: BTreeMap<String, String>,
}
