//! `packetboat.admin.v1.Admin`: what an operator does.

use tonic::{Request, Response, Status};

use crate::{
    proto::packetboat::admin::v1::{self as proto, admin_server},
    resource::name::TopicName,
    rpc,
    service::Guarded,
    wire::caller,
};

/// The service as tonic calls it.
#[derive(Clone, Debug)]
pub(super) struct Admin {
    service: Guarded,
}

impl Admin {
    /// Answers with what `service` does.
    pub(super) const fn new(service: Guarded) -> Self {
        Self { service }
    }
}

#[tonic::async_trait]
impl admin_server::Admin for Admin {
    async fn attach_topic(
        &self,
        request: Request<proto::AttachTopicRequest>,
    ) -> Result<Response<proto::AttachTopicResponse>, Status> {
        let (caller, request) = caller::with(request)?;
        let topic = TopicName::parse("topic", &request.topic)?;
        let service = self
            .service
            .permit(&caller, &rpc::ATTACH_TOPIC, [topic.as_str()])
            .await?;
        let attached = service.attach_topic(topic, &request.kafka_topic).await?;
        Ok(Response::new(proto::AttachTopicResponse {
            topic: request.topic,
            kafka_topic: attached.name,
            partitions: i32::try_from(attached.key_partitions).unwrap_or(i32::MAX),
        }))
    }

    async fn detach_topic(
        &self,
        request: Request<proto::DetachTopicRequest>,
    ) -> Result<Response<()>, Status> {
        let (caller, request) = caller::with(request)?;
        let topic = TopicName::parse("topic", &request.topic)?;
        let service = self
            .service
            .permit(&caller, &rpc::DETACH_TOPIC, [topic.as_str()])
            .await?;
        service.detach_topic(&topic).await?;
        Ok(Response::new(()))
    }
}
