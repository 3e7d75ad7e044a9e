//! The state store in a Postgres database that any number of nodes share.
//!
//! Who may deliver a subscription: `owners` has the session of its node and an epoch, `nodes` until when that session's
//! lease lasts. A flush locks the owner rows of what it writes and checks both; a take-over locks the same row, then
//! reads. So nothing is ever written by a node that has been replaced, however late it wakes up.
//!
//! All statements run at READ COMMITTED, and what has to be seen after waiting for a lock is read in a later statement.

mod changes;
mod connector;
mod database;
mod flush;
mod inspection;
mod link;
mod listener;
mod membership;
mod node_row;
mod open;
mod options;
mod owners;
mod pool;
mod positions;
mod positions_read;
mod records;
mod schema;
mod state;
mod subscriptions;
mod sweep;
#[cfg(test)]
pub(in crate::store) mod tests;
mod topics;

pub(crate) use self::{
    inspection::{Inspection, Node, OldTransaction, Privileges, Server, TopicRows},
    schema::VERSION as TABLES_VERSION,
};
pub use self::{
    open::{OpenError, Refusal},
    options::{Options, OptionsError},
    state::PostgresState,
};
