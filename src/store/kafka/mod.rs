//! Messages in Kafka: natural records that every Kafka tool reads, one Kafka topic per topic.
//!
//! - `names`, `record`, `partitioner`: how a topic, a message and a key look in Kafka; no client in them.
//! - `append`, `job`, `gate`, `producer`: appends, through one client.
//! - `follower`, `followed`, `head_consumer`, `growth`, `check`: read at the head of watched topics, through one client,
//!   into the tail that all readers share. What this node appends itself gets there first (`head`) and need not be read
//!   again (`resting`).
//! - `reader`, `readers`, `damage`: reads what is no longer in the tail, through a few clients.
//! - `cluster`, `topics`: asks about topics, and changes them, many in one call (`calls`).
//! - `examine`: looks a cluster over for an operator.
//!
//! Calls of the clients that block never run on the runtime's own threads.

mod append;
mod calls;
mod check;
mod cluster;
mod context;
mod damage;
mod errors;
mod examine;
mod followed;
mod follower;
mod gate;
mod gathering;
mod growth;
mod head;
mod head_consumer;
mod job;
mod known;
mod log;
mod names;
mod open;
mod options;
mod partitioner;
mod producer;
mod reader;
mod readers;
mod record;
mod resting;
#[cfg(test)]
pub(in crate::store) mod tests;
mod topics;

pub use examine::{Examined, Reached, examine};
pub use log::KafkaLog;
pub use open::OpenError;
pub use options::{Options, TopicOverride};
