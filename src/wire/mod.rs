//! The wire: knows HTTP and gRPC, decides nothing.

pub mod grpc;
