//! A message's encoded bytes. The only file that knows where in them something lies, and what is appended when
//! they are sent.
//!
//! A published message is validated by one scan and stored as it came. When it is delivered, its id and publish
//! time are appended as further fields, which in protobuf yields one valid message. That is why a publisher's own
//! values of these fields are cut at the edge: a repeated sub-message would merge with ours.

use std::ops::Range;

use bytes::{Buf, BufMut, Bytes};
use prost::{
    DecodeError, Message,
    encoding::{self, DecodeContext, WireType},
};

use super::{id::TopicIncarnation, violation::Violation};
use crate::{
    clock::Timestamp,
    limits::{
        ATTRIBUTE_KEY_BYTES_MAX, ATTRIBUTE_VALUE_BYTES_MAX, ATTRIBUTES_MAX, ORDERING_KEY_BYTES_MAX,
    },
};

/// Stands for `google.pubsub.v1.ReceivedMessage` in the generated code: the same on the wire, its inner message
/// stored encoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReceivedMessage {
    /// Acknowledges this delivery.
    pub ack_id: String,
    /// The message as it was published, encoded; on the receiving side, all of it.
    pub message: Bytes,
    /// Fields that only the server sets, sent right behind `message`.
    pub server_fields: ServerFields,
    /// How often the message was delivered, this time included; 0 without a dead letter policy.
    pub delivery_attempt: i32,
}

// Fields of PubsubMessage.
const DATA_TAG: u32 = 1;
const ATTRIBUTES_TAG: u32 = 2;
const MESSAGE_ID_TAG: u32 = 3;
const PUBLISH_TIME_TAG: u32 = 4;
const ORDERING_KEY_TAG: u32 = 5;
// Fields of an entry of its attributes.
const KEY_TAG: u32 = 1;
const VALUE_TAG: u32 = 2;

/// Checks a published message (docs/behaviour.md, section 3.1) and cuts the fields that only the server sets.
///
/// A message without such fields comes back as the same slice, without a copy.
pub fn accept(message: Bytes) -> Result<Bytes, Violation> {
    let mut rest = &message[..];
    let mut cuts: Vec<Range<usize>> = Vec::new();
    let (mut data_bytes, mut attributes) = (0, 0);
    while !rest.is_empty() {
        let start = message.len() - rest.len();
        let (tag, wire_type) = encoding::decode_key(&mut rest).map_err(|_| malformed())?;
        match tag {
            DATA_TAG => data_bytes = take_bytes(&mut rest, wire_type)?.len(),
            ATTRIBUTES_TAG => {
                accept_attribute(take_bytes(&mut rest, wire_type)?)?;
                attributes += 1;
            }
            ORDERING_KEY_TAG => {
                let key = text("ordering_key", take_bytes(&mut rest, wire_type)?)?;
                at_most("ordering_key_size", key.len(), ORDERING_KEY_BYTES_MAX)?;
            }
            MESSAGE_ID_TAG | PUBLISH_TIME_TAG => {
                take_bytes(&mut rest, wire_type)?;
                cuts.push(start..message.len() - rest.len());
            }
            _ => encoding::skip_field(wire_type, tag, &mut rest, DecodeContext::default())
                .map_err(|_| malformed())?,
        }
    }
    if data_bytes == 0 && attributes == 0 {
        return Err(Violation::EmptyMessage);
    }
    at_most("attribute_count", attributes, ATTRIBUTES_MAX)?;
    Ok(without(message, &cuts))
}

/// Messages that hold on to little more than themselves: those of a request that holds little else as they are, others
/// copied into one buffer of their own.
pub fn compact(messages: Vec<Bytes>, request_bytes: usize) -> Vec<Bytes> {
    let bytes: usize = messages.iter().map(Bytes::len).sum();
    if bytes >= request_bytes - request_bytes / REQUEST_WASTE {
        return messages;
    }
    let mut buffer = Vec::with_capacity(bytes);
    for message in &messages {
        buffer.extend_from_slice(message);
    }
    let mut rest = Bytes::from(buffer);
    messages
        .iter()
        .map(|message| rest.split_to(message.len()))
        .collect()
}

/// One part in so many of a request may be held in memory for nothing.
const REQUEST_WASTE: usize = 8;

/// What a published message is made of, for a log that stores messages in a form of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parts<'a> {
    /// The payload.
    pub data: &'a [u8],
    /// Names with their values, as they came; of a name that appears twice the last counts.
    pub attributes: Vec<(&'a str, &'a str)>,
    /// Empty when the message has none.
    pub ordering_key: &'a str,
}

