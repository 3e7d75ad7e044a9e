//! One consumer that reads a part of one partition at a time, and goes on where it stopped if that is what is asked.
//!
//! Its calls block.

use std::{ops::Range, time::Duration};

use rdkafka::{
    ClientConfig, Message as _, Offset as Position, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaError,
};
use tokio::time::Instant;

use super::super::{
    context::Listener,
    errors,
    read::damage,
    record::{self, DecodedRecord},
};
use crate::store::{
    StoreError,
    log::{Offset, Partition, ReadBatch},
    reading::Reading,
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
}

/// A consumer and where it stands.
pub(in crate::store::kafka) struct Reader {
    client: BaseConsumer<Listener>,
    at: Option<ReadPosition>,
    /// It has returned a record of another partition, or may say of the next one what it has to say of this one. It
    /// must not be used again.
    is_broken: bool,
    pub(in crate::store::kafka) used_at: Instant,
}

/// Topic, partition and offset together: partitions of all topics have the same offsets.
#[derive(Debug)]
struct ReadPosition {
    topic: String,
    partition: Partition,
    /// The next read goes on here without asking the broker to begin anew.
    next: Offset,
    /// A record that the last read had no room for.
    held: Option<DecodedRecord>,
}

/// Longest single wait for a record; then the deadline is checked.
const POLL: Duration = Duration::from_millis(50);
/// That an offset is out of range may still be said of what was read before; then something else comes within this.
const STALE: Duration = Duration::from_millis(200);

impl Reader {
    pub(in crate::store::kafka) fn new(config: &ClientConfig) -> Result<Self, KafkaError> {
        Ok(Self {
            client: config.create_with_context(Listener::new("reader"))?,
            at: None,
            is_broken: false,
            used_at: Instant::now(),
        })
    }

    /// Whether it stands where the read begins.
    pub(in crate::store::kafka) fn stands_at(&self, wanted: &Wanted) -> bool {
        self.at.as_ref().is_some_and(|position| {
            (position.topic.as_str(), position.partition, position.next)
                == (wanted.topic.as_str(), wanted.partition, wanted.range.start)
        })
    }

    /// Whether it is of no use any more.
    pub(in crate::store::kafka) fn is_broken(&self) -> bool {
        self.is_broken
    }

    /// Whether it reads ahead of what was asked for.
    pub(in crate::store::kafka) fn is_ahead(&self) -> bool {
        self.at.is_some()
    }

    /// Has it take the partition that it reads for this one, if it reads any.
    #[cfg(test)]
    pub(in crate::store::kafka) fn mislead(&mut self, to: &Wanted) -> bool {
        let Some(position) = &mut self.at else {
            return false;
        };
        to.topic.clone_into(&mut position.topic);
        position.partition = to.partition;
        position.held = None;
        true
    }

    /// Takes in what the client has to say beside records, if there are none to be lost by that.
    pub(in crate::store::kafka) fn listen(&self) {
        if !self.is_ahead() {
            self.client.poll(Duration::ZERO);
        }
    }

    /// Reads records until the range, the bytes or the partition ends.
    ///
    /// What is not there on a `fresh` start was not there when the read was asked for: a consumer that goes on may
    /// come to an end that was one a while ago.
    pub(in crate::store::kafka) fn read(
        &mut self,
        wanted: &Wanted,
        fresh: bool,
        deadline: Instant,
    ) -> Result<Found, StoreError> {
        self.used_at = Instant::now();
        let goes_on = !fresh && self.stands_at(wanted);
        let held = match self.at.take() {
            Some(position) if goes_on => position.held,
            _ => {
                self.begin(wanted, wanted.range.start)
                    .map_err(|error| errors::of_question(&error))?;
                None
            }
        };
        let target = wanted.range.end.min(wanted.end);
        let mut reading = Reading::new(wanted.range.clone(), wanted.bytes_max);
        let mut next = wanted.range.start;
        let mut waiting = held;
        let mut held = None;
        while next < target {
            let record = match waiting.take() {
                Some(record) => record,
                None => match self.poll(wanted, deadline)? {
                    Polled::Record(record) => record,
                    // What came before it is not to be relied on either.
                    Polled::Stray => return Ok(Found::Stray),
                    Polled::End => return Ok(self.give_up(reading, next, Found::Nothing)),
                    Polled::OutOfRange => {
                        return Ok(self.give_up(reading, next, Found::OutOfRange));
                    }
                    Polled::Damage => return Ok(self.give_up(reading, next, Found::Damage)),
                },
            };
            if record.offset < next {
                continue;
            }
            if !reading.take(record.offset, record.publish_time, &record.message) {
                held = Some(record);
                break;
            }
            next = record.offset + 1;
        }
        let batch = reading.finish(next);
        self.used_at = Instant::now();
        if held.is_none() && next >= wanted.end {
            // The follower reads the head of the log; waiting there costs the broker a request after the other.
            self.stop();
        } else {
            self.at = Some(ReadPosition {
                topic: wanted.topic.clone(),
                partition: wanted.partition,
                next: batch.next,
                held,
            });
        }
        Ok(Found::Some(batch))
    }

