//! The stored form of 256 offsets: runs of equal state, a byte or a few each.
//!
//! A run is a varint, `(length - 1) * 4 + tag` or, in version 2, `(length - 1) * 8 + tag`; behind one that was delivered
//! come its time as ticks above the chunk's earliest, the delivery number, and the number less the attempts. What is not
//! covered is pending.

use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;

use super::{
    timers::{tick_of, time_of},
    varint,
};
use crate::{clock::Timestamp, limits::CHUNK_OFFSETS};

/// The state of one offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    /// Nothing has happened to it.
    Pending,
    /// Nothing is left to do.
    Done,
    /// Delivered, awaiting its ack until the time.
    Leased(Delivered),
    /// Awaiting redelivery.
    Failed(Delivered),
    /// Awaiting redelivery, not before the time: a retry policy says so.
    Waiting(Delivered),
    /// A dead letter that was not forwarded.
    Dead(Delivered),
}

/// Facts of a message that was delivered at least once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Delivered {
    /// Deadline of the lease, or when it may be delivered again. In ticks, rounded up.
    pub(super) time: Timestamp,
    /// How often it was delivered.
    pub(super) number: u32,
    /// How many of these deliveries failed; never above `number`.
    pub(super) attempts: u32,
}

/// A stored chunk that cannot be read.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ChunkError {
    /// It is not what was stored.
    #[error("chunk {index} of a subscription's stored state is damaged")]
    Damaged {
        /// Its index.
        index: u64,
    },
    /// A newer release has stored it, in a form that this one does not know.
    #[error("chunk {index} of a subscription's stored state needs data version {needs}")]
    Newer {
        /// Its index.
        index: u64,
        /// The data version that it needs.
        needs: u32,
    },
}

/// The highest data version that a chunk may need. It needs less where less is in use in it.
const VERSION_MAX: u8 = 2;
const PENDING: u64 = 0;
const DONE: u64 = 1;
const LEASED: u64 = 2;
const FAILED: u64 = 3;
/// From here on since version 2.
const WAITING: u64 = 4;
const DEAD: u64 = 5;

/// Bits of a tag.
const fn tag_bits(version: u8) -> u32 {
    if version < 2 { 2 } else { 3 }
}

/// Encodes up to 256 slots; `None` when all of them are pending.
pub(super) fn encode(slots: &[Slot]) -> Option<Bytes> {
    let covered = slots.iter().rposition(|slot| *slot != Slot::Pending)? + 1;
    let slots = &slots[..covered];
    let base = slots.iter().filter_map(tick).min().unwrap_or_default();
    let is_new = |slot: &Slot| matches!(slot, Slot::Waiting(_) | Slot::Dead(_));
    let version = if slots.iter().any(is_new) { 2 } else { 1 };
    let mut buf = BytesMut::with_capacity(32);
    buf.put_u8(version);
    varint::put(&mut buf, base);
    for run in slots.chunk_by(|a, b| a == b) {
        let (tag, delivered) = match run[0] {
            Slot::Pending => (PENDING, None),
            Slot::Done => (DONE, None),
            Slot::Leased(delivered) => (LEASED, Some(delivered)),
            Slot::Failed(delivered) => (FAILED, Some(delivered)),
            Slot::Waiting(delivered) => (WAITING, Some(delivered)),
            Slot::Dead(delivered) => (DEAD, Some(delivered)),
        };
        let length = run.len() as u64 - 1;
        varint::put(&mut buf, length << tag_bits(version) | tag);
        if let Some(delivered) = delivered {
            varint::put(&mut buf, tick_of(delivered.time) - base);
            varint::put(&mut buf, delivered.number.into());
            varint::put(&mut buf, (delivered.number - delivered.attempts).into());
        }
    }
    Some(buf.freeze())
}

/// Decodes what [`encode`] made; slots behind the end are pending.
pub(super) fn decode(index: u64, body: &[u8]) -> Result<Vec<Slot>, ChunkError> {
    let damaged = ChunkError::Damaged { index };
    match body.split_first() {
        Some((0, _)) | None => Err(damaged),
        Some((&version, slots)) if version <= VERSION_MAX => {
            decode_slots(slots, tag_bits(version)).ok_or(damaged)
        }
        Some((&version, _)) => Err(ChunkError::Newer {
            index,
            needs: version.into(),
        }),
    }
}

