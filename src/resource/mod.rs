//! Resources as values: names, limits, defaults, masks. No IO and no generated types.

pub mod id;
pub mod message;
pub mod name;
pub mod subscription;
pub mod topic;
pub mod violation;
