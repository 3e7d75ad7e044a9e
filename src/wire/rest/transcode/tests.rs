//! Any message there and back, beside the JSON of prost-reflect, and what is not JSON of a message.

use std::sync::LazyLock;

use proptest::prelude::*;
use prost::Message as _;
use prost_reflect::{
    DescriptorPool, DynamicMessage, Kind, MapKey, MessageDescriptor, ReflectMessage,
    SerializeOptions, Value,
};

use super::{
    Encoder,
    from_json::{self, Given},
    malformed::Malformed,
    to_json::{self, Encoded, Style},
};
use crate::proto::DESCRIPTORS;

/// One for all, as messages of two are never equal.
static POOL: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(DESCRIPTORS).expect("descriptors"));

fn message(name: &str) -> MessageDescriptor {
    POOL.get_message_by_name(name).expect("a message")
}

fn read(name: &str, json: &str) -> Result<DynamicMessage, Malformed> {
    let message = message(name);
    let mut to = Encoder::with_capacity(0);
    let _given: Given = from_json::read(&mut to, &message, json.as_bytes(), &[])?;
    Ok(DynamicMessage::decode(message, &*to.finish()).expect("what was written is a message"))
}

fn written(message: &DynamicMessage, style: &Style) -> String {
    let encoded = message.encode_to_vec();
    let descriptor = message.descriptor();
    let json = to_json::write(&Encoded::new(&descriptor, &encoded, style), style);
    String::from_utf8(json.expect("a message")).expect("JSON is UTF-8")
}

/// What the request is refused for.
fn refused(name: &str, json: &str) -> String {
    read(name, json).expect_err("refused").to_string()
}

const TOPIC: &str = "google.pubsub.v1.Topic";
const SUBSCRIPTION: &str = "google.pubsub.v1.Subscription";
const PUBLISH: &str = "google.pubsub.v1.PublishRequest";
const UPDATE: &str = "google.pubsub.v1.UpdateTopicRequest";
const SCHEMA: &str = "google.pubsub.v1.Schema";

