//! Publish, Pull, Acknowledge and ModifyAckDeadline: from the request to the service and back.

use prost::Message;
use tonic::{Request, Response, Status};

use super::{status::status, timeout::client_timeout};
use crate::{
    auth::permission::rpc,
    proto::google::pubsub::v1::{
        AcknowledgeRequest, ModifyAckDeadlineRequest, PublishRequest, PublishResponse, PullRequest,
        PullResponse,
    },
    service::Guarded,
};

pub(super) async fn publish(
    service: &Guarded,
    request: Request<PublishRequest>,
) -> Result<Response<PublishResponse>, Status> {
    let request = request.into_inner();
    let bytes = request.encoded_len();
    let message_ids = service
        .permit(&rpc::PUBLISH, &[&request.topic])?
        .publish(&request.topic, request.messages, bytes)
        .await
        .map_err(status)?;
    Ok(Response::new(PublishResponse { message_ids }))
}

pub(super) async fn pull(
    service: &Guarded,
    request: Request<PullRequest>,
) -> Result<Response<PullResponse>, Status> {
    let timeout = client_timeout(request.metadata());
    let request = request.into_inner();
    #[expect(deprecated, reason = "clients still set return_immediately")]
    let immediately = request.return_immediately;
    let received_messages = service
        .permit(&rpc::PULL, &[&request.subscription])?
        .pull(
            &request.subscription,
            request.max_messages,
            immediately,
            timeout,
        )
        .await
        .map_err(status)?;
    Ok(Response::new(PullResponse { received_messages }))
}

pub(super) async fn acknowledge(
    service: &Guarded,
    request: Request<AcknowledgeRequest>,
) -> Result<Response<()>, Status> {
    let request = request.into_inner();
    service
        .permit(&rpc::ACKNOWLEDGE, &[&request.subscription])?
        .acknowledge(&request.subscription, &request.ack_ids)
        .await
        .map_err(status)?;
    Ok(Response::new(()))
}

pub(super) async fn modify_ack_deadline(
    service: &Guarded,
    request: Request<ModifyAckDeadlineRequest>,
) -> Result<Response<()>, Status> {
    let request = request.into_inner();
    service
        .permit(&rpc::MODIFY_ACK_DEADLINE, &[&request.subscription])?
        .modify_ack_deadline(
            &request.subscription,
            &request.ack_ids,
            request.ack_deadline_seconds,
        )
        .await
        .map_err(status)?;
    Ok(Response::new(()))
}
