//! Topics and subscriptions in a line each.

use packetboat::proto::google::pubsub::v1::{
    DeleteSubscriptionRequest, DeleteTopicRequest, DetachSubscriptionRequest,
    DetachSubscriptionResponse, GetSubscriptionRequest, GetTopicRequest,
    ListTopicSubscriptionsRequest, Subscription, Topic, UpdateSubscriptionRequest,
    UpdateTopicRequest,
};
use tonic::Status;

use super::{Client, Pubsub, ok, values::mask};

/// The full name of a topic of the tests' project.
pub(crate) fn topic_name(id: &str) -> String {
    format!("projects/tests/topics/{id}")
}

/// The full name of a subscription of the tests' project.
pub(crate) fn subscription_name(id: &str) -> String {
    format!("projects/tests/subscriptions/{id}")
}

/// A subscription of which only names are set.
pub(crate) fn bare(name: &str, topic: &str) -> Subscription {
    Subscription {
        name: name.to_owned(),
        topic: topic.to_owned(),
        ..Default::default()
    }
}

/// A server, and on it the topic `orders` with the subscription `orders-worker`.
pub(crate) async fn with_subscription() -> (Pubsub, Client, String, String) {
    let pubsub = Pubsub::start().await;
    let client = pubsub.client();
    let topic = client.topic("orders").await;
    let subscription = client.subscription("orders-worker", &topic).await;
    (pubsub, client, topic, subscription)
}

impl Client {
    /// Creates a topic and returns its full name.
    pub(crate) async fn topic(&self, id: &str) -> String {
        let topic = Topic {
            name: topic_name(id),
            ..Default::default()
        };
        ok(self.publisher().create_topic(topic).await).name
    }

    /// Creates a subscription with the defaults and returns its full name.
    pub(crate) async fn subscription(&self, id: &str, topic: &str) -> String {
        let subscription = bare(&subscription_name(id), topic);
        ok(self.create_subscription(subscription).await).name
    }

    pub(crate) async fn create_topic(&self, topic: Topic) -> Answer<Topic> {
        self.publisher().create_topic(topic).await
    }

    pub(crate) async fn get_topic(&self, topic: &str) -> Answer<Topic> {
        let topic = topic.to_owned();
        self.publisher().get_topic(GetTopicRequest { topic }).await
    }

    pub(crate) async fn update_topic(&self, topic: Topic, paths: &[&str]) -> Answer<Topic> {
        let request = UpdateTopicRequest {
            topic: Some(topic),
            update_mask: mask(paths),
        };
        self.publisher().update_topic(request).await
    }

    pub(crate) async fn delete_topic(&self, topic: &str) -> Answer<()> {
        let topic = topic.to_owned();
        let request = DeleteTopicRequest { topic };
        self.publisher().delete_topic(request).await
    }

    /// The names of a topic's attached subscriptions, one page.
    pub(crate) async fn subscriptions_of(&self, topic: &str) -> Vec<String> {
        let request = ListTopicSubscriptionsRequest {
            topic: topic.to_owned(),
            ..Default::default()
        };
        ok(self.publisher().list_topic_subscriptions(request).await).subscriptions
    }

    pub(crate) async fn create_subscription(
        &self,
        subscription: Subscription,
    ) -> Answer<Subscription> {
        self.subscriber().create_subscription(subscription).await
    }

    pub(crate) async fn get_subscription(&self, subscription: &str) -> Answer<Subscription> {
        let subscription = subscription.to_owned();
        let request = GetSubscriptionRequest { subscription };
        self.subscriber().get_subscription(request).await
    }

    pub(crate) async fn update_subscription(
        &self,
        subscription: Subscription,
        paths: &[&str],
    ) -> Answer<Subscription> {
        let request = UpdateSubscriptionRequest {
            subscription: Some(subscription),
            update_mask: mask(paths),
        };
        self.subscriber().update_subscription(request).await
    }

    pub(crate) async fn delete_subscription(&self, subscription: &str) -> Answer<()> {
        let subscription = subscription.to_owned();
        let request = DeleteSubscriptionRequest { subscription };
        self.subscriber().delete_subscription(request).await
    }

    pub(crate) async fn detach(&self, subscription: &str) -> Answer<DetachSubscriptionResponse> {
        let subscription = subscription.to_owned();
        let request = DetachSubscriptionRequest { subscription };
        self.publisher().detach_subscription(request).await
    }
}

/// What a call returns.
pub(crate) type Answer<T> = Result<tonic::Response<T>, Status>;
