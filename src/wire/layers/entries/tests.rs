use std::collections::BTreeSet;

use bytes::Bytes;
use proptest::prelude::*;
use prost::{
    Message,
    encoding::{encode_key, encode_varint},
};
use prost_reflect::{DescriptorPool, Kind, MessageDescriptor};

use super::*;
use crate::{
    limits::{ACK_IDS_MAX, MASK_PATHS_MAX, POLICY_MEMBERS_MAX, PUBLISH_MESSAGES_MAX},
    proto::{
        DESCRIPTORS,
        google::{
            iam::v1::{AuditConfig, AuditLogConfig, Binding, Policy, SetIamPolicyRequest},
            pubsub::v1::{
                MessageTransform, PublishRequest, StreamingPullRequest, Topic, UpdateTopicRequest,
            },
        },
    },
    rpc::{REPEATED, RPCS},
};

const PUBLISH: &str = "/google.pubsub.v1.Publisher/Publish";
const CREATE_TOPIC: &str = "/google.pubsub.v1.Publisher/CreateTopic";
const UPDATE_TOPIC: &str = "/google.pubsub.v1.Publisher/UpdateTopic";
const STREAMING_PULL: &str = "/google.pubsub.v1.Subscriber/StreamingPull";
const SET_POLICY: &str = "/google.iam.v1.IAMPolicy/SetIamPolicy";

fn check(path: &str, request: &[u8]) -> Result<usize, TooMany> {
    let entries = Entries::of(Rpc::at(path));
    let whole = entries.check([request]);
    // However it is cut.
    for bytes in [1, 7, 4096] {
        assert_eq!(entries.check(request.chunks(bytes)), whole);
    }
    if whole.is_ok() {
        assert_eq!(entries.check_beginning(request), Ok(()));
    }
    whole
}

fn too_many(path: &str, request: &[u8]) -> String {
    check(path, request).expect_err("too many").to_string()
}

/// A field's key, its length and its bytes.
fn field(number: u32, bytes: &[u8]) -> Vec<u8> {
    let mut field = Vec::new();
    encode_key(number, WireType::LengthDelimited, &mut field);
    encode_varint(bytes.len() as u64, &mut field);
    field.extend_from_slice(bytes);
    field
}

/// Every repeated field that a message may hold.
fn repeated(message: &MessageDescriptor, known: &mut BTreeSet<String>, to: &mut BTreeSet<String>) {
    if !known.insert(message.full_name().to_owned()) {
        return;
    }
    for field in message.fields() {
        if field.is_list() || field.is_map() {
            to.insert(field.full_name().to_owned());
        }
        if let Kind::Message(inside) = field.kind() {
            repeated(&inside, known, to);
        }
    }
}

#[test]
fn every_repeated_field_of_every_request_has_a_limit() {
    let pool = DescriptorPool::decode(DESCRIPTORS).expect("descriptors");
    let (mut known, mut fields) = (BTreeSet::new(), BTreeSet::new());
    for rpc in RPCS {
        let (service, name) = rpc.names();
        let Some(service) = pool.get_service_by_name(service) else {
            assert!(Entries::of(rpc).0.is_none());
            continue;
        };
        let method = service.methods().find(|method| method.name() == name);
        repeated(&method.expect("a method").input(), &mut known, &mut fields);
        assert!(Entries::of(rpc).0.is_some(), "{}", rpc.path);
    }
    let limited: BTreeSet<_> = REPEATED
        .iter()
        .map(|(name, _)| (*name).to_owned())
        .collect();
    assert_eq!(fields, limited);
}

#[test]
fn what_has_four_times_the_public_limit_is_left_to_the_handlers_and_what_has_more_is_refused() {
    let published = |count| PublishRequest {
        topic: "t".to_owned(),
        messages: vec![Bytes::from(vec![0; 20]); count],
    };
    let max = 4 * PUBLISH_MESSAGES_MAX;
    let decoded = check(PUBLISH, &published(max).encode_to_vec());
    assert_eq!(decoded, Ok(max * VALUE_BYTES + 1));
    assert_eq!(
        too_many(PUBLISH, &published(max + 1).encode_to_vec()),
        "The request has more than 4000 entries in PublishRequest.messages, which takes 1000."
    );
    let masked = |count| UpdateTopicRequest {
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["labels".to_owned(); count],
        }),
        ..UpdateTopicRequest::default()
    };
    let max = 4 * MASK_PATHS_MAX;
    let decoded = check(UPDATE_TOPIC, &masked(max).encode_to_vec());
    assert_eq!(decoded, Ok(max * (VALUE_BYTES + "labels".len())));
    assert_eq!(
        too_many(UPDATE_TOPIC, &masked(max + 1).encode_to_vec()),
        "The request has more than 400 entries in FieldMask.paths, which takes 100."
    );
    let transformed = |count| Topic {
        message_transforms: vec![MessageTransform::default(); count],
        ..Topic::default()
    };
    check(CREATE_TOPIC, &transformed(20).encode_to_vec()).expect("not too many");
    assert!(check(CREATE_TOPIC, &transformed(21).encode_to_vec()).is_err());
}

#[test]
fn entries_count_together_wherever_they_lie() {
    let policy = |bindings, members| SetIamPolicyRequest {
        policy: Some(Policy {
            bindings: vec![
                Binding {
                    members: vec![String::new(); members],
                    ..Binding::default()
                };
                bindings
            ],
            ..Policy::default()
        }),
        ..SetIamPolicyRequest::default()
    };
    let max = 4 * POLICY_MEMBERS_MAX;
    check(SET_POLICY, &policy(max / 1000, 1000).encode_to_vec()).expect("not too many");
    assert_eq!(
        too_many(SET_POLICY, &policy(max / 1000 + 1, 1000).encode_to_vec()),
        "The request has more than 6000 entries in Binding.members, which takes 1500."
    );
    // The decoder merges a message that is given twice.
    let half = policy(max / 2 + 1, 0).encode_to_vec();
    check(SET_POLICY, &half).expect("not too many");
    assert!(check(SET_POLICY, &half.repeat(2)).is_err());
}

