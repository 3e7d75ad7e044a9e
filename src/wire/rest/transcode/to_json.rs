//! Protobuf → JSON, in one pass: an answer's bytes are read where they lie (docs/behaviour.md, section 20.2).

use std::{borrow::Cow, collections::BTreeMap};

use base64::{Engine, engine::general_purpose::STANDARD};
use prost::{Message as _, encoding::WireType};
use prost_reflect::{DescriptorPool, FieldDescriptor, Kind, MessageDescriptor};
use prost_types::{Any, Duration, FieldMask, Timestamp};
use serde::{
    Serialize, Serializer,
    ser::{Error, SerializeMap, SerializeSeq},
};

use super::{
    scalar::{DURATION, FIELD_MASK, TIMESTAMP},
    selection::Selection,
    structure::Structure,
    wire_fields::{Broken, Raw, fields, raw},
};

const ANY: &str = "google.protobuf.Any";

/// How a client wants its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Style {
    /// On many lines, with two spaces before what is inside.
    pub pretty: bool,
    /// Enums as numbers instead of names.
    pub enum_numbers: bool,
    /// What of the answer is wanted.
    pub selection: Selection,
}

impl Default for Style {
    fn default() -> Self {
        Self {
            pretty: true,
            enum_numbers: false,
            selection: Selection::default(),
        }
    }
}

/// The JSON of any value, in that style, with a line's end behind it.
///
/// # Errors
/// The value holds an encoded message that is damaged.
pub fn write(value: &impl Serialize, style: &Style) -> Result<Vec<u8>, serde_json::Error> {
    let mut json = if style.pretty {
        serde_json::to_vec_pretty(value)?
    } else {
        serde_json::to_vec(value)?
    };
    json.push(b'\n');
    Ok(json)
}

/// An encoded message as JSON.
#[derive(Clone, Copy, Debug)]
pub struct Encoded<'a> {
    /// Its type.
    pub message: &'a MessageDescriptor,
    /// Its bytes.
    pub bytes: &'a [u8],
    /// How it is wanted.
    pub style: &'a Style,
    /// What of it is wanted.
    pub selection: &'a Selection,
}

impl<'a> Encoded<'a> {
    /// The whole answer.
    pub fn new(message: &'a MessageDescriptor, bytes: &'a [u8], style: &'a Style) -> Self {
        Self {
            message,
            bytes,
            style,
            selection: &style.selection,
        }
    }

    /// The fields of the message, into the object that is open.
    fn fields<M: SerializeMap>(&self, object: &mut M) -> Result<(), M::Error> {
        let values = fields(self.bytes).map_err(M::Error::custom)?;
        for values in values.chunk_by(|one, other| one.0 == other.0) {
            let Some(field) = self.message.get_field(values[0].0) else {
                continue;
            };
            let Some(selection) = self.selection.within(field.json_name()) else {
                continue;
            };
            let name = field.json_name();
            let style = self.style;
            let shown = Shown {
                field: &field,
                style,
                selection,
            };
            if field.is_map() {
                object.serialize_entry(name, &Entries { shown, values })?;
            } else if field.is_list() {
                let elements = Elements { shown, values };
                if !elements.is_empty() {
                    object.serialize_entry(name, &elements)?;
                }
            } else {
                let value = last(values, &field);
                if field.supports_presence() || !is_default(&value) {
                    object.serialize_entry(name, &Value { shown, raw: value })?;
                }
            }
        }
        Ok(())
    }
}

/// The value that counts when a field came more than once: messages are merged, of anything else the last one holds.
fn last<'a>(values: &[(u32, Raw<'a>)], field: &FieldDescriptor) -> Merged<'a> {
    let last = values.last().map_or(Raw::Varint(0), |(_, raw)| *raw);
    if values.len() == 1 || !matches!(field.kind(), Kind::Message(_)) {
        return Merged::One(last);
    }
    let parts = values.iter().filter_map(|(_, raw)| match raw {
        Raw::Bytes(bytes) => Some(*bytes),
        _ => None,
    });
    Merged::Several(parts.collect::<Vec<_>>().concat())
}

