//! Publish, Pull, Acknowledge and ModifyAckDeadline: from the request to the service and back.

use prost::Message;
use tonic::{Request, Response, Status};

use super::{status::status, timeout::client_timeout};
use crate::{
    proto::google::pubsub::v1::{
        AcknowledgeRequest, ModifyAckDeadlineRequest, PublishRequest, PublishResponse, PullRequest,
        PullResponse,
    },
    service::Service,
};

pub(super) async fn publish(
    service: &Service,
    request: Request<PublishRequest>,
) -> Result<Response<PublishResponse>, Status> {
    let request = request.into_inner();
    let bytes = request.encoded_len();
    let message_ids = service
        .publish(&request.topic, request.messages, bytes)
        .await
        .map_err(status)?;
    Ok(Response::new(PublishResponse { message_ids }))
}

pub(super) async fn pull(
    service: &Service,
    request: Request<PullRequest>,
) -> Result<Response<PullResponse>, Status> {
    let timeout = client_timeout(request.metadata());
    let request = request.into_inner();
    #[expect(deprecated, reason = "clients still set return_immediately")]
    let immediately = request.return_immediately;
    let received_messages = service
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
    service: &Service,
    request: Request<AcknowledgeRequest>,
) -> Result<Response<()>, Status> {
    let request = request.into_inner();
    service
        .acknowledge(&request.subscription, &request.ack_ids)
        .await
        .map_err(status)?;
    Ok(Response::new(()))
}

pub(super) async fn modify_ack_deadline(
    service: &Service,
    request: Request<ModifyAckDeadlineRequest>,
) -> Result<Response<()>, Status> {
    let request = request.into_inner();
    service
        .modify_ack_deadline(
            &request.subscription,
            &request.ack_ids,
            request.ack_deadline_seconds,
        )
        .await
        .map_err(status)?;
    Ok(Response::new(()))
}
