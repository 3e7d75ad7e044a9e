//! What the brokers say about topics, always asked anew: partitions, where they begin and end, offsets by time.
//!
//! A client of its own that never waits for records: one that does takes as long to answer as it waits. Its calls
//! block, so each runs on a thread for such calls, a bounded number at a time.

use std::{collections::HashMap, sync::Arc, time::Duration};

use rdkafka::{
    Offset as Position, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::{KafkaError, RDKafkaErrorCode},
    metadata::{Metadata, MetadataTopic},
};
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep, timeout_at},
};

use super::{
    super::{context::Listener, errors},
    absent::Absent,
    gathered::GatheredBounds,
};
use crate::{
    clock::Timestamp,
    limits::{KAFKA_ANSWER_MILLIS, KAFKA_QUESTIONS_MAX, KAFKA_UNKNOWN_MILLIS},
    store::{
        StoreError,
        log::{KnownRecord, Offset, Partition, PartitionBounds},
    },
};

pub(super) type Asker = BaseConsumer<Listener>;
/// The number of a broker that leads a partition; negative while none does.
pub(in crate::store::kafka) type Leader = i32;
pub(super) type Answer<T> = Result<T, KafkaError>;

/// Asks brokers. Cheap to clone.
#[derive(Clone)]
pub(in crate::store::kafka) struct Cluster {
    client: Arc<Asker>,
    questions: Arc<Semaphore>,
    absent: Arc<Absent>,
    gathered: Arc<GatheredBounds>,
}

const ANSWER: Duration = Duration::from_millis(KAFKA_ANSWER_MILLIS);
const UNKNOWN: Duration = Duration::from_millis(KAFKA_UNKNOWN_MILLIS);
const RETRY: Duration = Duration::from_millis(30);

impl Cluster {
    pub(in crate::store::kafka) fn new(client: Asker) -> Self {
        Self {
            client: Arc::new(client),
            questions: Arc::new(Semaphore::new(KAFKA_QUESTIONS_MAX)),
            absent: Arc::default(),
            gathered: Arc::default(),
        }
    }

    /// How many partitions a topic has. Like the other questions about a topic that was there: `Unavailable` until it
    /// is certain that it is gone.
    pub(in crate::store::kafka) async fn partitions(&self, topic: &str) -> Result<u32, StoreError> {
        let name = topic.to_owned();
        let answer = self.ask(move |client| partitions(client, &name, ANSWER));
        self.absent.judge(topic, answer.await)
    }