fn decode_slots(mut body: &[u8], tag_bits: u32) -> Option<Vec<Slot>> {
    let base = varint::take(&mut body)?;
    let mut slots = Vec::with_capacity(CHUNK_OFFSETS as usize);
    while !body.is_empty() {
        let head = varint::take(&mut body)?;
        let length = (head >> tag_bits).checked_add(1)?;
        if slots.len() as u64 + length > CHUNK_OFFSETS {
            return None;
        }
        let slot = match head & ((1 << tag_bits) - 1) {
            PENDING => Slot::Pending,
            DONE => Slot::Done,
            LEASED => Slot::Leased(take_delivered(&mut body, base)?),
            FAILED => Slot::Failed(take_delivered(&mut body, base)?),
            WAITING => Slot::Waiting(take_delivered(&mut body, base)?),
            DEAD => Slot::Dead(take_delivered(&mut body, base)?),
            _ => return None,
        };
        slots.resize(slots.len() + length as usize, slot);
    }
    Some(slots)
}

fn take_delivered(body: &mut &[u8], base: u64) -> Option<Delivered> {
    let tick = base.checked_add(varint::take(body)?)?;
    let number = u32::try_from(varint::take(body)?).ok()?;
    let unfailed = u32::try_from(varint::take(body)?).ok()?;
    Some(Delivered {
        time: time_of(tick),
        number,
        attempts: number.checked_sub(unfailed)?,
    })
}

fn tick(slot: &Slot) -> Option<u64> {
    match slot {
        Slot::Pending | Slot::Done => None,
        Slot::Leased(delivered)
        | Slot::Failed(delivered)
        | Slot::Waiting(delivered)
        | Slot::Dead(delivered) => Some(tick_of(delivered.time)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The limit that docs and DESIGN give a stored chunk, bytes.
    const CHUNK_BYTES_MAX: usize = 1536;

    fn slot() -> impl Strategy<Value = Slot> {
        let delivered = (0u64..16_000, 1u32..120).prop_flat_map(|(ticks, number)| {
            (0..=number).prop_map(move |attempts| Delivered {
                time: time_of(170_000_000_000 + ticks),
                number,
                attempts,
            })
        });
        prop_oneof![
            Just(Slot::Pending),
            Just(Slot::Done),
            delivered.clone().prop_map(Slot::Leased),
            delivered.clone().prop_map(Slot::Failed),
            delivered.clone().prop_map(Slot::Waiting),
            delivered.prop_map(Slot::Dead),
        ]
    }

    proptest! {
        #[test]
        fn a_chunk_comes_back_as_it_was_and_stays_small(slots in prop::collection::vec(slot(), 0..=256)) {
            let covered = slots.iter().rposition(|slot| *slot != Slot::Pending).map_or(0, |at| at + 1);
            if let Some(body) = encode(&slots) {
                prop_assert!(body.len() <= CHUNK_BYTES_MAX, "{} bytes", body.len());
                prop_assert_eq!(decode(0, &body).expect("decodes"), &slots[..covered]);
            } else {
                prop_assert_eq!(covered, 0);
            }
        }

        #[test]
        fn a_chunk_of_a_newer_release_is_not_damaged(version in 3u8.., body in prop::collection::vec(any::<u8>(), 0..64)) {
            let body = [&[version], body.as_slice()].concat();
            let needs = version.into();
            prop_assert_eq!(decode(3, &body), Err(ChunkError::Newer { index: 3, needs }));
        }

        #[test]
        fn a_chunk_needs_the_newer_version_only_for_what_is_new(slots in prop::collection::vec(slot(), 1..=256)) {
            let is_new = slots.iter().any(|slot| matches!(slot, Slot::Waiting(_) | Slot::Dead(_)));
            if let Some(body) = encode(&slots) {
                prop_assert_eq!(body[0], if is_new { 2 } else { 1 });
            }
        }

        #[test]
        fn damaged_bytes_are_refused_and_never_panic(body in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(slots) = decode(0, &body) {
                prop_assert!(slots.len() <= 256);
            }
        }
    }
}
