//! Single calls on one subscription, for loads that do one thing after the other.

use super::{
    CallError,
    connection::Connection,
    payload::{Mark, fields, framed, received},
};
use crate::proto::google::pubsub::v1 as proto;

pub(super) const PULL: &str = "/google.pubsub.v1.Subscriber/Pull";
pub(super) const ACKNOWLEDGE: &str = "/google.pubsub.v1.Subscriber/Acknowledge";
pub(super) const MODIFY_ACK_DEADLINE: &str = "/google.pubsub.v1.Subscriber/ModifyAckDeadline";

/// A subscription, and the connection over which it is asked.
#[derive(Clone, Debug)]
pub(super) struct Calls {
    connection: Connection,
    subscription: String,
}

/// A message that was pulled.
#[derive(Clone, Debug)]
pub(super) struct Pulled {
    ack_id: String,
    /// None if the run did not publish it.
    pub(super) mark: Option<Mark>,
}

impl Calls {
    pub(super) fn new(connection: Connection, subscription: String) -> Self {
        Self {
            connection,
            subscription,
        }
    }

    /// Pulls one message, waiting as long as the server does.
    pub(super) async fn pull(&self) -> Result<Option<Pulled>, CallError> {
        self.pull_one(false).await
    }

    /// Pulls one message if there is one.
    pub(super) async fn pull_now(&self) -> Result<Option<Pulled>, CallError> {
        self.pull_one(true).await
    }

    #[expect(
        deprecated,
        reason = "the field of the protocol for a pull that does not wait"
    )]
    async fn pull_one(&self, return_immediately: bool) -> Result<Option<Pulled>, CallError> {
        let request = proto::PullRequest {
            subscription: self.subscription.clone(),
            return_immediately,
            max_messages: 1,
        };
        let answer = self.connection.call(PULL, framed(&request)).await?;
        let Some((_, message)) = fields(&answer).find(|field| field.0 == 1) else {
            return Ok(None);
        };
        let (ack_id, mark) = received(message);
        let ack_id = str::from_utf8(ack_id).map_err(|_| CallError::Answer { method: PULL })?;
        Ok(Some(Pulled {
            ack_id: ack_id.to_owned(),
            mark,
        }))
    }

    pub(super) async fn acknowledge(&self, pulled: &Pulled) -> Result<(), CallError> {
        let request = proto::AcknowledgeRequest {
            subscription: self.subscription.clone(),
            ack_ids: vec![pulled.ack_id.clone()],
        };
        let answer = self.connection.call(ACKNOWLEDGE, framed(&request)).await;
        answer.map(|_| ())
    }

    /// Asks for the message again.
    pub(super) async fn nack(&self, pulled: &Pulled) -> Result<(), CallError> {
        let request = proto::ModifyAckDeadlineRequest {
            subscription: self.subscription.clone(),
            ack_ids: vec![pulled.ack_id.clone()],
            ack_deadline_seconds: 0,
        };
        let answer = self.connection.call(MODIFY_ACK_DEADLINE, framed(&request));
        answer.await.map(|_| ())
    }
}
