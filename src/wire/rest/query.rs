//! A request's query: parameters of the system, which say how the answer is wanted, and fields of the request
//! (docs/behaviour.md, section 20.3).

use std::collections::HashSet;

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};

use super::{
    error::Failure,
    transcode::{
        Encoder,
        from_json::{Bound, Given, field},
        malformed::Malformed,
        scalar,
        selection::Selection,
        to_json::Style,
    },
};

/// Parameters that Google's clients send and that change nothing here.
const IGNORED: [&str; 12] = [
    "$.xgafv",
    "access_token",
    "callback",
    "$callback",
    "key",
    "$key",
    "oauth_token",
    "quotaUser",
    "$quotaUser",
    "uploadType",
    "upload_protocol",
    "$unique",
];

/// The parameters that are fields of the request.
#[derive(Debug, Default)]
pub struct Query {
    fields: Vec<(String, String)>,
}

impl Query {
    /// Reads a query as it was sent, with how the answer is wanted.
    ///
    /// # Errors
    /// The answer is wanted in a way that is not known.
    pub fn parse(query: &str) -> Result<(Self, Style), Failure> {
        let (mut parsed, mut style) = (Self::default(), Style::default());
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "alt" | "$alt" => alternative(&value, &mut style)?,
                "fields" | "$fields" => {
                    let selection = Selection::parse(&value);
                    style.selection =
                        selection.map_err(|error| Failure::invalid(error.to_string()))?;
                }
                "prettyPrint" | "$prettyPrint" | "pp" => {
                    style.pretty = !["false", "0"].contains(&&*value);
                }
                ignored if IGNORED.contains(&ignored) => {}
                _ => parsed.fields.push((name.into_owned(), value.into_owned())),
            }
        }
        Ok((parsed, style))
    }

    /// Writes the parameters that are fields of the request behind what its body gave.
    ///
    /// # Errors
    /// A parameter is no field, or has no value of its type, or is given twice or by the body or the path as well.
    pub fn write(
        &self,
        to: &mut Encoder,
        request: &MessageDescriptor,
        body: &Given,
        bound: &[Bound],
    ) -> Result<(), Malformed> {
        let mut given = HashSet::new();
        for (name, value) in &self.fields {
            let path = path(request, name).ok_or_else(|| Malformed::unknown_parameter(name))?;
            if let Some(bound) = bound.iter().find(|bound| bound.path == path) {
                if bound.value == *value {
                    continue;
                }
                return Err(Malformed::given_twice(name));
            }
            let (last, outer) = path
                .split_last()
                .ok_or_else(|| Malformed::unknown_parameter(name))?;
            let numbers: Vec<_> = path.iter().map(FieldDescriptor::number).collect();
            if body.has(&path[0]) || !(given.insert(numbers) || last.is_list()) {
                return Err(Malformed::given_twice(name));
            }
            let nested: Vec<_> = outer.iter().map(|field| to.begin(field.number())).collect();
            scalar::text(to, last, value)
                .map_err(|_| Malformed::value(last, &format!("\"{value}\"")).within(name))?;
            for nested in nested.iter().rev() {
                to.end(nested);
            }
        }
        Ok(())
    }
}

/// The fields that the name of a parameter leads through. Only the last one may be a list; none is a map.
fn path(request: &MessageDescriptor, name: &str) -> Option<Vec<FieldDescriptor>> {
    let mut message = Some(request.clone());
    let mut path: Vec<FieldDescriptor> = Vec::new();
    for part in name.split('.') {
        if path.last().is_some_and(FieldDescriptor::is_list) {
            return None;
        }
        let field = field(&message?, part)?;
        if field.is_map() {
            return None;
        }
        message = match field.kind() {
            Kind::Message(message) => Some(message),
            _ => None,
        };
        path.push(field);
    }
    Some(path)
}

fn alternative(given: &str, style: &mut Style) -> Result<(), Failure> {
    let mut parts = given.split(';');
    if !parts
        .next()
        .is_some_and(|format| ["json", ""].contains(&format))
    {
        return Err(unknown_alternative(given));
    }
    for part in parts {
        match part.trim() {
            "enum-encoding=int" => style.enum_numbers = true,
            _ => return Err(unknown_alternative(given)),
        }
    }
    Ok(())
}

fn unknown_alternative(given: &str) -> Failure {
    Failure::invalid(format!(
        "The parameter alt={given} is not known: json is, with ;enum-encoding=int behind it if enums are wanted as numbers."
    ))
}
