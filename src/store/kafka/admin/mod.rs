//! Asks about topics and changes them.

mod absent;
pub(super) mod calls;
pub(super) mod cluster;
mod gathered;
pub(super) mod topics;
