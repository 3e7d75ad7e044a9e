//! Reads of the log on their way, and what their results mean to the engine.

use std::{ops::Range, sync::Arc};

use futures_util::{
    StreamExt,
    future::{BoxFuture, FutureExt},
    stream::FuturesUnordered,
};

use super::budget::{Held, Share};
use crate::{
    clock::Timestamp,
    engine::input::{Input, LoadedMessage},
    limits::{DAMAGE_RETRY_MILLIS, READ_RETRY_MILLIS},
    resource::name::SubscriptionName,
    store::{
        MessageLog, StoreError,
        log::TopicLog,
        operations::{Operation, Operations},
    },
};

/// A read that has ended.
pub(super) struct Read {
    partition: u32,
    range: Range<u64>,
    result: Result<(u64, Vec<LoadedMessage>), ReadError>,
    held: Held,
}

enum ReadError {
    Failed(StoreError),
    /// Readable again from here.
    Damaged(StoreError, u64),
}

/// At most one per partition, as the engine asks for no more.
#[derive(Default)]
pub(super) struct Reads(FuturesUnordered<BoxFuture<'static, Read>>);

impl Reads {
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
        let read = async move {
            let (bytes_max, mut held) = share.room(bytes_max).await;
            let result = read(log.as_ref(), &topic, partition, range.clone(), bytes_max).await;
            let found = result.as_ref().map_or(&[][..], |(_, messages)| messages);
            held.found(found.iter().map(|message| message.body.len()).sum());
            Read {
                partition,
                range,
                result,
                held,
            }
        };
        self.0.push(read.boxed());
    }

    /// A read that has ended, if there is one.
    pub(super) fn ended(&mut self) -> Option<Read> {
        self.next().now_or_never()?
    }

    /// The next read that ends; `None` when none is on its way. Safe to cancel.
    pub(super) async fn next(&mut self) -> Option<Read> {
        self.0.next().await
    }
}

async fn read(
    log: &dyn MessageLog,
    topic: &TopicLog,
    partition: u32,
    range: Range<u64>,
    bytes_max: usize,
) -> Result<(u64, Vec<LoadedMessage>), ReadError> {
    let from = range.start;
    match log.read(topic, partition, range.clone(), bytes_max).await {
        Ok(batch) if !batch.answers(&range) => {
            let text = "the log answered with other records than were asked for";
            tracing::error!(location = ?topic.location, partition, ?range, next = batch.next, "{text}");
            Err(ReadError::Failed(StoreError::Unavailable(text.to_owned())))
        }
        Ok(batch) => {
            let mut messages = Vec::with_capacity(batch.count());
            for run in &batch.runs {
                let records = run.records().zip(run.messages());
                messages.extend(records.map(|(record, body)| LoadedMessage {
                    offset: record.offset(),
                    publish_time: record.publish_time(),
                    body,
                }));
            }
            Ok((batch.next, messages))
        }
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
            Ok((next, messages)) => Input::Loaded {
                partition,
                from: range.start,
                next,
                messages,
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
