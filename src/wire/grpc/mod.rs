//! gRPC.

pub mod codec;
pub mod health;
pub mod reflection;
