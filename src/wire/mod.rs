//! The wire: knows HTTP and gRPC, decides nothing.

pub mod convert;
mod dispatch;
pub mod grpc;
pub mod layers;
pub mod listener;
