//! The wire: knows HTTP and gRPC, decides nothing.

mod caller;
pub mod calls;
mod connections;
pub mod convert;
mod dispatch;
mod gate;
pub mod grpc;
pub mod layers;
pub mod listener;
pub mod rest;
mod timeout;

#[cfg(test)]
mod answers_tests;
#[cfg(test)]
mod permission_tests;
