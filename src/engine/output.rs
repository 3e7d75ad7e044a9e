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
    /// Its encoded bytes.
    pub body: Bytes,
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
    /// Hand these to a stream, or answer a pull with them (which thereby leaves).
    Deliver {
        /// To whom.
        consumer: ConsumerId,
        /// In order of delivery; never empty.
        deliveries: Vec<Delivery>,
    },
    /// Answer a pull with nothing; it thereby leaves.
    Empty {
        /// Which pull.
        consumer: ConsumerId,
        /// Nothing else is available, and something that is cannot be read.
        damaged: bool,
    },
}
