//! What Kafka topics are called: the prefix, the project and the topic as an operator knows them, and the
//! incarnation, so that no name is ever used twice.
//!
//! Brokers refuse `a.b` beside `a_b`, and live producers fail on a name that was deleted and created again. The
//! incarnation at the end rules both out. What follows the prefix has three parts without a dot, so that a name says
//! which prefix, project and topic it is of, whatever other prefixes there are. A topic's row has its name: topics that
//! were made when names were formed otherwise (`PREFIX.PROJECT.TOPIC.N`, with dots in the parts) have such ones still.

use std::{fmt::Write as _, hash::Hasher as _};

use siphasher::sip128::{Hasher128 as _, SipHasher13};

use crate::{
    limits::{KAFKA_NAME_CHARS_MAX, KAFKA_PREFIX_CHARS_MAX},
    resource::{id::TopicIncarnation, name::TopicName},
};

/// Before the incarnation. Former names end in digits alone, so no new one equals one of them.
const INCARNATION: char = 't';
const OWNER: &str = "__owner";
const TRIAL: &str = "__doctor";
const FORMER_TRIAL: &str = "doctor";

/// The name of the Kafka topic behind one life of `topic`.
pub(crate) fn kafka_topic(
    prefix: &str,
    topic: &TopicName,
    incarnation: TopicIncarnation,
) -> String {
    let mut name = format!("{prefix}.");
    let project = topic.project();
    let project = project.as_str();
    escape(
        project.strip_prefix("projects/").unwrap_or(project),
        &mut name,
    );
    name.push('.');
    escape(topic.id(), &mut name);
    let end = format!(".{INCARNATION}{}", incarnation.0);
    if name.len() + end.len() > KAFKA_NAME_CHARS_MAX {
        let mut hash = SipHasher13::new();
        hash.write(name.as_bytes());
        let cut = format!("..{:032x}", hash.finish128().as_u128());
        name.truncate(KAFKA_NAME_CHARS_MAX - cut.len() - end.len());
        name.push_str(&cut);
    }
    name + &end
}

/// Whether a topic of ours under this prefix can have this name, be it of the present or of the former form.
pub(crate) fn is_kafka_topic(prefix: &str, name: &str) -> bool {
    let Some((parts, last)) = within(prefix, name).and_then(|rest| rest.rsplit_once('.')) else {
        return false;
    };
    let number = last.strip_prefix(INCARNATION);
    let is_number = |text: &str| {
        text.parse::<u64>()
            .is_ok_and(|number| number.to_string() == text)
    };
    let is_cut = || parts.contains("..");
    match number {
        Some(number) => is_number(number) && (parts.split('.').count() == 2 || is_cut()),
        None => is_number(last) && parts.contains('.'),
    }
}

/// The prefixes under which this could be the name of a topic of ours.
pub(crate) fn prefixes(name: &str) -> impl Iterator<Item = &str> {
    let ends = name.match_indices('.').map(|(at, _)| &name[..at]);
    ends.filter(move |prefix| is_kafka_topic(prefix, name))
}

/// The topic that says which store the prefix belongs to.
pub(crate) fn owner_topic(prefix: &str) -> String {
    format!("{prefix}.{OWNER}")
}

/// The prefix that this topic is about, if it is one of [`owner_topic`].
pub(crate) fn owned_prefix(name: &str) -> Option<&str> {
    name.strip_suffix(OWNER)?.strip_suffix('.')
}

/// Whether names under one of these prefixes are also under the other one.
pub(crate) fn are_nested(prefix: &str, other: &str) -> bool {
    within(prefix, other).is_some() || within(other, prefix).is_some()
}

/// What follows the prefix in a name under it.
pub(crate) fn within<'a>(prefix: &str, name: &'a str) -> Option<&'a str> {
    name.strip_prefix(prefix)?.strip_prefix('.')
}

/// What the names of an examination's topics begin with.
pub(crate) fn trial_topics(prefix: &str) -> String {
    format!("{prefix}.{TRIAL}.")
}

/// Whether an examination has made this topic under this prefix, now or when their names were formed otherwise.
pub(crate) fn is_trial_topic(prefix: &str, name: &str) -> bool {
    let Some((kind, random)) = within(prefix, name).and_then(|rest| rest.split_once('.')) else {
        return false;
    };
    // Names of topics have two more parts.
    [TRIAL, FORMER_TRIAL].contains(&kind) && !random.contains('.')
}

/// Names the log that the topics with this prefix on a cluster are.
pub(super) fn identity(cluster_id: &str, prefix: &str) -> String {
    format!("kafka:{cluster_id}:{prefix}")
}

/// Whether every name that begins with `prefix` is one that Kafka takes.
pub(super) fn is_prefix(prefix: &str) -> bool {
    (1..=KAFKA_PREFIX_CHARS_MAX).contains(&prefix.len()) && prefix.bytes().all(is_plain)
}

/// Kafka knows letters, digits, `.`, `_` and `-`. A dot, which separates the parts, and any other byte become `_` and two
/// hexadecimal digits. So does an underscore that would read as such an escape, and no other: most names stay as they
/// are.
fn escape(text: &str, name: &mut String) {
    let bytes = text.as_bytes();
    for (at, &byte) in bytes.iter().enumerate() {
        let reads_as_escape = byte == b'_'
            && bytes[at + 1..].iter().take(2).copied().all(is_hex)
            && at + 2 < bytes.len();
        if is_plain(byte) && byte != b'.' && !reads_as_escape {
            name.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(name, "_{byte:02x}");
        }
    }
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._-".contains(&byte)
}

