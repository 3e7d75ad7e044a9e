//! Who may do what.

pub mod caller;
pub mod permission;
