//! Reads what is no longer in the tail, through a few consumers.

mod damage;
pub(super) mod pool;
mod reader;
pub(super) mod readers;
mod round;
mod share;
mod waiting;
pub(super) mod wanted;
