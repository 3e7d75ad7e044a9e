//! Ack ids: opaque to clients, complete in themselves, and of no use unless we made them.
//!
//! An id is URL-safe base64 of a form, the varints of subscription and lease, and a MAC over these under a
//! key that is in the store, so that ids from before a restart work and a forged one is told from an old one.

use std::hash::Hasher;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::BufMut;
use siphasher::sip128::{Hasher128, SipHasher24};

use crate::{
    engine::{
        input::{Issue, LeaseId},
        varint,
    },
    resource::id::SubscriptionId,
};

/// The form that earlier releases gave ids, without an epoch.
const WITHOUT_EPOCH: u8 = 1;
/// Of a delivery that was made at least once.
const AT_LEAST_ONCE: u8 = 2;
/// Of a delivery that was made exactly once.
const EXACTLY_ONCE: u8 = 3;
/// SipHash-2-4 with a 128-bit output, cut to 96 bits.
const MAC_BYTES: usize = 12;
/// A form, six varints and the MAC.
const RAW_BYTES_MAX: usize = 1 + 6 * varint::BYTES_MAX + MAC_BYTES;
/// Longest text of an ack id. The public limit that it mirrors is 170 (docs/behaviour.md, section 8).
pub(super) const ACK_ID_BYTES_MAX: usize = RAW_BYTES_MAX.div_ceil(3) * 4;

/// The secret of a store's ack ids.
#[derive(Clone)]
pub(super) struct AckKey([u8; 16]);

impl AckKey {
    /// From the bytes in the store.
    pub(super) const fn new(key: [u8; 16]) -> Self {
        Self(key)
    }

    /// The ack id of a delivery.
    pub(super) fn encode(&self, subscription: SubscriptionId, lease: LeaseId) -> String {
        let mut raw = [0u8; RAW_BYTES_MAX];
        let mut free = &mut raw[..];
        free.put_u8(if lease.issue.exactly_once {
            EXACTLY_ONCE
        } else {
            AT_LEAST_ONCE
        });
        for value in [
            subscription.0,
            lease.generation.into(),
            lease.partition.into(),
            lease.offset,
            lease.number.into(),
            lease.issue.epoch,
        ] {
            varint::put(&mut free, value);
        }
        let len = RAW_BYTES_MAX - free.len();
        let mac = self.mac(&raw[..len]);
        raw[len..len + MAC_BYTES].copy_from_slice(&mac);
        URL_SAFE_NO_PAD.encode(&raw[..len + MAC_BYTES])
    }

    /// What an ack id stands for; `None` when this store did not make it.
    pub(super) fn decode(&self, ack_id: &str) -> Option<(SubscriptionId, LeaseId)> {
        if ack_id.len() > ACK_ID_BYTES_MAX {
            return None;
        }
        // The decoder wants room for whole groups of three bytes.
        let mut raw = [0u8; RAW_BYTES_MAX.div_ceil(3) * 3];
        let len = URL_SAFE_NO_PAD.decode_slice(ack_id, &mut raw).ok()?;
        let (body, mac) = raw[..len].split_at_checked(len.checked_sub(MAC_BYTES)?)?;
        if !constant_time_eq(mac, &self.mac(body)) {
            return None;
        }
        let (&form, mut fields) = body.split_first()?;
        let subscription = SubscriptionId(varint::take(&mut fields)?);
        let lease = LeaseId {
            generation: u32::try_from(varint::take(&mut fields)?).ok()?,
            partition: u32::try_from(varint::take(&mut fields)?).ok()?,
            offset: varint::take(&mut fields)?,
            number: u32::try_from(varint::take(&mut fields)?).ok()?,
            issue: Issue {
                epoch: match form {
                    WITHOUT_EPOCH => 0,
                    AT_LEAST_ONCE | EXACTLY_ONCE => varint::take(&mut fields)?,
                    _ => return None,
                },
                exactly_once: form == EXACTLY_ONCE,
            },
        };
        fields.is_empty().then_some((subscription, lease))
    }

    fn mac(&self, body: &[u8]) -> [u8; MAC_BYTES] {
        let mut hasher = SipHasher24::new_with_key(&self.0);
        hasher.write(body);
        let full = hasher.finish128().as_bytes();
        let mut mac = [0; MAC_BYTES];
        mac.copy_from_slice(&full[..MAC_BYTES]);
        mac
    }
}

/// The time that it takes does not tell how much of a forged MAC was right.
fn constant_time_eq(a: &[u8], b: &[u8]) -> bool {
    a.iter().zip(b).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key() -> AckKey {
        AckKey::new([7; 16])
    }

    proptest! {
        #[test]
        fn an_ack_id_stands_for_its_delivery(
            sub: u64,
            generation: u32,
            partition: u32,
            offset: u64,
            number: u32,
            epoch: u64,
            exactly_once: bool,
        ) {
            let issue = Issue { epoch, exactly_once };
            let lease = LeaseId { generation, partition, offset, number, issue };
            let id = key().encode(SubscriptionId(sub), lease);
            prop_assert!(id.len() <= 170);
            prop_assert_eq!(key().decode(&id), Some((SubscriptionId(sub), lease)));
            prop_assert_eq!(AckKey::new([8; 16]).decode(&id), None);
        }

        #[test]
        fn a_changed_ack_id_is_refused(offset: u64, at in 0usize..20, flip in 1u8..=255) {
            let lease = LeaseId { generation: 1, partition: 0, offset, number: 1, issue: Issue::default() };
            let id = key().encode(SubscriptionId(3), lease);
            let mut raw = URL_SAFE_NO_PAD.decode(&id).expect("base64");
            let at = at % raw.len();
            raw[at] ^= flip;
            prop_assert_eq!(key().decode(&URL_SAFE_NO_PAD.encode(&raw)), None);
        }

        #[test]
        fn an_id_of_an_earlier_release_is_of_an_unknown_epoch(sub: u64, offset: u64) {
            let mut body = vec![WITHOUT_EPOCH];
            for value in [sub, 1, 2, offset, 3] {
                varint::put(&mut body, value);
            }
            let mac = key().mac(&body);
            let id = URL_SAFE_NO_PAD.encode([body.as_slice(), &mac].concat());
            let issue = Issue::default();
            let lease = LeaseId { generation: 1, partition: 2, offset, number: 3, issue };
            prop_assert_eq!(key().decode(&id), Some((SubscriptionId(sub), lease)));
        }

        #[test]
        fn any_text_decodes_or_not_without_panic(text in ".{0,200}") {
            prop_assert_eq!(key().decode(&text), None);
        }
    }
}