#[test]
fn numbers_count_with_and_without_a_key_each() {
    let packed = |count| StreamingPullRequest {
        modify_deadline_seconds: vec![600; count],
        ..StreamingPullRequest::default()
    };
    let max = 4 * ACK_IDS_MAX;
    check(STREAMING_PULL, &packed(max).encode_to_vec()).expect("not too many");
    assert!(check(STREAMING_PULL, &packed(max + 1).encode_to_vec()).is_err());
    assert!(check(STREAMING_PULL, &packed(100 * max).encode_to_vec()).is_err());
    let one = [3 << 3, 1];
    check(STREAMING_PULL, &one.repeat(max)).expect("not too many");
    assert!(check(STREAMING_PULL, &one.repeat(max + 1)).is_err());
}

#[test]
fn what_is_not_repeated_is_counted_too() {
    for one in [
        // A name, a storage policy, labels of a subscription that has none, a varint and a group that are not known.
        vec![(1 << 3) | 2, 0],
        vec![(3 << 3) | 2, 0],
        vec![15 << 3, 1],
        vec![(15 << 3) | 3, (15 << 3) | 4],
    ] {
        let few = one.repeat(REQUEST_FIELDS_MAX / 2);
        check(CREATE_TOPIC, &few).expect("not too many");
        let many = one.repeat(REQUEST_FIELDS_MAX + 1);
        assert_eq!(
            too_many(CREATE_TOPIC, &many),
            "The request has more than 10000 fields."
        );
    }
}

/// Requests of which the decoder takes a part that lies behind something that looks like their end.
#[test]
fn nothing_hides_entries_that_the_decoder_finds() {
    let bindings = field(4, b"").repeat(4 * POLICY_MEMBERS_MAX + 1);
    let policy = field(2, &bindings);
    for before in [
        // A group with what is no message inside of a field that would be one.
        [vec![(15 << 3) | 3], field(2, &[0xff]), vec![(15 << 3) | 4]].concat(),
        // A number in more bytes than it needs.
        vec![15 << 3, 0x80, 0x80, 0],
        vec![(15 << 3) | 1, 1, 2, 3, 4, 5, 6, 7, 8],
        vec![(15 << 3) | 5, 1, 2, 3, 4],
        field(15, &[0xff; 300]),
    ] {
        let request = [before, policy.clone()].concat();
        assert!(check(SET_POLICY, &request).is_err());
    }
    // The policy ends in its first binding, of which the decoder takes all before it notices.
    let binding = field(4, &field(2, b"").repeat(4 * POLICY_MEMBERS_MAX + 1));
    let request = [&[(2 << 3) | 2, 1][..], &binding].concat();
    assert!(check(SET_POLICY, &request).is_err());
}

#[test]
fn deep_messages_are_left_to_the_decoder() {
    // Parameters of a transform are JSON, in which lists lie inside of each other.
    let mut value = Vec::new();
    for _ in 0..1000 {
        value = field(6, &field(1, &value));
    }
    let entry = [field(1, b"a"), field(2, &value)].concat();
    let parameters = field(1, &entry);
    let request = field(13, &field(6, &field(4, &field(1, &parameters))));
    check(CREATE_TOPIC, &request).expect("not too many");
}

#[test]
fn an_entry_takes_no_more_memory_than_it_is_counted_with() {
    let sizes = [
        size_of::<Binding>(),
        size_of::<AuditConfig>(),
        size_of::<AuditLogConfig>(),
        size_of::<MessageTransform>(),
        size_of::<(String, String)>(),
        size_of::<(String, prost_types::Value)>(),
    ];
    assert!(
        sizes.iter().all(|bytes| *bytes <= MESSAGE_BYTES),
        "{sizes:?}"
    );
    assert!(size_of::<Bytes>() <= VALUE_BYTES && size_of::<String>() <= VALUE_BYTES);
}

proptest! {
    /// A request of any bytes is counted to the end, or the decoder fails on it.
    #[test]
    fn whatever_is_decoded_was_counted(
        parts in prop::collection::vec(
            prop_oneof![
                Just(field(4, &field(2, b""))),
                Just(field(2, &field(4, &field(2, b"a")))),
                Just(field(2, &[&field(4, b"")[..], &field(4, &field(2, b""))].concat())),
                prop::collection::vec(any::<u8>(), 0..6),
                (0_u8..40, prop::collection::vec(any::<u8>(), 0..4))
                    .prop_map(|(key, rest)| [&[key][..], &rest].concat()),
            ],
            0..12,
        )
    ) {
        let request = parts.concat();
        let entries = Entries::of(Rpc::at(SET_POLICY));
        let plan = entries.0.expect("a plan");
        let mut walk = Walk::new(plan);
        let mut at = Cursor::new(std::iter::once(&request[..]));
        let walked = walk.walk(&mut at, request.len());
        if let Ok(decoded) = SetIamPolicyRequest::decode(&request[..]) {
            prop_assert!(walked.is_ok());
            let bindings = decoded.policy.map_or(0, |policy| policy.bindings.len());
            let counted: usize = plan.tolerated().iter().zip(&walk.left).map(|(all, left)| all - left).sum();
            prop_assert!(counted >= bindings);
        }
    }
}
