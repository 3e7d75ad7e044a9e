//! What an engine wants done.

use std::ops::Range;

use bytes::Bytes;

use super::input::{ConsumerId, LeaseId};
use crate::clock::Timestamp;

/// A message on its way to a consumer, leased to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// What its ack id stands for.
    pub lease: LeaseId,
    /// When the message was published.
    pub publish_time: Timestamp,
    /// Which attempt it is, from 1; 0 without a dead letter policy.
    pub attempt: u32,
    /// Its encoded bytes.
    pub body: Bytes,
}

/// A message that is to be forwarded to the dead letter topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its position.
    pub offset: u64,
    /// How many of its deliveries failed.
    pub attempts: u32,
}

/// A lease that has ended, by whatever route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Whose credit it gives back; nobody's after a restart.
    pub consumer: Option<ConsumerId>,
    /// Where the message lies.
    pub partition: u32,
    /// Where the message lies.
    pub offset: u64,
    /// The how manieth delivery of the message it was.
    pub number: u32,
    /// What it took of the credit.
    pub bytes: u64,
}

/// What a request with the id of a delivery found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The delivery was the newest of its message and its lease valid: the message is acknowledged, its deadline
    /// moved, or it was given back.
    Applied,
    /// Nothing was left to do for the message: acknowledged before, too old, or gone from the log.
    Done,
    /// The lease had ended, or a newer delivery has superseded it. Only an ack took effect all the same.
    Ended,
    /// The id is of a delivery that the state knows nothing of: another generation, or offsets that the log lost.
    Void,
    /// The lease is valid, and something before the message in its ordering key is not done. Only where delivery is
    /// exactly once, and only of an ack, which took no effect.
    Unordered,
    /// The delivery was made at least once, before delivery became exactly once: it took effect or not, and its consumer
    /// need not know.
    Accepted,
}

/// A command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Read records and answer with `Loaded`, `ReadFailed` or `Damaged`. One per partition at a time.
    Read {
        /// Where.
        partition: u32,
        /// What.
        range: Range<u64>,
        /// About how much.
        bytes_max: usize,
    },
    /// Publish these to the dead letter topic and answer with `Forwarded`. Nothing else is done with them meanwhile.
    Forward {
        /// Where.
        partition: u32,
        /// Of the state.
        generation: u32,
        /// In the order of the log; never empty, at most [`crate::limits::FORWARDS_PER_PARTITION_MAX`].
        messages: Vec<DeadLetter>,
    },
    /// Hand these to a stream, or answer a pull with them (which thereby leaves).
    Deliver {
        /// To whom.
        consumer: ConsumerId,
        /// When the leases in it end, unless they are moved.
        deadline: Timestamp,
        /// In order of delivery; never empty.
        deliveries: Vec<Delivery>,
    },
    /// A message with an ordering key, set aside as it could not be read, now could be. It goes out behind what
    /// followed it.
    Late {
        /// Where.
        partition: u32,
        /// Its position.
        offset: u64,
    },
    /// Answer a pull with nothing; it thereby leaves.
    Empty {
        /// Which pull.
        consumer: ConsumerId,
        /// Nothing else is available, and something that is cannot be read.
        damaged: bool,
    },
}
