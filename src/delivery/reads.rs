//! Reads of the log on their way, and what their results mean to the engine.

use std::{hash::BuildHasher, ops::Range, sync::Arc};

use bytes::Bytes;
use futures_util::{
    StreamExt,
    future::{BoxFuture, FutureExt},
    stream::FuturesUnordered,
};

use super::{
    activity::Acked,
    budget::{Held, Share},
    hashes::Hashes,
};
use crate::{
    clock::Timestamp,
    engine::input::{Input, LoadedMessage, OrderingKey},
    filter::Filter,
    limits::{DAMAGE_RETRY_MILLIS, READ_RETRY_MILLIS},
    resource::name::SubscriptionName,
    store::{
        MessageLog, StoreError,
        batch::LogRecord,
        log::{ReadBatch, TopicLog},
        operations::{Operation, Operations},
    },
};

/// A read that has ended.
pub(super) struct Read {
    partition: u32,
    range: Range<u64>,
    result: Result<Found, ReadError>,
    held: Held,
}

/// What a read found.
struct Found {
    next: u64,
    /// Those that match the filter.
    messages: Vec<LoadedMessage>,
    /// The last record, unless it is the last of these.
    last: Option<LoadedMessage>,
    /// Of messages that do not match.
    filtered_bytes: u64,
}

impl Found {
    fn of(batch: &ReadBatch, filter: Option<&Filter>, hashes: Option<&Hashes>) -> Self {
        let loaded = |(record, body)| loaded(record, body, hashes);
        let Some(filter) = filter else {
            let mut messages = Vec::with_capacity(batch.count());
            for run in &batch.runs {
                let records = run.records().zip(run.messages());
                messages.extend(records.map(loaded));
            }
            return Self {
                next: batch.next,
                messages,
                last: None,
                filtered_bytes: 0,
            };
        };
        let mut messages = Vec::new();
        for run in &batch.runs {
            let chosen = run.chosen(|record| {
                let message = record.scanned();
                filter.matches(|name| message.attribute(name))
            });
            messages.extend(chosen.into_iter().map(loaded));
        }
        let sum = |bytes: &mut dyn Iterator<Item = usize>| bytes.sum::<usize>();
        let bytes = sum(&mut batch.records().map(|record| record.message().len()));
        let matching = sum(&mut messages.iter().map(|message| message.body.len()));
        let last = batch.records().last();
        let last = last.filter(|last| {
            let matching = messages.last().map(|message| message.offset);
            matching != Some(last.offset())
        });
        Self {
            next: batch.next,
            last: last.map(|last| loaded((last, last.message().clone()))),
            filtered_bytes: (bytes - matching) as u64,
            messages,
        }
    }
}

fn loaded(record: LogRecord<'_>, body: Bytes, hashes: Option<&Hashes>) -> LoadedMessage {
    let key = hashes.and_then(|hashes| {
        let key = record.scanned().ordering_key();
        (!key.is_empty()).then(|| OrderingKey::new(hashes.hash_one(key)))
    });
    LoadedMessage {
        offset: record.offset(),
        publish_time: record.publish_time(),
        key,
        body,
    }
}

/// Why nothing was read.
pub(super) enum ReadError {
    Failed(StoreError),
    /// Readable again from here.
    Damaged(StoreError, u64),
}

/// At most one per partition, as the engine asks for no more.
pub(super) struct Reads {
    on_their_way: FuturesUnordered<BoxFuture<'static, Read>>,
    filter: Option<Arc<Filter>>,
    hashes: Option<Hashes>,
}

impl Reads {
    /// Of a subscription with this filter. Ordering keys are read if there is something to hash them with.
    pub(super) fn new(filter: Option<Arc<Filter>>, hashes: Option<Hashes>) -> Self {
        Self {
            on_their_way: FuturesUnordered::new(),
            filter,
            hashes,
        }
    }

    /// Starts one when `share` has room for it.
    pub(super) fn start(
        &self,
        share: &Share,
        log: &Arc<dyn MessageLog>,
        topic: &TopicLog,
        partition: u32,
        range: Range<u64>,
        bytes_max: usize,
    ) {
        let (share, log, topic) = (share.clone(), Arc::clone(log), topic.clone());
        let (filter, hashes) = (self.filter.clone(), self.hashes.clone());
        let read = async move {
            let (bytes_max, mut held) = share.room(bytes_max).await;
            let result = read(log.as_ref(), &topic, partition, range.clone(), bytes_max).await;
            let result = result.map(|batch| Found::of(&batch, filter.as_deref(), hashes.as_ref()));
            let found = result.as_ref().map_or(&[][..], |found| &found.messages);
            held.found(found.iter().map(|message| message.body.len()).sum());
            Read {
                partition,
                range,
                result,
                held,
            }
        };
        self.on_their_way.push(read.boxed());
    }

    /// A read that has ended, if there is one.
    pub(super) fn ended(&mut self) -> Option<Read> {
        self.next().now_or_never()?
    }

    /// The next read that ends; `None` when none is on its way. Safe to cancel.
    pub(super) async fn next(&mut self) -> Option<Read> {
        self.on_their_way.next().await
    }
}

