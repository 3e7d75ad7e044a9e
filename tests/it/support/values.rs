//! Values of the API in a line each.

use std::collections::HashMap;

use bytes::Bytes;
use packetboat::{
    proto::google::pubsub::v1::{ExpirationPolicy, PublishRequest, PubsubMessage},
    resource::message::ReceivedMessage,
};
use prost::Message;
use prost_types::{Duration, FieldMask};

/// A message of `data` alone.
pub(crate) fn message(data: impl Into<Bytes>) -> PubsubMessage {
    PubsubMessage {
        data: data.into(),
        ..Default::default()
    }
}

/// A message of attributes alone.
pub(crate) fn attributes(entries: &[(&str, &str)]) -> PubsubMessage {
    PubsubMessage {
        attributes: map(entries),
        ..Default::default()
    }
}

/// `count` small messages, each with its number as data.
pub(crate) fn numbered(count: usize) -> Vec<PubsubMessage> {
    (0..count)
        .map(|number| message(number.to_string()))
        .collect()
}

/// A map from string literals.
pub(crate) fn map(entries: &[(&str, &str)]) -> HashMap<String, String> {
    let entries = entries.iter();
    entries
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

/// A request to publish `messages`.
pub(crate) fn publish_request(topic: &str, messages: &[PubsubMessage]) -> PublishRequest {
    PublishRequest {
        topic: topic.to_owned(),
        messages: messages
            .iter()
            .map(|message| message.encode_to_vec().into())
            .collect(),
    }
}

/// Whole seconds.
#[expect(
    clippy::unnecessary_wraps,
    reason = "every field that takes it is optional"
)]
pub(crate) fn seconds(seconds: i64) -> Option<Duration> {
    Some(Duration { seconds, nanos: 0 })
}

/// Whole days.
pub(crate) fn days(days: i64) -> Option<Duration> {
    seconds(days * 86_400)
}

/// An expiration policy; without `ttl` it means never.
#[expect(
    clippy::unnecessary_wraps,
    reason = "the field that takes it is optional"
)]
pub(crate) fn expires(ttl: Option<Duration>) -> Option<ExpirationPolicy> {
    Some(ExpirationPolicy { ttl })
}

/// An update mask.
#[expect(
    clippy::unnecessary_wraps,
    reason = "the field that takes it is optional"
)]
pub(crate) fn mask(paths: &[&str]) -> Option<FieldMask> {
    Some(FieldMask {
        paths: paths.iter().map(|path| (*path).to_owned()).collect(),
    })
}

/// A delivered message, decoded.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) ack_id: String,
    pub(crate) message: PubsubMessage,
    pub(crate) delivery_attempt: i32,
}

impl Received {
    /// The data as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.message.data.to_vec()).expect("the tests publish text")
    }
}

impl From<ReceivedMessage> for Received {
    fn from(received: ReceivedMessage) -> Self {
        Self {
            message: PubsubMessage::decode(received.message)
                .expect("a delivered message is a valid PubsubMessage"),
            ack_id: received.ack_id,
            delivery_attempt: received.delivery_attempt,
        }
    }
}

/// The data of each, sorted.
pub(crate) fn texts(received: &[Received]) -> Vec<String> {
    let mut texts: Vec<_> = received.iter().map(Received::text).collect();
    texts.sort();
    texts
}

/// The ack id of each.
pub(crate) fn ack_ids(received: &[Received]) -> Vec<String> {
    received
        .iter()
        .map(|received| received.ack_id.clone())
        .collect()
}
