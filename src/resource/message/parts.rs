//! A message put together of its parts, for a log that stores messages in a form of its own.

use bytes::Bytes;
use prost::encoding::{self, WireType};

use super::{ATTRIBUTES_TAG, DATA_TAG, KEY_TAG, ORDERING_KEY_TAG, VALUE_TAG};

/// What a message is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parts<'a> {
    /// The payload.
    pub data: &'a [u8],
    /// Names with their values.
    pub attributes: Vec<(&'a str, &'a str)>,
    /// Empty when the message has none.
    pub ordering_key: &'a str,
}

/// Puts a message together, its attributes in this order.
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
