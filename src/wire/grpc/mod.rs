//! gRPC.

pub mod codec;
