//! What is found in messages, and what is made of them.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::{proto::google::pubsub::v1::PubsubMessage, resource::violation::Violation};

fn message() -> PubsubMessage {
    PubsubMessage {
        data: Bytes::from_static(b"hello"),
        attributes: [("k".to_owned(), "v".to_owned())].into(),
        ordering_key: "key".to_owned(),
        ..PubsubMessage::default()
    }
}

/// The server's own fields of a publisher.
fn with_server_fields(message: PubsubMessage) -> PubsubMessage {
    PubsubMessage {
        message_id: "mine".to_owned(),
        publish_time: Some(prost_types::Timestamp {
            seconds: 1,
            nanos: 5,
        }),
        ..message
    }
}

fn accept(message: impl Into<Bytes>) -> AcceptedMessages {
    AcceptedMessages::accept(vec![message.into()]).expect("accepted")
}

#[test]
fn an_accepted_message_is_the_same_slice() {
    let bytes = Bytes::from(message().encode_to_vec());
    let accepted = accept(bytes.clone()).into_messages().remove(0);
    assert_eq!(accepted.as_ptr(), bytes.as_ptr());
    assert_eq!(accepted, bytes);
}

#[test]
fn messages_are_copied_when_their_request_held_much_else() {
    let message = PubsubMessage {
        data: vec![7; 697].into(),
        ..PubsubMessage::default()
    };
    let message = Bytes::from(message.encode_to_vec());
    assert_eq!(message.len(), 700);
    for (request_bytes, is_copied) in [(1_400, false), (1_600, false), (1_601, true)] {
        let accepted = AcceptedMessages::accept(vec![message.clone(); 2]).expect("accepted");
        let compact = accepted.compact(request_bytes);
        assert_eq!(compact.messages(), [message.clone(), message.clone()]);
        let first = &compact.messages()[0];
        let copied = first.as_ptr() != message.as_ptr();
        assert_eq!(copied, is_copied, "{request_bytes}");
        let second = compact.get(1).expect("the second");
        assert_eq!(second.data(), [7; 697]);
    }
}

#[test]
fn what_only_the_server_sets_is_replaced_by_the_servers_values() {
    let sent = with_server_fields(message());
    let stored = accept(sent.encode_to_vec()).into_messages().remove(0);
    let ids = MessageIds::new(TopicIncarnation(5), 0);
    let received = ReceivedMessage {
        ack_id: "a".to_owned(),
        message: stored,
        server_fields: ServerFields::new(&ids, 17, Timestamp::from_millis(2_003)),
        delivery_attempt: 0,
    };
    let wire = Bytes::from(received.encode_to_vec());
    assert_eq!(wire.len(), received.encoded_len());
    let read = ReceivedMessage::decode(wire).expect("decodes");
    let expected = PubsubMessage {
        message_id: ids.id(17),
        publish_time: Some(prost_types::Timestamp {
            seconds: 2,
            nanos: 3_000_000,
        }),
        ..message()
    };
    assert_eq!(
        PubsubMessage::decode(read.message).expect("decodes"),
        expected
    );
}

