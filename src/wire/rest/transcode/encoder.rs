//! Writes protobuf's wire format field by field, as a request is read.

use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};

/// An encoded message that grows.
#[derive(Debug, Default)]
pub struct Encoder {
    bytes: Vec<u8>,
}

impl Encoder {
    /// An empty message with room for so many bytes.
    pub fn with_capacity(bytes: usize) -> Self {
        let bytes = Vec::with_capacity(bytes);
        Self { bytes }
    }

    /// The message.
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }

    /// Where the next field goes.
    pub fn position(&self) -> usize {
        self.bytes.len()
    }

    /// Takes out again what was written from there on.
    pub fn rewind(&mut self, position: usize) {
        self.bytes.truncate(position);
    }

    /// Any integer, bool or enum.
    pub fn varint(&mut self, field: u32, value: u64) {
        encode_key(field, WireType::Varint, &mut self.bytes);
        encode_varint(value, &mut self.bytes);
    }

    /// A fixed64, sfixed64 or double.
    pub fn fixed64(&mut self, field: u32, value: [u8; 8]) {
        encode_key(field, WireType::SixtyFourBit, &mut self.bytes);
        self.bytes.extend_from_slice(&value);
    }

    /// A fixed32, sfixed32 or float.
    pub fn fixed32(&mut self, field: u32, value: [u8; 4]) {
        encode_key(field, WireType::ThirtyTwoBit, &mut self.bytes);
        self.bytes.extend_from_slice(&value);
    }

    /// A string, or bytes.
    pub fn bytes(&mut self, field: u32, value: &[u8]) {
        encode_key(field, WireType::LengthDelimited, &mut self.bytes);
        encode_varint(value.len() as u64, &mut self.bytes);
        self.bytes.extend_from_slice(value);
    }

    /// `length` bytes that `fill` writes; what fails is taken out again.
    pub fn filled<E>(
        &mut self,
        field: u32,
        length: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let before = self.bytes.len();
        encode_key(field, WireType::LengthDelimited, &mut self.bytes);
        encode_varint(length as u64, &mut self.bytes);
        let start = self.bytes.len();
        self.bytes.resize(start + length, 0);
        let filled = fill(&mut self.bytes[start..]);
        if filled.is_err() {
            self.bytes.truncate(before);
        }
        filled
    }

    /// Begins a message inside this one.
    pub fn begin(&mut self, field: u32) -> Nested {
        encode_key(field, WireType::LengthDelimited, &mut self.bytes);
        Nested(self.bytes.len())
    }

    /// Ends the message that was begun last: its length goes before it.
    pub fn end(&mut self, nested: &Nested) {
        let length = (self.bytes.len() - nested.0) as u64;
        let room = encoded_len_varint(length);
        let written = self.bytes.len();
        encode_varint(length, &mut self.bytes);
        self.bytes[nested.0..].rotate_right(room);
        debug_assert_eq!(self.bytes.len() - written, room);
    }
}

/// Where a message inside another one begins.
#[derive(Debug)]
pub struct Nested(usize);
