//! Publishing, pulling and acknowledging in a line each.

use packetboat::proto::google::pubsub::v1::{
    AcknowledgeRequest, ModifyAckDeadlineRequest, PubsubMessage, PullRequest,
};

use tonic::Status;

use super::{
    Client,
    admin::Answer,
    ok,
    values::{Received, ack_ids, message, publish_request},
    within,
};

/// A Pull that waits for a message, or one that does not.
#[expect(
    deprecated,
    reason = "return_immediately is what makes 'nothing there' testable"
)]
pub(crate) fn pull_request(
    subscription: &str,
    max_messages: i32,
    return_immediately: bool,
) -> PullRequest {
    PullRequest {
        subscription: subscription.to_owned(),
        return_immediately,
        max_messages,
    }
}

impl Client {
    /// Publishes `messages` in one request and returns their ids.
    pub(crate) async fn publish(&self, topic: &str, messages: &[PubsubMessage]) -> Vec<String> {
        let request = publish_request(topic, messages);
        ok(self.publisher().publish(request).await).message_ids
    }

    /// Publishes one message of text and returns its id.
    pub(crate) async fn publish_text(&self, topic: &str, text: &str) -> String {
        let mut ids = self.publish(topic, &[message(text.to_owned())]).await;
        ids.pop().expect("one id for one message")
    }

    /// What a Pull that does not wait answers.
    pub(crate) async fn pull_now(&self, subscription: &str, max_messages: i32) -> Vec<Received> {
        let request = pull_request(subscription, max_messages, true);
        let response = ok(self.subscriber().pull(request).await);
        response
            .received_messages
            .into_iter()
            .map(Received::from)
            .collect()
    }

    /// The same, which may be refused; at most 1,000 messages.
    pub(crate) async fn try_pull_now(&self, subscription: &str) -> Result<Vec<Received>, Status> {
        let request = pull_request(subscription, 1000, true);
        let response = self.subscriber().pull(request).await?.into_inner();
        let received = response.received_messages.into_iter();
        Ok(received.map(Received::from).collect())
    }

    /// Pulls, waiting, until `count` messages have come.
    pub(crate) async fn receive(&self, subscription: &str, count: usize) -> Vec<Received> {
        let mut all = Vec::new();
        while all.len() < count {
            let missing = i32::try_from(count - all.len()).expect("a small count");
            let request = pull_request(subscription, missing.min(1000), false);
            let mut subscriber = self.subscriber_of_big_messages();
            let response = within("a message to pull", subscriber.pull(request)).await;
            all.extend(
                ok(response)
                    .received_messages
                    .into_iter()
                    .map(Received::from),
            );
        }
        assert_eq!(all.len(), count, "more than max_messages came");
        all
    }

    /// Pulls once, waiting for at least one message.
    pub(crate) async fn receive_some(&self, subscription: &str, max: i32) -> Vec<Received> {
        let request = pull_request(subscription, max, false);
        let mut subscriber = self.subscriber();
        let response = ok(within("a message to pull", subscriber.pull(request)).await);
        assert!(
            !response.received_messages.is_empty(),
            "the wait was too short"
        );
        let received = response.received_messages.into_iter();
        received.map(Received::from).collect()
    }

    /// [`Self::receive`] of one.
    pub(crate) async fn receive_one(&self, subscription: &str) -> Received {
        let mut received = self.receive(subscription, 1).await;
        received.pop().expect("one was received")
    }

    /// [`Self::receive`], then acknowledges all.
    pub(crate) async fn receive_and_ack(&self, subscription: &str, count: usize) -> Vec<Received> {
        let received = self.receive(subscription, count).await;
        ok(self.ack(subscription, ack_ids(&received)).await);
        received
    }

    pub(crate) async fn ack(&self, subscription: &str, ack_ids: Vec<String>) -> Answer<()> {
        let request = AcknowledgeRequest {
            subscription: subscription.to_owned(),
            ack_ids,
        };
        self.subscriber().acknowledge(request).await
    }

    /// ModifyAckDeadline; zero seconds is a nack.
    pub(crate) async fn modify_deadline(
        &self,
        subscription: &str,
        ack_ids: Vec<String>,
        ack_deadline_seconds: i32,
    ) -> Answer<()> {
        let request = ModifyAckDeadlineRequest {
            subscription: subscription.to_owned(),
            ack_ids,
            ack_deadline_seconds,
        };
        self.subscriber().modify_ack_deadline(request).await
    }

    /// Fails if a Pull that does not wait finds anything.
    pub(crate) async fn assert_nothing(&self, subscription: &str, why: &str) {
        let found = self.pull_now(subscription, 10).await;
        assert!(found.is_empty(), "{why}: {found:?}");
    }
}
