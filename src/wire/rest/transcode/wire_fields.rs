//! Takes an encoded message apart without decoding what is inside its fields.

use bytes::Buf;
use prost::{
    DecodeError,
    encoding::{WireType, decode_key, decode_varint},
};
use thiserror::Error;

/// What was to be taken apart is not an encoded message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the answer is not an encoded message")]
pub struct Broken;

impl From<DecodeError> for Broken {
    fn from(_: DecodeError) -> Self {
        Self
    }
}

/// A field's value as it lies in the message.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Raw<'a> {
    /// An integer, bool or enum.
    Varint(u64),
    /// A fixed64, sfixed64 or double.
    Fixed64([u8; 8]),
    /// A fixed32, sfixed32 or float.
    Fixed32([u8; 4]),
    /// A string, bytes, a message, or several numbers.
    Bytes(&'a [u8]),
}

/// The fields of a message in the order of their numbers; equal ones in the order in which they came.
///
/// # Errors
/// It is not a message.
pub fn fields(mut encoded: &[u8]) -> Result<Vec<(u32, Raw<'_>)>, Broken> {
    let mut fields = Vec::new();
    while !encoded.is_empty() {
        let (number, wire_type) = decode_key(&mut encoded)?;
        fields.push((number, raw(&mut encoded, wire_type)?));
    }
    fields.sort_by_key(|(number, _)| *number);
    Ok(fields)
}

/// Takes the next value from what is encoded.
pub fn raw<'a>(encoded: &mut &'a [u8], wire_type: WireType) -> Result<Raw<'a>, Broken> {
    Ok(match wire_type {
        WireType::Varint => Raw::Varint(decode_varint(encoded)?),
        WireType::SixtyFourBit => Raw::Fixed64(array(encoded)?),
        WireType::ThirtyTwoBit => Raw::Fixed32(array(encoded)?),
        WireType::LengthDelimited => {
            let length = decode_varint(encoded)?;
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            let (value, rest) = encoded.split_at_checked(length).ok_or(Broken)?;
            *encoded = rest;
            Raw::Bytes(value)
        }
        WireType::StartGroup | WireType::EndGroup => return Err(Broken),
    })
}

fn array<const N: usize>(encoded: &mut &[u8]) -> Result<[u8; N], Broken> {
    let value = *encoded.first_chunk().ok_or(Broken)?;
    encoded.advance(N);
    Ok(value)
}