#[test]
fn names_may_be_written_as_json_or_as_the_proto_does_but_not_both() {
    let camel = read(SUBSCRIPTION, r#"{"ackDeadlineSeconds": 20}"#).expect("a message");
    let snake = read(SUBSCRIPTION, r#"{"ack_deadline_seconds": "20"}"#).expect("a message");
    assert_eq!(camel, snake);
    assert_eq!(
        refused(
            SUBSCRIPTION,
            r#"{"ackDeadlineSeconds": 20, "ack_deadline_seconds": 20}"#
        ),
        r#"Invalid JSON payload received. Unknown name "ackDeadlineSeconds": The field is given more than once."#
    );
}

#[test]
fn lists_and_maps_are_read_up_to_four_times_their_limit() {
    let list = |name: &str, one: &str, count: usize| {
        format!("{{{name}: [{}]}}", [one].repeat(count).join(","))
    };
    let labels = |count| {
        let entries: Vec<_> = (0..count).map(|at| format!(r#""l{at}": "x""#)).collect();
        format!(r#"{{"labels": {{{}}}}}"#, entries.join(","))
    };
    read(PUBLISH, &list(r#""messages""#, "{}", 4000)).expect("not too many");
    assert_eq!(
        refused(PUBLISH, &list(r#""messages""#, "{}", 4001)),
        "Invalid value at 'messages', more than 4000 entries"
    );
    read(TOPIC, &labels(256)).expect("not too many");
    assert_eq!(
        refused(TOPIC, &labels(257)),
        "Invalid value at 'labels', more than 256 entries"
    );
    // The rest is not read, whatever it is.
    assert_eq!(
        refused(
            PUBLISH,
            &format!(r#"{{"messages": [{}"#, "{},".repeat(4001))
        ),
        "Invalid value at 'messages', more than 4000 entries"
    );
    let attributes: Vec<_> = (0..401).map(|at| format!(r#""a{at}": "x""#)).collect();
    let message = format!(r#"{{"attributes": {{{}}}}}"#, attributes.join(","));
    assert_eq!(
        refused(PUBLISH, &list(r#""messages""#, &message, 1)),
        "Invalid value at 'messages[0].attributes', more than 400 entries"
    );
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    for (name, json, text) in [
        (
            TOPIC,
            r#"{"noSuchField": 1}"#,
            r#"Invalid JSON payload received. Unknown name "noSuchField": Cannot find field."#,
        ),
        (
            SUBSCRIPTION,
            r#"{"pushConfig": {"x": 1}}"#,
            r#"Invalid JSON payload received. Unknown name "x" at 'push_config': Cannot find field."#,
        ),
        (
            PUBLISH,
            r#"{"messages": [{}, {"data": "%"}]}"#,
            r#"Invalid value at 'messages[1].data' (TYPE_BYTES), "%""#,
        ),
        (
            SUBSCRIPTION,
            r#"{"ackDeadlineSeconds": "abc"}"#,
            r#"Invalid value at 'ack_deadline_seconds' (TYPE_INT32), "abc""#,
        ),
        (
            SUBSCRIPTION,
            r#"{"ackDeadlineSeconds": 1.5}"#,
            "Invalid value at 'ack_deadline_seconds' (TYPE_INT32), 1.5",
        ),
        (
            SUBSCRIPTION,
            r#"{"ackDeadlineSeconds": 2147483648}"#,
            "Invalid value at 'ack_deadline_seconds' (TYPE_INT32), 2147483648",
        ),
        (
            SUBSCRIPTION,
            r#"{"detached": "yes"}"#,
            r#"Invalid value at 'detached' (TYPE_BOOL), "yes""#,
        ),
        (
            TOPIC,
            r#"{"name": {}}"#,
            "Invalid value at 'name' (TYPE_STRING), an object",
        ),
        (
            TOPIC,
            r#"{"name": []}"#,
            "Invalid value at 'name' (TYPE_STRING), a list",
        ),
        (
            TOPIC,
            r#"{"labels": {"a": 1}}"#,
            "Invalid value at 'labels[a]' (TYPE_STRING), 1",
        ),
        (
            TOPIC,
            r#"{"labels": {"a": null}}"#,
            "Invalid value at 'labels[a]' (TYPE_STRING), null",
        ),
        (
            TOPIC,
            r#"{"messageRetentionDuration": "600"}"#,
            r#"Invalid value at 'message_retention_duration' (type.googleapis.com/google.protobuf.Duration), "600""#,
        ),
        (
            SCHEMA,
            r#"{"type": "NONE"}"#,
            r#"Invalid value at 'type' (type.googleapis.com/google.pubsub.v1.Schema.Type), "NONE""#,
        ),
    ] {
        assert_eq!(refused(name, json), text, "{json}");
    }
}

#[test]
fn bytes_are_base64_of_either_alphabet_with_or_without_padding() {
    let data = [0xfb_u8, 0xff, 0xfe, 0x01];
    for text in ["+//+AQ==", "+//+AQ", "-__-AQ==", "-__-AQ", "+//+AQ="] {
        let json = format!(r#"{{"messages": [{{"data": "{text}"}}]}}"#);
        let request = read(PUBLISH, &json).expect("a message");
        let messages = request.get_field_by_name("messages").expect("a field");
        let first = messages.as_list().expect("a list")[0]
            .as_message()
            .expect("a message")
            .clone();
        let given = first
            .get_field_by_name("data")
            .expect("a field")
            .into_owned();
        assert_eq!(given, Value::Bytes(data.to_vec().into()), "{text}");
    }
    for text in ["A", "+/-_", "AA=A", "A A=", "ä"] {
        let json = format!(r#"{{"messages": [{{"data": "{text}"}}]}}"#);
        assert!(read(PUBLISH, &json).is_err(), "{text}");
    }
}

#[test]
fn a_field_mask_may_be_written_either_way() {
    let mask = |text: &str| {
        let request = read(UPDATE, &format!(r#"{{"updateMask": "{text}"}}"#)).expect("a message");
        written(
            &request,
            &Style {
                pretty: false,
                ..Style::default()
            },
        )
    };
    for text in [
        "labels,messageRetentionDuration",
        "labels,message_retention_duration",
        "labels, messageRetentionDuration,",
    ] {
        assert_eq!(
            mask(text),
            "{\"updateMask\":\"labels,messageRetentionDuration\"}\n",
            "{text}"
        );
    }
}

#[test]
fn times_are_rfc_3339_and_durations_are_bounded() {
    let seek = "google.pubsub.v1.SeekRequest";
    for time in [
        "2026-11-27T10:00:00Z",
        "2026-11-27T10:00:00.123456789Z",
        "2026-11-27t10:00:00+02:00",
    ] {
        assert!(
            read(seek, &format!(r#"{{"time": "{time}"}}"#)).is_ok(),
            "{time}"
        );
    }
    for time in [
        "2026-11-27",
        "2026-11-27 10:00:00Z",
        "2026-11-27T10:00:00",
        "+12026-11-27T10:00:00Z",
        "",
        "now",
    ] {
        assert!(
            read(seek, &format!(r#"{{"time": "{time}"}}"#)).is_err(),
            "{time}"
        );
    }
    let retention = |text: &str| format!(r#"{{"messageRetentionDuration": "{text}"}}"#);
    for duration in ["600s", "600.500s", "-1s", "315576000000s"] {
        assert!(read(TOPIC, &retention(duration)).is_ok(), "{duration}");
    }
    for duration in ["315576000001s", "600", "s", "1m", ""] {
        assert!(read(TOPIC, &retention(duration)).is_err(), "{duration}");
    }
}

#[test]
fn null_is_nothing_and_a_oneof_has_one_value() {
    assert_eq!(
        read(TOPIC, r#"{"name": null, "labels": null}"#),
        read(TOPIC, "{}")
    );
    let cloud = r#""cloudStorage": {}"#;
    let kinesis = r#""awsKinesis": {}"#;
    let settings = |inside: &str| format!(r#"{{"ingestionDataSourceSettings": {{{inside}}}}}"#);
    assert!(read(TOPIC, &settings(cloud)).is_ok());
    assert!(read(TOPIC, &settings(&format!(r#"{cloud}, "awsKinesis": null"#))).is_ok());
    assert_eq!(
        refused(TOPIC, &settings(&format!("{cloud}, {kinesis}"))),
        r#"Invalid JSON payload received. Unknown name "awsKinesis" at 'ingestion_data_source_settings': Another field of the same oneof is given as well."#
    );
}

#[test]
fn what_googles_reader_takes_beside_json_is_the_same_request() {
    let strict = r#"{"messages": [{"data": "b25l", "attributes": {"a": "it's \"so\"\n"}}]}"#;
    let strict = read(PUBLISH, strict).expect("a message");
    for lenient in [
        r#"{'messages': [{'data': 'b25l', 'attributes': {'a': 'it\'s "so"\n'}}]}"#,
        r#"{messages: [{data: "b25l", attributes: {a: "it's \"so\"\n"}}]}"#,
        r#"{"messages": [{"data": "b25l", "attributes": {"a": "it's \"so\"\n",},},],}"#,
        "{\"messages\": [{\"data\": \"b25l\", \"attributes\": {\"a\": \"it's \\\"so\\\"\n\"}}]}",
    ] {
        assert_eq!(read(PUBLISH, lenient), Ok(strict.clone()), "{lenient}");
    }
    // What was read before it turned out to be no JSON counts for nothing.
    let topic = read(
        TOPIC,
        r#"{"name": "a", "labels": {"b": "c"}, kmsKeyName: "d"}"#,
    );
    let same = read(
        TOPIC,
        r#"{"name": "a", "labels": {"b": "c"}, "kmsKeyName": "d"}"#,
    );
    assert_eq!(topic, same);
    assert_eq!(
        refused(TOPIC, "{'labels': {a: 1}}"),
        "Invalid value at 'labels[a]' (TYPE_STRING), 1"
    );
    // The place is that in the body as it was sent.
    let error = refused(TOPIC, "{\"name\": 'a'}}");
    assert_eq!(error, refused(TOPIC, "{\"name\": 'a'"));
    assert!(error.ends_with("at line 1 column 10"), "{error}");
}

#[test]
fn a_bool_may_be_in_quotes() {
    for given in [true, false] {
        let plain = read(SUBSCRIPTION, &format!(r#"{{"detached": {given}}}"#));
        let quoted = read(SUBSCRIPTION, &format!(r#"{{"detached": "{given}"}}"#));
        assert_eq!(plain.expect("a message"), quoted.expect("a message"));
    }
}

#[test]
fn hostile_json_is_refused() {
    let deep = |open: &str| {
        format!(
            r#"{{"messageTransforms": [{{"aiInference": {{"unstructuredInference": {{"parameters": {{"a": {}}}}}}}}}]}}"#,
            open.repeat(1_000_000)
        )
    };
    let many_values = format!(
        r#"{{"messageTransforms": [{{"aiInference": {{"unstructuredInference": {{"parameters": {{"a": [{}1]}}}}}}}}]}}"#,
        "1,".repeat(20_000)
    );
    let cases = [
        String::new(),
        "[".to_owned(),
        "null".to_owned(),
        "1".to_owned(),
        "\"x\"".to_owned(),
        "[]".to_owned(),
        "{} {}".to_owned(),
        "{}x".to_owned(),
        "{\"name\": \"a\", \"name\": \"a\"}".to_owned(),
        "{\"labels\": {\"a\": \"1\", \"a\": \"1\"}}".to_owned(),
        "{\"name\": \"\\ud800\"}".to_owned(),
        "{'name': 1}".to_owned(),
        "{\"labels\": {\"a\": 1e999999}}".to_owned(),
        format!("{{\"name\": {}}}", "9".repeat(1_000_000)),
        "[".repeat(1_000_000),
        "{\"name\":".repeat(1_000_000),
        deep("["),
        deep("{\"a\":"),
        format!("{{{}}}", r#""name": "a","#.repeat(100_000)),
        format!(r#"{{"labels": {{"{}": 1}}}}"#, "a".repeat(1_000_000)),
        format!(r#""{}""#, "\u{7f}".repeat(1_000_000)),
        format!(r#"{{"{}": 1}}"#, "a".repeat(1_000_000)),
        many_values,
        "{'name': 'a', name: 'b'}".to_owned(),
        "{name: 'a',, }".to_owned(),
        "{'name: 1}".to_owned(),
        "{'a':".repeat(1_000_000),
        deep("[[],"),
        format!("{{'{}': 1}}", "\u{1}".repeat(1_000_000)),
    ];
    for json in cases {
        let error = refused(TOPIC, &json);
        assert!(error.len() < 1_000, "{error:.100}");
    }
    let message = message(TOPIC);
    for bytes in [&b"{\"name\": \"\xff\"}"[..], b"\xff", b"{\"\xc0\xaf\": 1}"] {
        let mut encoder = Encoder::with_capacity(0);
        assert!(from_json::read(&mut encoder, &message, bytes, &[]).is_err());
    }
}

#[test]
fn an_answer_is_pretty_unless_it_is_not_wanted_so_and_enums_may_be_numbers() {
    let json = r#"{"type": "AVRO", "name": "n", "definition": "{}"}"#;
    let schema = read(SCHEMA, json).expect("a message");
    assert_eq!(
        written(&schema, &Style::default()),
        "{\n  \"name\": \"n\",\n  \"type\": \"AVRO\",\n  \"definition\": \"{}\"\n}\n"
    );
    let style = Style {
        pretty: false,
        enum_numbers: true,
        ..Style::default()
    };
    assert_eq!(
        written(&schema, &style),
        "{\"name\":\"n\",\"type\":2,\"definition\":\"{}\"}\n"
    );
    assert_eq!(
        written(&read(SCHEMA, "{}").expect("a message"), &Style::default()),
        "{}\n"
    );
}

#[test]
fn fields_in_any_order_and_more_than_once_are_one_message() {
    let first = read(
        SUBSCRIPTION,
        r#"{"labels": {"a": "1"}, "pushConfig": {"pushEndpoint": "e"}}"#,
    );
    let second = read(
        SUBSCRIPTION,
        r#"{"name": "n", "labels": {"a": "2", "b": ""}, "pushConfig": {"attributes": {"x": "y"}}}"#,
    );
    let mut encoded = first.expect("a message").encode_to_vec();
    encoded.extend(second.expect("a message").encode_to_vec());
    let style = Style {
        pretty: false,
        ..Style::default()
    };
    let descriptor = message(SUBSCRIPTION);
    let json =
        to_json::write(&Encoded::new(&descriptor, &encoded, &style), &style).expect("a message");
    assert_eq!(
        String::from_utf8_lossy(&json),
        "{\"name\":\"n\",\"pushConfig\":{\"pushEndpoint\":\"e\",\"attributes\":{\"x\":\"y\"}},\"labels\":{\"a\":\"2\",\"b\":\"\"}}\n"
    );
}

/// Random numbers, the same ones from the same seed (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// A message with random values in random fields.
fn random(message: &MessageDescriptor, depth: u32, rng: &mut Random) -> DynamicMessage {
    let mut made = DynamicMessage::new(message.clone());
    for field in message.fields() {
        if rng.below(3) == 0 {
            continue;
        }
        let kind = field.kind();
        let value = if field.is_map() {
            let entry = kind.as_message().expect("an entry").clone();
            let value = entry.map_entry_value_field().kind();
            let entries = (0..rng.below(3))
                .map(|_| (MapKey::String(text(rng)), random_value(&value, depth, rng)));
            Value::Map(
                entries
                    .filter_map(|(key, value)| Some((key, value?)))
                    .collect(),
            )
        } else if field.is_list() {
            let values = (0..rng.below(4)).map(|_| random_value(&kind, depth, rng));
            Value::List(values.flatten().collect())
        } else {
            match random_value(&kind, depth, rng) {
                Some(value) => value,
                None => continue,
            }
        };
        made.set_field(&field, value);
    }
    made
}

fn text(rng: &mut Random) -> String {
    const CHARACTERS: [char; 10] = ['a', 'Z', '0', '"', '\\', '\n', '\0', 'ä', '\u{2028}', '😀'];
    (0..rng.below(6))
        .map(|_| CHARACTERS[rng.below(CHARACTERS.len() as u64) as usize])
        .collect()
}

/// A value of that kind; none below the last level.
fn random_value(kind: &Kind, depth: u32, rng: &mut Random) -> Option<Value> {
    let bits = rng.next() >> rng.below(64);
    Some(match kind {
        Kind::Double => Value::F64(bits as f64 / 8.0),
        Kind::Float => Value::F32((bits % 1_000_000) as f32 / 8.0),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(bits as i32),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(bits.cast_signed()),
        Kind::Uint32 | Kind::Fixed32 => Value::U32(bits as u32),
        Kind::Uint64 | Kind::Fixed64 => Value::U64(bits),
        Kind::Bool => Value::Bool(bits.is_multiple_of(2)),
        Kind::String => Value::String(text(rng)),
        Kind::Bytes => Value::Bytes(bits.to_le_bytes()[..(bits % 9) as usize].to_vec().into()),
        Kind::Enum(values) => {
            let values: Vec<_> = values.values().map(|value| value.number()).collect();
            Value::EnumNumber(values[bits as usize % values.len()])
        }
        Kind::Message(message) => Value::Message(match message.full_name() {
            "google.protobuf.Any" => return None,
            "google.protobuf.Timestamp" => with(
                message,
                [
                    (
                        "seconds",
                        Value::I64((bits % 253_402_300_800).cast_signed()),
                    ),
                    ("nanos", Value::I32((bits % 1_000_000_000) as i32)),
                ],
            ),
            "google.protobuf.Duration" => {
                let sign = if bits.is_multiple_of(2) { 1 } else { -1 };
                with(
                    message,
                    [
                        (
                            "seconds",
                            Value::I64(sign * (bits % 300_000_000_000).cast_signed()),
                        ),
                        (
                            "nanos",
                            Value::I32(sign as i32 * (bits % 1_000_000_000) as i32),
                        ),
                    ],
                )
            }
            "google.protobuf.FieldMask" => with(
                message,
                [(
                    "paths",
                    Value::List(vec![
                        Value::String("labels".into()),
                        Value::String("push_config.push_endpoint".into()),
                    ]),
                )],
            ),
            "google.protobuf.Value" => with(message, [("string_value", Value::String(text(rng)))]),
            _ if depth == 0 => return None,
            _ => random(message, depth - 1, rng),
        }),
    })
}

fn with<const N: usize>(message: &MessageDescriptor, fields: [(&str, Value); N]) -> DynamicMessage {
    let mut made = DynamicMessage::new(message.clone());
    for (name, value) in fields {
        made.set_field_by_name(name, value);
    }
    made
}

/// The requests and answers of all RPCs.
fn messages() -> Vec<MessageDescriptor> {
    let services: Vec<_> = POOL.services().collect();
    let rpcs = services
        .iter()
        .flat_map(|service| service.methods().collect::<Vec<_>>());
    rpcs.flat_map(|rpc| [rpc.input(), rpc.output()]).collect()
}

/// The JSON of prost-reflect.
fn theirs(message: &DynamicMessage) -> serde_json::Value {
    let options = SerializeOptions::new();
    let json = message.serialize_with_options(serde_json::value::Serializer, &options);
    json.expect("a message")
}

fn cases() -> u32 {
    if std::env::var_os("PACKETBOAT_LONG").is_some() {
        2_000
    } else {
        64
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    /// Any message becomes the JSON that prost-reflect makes of it, and comes back out of it.
    #[test]
    fn a_message_survives_json(seed in any::<u64>()) {
        let mut rng = Random(seed);
        for descriptor in messages() {
            let message = random(&descriptor, 4, &mut rng);
            let json = written(&message, &Style { pretty: seed.is_multiple_of(2), ..Style::default() });
            let ours: serde_json::Value = serde_json::from_str(&json).expect("JSON");
            let theirs = theirs(&message);
            prop_assert_eq!(&ours, &theirs);
            let back = read(descriptor.full_name(), &json);
            prop_assert_eq!(back.map(|message| self::theirs(&message)), Ok(theirs));
        }
    }

    /// Nothing that is sent brings it down.
    #[test]
    fn anything_may_be_sent(json in "[{}\\[\\]\"':,a0nult\\-.e]{0,40}") {
        for name in [TOPIC, PUBLISH, UPDATE] {
            let _read = read(name, &json);
        }
    }
}