#[test]
fn a_message_is_put_together_of_its_parts() {
    let expected = PubsubMessage {
        attributes: [("k", "v"), ("empty", "")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        ..message()
    };
    let encoded = encode(&Parts {
        data: b"hello",
        attributes: vec![("k", "v"), ("empty", "")],
        ordering_key: "key",
    });
    assert_eq!(found(accept(encoded.clone()).get(0)), expected);
    assert_eq!(PubsubMessage::decode(encoded), Ok(expected));
    assert!(encode(&Parts::default()).is_empty());
}

#[test]
fn ids_differ_whatever_the_numbers_are() {
    let ids = [(1, 1, 11), (1, 11, 1), (11, 1, 1), (1, 111, 0), (111, 1, 0)].map(|numbers| {
        let (topic, partition, offset) = numbers;
        MessageIds::new(TopicIncarnation(topic), partition).id(offset)
    });
    assert_eq!(
        ids.iter().collect::<std::collections::HashSet<_>>().len(),
        5
    );
    assert!(ids.iter().all(|id| id.bytes().all(|b| b.is_ascii_digit())));
}

#[test]
fn the_largest_numbers_have_room() {
    let ids = MessageIds::new(TopicIncarnation(u64::MAX), u32::MAX);
    let fields = ServerFields::new(&ids, u64::MAX, Timestamp::from_millis(u64::MAX));
    let read = PubsubMessage::decode(fields.as_bytes()).expect("decodes");
    assert_eq!(read.message_id, ids.id(u64::MAX));
}

/// What prost finds in a message, but for what only the server sets.
fn decoded(message: &[u8]) -> Option<PubsubMessage> {
    let decoded = PubsubMessage::decode(message).ok()?;
    Some(PubsubMessage {
        message_id: String::new(),
        publish_time: None,
        ..decoded
    })
}

/// What the ranges say.
fn found(message: Option<ScannedMessage<'_>>) -> PubsubMessage {
    let message = message.expect("a message");
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    let attributes = message.attributes();
    PubsubMessage {
        data: Bytes::copy_from_slice(message.data()),
        attributes: attributes
            .map(|(name, value)| (text(name), text(value)))
            .collect::<HashMap<_, _>>(),
        ordering_key: text(message.ordering_key()),
        ..PubsubMessage::default()
    }
}

fn field(tag: u32, bytes: &[u8]) -> Vec<u8> {
    let mut field = Vec::new();
    encoding::encode_key(tag, WireType::LengthDelimited, &mut field);
    encoding::encode_varint(bytes.len() as u64, &mut field);
    field.extend_from_slice(bytes);
    field
}

/// Fields that no message and no entry has, of every wire type.
fn unknown_field() -> impl Strategy<Value = Vec<u8>> {
    let bytes = prop::collection::vec(any::<u8>(), 0..200);
    prop_oneof![
        bytes.prop_map(|bytes| field(15, &bytes)),
        any::<u64>().prop_map(|number| {
            let mut field = vec![14 << 3];
            encoding::encode_varint(number, &mut field);
            field
        }),
        Just([&[13 << 3 | 5][..], &[1; 4]].concat()),
        Just([&[12 << 3 | 1][..], &[1; 8]].concat()),
        // A group with a field in it.
        Just(vec![11 << 3 | 3, 1 << 3, 5, 11 << 3 | 4]),
    ]
}

/// An entry with a name, as merging may leave it: fields in any order and more than once, the last of which count.
fn entry() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        "[a-fü]{0,3}".prop_map(|name| field(KEY_TAG, name.as_bytes())),
        ".{0,5}".prop_map(|value| field(VALUE_TAG, value.as_bytes())),
        unknown_field(),
    ];
    let parts = || prop::collection::vec(part.clone(), 0..3).prop_map(|parts| parts.concat());
    let name = "[a-fü]{1,3}".prop_map(|name| field(KEY_TAG, name.as_bytes()));
    let value = ".{0,5}".prop_map(|value| field(VALUE_TAG, value.as_bytes()));
    let value = prop::option::of(value).prop_map(Option::unwrap_or_default);
    (parts(), name, value, unknown_field())
        .prop_map(|(before, name, value, unknown)| [before, name, value, unknown].concat())
}

/// A valid message of any fields, in any order and each as often as it likes.
fn any_message() -> impl Strategy<Value = Bytes> {
    let time = prost_types::Timestamp {
        seconds: 3,
        nanos: 7,
    };
    let data = prop::collection::vec(any::<u8>(), 0..200);
    let part = prop_oneof![
        data.prop_map(|data| field(DATA_TAG, &data)),
        entry().prop_map(|entry| field(ATTRIBUTES_TAG, &entry)),
        ".{0,5}".prop_map(|key| field(ORDERING_KEY_TAG, key.as_bytes())),
        ".{0,5}".prop_map(|id| field(MESSAGE_ID_TAG, id.as_bytes())),
        Just(field(PUBLISH_TIME_TAG, &time.encode_to_vec())),
        unknown_field(),
    ];
    prop::collection::vec(part, 0..8).prop_map(|parts| parts.concat().into())
}