    /// How many partitions a topic has, if it is there, of which nobody knows whether it ever was.
    pub(in crate::store::kafka) async fn find(
        &self,
        topic: &str,
    ) -> Result<Option<u32>, StoreError> {
        let topic = topic.to_owned();
        let answer = self.ask(move |client| partitions(client, &topic, ANSWER));
        match answer.await {
            Ok(count) => Ok(Some(count)),
            Err(StoreError::NoSuchLog) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// How many partitions these topics have, of those whose partitions all have a leader.
    pub(in crate::store::kafka) async fn led(
        &self,
        topics: Vec<String>,
        deadline: Instant,
    ) -> Result<HashMap<String, u32>, StoreError> {
        let question = Arc::new(move |client: &Asker| {
            let mut found = HashMap::new();
            for topic in &topics {
                if let Some(count) = led(client, topic)? {
                    found.insert(topic.clone(), count);
                }
            }
            Ok(found)
        });
        let answer = self.ask_once(deadline, question).await?;
        answer.map_err(|error| self.explained(errors::of_question(&error)))
    }

    /// What copies each partition of a topic has.
    pub(in crate::store::kafka) async fn copies(
        &self,
        topic: &str,
        patience: Duration,
    ) -> Result<Vec<Copies>, StoreError> {
        let topic = topic.to_owned();
        let question = Arc::new(move |client: &Asker| copies(client, &topic, patience));
        let answer = self.ask_once(Instant::now() + patience, question).await?;
        answer.map_err(|error| self.explained(errors::of_question(&error)))
    }

    /// Has a broker answer anything at all. Holds a thread for no longer than `patience`.
    pub(in crate::store::kafka) async fn check(
        &self,
        topic: &str,
        patience: Duration,
    ) -> Result<(), StoreError> {
        let topic = topic.to_owned();
        let question = Arc::new(move |client: &Asker| partitions(client, &topic, patience));
        let answer = self.ask_once(Instant::now() + patience, question).await?;
        match answer.map_err(|error| errors::of_question(&error)) {
            Err(error @ StoreError::Unavailable(_)) => Err(self.explained(error)),
            // That there is no such topic, or that this client may not know, is an answer.
            _ => Ok(()),
        }
    }

    /// Waits until a topic that was deleted is not shown any more: brokers take part in a deletion, and refuse what is
    /// appended, a moment after it was done.
    pub(in crate::store::kafka) async fn wait_until_gone(
        &self,
        topic: &str,
    ) -> Result<(), StoreError> {
        let deadline = Instant::now() + ANSWER;
        let name = topic.to_owned();
        let question = Arc::new(move |client: &Asker| partitions(client, &name, ANSWER));
        loop {
            match self.ask_once(deadline, Arc::clone(&question)).await? {
                Err(error) if matches!(errors::of_question(&error), StoreError::NoSuchLog) => {
                    self.absent.deleted(topic);
                    return Ok(());
                }
                _ if Instant::now() + RETRY < deadline => sleep(RETRY).await,
                Ok(_) => {
                    return Err(StoreError::Uncertain(
                        "Kafka has deleted the topic, but still shows it".to_owned(),
                    ));
                }
                Err(error) => return Err(self.explained(errors::of_question(&error))),
            }
        }
    }

    /// Which broker leads each partition of a topic. Otherwise as [`Self::partitions`].
    pub(in crate::store::kafka) async fn leaders(
        &self,
        topic: &str,
    ) -> Result<Vec<Leader>, StoreError> {
        let name = topic.to_owned();
        let answer = self.ask(move |client| leaders(client, &name, ANSWER));
        self.absent.judge(topic, answer.await)
    }

    /// The topics that there are, with the leaders of their partitions, in one answer.
    pub(in crate::store::kafka) async fn all_leaders(
        &self,
    ) -> Result<HashMap<String, Vec<Leader>>, StoreError> {
        self.ask(|client| {
            let metadata = client.fetch_metadata(None, ANSWER)?;
            let topics = metadata.topics().iter();
            Ok(topics
                .map(|topic| (topic.name().to_owned(), leaders_of(topic)))
                .collect())
        })
        .await
    }

    /// Where each partition begins and, as far as it may be read, ends.
    pub(in crate::store::kafka) async fn bounds(
        &self,
        topic: &str,
    ) -> Result<Vec<PartitionBounds>, StoreError> {
        let name = topic.to_owned();
        let together = GatheredBounds::ask(&self.gathered, &self.client, name.clone()).await;
        if let Some(Ok(bounds)) = together {
            return self.absent.judge(topic, Ok(bounds));
        }
        let answer = self.ask(move |client| {
            let count = partitions(client, &name, ANSWER)?;
            let partitions: Vec<_> = (0..count).map(|at| (name.as_str(), at)).collect();
            let starts = offsets(client, &partitions, Position::Beginning, ANSWER)?;
            let ends = offsets(client, &partitions, Position::End, ANSWER)?;
            let bounds = partitions.into_iter().zip(starts).zip(ends);
            let bounds = bounds
                .map(|(((_, partition), start), end)| partition_bounds(partition, start?, end?));
            bounds.collect()
        });
        self.absent.judge(topic, answer.await)
    }

    /// Where one partition begins and ends.
    pub(in crate::store::kafka) async fn bounds_of(
        &self,
        topic: &str,
        partition: Partition,
    ) -> Result<PartitionBounds, StoreError> {
        let bounds = self.bounds(topic).await?;
        bounds
            .get(partition as usize)
            .copied()
            .ok_or(StoreError::NoSuchLog)
    }

    /// The first offset with a record at or after `time`; where the partition ends if there is none.
    pub(in crate::store::kafka) async fn offset_at(
        &self,
        topic: &str,
        partition: Partition,
        time: Timestamp,
    ) -> Result<Offset, StoreError> {
        let name = topic.to_owned();
        let millis = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        let answer = self.ask(move |client| {
            if partition >= partitions(client, &name, ANSWER)? {
                return Err(unknown());
            }
            let only = [(name.as_str(), partition)];
            let the_one = |position| {
                let found = offsets(client, &only, position, ANSWER)?.pop();
                found.ok_or_else(no_offset)?
            };
            let end = the_one(Position::End)?.ok_or_else(no_offset)?;
            Ok(the_one(Position::Offset(millis))?.unwrap_or(end).min(end))
        });
        self.absent.judge(topic, answer.await)
    }

    /// Of each of these records whether the youngest one up to its offset is as old as it. Where brokers set publish times,
    /// what was appended after a loss is younger, and this costs no read.
    pub(in crate::store::kafka) async fn are_as_old(
        &self,
        topic: &str,
        records: &[KnownRecord],
    ) -> Result<Vec<bool>, StoreError> {
        if records.is_empty() {
            return Ok(Vec::new());
        }
        let (name, records) = (topic.to_owned(), records.to_vec());
        let answer = self.ask(move |client| {
            let first_at = |later: u64| {
                let position = |record: &KnownRecord| {
                    let millis = record.publish_time.plus_millis(later).as_millis();
                    Position::Offset(i64::try_from(millis).unwrap_or(i64::MAX))
                };
                let asked = records.iter().map(|record| {
                    let position = position(record);
                    (name.as_str(), record.partition, position)
                });
                positions(client, &asked.collect::<Vec<_>>(), ANSWER)
            };
            let found = records.iter().zip(first_at(0)?).zip(first_at(1)?);
            let are_as_old = found.map(|((record, first), younger)| {
                let is_there = first?.is_some_and(|first| first <= record.offset);
                let is_youngest = younger?.is_none_or(|younger| record.offset < younger);
                Ok(is_there && is_youngest)
            });
            are_as_old.collect()
        });
        self.absent.judge(topic, answer.await)
    }

    /// Takes in what the client has to say, which would pile up otherwise.
    pub(in crate::store::kafka) fn listen(&self) {
        self.client.poll(Duration::ZERO);
    }

    /// Asks until there is an answer, a reason why there is none, or no patience left.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl Fn(&Asker) -> Answer<T> + Send + Sync + 'static,
    ) -> Result<T, StoreError> {
        let started = Instant::now();
        let question = Arc::new(question);
        loop {
            let error = match self
                .ask_once(started + ANSWER, Arc::clone(&question))
                .await?
            {
                Ok(answer) => return Ok(answer),
                Err(error) => errors::of_question(&error),
            };
            let patience = match error {
                // The broker may not have heard of a topic that another one has just made.
                StoreError::NoSuchLog => UNKNOWN,
                StoreError::Unavailable(_) => ANSWER,
                _ => Duration::ZERO,
            };
            if started.elapsed() + RETRY >= patience {
                return Err(self.explained(error));
            }
            sleep(RETRY).await;
        }
    }

    async fn ask_once<T: Send + 'static>(
        &self,
        deadline: Instant,
        question: Arc<impl Fn(&Asker) -> Answer<T> + Send + Sync + 'static>,
    ) -> Result<Answer<T>, StoreError> {
        let late = || StoreError::Unavailable("Kafka does not answer".to_owned());
        let permit = timeout_at(deadline, Arc::clone(&self.questions).acquire_owned());
        let permit = permit.await.map_err(|_| self.explained(late()))?;
        let permit = permit.map_err(|_| late())?;
        let client = Arc::clone(&self.client);
        let answer = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let answer = question(&client);
            // So that a failure can be explained.
            while client.poll(Duration::ZERO).is_some() {}
            answer
        });
        answer
            .await
            .map_err(|_| StoreError::Unavailable("the server is stopping".to_owned()))
    }

    /// `error` with what the client last complained about, which says more.
    fn explained(&self, error: StoreError) -> StoreError {
        match (error, self.client.context().last()) {
            (StoreError::Unavailable(text), Some(complaint)) => {
                StoreError::Unavailable(format!("{text}: {}", complaint.text))
            }
            (error, _) => error,
        }
    }
}

