//! What can be wrong with a request's JSON, with the public texts (docs/behaviour.md, section 20.2).

use std::fmt::{Display, Write};

use prost_reflect::{FieldDescriptor, Kind};

use crate::limits::ECHOED_VALUE_CHARS_MAX;

/// A request that says nothing that can be carried out: INVALID_ARGUMENT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// Which field, from the outermost message on: `messages[0].data`. Empty for the request as a whole.
    pub path: String,
    what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    /// It is not JSON.
    Json(String),
    /// There is no such field.
    UnknownName { name: String, why: &'static str },
    /// A list or map is too long.
    TooMany { max: usize },
    /// A value that the field does not take.
    Value { of: String, given: String },
}

impl Malformed {
    /// The request is not JSON.
    pub fn json(error: &impl Display) -> Self {
        Self::new(What::Json(short(&error.to_string())))
    }

    /// There is no field of that name.
    pub fn unknown_name(name: &str) -> Self {
        Self::name(name, "Cannot find field.")
    }

    /// The field of that name is given twice, under one name or under both.
    pub fn given_twice(name: &str) -> Self {
        Self::name(name, "The field is given more than once.")
    }

    /// Another field of the same oneof is given, too.
    pub fn oneof(name: &str) -> Self {
        Self::name(name, "Another field of the same oneof is given as well.")
    }

    /// A parameter of the query is no field of the request.
    pub fn unknown_parameter(name: &str) -> Self {
        Self::name(
            name,
            "Cannot bind query parameter. There is no such field in the request message.",
        )
    }

    fn name(name: &str, why: &'static str) -> Self {
        Self::new(What::UnknownName {
            name: short(name),
            why,
        })
    }

    /// The list or map has more than so many entries.
    pub fn too_many(max: usize) -> Self {
        Self::new(What::TooMany { max })
    }

    /// A value that the field does not take; `given` as it was sent.
    pub fn value(field: &FieldDescriptor, given: &str) -> Self {
        Self::new(What::Value {
            of: type_name(field),
            given: short(given),
        })
    }

    fn new(what: What) -> Self {
        let path = String::new();
        Self { path, what }
    }

    /// The same, seen from the message around it, in which it lies in `part`: a field's name or an index.
    #[must_use]
    pub fn within(mut self, part: &str) -> Self {
        let dot = !self.path.is_empty() && !self.path.starts_with('[');
        let dot = if dot { "." } else { "" };
        self.path = format!("{}{dot}{}", short(part), self.path);
        self
    }
}

impl Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let path = &self.path;
        match &self.what {
            What::Json(error) => {
                write!(f, "Invalid JSON payload received. {error}")
            }
            What::UnknownName { name, why } => {
                write!(f, "Invalid JSON payload received. Unknown name \"{name}\"")?;
                if !path.is_empty() {
                    write!(f, " at '{path}'")?;
                }
                write!(f, ": {why}")
            }
            What::TooMany { max } => {
                write!(f, "Invalid value at '{path}', more than {max} entries")
            }
            What::Value { of, given } => write!(f, "Invalid value at '{path}' ({of}), {given}"),
        }
    }
}

/// The type as errors name it.
fn type_name(field: &FieldDescriptor) -> String {
    match field.kind() {
        Kind::Message(message) => format!("type.googleapis.com/{}", message.full_name()),
        Kind::Enum(values) => format!("type.googleapis.com/{}", values.full_name()),
        kind => {
            let mut name = "TYPE_".to_owned();
            // Writing to a string cannot fail.
            let _ = write!(name, "{kind:?}");
            name.make_ascii_uppercase();
            name
        }
    }
}

/// What a client sent may be of any length; an error repeats the beginning of it.
fn short(given: &str) -> String {
    match given.char_indices().nth(ECHOED_VALUE_CHARS_MAX) {
        Some((end, _)) => format!("{}...", &given[..end]),
        None => given.to_owned(),
    }
}
