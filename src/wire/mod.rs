//! The wire: knows HTTP and gRPC, decides nothing.

mod dispatch;
pub mod grpc;
pub mod layers;
pub mod listener;
