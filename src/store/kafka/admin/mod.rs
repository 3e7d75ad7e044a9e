//! Asks about topics and changes them.

pub(super) mod calls;
pub(super) mod cluster;
pub(super) mod topics;
