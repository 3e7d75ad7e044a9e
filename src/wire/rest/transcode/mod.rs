//! JSON ↔ protobuf, led by the descriptors (docs/behaviour.md, section 20.2). Knows no route and no HTTP.

pub mod encoder;
pub mod from_json;
pub mod lenient;
pub mod malformed;
pub mod scalar;
pub mod selection;
pub mod structure;
pub mod to_json;
pub mod wire_fields;

pub use encoder::Encoder;

#[cfg(test)]
mod tests;
