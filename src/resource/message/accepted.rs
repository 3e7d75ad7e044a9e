//! Published messages on their way into a log: checked, without what only a server sets, and with what the scan has
//! found in them.

use std::ops::Range;

use bytes::Bytes;

use super::layout::{Attribute, Field, Fields, Layout, Layouts, ScannedMessage, Undecodable};
use crate::{
    limits::{
        ATTRIBUTE_KEY_BYTES_MAX, ATTRIBUTE_VALUE_BYTES_MAX, ATTRIBUTES_MAX, ORDERING_KEY_BYTES_MAX,
    },
    resource::violation::Violation,
};

/// The messages of one request, in order, and where the parts of each lie.
#[derive(Debug)]
pub struct AcceptedMessages {
    messages: Vec<Bytes>,
    /// Of `messages` as they are here. Offsets are those within a message, so it may be copied elsewhere.
    layouts: Layouts,
}

impl AcceptedMessages {
    /// Checks published messages (docs/behaviour.md, section 3.1), each with one scan, and cuts the fields that only the
    /// server sets. A message without such fields stays the same slice, without a copy.
    ///
    /// # Errors
    /// As of [`check_decodable`], else the first rule that is broken.
    pub fn accept(mut messages: Vec<Bytes>) -> Result<Self, Violation> {
        let mut layouts = Layouts::with_capacity(messages.len());
        let mut cuts = Vec::new();
        for index in 0..messages.len() {
            let message = &mut messages[index];
            if let Err(fault) = check(message, &mut layouts, &mut cuts) {
                check_decodable(&messages[index..])?;
                return Err(fault);
            }
            if !cuts.is_empty() {
                *message = without(message, &cuts);
                cuts.clear();
            }
        }
        Ok(Self { messages, layouts })
    }

    /// Messages that were accepted before, with what the server has added to them.
    pub fn again(messages: Vec<Bytes>) -> Self {
        Self {
            layouts: Layouts::of(&messages),
            messages,
        }
    }

    /// Has them hold on to little more than themselves: those of a request that holds little else stay as they are,
    /// others are copied into one buffer of their own.
    #[must_use]
    pub fn compact(mut self, request_bytes: usize) -> Self {
        let bytes: usize = self.messages.iter().map(Bytes::len).sum();
        if bytes >= request_bytes - request_bytes / REQUEST_WASTE {
            return self;
        }
        let mut buffer = Vec::with_capacity(bytes);
        for message in &self.messages {
            buffer.extend_from_slice(message);
        }
        let mut rest = Bytes::from(buffer);
        for message in &mut self.messages {
            *message = rest.split_to(message.len());
        }
        self
    }

    /// The encoded messages.
    pub fn messages(&self) -> &[Bytes] {
        &self.messages
    }

    /// The encoded messages, for a log that stores nothing else.
    pub fn into_messages(self) -> Vec<Bytes> {
        self.messages
    }

    /// Each message with its parts.
    pub fn scanned(&self) -> impl ExactSizeIterator<Item = ScannedMessage<'_>> {
        let messages = self.messages.iter().enumerate();
        messages.map(|(index, message)| self.layouts.message(index, message))
    }

    /// The message at this index with its parts.
    pub fn get(&self, index: usize) -> Option<ScannedMessage<'_>> {
        let message = self.messages.get(index)?;
        Some(self.layouts.message(index, message))
    }
}

/// Tests of logs append what nobody may publish, too.
#[cfg(test)]
impl From<Vec<Bytes>> for AcceptedMessages {
    fn from(messages: Vec<Bytes>) -> Self {
        Self::again(messages)
    }
}

/// One part in so many of a request may be held in memory for nothing.
const REQUEST_WASTE: usize = 8;

/// Checks that encoded messages are such, whatever is in them.
///
/// # Errors
/// [`Violation::Undecodable`].
pub fn check_decodable(messages: &[Bytes]) -> Result<(), Violation> {
    let decodable = |message: &Bytes| -> Result<(), Undecodable> {
        let mut fields = Fields::of(message)?;
        while fields.next()?.is_some() {}
        Ok(())
    };
    Ok(messages.iter().try_for_each(decodable)?)
}

/// Checks a message, adds its layout as it is without the fields that only the server sets, and adds where those are to
/// `cuts`.
fn check(
    message: &[u8],
    layouts: &mut Layouts,
    cuts: &mut Vec<Range<usize>>,
) -> Result<(), Violation> {
    let mut layout = Layout::default();
    let (mut cut_bytes, mut attributes) = (0, 0);
    let mut fields = Fields::of(message)?;
    while let Some(field) = fields.next()? {
        match field {
            Field::Data(_) => {}
            Field::Attribute(attribute) => {
                check_attribute(message, attribute)?;
                attributes += 1;
                if attributes > ATTRIBUTES_MAX {
                    // They are refused at the end; until then their number must not decide how much memory is taken.
                    continue;
                }
            }
            Field::OrderingKey(key) => {
                let what = || "A message in the request has an ordering key".to_owned();
                at_most(what, key.len(), ORDERING_KEY_BYTES_MAX)?;
            }
            Field::ServerOnly(span) => {
                cuts.push(span.range());
                cut_bytes += span.len();
            }
        }
        layouts.take(&mut layout, field.moved_up(cut_bytes));
    }
    if layout.data.len() == 0 && attributes == 0 {
        return Err(Violation::EmptyMessage);
    }
    if attributes > ATTRIBUTES_MAX {
        return Err(Violation::too_large(
            "attribute_count",
            attributes,
            ATTRIBUTES_MAX,
        ));
    }
    layouts.push(layout);
    Ok(())
}

fn check_attribute(message: &[u8], attribute: Attribute) -> Result<(), Violation> {
    let name = attribute.name.of(message);
    if name.is_empty() {
        return Err(Violation::argument("an attribute key is empty"));
    }
    // Every client's tracing writes googclient_ attributes.
    if name.starts_with(b"goog") && !name.starts_with(b"googclient_") {
        let name = String::from_utf8_lossy(name);
        return Err(Violation::argument(format!(
            "the attribute key {name} begins with goog, which is reserved"
        )));
    }
    let long = |part: &str| {
        format!(
            r#"The attribute "{}" in the request has a {part}"#,
            short(name)
        )
    };
    at_most(|| long("key"), name.len(), ATTRIBUTE_KEY_BYTES_MAX)?;
    let value = attribute.value.len();
    at_most(|| long("value"), value, ATTRIBUTE_VALUE_BYTES_MAX)
}

/// The beginning of a key that may be of any length.
fn short(key: &[u8]) -> String {
    let key = String::from_utf8_lossy(&key[..key.len().min(ATTRIBUTE_KEY_BYTES_MAX)]);
    key.into_owned()
}

/// Refuses a text of more than `max` bytes; `what` says which, up to a relative clause.
fn at_most(what: impl FnOnce() -> String, bytes: usize, max: usize) -> Result<(), Violation> {
    if bytes > max {
        return Err(Violation::TooLong {
            what: what(),
            bytes,
            bytes_max: max,
        });
    }
    Ok(())
}

fn without(message: &[u8], cuts: &[Range<usize>]) -> Bytes {
    let mut rest = Vec::with_capacity(message.len());
    let mut from = 0;
    for cut in cuts {
        rest.extend_from_slice(&message[from..cut.start]);
        from = cut.end;
    }
    rest.extend_from_slice(&message[from..]);
    rest.into()
}
