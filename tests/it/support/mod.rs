//! What the tests share.

pub(crate) mod process;
pub(crate) mod raw;
