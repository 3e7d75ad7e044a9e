//! JSON → protobuf, in one pass: a request's body is read where it lies and written once; one that only Google's reader
//! takes for JSON is read a second time
//! (docs/behaviour.md, section 20.2).

use std::fmt;

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor, OneofDescriptor};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::{
    encoder::Encoder,
    lenient::Lenient,
    malformed::Malformed,
    scalar::{self, Number, WrongType},
    structure,
};
use crate::{limits::ENTRIES_TOLERANCE, rpc};

/// A value that the path gives, with which the body has to agree.
#[derive(Clone, Debug)]
pub struct Bound {
    /// The field, from the outermost message on.
    pub path: Vec<FieldDescriptor>,
    /// Its value.
    pub value: String,
}

impl Bound {
    /// Writes the value; it comes after what else there is of the request, and so it holds.
    pub fn write(&self, to: &mut Encoder) {
        let Some((last, outer)) = self.path.split_last() else {
            return;
        };
        let nested: Vec<_> = outer.iter().map(|field| to.begin(field.number())).collect();
        to.bytes(last.number(), self.value.as_bytes());
        for nested in nested.iter().rev() {
            to.end(nested);
        }
    }
}

/// Reads `json`, a message of that type, into `to`. Returns the fields that it gives.
///
/// # Errors
/// It is not JSON, or not such a message.
pub fn read(
    to: &mut Encoder,
    message: &MessageDescriptor,
    json: &[u8],
    bound: &[Bound],
) -> Result<Given, Malformed> {
    read_as(&Expected::Message(message), to, json, bound)
}

/// Reads `json`, the value of one field, into `to`.
///
/// # Errors
/// It is not JSON, or not such a value.
pub fn read_field(to: &mut Encoder, field: &FieldDescriptor, json: &[u8]) -> Result<(), Malformed> {
    read_as(&Expected::Value(field), to, json, &[]).map(|_| ())
}

/// What a body is to be.
enum Expected<'a> {
    Message(&'a MessageDescriptor),
    Value(&'a FieldDescriptor),
}

/// Why a body is refused.
enum Failed {
    /// It is not JSON.
    Json(serde_json::Error),
    /// It is, and says nothing that the request has.
    Malformed(Malformed),
}

/// Reads the body as JSON, and only if it is none once more as what Google's reader takes for JSON.
fn read_as(
    expected: &Expected<'_>,
    to: &mut Encoder,
    json: &[u8],
    bound: &[Bound],
) -> Result<Given, Malformed> {
    let start = to.position();
    let strict = serde_json::Deserializer::from_slice(json);
    let error = match read_with(expected, to, strict, bound) {
        Ok(given) => return Ok(given),
        Err(Failed::Malformed(malformed)) => return Err(malformed),
        Err(Failed::Json(error)) => error,
    };
    if !error.is_syntax() {
        return Err(Malformed::json(&error));
    }
    to.rewind(start);
    let lenient = serde_json::Deserializer::from_reader(Lenient::new(json));
    match read_with(expected, to, lenient, bound) {
        Ok(given) => Ok(given),
        Err(Failed::Malformed(malformed)) => Err(malformed),
        // The first says where in the body as it was sent.
        Err(Failed::Json(_)) => Err(Malformed::json(&error)),
    }
}

fn read_with<'de, R: serde_json::de::Read<'de>>(
    expected: &Expected<'_>,
    to: &mut Encoder,
    mut json: serde_json::Deserializer<R>,
    bound: &[Bound],
) -> Result<Given, Failed> {
    let mut reader = Reader {
        to,
        bound,
        path: Vec::new(),
        malformed: None,
    };
    let read = match expected {
        Expected::Message(message) => Body {
            reader: &mut reader,
            message,
        }
        .deserialize(&mut json),
        Expected::Value(field) => Value {
            reader: &mut reader,
            field,
            element: false,
        }
        .deserialize(&mut json)
        .map_err(|error| reader.within(field.name(), error))
        .map(|_| Given::default()),
    };
    let read = read.and_then(|given| json.end().map(|()| given));
    read.map_err(|error| match reader.malformed {
        Some(malformed) => Failed::Malformed(malformed),
        None => Failed::Json(error),
    })
}

/// The fields of one message that were given.
#[derive(Debug, Default)]
pub struct Given {
    /// Numbers below 64, which nearly all are.
    low: u64,
    high: Vec<u32>,
    /// Those that are null, and so have no value.
    nulls: Vec<u32>,
    oneofs: Vec<OneofDescriptor>,
}

impl Given {
    /// Notes the field; `false` if it was noted before.
    pub fn add(&mut self, field: &FieldDescriptor) -> bool {
        let number = field.number();
        if number < u64::BITS {
            let bit = 1 << number;
            let new = self.low & bit == 0;
            self.low |= bit;
            return new;
        }
        let new = !self.high.contains(&number);
        self.high.push(number);
        new
    }

    /// Whether the field was given a value.
    pub fn has(&self, field: &FieldDescriptor) -> bool {
        let number = field.number();
        if self.nulls.contains(&number) {
            return false;
        }
        if number < u64::BITS {
            self.low & (1 << number) != 0
        } else {
            self.high.contains(&number)
        }
    }

    /// Notes that the field has a value; `false` if another one of its oneof has.
    fn add_value(&mut self, field: &FieldDescriptor) -> bool {
        let Some(oneof) = field.containing_oneof() else {
            return true;
        };
        let new = !self.oneofs.contains(&oneof);
        self.oneofs.push(oneof);
        new
    }
}

struct Reader<'a> {
    to: &'a mut Encoder,
    bound: &'a [Bound],
    /// Numbers of the fields in which the one that is read lies.
    path: Vec<u32>,
    /// What is wrong, if it is not the JSON itself.
    malformed: Option<Malformed>,
}

