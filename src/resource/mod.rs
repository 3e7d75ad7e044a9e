//! Resources as values: names, limits, defaults, masks. No IO and no generated types.

pub mod duration;
pub mod id;
pub mod label;
pub mod mask;
pub mod message;
pub mod name;
pub mod page;
pub mod policy;
pub mod published;
pub mod requirement;
pub mod subscription;
pub mod topic;
pub mod violation;