/// Takes an accepted message apart.
pub fn parts(message: &[u8]) -> Result<Parts<'_>, Violation> {
    let mut parts = Parts::default();
    let mut rest = message;
    while !rest.is_empty() {
        let (tag, wire_type) = encoding::decode_key(&mut rest).map_err(|_| malformed())?;
        match tag {
            DATA_TAG => parts.data = take_bytes(&mut rest, wire_type)?,
            ATTRIBUTES_TAG => {
                let entry = take_bytes(&mut rest, wire_type)?;
                parts.attributes.push(attribute(entry)?);
            }
            ORDERING_KEY_TAG => {
                parts.ordering_key = text("ordering_key", take_bytes(&mut rest, wire_type)?)?;
            }
            _ => encoding::skip_field(wire_type, tag, &mut rest, DecodeContext::default())
                .map_err(|_| malformed())?,
        }
    }
    Ok(parts)
}

/// Puts a message together: the reverse of [`parts`].
pub fn encode(parts: &Parts<'_>) -> Bytes {
    let entry_len = |(name, value): &(&str, &str)| {
        field_len(KEY_TAG, name.len()) + field_len(VALUE_TAG, value.len())
    };
    let attributes: usize = parts
        .attributes
        .iter()
        .map(|entry| field_len(ATTRIBUTES_TAG, entry_len(entry)))
        .sum();
    let mut message = Vec::with_capacity(
        field_len(DATA_TAG, parts.data.len())
            + attributes
            + field_len(ORDERING_KEY_TAG, parts.ordering_key.len()),
    );
    if !parts.data.is_empty() {
        put_field(DATA_TAG, parts.data, &mut message);
    }
    for entry in &parts.attributes {
        encoding::encode_key(ATTRIBUTES_TAG, WireType::LengthDelimited, &mut message);
        encoding::encode_varint(entry_len(entry) as u64, &mut message);
        put_field(KEY_TAG, entry.0.as_bytes(), &mut message);
        put_field(VALUE_TAG, entry.1.as_bytes(), &mut message);
    }
    if !parts.ordering_key.is_empty() {
        put_field(
            ORDERING_KEY_TAG,
            parts.ordering_key.as_bytes(),
            &mut message,
        );
    }
    message.into()
}

fn field_len(tag: u32, len: usize) -> usize {
    encoding::key_len(tag) + encoding::encoded_len_varint(len as u64) + len
}

fn put_field(tag: u32, bytes: &[u8], message: &mut Vec<u8>) {
    encoding::encode_key(tag, WireType::LengthDelimited, message);
    encoding::encode_varint(bytes.len() as u64, message);
    message.extend_from_slice(bytes);
}

fn without(message: Bytes, cuts: &[Range<usize>]) -> Bytes {
    if cuts.is_empty() {
        return message;
    }
    let mut kept = Vec::with_capacity(message.len());
    let mut from = 0;
    for cut in cuts {
        kept.extend_from_slice(&message[from..cut.start]);
        from = cut.end;
    }
    kept.extend_from_slice(&message[from..]);
    kept.into()
}

fn attribute(mut entry: &[u8]) -> Result<(&str, &str), Violation> {
    let (mut key, mut value) = ("", "");
    while !entry.is_empty() {
        let (tag, wire_type) = encoding::decode_key(&mut entry).map_err(|_| malformed())?;
        match tag {
            KEY_TAG => key = text("attribute key", take_bytes(&mut entry, wire_type)?)?,
            VALUE_TAG => value = text("attribute value", take_bytes(&mut entry, wire_type)?)?,
            _ => encoding::skip_field(wire_type, tag, &mut entry, DecodeContext::default())
                .map_err(|_| malformed())?,
        }
    }
    Ok((key, value))
}

fn accept_attribute(entry: &[u8]) -> Result<(), Violation> {
    let (key, value) = attribute(entry)?;
    if key.is_empty() {
        return Err(Violation::argument("an attribute key is empty"));
    }
    // Every client's tracing writes googclient_ attributes.
    if key.starts_with("goog") && !key.starts_with("googclient_") {
        return Err(Violation::argument(format!(
            "the attribute key {key} begins with goog, which is reserved"
        )));
    }
    at_most("attribute_key_size", key.len(), ATTRIBUTE_KEY_BYTES_MAX)?;
    at_most(
        "attribute_value_size",
        value.len(),
        ATTRIBUTE_VALUE_BYTES_MAX,
    )
}

fn at_most(what: &'static str, given: usize, max: usize) -> Result<(), Violation> {
    if given > max {
        return Err(Violation::too_large(what, given, max));
    }
    Ok(())
}

fn text<'a>(what: &str, bytes: &'a [u8]) -> Result<&'a str, Violation> {
    std::str::from_utf8(bytes)
        .map_err(|_| Violation::argument(format!("a message's {what} is not valid UTF-8")))
}

