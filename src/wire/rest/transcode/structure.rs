//! `google.protobuf.Struct`, `Value` and `ListValue`: any JSON as protobuf, and back.

use std::{cell::Cell, fmt};

use prost::Message;
use prost_reflect::{FieldDescriptor, Kind};
use prost_types::value::Kind as ValueKind;
use serde::{
    Serialize, Serializer,
    de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor},
    ser::{SerializeMap, SerializeSeq},
};

use super::encoder::Encoder;
use crate::limits::STRUCTURE_VALUES_MAX;

const STRUCT: &str = "google.protobuf.Struct";
const VALUE: &str = "google.protobuf.Value";
const LIST: &str = "google.protobuf.ListValue";

/// Whether a message of that name is any JSON.
pub fn is_structure(name: &str) -> bool {
    [STRUCT, VALUE, LIST].contains(&name)
}

/// Reads a value of a field of such a type. Tells whether it is one: null is none, but for a `Value`.
pub fn read<'de, D: Deserializer<'de>>(
    to: &mut Encoder,
    field: &FieldDescriptor,
    json: D,
) -> Result<bool, D::Error> {
    let Kind::Message(message) = field.kind() else {
        return Err(D::Error::custom("a structure is a message"));
    };
    let left = Cell::new(STRUCTURE_VALUES_MAX);
    let read = Anything { left: &left }.deserialize(json)?;
    let encoded = match (message.full_name(), read.kind) {
        (VALUE, kind) => prost_types::Value { kind }.encode_to_vec(),
        (STRUCT, Some(ValueKind::StructValue(fields))) => fields.encode_to_vec(),
        (LIST, Some(ValueKind::ListValue(list))) => list.encode_to_vec(),
        (_, Some(ValueKind::NullValue(_))) => return Ok(false),
        (STRUCT, _) => return Err(D::Error::custom("an object is expected")),
        (_, _) => return Err(D::Error::custom("a list is expected")),
    };
    to.bytes(field.number(), &encoded);
    Ok(true)
}

/// Reads any JSON of few values: each takes many times the memory of its text.
#[derive(Clone, Copy)]
struct Anything<'a> {
    /// How many values there may still be.
    left: &'a Cell<usize>,
}

impl<'de> DeserializeSeed<'de> for Anything<'_> {
    type Value = prost_types::Value;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        let Some(left) = self.left.get().checked_sub(1) else {
            return Err(D::Error::custom(format!(
                "a structure has more than {STRUCTURE_VALUES_MAX} values"
            )));
        };
        self.left.set(left);
        json.deserialize_any(self)
    }
}

const fn value(kind: ValueKind) -> prost_types::Value {
    prost_types::Value { kind: Some(kind) }
}

impl<'de> Visitor<'de> for Anything<'_> {
    type Value = prost_types::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(value(ValueKind::NullValue(0)))
    }

    fn visit_bool<E: Error>(self, given: bool) -> Result<Self::Value, E> {
        Ok(value(ValueKind::BoolValue(given)))
    }

    fn visit_i64<E: Error>(self, given: i64) -> Result<Self::Value, E> {
        Ok(value(ValueKind::NumberValue(given as f64)))
    }

    fn visit_u64<E: Error>(self, given: u64) -> Result<Self::Value, E> {
        Ok(value(ValueKind::NumberValue(given as f64)))
    }

    fn visit_f64<E: Error>(self, given: f64) -> Result<Self::Value, E> {
        Ok(value(ValueKind::NumberValue(given)))
    }

    fn visit_str<E: Error>(self, given: &str) -> Result<Self::Value, E> {
        Ok(value(ValueKind::StringValue(given.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element_seed(self)? {
            values.push(value);
        }
        Ok(value(ValueKind::ListValue(prost_types::ListValue {
            values,
        })))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = prost_types::Struct::default();
        while let Some(name) = map.next_key::<String>()? {
            let value = map.next_value_seed(self)?;
            if let Some(_twice) = fields.fields.insert(name.clone(), value) {
                return Err(A::Error::custom(format!(
                    "the name \"{name:.50}\" is given twice"
                )));
            }
        }
        Ok(value(ValueKind::StructValue(fields)))
    }
}

/// A message of such a type as JSON.
pub enum Structure {
    /// An object.
    Struct(prost_types::Struct),
    /// Anything.
    Value(prost_types::Value),
    /// A list.
    List(prost_types::ListValue),
}

impl Structure {
    /// The message of that name, if it is one of these.
    pub fn decode(name: &str, encoded: &[u8]) -> Option<Result<Self, prost::DecodeError>> {
        Some(match name {
            STRUCT => prost_types::Struct::decode(encoded).map(Self::Struct),
            VALUE => prost_types::Value::decode(encoded).map(Self::Value),
            LIST => prost_types::ListValue::decode(encoded).map(Self::List),
            _ => return None,
        })
    }
}

impl Serialize for Structure {
    fn serialize<S: Serializer>(&self, json: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Struct(fields) => object(fields, json),
            Self::Value(value) => Given(value).serialize(json),
            Self::List(list) => array(list, json),
        }
    }
}

struct Given<'a>(&'a prost_types::Value);

impl Serialize for Given<'_> {
    fn serialize<S: Serializer>(&self, json: S) -> Result<S::Ok, S::Error> {
        match &self.0.kind {
            None | Some(ValueKind::NullValue(_)) => json.serialize_unit(),
            Some(ValueKind::NumberValue(number)) => json.serialize_f64(*number),
            Some(ValueKind::StringValue(text)) => json.serialize_str(text),
            Some(ValueKind::BoolValue(value)) => json.serialize_bool(*value),
            Some(ValueKind::StructValue(fields)) => object(fields, json),
            Some(ValueKind::ListValue(list)) => array(list, json),
        }
    }
}

fn object<S: Serializer>(fields: &prost_types::Struct, json: S) -> Result<S::Ok, S::Error> {
    let mut map = json.serialize_map(Some(fields.fields.len()))?;
    for (name, value) in &fields.fields {
        map.serialize_entry(name, &Given(value))?;
    }
    map.end()
}

fn array<S: Serializer>(list: &prost_types::ListValue, json: S) -> Result<S::Ok, S::Error> {
    let mut seq = json.serialize_seq(Some(list.values.len()))?;
    for value in &list.values {
        seq.serialize_element(&Given(value))?;
    }
    seq.end()
}
