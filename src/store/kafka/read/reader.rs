//! One consumer that reads parts of some partitions at a time, and goes on where it stopped if that is what is asked.
//!
//! Its calls block.

use std::time::Duration;

use rdkafka::{
    ClientConfig, Offset as Position, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaError,
};
use tokio::time::Instant;

use super::{
    super::{context::Listener, errors, metadata, record::DecodedRecord},
    damage,
    round::{Ended, Round},
    share::Answer,
    wanted::{Asked, Found, How, Wanted, astray},
};
use crate::store::{
    StoreError,
    log::{Offset, Partition},
};

/// A consumer and where it stands.
pub(in crate::store::kafka) struct Reader {
    client: BaseConsumer<Listener>,
    at: Option<ReadPosition>,
    /// It has returned a record of another partition, or may say of the next one what it has to say of this one. It
    /// must not be used again.
    is_broken: bool,
    pub(super) used_at: Instant,
}

/// Topic, partition and offset together: partitions of all topics have the same offsets.
#[derive(Debug)]
pub(super) struct ReadPosition {
    pub(super) topic: String,
    pub(super) partition: Partition,
    /// The next read goes on here without asking the broker to begin anew.
    pub(super) next: Offset,
    /// A record that the last read had no room for.
    pub(super) held: Option<DecodedRecord>,
}

impl ReadPosition {
    fn is_start(&self, wanted: &Wanted) -> bool {
        (self.topic.as_str(), self.partition, self.next)
            == (wanted.topic.as_str(), wanted.partition, wanted.range.start)
    }
}

/// Longest wait for the metadata of topics that are about to be read.
const METADATA: Duration = Duration::from_millis(500);

impl Reader {
    pub(super) fn new(config: &ClientConfig) -> Result<Self, KafkaError> {
        Ok(Self {
            client: config.create_with_context(Listener::new("reader"))?,
            at: None,
            is_broken: false,
            used_at: Instant::now(),
        })
    }

    /// Whether it stands where the read begins.
    pub(super) fn stands_at(&self, wanted: &Wanted) -> bool {
        let at = self.at.as_ref();
        at.is_some_and(|position| position.is_start(wanted))
    }

    /// Whether it is of no use any more.
    pub(super) fn is_broken(&self) -> bool {
        self.is_broken
    }

    /// Whether it reads ahead of what was asked for.
    pub(super) fn is_ahead(&self) -> bool {
        self.at.is_some()
    }

    /// Has it take the partition that it reads for this one, if it reads any.
    #[cfg(test)]
    pub(super) fn mislead(&mut self, to: &Wanted) -> bool {
        let Some(position) = &mut self.at else {
            return false;
        };
        to.topic.clone_into(&mut position.topic);
        position.partition = to.partition;
        position.held = None;
        true
    }

    /// Takes in what the client has to say beside records, if there are none to be lost by that.
    pub(super) fn listen(&self) {
        if !self.is_ahead() {
            self.client.poll(Duration::ZERO);
        }
    }

    /// Carries reads out together, each until its range, its bytes or its partition ends.
    pub(super) fn run(
        &mut self,
        asked: Vec<Asked>,
        others_wait: impl Fn() -> bool,
    ) -> (Vec<Answer>, Vec<Asked>) {
        let mut asked = asked;
        if let Some(one) = asked.pop_if(|asked| asked.how == How::BehindDamage) {
            let readable = self.readable(&one.wanted, one.deadline);
            return (vec![(one, readable.map(Found::Readable))], Vec::new());
        }
        let position = match (&asked[..], self.at.take()) {
            ([one], Some(position)) => {
                (one.how == How::Together && position.is_start(&one.wanted)).then_some(position)
            }
            _ => None,
        };
        let round = Round::new(asked);
        let begun = position.map_or_else(|| self.begin(&round).map(|()| None), |at| Ok(at.held));
        let ended = match begun {
            Ok(held) => round.run(&self.client, held, others_wait),
            Err(error) => round.fail(&error),
        };
        let Ended {
            unanswered,
            answers,
            stands_at,
            is_broken,
        } = ended;
        self.used_at = Instant::now();
        self.is_broken |= is_broken;
        self.at = stands_at;
        if self.at.is_none() {
            self.stop();
        }
        (answers, unanswered)
    }

    /// The first offset at or after the range's start from which reading goes on behind damage; that itself where there
    /// is none.
    fn readable(&mut self, wanted: &Wanted, deadline: Instant) -> Result<Offset, StoreError> {
        let readable = damage::first_readable(wanted.range.start, wanted.end, |offset| {
            let one = Wanted {
                range: offset..wanted.end,
                bytes_max: 0,
                ..wanted.clone()
            };
            let (asked, _answered) = Asked::new(one, How::Alone, deadline);
            let (answers, _) = self.run(vec![asked], || false);
            match answers.into_iter().next() {
                Some((_, Ok(Found::Damage))) => Ok(true),
                Some((_, Ok(Found::Some(_) | Found::Nothing | Found::OutOfRange))) => Ok(false),
                Some((_, Err(error))) => Err(error),
                _ => Err(astray(wanted)),
            }
        });
        self.stop();
        readable
    }

    /// Stops reading ahead.
    pub(super) fn stop(&mut self) {
        self.at = None;
        if let Err(error) = self.client.unassign() {
            tracing::warn!(error = %errors::text(&error), "a reader goes on although nobody waits");
        }
    }

    fn begin(&self, round: &Round) -> Result<(), KafkaError> {
        let topics = round.starts().map(|(topic, ..)| topic);
        metadata::load(&self.client, topics, METADATA);
        let mut list = TopicPartitionList::new();
        for (topic, partition, from) in round.starts() {
            let from = Position::Offset(from.cast_signed());
            list.add_partition_offset(topic, partition.cast_signed(), from)?;
        }
        self.client.assign(&list)
    }
}
