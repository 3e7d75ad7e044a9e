//! A checksum of what a message says.

use crc32fast::Hasher;

use super::layout::{Field, Fields};

/// Of data and ordering key, however the message is encoded: a log may store its parts and put them together again.
pub fn checksum(message: &[u8]) -> u32 {
    let (mut data, mut ordering_key) = (&[][..], &[][..]);
    if let Ok(mut fields) = Fields::of(message) {
        // What cannot be scanned has the checksum of what comes before that.
        while let Ok(Some(field)) = fields.next() {
            match field {
                Field::Data(span) => data = span.of(message),
                Field::OrderingKey(span) => ordering_key = span.of(message),
                Field::Attribute(_) | Field::ServerOnly(_) => {}
            }
        }
    }
    let mut hasher = Hasher::new();
    hasher.update(&(data.len() as u64).to_be_bytes());
    hasher.update(data);
    hasher.update(ordering_key);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::{
        proto::google::pubsub::v1::PubsubMessage,
        resource::message::{Parts, encode},
    };

    #[test]
    fn a_message_has_one_checksum_however_it_is_encoded() {
        let parts = Parts {
            data: b"data",
            attributes: vec![("b", "2"), ("a", "1")],
            ordering_key: "key",
        };
        let decoded = PubsubMessage::decode(encode(&parts)).expect("a message");
        // In the wrong order, and with an empty field.
        let other = [&b"\x2a\x03key"[..], b"\x0a\x04data"].concat();
        assert_eq!(
            checksum(&encode(&parts)),
            checksum(&decoded.encode_to_vec())
        );
        assert_eq!(checksum(&encode(&parts)), checksum(&other));
        let shifted = Parts {
            data: b"datak",
            ordering_key: "ey",
            ..parts
        };
        assert_ne!(checksum(&encode(&shifted)), checksum(&other));
        checksum(b"\xff\xff");
    }
}
