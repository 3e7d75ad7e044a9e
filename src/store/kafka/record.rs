//! A message as a Kafka record, and a record as a message.
//!
//! Ours are natural records: value = data, key = ordering key, headers = attributes. What anybody else wrote is
//! delivered as well as Pub/Sub can say it: what is not text is base64, and an attribute says so.

use std::{
    borrow::Cow,
    collections::HashSet,
    panic::{AssertUnwindSafe, catch_unwind},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};

use crate::{
    clock::Timestamp,
    resource::message::{self, Parts, ScannedMessage},
    store::{
        StoreError,
        log::{Offset, Partition},
    },
};

/// `true` on a record without a value, by which compacted topics say that a key was deleted.
const TOMBSTONE: &str = "kafka-tombstone";
/// `base64` when that is what the ordering key is, of a key that is not UTF-8.
const KEY_ENCODING: &str = "kafka-key-encoding";
/// Behind the name of a header whose value is not UTF-8 and therefore base64.
const BASE64_SUFFIX: &str = ".base64";

/// Refuses a message that cannot be a record.
pub(super) fn check(message: &ScannedMessage<'_>) -> Result<(), StoreError> {
    // Kafka's C client, ours included, reads a header's name up to the first NUL.
    if message.attributes().any(|(name, _)| name.contains(&0)) {
        return Err(StoreError::Refused(
            "the name of an attribute contains a NUL character, which Kafka's clients do not read: \
             leave it out"
                .to_owned(),
        ));
    }
    Ok(())
}

/// The headers of a message's record, its attributes in order; none when there are none.
pub(super) fn headers(message: &ScannedMessage<'_>) -> Result<Option<OwnedHeaders>, StoreError> {
    let attributes = message.attributes();
    if attributes.len() == 0 {
        return Ok(None);
    }
    let mut headers = OwnedHeaders::new_with_capacity(attributes.len());
    for (name, value) in attributes {
        // The scan has checked it; the client takes text only.
        let key = str::from_utf8(name).map_err(|error| StoreError::Refused(error.to_string()))?;
        headers = headers.insert(Header {
            key,
            value: Some(value),
        });
    }
    Ok(Some(headers))
}

/// A record as it is delivered.
#[derive(Debug)]
pub(super) struct DecodedRecord {
    pub(super) offset: Offset,
    pub(super) publish_time: Timestamp,
    /// Encoded.
    pub(super) message: Bytes,
}

/// The record as it is delivered. Its publish time is the record's timestamp.
pub(super) fn decode(record: &impl Message) -> DecodedRecord {
    let headers = record.headers().map_or_else(Vec::new, attributes);
    let mut attributes: Vec<(&str, &str)> = headers
        .iter()
        .map(|(name, value)| (name.as_ref(), value.as_ref()))
        .collect();
    let key = record.key().unwrap_or_default();
    let ordering_key = as_text(key);
    if matches!(ordering_key, Cow::Owned(_)) {
        attributes.push((KEY_ENCODING, "base64"));
    }
    if record.payload().is_none() {
        attributes.push((TOMBSTONE, "true"));
    }
    DecodedRecord {
        offset: offset(record),
        publish_time: publish_time(record),
        message: message::encode(&Parts {
            data: record.payload().unwrap_or_default(),
            attributes,
            ordering_key: &ordering_key,
        }),
    }
}

/// Whether the record lies in this partition of this topic.
pub(super) fn is_of(record: &impl Message, topic: &str, partition: Partition) -> bool {
    (record.topic(), record.partition()) == (topic, partition.cast_signed())
}

/// Where the record lies.
pub(super) fn offset(record: &impl Message) -> Offset {
    Offset::try_from(record.offset()).unwrap_or(0)
}

/// The record's timestamp: the broker's own in topics that we make.
pub(super) fn publish_time(record: &impl Message) -> Timestamp {
    let millis = record.timestamp().to_millis().unwrap_or(0);
    Timestamp::from_millis(u64::try_from(millis).unwrap_or(0))
}

/// In order; of a name that appears twice the last counts.
fn attributes<H: Headers>(headers: &H) -> Vec<(Cow<'_, str>, Cow<'_, str>)> {
    let count = headers.count();
    let mut names = HashSet::with_capacity(count);
    let mut attributes = Vec::with_capacity(count);
    for index in (0..count).rev() {
        let Some(Header { key, value }) = header(headers, index) else {
            continue;
        };
        if !names.insert(key) {
            continue;
        }
        let value = as_text(value.unwrap_or_default());
        let name = match value {
            Cow::Borrowed(_) => Cow::Borrowed(key),
            Cow::Owned(_) => Cow::Owned(format!("{key}{BASE64_SUFFIX}")),
        };
        attributes.push((name, value));
    }
    attributes.reverse();
    attributes
}

