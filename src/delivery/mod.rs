//! Drives the engines: one task per subscription in use reads the log, stores what the engine says, and
//! feeds streams and pulls. Knows nothing of gRPC or HTTP.
//!
//! A subscription that nobody uses has no task; [`Drivers`] starts one with the first request.

mod activity;
mod agreement;
mod append;
mod budget;
#[cfg(test)]
mod budget_tests;
mod changed;
mod changes;
mod command;
mod compared;
mod consumer;
mod consumers;
mod driver;
mod drivers;
mod error;
mod flusher;
mod flushes;
mod forward;
mod forwarding;
mod forwards;
mod hashes;
mod host;
mod judgement;
mod log_check;
mod lost_logs;
#[cfg(test)]
mod lost_logs_tests;
mod mailbox;
mod marks;
mod node;
mod owed;
mod ownership;
mod reads;
mod registry;
mod resume;
mod retention;
#[cfg(test)]
mod retention_tests;
mod same_log;
#[cfg(test)]
mod same_log_tests;
mod skim;
#[cfg(test)]
mod skim_tests;
mod skimmed;
mod stored;
mod sweep;
#[cfg(test)]
mod tests;
mod told;
pub mod topic_logs;

pub use append::{AppendError, Appended};
pub use consumer::{MessageStream, Parcel, PendingPull, Unsent};
pub use drivers::{Drivers, StreamOpening};
pub use error::{DeliveryError, EndCause};
pub use judgement::Judgement;
pub use mailbox::ExactlyOnce;
