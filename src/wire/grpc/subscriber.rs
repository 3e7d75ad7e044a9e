//! `google.pubsub.v1.Subscriber`: one thin function per RPC.

use tonic::{Request, Response, Status, Streaming};

use super::{delivery, order::contents, pages, status::unimplemented, streaming_pull};
use crate::{
    proto::google::pubsub::v1::{self as proto, subscriber_server},
    resource::{
        name::{ProjectName, SubscriptionName},
        page::PageRequest,
    },
    rpc,
    service::Guarded,
    wire::{caller, convert},
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
        let (caller, request) = caller::with(request)?;
        let (name, topic) = convert::subscription::created(&request)?;
        // One without a name is made where its topic is.
        let on = name
            .as_ref()
            .map_or(topic.as_str(), SubscriptionName::as_str);
        let needs = &rpc::CREATE_SUBSCRIPTION;
        let service = self
            .service
            .permit(&caller, needs, [on, topic.as_str()])
            .await?;
        let settings = convert::subscription::to_create(&request);
        let settings = contents(settings, service.topic(&topic)).await?;
        let created = service.create_subscription(name, topic, settings).await?;
        Ok(Response::new(convert::subscription::to_proto(created)))
    }

    async fn get_subscription(
        &self,
        request: Request<proto::GetSubscriptionRequest>,
    ) -> Result<Response<proto::Subscription>, Status> {
        let (caller, request) = caller::with(request)?;
        let name = SubscriptionName::parse("name", &request.subscription)?;
        let service = self
            .service
            .permit(&caller, &rpc::GET_SUBSCRIPTION, [name.as_str()])
            .await?;
        let subscription = service.subscription(&name).await?;
        Ok(Response::new(convert::subscription::to_proto(subscription)))
    }

    async fn update_subscription(
        &self,
        request: Request<proto::UpdateSubscriptionRequest>,
    ) -> Result<Response<proto::Subscription>, Status> {
        let (caller, request) = caller::with(request)?;
        let name = convert::subscription::updated(&request)?;
        let service = self
            .service
            .permit(&caller, &rpc::UPDATE_SUBSCRIPTION, [name.as_str()])
            .await?;
        let changes = convert::subscription::to_update(&request);
        let changes = contents(changes, service.subscription(&name)).await?;
        let updated = service.update_subscription(&name, changes).await?;
        Ok(Response::new(convert::subscription::to_proto(updated)))
    }

    async fn list_subscriptions(
        &self,
        request: Request<proto::ListSubscriptionsRequest>,
    ) -> Result<Response<proto::ListSubscriptionsResponse>, Status> {
        let (caller, request) = caller::with(request)?;
        let project = ProjectName::parse("name", &request.project)?;
        let service = self
            .service
            .permit(&caller, &rpc::LIST_SUBSCRIPTIONS, [project.as_str()])
            .await?;
        let list = format!("{}/subscriptions", project.as_str());
        let page = PageRequest::parse(&list, request.page_size, &request.page_token)?;
        let listed = service.list_subscriptions(&project, &page).await?;
        let listed = listed.map(convert::subscription::to_proto);
        let page = pages::cut(listed, &page, |listed| &listed.name);
        Ok(Response::new(proto::ListSubscriptionsResponse {
            subscriptions: page.items,
            next_page_token: page.next_page_token,
        }))
    }

    async fn delete_subscription(
        &self,
        request: Request<proto::DeleteSubscriptionRequest>,
    ) -> Result<Response<()>, Status> {
        let (caller, request) = caller::with(request)?;
        let name = SubscriptionName::parse("name", &request.subscription)?;
        let service = self
            .service
            .permit(&caller, &rpc::DELETE_SUBSCRIPTION, [name.as_str()])
            .await?;
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
        let (caller, request) = caller::with(request)?;
        let on = [request.subscription.as_str()];
        unimplemented(&self.service, &caller, &rpc::MODIFY_PUSH_CONFIG, on).await
    }

    async fn get_snapshot(
        &self,
        request: Request<proto::GetSnapshotRequest>,
    ) -> Result<Response<proto::Snapshot>, Status> {
        let (caller, request) = caller::with(request)?;
        let on = [request.snapshot.as_str()];
        unimplemented(&self.service, &caller, &rpc::GET_SNAPSHOT, on).await
    }

    async fn list_snapshots(
        &self,
        request: Request<proto::ListSnapshotsRequest>,
    ) -> Result<Response<proto::ListSnapshotsResponse>, Status> {
        let (caller, request) = caller::with(request)?;
        let project = ProjectName::parse("name", &request.project)?;
        self.service
            .permit(&caller, &rpc::LIST_SNAPSHOTS, [project.as_str()])
            .await?;
        let list = format!("{}/snapshots", project.as_str());
        PageRequest::parse(&list, request.page_size, &request.page_token)?;
        // None can be made yet, so there are none.
        Ok(Response::new(proto::ListSnapshotsResponse::default()))
    }

    async fn create_snapshot(
        &self,
        request: Request<proto::CreateSnapshotRequest>,
    ) -> Result<Response<proto::Snapshot>, Status> {
        let (caller, request) = caller::with(request)?;
        let on = [request.name.as_str(), request.subscription.as_str()];
        unimplemented(&self.service, &caller, &rpc::CREATE_SNAPSHOT, on).await
    }

    async fn update_snapshot(
        &self,
        request: Request<proto::UpdateSnapshotRequest>,
    ) -> Result<Response<proto::Snapshot>, Status> {
        let (caller, request) = caller::with(request)?;
        let snapshot = request.snapshot.unwrap_or_default();
        unimplemented(
            &self.service,
            &caller,
            &rpc::UPDATE_SNAPSHOT,
            [&snapshot.name],
        )
        .await
    }

    async fn delete_snapshot(
        &self,
        request: Request<proto::DeleteSnapshotRequest>,
    ) -> Result<Response<()>, Status> {
        let (caller, request) = caller::with(request)?;
        let on = [request.snapshot.as_str()];
        unimplemented(&self.service, &caller, &rpc::DELETE_SNAPSHOT, on).await
    }

    async fn seek(
        &self,
        request: Request<proto::SeekRequest>,
    ) -> Result<Response<proto::SeekResponse>, Status> {
        let (caller, request) = caller::with(request)?;
        let on = [request.subscription.as_str()];
        unimplemented(&self.service, &caller, &rpc::SEEK, on).await
    }
}
