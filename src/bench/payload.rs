//! What the generator sends and reads: publish requests from a template, and the mark that each message carries.

use bytes::{BufMut, Bytes, BytesMut};
use prost::encoding::{WireType, decode_key, decode_varint, encode_key, encode_varint};

use super::{
    connection::HEAD_BYTES,
    filters::{ATTRIBUTE, Filters},
    keys::{KEY_BYTES, Keys},
};

/// Bytes of a message's mark, so the smallest message.
pub const MARK_BYTES: usize = 32;
const MAGIC: u64 = 0x7061_636b_6574_626f;

/// What a message says of itself, in the first bytes of its data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mark {
    /// The run that published it.
    pub(super) run: u32,
    /// Which of the run's publishers.
    pub(super) publisher: u32,
    /// The how-manieth message of this publisher to this topic.
    pub(super) sequence: u64,
    /// Microseconds from the run's start to the moment at which it was due.
    pub(super) sent_micros: u64,
}

impl Mark {
    fn to_bytes(self) -> [u8; MARK_BYTES] {
        let mut bytes = [0; MARK_BYTES];
        let mut free = &mut bytes[..];
        free.put_u64(MAGIC);
        free.put_u32(self.run);
        free.put_u32(self.publisher);
        free.put_u64(self.sequence);
        free.put_u64(self.sent_micros);
        bytes
    }

    fn from_data(data: &[u8]) -> Option<Self> {
        let word = |at: usize| Some(u64::from_be_bytes(*data.get(at..)?.first_chunk()?));
        if word(0)? != MAGIC {
            return None;
        }
        let ids = word(8)?;
        Some(Self {
            run: (ids >> 32) as u32,
            publisher: ids as u32,
            sequence: word(16)?,
            sent_micros: word(24)?,
        })
    }
}

/// A framed PublishRequest in which only the marks, the ordering keys and the topic change.
#[derive(Clone, Debug)]
pub(super) struct Template {
    bytes: Vec<u8>,
    /// Where the marks are.
    marks: Vec<usize>,
    keys: Keys,
    /// Where a message's key is, from its mark on, if it has one.
    key_at: Option<usize>,
}

impl Template {
    /// `batch` messages of `data_bytes` each, at least [`MARK_BYTES`], and with what `filters` and `keys` ask for.
    pub(super) fn new(batch: usize, data_bytes: usize, filters: Filters, keys: Keys) -> Self {
        let mut data = vec![0; MARK_BYTES];
        data.extend(noise(data_bytes.saturating_sub(MARK_BYTES)));
        let mut message = Vec::with_capacity(data.len() + 8);
        put_field(1, &data, &mut message);
        let data_at = message.len() - data.len();
        let key_at = (keys != Keys::None).then(|| {
            put_field(5, &[0; KEY_BYTES], &mut message);
            message.len() - KEY_BYTES - data_at
        });
        let without_attribute = message.len();

        let mut bytes = vec![0; HEAD_BYTES];
        let marks = (0..batch)
            .map(|at| {
                if filters != Filters::None {
                    message.truncate(without_attribute);
                    let mut attribute = Vec::new();
                    put_field(1, ATTRIBUTE.as_bytes(), &mut attribute);
                    put_field(2, Filters::part(at).as_bytes(), &mut attribute);
                    put_field(2, &attribute, &mut message);
                }
                put_field(2, &message, &mut bytes);
                bytes.len() - message.len() + data_at
            })
            .collect();
        Self {
            bytes,
            marks,
            keys,
            key_at,
        }
    }

    /// The request to `topic` with so many messages, at most as many as it was made of, whose first one has the mark
    /// `first`; the others follow it.
    pub(super) fn request(&self, topic: &str, first: Mark, messages: usize) -> Bytes {
        let message_bytes = (self.bytes.len() - HEAD_BYTES) / self.marks.len();
        let messages_end = HEAD_BYTES + message_bytes * messages;
        let mut bytes = Vec::with_capacity(messages_end + topic.len() + 8);
        bytes.extend_from_slice(&self.bytes[..messages_end]);
        for (&at, sequence) in self.marks[..messages].iter().zip(first.sequence..) {
            let mark = Mark { sequence, ..first };
            bytes[at..at + MARK_BYTES].copy_from_slice(&mark.to_bytes());
            if let Some(key_at) = self.key_at {
                let key = self.keys.key(mark.publisher, sequence);
                bytes[at + key_at..][..KEY_BYTES].copy_from_slice(&key);
            }
        }
        put_field(1, topic.as_bytes(), &mut bytes);
        set_head(&mut bytes);
        bytes.into()
    }
}

/// Bytes that do not compress, the same in each run.
fn noise(len: usize) -> impl Iterator<Item = u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    })
    .take(len)
}

