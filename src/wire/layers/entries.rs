//! Counts what a request would become, before it is decoded: an entry of a repeated field may be two bytes of its
//! request and hundreds in memory, and gzip makes millions of them of a few kilobytes.
//!
//! The request is walked field by field, as the decoder would walk it, and no further than its limits go. What cannot
//! be decoded is left to the decoder, which fails no later than the walk ends. How many entries a field takes is in
//! the table of RPCs.

mod cursor;
mod plan;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::LazyLock};

use prost::encoding::WireType;
use thiserror::Error;
use tonic::Status;

use self::{
    cursor::{Cursor, Ended},
    plan::{Counted, Plan},
};
use crate::{
    limits::{ENTRIES_TOLERANCE, REQUEST_DEPTH_MAX, REQUEST_FIELDS_MAX},
    rpc::Rpc,
};

/// Bytes in memory of an entry that is a number, a text or bytes, beside those of the text.
const VALUE_BYTES: usize = 32;
/// Bytes in memory of an entry that is a message or of a map, beside those of its texts.
const MESSAGE_BYTES: usize = 320;

/// A few comparisons of a path cost less than the hash that it would need.
static PLANS: LazyLock<BTreeMap<&'static str, Plan>> = LazyLock::new(plan::of_all);

/// How the requests of an RPC are counted. Cheap to copy.
#[derive(Clone, Copy, Debug)]
pub struct Entries(Option<&'static Plan>);

/// A request has too many entries.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TooMany {
    /// In one of its fields.
    #[error(
        "The request has more than {} entries in {field}, which takes {max}.",
        max * ENTRIES_TOLERANCE
    )]
    Entries {
        /// Its name without its package.
        field: &'static str,
        /// How many it takes.
        max: usize,
    },
    /// It has too many fields that take one value or are not known.
    #[error("The request has more than {REQUEST_FIELDS_MAX} fields.")]
    Fields,
}

impl From<TooMany> for Status {
    fn from(error: TooMany) -> Self {
        Self::invalid_argument(error.to_string())
    }
}

impl Entries {
    /// Of an RPC's requests. Those of which there are no descriptors here are small by their limit.
    pub fn of(rpc: &Rpc) -> Self {
        Self(PLANS.get(rpc.path))
    }

    /// Reads the descriptors now, which else the first request would wait for.
    pub fn prepare() {
        LazyLock::force(&PLANS);
    }

    /// Walks an encoded request, which comes in pieces, and returns about how many bytes it takes in memory once it is
    /// decoded, beside those that it has.
    ///
    /// # Errors
    /// It has too many entries.
    pub fn check<'a>(
        self,
        pieces: impl IntoIterator<Item = &'a [u8], IntoIter: Clone>,
    ) -> Result<usize, TooMany> {
        let Some(plan) = self.0 else {
            return Ok(0);
        };
        let pieces = pieces.into_iter();
        let bytes = pieces.clone().map(<[u8]>::len).sum();
        if bytes <= plan.harmless_bytes() {
            return Ok(0);
        }
        Walk::new(plan).through(Cursor::new(pieces), bytes)
    }

    /// The same of the beginning of a request.
    ///
    /// # Errors
    /// There are too many entries already.
    pub fn check_beginning(self, beginning: &[u8]) -> Result<(), TooMany> {
        let Some(plan) = self.0 else {
            return Ok(());
        };
        let cursor = Cursor::new(std::iter::once(beginning));
        Walk::new(plan).through(cursor, usize::MAX).map(|_| ())
    }
}

/// Why a walk ends before the request does.
enum Stop {
    /// The decoder fails here, or has failed before.
    Undecodable,
    TooMany(TooMany),
}

impl From<Ended> for Stop {
    fn from(_: Ended) -> Self {
        Self::Undecodable
    }
}

/// One request that is being counted.
struct Walk<'a> {
    plan: &'a Plan,
    /// Entries that each counted field may still have.
    left: Vec<usize>,
    /// Other fields that there may still be.
    fields_left: usize,
    decoded_bytes: usize,
}

impl<'a> Walk<'a> {
    fn new(plan: &'a Plan) -> Self {
        Self {
            plan,
            left: plan.tolerated(),
            fields_left: REQUEST_FIELDS_MAX,
            decoded_bytes: 0,
        }
    }