/// The copies of a partition.
#[derive(Clone, Copy, Debug)]
pub(in crate::store::kafka) struct Copies {
    pub(in crate::store::kafka) partition: Partition,
    pub(in crate::store::kafka) is_led: bool,
    pub(in crate::store::kafka) in_sync: usize,
    pub(in crate::store::kafka) all: usize,
}

fn copies(client: &Asker, topic: &str, patience: Duration) -> Answer<Vec<Copies>> {
    let metadata = client.fetch_metadata(Some(topic), patience)?;
    let found = named(&metadata, topic).ok_or_else(unknown)?;
    let copies = found.partitions().iter().map(|one| Copies {
        partition: one.id().cast_unsigned(),
        is_led: one.leader() >= 0,
        in_sync: one.isr().len(),
        all: one.replicas().len(),
    });
    Ok(copies.collect())
}

pub(super) fn partitions(client: &Asker, topic: &str, patience: Duration) -> Answer<u32> {
    Ok(leaders(client, topic, patience)?.len() as u32)
}

fn leaders(client: &Asker, topic: &str, patience: Duration) -> Answer<Vec<Leader>> {
    let metadata = client.fetch_metadata(Some(topic), patience)?;
    client.context().forget();
    let Some(found) = named(&metadata, topic) else {
        return Err(unknown());
    };
    match found.error() {
        Some(error) => Err(KafkaError::MetadataFetch(error.into())),
        None if found.partitions().is_empty() => Err(unknown()),
        None => Ok(leaders_of(found)),
    }
}

/// In the order of the partitions, which brokers do not promise.
fn leaders_of(topic: &MetadataTopic) -> Vec<Leader> {
    let partitions = topic.partitions().iter();
    let mut led: Vec<_> = partitions.map(|one| (one.id(), one.leader())).collect();
    led.sort_unstable();
    led.into_iter().map(|(_, leader)| leader).collect()
}

