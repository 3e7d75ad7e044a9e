//! The ports to storage: what the rest of the server may ask of a message log, and of a state store, which has a port
//! for each kind of state ([`StateStore`]).
//!
//! Holds no SQL and no client of a broker; those are in the folder of each backend.

pub mod batch;
pub mod cached;
#[cfg(test)]
mod contract;
pub mod error;
#[cfg(test)]
pub(crate) mod faulty;
pub mod kafka;
pub mod log;
pub mod membership;
pub mod memory;
pub mod node_lease;
pub mod operations;
pub mod positions;
pub mod postgres;
mod reading;
pub mod records;
pub mod resources;
mod rows;
pub mod sqlite;
pub mod state;
mod tail;

pub use error::StoreError;
pub use log::MessageLog;
pub use membership::Membership;
pub use node_lease::NodeLease;
pub use positions::Positions;
pub use records::Records;
pub use resources::Resources;
pub use state::{StateBackend, StateStore};