proptest! {
    #[test]
    fn what_a_scan_finds_is_what_prost_decodes(messages in prop::collection::vec(any_message(), 1..8)) {
        let layouts = Layouts::of(&messages);
        for (index, message) in messages.iter().enumerate() {
            let expected = decoded(message).expect("a valid message");
            prop_assert_eq!(found(Some(layouts.message(index, message))), expected);
        }
    }

    #[test]
    fn accepted_messages_are_found_where_they_are_without_the_servers_fields(
        messages in prop::collection::vec(any_message(), 1..8),
        is_compact in any::<bool>(),
    ) {
        let expected: Vec<_> = messages.iter().map(|message| decoded(message).expect("valid")).collect();
        let empty = |message: &PubsubMessage| message.data.is_empty() && message.attributes.is_empty();
        let accepted = AcceptedMessages::accept(messages);
        if expected.iter().any(empty) {
            prop_assert_eq!(accepted.err(), Some(Violation::EmptyMessage));
            return Ok(());
        }
        let accepted = accepted.expect("accepted").compact(if is_compact { 1_000_000 } else { 0 });
        prop_assert_eq!(accepted.scanned().len(), expected.len());
        for ((message, scanned), expected) in accepted.messages().iter().zip(accepted.scanned()).zip(expected) {
            prop_assert_eq!(&found(Some(scanned)), &expected);
            prop_assert_eq!(PubsubMessage::decode(message.clone()), Ok(expected));
        }
    }

    #[test]
    fn any_bytes_are_scanned_and_accepted_as_prost_would_or_refused(
        message in any_message(),
        noise in prop::collection::vec(any::<u8>(), 0..80),
    ) {
        let expected = decoded(&message).expect("a valid message");
        let noise = Bytes::from(noise);
        let layouts = Layouts::of(&[message.clone(), noise.clone(), message.clone()]);
        for index in [0, 2] {
            prop_assert_eq!(&found(Some(layouts.message(index, &message))), &expected);
        }
        if let Some(expected) = decoded(&noise) {
            prop_assert_eq!(found(Some(layouts.message(1, &noise))), expected);
        }
        if let Ok(accepted) = AcceptedMessages::accept(vec![noise]) {
            let decoded = PubsubMessage::decode(accepted.messages()[0].clone());
            prop_assert_eq!(decoded, Ok(found(accepted.get(0))));
        }
    }
}

#[test]
fn of_bytes_that_are_no_message_nothing_is_found() {
    let valid = field(ATTRIBUTES_TAG, &field(KEY_TAG, b"k"));
    let torn = [&valid[..], &[0x0a, 99]].concat();
    let messages: [Bytes; 3] = [valid.clone().into(), torn.into(), valid.into()];
    let layouts = Layouts::of(&messages);
    let count = |index: usize| layouts.message(index, &messages[index]).attributes().len();
    assert_eq!([0, 1, 2].map(count), [1, 0, 1]);
    let behind = layouts.message(3, &messages[0]);
    assert_eq!(found(Some(behind)), PubsubMessage::default());
}

#[test]
fn more_attributes_than_may_be_are_counted() {
    let attributes = |count: usize| field(ATTRIBUTES_TAG, &field(KEY_TAG, b"k")).repeat(count);
    assert_eq!(
        accept(attributes(100))
            .get(0)
            .map(|it| it.attributes().len()),
        Some(100)
    );
    let refused = AcceptedMessages::accept(vec![attributes(1_234).into()]);
    let expected = Violation::too_large("attribute_count", 1_234, 100);
    assert_eq!(refused.err(), Some(expected));
}