/// A message in a frame of its own.
pub(super) fn framed(message: &impl prost::Message) -> Bytes {
    let mut bytes = vec![0; HEAD_BYTES];
    message
        .encode(&mut bytes)
        .expect("a vector grows as needed");
    set_head(&mut bytes);
    bytes.into()
}

/// A frame whose message is a list of ack ids.
#[derive(Debug)]
pub(super) struct AckFrame {
    bytes: BytesMut,
    field: u32,
}

impl AckFrame {
    /// Ack ids are field `field` of the message, which begins with `start`.
    pub(super) fn new(field: u32, start: &[u8]) -> Self {
        let mut bytes = BytesMut::with_capacity(8 * 1024);
        bytes.put_bytes(0, HEAD_BYTES);
        bytes.put_slice(start);
        Self { bytes, field }
    }

    /// Adds an id.
    pub(super) fn push(&mut self, ack_id: &[u8]) {
        put_field(self.field, ack_id, &mut self.bytes);
    }

    /// The frame.
    pub(super) fn finish(mut self) -> Bytes {
        set_head(&mut self.bytes);
        self.bytes.freeze()
    }
}

fn set_head(frame: &mut [u8]) {
    let len = (frame.len() - HEAD_BYTES) as u32;
    frame[1..HEAD_BYTES].copy_from_slice(&len.to_be_bytes());
}

/// Appends a field of bytes.
pub(super) fn put_field(number: u32, value: &[u8], buffer: &mut impl BufMut) {
    encode_key(number, WireType::LengthDelimited, buffer);
    encode_varint(value.len() as u64, buffer);
    buffer.put_slice(value);
}

/// The byte fields of an encoded message, in their order; ends early at the first broken one.
pub(super) fn fields(mut bytes: &[u8]) -> impl Iterator<Item = (u32, &[u8])> {
    std::iter::from_fn(move || {
        while !bytes.is_empty() {
            let (number, wire_type) = decode_key(&mut bytes).ok()?;
            let skipped = match wire_type {
                WireType::LengthDelimited => {
                    let len = usize::try_from(decode_varint(&mut bytes).ok()?).ok()?;
                    let (value, rest) = bytes.split_at_checked(len)?;
                    bytes = rest;
                    return Some((number, value));
                }
                WireType::Varint => {
                    decode_varint(&mut bytes).ok()?;
                    0
                }
                WireType::ThirtyTwoBit => 4,
                WireType::SixtyFourBit => 8,
                WireType::StartGroup | WireType::EndGroup => return None,
            };
            bytes = bytes.get(skipped..)?;
        }
        None
    })
}

/// The ack id and the mark of an encoded ReceivedMessage; no mark if it is not one of ours.
pub(super) fn received(message: &[u8]) -> (&[u8], Option<Mark>) {
    let (mut ack_id, mut mark) = (&[][..], None);
    for (number, value) in fields(message) {
        match number {
            1 => ack_id = value,
            2 => {
                mark = fields(value)
                    .find(|field| field.0 == 1)
                    .and_then(|field| Mark::from_data(field.1));
            }
            _ => {}
        }
    }
    (ack_id, mark)
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::proto::google::pubsub::v1::{PublishRequest, PubsubMessage};

    #[test]
    fn a_template_makes_requests_whose_messages_carry_their_marks() {
        let first = Mark {
            run: 7,
            publisher: 3,
            sequence: 40,
            sent_micros: 99,
        };
        let frame = Template::new(4, 100, Filters::Tenth, Keys::Many(2)).request(
            "projects/p/topics/t",
            first,
            3,
        );
        assert_eq!(frame[1..HEAD_BYTES], (frame.len() as u32 - 5).to_be_bytes());
        let request = PublishRequest::decode(&frame[HEAD_BYTES..]).expect("a valid request");
        assert_eq!(request.topic, "projects/p/topics/t");
        for (sequence, message) in (40..).zip(&request.messages) {
            let message = PubsubMessage::decode(message.clone()).expect("a valid message");
            assert_eq!(message.data.len(), 100);
            assert_eq!(
                Mark::from_data(&message.data),
                Some(Mark { sequence, ..first })
            );
            let part = Filters::part((sequence - 40) as usize);
            assert_eq!(message.attributes[ATTRIBUTE], part);
            let key = Keys::Many(2).key(3, sequence);
            assert_eq!(message.ordering_key.as_bytes(), key);
        }
        assert_eq!(request.messages.len(), 3);
    }

    #[test]
    fn a_message_of_somebody_else_has_no_mark() {
        let mut received_message = Vec::new();
        put_field(1, b"ack", &mut received_message);
        let mut message = Vec::new();
        put_field(1, &[1; 64], &mut message);
        put_field(2, &message, &mut received_message);
        assert_eq!(received(&received_message), (&b"ack"[..], None));
    }
}