impl Reader<'_> {
    fn fail<E: Error>(&mut self, malformed: Malformed) -> E {
        self.malformed = Some(malformed);
        E::custom("malformed")
    }

    /// Says in which field the error lies.
    fn within<E>(&mut self, part: &str, error: E) -> E {
        let malformed = self.malformed.take();
        self.malformed = malformed.map(|malformed| malformed.within(part));
        error
    }

    /// The fields of a message, up to its closing brace.
    fn fields<'de, A: MapAccess<'de>>(
        &mut self,
        message: &MessageDescriptor,
        mut map: A,
    ) -> Result<Given, A::Error> {
        let mut given = Given::default();
        while let Some(field) = map.next_key_seed(Name {
            reader: self,
            message,
        })? {
            if !given.add(&field) {
                return Err(self.fail(Malformed::given_twice(field.json_name())));
            }
            self.path.push(field.number());
            let value = Value {
                reader: self,
                field: &field,
                element: false,
            };
            let has_value = map
                .next_value_seed(value)
                .map_err(|error| self.within(field.name(), error))?;
            self.path.pop();
            if !has_value {
                given.nulls.push(field.number());
            } else if !given.add_value(&field) {
                return Err(self.fail(Malformed::oneof(field.json_name())));
            }
        }
        Ok(given)
    }

    /// The entries of a map, up to its closing brace.
    fn entries<'de, A: MapAccess<'de>>(
        &mut self,
        field: &FieldDescriptor,
        entry: &MessageDescriptor,
        mut map: A,
    ) -> Result<(), A::Error> {
        let (key_field, value_field) = (entry.map_entry_key_field(), entry.map_entry_value_field());
        let mut keys = std::collections::HashSet::new();
        let max = tolerated(field);
        while let Some(key) = map.next_key::<String>()? {
            if keys.len() >= max {
                return Err(self.fail(Malformed::too_many(max)));
            }
            let nested = self.to.begin(field.number());
            if scalar::text(self.to, &key_field, &key).is_err() {
                return Err(self.fail(Malformed::value(&key_field, &format!("\"{key}\""))));
            }
            let value = Value {
                reader: self,
                field: &value_field,
                element: true,
            };
            map.next_value_seed(value)
                .map_err(|error| self.within(&format!("[{key}]"), error))?;
            self.to.end(&nested);
            if let Some(key) = keys.replace(key) {
                return Err(self.fail(Malformed::given_twice(&key)));
            }
        }
        Ok(())
    }

    /// The elements of a list, up to its closing bracket.
    fn elements<'de, A: SeqAccess<'de>>(
        &mut self,
        field: &FieldDescriptor,
        mut list: A,
    ) -> Result<(), A::Error> {
        let mut index = 0;
        let max = tolerated(field);
        loop {
            let value = Value {
                reader: self,
                field,
                element: true,
            };
            let more = list
                .next_element_seed(value)
                .map_err(|error| self.within(&format!("[{index}]"), error))?;
            if more.is_none() {
                return Ok(());
            }
            index += 1;
            if index > max {
                return Err(self.fail(Malformed::too_many(max)));
            }
        }
    }

    /// The error about a value that the field does not take.
    fn wrong<E: Error>(&mut self, field: &FieldDescriptor, given: &str) -> E {
        self.fail(Malformed::value(field, given))
    }

    /// Refuses a value that is not the one that the path gives.
    fn agree<E: Error>(&mut self, field: &FieldDescriptor, given: &str) -> Result<(), E> {
        let differs = |bound: &&Bound| {
            bound.value != given
                && bound.path.len() == self.path.len()
                && bound
                    .path
                    .iter()
                    .map(FieldDescriptor::number)
                    .eq(self.path.iter().copied())
        };
        let Some(bound) = self.bound.iter().find(differs) else {
            return Ok(());
        };
        if given.is_empty() {
            return Ok(());
        }
        let text = format!("\"{given}\": the path says \"{}\"", bound.value);
        Err(self.wrong(field, &text))
    }
}