fn take_bytes<'a>(rest: &mut &'a [u8], wire_type: WireType) -> Result<&'a [u8], Violation> {
    if wire_type != WireType::LengthDelimited {
        return Err(malformed());
    }
    let len = encoding::decode_varint(rest).map_err(|_| malformed())?;
    let len = usize::try_from(len).map_err(|_| malformed())?;
    let (taken, left) = rest.split_at_checked(len).ok_or_else(malformed)?;
    *rest = left;
    Ok(taken)
}

fn malformed() -> Violation {
    Violation::argument("a message in the publish request is not a valid PubsubMessage")
}

/// Ids of the largest numbers, a time, and what stands before them.
const SERVER_FIELDS_BYTES_MAX: usize = 80;

/// The fields that the server adds to a message when it is sent, encoded: its id and its publish time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerFields {
    /// Not a vector: there is one of these for each message that is on its way out.
    bytes: [u8; SERVER_FIELDS_BYTES_MAX],
    len: usize,
}

impl ServerFields {
    /// Those of the message at `offset`.
    pub fn new(ids: &MessageIds, offset: u64, publish_time: Timestamp) -> Self {
        let mut fields = Self::default();
        let mut free = &mut fields.bytes[..];
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(offset);
        encoding::encode_key(MESSAGE_ID_TAG, WireType::LengthDelimited, &mut free);
        encoding::encode_varint((ids.prefix.len() + digits.len()) as u64, &mut free);
        free.put_slice(ids.prefix.as_bytes());
        free.put_slice(digits.as_bytes());
        let millis = publish_time.as_millis();
        let time = prost_types::Timestamp {
            seconds: i64::try_from(millis / 1000).unwrap_or(i64::MAX),
            nanos: (millis % 1000) as i32 * 1_000_000,
        };
        encoding::message::encode(PUBLISH_TIME_TAG, &time, &mut free);
        fields.len = SERVER_FIELDS_BYTES_MAX - free.len();
        fields
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Default for ServerFields {
    fn default() -> Self {
        Self {
            bytes: [0; SERVER_FIELDS_BYTES_MAX],
            len: 0,
        }
    }
}

/// The ids of the messages of one partition: decimal digits, unique in the store for ever.
///
/// Topic incarnation and partition each come behind the number of their digits, so that no two messages share an
/// id whatever their numbers are.
#[derive(Clone, Debug)]
pub struct MessageIds {
    /// What all of them begin with.
    prefix: String,
}

impl MessageIds {
    /// The ids of this partition of the topic.
    pub fn new(topic: TopicIncarnation, partition: u32) -> Self {
        let topic = topic.0.to_string();
        let partition = partition.to_string();
        // An incarnation of ten and more digits would need ten billion topics in one store.
        let prefix = format!(
            "{}{topic}{}{partition}",
            topic.len() % 10,
            partition.len() % 10
        );
        Self { prefix }
    }

    /// The id of the message at `offset`.
    pub fn id(&self, offset: u64) -> String {
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(offset);
        let mut id = String::with_capacity(self.prefix.len() + digits.len());
        id.push_str(&self.prefix);
        id.push_str(digits);
        id
    }
}

const ACK_ID_TAG: u32 = 1;
const MESSAGE_TAG: u32 = 2;
const DELIVERY_ATTEMPT_TAG: u32 = 3;

impl ReceivedMessage {
    fn message_len(&self) -> usize {
        self.message.len() + self.server_fields.len
    }
}

impl Message for ReceivedMessage {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        if !self.ack_id.is_empty() {
            encoding::string::encode(ACK_ID_TAG, &self.ack_id, buf);
        }
        encoding::encode_key(MESSAGE_TAG, WireType::LengthDelimited, buf);
        encoding::encode_varint(self.message_len() as u64, buf);
        buf.put_slice(&self.message);
        buf.put_slice(self.server_fields.as_bytes());
        if self.delivery_attempt != 0 {
            encoding::int32::encode(DELIVERY_ATTEMPT_TAG, &self.delivery_attempt, buf);
        }
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        match tag {
            ACK_ID_TAG => encoding::string::merge(wire_type, &mut self.ack_id, buf, ctx),
            MESSAGE_TAG => encoding::bytes::merge(wire_type, &mut self.message, buf, ctx),
            DELIVERY_ATTEMPT_TAG => {
                encoding::int32::merge(wire_type, &mut self.delivery_attempt, buf, ctx)
            }
            _ => encoding::skip_field(wire_type, tag, buf, ctx),
        }
    }

    fn encoded_len(&self) -> usize {
        let ack_id = if self.ack_id.is_empty() {
            0
        } else {
            encoding::string::encoded_len(ACK_ID_TAG, &self.ack_id)
        };
        let message = encoding::key_len(MESSAGE_TAG)
            + encoding::encoded_len_varint(self.message_len() as u64)
            + self.message_len();
        let attempt = if self.delivery_attempt == 0 {
            0
        } else {
            encoding::int32::encoded_len(DELIVERY_ATTEMPT_TAG, &self.delivery_attempt)
        };
        ack_id + message + attempt
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::proto::google::pubsub::v1::PubsubMessage;

    fn message() -> PubsubMessage {
        PubsubMessage {
            data: Bytes::from_static(b"hello"),
            attributes: [("k".to_owned(), "v".to_owned())].into(),
            ordering_key: "key".to_owned(),
            ..PubsubMessage::default()
        }
    }

    #[test]
    fn an_accepted_message_is_the_same_slice() {
        let bytes = Bytes::from(message().encode_to_vec());
        let accepted = accept(bytes.clone()).expect("accepted");
        assert_eq!(accepted.as_ptr(), bytes.as_ptr());
        assert_eq!(accepted, bytes);
    }

    #[test]
    fn messages_are_copied_when_their_request_held_much_else() {
        let message = Bytes::from(vec![7; 700]);
        for (request_bytes, is_copied) in [(1_400, false), (1_600, false), (1_601, true)] {
            let kept = compact(vec![message.clone(); 2], request_bytes);
            assert_eq!(kept, [message.clone(), message.clone()]);
            assert_eq!(
                kept[0].as_ptr() != message.as_ptr(),
                is_copied,
                "{request_bytes}"
            );
        }
    }

    #[test]
    fn what_only_the_server_sets_is_replaced_by_the_servers_values() {
        let sent = PubsubMessage {
            message_id: "mine".to_owned(),
            publish_time: Some(prost_types::Timestamp {
                seconds: 1,
                nanos: 5,
            }),
            ..message()
        };
        let stored = accept(sent.encode_to_vec().into()).expect("accepted");
        let ids = MessageIds::new(TopicIncarnation(5), 0);
        let received = ReceivedMessage {
            ack_id: "a".to_owned(),
            message: stored,
            server_fields: ServerFields::new(&ids, 17, Timestamp::from_millis(2_003)),
            delivery_attempt: 0,
        };
        let wire = Bytes::from(received.encode_to_vec());
        assert_eq!(wire.len(), received.encoded_len());
        let read = ReceivedMessage::decode(wire).expect("decodes");
        let expected = PubsubMessage {
            message_id: ids.id(17),
            publish_time: Some(prost_types::Timestamp {
                seconds: 2,
                nanos: 3_000_000,
            }),
            ..message()
        };
        assert_eq!(
            PubsubMessage::decode(read.message).expect("decodes"),
            expected
        );
    }

    #[test]
    fn a_message_is_taken_apart_and_put_together_again() {
        let sent = PubsubMessage {
            attributes: [("k", "v"), ("empty", "")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            ..message()
        };
        let encoded = sent.encode_to_vec();
        let parts = parts(&encoded).expect("parts");
        assert_eq!((parts.data, parts.ordering_key), (&b"hello"[..], "key"));
        assert_eq!(parts.attributes.len(), 2);
        let again = encode(&parts);
        assert_eq!(again.len(), encoded.len() + 2, "an empty value is written");
        assert_eq!(PubsubMessage::decode(again), Ok(sent));
        assert!(encode(&Parts::default()).is_empty());
    }

    #[test]
    fn ids_differ_whatever_the_numbers_are() {
        let ids = [(1, 1, 11), (1, 11, 1), (11, 1, 1), (1, 111, 0), (111, 1, 0)].map(
            |(topic, partition, offset)| {
                MessageIds::new(TopicIncarnation(topic), partition).id(offset)
            },
        );
        assert_eq!(
            ids.iter().collect::<std::collections::HashSet<_>>().len(),
            5
        );
        assert!(ids.iter().all(|id| id.bytes().all(|b| b.is_ascii_digit())));
    }

    #[test]
    fn the_largest_numbers_have_room() {
        let ids = MessageIds::new(TopicIncarnation(u64::MAX), u32::MAX);
        let fields = ServerFields::new(&ids, u64::MAX, Timestamp::from_millis(u64::MAX));
        let read = PubsubMessage::decode(fields.as_bytes()).expect("decodes");
        assert_eq!(read.message_id, ids.id(u64::MAX));
    }

    proptest! {
        #[test]
        fn any_bytes_are_accepted_as_prost_would_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(accepted) = accept(bytes.into()) {
                let decoded = PubsubMessage::decode(accepted.clone());
                prop_assert!(decoded.is_ok());
                let parts = parts(&accepted);
                prop_assert!(parts.is_ok());
                if let (Ok(decoded), Ok(parts)) = (decoded, parts) {
                    let again = PubsubMessage::decode(encode(&parts));
                    prop_assert_eq!(again, Ok(decoded));
                }
            }
        }
    }
}
