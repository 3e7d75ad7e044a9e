//! Who may do what.

pub mod caller;
pub mod host;
pub mod origin;
pub mod permission;
pub mod web;
