//! One value of a field, as JSON or a query parameter gives it, in protobuf's wire format.

use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use prost::Message;
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use prost_types::{Duration, FieldMask, Timestamp};

use super::encoder::Encoder;

/// Padding is taken off before, as it is optional; bits that say nothing are ignored, as at Google.
const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::RequireNone)
    .with_decode_allow_trailing_bits(true);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// Messages that JSON writes as strings.
pub const TIMESTAMP: &str = "google.protobuf.Timestamp";
/// See [`TIMESTAMP`].
pub const DURATION: &str = "google.protobuf.Duration";
/// See [`TIMESTAMP`].
pub const FIELD_MASK: &str = "google.protobuf.FieldMask";

/// The longest duration, seconds, to either side: ten thousand years.
const DURATION_SECONDS_MAX: u64 = 315_576_000_000;

/// The value is not one of the field's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrongType;

/// A number of JSON.
#[derive(Clone, Copy, Debug)]
pub enum Number {
    /// Below zero.
    Negative(i64),
    /// Zero or above.
    Natural(u64),
    /// With a fraction, an exponent, or too many digits.
    Float(f64),
}

impl Number {
    fn integer(self) -> Option<i128> {
        match self {
            Self::Negative(number) => Some(number.into()),
            Self::Natural(number) => Some(number.into()),
            // Larger ones fit no field.
            Self::Float(number) if number.fract() == 0.0 && number.abs() < 2e19 => {
                Some(number as i128)
            }
            Self::Float(_) => None,
        }
    }

    fn fits<T: TryFrom<i128>>(self) -> Result<T, WrongType> {
        let number = self.integer().ok_or(WrongType)?;
        T::try_from(number).map_err(|_| WrongType)
    }

    fn float(self) -> f64 {
        match self {
            Self::Negative(number) => number as f64,
            Self::Natural(number) => number as f64,
            Self::Float(number) => number,
        }
    }
}

/// Writes a number.
pub fn number(to: &mut Encoder, field: &FieldDescriptor, given: Number) -> Result<(), WrongType> {
    let key = field.number();
    match field.kind() {
        Kind::Int32 | Kind::Enum(_) => {
            to.varint(key, i64::from(given.fits::<i32>()?).cast_unsigned());
        }
        Kind::Int64 => to.varint(key, given.fits::<i64>()?.cast_unsigned()),
        Kind::Uint32 => to.varint(key, u64::from(given.fits::<u32>()?)),
        Kind::Uint64 => to.varint(key, given.fits()?),
        Kind::Sint32 => to.varint(key, zigzag(i64::from(given.fits::<i32>()?))),
        Kind::Sint64 => to.varint(key, zigzag(given.fits()?)),
        Kind::Fixed32 => to.fixed32(key, given.fits::<u32>()?.to_le_bytes()),
        Kind::Sfixed32 => to.fixed32(key, given.fits::<i32>()?.to_le_bytes()),
        Kind::Fixed64 => to.fixed64(key, given.fits::<u64>()?.to_le_bytes()),
        Kind::Sfixed64 => to.fixed64(key, given.fits::<i64>()?.to_le_bytes()),
        Kind::Float => {
            let float = given.float() as f32;
            if float.is_infinite() && given.float().is_finite() {
                return Err(WrongType);
            }
            to.fixed32(key, float.to_le_bytes());
        }
        Kind::Double => to.fixed64(key, given.float().to_le_bytes()),
        Kind::Bool | Kind::String | Kind::Bytes | Kind::Message(_) => return Err(WrongType),
    }
    Ok(())
}

const fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)).cast_unsigned()
}

/// Writes what JSON gives as a string: text, bytes in base64, the name of an enum's value, a number or bool in
/// quotes, a time, a duration, a field mask.
pub fn string(to: &mut Encoder, field: &FieldDescriptor, given: &str) -> Result<(), WrongType> {
    match field.kind() {
        Kind::String => to.bytes(field.number(), given.as_bytes()),
        Kind::Bytes => base64(to, field.number(), given)?,
        Kind::Enum(values) => {
            let value = values.get_value_by_name(given).ok_or(WrongType)?;
            let value = i64::from(value.number()).cast_unsigned();
            to.varint(field.number(), value);
        }
        Kind::Message(message) => {
            let encoded = well_known(&message, given)?;
            to.bytes(field.number(), &encoded);
        }
        Kind::Bool => bool(to, field, given.parse().map_err(|_| WrongType)?)?,
        Kind::Float | Kind::Double => number(to, field, Number::Float(float(given)?))?,
        _ => number(to, field, digits(given)?)?,
    }
    Ok(())
}

