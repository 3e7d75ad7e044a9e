//! Messages in Kafka: natural records that every Kafka tool reads, one Kafka topic per topic.
//!
//! - `names`, `record`: the form of a topic and a message in Kafka; no client in them.
//! - `append`: appends, through one client.
//! - `follow`: reads at the head of watched topics, through one client, into the tail that all readers share. What this
//!   node appends itself gets there first (`head`) and need not be read again (`resting`).
//! - `read`: reads what is no longer in the tail, through a few clients.
//! - `owner`: which state store our prefix belongs to.
//! - `admin`: asks about topics, and changes them, many in one call (`calls`).
//! - `inspection`: what an examination of a cluster asks and tries.
//!
//! Calls of the clients that block never run on the runtime's own threads.

mod admin;
mod append;
mod context;
mod errors;
mod follow;
mod inspection;
mod known;
mod log;
mod metadata;
mod names;
mod open;
mod options;
mod owner;
mod read;
mod record;
#[cfg(test)]
pub(in crate::store) mod tests;

pub(crate) use inspection::{Broker, Inspection, Listing, Settings, Told, TopicState};
pub use log::KafkaLog;
pub(crate) use names::{
    is_kafka_topic, is_trial_topic, kafka_topic, owned_prefix, trial_topics, within,
};
pub use open::OpenError;
pub(crate) use open::{VERSION_MIN, parse_version};
pub use options::{Options, TopicOverride, is_secret};
