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

/// Why a scan ends early: the message is no valid one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Undecodable {
    /// It is no protobuf, a field has another type, or it is larger than any request.
    Malformed,
    /// This text of it is not UTF-8.
    NotUtf8(&'static str),
}

impl From<Undecodable> for Violation {
    #[cold]
    fn from(undecodable: Undecodable) -> Self {
        match undecodable {
            Undecodable::Malformed => {
                Self::undecodable("a message in the publish request is not a valid PubsubMessage")
            }
            Undecodable::NotUtf8(what) => {
                Self::undecodable(format!("a message's {what} is not valid UTF-8"))
            }
        }
    }
}

/// Reads the fields of a message once, in order.
///
/// Every published message passes here. What is small and returned by value is inlined; what is wrong is put into words
/// by the caller.
pub(super) struct Fields<'a>(Cursor<'a>);

impl<'a> Fields<'a> {
    #[inline]
    pub(super) fn of(message: &'a [u8]) -> Result<Self, Undecodable> {
        u32::try_from(message.len()).map_err(|_| Undecodable::Malformed)?;
        Ok(Self(Cursor {
            rest: message,
            end: message.len(),
        }))
    }

    /// The next field that means something here; `None` at the end.
    #[inline]
    pub(super) fn next(&mut self) -> Result<Option<Field>, Undecodable> {
        let fields = &mut self.0;
        loop {
            let start = fields.position();
            let Some((tag, wire_type)) = fields.tag()? else {
                return Ok(None);
            };
            return Ok(Some(match tag {
                DATA_TAG => Field::Data(fields.bytes(wire_type)?.0),
                ATTRIBUTES_TAG => {
                    let (span, entry) = fields.bytes(wire_type)?;
                    Field::Attribute(attribute(span, entry)?)
                }
                ORDERING_KEY_TAG => Field::OrderingKey(fields.text("ordering_key", wire_type)?),
                MESSAGE_ID_TAG | PUBLISH_TIME_TAG => {
                    fields.bytes(wire_type)?;
                    Field::ServerOnly(Span::new(start, fields.position()))
                }
                _ => {
                    fields.skip(tag, wire_type)?;
                    continue;
                }
            }));
        }
    }
}

fn attribute(span: Span, entry: &[u8]) -> Result<Attribute, Undecodable> {
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
    #[inline]
    fn tag(&mut self) -> Result<Option<(u32, WireType)>, Undecodable> {
        let Some(&first) = self.rest.first() else {
            return Ok(None);
        };
        // All fields of a message that this server knows have tags of one byte.
        if let (8..0x80, Ok(wire_type)) = (first, WireType::try_from(u64::from(first & 7))) {
            self.rest = &self.rest[1..];
            return Ok(Some((u32::from(first >> 3), wire_type)));
        }
        let key = encoding::decode_key(&mut self.rest);
        key.map(Some).map_err(|_| Undecodable::Malformed)
    }

    #[inline]
    fn bytes(&mut self, wire_type: WireType) -> Result<(Span, &'a [u8]), Undecodable> {
        if wire_type != WireType::LengthDelimited {
            return Err(Undecodable::Malformed);
        }
        let len = encoding::decode_varint(&mut self.rest).map_err(|_| Undecodable::Malformed)?;
        let len = usize::try_from(len).map_err(|_| Undecodable::Malformed)?;
        let start = self.position();
        let (taken, rest) = self
            .rest
            .split_at_checked(len)
            .ok_or(Undecodable::Malformed)?;
        self.rest = rest;
        Ok((Span::new(start, self.position()), taken))
    }

    fn text(&mut self, what: &'static str, wire_type: WireType) -> Result<Span, Undecodable> {
        let (span, bytes) = self.bytes(wire_type)?;
        match std::str::from_utf8(bytes) {
            Ok(_) => Ok(span),
            Err(_) => Err(Undecodable::NotUtf8(what)),
        }
    }

    fn skip(&mut self, tag: u32, wire_type: WireType) -> Result<(), Undecodable> {
        encoding::skip_field(wire_type, tag, &mut self.rest, DecodeContext::default())
            .map_err(|_| Undecodable::Malformed)
    }
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
            let layout = layouts.scan(message).unwrap_or_else(|_| {
                layouts.attributes.truncate(layouts.attributes_end());
                Layout::default()
            });
            layouts.push(layout);
        }
        layouts
    }

    fn scan(&mut self, message: &[u8]) -> Result<Layout, Undecodable> {
        let mut layout = Layout::default();
        let mut fields = Fields::of(message)?;
        while let Some(field) = fields.next()? {
            self.take(&mut layout, field);
        }
        Ok(layout)
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

    /// The value of the attribute of this name.
    pub fn attribute(&self, name: &[u8]) -> Option<&'a [u8]> {
        let mut last = self.attributes.iter().rev();
        let found = last.find(|attribute| attribute.name.of(self.message) == name)?;
        Some(found.value.of(self.message))
    }
}