/// One value, or the parts of a message one behind the other, which is the same as all of them merged.
enum Merged<'a> {
    One(Raw<'a>),
    Several(Vec<u8>),
}

impl Merged<'_> {
    fn raw(&self) -> Raw<'_> {
        match self {
            Self::One(raw) => *raw,
            Self::Several(bytes) => Raw::Bytes(bytes),
        }
    }
}

fn is_default(value: &Merged<'_>) -> bool {
    match value.raw() {
        Raw::Varint(number) => number == 0,
        Raw::Fixed64(bytes) => bytes == [0; 8],
        Raw::Fixed32(bytes) => bytes == [0; 4],
        Raw::Bytes(bytes) => bytes.is_empty(),
    }
}

impl Serialize for Encoded<'_> {
    fn serialize<S: Serializer>(&self, json: S) -> Result<S::Ok, S::Error> {
        let name = self.message.full_name();
        let text = match name {
            TIMESTAMP => Timestamp::decode(self.bytes).map(|time| time.to_string()),
            DURATION => Duration::decode(self.bytes).map(|duration| duration.to_string()),
            FIELD_MASK => FieldMask::decode(self.bytes).map(|mask| camel_case(&mask)),
            ANY => return any(self, json),
            name => {
                if let Some(structure) = Structure::decode(name, self.bytes) {
                    return structure.map_err(S::Error::custom)?.serialize(json);
                }
                let mut object = json.serialize_map(None)?;
                self.fields(&mut object)?;
                return object.end();
            }
        };
        json.serialize_str(&text.map_err(S::Error::custom)?)
    }
}

/// A message of a type that is told beside it. One of a type that is not known here keeps its bytes.
fn any<S: Serializer>(encoded: &Encoded<'_>, json: S) -> Result<S::Ok, S::Error> {
    let any = Any::decode(encoded.bytes).map_err(S::Error::custom)?;
    let mut object = json.serialize_map(None)?;
    object.serialize_entry("@type", &any.type_url)?;
    let pool: &DescriptorPool = encoded.message.parent_pool();
    let name = any.type_url.rsplit('/').next().unwrap_or_default();
    match pool.get_message_by_name(name) {
        Some(message) => {
            let inner = Encoded {
                message: &message,
                bytes: &any.value,
                ..*encoded
            };
            inner.fields(&mut object)?;
        }
        None => object.serialize_entry("value", &STANDARD.encode(&any.value))?,
    }
    object.end()
}

fn camel_case(mask: &FieldMask) -> String {
    let mut text = String::new();
    for path in &mask.paths {
        if !text.is_empty() {
            text.push(',');
        }
        let mut after_underscore = false;
        for character in path.chars() {
            match character {
                '_' => after_underscore = true,
                character if after_underscore => {
                    text.push(character.to_ascii_uppercase());
                    after_underscore = false;
                }
                character => text.push(character),
            }
        }
    }
    text
}

/// A field and how it is wanted.
#[derive(Clone, Copy)]
struct Shown<'a> {
    field: &'a FieldDescriptor,
    style: &'a Style,
    selection: &'a Selection,
}

struct Value<'a> {
    shown: Shown<'a>,
    raw: Merged<'a>,
}

