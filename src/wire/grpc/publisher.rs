//! `google.pubsub.v1.Publisher`: one thin function per RPC.

use tonic::{Request, Response, Status};

use super::{delivery, order::contents, pages};
use crate::{
    proto::google::pubsub::v1::{self as proto, publisher_server},
    resource::{
        name::{ProjectName, SubscriptionName, TopicName},
        page::PageRequest,
    },
    rpc,
    service::Guarded,
    wire::{caller, convert},
};

/// The service as tonic calls it.
#[derive(Clone, Debug)]
pub struct Publisher {
    service: Guarded,
}

impl Publisher {
    /// Answers with what `service` does.
    pub const fn new(service: Guarded) -> Self {
        Self { service }
    }
}

#[tonic::async_trait]
impl publisher_server::Publisher for Publisher {
    async fn create_topic(
        &self,
        request: Request<proto::Topic>,
    ) -> Result<Response<proto::Topic>, Status> {
        let (caller, request) = caller::with(request)?;
        let name = TopicName::parse("name", &request.name)?;
        let service = self
            .service
            .permit(&caller, &rpc::CREATE_TOPIC, [name.as_str()])
            .await?;
        let topic = convert::topic::to_create(name, request)?;
        let created = service.create_topic(topic).await?;
        Ok(Response::new(convert::topic::to_proto(created)))
    }

    async fn update_topic(
        &self,
        request: Request<proto::UpdateTopicRequest>,
    ) -> Result<Response<proto::Topic>, Status> {
        let (caller, request) = caller::with(request)?;
        let name = convert::topic::updated(&request)?;
        let service = self
            .service
            .permit(&caller, &rpc::UPDATE_TOPIC, [name.as_str()])
            .await?;
        let changes = convert::topic::to_update(request);
        let changes = contents(changes, service.topic(&name)).await?;
        let updated = service.update_topic(&name, changes).await?;
        Ok(Response::new(convert::topic::to_proto(updated)))
    }

    async fn publish(
        &self,
        request: Request<proto::PublishRequest>,
    ) -> Result<Response<proto::PublishResponse>, Status> {
        delivery::publish(&self.service, request).await
    }

    async fn get_topic(
        &self,
        request: Request<proto::GetTopicRequest>,
    ) -> Result<Response<proto::Topic>, Status> {
        let (caller, request) = caller::with(request)?;
        let name = TopicName::parse("name", &request.topic)?;
        let service = self
            .service
            .permit(&caller, &rpc::GET_TOPIC, [name.as_str()])
            .await?;
        let topic = service.topic(&name).await?;
        Ok(Response::new(convert::topic::to_proto(topic)))
    }

    async fn list_topics(
        &self,
        request: Request<proto::ListTopicsRequest>,
    ) -> Result<Response<proto::ListTopicsResponse>, Status> {
        let (caller, request) = caller::with(request)?;
        let project = ProjectName::parse("name", &request.project)?;
        let service = self
            .service
            .permit(&caller, &rpc::LIST_TOPICS, [project.as_str()])
            .await?;
        let list = format!("{}/topics", project.as_str());
        let page = PageRequest::parse(&list, request.page_size, &request.page_token)?;
        let listed = service.list_topics(&project, &page).await?;
        let listed = listed.map(convert::topic::to_proto);
        let page = pages::cut(listed, &page, |topic| &topic.name);
        Ok(Response::new(proto::ListTopicsResponse {
            topics: page.items,
            next_page_token: page.next_page_token,
        }))
    }

    async fn list_topic_subscriptions(
        &self,
        request: Request<proto::ListTopicSubscriptionsRequest>,
    ) -> Result<Response<proto::ListTopicSubscriptionsResponse>, Status> {
        let (caller, request) = caller::with(request)?;
        let topic = TopicName::parse("name", &request.topic)?;
        let service = self
            .service
            .permit(&caller, &rpc::LIST_TOPIC_SUBSCRIPTIONS, [topic.as_str()])
            .await?;
        let list = format!("{}/subscriptions", topic.as_str());
        let page = PageRequest::parse(&list, request.page_size, &request.page_token);
        let page = contents(page, service.topic(&topic)).await?;
        let listed = service.list_topic_subscriptions(&topic, &page).await?;
        let page = listed.map(String::from);
        Ok(Response::new(proto::ListTopicSubscriptionsResponse {
            subscriptions: page.items,
            next_page_token: page.next_page_token,
        }))
    }

    async fn list_topic_snapshots(
        &self,
        request: Request<proto::ListTopicSnapshotsRequest>,
    ) -> Result<Response<proto::ListTopicSnapshotsResponse>, Status> {
        let (caller, request) = caller::with(request)?;
        let topic = TopicName::parse("name", &request.topic)?;
        let service = self
            .service
            .permit(&caller, &rpc::LIST_TOPIC_SNAPSHOTS, [topic.as_str()])
            .await?;
        let list = format!("{}/snapshots", topic.as_str());
        service.topic(&topic).await?;
        PageRequest::parse(&list, request.page_size, &request.page_token)?;
        // None can be made yet, so there are none.
        Ok(Response::new(proto::ListTopicSnapshotsResponse::default()))
    }

    async fn delete_topic(
        &self,
        request: Request<proto::DeleteTopicRequest>,
    ) -> Result<Response<()>, Status> {
        let (caller, request) = caller::with(request)?;
        let name = TopicName::parse("name", &request.topic)?;
        let service = self
            .service
            .permit(&caller, &rpc::DELETE_TOPIC, [name.as_str()])
            .await?;
        service.delete_topic(&name).await?;
        Ok(Response::new(()))
    }

    async fn detach_subscription(
        &self,
        request: Request<proto::DetachSubscriptionRequest>,
    ) -> Result<Response<proto::DetachSubscriptionResponse>, Status> {
        let (caller, request) = caller::with(request)?;
        let name = SubscriptionName::parse("name", &request.subscription)?;
        let service = self
            .service
            .permit_on_topic_of(&caller, &rpc::DETACH_SUBSCRIPTION, &name)
            .await?;
        service.detach_subscription(&name).await?;
        Ok(Response::new(proto::DetachSubscriptionResponse {}))
    }
}
