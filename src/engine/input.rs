//! What an engine is told.

use std::{num::NonZeroU64, ops::Range};

use bytes::Bytes;

use super::{
    dead_letter::Outcome,
    retry::{Backoff, FailureRules},
};
use crate::clock::Timestamp;

/// An open stream or a waiting pull, from 1. Its number is never used twice in one engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConsumerId(pub u64);

/// One delivery of one message: what an ack id stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LeaseId {
    /// The state's generation at the delivery; an older one has no effect.
    pub generation: u32,
    /// Where the message lies.
    pub partition: u32,
    /// Where the message lies.
    pub offset: u64,
    /// The how manieth delivery of the message it was, from 1; deliveries that came back unsent count.
    pub number: u32,
    /// Who made the delivery, and by which rules.
    pub issue: Issue,
}

/// Who made a delivery, and by which rules.
///
/// A lease that was never stored is forgotten in a crash, and the next delivery has its number again. The epoch tells
/// the two apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Issue {
    /// The epoch under which the engine that made it owned the subscription; 0 where that is not known.
    pub epoch: u64,
    /// Whether it was stored before its message left, and is acknowledged by the rules of exactly-once delivery.
    pub exactly_once: bool,
}

/// What the subscription's configuration says about delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Lease of a pulled message, milliseconds.
    pub ack_deadline_millis: u64,
    /// A message is never delivered this long after its publish time, milliseconds.
    pub retention_millis: u64,
    /// Whether delivery is exactly once (docs/behaviour.md, section 9): a message leaves only when its lease is durable,
    /// and only the id of a valid lease has an effect.
    pub exactly_once: bool,
    /// How long a message waits for its redelivery after a failure, which is stored before the message leaves again.
    /// `None`: not at all, and failures are stored a little later.
    pub retry: Option<Backoff>,
    /// A message that failed so often is forwarded to the dead letter topic. `None`: there is none. With one, deliveries
    /// say which attempt they are, and failures are stored before the message leaves again.
    pub attempts_max: Option<u32>,
    /// Whether messages of one ordering key go out in order (docs/behaviour.md, section 10). Never changes.
    pub is_ordered: bool,
}

impl Config {
    /// What becomes of a message whose delivery failed.
    pub(super) const fn failure_rules(&self) -> FailureRules {
        FailureRules {
            retry: self.retry,
            attempts_max: self.attempts_max,
        }
    }
}

/// What stands for an ordering key: a hash of it under a key that nobody knows. Two keys with one hash are ordered as if
/// they were one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrderingKey(NonZeroU64);

impl OrderingKey {
    pub(super) const MIN: Self = Self(NonZeroU64::MIN);

    /// That of this hash.
    pub fn new(hash: u64) -> Self {
        Self(NonZeroU64::new(hash).unwrap_or(NonZeroU64::MAX))
    }
}

/// What stands for a stream's `client_id`: a hash of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(pub u64);

/// How much a consumer takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// An open stream: frames for as long as its outstanding messages stay below both limits.
    Stream {
        /// Lease of its deliveries, milliseconds.
        ack_deadline_millis: u64,
        /// Outstanding messages at most; `u64::MAX` for no limit.
        messages_max: u64,
        /// Outstanding bytes below which it gets another message; `u64::MAX` for no limit.
        bytes_max: u64,
        /// Frames that it takes before it says that it has room again.
        frames: u32,
    },
    /// One response.
    Pull {
        /// Messages in it at most.
        messages_max: usize,
        /// Answer now, with nothing if nothing is available.
        immediate: bool,
    },
}

/// A message that was read from the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadedMessage {
    /// Its position.
    pub offset: u64,
    /// When it was published.
    pub publish_time: Timestamp,
    /// What it is ordered by; read only where [`Config::is_ordered`].
    pub key: Option<OrderingKey>,
    /// Its encoded bytes; the engine only hands them on.
    pub body: Bytes,
}

/// An event. Batches stay batches: a thousand messages are one event.
#[derive(Clone, Debug)]
pub enum Input {
    /// The log now ends here, per partition.
    LogEnds(Vec<u64>),
    /// The answer to [`super::Output::Read`]: everything in `from..next` that has a record.
    Loaded {
        /// As asked.
        partition: u32,
        /// As asked.
        from: u64,
        /// Offsets below it that have no record are done.
        next: u64,
        /// Ascending by offset.
        messages: Vec<LoadedMessage>,
        /// Of messages that a filter left out, as if they had no record.
        filtered_bytes: u64,
    },
    /// The read failed for now; it may be asked again at `retry_at`.
    ReadFailed {
        /// As asked.
        partition: u32,
        /// When to try again.
        retry_at: Timestamp,
    },
    /// What lies in `from..until` is damaged; the rest goes on, and these are tried again at `retry_at`.
    Damaged {
        /// As asked.
        partition: u32,
        /// First damaged offset.
        from: u64,
        /// First offset behind the damage.
        until: u64,
        /// When to try again.
        retry_at: Timestamp,
    },
    /// Messages that a filter leaves out, found without being asked for.
    Filtered {
        /// Where.
        partition: u32,
        /// Of the state when they were; another one may be of another log.
        generation: u32,
        /// Ascending.
        offsets: Vec<Range<u64>>,
    },
    /// The stream that opens next says who it is: keys of an ended stream of this client are its own.
    Client {
        /// Its number.
        consumer: ConsumerId,
        /// Who it is.
        client: ClientId,
    },
    /// A consumer came.
    Open {
        /// Its number.
        consumer: ConsumerId,
        /// What it takes.
        demand: Demand,
    },
    /// A stream can take this many frames from now on. Fewer than before only by what it was given.
    Room {
        /// Which stream.
        consumer: ConsumerId,
        /// Frames.
        frames: u32,
    },
    /// A stream changed the lease of its later deliveries.
    StreamDeadline {
        /// Which stream.
        consumer: ConsumerId,
        /// Milliseconds.
        ack_deadline_millis: u64,
    },
    /// A consumer left. Its leases stay.
    Close {
        /// Its number.
        consumer: ConsumerId,
    },
    /// Messages were acknowledged.
    Ack(Vec<LeaseId>),
    /// Deadlines were moved to now plus so many milliseconds; 0 gives the message back as failed.
    ModifyDeadline(Vec<(LeaseId, u64)>),
    /// Deliveries that never reached the consumer: available again at once, no attempt counted.
    Returned(Vec<LeaseId>),
    /// What came of [`super::Output::Forward`], of each message by itself or together.
    Forwarded {
        /// As asked.
        partition: u32,
        /// By offset.
        outcomes: Vec<(u64, Outcome)>,
    },
    /// The configuration changed.
    Configure(Config),
    /// The changes that [`super::Engine::take_changes`] gave last are durable, or not.
    Flushed {
        /// Whether they are durable.
        stored: bool,
    },
    /// Nothing but time has passed.
    Tick,
}