/// Writes what a query parameter or the key of a map gives, where everything is text.
pub fn text(to: &mut Encoder, field: &FieldDescriptor, given: &str) -> Result<(), WrongType> {
    let as_string = string(to, field, given);
    match field.kind() {
        Kind::Enum(_) => as_string.or_else(|_| number(to, field, digits(given)?)),
        _ => as_string,
    }
}

/// Writes a bool.
pub fn bool(to: &mut Encoder, field: &FieldDescriptor, given: bool) -> Result<(), WrongType> {
    match field.kind() {
        Kind::Bool => to.varint(field.number(), u64::from(given)),
        _ => return Err(WrongType),
    }
    Ok(())
}

fn digits(given: &str) -> Result<Number, WrongType> {
    let negative = || given.parse().map(Number::Negative);
    let number = given.parse().map(Number::Natural).or_else(|_| negative());
    match number {
        Ok(number) if !given.starts_with('+') => Ok(number),
        // "1e3" is an integer, too.
        _ => float(given).map(Number::Float),
    }
}

fn float(given: &str) -> Result<f64, WrongType> {
    match given {
        "NaN" => Ok(f64::NAN),
        "Infinity" => Ok(f64::INFINITY),
        "-Infinity" => Ok(f64::NEG_INFINITY),
        _ => serde_json::from_str(given).map_err(|_| WrongType),
    }
}

/// Decodes straight into the message: a published payload is copied once on this way.
fn base64(to: &mut Encoder, key: u32, given: &str) -> Result<(), WrongType> {
    let given = given.trim_end_matches('=').as_bytes();
    let (whole, rest) = (given.len() / 4 * 3, given.len() % 4);
    let length = match rest {
        0 => whole,
        1 => return Err(WrongType),
        rest => whole + rest - 1,
    };
    let decode = |engine: &GeneralPurpose, to: &mut Encoder| {
        to.filled(key, length, |room| {
            let decoded = engine.decode_slice(given, room);
            decoded.map(|_| ()).map_err(|_| WrongType)
        })
    };
    decode(&STANDARD, to).or_else(|_| decode(&URL_SAFE, to))
}

/// Whether JSON gives the message as a string.
pub fn is_text(message: &MessageDescriptor) -> bool {
    [TIMESTAMP, DURATION, FIELD_MASK].contains(&message.full_name())
}

/// A message that JSON gives as a string.
fn well_known(message: &MessageDescriptor, given: &str) -> Result<Vec<u8>, WrongType> {
    match message.full_name() {
        TIMESTAMP => {
            if !is_rfc_3339(given) {
                return Err(WrongType);
            }
            let time: Timestamp = given.parse().map_err(|_| WrongType)?;
            Ok(time.encode_to_vec())
        }
        DURATION => {
            let duration: Duration = given.parse().map_err(|_| WrongType)?;
            if duration.seconds.unsigned_abs() > DURATION_SECONDS_MAX {
                return Err(WrongType);
            }
            Ok(duration.encode_to_vec())
        }
        FIELD_MASK => {
            let paths = given.split(',').map(str::trim);
            let paths = paths.filter(|path| !path.is_empty()).map(snake_case);
            let paths = paths.collect();
            Ok(FieldMask { paths }.encode_to_vec())
        }
        _ => Err(WrongType),
    }
}

/// Whether it has a year of four digits, a time and a zone: the parser takes less.
fn is_rfc_3339(given: &str) -> bool {
    let bytes = given.as_bytes();
    let zone = matches!(bytes.last(), Some(b'Z' | b'z'))
        || (bytes.len() >= "0001-01-01T00:00:00+00:00".len()
            && matches!(bytes[bytes.len() - 6], b'+' | b'-'));
    bytes.len() >= "0001-01-01T00:00:00Z".len()
        && bytes[..4].iter().all(u8::is_ascii_digit)
        && matches!(bytes[10], b'T' | b't')
        && zone
}

/// The path as protobuf writes it; one that is written so already stays.
fn snake_case(path: &str) -> String {
    let mut snake = String::with_capacity(path.len() + 4);
    for character in path.chars() {
        if character.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(character.to_ascii_lowercase());
    }
    snake
}
