//! A message as a Kafka record, and a record as a message.
//!
//! Ours are natural records: value = data, key = ordering key, headers = attributes; the few attributes that no header
//! can be share one of their own ([`CARRIER`]). What anybody else wrote is delivered as well as Pub/Sub can say it: what
//! is not text is base64, and an attribute says so.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashSet},
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

/// The header of the attributes that no header can be: a JSON object of names and values. It is on no other record.
const CARRIER: &str = "packetboat-attributes";

/// Whether no header can have this name: Kafka's C client, ours included, reads one up to the first NUL.
fn is_carried(name: &str) -> bool {
    name.contains('\0') || name == CARRIER
}

/// The headers of a message's record, its attributes in order; none when there are none.
pub(super) fn headers(message: &ScannedMessage<'_>) -> Result<Option<OwnedHeaders>, StoreError> {
    let attributes = message.attributes();
    if attributes.len() == 0 {
        return Ok(None);
    }
    let mut headers = OwnedHeaders::new_with_capacity(attributes.len());
    let mut carried = BTreeMap::new();
    for (name, value) in attributes {
        let key = text(name)?;
        if is_carried(key) {
            carried.insert(key, text(value)?);
            continue;
        }
        headers = headers.insert(Header {
            key,
            value: Some(value),
        });
    }
    if !carried.is_empty() {
        let value = serde_json::to_vec(&carried).map_err(|error| refused(&error))?;
        headers = headers.insert(Header {
            key: CARRIER,
            value: Some(&value),
        });
    }
    Ok(Some(headers))
}

/// The scan has checked it; headers and JSON take text only.
fn text(bytes: &[u8]) -> Result<&str, StoreError> {
    str::from_utf8(bytes).map_err(|error| refused(&error))
}

fn refused(error: &impl ToString) -> StoreError {
    StoreError::Refused(error.to_string())
}

/// A record as it is delivered.
#[derive(Clone, Debug)]
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
        set(&mut attributes, KEY_ENCODING, "base64");
    }
    if record.payload().is_none() {
        set(&mut attributes, TOMBSTONE, "true");
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

/// Adds an attribute that says what the record is, in place of a header of that name.
fn set<'a>(attributes: &mut Vec<(&'a str, &'a str)>, name: &'a str, value: &'a str) {
    attributes.retain(|(other, _)| *other != name);
    attributes.push((name, value));
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
    let mut attributes: Vec<(Cow<'_, str>, Cow<'_, str>)> = Vec::with_capacity(count);
    for index in (0..count).rev() {
        let Some(Header { key, value }) = header(headers, index) else {
            continue;
        };
        let value = value.unwrap_or_default();
        if key == CARRIER
            && let Some(carried) = carried(value)
        {
            // No header has a name of these.
            if names.insert(Cow::Borrowed(key)) {
                let owned = |(name, value)| (Cow::Owned(name), Cow::Owned(value));
                attributes.extend(carried.into_iter().rev().map(owned));
            }
            continue;
        }
        let value = as_text(value);
        let name = match value {
            Cow::Borrowed(_) => Cow::Borrowed(key),
            Cow::Owned(_) => Cow::Owned(format!("{key}{BASE64_SUFFIX}")),
        };
        if names.insert(Cow::Borrowed(key)) && (name == key || names.insert(name.clone())) {
            attributes.push((name, value));
        }
    }
    attributes.reverse();
    attributes
}

/// The attributes in the value of a header named [`CARRIER`]; `None` where it is not one that we write.
fn carried(value: &[u8]) -> Option<BTreeMap<String, String>> {
    let carried: BTreeMap<String, String> = serde_json::from_slice(value).ok()?;
    let is_ours = !carried.is_empty() && carried.keys().all(|name| is_carried(name));
    is_ours.then_some(carried)
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
    fn attributes_that_no_header_can_be_share_one() {
        let published = message::encode(&Parts {
            attributes: vec![
                ("plain", "natural"),
                (CARRIER, "{\"a\\u0000b\":\"\"}"),
                ("a\0b", ""),
                ("\0", "\0ü"),
            ],
            ..Parts::default()
        });
        let messages = AcceptedMessages::from(vec![published.clone()]);
        let headers = headers(&messages.get(0).expect("a message"));
        let headers = headers.expect("headers").expect("some");
        let names: Vec<_> = headers.iter().map(|header| header.key).collect();
        assert_eq!(names, ["plain", CARRIER]);
        let written = record(Some(b""), None, &[]).replace_headers(Some(headers));
        let read = PubsubMessage::decode(decode(&written).message).expect("a message");
        assert_eq!(read, PubsubMessage::decode(published).expect("a message"));
    }

    #[test]
    fn a_header_that_only_has_the_name_of_ours_is_an_attribute() {
        for value in [
            "",
            "{}",
            "text",
            "[1]",
            "{\"plain\":\"a\"}",
            "{\"a\\u0000\":1}",
        ] {
            let message = decoded(Some(b"d"), None, &[(CARRIER, Some(value.as_bytes()))]);
            assert_eq!(attributes_of(&message), [(CARRIER, value)]);
        }
    }

    #[test]
    fn no_attribute_is_there_twice() {
        let headers: [(&str, Value); 4] = [
            (TOMBSTONE, Some(b"theirs")),
            (KEY_ENCODING, Some(b"theirs")),
            ("a", Some(&[0xff])),
            ("a.base64", Some(b"theirs")),
        ];
        let record = record(None, Some(&[0xff]), &headers);
        let messages = AcceptedMessages::from(vec![decode(&record).message]);
        let attributes: Vec<_> = messages.get(0).expect("a message").attributes().collect();
        let expected: [(&[u8], &[u8]); 3] = [
            (b"a.base64", b"theirs"),
            (KEY_ENCODING.as_bytes(), b"base64"),
            (TOMBSTONE.as_bytes(), b"true"),
        ];
        assert_eq!(attributes, expected);
    }
}
