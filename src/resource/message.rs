//! A message's encoded bytes. Nothing outside of this module knows where in them something lies, or what is appended
//! when they are sent.
//!
//! A published message is validated by one scan and stored as it came. When it is delivered, its id and publish
//! time are appended as further fields, which in protobuf yields one valid message. That is why a publisher's own
//! values of these fields are cut at the edge: a repeated sub-message would merge with ours.

mod accepted;
mod checksum;
mod dead_letter;
mod layout;
mod parts;
#[cfg(test)]
mod tests;

use bytes::{Buf, BufMut, Bytes};
use prost::{
    DecodeError, Message,
    encoding::{self, DecodeContext, WireType},
};

pub use self::{
    accepted::{AcceptedMessages, check_decodable},
    checksum::checksum,
    dead_letter::{
        DEAD_LETTER_ATTRIBUTES, SOURCE_PROJECT, SOURCE_SUBSCRIPTION, Source, dead_letter,
    },
    layout::{Layouts, ScannedMessage},
    parts::{Parts, encode},
};
use super::id::TopicIncarnation;
use crate::clock::Timestamp;

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
