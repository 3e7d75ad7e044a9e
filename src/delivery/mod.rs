//! Drives the engines: one task per subscription in use reads the log, stores what the engine wants kept, and
//! feeds streams and pulls. Knows nothing of gRPC or HTTP.
//!
//! A subscription that nobody uses has no task; [`Hub`] starts one with the first request.

mod activity;
mod changes;
mod consumer;
mod driver;
mod flusher;
mod hub;
#[cfg(test)]
mod hub_tests;
mod mailbox;
mod reads;
mod retention;
pub mod topic_logs;

pub use consumer::{MessageStream, Parcel, PendingPull};
pub use hub::{EndCause, Hub, StreamOpening};