fn is_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn named(topic: &str, incarnation: u64) -> String {
        let topic = TopicName::parse("name", topic).expect("a topic name");
        kafka_topic("pb", &topic, TopicIncarnation(incarnation))
    }

    fn escaped(text: &str) -> String {
        let mut name = String::new();
        escape(text, &mut name);
        name
    }

    #[test]
    fn an_operator_recognizes_the_topic() {
        let names = [
            ("projects/shop/topics/orders", "pb.shop.orders.t7"),
            (
                "projects/shop/topics/new_orders.eu-1",
                "pb.shop.new_orders_2eeu-1.t7",
            ),
            (
                "projects/example.com:shop/topics/a~b+c%d",
                "pb.example_2ecom_3ashop.a_7eb_2bc_25d.t7",
            ),
            ("projects/shop/topics/to_be", "pb.shop.to_5fbe.t7"),
        ];
        for (topic, expected) in names {
            assert_eq!(named(topic, 7), expected);
            assert!(is_kafka_topic("pb", expected));
        }
    }

    #[test]
    fn our_names_are_told_from_others() {
        for ours in ["pb.shop.orders.7", "pb.shop.a.b.12", "pb.shop.orders.t7"] {
            assert!(is_kafka_topic("pb", ours), "{ours}");
        }
        for other in [
            "pb.shop.7",
            "pb.shop.t7",
            "pb.shop.orders",
            "pb.shop.orders.",
            "pb.shop.orders.x7",
            "pb.shop.orders.07",
            "pb.shop.orders.t07",
            "pb.x.shop.orders.t7",
            "pbx.shop.orders.7",
            "shop.orders.7",
            "pb.__owner",
            "pb.__doctor.abc",
        ] {
            assert!(!is_kafka_topic("pb", other), "{other}");
        }
    }

    #[test]
    fn a_name_of_our_form_tells_which_prefixes_it_may_be_of() {
        let of = |name| prefixes(name).collect::<Vec<_>>();
        assert_eq!(of("a.b.shop.orders.t7"), ["a.b"]);
        assert_eq!(of("a.b.shop.orders.7"), ["a", "a.b"]);
        for other in ["web.clicks", "web.clicks.2024", "a.t7", "orders", "", "..."] {
            assert!(of(other).is_empty(), "{other}");
        }
    }

    #[test]
    fn a_trial_is_told_from_the_topics_of_a_project_of_that_name() {
        for trial in ["pb.doctor.abc", "pb.__doctor.abc"] {
            assert!(is_trial_topic("pb", trial), "{trial}");
        }
        for topic in ["pb.doctor.orders.7", "pb.doctor.orders.t7", "pb.doctor"] {
            assert!(!is_trial_topic("pb", topic), "{topic}");
        }
    }

    #[test]
    fn prefixes_within_each_other_are_nested() {
        assert!(are_nested("x", "x.p") && are_nested("x.p", "x"));
        assert!(!are_nested("x", "xp") && !are_nested("x.p", "x.q") && !are_nested("x", "x"));
        assert_eq!(owned_prefix(&owner_topic("x.p")), Some("x.p"));
        assert_eq!(owned_prefix("x.p.orders.t7"), None);
    }

    #[test]
    fn a_long_name_is_cut_and_stays_distinct() {
        let long = "x".repeat(250);
        let names: HashSet<_> = ["a", "b"]
            .into_iter()
            .map(|end| named(&format!("projects/p/topics/{long}{end}"), u64::MAX))
            .collect();
        assert_eq!(names.len(), 2);
        for name in names {
            assert_eq!(name.len(), KAFKA_NAME_CHARS_MAX);
            assert!(name.starts_with("pb.p.xxxx") && name.ends_with(&format!(".t{}", u64::MAX)));
            assert!(is_kafka_topic("pb", &name));
        }
    }

    /// Parts of which prefixes, projects and topics are made that look alike when they are put together.
    fn part() -> impl Strategy<Value = String> {
        "(a|p[.]|[.]a|_2e|_|t1|[.]t1|1|[.]1|-|x{120}){1,3}"
    }

    proptest! {
        #[test]
        fn what_is_escaped_is_plain_and_tells_texts_apart(a in "[a-f0-9_~+%:ü.-]{0,6}", b in "[a-f0-9_~+%:ü.-]{0,6}") {
            prop_assert!(escaped(&a).bytes().all(|byte| is_plain(byte) && byte != b'.'));
            prop_assert_eq!(escaped(&a) == escaped(&b), a == b);
        }

        #[test]
        fn a_name_is_of_one_prefix_project_and_topic(
            one in (part(), part(), part(), 1..3_u64),
            other in (part(), part(), part(), 1..3_u64),
        ) {
            let name = |(prefix, project, id, incarnation): &(String, String, String, u64)| {
                let prefix = &prefix[..prefix.len().min(KAFKA_PREFIX_CHARS_MAX)];
                let topic = TopicName::parse("name", &format!("projects/a{project}a/topics/t{id}")).ok();
                topic.map(|topic| {
                    let name = kafka_topic(prefix, &topic, TopicIncarnation(*incarnation));
                    (name, (prefix.to_owned(), topic, *incarnation))
                })
            };
            if let (Some(one), Some(other)) = (name(&one), name(&other)) {
                prop_assert_eq!(one.0 == other.0, one.1 == other.1);
                prop_assert!(one.0.len() <= KAFKA_NAME_CHARS_MAX);
                prop_assert!(is_kafka_topic(&one.1.0, &one.0));
                // It ends in no number, as all former names do.
                let (_, end) = one.0.rsplit_once('.').expect("parts");
                prop_assert!(end.parse::<u64>().is_err());
            }
        }
    }
}
