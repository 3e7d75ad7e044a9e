//! Reads at the head of watched topics, through one client, into the tail that all readers share.

pub(super) mod check;
mod checking;
pub(super) mod followed;
pub(super) mod follower;
pub(super) mod gathering;
pub(super) mod growth;
pub(super) mod head;
pub(super) mod head_consumer;
pub(super) mod resting;
