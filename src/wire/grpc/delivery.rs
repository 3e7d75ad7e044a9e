//! Publish, Pull, Acknowledge and ModifyAckDeadline: from the request to the service and back.
//!
//! These ask for the permission before they parse the name; the RPCs that change topics and subscriptions parse first.

use prost::Message;
use tonic::{Request, Response, Status};

use super::{status::status, timeout::client_timeout};
use crate::{
    proto::google::pubsub::v1::{
        AcknowledgeRequest, ModifyAckDeadlineRequest, PublishRequest, PublishResponse, PullRequest,
        PullResponse,
    },
    resource::{
        name::{SubscriptionName, TopicName},
        subscription::lease_millis,
    },
    rpc,
    service::Guarded,
    wire::caller,
};

pub(super) async fn publish(
    service: &Guarded,
    request: Request<PublishRequest>,
) -> Result<Response<PublishResponse>, Status> {
    let (caller, request) = caller::with(request)?;
    let bytes = request.encoded_len();
    let names = [request.topic.as_str()];
    let service = service.permit(&caller, &rpc::PUBLISH, names).await?;
    let name = TopicName::parse("name", &request.topic)?;
    let published = service.publish(&name, request.messages, bytes).await;
    Ok(Response::new(PublishResponse {
        message_ids: published.map_err(status)?,
    }))
}

pub(super) async fn pull(
    service: &Guarded,
    request: Request<PullRequest>,
) -> Result<Response<PullResponse>, Status> {
    let timeout = client_timeout(request.metadata());
    let (caller, request) = caller::with(request)?;
    #[expect(deprecated, reason = "clients still set return_immediately")]
    let immediately = request.return_immediately;
    let names = [request.subscription.as_str()];
    let service = service.permit(&caller, &rpc::PULL, names).await?;
    let name = SubscriptionName::parse("name", &request.subscription)?;
    let received_messages = service
        .pull(&name, request.max_messages, immediately, timeout)
        .await
        .map_err(status)?;
    Ok(Response::new(PullResponse { received_messages }))
}

pub(super) async fn acknowledge(
    service: &Guarded,
    request: Request<AcknowledgeRequest>,
) -> Result<Response<()>, Status> {
    let (caller, request) = caller::with(request)?;
    let names = [request.subscription.as_str()];
    let service = service.permit(&caller, &rpc::ACKNOWLEDGE, names).await?;
    let name = SubscriptionName::parse("name", &request.subscription)?;
    let acknowledged = service.acknowledge(&name, &request.ack_ids).await;
    acknowledged.map(Response::new).map_err(status)
}

pub(super) async fn modify_ack_deadline(
    service: &Guarded,
    request: Request<ModifyAckDeadlineRequest>,
) -> Result<Response<()>, Status> {
    let (caller, request) = caller::with(request)?;
    let names = [request.subscription.as_str()];
    let needs = &rpc::MODIFY_ACK_DEADLINE;
    let service = service.permit(&caller, needs, names).await?;
    let millis = lease_millis(request.ack_deadline_seconds)?;
    let name = SubscriptionName::parse("name", &request.subscription)?;
    let modified = service.modify_ack_deadline(&name, &request.ack_ids, millis);
    modified.await.map(Response::new).map_err(status)
}
