//! What a read asks for, and what became of it.

use std::ops::Range;

use tokio::{sync::oneshot, time::Instant};

use crate::store::{
    StoreError,
    log::{Offset, Partition, ReadBatch},
};

/// What is to be read.
#[derive(Clone, Debug)]
pub(in crate::store::kafka) struct Wanted {
    pub(in crate::store::kafka) topic: String,
    pub(in crate::store::kafka) partition: Partition,
    pub(in crate::store::kafka) range: Range<Offset>,
    pub(in crate::store::kafka) bytes_max: usize,
    /// The partition ends here or later, so that a read which comes so far has all there was.
    pub(in crate::store::kafka) end: Offset,
}

impl Wanted {
    /// Where the read ends at the latest.
    pub(super) fn target(&self) -> Offset {
        self.range.end.min(self.end)
    }

    /// Whether both begin at the same offset of the same partition.
    pub(super) fn begins_with(&self, other: &Self) -> bool {
        self.is_of_partition(other) && self.range.start == other.range.start
    }

    /// Whether both are of the same partition.
    pub(super) fn is_of_partition(&self, other: &Self) -> bool {
        self.partition == other.partition && self.topic == other.topic
    }
}

/// What reading found.
#[derive(Debug)]
pub(in crate::store::kafka) enum Found {
    /// This, and perhaps more behind it.
    Some(ReadBatch),
    /// Not one record before the partition's end as the broker sees it.
    Nothing,
    /// The broker has no such offset.
    OutOfRange,
    /// Something that cannot be read.
    Damage,
    /// A record of another partition than was asked for: the client is in a state that it should not be in.
    Stray,
    /// Not one record; and of one of the partitions that were read together the client said why, but not of which.
    Unclear,
    /// The first offset from which reading goes on.
    Readable(Offset),
}

/// How a read is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// Together with others; from where a reader stands already, if there is one.
    Together,
    /// By itself and begun anew, by a client that asks leaders only: so what the client says is of this read, and what
    /// is not there was not there when the read was asked for.
    Alone,
    /// Like that, and nothing but [`Found::Readable`] is wanted.
    BehindDamage,
}

/// A read that waits for a reader, or is under way.
pub(super) struct Asked {
    pub(super) wanted: Wanted,
    pub(super) how: How,
    pub(super) deadline: Instant,
    /// How often it gave way to others before anything came.
    pub(super) turns: u32,
    answer: oneshot::Sender<Result<Found, StoreError>>,
}

impl Asked {
    /// With where its answer comes.
    pub(super) fn new(
        wanted: Wanted,
        how: How,
        deadline: Instant,
    ) -> (Self, oneshot::Receiver<Result<Found, StoreError>>) {
        let (answer, answered) = oneshot::channel();
        let asked = Self {
            wanted,
            how,
            deadline,
            turns: 0,
            answer,
        };
        (asked, answered)
    }

    /// Whether nobody waits for it any more.
    pub(super) fn is_abandoned(&self) -> bool {
        self.answer.is_closed()
    }

    pub(super) fn answer(self, result: Result<Found, StoreError>) {
        // Who asked may be gone.
        self.answer.send(result).ok();
    }
}

/// Error of a read that got records of another partition.
pub(in crate::store::kafka) fn astray(wanted: &Wanted) -> StoreError {
    StoreError::Unavailable(format!(
        "Kafka's client returned other records than those of {}, partition {}",
        wanted.topic, wanted.partition
    ))
}
