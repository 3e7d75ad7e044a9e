//! `google.pubsub.v1.Subscriber`: one thin function per RPC.

use tonic::{Request, Response, Status, Streaming};

use super::{delivery, status::unimplemented, streaming_pull};
use crate::{
    auth::permission::rpc,
    proto::google::pubsub::v1::{self as proto, subscriber_server},
    resource::{
        name::{ProjectName, SubscriptionName},
        page::PageRequest,
    },
    service::Guarded,
    wire::convert,
};

/// The service as tonic calls it.
#[derive(Clone, Debug)]
pub struct Subscriber {
    service: Guarded,
}

impl Subscriber {
    /// Answers with what `service` does.
    pub const fn new(service: Guarded) -> Self {
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
        let project = match &new.name {
            Some(name) => name.project(),
            None => new.topic.project(),
        };
        let on = [project.as_str(), new.topic.as_str()];
        let service = self.service.permit(&rpc::CREATE_SUBSCRIPTION, &on)?;
        let created = service
            .create_subscription(new.name, new.topic, new.settings)
            .await?;
        Ok(Response::new(convert::subscription::to_proto(created)))
    }

    async fn get_subscription(
        &self,
        request: Request<proto::GetSubscriptionRequest>,
    ) -> Result<Response<proto::Subscription>, Status> {
        let name = SubscriptionName::parse("name", &request.get_ref().subscription)?;
        let service = self
            .service
            .permit(&rpc::GET_SUBSCRIPTION, &[name.as_str()])?;
        let subscription = service.subscription(&name).await?;
        Ok(Response::new(convert::subscription::to_proto(subscription)))
    }

    async fn update_subscription(
        &self,
        request: Request<proto::UpdateSubscriptionRequest>,
    ) -> Result<Response<proto::Subscription>, Status> {
        let (name, changes) = convert::subscription::to_update(request.get_ref())?;
        let service = self
            .service
            .permit(&rpc::UPDATE_SUBSCRIPTION, &[name.as_str()])?;
        let updated = service.update_subscription(&name, changes).await?;
        Ok(Response::new(convert::subscription::to_proto(updated)))
    }

    async fn list_subscriptions(
        &self,
        request: Request<proto::ListSubscriptionsRequest>,
    ) -> Result<Response<proto::ListSubscriptionsResponse>, Status> {
        let request = request.into_inner();
        let project = ProjectName::parse("name", &request.project)?;
        let list = format!("{}/subscriptions", project.as_str());
        let page = PageRequest::parse(&list, request.page_size, &request.page_token)?;
        let service = self
            .service
            .permit(&rpc::LIST_SUBSCRIPTIONS, &[project.as_str()])?;
        let page = service.list_subscriptions(&project, &page).await?;
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
        let service = self
            .service
            .permit(&rpc::DELETE_SUBSCRIPTION, &[name.as_str()])?;
        service.delete_subscription(&name).await?;
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
        request: Request<proto::ModifyPushConfigRequest>,
    ) -> Result<Response<()>, Status> {
        let on = [request.get_ref().subscription.as_str()];
        unimplemented(&self.service, &rpc::MODIFY_PUSH_CONFIG, &on)
    }

    async fn get_snapshot(
        &self,
        request: Request<proto::GetSnapshotRequest>,
    ) -> Result<Response<proto::Snapshot>, Status> {
        let on = [request.get_ref().snapshot.as_str()];
        unimplemented(&self.service, &rpc::GET_SNAPSHOT, &on)
    }

    async fn list_snapshots(
        &self,
        request: Request<proto::ListSnapshotsRequest>,
    ) -> Result<Response<proto::ListSnapshotsResponse>, Status> {
        let on = [request.get_ref().project.as_str()];
        unimplemented(&self.service, &rpc::LIST_SNAPSHOTS, &on)
    }

    async fn create_snapshot(
        &self,
        request: Request<proto::CreateSnapshotRequest>,
    ) -> Result<Response<proto::Snapshot>, Status> {
        let request = request.get_ref();
        let on = [request.name.as_str(), request.subscription.as_str()];
        unimplemented(&self.service, &rpc::CREATE_SNAPSHOT, &on)
    }

    async fn update_snapshot(
        &self,
        request: Request<proto::UpdateSnapshotRequest>,
    ) -> Result<Response<proto::Snapshot>, Status> {
        let snapshot = request.into_inner().snapshot.unwrap_or_default();
        unimplemented(&self.service, &rpc::UPDATE_SNAPSHOT, &[&snapshot.name])
    }

    async fn delete_snapshot(
        &self,
        request: Request<proto::DeleteSnapshotRequest>,
    ) -> Result<Response<()>, Status> {
        let on = [request.get_ref().snapshot.as_str()];
        unimplemented(&self.service, &rpc::DELETE_SNAPSHOT, &on)
    }

    async fn seek(
        &self,
        request: Request<proto::SeekRequest>,
    ) -> Result<Response<proto::SeekResponse>, Status> {
        let on = [request.get_ref().subscription.as_str()];
        unimplemented(&self.service, &rpc::SEEK, &on)
    }
}