/// How many entries of a field are read: a list or map with more is refused before all of it was.
fn tolerated(field: &FieldDescriptor) -> usize {
    let max = rpc::entries_max(field.full_name());
    max.map_or(usize::MAX, |max| max * ENTRIES_TOLERANCE)
}

/// The whole body.
struct Body<'r, 'a> {
    reader: &'r mut Reader<'a>,
    message: &'r MessageDescriptor,
}

impl<'de> DeserializeSeed<'de> for Body<'_, '_> {
    type Value = Given;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Given, D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Body<'_, '_> {
    type Value = Given;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object, {}", self.message.name())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Given, A::Error> {
        self.reader.fields(self.message, map)
    }
}

/// The name of a field, as the proto or as JSON writes it.
struct Name<'r, 'a> {
    reader: &'r mut Reader<'a>,
    message: &'r MessageDescriptor,
}

impl<'de> DeserializeSeed<'de> for Name<'_, '_> {
    type Value = FieldDescriptor;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<FieldDescriptor, D::Error> {
        json.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_, '_> {
    type Value = FieldDescriptor;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a field")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<FieldDescriptor, E> {
        field(self.message, name).ok_or_else(|| self.reader.fail(Malformed::unknown_name(name)))
    }
}

/// The field of that name, as the proto or as JSON writes it.
pub fn field(message: &MessageDescriptor, name: &str) -> Option<FieldDescriptor> {
    let field = message.get_field_by_json_name(name);
    field.or_else(|| message.get_field_by_name(name))
}

/// The value of a field, or one element of it. Tells whether it is one: null is none.
struct Value<'r, 'a> {
    reader: &'r mut Reader<'a>,
    field: &'r FieldDescriptor,
    element: bool,
}

impl Value<'_, '_> {
    /// Whether a single value is expected here, not a list or map of them.
    fn single(&self) -> bool {
        self.element || !(self.field.is_list() || self.field.is_map())
    }

    fn put<E: Error>(
        self,
        put: impl FnOnce(&mut Encoder, &FieldDescriptor) -> Result<(), WrongType>,
        given: impl FnOnce() -> String,
    ) -> Result<bool, E> {
        if self.single() && put(self.reader.to, self.field).is_ok() {
            return Ok(true);
        }
        Err(self.reader.wrong(self.field, &given()))
    }

    /// Whether any JSON is expected here.
    fn is_structure(&self) -> bool {
        let kind = self.field.kind();
        let message = kind.as_message();
        self.single() && message.is_some_and(|message| structure::is_structure(message.full_name()))
    }
}

impl<'de> DeserializeSeed<'de> for Value<'_, '_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<bool, D::Error> {
        if self.is_structure() {
            return structure::read(self.reader.to, self.field, json);
        }
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_, '_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a value of {}", self.field.full_name())
    }

    fn visit_unit<E: Error>(self) -> Result<bool, E> {
        if self.element {
            return Err(self.reader.wrong(self.field, "null"));
        }
        Ok(false)
    }

    fn visit_bool<E: Error>(self, given: bool) -> Result<bool, E> {
        self.put(
            |to, field| scalar::bool(to, field, given),
            || given.to_string(),
        )
    }

    fn visit_i64<E: Error>(self, given: i64) -> Result<bool, E> {
        let number = Number::Negative(given);
        self.put(
            |to, field| scalar::number(to, field, number),
            || given.to_string(),
        )
    }

    fn visit_u64<E: Error>(self, given: u64) -> Result<bool, E> {
        let number = Number::Natural(given);
        self.put(
            |to, field| scalar::number(to, field, number),
            || given.to_string(),
        )
    }

    fn visit_f64<E: Error>(self, given: f64) -> Result<bool, E> {
        let number = Number::Float(given);
        self.put(
            |to, field| scalar::number(to, field, number),
            || given.to_string(),
        )
    }

    fn visit_str<E: Error>(self, given: &str) -> Result<bool, E> {
        if !self.reader.bound.is_empty() {
            self.reader.agree(self.field, given)?;
        }
        self.put(
            |to, field| scalar::string(to, field, given),
            || format!("\"{given}\""),
        )
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<bool, A::Error> {
        if self.single() || self.field.is_map() {
            return Err(self.reader.wrong(self.field, "a list"));
        }
        self.reader.elements(self.field, list)?;
        Ok(true)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<bool, A::Error> {
        let Kind::Message(message) = self.field.kind() else {
            return Err(self.reader.wrong(self.field, "an object"));
        };
        if !self.element && self.field.is_map() {
            self.reader.entries(self.field, &message, map)?;
            return Ok(true);
        }
        if !self.single() || scalar::is_text(&message) {
            return Err(self.reader.wrong(self.field, "an object"));
        }
        let nested = self.reader.to.begin(self.field.number());
        self.reader.fields(&message, map)?;
        self.reader.to.end(&nested);
        Ok(true)
    }
}