/// What an answer says of one topic.
pub(in crate::store::kafka) fn named<'a>(
    metadata: &'a Metadata,
    topic: &str,
) -> Option<&'a MetadataTopic> {
    metadata.topics().iter().find(|found| found.name() == topic)
}

/// How many partitions a topic has, once each has a leader.
fn led(client: &Asker, topic: &str) -> Answer<Option<u32>> {
    let metadata = client.fetch_metadata(Some(topic), ANSWER)?;
    let led = named(&metadata, topic).filter(|topic| {
        let mut partitions = topic.partitions().iter();
        topic.error().is_none() && partitions.all(|partition| partition.leader() >= 0)
    });
    let count = led.map(|topic| topic.partitions().len() as u32);
    Ok(count.filter(|count| *count > 0))
}

/// The offset of each of these partitions that brokers know by this position or time, in order; `None` for a time after
/// the last record.
pub(super) fn offsets(
    client: &Asker,
    partitions: &[(&str, Partition)],
    position: Position,
    patience: Duration,
) -> Answer<Vec<Answer<Option<Offset>>>> {
    let partitions = partitions.iter();
    let asked = partitions.map(|(topic, partition)| (*topic, *partition, position));
    positions(client, &asked.collect::<Vec<_>>(), patience)
}

/// The same by a position or time of each.
fn positions(
    client: &Asker,
    asked: &[(&str, Partition, Position)],
    patience: Duration,
) -> Answer<Vec<Answer<Option<Offset>>>> {
    if asked.is_empty() {
        return Ok(Vec::new());
    }
    let mut list = TopicPartitionList::with_capacity(asked.len());
    for (topic, partition, position) in asked {
        list.add_partition_offset(topic, partition.cast_signed(), *position)?;
    }
    let list = client.offsets_for_times(list, patience).map_err(|error| {
        match error.rdkafka_error_code() {
            // The client's own word for a topic that is there and none of whose partitions has a leader.
            Some(RDKafkaErrorCode::UnknownPartition) => {
                KafkaError::OffsetFetch(RDKafkaErrorCode::LeaderNotAvailable)
            }
            _ => error,
        }
    })?;
    Ok(found_in(&list, asked))
}

/// What an answer says of each partition that was asked about.
fn found_in(
    list: &TopicPartitionList,
    asked: &[(&str, Partition, Position)],
) -> Vec<Answer<Option<Offset>>> {
    let elements = list.elements();
    let found = asked
        .iter()
        .enumerate()
        .map(|(at, (topic, partition, position))| {
            let element = elements.get(at).filter(|element| {
                (element.topic(), element.partition()) == (topic, partition.cast_signed())
            });
            let element = element.ok_or_else(no_offset)?;
            element.error()?;
            Ok(match element.offset() {
                // What was asked, as there is no answer.
                unchanged if unchanged == *position => return Err(no_offset()),
                Position::Offset(offset) => Offset::try_from(offset).ok(),
                _ => None,
            })
        });
    found.collect()
}

/// There is no partition without a beginning and an end.
pub(super) fn partition_bounds(
    partition: Partition,
    start: Option<Offset>,
    end: Option<Offset>,
) -> Answer<PartitionBounds> {
    let (start, end) = (start.ok_or_else(no_offset)?, end.ok_or_else(no_offset)?);
    Ok(PartitionBounds {
        partition,
        start: start.min(end),
        end,
    })
}

/// A broker left a partition out of its answer.
fn no_offset() -> KafkaError {
    KafkaError::OffsetFetch(RDKafkaErrorCode::NoOffset)
}

fn unknown() -> KafkaError {
    KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownTopicOrPartition)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_that_an_answer_leaves_out_has_no_offset() {
        let asked = [0, 1, 2].map(|partition| ("topic", partition, Position::End));
        let answer = |answered: &[(i32, Position)]| {
            let mut list = TopicPartitionList::new();
            for (partition, position) in answered {
                let added = list.add_partition_offset("topic", *partition, *position);
                added.expect("an offset");
            }
            let found = found_in(&list, &asked).into_iter();
            found.map(Result::ok).collect::<Vec<_>>()
        };
        let at = Position::Offset;
        let known = |offset| Some(Some(offset));
        assert_eq!(
            answer(&[(0, at(5)), (1, at(0)), (2, at(7))]),
            [known(5), known(0), known(7)]
        );
        // librdkafka leaves what it was asked with where there is no answer.
        assert_eq!(
            answer(&[(0, at(5)), (1, Position::End), (2, at(7))]),
            [known(5), None, known(7)]
        );
        assert_eq!(answer(&[(0, at(5)), (2, at(7))]), [known(5), None, None]);
        assert_eq!(answer(&[]), [None, None, None]);
    }
}
