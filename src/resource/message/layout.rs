//! Where in a message its parts lie, as one scan finds it.

use std::ops::Range;

use bytes::Bytes;
use prost::encoding::{self, DecodeContext, WireType};

use super::{
    ATTRIBUTES_TAG, DATA_TAG, KEY_TAG, MESSAGE_ID_TAG, ORDERING_KEY_TAG, PUBLISH_TIME_TAG,
    VALUE_TAG,
};
use crate::resource::violation::Violation;

/// A part of a message, in bytes from its first one. An empty one lies anywhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Span {
    start: u32,
    len: u32,
}

impl Span {
    /// Of a message whose length [`scan`] has found to fit.
    const fn new(start: usize, end: usize) -> Self {
        Self {
            start: start as u32,
            len: (end - start) as u32,
        }
    }

    pub(super) const fn len(self) -> usize {
        self.len as usize
    }

    pub(super) const fn range(self) -> Range<usize> {
        self.start as usize..self.start as usize + self.len()
    }

    pub(super) fn of(self, message: &[u8]) -> &[u8] {
        message.get(self.range()).unwrap_or_default()
    }

    const fn moved_up(self, bytes: usize) -> Self {
        Self {
            start: self.start.saturating_sub(bytes as u32),
            ..self
        }
    }
}

/// Where an attribute lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Attribute {
    pub(super) name: Span,
    pub(super) value: Span,
}

/// What a scan finds.
#[derive(Clone, Copy, Debug)]
pub(super) enum Field {
    Data(Span),
    Attribute(Attribute),
    OrderingKey(Span),
    /// A field that only the server sets, with its tag and its length.
    ServerOnly(Span),
}

impl Field {
    /// Where it lies once so many bytes before it are cut.
    pub(super) const fn moved_up(self, bytes: usize) -> Self {
        match self {
            Self::Data(span) => Self::Data(span.moved_up(bytes)),
            Self::Attribute(Attribute { name, value }) => Self::Attribute(Attribute {
                name: name.moved_up(bytes),
                value: value.moved_up(bytes),
            }),
            Self::OrderingKey(span) => Self::OrderingKey(span.moved_up(bytes)),
            Self::ServerOnly(span) => Self::ServerOnly(span.moved_up(bytes)),
        }
    }
}

/// Goes through the fields of a message once, in order. Fails where `each` does, and where the message is no valid one
/// or has text that is not UTF-8.
pub(super) fn scan(
    message: &[u8],
    mut each: impl FnMut(Field) -> Result<(), Violation>,
) -> Result<(), Violation> {
    if u32::try_from(message.len()).is_err() {
        return Err(malformed());
    }
    let mut fields = Cursor {
        rest: message,
        end: message.len(),
    };
    loop {
        let start = fields.position();
        let Some((tag, wire_type)) = fields.tag()? else {
            return Ok(());
        };
        match tag {
            DATA_TAG => each(Field::Data(fields.bytes(wire_type)?.0))?,
            ATTRIBUTES_TAG => {
                let (span, entry) = fields.bytes(wire_type)?;
                each(Field::Attribute(attribute(span, entry)?))?;
            }
            ORDERING_KEY_TAG => each(Field::OrderingKey(fields.text("ordering_key", wire_type)?))?,
            MESSAGE_ID_TAG | PUBLISH_TIME_TAG => {
                fields.bytes(wire_type)?;
                each(Field::ServerOnly(Span::new(start, fields.position())))?;
            }
            _ => fields.skip(tag, wire_type)?,
        }
    }
}

fn attribute(span: Span, entry: &[u8]) -> Result<Attribute, Violation> {
    let mut fields = Cursor {
        rest: entry,
        end: span.range().end,
    };
    let mut attribute = Attribute::default();
    while let Some((tag, wire_type)) = fields.tag()? {
        match tag {
            KEY_TAG => attribute.name = fields.text("attribute key", wire_type)?,
            VALUE_TAG => attribute.value = fields.text("attribute value", wire_type)?,
            _ => fields.skip(tag, wire_type)?,
        }
    }
    Ok(attribute)
}

/// What is left to scan.
struct Cursor<'a> {
    rest: &'a [u8],
    /// Where in the message that ends.
    end: usize,
}

impl<'a> Cursor<'a> {
    const fn position(&self) -> usize {
        self.end - self.rest.len()
    }

