//! gRPC.

pub mod codec;
mod delivery;
pub mod health;
pub mod publisher;
pub mod reflection;
mod status;
mod streaming_pull;
pub mod subscriber;
mod timeout;

use tonic::service::Routes;
use tonic_health::pb::health_server::{Health as HealthRpcs, HealthServer};

use super::layers::size::DECODED_BYTES_MAX;

/// Everything that is served over gRPC.
///
/// # Errors
/// The descriptors that were compiled in cannot be read.
pub fn routes(
    health: HealthServer<impl HealthRpcs>,
) -> Result<Routes, tonic_reflection::server::Error> {
    reflection::add_to(Routes::new(
        health.max_decoding_message_size(DECODED_BYTES_MAX),
    ))
}
