//! Publish, Pull, Acknowledge and ModifyAckDeadline: from the request to the service and back.

use prost::Message;
use tonic::{Request, Response, Status};

use super::status::status;
use crate::{
    proto::google::pubsub::v1::{
        AcknowledgeRequest, ModifyAckDeadlineRequest, PublishRequest, PublishResponse, PullRequest,
        PullResponse,
    },
    resource::{
        name::{SubscriptionName, TopicName},
        published::Published,
    },
    rpc,
    service::Guarded,
    wire::{caller, layers::unsent::Sending, timeout::client_timeout},
};

pub(super) async fn publish(
    service: &Guarded,
    request: Request<PublishRequest>,
) -> Result<Response<PublishResponse>, Status> {
    let (caller, request) = caller::with(request)?;
    let bytes = request.encoded_len();
    let published = Published::scan(request.messages, bytes)?;
    let name = TopicName::parse("name", &request.topic)?;
    let needs = &rpc::PUBLISH;
    let service = service.permit(&caller, needs, [name.as_str()]).await?;
    let message_ids = service.publish(&name, published).await.map_err(status)?;
    Ok(Response::new(PublishResponse { message_ids }))
}

pub(super) async fn pull(
    service: &Guarded,
    request: Request<PullRequest>,
) -> Result<Response<PullResponse>, Status> {
    let timeout = client_timeout(request.metadata().as_ref());
    let (caller, request) = caller::with(request)?;
    #[expect(deprecated, reason = "clients still set return_immediately")]
    let immediately = request.return_immediately;
    let name = SubscriptionName::parse("name", &request.subscription)?;
    let needs = &rpc::PULL;
    let service = service.permit(&caller, needs, [name.as_str()]).await?;
    let (received_messages, unsent) = service
        .pull(&name, request.max_messages, immediately, timeout)
        .await
        .map_err(status)?;
    let mut response = Response::new(PullResponse { received_messages });
    if let Some(unsent) = unsent {
        let sending = Sending::default();
        sending.put(unsent);
        sending.attach(&mut response);
    }
    Ok(response)
}

pub(super) async fn acknowledge(
    service: &Guarded,
    request: Request<AcknowledgeRequest>,
) -> Result<Response<()>, Status> {
    let (caller, request) = caller::with(request)?;
    let name = SubscriptionName::parse("name", &request.subscription)?;
    let needs = &rpc::ACKNOWLEDGE;
    let service = service.permit(&caller, needs, [name.as_str()]).await?;
    let acknowledged = service.acknowledge(&name, request.ack_ids).await;
    acknowledged.map(Response::new).map_err(status)
}

pub(super) async fn modify_ack_deadline(
    service: &Guarded,
    request: Request<ModifyAckDeadlineRequest>,
) -> Result<Response<()>, Status> {
    let (caller, request) = caller::with(request)?;
    let name = SubscriptionName::parse("name", &request.subscription)?;
    let needs = &rpc::MODIFY_ACK_DEADLINE;
    let service = service.permit(&caller, needs, [name.as_str()]).await?;
    let seconds = request.ack_deadline_seconds;
    let modified = service.modify_ack_deadline(&name, request.ack_ids, seconds);
    modified.await.map(Response::new).map_err(status)
}