impl Serialize for Value<'_> {
    fn serialize<S: Serializer>(&self, json: S) -> Result<S::Ok, S::Error> {
        let Shown {
            field,
            style,
            selection,
        } = self.shown;
        match (field.kind(), self.raw.raw()) {
            (Kind::Int32 | Kind::Sfixed32, raw) => {
                json.serialize_i32(signed::<S::Error>(raw)? as i32)
            }
            (Kind::Uint32 | Kind::Fixed32, raw) => {
                json.serialize_u32(unsigned::<S::Error>(raw)? as u32)
            }
            (Kind::Sint32, raw) => json.serialize_i32(unzigzag(unsigned::<S::Error>(raw)?) as i32),
            (Kind::Int64 | Kind::Sfixed64, raw) => json.collect_str(&signed::<S::Error>(raw)?),
            (Kind::Uint64 | Kind::Fixed64, raw) => json.collect_str(&unsigned::<S::Error>(raw)?),
            (Kind::Sint64, raw) => json.collect_str(&unzigzag(unsigned::<S::Error>(raw)?)),
            (Kind::Bool, Raw::Varint(number)) => json.serialize_bool(number != 0),
            (Kind::Double, Raw::Fixed64(bytes)) => float(f64::from_le_bytes(bytes), json),
            (Kind::Float, Raw::Fixed32(bytes)) => match f32::from_le_bytes(bytes) {
                number if number.is_finite() => json.serialize_f32(number),
                number => float(number.into(), json),
            },
            (Kind::String, Raw::Bytes(bytes)) => {
                json.serialize_str(std::str::from_utf8(bytes).map_err(S::Error::custom)?)
            }
            (Kind::Bytes, Raw::Bytes(bytes)) => json.serialize_str(&STANDARD.encode(bytes)),
            (Kind::Enum(values), Raw::Varint(number)) => {
                let number = number as i32;
                match values.get_value(number).filter(|_| !style.enum_numbers) {
                    Some(value) => json.serialize_str(value.name()),
                    None => json.serialize_i32(number),
                }
            }
            (Kind::Message(message), Raw::Bytes(bytes)) => Encoded {
                message: &message,
                bytes,
                style,
                selection,
            }
            .serialize(json),
            _ => Err(S::Error::custom("a field has the wire type of another")),
        }
    }
}

fn signed<E: Error>(raw: Raw<'_>) -> Result<i64, E> {
    match raw {
        Raw::Varint(number) => Ok(number.cast_signed()),
        Raw::Fixed64(bytes) => Ok(i64::from_le_bytes(bytes)),
        Raw::Fixed32(bytes) => Ok(i32::from_le_bytes(bytes).into()),
        Raw::Bytes(_) => Err(E::custom("a number is expected")),
    }
}

fn unsigned<E: Error>(raw: Raw<'_>) -> Result<u64, E> {
    match raw {
        Raw::Varint(number) => Ok(number),
        Raw::Fixed64(bytes) => Ok(u64::from_le_bytes(bytes)),
        Raw::Fixed32(bytes) => Ok(u32::from_le_bytes(bytes).into()),
        Raw::Bytes(_) => Err(E::custom("a number is expected")),
    }
}

const fn unzigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -((number & 1).cast_signed())
}

fn float<S: Serializer>(number: f64, json: S) -> Result<S::Ok, S::Error> {
    match number {
        number if number.is_finite() => json.serialize_f64(number),
        number if number.is_nan() => json.serialize_str("NaN"),
        number if number > 0.0 => json.serialize_str("Infinity"),
        _ => json.serialize_str("-Infinity"),
    }
}

/// A map's entries, in the order of their keys.
struct Entries<'a> {
    shown: Shown<'a>,
    values: &'a [(u32, Raw<'a>)],
}

impl Serialize for Entries<'_> {
    fn serialize<S: Serializer>(&self, json: S) -> Result<S::Ok, S::Error> {
        let Kind::Message(entry) = self.shown.field.kind() else {
            return Err(S::Error::custom("a map has entries"));
        };
        let (key_field, value_field) = (entry.map_entry_key_field(), entry.map_entry_value_field());
        let mut entries = BTreeMap::new();
        for (_, raw) in self.values {
            let Raw::Bytes(bytes) = *raw else {
                return Err(S::Error::custom("an entry is a message"));
            };
            let parts = fields(bytes).map_err(S::Error::custom)?;
            let part = |number| parts.iter().rev().find(|(key, _)| *key == number);
            let key = key(&key_field, part(1).map(|(_, raw)| *raw)).map_err(S::Error::custom)?;
            entries.insert(key, part(2).map(|(_, raw)| *raw));
        }
        let mut object = json.serialize_map(Some(entries.len()))?;
        for (key, raw) in entries {
            let raw = Merged::One(raw.unwrap_or_else(|| nothing(&value_field)));
            let shown = Shown {
                field: &value_field,
                ..self.shown
            };
            object.serialize_entry(&key, &Value { shown, raw })?;
        }
        object.end()
    }
}