/// Reads records of a log, and finds where damage ends.
pub(super) async fn read(
    log: &dyn MessageLog,
    topic: &TopicLog,
    partition: u32,
    range: Range<u64>,
    bytes_max: usize,
) -> Result<ReadBatch, ReadError> {
    let from = range.start;
    match log.read(topic, partition, range.clone(), bytes_max).await {
        Ok(batch) if !batch.answers(&range) => {
            let text = "the log answered with other records than were asked for";
            tracing::error!(location = ?topic.location, partition, ?range, next = batch.next, "{text}");
            Err(ReadError::Failed(StoreError::Unavailable(text.to_owned())))
        }
        Ok(batch) => Ok(batch),
        Err(damage @ StoreError::Damaged(_)) => {
            match log.skip_damage(topic, partition, from).await {
                Ok(until) => Err(ReadError::Damaged(damage, until)),
                Err(error) => Err(ReadError::Failed(error)),
            }
        }
        Err(error) => Err(ReadError::Failed(error)),
    }
}

impl Read {
    /// The last record that it found, whether or not it matches the filter, with its partition.
    pub(super) fn last(&self) -> Option<(u32, &LoadedMessage)> {
        let found = self.result.as_ref().ok()?;
        let last = found.last.as_ref().or(found.messages.last())?;
        Some((self.partition, last))
    }

    /// Tells retention what the filter left out, which is done.
    pub(super) fn note_filtered(&self, acked: &mut Acked) {
        if let Ok(found) = &self.result
            && found.filtered_bytes > 0
        {
            let offsets = self.range.start..found.next;
            acked.filter(self.partition, offsets, found.filtered_bytes);
        }
    }

    /// The event for the engine of `subscription`, and the account of its messages. Failures are logged here, outages of
    /// the log by `operations`.
    pub(super) fn into_input(
        self,
        subscription: &SubscriptionName,
        operations: &Operations,
        now: Timestamp,
    ) -> (Input, Held) {
        let Self {
            partition,
            range,
            result,
            held,
        } = self;
        operations.note(
            Operation::Read,
            match &result {
                Err(ReadError::Failed(error)) => Some(error),
                Ok(_) | Err(ReadError::Damaged(..)) => None,
            },
        );
        let input = match result {
            Ok(found) => Input::Loaded {
                partition,
                from: range.start,
                next: found.next,
                messages: found.messages,
                filtered_bytes: found.filtered_bytes,
            },
            Err(ReadError::Failed(error)) => {
                if !error.is_outage() {
                    tracing::warn!(%subscription, %error, "the log could not be read; trying again");
                }
                Input::ReadFailed {
                    partition,
                    retry_at: now.plus_millis(READ_RETRY_MILLIS),
                }
            }
            Err(ReadError::Damaged(error, until)) => {
                tracing::error!(
                    %subscription, partition, from = range.start, until, %error,
                    "messages are left out because they cannot be read; the rest is delivered"
                );
                Input::Damaged {
                    partition,
                    from: range.start,
                    until,
                    retry_at: now.plus_millis(DAMAGE_RETRY_MILLIS),
                }
            }
        };
        (input, held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::Clock,
        resource::{
            id::TopicIncarnation,
            message::{self, Parts},
            name::TopicName,
        },
        store::memory::MemoryLog,
    };

    /// What a read finds of ten messages that are numbered in an attribute: the offsets that match, that of the last
    /// record where it does not, and the bytes of what does not.
    async fn found(filter: &str) -> (Vec<u64>, Option<u64>, u64) {
        let (clock, _hand) = Clock::manual(Timestamp::from_millis(1_000_000));
        let log = MemoryLog::new(clock, usize::MAX);
        let name = TopicName::parse("name", "projects/p/topics/top").expect("valid");
        let incarnation = TopicIncarnation(1);
        let location = log.create(incarnation, &name).await.expect("a log");
        let topic = TopicLog {
            incarnation,
            location: Arc::new(location),
        };
        let message = |number: u8| {
            message::encode(&Parts {
                attributes: vec![("number", &number.to_string())],
                ..Parts::default()
            })
        };
        let messages: Vec<_> = (0..10).map(message).collect();
        let bytes: usize = messages.iter().map(Bytes::len).sum();
        assert_eq!(bytes, 130);
        log.append(&topic, messages.into()).await.expect("appended");
        let batch = read(&log, &topic, 0, 0..20, usize::MAX).await;
        let filter = Filter::parse(filter).expect("a filter");
        let found = Found::of(&batch.ok().expect("read"), Some(&filter), None);
        assert_eq!(found.next, 10);
        let offsets = found.messages.iter().map(|message| message.offset);
        (
            offsets.collect(),
            found.last.map(|last| last.offset),
            found.filtered_bytes,
        )
    }

    #[tokio::test]
    async fn what_does_not_match_is_left_out_and_the_last_record_is_known_all_the_same() {
        for (filter, offsets, last, bytes) in [
            (r#"attributes.number = "3""#, &[3][..], Some(9), 117),
            (r#"attributes.number = "9""#, &[9], None, 117),
            (r#"attributes.number = "x""#, &[], Some(9), 130),
            (
                "attributes:number",
                &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
                None,
                0,
            ),
        ] {
            assert_eq!(found(filter).await, (offsets.to_vec(), last, bytes));
        }
    }
}