    fn through<'b, I>(mut self, mut at: Cursor<'b, I>, bytes: usize) -> Result<usize, TooMany>
    where
        I: Iterator<Item = &'b [u8]>,
    {
        match self.walk(&mut at, bytes) {
            Err(Stop::TooMany(error)) => Err(error),
            Ok(()) | Err(Stop::Undecodable) => Ok(self.decoded_bytes),
        }
    }

    /// Does without recursion, as the messages inside of each other are the request's choice. Like the decoder, it lets
    /// a message go on behind the end of the one around it, and fails when it has ended.
    fn walk<'b, I>(&mut self, at: &mut Cursor<'b, I>, bytes: usize) -> Result<(), Stop>
    where
        I: Iterator<Item = &'b [u8]>,
    {
        let mut outer = Vec::new();
        let (mut message, mut end) = (Plan::REQUEST, bytes);
        // Groups of unknown fields that are open: whatever is in them is unknown, too.
        let mut groups = 0;
        loop {
            while groups == 0 && at.position() >= end {
                if at.position() > end {
                    return Err(Stop::Undecodable);
                }
                let Some(around) = outer.pop() else {
                    return Ok(());
                };
                (message, end) = around;
            }
            let key = at.varint()?;
            let key = u32::try_from(key).map_err(|_| Stop::Undecodable)?;
            let wire_type = WireType::try_from(u64::from(key & 7));
            let wire_type = wire_type.map_err(|_| Stop::Undecodable)?;
            let field = self.plan.field(message, key >> 3);
            let field = field.filter(|_| groups == 0);
            let counted = field.and_then(|field| field.counted);
            match wire_type {
                WireType::LengthDelimited => {}
                _ => self.count(counted, 1)?,
            }
            match wire_type {
                WireType::Varint => drop(at.varint()?),
                WireType::SixtyFourBit => at.skip(8)?,
                WireType::ThirtyTwoBit => at.skip(4)?,
                WireType::StartGroup => {
                    groups += 1;
                    if groups > REQUEST_DEPTH_MAX {
                        return Err(Stop::Undecodable);
                    }
                }
                WireType::EndGroup => {
                    groups = groups.checked_sub(1).ok_or(Stop::Undecodable)?;
                }
                WireType::LengthDelimited => {
                    let length = at.varint()?;
                    let length = usize::try_from(length).map_err(|_| Stop::Undecodable)?;
                    let packed = counted.filter(|counted| counted.is_packed);
                    if let Some(packed) = packed {
                        self.count_packed(packed, length, at)?;
                        continue;
                    }
                    self.count(counted, 1)?;
                    if let Some(inside) = field.and_then(|field| field.message) {
                        let ends = at.position().checked_add(length);
                        let ends = ends.filter(|ends| *ends <= bytes);
                        let ends = ends.ok_or(Stop::Undecodable)?;
                        outer.push((message, end));
                        if outer.len() > REQUEST_DEPTH_MAX {
                            return Err(Stop::Undecodable);
                        }
                        (message, end) = (inside, ends);
                    } else {
                        at.skip(length)?;
                        let mut copied = length;
                        // Nearly all of a large request is entries of one field.
                        if let (Some(counted), Ok(key @ 0..0x80), true) =
                            (counted, u8::try_from(key), outer.is_empty())
                        {
                            let max = self.left[counted.index];
                            let (entries, bytes) = at.skip_alike(key, max);
                            self.count(Some(counted), entries)?;
                            copied += bytes;
                        }
                        if field.is_some_and(|field| field.is_copied) {
                            self.decoded_bytes = self.decoded_bytes.saturating_add(copied);
                        }
                    }
                }
            }
        }
    }

    fn count(&mut self, counted: Option<Counted>, entries: usize) -> Result<(), Stop> {
        let Some(counted) = counted else {
            let left = self.fields_left.checked_sub(entries);
            self.fields_left = left.ok_or(Stop::TooMany(TooMany::Fields))?;
            return Ok(());
        };
        let left = &mut self.left[counted.index];
        let Some(after) = left.checked_sub(entries) else {
            return Err(Stop::TooMany(self.plan.too_many(counted)));
        };
        *left = after;
        let of_one = if counted.is_message {
            MESSAGE_BYTES
        } else {
            VALUE_BYTES
        };
        self.decoded_bytes = self.decoded_bytes.saturating_add(entries * of_one);
        Ok(())
    }

    /// Numbers behind each other, of one byte to ten each.
    fn count_packed<'b, I>(
        &mut self,
        counted: Counted,
        length: usize,
        at: &mut Cursor<'b, I>,
    ) -> Result<(), Stop>
    where
        I: Iterator<Item = &'b [u8]>,
    {
        const NUMBER_BYTES_MAX: usize = 10;
        if length / NUMBER_BYTES_MAX > self.left[counted.index] {
            return Err(Stop::TooMany(self.plan.too_many(counted)));
        }
        let entries = at.count_varints(length)?;
        self.count(Some(counted), entries)
    }
}
