//! Requests and answers as text that is the same each time and short enough to be reviewed.

use std::fmt::Write as _;

use serde_json::{Map, Value};

/// Stands in a request for the ack id of a delivery, and in an answer for that id.
pub(super) const ACK_ID: &str = "$ACK";
/// Characters that follow each other and are equal; more are written as their number.
const RUN_MAX: usize = 12;
/// Entries of a list or object that are written; of more the first two are.
const ENTRIES_MAX: usize = 8;
/// Lists of equal entries are shortened earlier.
const EQUAL_ENTRIES_MAX: usize = 2;
/// The etag of a policy that was never set, the only one that is not random.
const NEVER_SET: &str = "ACAB";
/// How a generated name begins, and its length.
const GENERATED: (&str, usize) = ("projects/p/subscriptions/sub-", 61);

/// Text on one line, in which long runs of a character are written as `x{300}`.
pub(super) fn line(text: &str) -> String {
    let mut line = String::new();
    let mut rest = text.chars().peekable();
    while let Some(character) = rest.next() {
        let mut count = 1;
        while rest.next_if_eq(&character).is_some() {
            count += 1;
        }
        let shown = match character {
            '\n' | '\r' | '\t' | '\0' => character.escape_debug().to_string(),
            character => character.to_string(),
        };
        if count > RUN_MAX {
            write!(line, "{shown}{{{count}}}").expect("a string takes it");
        } else {
            line.push_str(&shown.repeat(count));
        }
    }
    line
}

/// JSON on one line, shortened.
pub(super) fn json(value: &Value) -> String {
    line(&shortened(value.clone()).to_string())
}

fn shortened(value: Value) -> Value {
    match value {
        Value::Array(entries) => {
            let count = entries.len();
            let equal = entries.iter().all(|entry| Some(entry) == entries.first());
            let most = if equal {
                EQUAL_ENTRIES_MAX
            } else {
                ENTRIES_MAX
            };
            let shown = if count > most { 1 } else { count };
            let mut shortened: Vec<_> = entries
                .into_iter()
                .take(shown)
                .map(self::shortened)
                .collect();
            if count > shown {
                shortened.push(Value::String(format!("... {count} entries")));
            }
            Value::Array(shortened)
        }
        Value::Object(fields) => {
            let count = fields.len();
            let shown = if count > ENTRIES_MAX { 2 } else { count };
            let mut shortened: Map<_, _> = fields
                .into_iter()
                .take(shown)
                .map(|(name, value)| (name, self::shortened(value)))
                .collect();
            if count > shown {
                shortened.insert("...".to_owned(), Value::String(format!("{count} entries")));
            }
            Value::Object(shortened)
        }
        other => other,
    }
}

/// The value with placeholders for everything that is random.
pub(super) fn scrubbed(value: Value, ack_id: &str) -> Value {
    match value {
        Value::Array(entries) => {
            let entries = entries.into_iter().map(|entry| scrubbed(entry, ack_id));
            Value::Array(entries.collect())
        }
        Value::Object(fields) => {
            let fields = fields.into_iter().map(|(name, value)| {
                let value = match (name.as_str(), &value) {
                    ("ackId", Value::String(_)) => Value::String("<ack id>".to_owned()),
                    ("etag", Value::String(etag)) if etag != NEVER_SET => {
                        Value::String("<etag>".to_owned())
                    }
                    _ => scrubbed(value, ack_id),
                };
                (name, value)
            });
            Value::Object(fields.collect())
        }
        Value::String(text) => {
            let (beginning, length) = GENERATED;
            Value::String(if text.starts_with(beginning) && text.len() == length {
                format!("{beginning}<generated>")
            } else {
                text.replace(ack_id, ACK_ID)
            })
        }
        other => other,
    }
}

/// The body of an answer, line by line and indented.
pub(super) fn body(body: &str, ack_id: &str) -> String {
    let mut text = String::new();
    for part in body.lines() {
        let part = line(part.trim_end()).replace(ack_id, ACK_ID);
        writeln!(text, "  {part}").expect("a string takes it");
    }
    if !body.ends_with('\n') {
        writeln!(text, "  (no newline at the end)").expect("a string takes it");
    }
    text
}

/// The request with the ack id of this world.
pub(super) fn with_ack_id(request: &Value, ack_id: &str) -> Value {
    match request {
        Value::String(text) if text == ACK_ID => Value::String(ack_id.to_owned()),
        Value::Array(entries) => entries
            .iter()
            .map(|entry| with_ack_id(entry, ack_id))
            .collect(),
        Value::Object(fields) => {
            let fields = fields.iter();
            let fields = fields.map(|(name, value)| (name.clone(), with_ack_id(value, ack_id)));
            Value::Object(fields.collect())
        }
        other => other.clone(),
    }
}
