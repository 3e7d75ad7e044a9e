//! Reads what is no longer in the tail, through a few clients.

pub(super) mod damage;
pub(super) mod reader;
pub(super) mod readers;
