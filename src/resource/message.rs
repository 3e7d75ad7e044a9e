//! A message's encoded bytes. The only file that knows where in them something lies, and what is appended when
//! they are sent.
//!
//! A published message is validated by one scan and kept as it came. When it is delivered, its id and publish
//! time are appended as further fields, which in protobuf yields one valid message. That is why a publisher's own
//! values of these fields are cut at the edge: a repeated sub-message would merge with ours.

use bytes::{Buf, BufMut, Bytes};
use prost::{
    DecodeError, Message,
    encoding::{self, DecodeContext, WireType},
};

use crate::{clock::Timestamp, resource::id::TopicIncarnation};

/// Stands for `google.pubsub.v1.ReceivedMessage` in the generated code: the same on the wire, its inner message
/// kept encoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReceivedMessage {
    /// Acknowledges this delivery.
    pub ack_id: String,
    /// The message as it was published, encoded; on the receiving side, all of it.
    pub message: Bytes,
    /// Encoded fields that only the server sets, sent right behind `message`.
    pub server_fields: Vec<u8>,
    /// How often the message was delivered, this time included; 0 without a dead letter policy.
    pub delivery_attempt: i32,
}

const MESSAGE_ID_TAG: u32 = 3;
const PUBLISH_TIME_TAG: u32 = 4;

/// The fields that the server adds to a message: its id and its publish time, encoded.
pub fn server_fields(message_id: &str, publish_time: Timestamp) -> Vec<u8> {
    let millis = publish_time.as_millis();
    let time = prost_types::Timestamp {
        seconds: i64::try_from(millis / 1000).unwrap_or(i64::MAX),
        nanos: (millis % 1000) as i32 * 1_000_000,
    };
    let mut fields = Vec::with_capacity(message_id.len() + 24);
    encoding::string::encode(MESSAGE_ID_TAG, &message_id.to_owned(), &mut fields);
    encoding::message::encode(PUBLISH_TIME_TAG, &time, &mut fields);
    fields
}

/// The id of a message: decimal digits, unique in the store for ever.
///
/// Topic incarnation and partition each come behind the number of their digits, so that no two messages share an
/// id whatever their numbers are.
pub fn message_id(topic: TopicIncarnation, partition: u32, offset: u64) -> String {
    let topic = topic.0.to_string();
    let partition = partition.to_string();
    // An incarnation of ten and more digits would need ten billion topics in one store.
    format!(
        "{}{topic}{}{partition}{offset}",
        topic.len() % 10,
        partition.len() % 10
    )
}

const ACK_ID_TAG: u32 = 1;
const MESSAGE_TAG: u32 = 2;
const DELIVERY_ATTEMPT_TAG: u32 = 3;

impl ReceivedMessage {
    fn message_len(&self) -> usize {
        self.message.len() + self.server_fields.len()
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
        buf.put_slice(&self.server_fields);
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