/// The key of an entry as text.
fn key<'a>(field: &FieldDescriptor, raw: Option<Raw<'a>>) -> Result<Cow<'a, str>, Broken> {
    let raw = raw.unwrap_or_else(|| nothing(field));
    Ok(match (field.kind(), raw) {
        (Kind::String, Raw::Bytes(bytes)) => std::str::from_utf8(bytes).map_err(|_| Broken)?.into(),
        (Kind::Bool, Raw::Varint(number)) => (number != 0).to_string().into(),
        (Kind::Sint32 | Kind::Sint64, Raw::Varint(number)) => unzigzag(number).to_string().into(),
        (Kind::Uint32 | Kind::Uint64, Raw::Varint(number)) => number.to_string().into(),
        (Kind::Int32 | Kind::Int64, Raw::Varint(number)) => number.cast_signed().to_string().into(),
        (Kind::Fixed32, Raw::Fixed32(bytes)) => u32::from_le_bytes(bytes).to_string().into(),
        (Kind::Sfixed32, Raw::Fixed32(bytes)) => i32::from_le_bytes(bytes).to_string().into(),
        (Kind::Fixed64, Raw::Fixed64(bytes)) => u64::from_le_bytes(bytes).to_string().into(),
        (Kind::Sfixed64, Raw::Fixed64(bytes)) => i64::from_le_bytes(bytes).to_string().into(),
        _ => return Err(Broken),
    })
}

/// The value that a field has when none was written.
fn nothing(field: &FieldDescriptor) -> Raw<'static> {
    match wire_type(field) {
        WireType::SixtyFourBit => Raw::Fixed64([0; 8]),
        WireType::ThirtyTwoBit => Raw::Fixed32([0; 4]),
        WireType::LengthDelimited => Raw::Bytes(&[]),
        _ => Raw::Varint(0),
    }
}

fn wire_type(field: &FieldDescriptor) -> WireType {
    match field.kind() {
        Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => WireType::SixtyFourBit,
        Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => WireType::ThirtyTwoBit,
        Kind::String | Kind::Bytes | Kind::Message(_) => WireType::LengthDelimited,
        _ => WireType::Varint,
    }
}

/// A list's elements; numbers may lie in one value, packed.
struct Elements<'a> {
    shown: Shown<'a>,
    values: &'a [(u32, Raw<'a>)],
}

impl Elements<'_> {
    /// Whether there is none: a packed list may be empty.
    fn is_empty(&self) -> bool {
        let packed = wire_type(self.shown.field) != WireType::LengthDelimited;
        let empty = |(_, raw): &(u32, Raw<'_>)| *raw == Raw::Bytes(&[]);
        packed && self.values.iter().all(empty)
    }
}

impl Serialize for Elements<'_> {
    fn serialize<S: Serializer>(&self, json: S) -> Result<S::Ok, S::Error> {
        let wire_type = wire_type(self.shown.field);
        let mut list = json.serialize_seq(None)?;
        for (_, value) in self.values {
            let shown = self.shown;
            match *value {
                Raw::Bytes(mut packed) if wire_type != WireType::LengthDelimited => {
                    while !packed.is_empty() {
                        let raw = raw(&mut packed, wire_type).map_err(S::Error::custom)?;
                        let raw = Merged::One(raw);
                        list.serialize_element(&Value { shown, raw })?;
                    }
                }
                raw => {
                    let raw = Merged::One(raw);
                    list.serialize_element(&Value { shown, raw })?;
                }
            }
        }
        list.end()
    }
}
