//! Messages of every kind that Publish takes, to be stored and read again.

use bytes::Bytes;
use proptest::{
    collection::{hash_map, vec},
    prelude::*,
    sample::select,
    strategy::ValueTree as _,
    test_runner::TestRunner,
};
use prost::Message as _;

use crate::{
    limits::{ATTRIBUTE_KEY_BYTES_MAX, ATTRIBUTE_VALUE_BYTES_MAX, ORDERING_KEY_BYTES_MAX},
    proto::google::pubsub::v1::PubsubMessage,
    resource::message::AcceptedMessages,
};

const MESSAGES: usize = 150;
/// Names that a log may use for purposes of its own.
const NAMES: [&str; 8] = [
    "packetboat-attributes",
    "kafka-tombstone",
    "kafka-key-encoding",
    "a.base64",
    "a\0",
    "a\0b",
    "a",
    "\0",
];

/// Messages that pass the edge, the same ones in every run. Their order is no pattern.
pub(in crate::store) fn published() -> Vec<PubsubMessage> {
    let mut runner = TestRunner::deterministic();
    let message = message();
    let mut generated: Vec<_> = (0..MESSAGES)
        .filter_map(|_| message.new_tree(&mut runner).ok())
        .map(|tree| tree.current())
        .collect();
    generated.push(largest());
    generated.retain(|message| AcceptedMessages::accept(vec![encoded(message)]).is_ok());
    assert!(generated.len() > MESSAGES / 2, "most pass the edge");
    generated
}

pub(in crate::store) fn encoded(message: &PubsubMessage) -> Bytes {
    message.encode_to_vec().into()
}

fn message() -> impl Strategy<Value = PubsubMessage> {
    let name = prop_oneof![
        select(&NAMES[..]).prop_map(str::to_owned),
        text(8),
        text(ATTRIBUTE_KEY_BYTES_MAX),
    ];
    let value = prop_oneof![
        Just(String::new()),
        text(8),
        text(ATTRIBUTE_VALUE_BYTES_MAX)
    ];
    let key = prop_oneof![
        2 => Just(String::new()),
        1 => text(8),
        1 => text(ORDERING_KEY_BYTES_MAX),
    ];
    let data = vec(any::<u8>(), 0..64);
    (data, hash_map(name, value, 0..8), key).prop_map(|(data, attributes, ordering_key)| {
        PubsubMessage {
            data: data.into(),
            attributes,
            ordering_key,
            ..PubsubMessage::default()
        }
    })
}

/// Of any characters, with more NULs and quotes among them than chance would have.
fn text(bytes_max: usize) -> impl Strategy<Value = String> {
    let character = prop_oneof![
        4 => any::<char>(),
        1 => select(&['\0', '"', '\\', '\u{7f}', '\u{feff}', ' ', 'a'][..]),
    ];
    vec(character, 0..=bytes_max).prop_map(move |characters| {
        let mut text = String::from_iter(characters);
        text.truncate(text.floor_char_boundary(bytes_max));
        text
    })
}

/// As many and as long attributes as there may be, of which no name can be a header's.
fn largest() -> PubsubMessage {
    let name = |index: u8| format!("{index:03}{}", "\0".repeat(ATTRIBUTE_KEY_BYTES_MAX - 3));
    let attribute = |index| (name(index), "\0".repeat(ATTRIBUTE_VALUE_BYTES_MAX));
    PubsubMessage {
        attributes: (0..crate::limits::ATTRIBUTES_MAX as u8)
            .map(attribute)
            .collect(),
        ordering_key: "\0".repeat(ORDERING_KEY_BYTES_MAX),
        ..PubsubMessage::default()
    }
}
