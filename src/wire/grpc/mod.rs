//! gRPC.

pub mod codec;
mod delivery;
mod status;
mod streaming_pull;
mod timeout;
