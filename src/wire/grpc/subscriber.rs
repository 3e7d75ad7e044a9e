//! `google.pubsub.v1.Subscriber`: one thin function per RPC.

use std::sync::Arc;

use tonic::{Request, Response, Status, Streaming};

use super::{delivery, status::unimplemented, streaming_pull};
use crate::{
    proto::google::pubsub::v1::{self as proto, subscriber_server},
    resource::{
        name::{ProjectName, SubscriptionName},
        page::PageRequest,
    },
    service::Service,
    wire::convert,
};

/// The service as tonic calls it.
#[derive(Clone)]
pub struct Subscriber {
    service: Arc<Service>,
}

impl Subscriber {
    /// Answers with what `service` does.
    pub const fn new(service: Arc<Service>) -> Self {
        Self { service }
    }
}

#[tonic::async_trait]
impl subscriber_server::Subscriber for Subscriber {
    type StreamingPullStream = streaming_pull::Responses;

    async fn create_subscription(
        &self,
        request: Request<proto::Subscription>,
    ) -> Result<Response<proto::Subscription>, Status> {
        let new = convert::subscription::to_create(request.get_ref())?;
        let created = self
            .service
            .create_subscription(new.name, new.topic, new.settings)
            .await?;
        Ok(Response::new(convert::subscription::to_proto(created)))
    }

    async fn get_subscription(
        &self,
        request: Request<proto::GetSubscriptionRequest>,
    ) -> Result<Response<proto::Subscription>, Status> {
        let name = SubscriptionName::parse("name", &request.get_ref().subscription)?;
        let subscription = self.service.subscription(&name).await?;
        Ok(Response::new(convert::subscription::to_proto(subscription)))
    }

    async fn update_subscription(
        &self,
        request: Request<proto::UpdateSubscriptionRequest>,
    ) -> Result<Response<proto::Subscription>, Status> {
        let (name, changes) = convert::subscription::to_update(request.get_ref())?;
        let updated = self.service.update_subscription(&name, changes).await?;
        Ok(Response::new(convert::subscription::to_proto(updated)))
    }

    async fn list_subscriptions(
        &self,
        request: Request<proto::ListSubscriptionsRequest>,
    ) -> Result<Response<proto::ListSubscriptionsResponse>, Status> {
        let request = request.into_inner();
        let project = ProjectName::parse("name", &request.project)?;
        let page = PageRequest::parse(request.page_size, &request.page_token)?;
        let page = self.service.list_subscriptions(&project, &page).await?;
        let page = page.map(convert::subscription::to_proto);
        Ok(Response::new(proto::ListSubscriptionsResponse {
            subscriptions: page.items,
            next_page_token: page.next_page_token,
        }))
    }

    async fn delete_subscription(
        &self,
        request: Request<proto::DeleteSubscriptionRequest>,
    ) -> Result<Response<()>, Status> {
        let name = SubscriptionName::parse("name", &request.get_ref().subscription)?;
        self.service.delete_subscription(&name).await?;
        Ok(Response::new(()))
    }

    async fn modify_ack_deadline(
        &self,
        request: Request<proto::ModifyAckDeadlineRequest>,
    ) -> Result<Response<()>, Status> {
        delivery::modify_ack_deadline(&self.service, request).await
    }

    async fn acknowledge(
        &self,
        request: Request<proto::AcknowledgeRequest>,
    ) -> Result<Response<()>, Status> {
        delivery::acknowledge(&self.service, request).await
    }

    async fn pull(
        &self,
        request: Request<proto::PullRequest>,
    ) -> Result<Response<proto::PullResponse>, Status> {
        delivery::pull(&self.service, request).await
    }

    async fn streaming_pull(
        &self,
        request: Request<Streaming<proto::StreamingPullRequest>>,
    ) -> Result<Response<Self::StreamingPullStream>, Status> {
        streaming_pull::open(&self.service, request).await
    }

    async fn modify_push_config(
        &self,
        _: Request<proto::ModifyPushConfigRequest>,
    ) -> Result<Response<()>, Status> {
        Err(unimplemented(
            "google.pubsub.v1.Subscriber/ModifyPushConfig",
        ))
    }

    async fn get_snapshot(
        &self,
        _: Request<proto::GetSnapshotRequest>,
    ) -> Result<Response<proto::Snapshot>, Status> {
        Err(unimplemented("google.pubsub.v1.Subscriber/GetSnapshot"))
    }

    async fn list_snapshots(
        &self,
        _: Request<proto::ListSnapshotsRequest>,
    ) -> Result<Response<proto::ListSnapshotsResponse>, Status> {
        Err(unimplemented("google.pubsub.v1.Subscriber/ListSnapshots"))
    }

    async fn create_snapshot(
        &self,
        _: Request<proto::CreateSnapshotRequest>,
    ) -> Result<Response<proto::Snapshot>, Status> {
        Err(unimplemented("google.pubsub.v1.Subscriber/CreateSnapshot"))
    }

    async fn update_snapshot(
        &self,
        _: Request<proto::UpdateSnapshotRequest>,
    ) -> Result<Response<proto::Snapshot>, Status> {
        Err(unimplemented("google.pubsub.v1.Subscriber/UpdateSnapshot"))
    }

    async fn delete_snapshot(
        &self,
        _: Request<proto::DeleteSnapshotRequest>,
    ) -> Result<Response<()>, Status> {
        Err(unimplemented("google.pubsub.v1.Subscriber/DeleteSnapshot"))
    }

    async fn seek(
        &self,
        _: Request<proto::SeekRequest>,
    ) -> Result<Response<proto::SeekResponse>, Status> {
        Err(unimplemented("google.pubsub.v1.Subscriber/Seek"))
    }
}