    /// The first offset at or after the range's start from which reading goes on behind damage; that itself where there
    /// is none.
    pub(in crate::store::kafka) fn skip_damage(
        &mut self,
        wanted: &Wanted,
        deadline: Instant,
    ) -> Result<Offset, StoreError> {
        self.at = None;
        let found = damage::first_readable(wanted.range.start, wanted.end, |offset| {
            let begun = self.begin(wanted, offset);
            begun.map_err(|error| errors::of_question(&error))?;
            match self.poll(wanted, deadline)? {
                Polled::Damage => Ok(true),
                Polled::Stray => Err(astray(wanted)),
                Polled::Record(_) | Polled::End | Polled::OutOfRange => Ok(false),
            }
        });
        self.stop();
        found
    }

    /// Waits for what comes next.
    fn poll(&mut self, wanted: &Wanted, deadline: Instant) -> Result<Polled, StoreError> {
        let mut out_of_range: Option<Instant> = None;
        loop {
            let error = match self.client.poll(POLL) {
                Some(Ok(record)) if !record::is_of(&record, &wanted.topic, wanted.partition) => {
                    tracing::error!(
                        topic = %wanted.topic, partition = wanted.partition,
                        got_topic = %record.topic(), got_partition = record.partition(), got_offset = record.offset(),
                        "a consumer returned a record of another partition; it is dropped, and another consumer reads"
                    );
                    self.is_broken = true;
                    return Ok(Polled::Stray);
                }
                Some(Ok(record)) => return Ok(Polled::Record(record::decode(&record))),
                Some(Err(KafkaError::PartitionEOF(_))) => return Ok(Polled::End),
                Some(Err(error)) => error.rdkafka_error_code(),
                None if out_of_range.is_some_and(|since| since.elapsed() > STALE) => {
                    return Ok(Polled::OutOfRange);
                }
                None => None,
            };
            match error {
                Some(code) if errors::is_damage(code) => return Ok(Polled::Damage),
                Some(code) if errors::is_out_of_range(code) => {
                    out_of_range.get_or_insert_with(Instant::now);
                }
                Some(code) if errors::is_unknown(code) => {
                    self.stop();
                    // The client says so more than once, and not of what.
                    self.is_broken = true;
                    return Err(StoreError::NoSuchLog);
                }
                // The client tries again by itself; if it does not get anywhere, the deadline ends it.
                _ if Instant::now() < deadline => {}
                _ => {
                    self.stop();
                    return Err(late(&self.client));
                }
            }
        }
    }

    /// Stops reading ahead.
    pub(in crate::store::kafka) fn stop(&mut self) {
        self.at = None;
        if let Err(error) = self.client.unassign() {
            tracing::warn!(error = %errors::text(&error), "a reader goes on although nobody waits");
        }
    }

    /// What was read before nothing more came, or why it did not.
    fn give_up(&mut self, reading: Reading, next: Offset, why: Found) -> Found {
        self.stop();
        if reading.is_empty() {
            why
        } else {
            Found::Some(reading.finish(next))
        }
    }

    fn begin(&self, wanted: &Wanted, from: Offset) -> Result<(), KafkaError> {
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition_offset(
            &wanted.topic,
            wanted.partition.cast_signed(),
            Position::Offset(from.cast_signed()),
        )?;
        self.client.assign(&list)
    }
}

enum Polled {
    Record(DecodedRecord),
    /// Nothing is behind what came before.
    End,
    /// There is no such offset.
    OutOfRange,
    /// The next records cannot be read.
    Damage,
    /// A record of another partition.
    Stray,
}

/// Error of a read that got records of another partition.
pub(in crate::store::kafka) fn astray(wanted: &Wanted) -> StoreError {
    StoreError::Unavailable(format!(
        "Kafka's client returned other records than those of {}, partition {}",
        wanted.topic, wanted.partition
    ))
}

fn late(client: &BaseConsumer<Listener>) -> StoreError {
    let why = client.context().last();
    let why = why.map_or_else(String::new, |complaint| format!(": {}", complaint.text));
    StoreError::Unavailable(format!("Kafka does not send records{why}"))
}