/// A header; `None` where its name is not UTF-8. The crate has no other way to tell than to panic, and no way to
/// the bytes of such a name.
fn header<H: Headers>(headers: &H, index: usize) -> Option<Header<'_, &[u8]>> {
    catch_unwind(AssertUnwindSafe(|| headers.try_get(index)))
        .ok()
        .flatten()
}

/// The bytes as they are, or in base64 where they are no text.
fn as_text(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(BASE64_STANDARD.encode(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use rdkafka::message::{OwnedMessage, Timestamp as RecordTime};

    use super::*;
    use crate::{proto::google::pubsub::v1::PubsubMessage, resource::message::AcceptedMessages};

    type Value<'a> = Option<&'a [u8]>;

    fn record(value: Value, key: Value, given: &[(&str, Value)]) -> OwnedMessage {
        let mut headers = OwnedHeaders::new();
        for (key, value) in given {
            headers = headers.insert(Header { key, value: *value });
        }
        let owned = |bytes: Value| bytes.map(<[u8]>::to_vec);
        OwnedMessage::new(
            owned(value),
            owned(key),
            "topic".to_owned(),
            RecordTime::LogAppendTime(1_234),
            0,
            17,
            Some(headers),
        )
    }

    fn decoded(value: Value, key: Value, given: &[(&str, Value)]) -> PubsubMessage {
        PubsubMessage::decode(decode(&record(value, key, given)).message).expect("a message")
    }

    fn attributes_of(message: &PubsubMessage) -> Vec<(&str, &str)> {
        let mut attributes: Vec<_> = message
            .attributes
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        attributes.sort_unstable();
        attributes
    }

    #[test]
    fn a_natural_record_is_data_ordering_key_and_attributes() {
        let record = record(
            Some(b"data"),
            Some(b"key"),
            &[("b", Some(b"2")), ("a", Some(b""))],
        );
        let decoded = decode(&record);
        assert_eq!(decoded.offset, 17);
        assert_eq!(decoded.publish_time, Timestamp::from_millis(1_234));
        let messages = AcceptedMessages::from(vec![decoded.message]);
        let message = messages.get(0).expect("a message");
        assert_eq!(message.data(), b"data");
        assert_eq!(message.ordering_key(), b"key");
        let attributes: [(&[u8], &[u8]); 2] = [(b"b", b"2"), (b"a", b"")];
        assert!(message.attributes().eq(attributes));
    }

    #[test]
    fn what_we_write_is_what_we_read() {
        let published = message::encode(&Parts {
            attributes: vec![("b", "2"), ("a", ""), ("ü", "ö")],
            ..Parts::default()
        });
        let messages = AcceptedMessages::from(vec![published.clone()]);
        let headers = headers(&messages.get(0).expect("a message")).expect("headers");
        let written = record(Some(b""), None, &[]).replace_headers(headers);
        assert_eq!(decode(&written).message, published);
    }

    #[test]
    fn a_tombstone_says_so() {
        let message = decoded(None, Some(b"key"), &[]);
        assert!(message.data.is_empty());
        assert_eq!(message.ordering_key, "key");
        assert_eq!(attributes_of(&message), [(TOMBSTONE, "true")]);
        assert!(decoded(Some(b""), Some(b""), &[]).attributes.is_empty());
    }

    #[test]
    fn a_binary_key_keeps_its_order_as_base64() {
        let message = decoded(Some(b"d"), Some(&[0xff, 0]), &[]);
        assert_eq!(message.ordering_key, "/wA=");
        assert_eq!(attributes_of(&message), [(KEY_ENCODING, "base64")]);
    }

    #[test]
    fn headers_that_are_no_attributes_become_some() {
        let headers: [(&str, Value); 6] = [
            ("twice", Some(b"first")),
            ("binary", Some(&[0xff, 0])),
            ("null", None),
            ("twice", Some(b"last")),
            ("both", Some(&[0xff])),
            ("both", Some(b"text")),
        ];
        let message = decoded(Some(b"d"), None, &headers);
        let expected = [
            ("binary.base64", "/wA="),
            ("both", "text"),
            ("null", ""),
            ("twice", "last"),
        ];
        assert_eq!(attributes_of(&message), expected);
    }

    #[test]
    fn a_name_that_kafkas_clients_do_not_read_is_refused() {
        let message = PubsubMessage {
            attributes: [("a\0b".to_owned(), String::new())].into(),
            ..PubsubMessage::default()
        };
        let messages = AcceptedMessages::from(vec![message.encode_to_vec().into()]);
        let refused = check(&messages.get(0).expect("a message"))
            .expect_err("refused")
            .to_string();
        assert!(refused.contains("NUL"), "{refused}");
    }
}
