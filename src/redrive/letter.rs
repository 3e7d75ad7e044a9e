//! A dead letter, and what it was.

use bytes::Bytes;
use prost::Message as _;

use super::RedriveError;
use crate::{
    clock::Timestamp,
    filter::Filter,
    proto::google::pubsub::v1::PubsubMessage,
    resource::{
        message::{DEAD_LETTER_ATTRIBUTES, ReceivedMessage, SOURCE_PROJECT, SOURCE_SUBSCRIPTION},
        name::{ProjectName, SubscriptionName},
    },
};

/// A message of a dead letter topic, on its way back.
#[derive(Debug)]
pub(super) struct Letter {
    pub(super) ack_id: String,
    message: PubsubMessage,
}

impl Letter {
    pub(super) fn new(received: ReceivedMessage) -> Result<Self, RedriveError> {
        let message = PubsubMessage::decode(received.message);
        Ok(Self {
            ack_id: received.ack_id,
            message: message.map_err(|_| RedriveError::Answer)?,
        })
    }

    /// The subscription whose dead letter it is; `None` if it does not say.
    pub(super) fn source(&self) -> Option<SubscriptionName> {
        let attributes = &self.message.attributes;
        let project = format!("projects/{}", attributes.get(SOURCE_PROJECT)?);
        let project = ProjectName::parse("project", &project).ok()?;
        let name = format!(
            "{project}/subscriptions/{}",
            attributes.get(SOURCE_SUBSCRIPTION)?
        );
        SubscriptionName::parse("subscription", &name).ok()
    }

    pub(super) fn ordering_key(&self) -> &str {
        &self.message.ordering_key
    }

    /// Whether it was published at this time or later.
    pub(super) fn is_since(&self, time: Timestamp) -> bool {
        let published = self.message.publish_time.as_ref();
        published.is_some_and(|published| {
            let millis = published.seconds.saturating_mul(1000);
            let millis = millis.saturating_add((published.nanos / 1_000_000).into());
            u64::try_from(millis).is_ok_and(|millis| Timestamp::from_millis(millis) >= time)
        })
    }

    pub(super) fn matches(&self, filter: &Filter) -> bool {
        let attributes = &self.message.attributes;
        filter.matches(|name| {
            let name = str::from_utf8(name).ok()?;
            attributes.get(name).map(String::as_bytes)
        })
    }

    /// The message as it was published first, encoded.
    pub(super) fn original(&self) -> Bytes {
        let mut attributes = self.message.attributes.clone();
        attributes.retain(|name, _| !DEAD_LETTER_ATTRIBUTES.contains(&name.as_str()));
        let original = PubsubMessage {
            data: self.message.data.clone(),
            attributes,
            ordering_key: self.message.ordering_key.clone(),
            ..PubsubMessage::default()
        };
        original.encode_to_vec().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(attributes: &[(&str, &str)]) -> Letter {
        let attributes = attributes.iter();
        let message = PubsubMessage {
            data: "data".into(),
            ordering_key: "key".to_owned(),
            message_id: "17".to_owned(),
            publish_time: Some(prost_types::Timestamp {
                seconds: 2,
                nanos: 5_000_000,
            }),
            attributes: attributes
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        };
        let received = ReceivedMessage {
            message: message.encode_to_vec().into(),
            ..ReceivedMessage::default()
        };
        Letter::new(received).expect("a message")
    }

    #[test]
    fn a_letter_says_whose_it_is_or_not() {
        let full = [
            (SOURCE_PROJECT, "example.com:p"),
            (SOURCE_SUBSCRIPTION, "sub"),
        ];
        let source = letter(&full).source().expect("it says so");
        assert_eq!(source.as_str(), "projects/example.com:p/subscriptions/sub");
        for of in [&full[..1], &full[1..], &[(SOURCE_PROJECT, "p/q"), full[1]]] {
            assert_eq!(letter(of).source(), None);
        }
    }

    #[test]
    fn what_goes_back_is_what_was_published() {
        let mut attributes = vec![("a", "b")];
        attributes.extend(DEAD_LETTER_ATTRIBUTES.map(|name| (name, "x")));
        let original = letter(&attributes).original();
        let expected = PubsubMessage {
            data: "data".into(),
            ordering_key: "key".to_owned(),
            attributes: [("a".to_owned(), "b".to_owned())].into(),
            ..PubsubMessage::default()
        };
        assert_eq!(PubsubMessage::decode(original), Ok(expected));
    }

    #[test]
    fn a_letter_is_as_old_as_its_publish_time() {
        assert!(letter(&[]).is_since(Timestamp::from_millis(2005)));
        assert!(!letter(&[]).is_since(Timestamp::from_millis(2006)));
    }
}
