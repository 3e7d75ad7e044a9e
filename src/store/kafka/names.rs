//! What Kafka topics are called: the prefix, the project and the topic as an operator knows them, and the
//! incarnation, so that no name is ever used twice.
//!
//! Brokers refuse `a.b` beside `a_b`, and live producers fail on a name that was deleted and created again. The
//! incarnation at the end rules both out.

use std::{fmt::Write as _, hash::Hasher as _};

use siphasher::sip::SipHasher13;

use crate::{
    limits::{KAFKA_NAME_CHARS_MAX, KAFKA_PREFIX_CHARS_MAX},
    resource::{id::TopicIncarnation, name::TopicName},
};

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
    let end = format!(".{}", incarnation.0);
    if name.len() + end.len() > KAFKA_NAME_CHARS_MAX {
        let mut hash = SipHasher13::new();
        hash.write(name.as_bytes());
        let cut = format!("..{:016x}", hash.finish());
        name.truncate(KAFKA_NAME_CHARS_MAX - cut.len() - end.len());
        name.push_str(&cut);
    }
    name + &end
}

/// Names the log that the topics with this prefix on a cluster are.
pub(super) fn identity(cluster_id: &str, prefix: &str) -> String {
    format!("kafka:{cluster_id}:{prefix}")
}

/// Whether every name that begins with `prefix` is one that Kafka takes.
pub(super) fn is_prefix(prefix: &str) -> bool {
    (1..=KAFKA_PREFIX_CHARS_MAX).contains(&prefix.len()) && prefix.bytes().all(is_plain)
}

/// Kafka knows letters, digits, `.`, `_` and `-`; another byte becomes `_` and two hexadecimal digits. So does an
/// underscore that would read as such an escape, and no other: most names stay as they are.
fn escape(text: &str, name: &mut String) {
    let bytes = text.as_bytes();
    for (at, &byte) in bytes.iter().enumerate() {
        let reads_as_escape = byte == b'_'
            && bytes[at + 1..].iter().take(2).copied().all(is_hex)
            && at + 2 < bytes.len();
        if is_plain(byte) && !reads_as_escape {
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
            ("projects/shop/topics/orders", "pb.shop.orders.7"),
            (
                "projects/shop/topics/new_orders.eu-1",
                "pb.shop.new_orders.eu-1.7",
            ),
            (
                "projects/example.com:shop/topics/a~b+c%d",
                "pb.example.com_3ashop.a_7eb_2bc_25d.7",
            ),
            ("projects/shop/topics/to_be", "pb.shop.to_5fbe.7"),
        ];
        for (topic, expected) in names {
            assert_eq!(named(topic, 7), expected);
        }
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
            assert!(name.starts_with("pb.p.xxxx") && name.ends_with(&format!(".{}", u64::MAX)));
        }
    }

    proptest! {
        #[test]
        fn what_is_escaped_is_plain_and_tells_texts_apart(a in "[a-f0-9_~+%:ü-]{0,6}", b in "[a-f0-9_~+%:ü-]{0,6}") {
            prop_assert!(escaped(&a).bytes().all(is_plain));
            prop_assert_eq!(escaped(&a) == escaped(&b), a == b);
        }
    }
}
