//! `grpc.health.v1`: whether the server as a whole, and each of its services, takes requests.

use tonic_health::{
    ServingStatus,
    pb::health_server::{Health as HealthRpcs, HealthServer},
    server::{HealthReporter, health_reporter},
};

use super::reflection::{PUBLISHER, SUBSCRIBER};

/// What health checks ask for: the whole server, and the services with an answer of their own.
const NAMES: [&str; 3] = ["", PUBLISHER, SUBSCRIBER];

/// Sets what health checks answer.
#[derive(Clone, Debug)]
pub struct Health(HealthReporter);

impl Health {
    /// NOT_SERVING until [`Health::serving`], with the service that answers.
    pub async fn new() -> (Self, HealthServer<impl HealthRpcs>) {
        let (reporter, server) = health_reporter();
        let health = Self(reporter);
        health.set(ServingStatus::NotServing).await;
        (health, server)
    }

    /// From now on requests are taken.
    pub async fn serving(&self) {
        self.set(ServingStatus::Serving).await;
    }

    /// The server is about to stop: a client that checks sends requests elsewhere.
    pub async fn not_serving(&self) {
        self.set(ServingStatus::NotServing).await;
    }

    async fn set(&self, status: ServingStatus) {
        for name in NAMES {
            self.0.set_service_status(name, status).await;
        }
    }
}