    /// The next field's number and wire type; `None` at the end.
    fn tag(&mut self) -> Result<Option<(u32, WireType)>, Violation> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let key = encoding::decode_key(&mut self.rest);
        key.map(Some).map_err(|_| malformed())
    }

    fn bytes(&mut self, wire_type: WireType) -> Result<(Span, &'a [u8]), Violation> {
        if wire_type != WireType::LengthDelimited {
            return Err(malformed());
        }
        let len = encoding::decode_varint(&mut self.rest).map_err(|_| malformed())?;
        let len = usize::try_from(len).map_err(|_| malformed())?;
        let start = self.position();
        let (taken, rest) = self.rest.split_at_checked(len).ok_or_else(malformed)?;
        self.rest = rest;
        Ok((Span::new(start, self.position()), taken))
    }

    fn text(&mut self, what: &str, wire_type: WireType) -> Result<Span, Violation> {
        let (span, bytes) = self.bytes(wire_type)?;
        match std::str::from_utf8(bytes) {
            Ok(_) => Ok(span),
            Err(_) => Err(Violation::undecodable(format!(
                "a message's {what} is not valid UTF-8"
            ))),
        }
    }

    fn skip(&mut self, tag: u32, wire_type: WireType) -> Result<(), Violation> {
        encoding::skip_field(wire_type, tag, &mut self.rest, DecodeContext::default())
            .map_err(|_| malformed())
    }
}

fn malformed() -> Violation {
    Violation::undecodable("a message in the publish request is not a valid PubsubMessage")
}

/// Where the parts of some messages lie, in two allocations whatever their number: 20 bytes for each message and 16
/// for each attribute.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layouts {
    messages: Vec<Layout>,
    /// Those of one message behind those of the one before it.
    attributes: Vec<Attribute>,
}

/// Of a field that appears twice the last counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) data: Span,
    ordering_key: Span,
    /// Where its attributes end among those of all messages.
    attributes_end: u32,
}

impl Layouts {
    pub(super) fn with_capacity(messages: usize) -> Self {
        Self {
            messages: Vec::with_capacity(messages),
            attributes: Vec::new(),
        }
    }

    /// Scans stored messages. Those were accepted when they were published; of one that is no valid message
    /// nothing is found.
    pub fn of(messages: &[Bytes]) -> Self {
        let mut layouts = Self::with_capacity(messages.len());
        for message in messages {
            let mut layout = Layout::default();
            let scanned = scan(message, |field| {
                layouts.take(&mut layout, field);
                Ok(())
            });
            if scanned.is_err() {
                layout = Layout::default();
                layouts.attributes.truncate(layouts.attributes_end());
            }
            layouts.push(layout);
        }
        layouts
    }

    /// Takes in a field of the message that is pushed next.
    pub(super) fn take(&mut self, layout: &mut Layout, field: Field) {
        match field {
            Field::Data(span) => layout.data = span,
            Field::OrderingKey(span) => layout.ordering_key = span,
            Field::Attribute(attribute) => self.attributes.push(attribute),
            Field::ServerOnly(_) => {}
        }
    }

    /// Adds a message whose fields were taken in.
    pub(super) fn push(&mut self, layout: Layout) {
        self.messages.push(Layout {
            attributes_end: self.attributes.len() as u32,
            ..layout
        });
    }

    /// Where the attributes of the messages end that were pushed.
    fn attributes_end(&self) -> usize {
        self.messages
            .last()
            .map_or(0, |layout| layout.attributes_end as usize)
    }

    /// The parts of `message`, which is the one at `index` of those that were scanned.
    pub fn message<'a>(&'a self, index: usize, message: &'a [u8]) -> ScannedMessage<'a> {
        let before = index.checked_sub(1).and_then(|at| self.messages.get(at));
        let start = before.map_or(0, |layout| layout.attributes_end as usize);
        let layout = self.messages.get(index).copied().unwrap_or_default();
        let attributes = self.attributes.get(start..layout.attributes_end as usize);
        ScannedMessage {
            message,
            layout,
            attributes: attributes.unwrap_or_default(),
        }
    }
}

/// The parts of a scanned message. Its texts were checked to be UTF-8 and are given as bytes, which nobody has to check
/// again to compare or store them.
#[derive(Clone, Copy, Debug)]
pub struct ScannedMessage<'a> {
    message: &'a [u8],
    layout: Layout,
    attributes: &'a [Attribute],
}

impl<'a> ScannedMessage<'a> {
    /// Bytes of the whole message, encoded.
    pub const fn encoded_len(&self) -> usize {
        self.message.len()
    }

    /// The payload.
    pub fn data(&self) -> &'a [u8] {
        self.layout.data.of(self.message)
    }

    /// Empty when the message has none.
    pub fn ordering_key(&self) -> &'a [u8] {
        self.layout.ordering_key.of(self.message)
    }

    /// Names with their values, as they came; of a name that appears twice the last counts.
    pub fn attributes(&self) -> impl ExactSizeIterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        let message = self.message;
        let attributes = self.attributes.iter();
        attributes.map(move |attribute| (attribute.name.of(message), attribute.value.of(message)))
    }
}
