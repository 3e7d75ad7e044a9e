//! gRPC.

mod ack_failures;
mod admin;
pub mod codec;
mod confirming;
mod delivery;
pub mod health;
mod iam;
mod order;
mod pages;
pub mod publisher;
pub mod reflection;
mod schemas;
pub mod services;
mod status;
mod streaming_pull;
pub mod subscriber;

use tonic_health::pb::health_server::{Health as HealthRpcs, HealthServer};

use self::{
    admin::Admin, iam::IamPolicy, publisher::Publisher, schemas::Schemas, services::Services,
    subscriber::Subscriber,
};
use super::layers::size::DECODED_BYTES_MAX;
use crate::{
    proto::{
        google::{
            iam::v1::iam_policy_server::IamPolicyServer,
            pubsub::v1::{
                publisher_server::PublisherServer, schema_service_server::SchemaServiceServer,
                subscriber_server::SubscriberServer,
            },
        },
        packetboat::admin::v1::admin_server::AdminServer,
    },
    service::Guarded,
};

/// Everything that is served over gRPC.
///
/// # Errors
/// The descriptors that were compiled in cannot be read.
pub fn services(
    service: &Guarded,
    health: HealthServer<impl HealthRpcs>,
) -> Result<Services, tonic_reflection::server::Error> {
    let publisher = PublisherServer::new(Publisher::new(service.clone()));
    let subscriber = SubscriberServer::new(Subscriber::new(service.clone()));
    let schemas = SchemaServiceServer::new(Schemas::new(service.clone()));
    let policies = IamPolicyServer::new(IamPolicy::new(service.clone()));
    let admin = AdminServer::new(Admin::new(service.clone()));
    let health = health.max_decoding_message_size(DECODED_BYTES_MAX);
    let services = Services::default()
        .with(publisher.max_decoding_message_size(DECODED_BYTES_MAX))
        .with(subscriber.max_decoding_message_size(DECODED_BYTES_MAX))
        .with(schemas.max_decoding_message_size(DECODED_BYTES_MAX))
        .with(policies.max_decoding_message_size(DECODED_BYTES_MAX))
        .with(admin.max_decoding_message_size(DECODED_BYTES_MAX))
        .with(health);
    reflection::add_to(services)
}
