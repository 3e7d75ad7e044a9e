//! What only the Kafka backend does. Every test has topics of its own, with a prefix that nobody else has.

mod cold;
mod foreign;
mod mocked;
mod nodes;
mod owner;
mod reading;
mod records;
mod support;

pub(in crate::store) use support::TestTopics;
