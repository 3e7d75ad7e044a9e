//! Topics and subscriptions of a run, made before it and removed after it.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use tokio::{task::JoinSet, time::timeout};

use super::{
    CallError, Plan,
    connection::{ANSWER_WAIT_MAX, Connection},
    delivery::Delivery,
    filters::Content,
    keys::Keys,
    payload::framed,
};
use crate::proto::google::pubsub::v1 as proto;

const CREATE_TOPIC: &str = "/google.pubsub.v1.Publisher/CreateTopic";
const DELETE_TOPIC: &str = "/google.pubsub.v1.Publisher/DeleteTopic";
const CREATE_SUBSCRIPTION: &str = "/google.pubsub.v1.Subscriber/CreateSubscription";
const DELETE_SUBSCRIPTION: &str = "/google.pubsub.v1.Subscriber/DeleteSubscription";
/// The gRPC status.
const NOT_FOUND: u32 = 5;

/// Names of a run's topics and subscriptions.
#[derive(Clone, Debug)]
pub(super) struct Names {
    project: String,
    run: u32,
    /// Number of the first topic.
    first: usize,
    topics: usize,
    subscriptions: usize,
    content: Content,
}

impl Names {
    pub(super) fn new(plan: &Plan, run: u32, content: Content) -> Self {
        Self {
            project: plan.project.clone(),
            run,
            first: 0,
            topics: plan.topics,
            subscriptions: plan.subscriptions,
            content,
        }
    }

    /// Names of `topics` further topics with `subscriptions` each.
    pub(super) fn further(&self, topics: usize, subscriptions: usize) -> Self {
        Self {
            first: self.first + self.topics,
            topics,
            subscriptions,
            ..self.clone()
        }
    }

    /// Name of topic number `topic`.
    pub(super) fn topic(&self, topic: usize) -> String {
        format!(
            "projects/{}/topics/bench-{:08x}-{topic}",
            self.project, self.run
        )
    }

    /// Name of subscription number `subscription` of a topic.
    pub(super) fn subscription(&self, topic: usize, subscription: usize) -> String {
        format!(
            "projects/{}/subscriptions/bench-{:08x}-{topic}-{subscription}",
            self.project, self.run
        )
    }

    /// Name of the first subscription of each topic.
    pub(super) fn first_subscriptions(&self) -> Vec<String> {
        let topics = self.first..self.first + self.topics;
        topics.map(|topic| self.subscription(topic, 0)).collect()
    }

    /// Makes all topics and then their subscriptions, `in_flight` at a time.
    pub(super) async fn create(
        &self,
        connections: &[Connection],
        in_flight: usize,
    ) -> Result<(), CallError> {
        self.for_each_topic(connections, in_flight, create_topic)
            .await?;
        self.for_each_topic(connections, in_flight, create_subscriptions)
            .await
    }

    /// Removes what [`Names::create`] made.
    pub(super) async fn delete(
        &self,
        connections: &[Connection],
        in_flight: usize,
    ) -> Result<(), CallError> {
        self.for_each_topic(connections, in_flight, delete).await
    }

    async fn for_each_topic<F>(
        &self,
        connections: &[Connection],
        in_flight: usize,
        action: fn(Connection, Self, usize) -> F,
    ) -> Result<(), CallError>
    where
        F: Future<Output = Result<(), CallError>> + Send + 'static,
    {
        let next = Arc::new(AtomicUsize::new(self.first));
        let end = self.first + self.topics;
        // After a failure the others end with it.
        let mut workers = JoinSet::new();
        let each = connections.iter().cycle();
        for connection in each.take(in_flight.min(self.topics)) {
            let (connection, names, next) = (connection.clone(), self.clone(), Arc::clone(&next));
            workers.spawn(async move {
                loop {
                    let topic = next.fetch_add(1, Relaxed);
                    if topic >= end {
                        return Ok(());
                    }
                    action(connection.clone(), names.clone(), topic).await?;
                }
            });
        }
        while let Some(ended) = workers.join_next().await {
            ended.expect("a worker does not panic")?;
        }
        Ok(())
    }
}

/// Calls a method that changes a resource, within the time that any answer may take.
async fn call(
    connection: &Connection,
    method: &'static str,
    request: &impl prost::Message,
) -> Result<(), CallError> {
    let answer = timeout(ANSWER_WAIT_MAX, connection.call(method, framed(request))).await;
    answer
        .map_err(|_| CallError::NoAnswer { method })?
        .map(|_| ())
}

/// The same, for what may not be there.
async fn call_if_found(
    connection: &Connection,
    method: &'static str,
    request: &impl prost::Message,
) -> Result<(), CallError> {
    match call(connection, method, request).await {
        Err(CallError::Status { code, .. }) if code == NOT_FOUND => Ok(()),
        done => done,
    }
}

async fn create_topic(connection: Connection, names: Names, topic: usize) -> Result<(), CallError> {
    let request = proto::Topic {
        name: names.topic(topic),
        ..proto::Topic::default()
    };
    call(&connection, CREATE_TOPIC, &request).await
}

async fn create_subscriptions(
    connection: Connection,
    names: Names,
    topic: usize,
) -> Result<(), CallError> {
    let delivery = names.content.delivery;
    for subscription in 0..names.subscriptions {
        let request = proto::Subscription {
            name: names.subscription(topic, subscription),
            topic: names.topic(topic),
            ack_deadline_seconds: delivery.ack_deadline_seconds(),
            filter: names.content.filters.of(subscription),
            enable_exactly_once_delivery: delivery == Delivery::ExactlyOnce,
            retry_policy: delivery.retry_policy(),
            dead_letter_policy: delivery.dead_letter_policy(&names, topic, names.topics),
            enable_message_ordering: names.content.keys != Keys::None,
            ..proto::Subscription::default()
        };
        call(&connection, CREATE_SUBSCRIPTION, &request).await?;
    }
    Ok(())
}

async fn delete(connection: Connection, names: Names, topic: usize) -> Result<(), CallError> {
    for subscription in 0..names.subscriptions {
        let request = proto::DeleteSubscriptionRequest {
            subscription: names.subscription(topic, subscription),
        };
        call_if_found(&connection, DELETE_SUBSCRIPTION, &request).await?;
    }
    let request = proto::DeleteTopicRequest {
        topic: names.topic(topic),
    };
    call_if_found(&connection, DELETE_TOPIC, &request).await
}
