//! Server reflection, so that grpcurl and its like need no protos: the current protocol and the older one that many
//! tools still speak.

use tonic_reflection::server::{Builder, Error};

use super::services::Services;
use crate::{proto::DESCRIPTORS, wire::layers::size::DECODED_BYTES_MAX};

/// The name of the service that topics belong to.
pub const PUBLISHER: &str = "google.pubsub.v1.Publisher";
/// The name of the service that subscriptions belong to.
pub const SUBSCRIBER: &str = "google.pubsub.v1.Subscriber";

/// What a listing of services names. The protos describe more than is served.
const SERVED: [&str; 7] = [
    PUBLISHER,
    SUBSCRIBER,
    "google.iam.v1.IAMPolicy",
    "packetboat.admin.v1.Admin",
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
];

/// Adds both versions of reflection.
///
/// # Errors
/// The descriptors that were compiled in cannot be read.
pub fn add_to(services: Services) -> Result<Services, Error> {
    Ok(services
        .with(
            describe()
                .build_v1()?
                .max_decoding_message_size(DECODED_BYTES_MAX),
        )
        .with(
            describe()
                .build_v1alpha()?
                .max_decoding_message_size(DECODED_BYTES_MAX),
        ))
}

fn describe() -> Builder<'static> {
    SERVED.into_iter().fold(
        Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(
                tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
            ),
        Builder::with_service_name,
    )
}
