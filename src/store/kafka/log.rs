//! The message log over Kafka: who is asked for what.

use std::{fmt, ops::Range, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};
use tokio::{
    sync::{Semaphore, mpsc},
    task::spawn_blocking,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{
    admin::cluster::Cluster,
    admin::topics::{NewLog, Topics},
    append::cause::Causes,
    append::producer::{self, Producer},
    follow::{check, follower::Command},
    known::{KnownTopic, KnownTopics},
    names,
    options::Options,
    read::readers::Readers,
    read::wanted::Wanted,
};
use crate::{
    clock::Timestamp,
    limits::{COMPARED_PARTITIONS_MAX, KAFKA_FOLLOW_WAIT_MILLIS},
    resource::{id::TopicIncarnation, message::AcceptedMessages, name::TopicName},
    store::{
        MessageLog, StoreError,
        log::{
            AppendedRun, Comparison, KnownRecord, LogEnds, LogLocation, Offset, Partition,
            PartitionBounds, ReadBatch, TopicLog, Trims,
        },
        tail::{Tail, TailRead},
    },
};

/// Messages of all topics, each in a Kafka topic of its own.
pub struct KafkaLog {
    pub(super) identity: String,
    pub(super) options: Options,
    /// How many copies topics have that are made without saying so.
    pub(super) default_copies: Option<u16>,
    pub(super) cluster: Cluster,
    pub(super) topics: Topics,
    pub(super) known: KnownTopics,
    pub(super) producer: Arc<Producer>,
    pub(super) causes: Causes,
    pub(super) readers: Arc<Readers>,
    pub(super) tail: Arc<Tail>,
    pub(super) follower: mpsc::Sender<Command>,
    pub(super) stopped: CancellationToken,
    /// In kibibytes: what may be on its way to Kafka.
    pub(super) permits: Arc<Semaphore>,
}

impl KafkaLog {
    fn open_still(&self) -> Result<(), StoreError> {
        if self.stopped.is_cancelled() {
            Err(StoreError::Unavailable("the log is closed".to_owned()))
        } else {
            Ok(())
        }
    }

    /// What this node knows of a topic, which is there.
    pub(super) async fn known(&self, topic: &TopicLog) -> Result<Arc<KnownTopic>, StoreError> {
        self.open_still()?;
        if let Some(known) = self.known.get(topic) {
            return Ok(known);
        }
        self.cluster.partitions(&topic.location.name).await?;
        Ok(self.known.learn(topic))
    }

    /// Reads what lies where a record was, from Kafka, whatever is in memory.
    async fn reread(&self, topic: &TopicLog, record: KnownRecord) -> Result<ReadBatch, StoreError> {
        let end = record.offset + 1;
        let wanted = Wanted {
            topic: topic.location.name.clone(),
            partition: record.partition,
            range: record.offset..end,
            bytes_max: 1,
            end,
        };
        self.readers.read(wanted).await
    }

    /// Takes note of how many partitions a topic turned out to have.
    async fn has_partitions(&self, topic: &TopicLog, count: u32) {
        let Some(known) = self.known.get(topic) else {
            return;
        };
        if count > known.partitions() && known.is_watched() {
            let grown = Command::Grown(topic.incarnation, count);
            self.follower.send(grown).await.ok();
        }
        producer::load_more_partitions(&self.producer, &known, count).await;
    }
}

#[async_trait]
impl MessageLog for KafkaLog {
    fn backend(&self) -> &'static str {
        "kafka"
    }

    async fn check(&self, patience: Duration) -> Result<(), StoreError> {
        self.open_still()?;
        // It need not exist; a name of ours is one that this client may ask about.
        let checked = self.cluster.check(&self.options.prefix, patience).await;
        checked.map_err(|error| match error {
            StoreError::Unavailable(text) => StoreError::Unavailable(format!(
                "no Kafka broker answers at {}: {text}",
                self.options.brokers
            )),
            other => other,
        })
    }

    fn identity(&self) -> String {
        self.identity.clone()
    }

    fn retention_min(&self) -> Duration {
        self.options.retention
    }

    fn may_lose_records(&self) -> bool {
        true
    }

    async fn compare(
        &self,
        topic: &TopicLog,
        records: &[KnownRecord],
    ) -> Result<Vec<Comparison>, StoreError> {
        self.open_still()?;
        let location = &topic.location;
        let mut are_as_old = vec![false; records.len()];
        if !location.attached {
            are_as_old = self.cluster.are_as_old(&location.name, records).await?;
        }
        let records = records.iter().copied().zip(are_as_old);
        let compared = records.map(|(record, is_as_old)| {
            let compared = async move {
                if is_as_old {
                    return Ok(Comparison::Same);
                }
                record.compare(self.reread(topic, record).await)
            };
            compared.boxed()
        });
        let compared: Vec<_> = compared.collect();
        stream::iter(compared)
            .buffered(COMPARED_PARTITIONS_MAX)
            .try_collect()
            .await
    }

    async fn drop_buffered(&self, topic: &TopicLog) {
        let forget = Command::Forget(topic.incarnation);
        self.follower.send(forget).await.ok();
    }

    fn trims(&self) -> Trims {
        if self.options.delete_acknowledged {
            Trims::Start
        } else {
            Trims::Nothing
        }
    }

    fn location(&self, topic: TopicIncarnation, name: &TopicName) -> LogLocation {
        LogLocation {
            name: names::kafka_topic(&self.options.prefix, name, topic),
            key_partitions: self.options.shape(name).partitions,
            attached: false,
        }
    }

    async fn create(
        &self,
        topic: TopicIncarnation,
        name: &TopicName,
    ) -> Result<LogLocation, StoreError> {
        self.open_still()?;
        let shape = self.options.shape(name);
        let copies = shape.replication_factor.or(self.default_copies);
        let location = self.location(topic, name);
        let log = NewLog {
            name: location.name.clone(),
            shape,
            min_insync_replicas: copies.map(|copies| copies.saturating_sub(1).max(1)),
        };
        let partitions = self.topics.create(log).await?;
        let location = LogLocation {
            key_partitions: partitions,
            ..location
        };
        let log = TopicLog {
            incarnation: topic,
            location: Arc::new(location.clone()),
        };
        self.known.learn(&log);
        Ok(location)
    }

    async fn attach(&self, name: &str) -> Result<Option<LogLocation>, StoreError> {
        self.open_still()?;
        self.options.check_attach(name)?;
        let Some(key_partitions) = self.cluster.find(name).await? else {
            return Ok(None);
        };
        self.check_foreign(name).await?;
        Ok(Some(LogLocation {
            name: name.to_owned(),
            key_partitions,
            attached: true,
        }))
    }

    async fn retain(&self, topic: &TopicLog, at_least: Duration) -> Result<(), StoreError> {
        self.open_still()?;
        if topic.location.attached {
            return Ok(());
        }
        self.topics.retain(&topic.location.name, at_least).await
    }

    async fn delete(&self, topic: &TopicLog) -> Result<(), StoreError> {
        self.open_still()?;
        if !topic.location.attached {
            self.topics.delete(&topic.location.name).await?;
        }
        self.known.forget(topic.incarnation);
        let forget = Command::Forget(topic.incarnation);
        self.follower.send(forget).await.ok();
        if topic.location.attached {
            return Ok(());
        }
        self.cluster.wait_until_gone(&topic.location.name).await
    }

    async fn append(
        &self,
        topic: &TopicLog,
        messages: AcceptedMessages,
    ) -> Result<Vec<AppendedRun>, StoreError> {
        let entered = self.producer.enter();
        let known = self.known(topic).await?;
        if messages.messages().is_empty() {
            return Ok(Vec::new());
        }
        producer::load_first_metadata(&self.producer, &known).await;
        match self.append_to(&known, messages, entered).await {
            // Brokers may disagree for a moment about a topic that is new.
            Err(StoreError::NoSuchLog) => {
                known.unload();
                self.cluster.partitions(&topic.location.name).await?;
                Err(StoreError::Uncertain(
                    "Kafka's brokers do not all know the topic".to_owned(),
                ))
            }
            Err(error) => Err(self.with_cause(&topic.location.name, error).await),
            appended => appended,
        }
    }

    async fn read(
        &self,
        topic: &TopicLog,
        partition: Partition,
        range: Range<Offset>,
        bytes_max: usize,
    ) -> Result<ReadBatch, StoreError> {
        self.open_still()?;
        let buffered = self
            .tail
            .read(topic.incarnation, partition, range.clone(), bytes_max);
        let end = match buffered {
            TailRead::Answer(batch) => return Ok(batch),
            TailRead::Older { end } => end,
            TailRead::Unknown => {
                let bounds = self
                    .cluster
                    .bounds_of(&topic.location.name, partition)
                    .await?;
                bounds.end
            }
        };
        if range.start >= end.min(range.end) {
            return Ok(ReadBatch::without_records(range.start));
        }
        self.readers
            .read(Wanted {
                topic: topic.location.name.clone(),
                partition,
                range,
                bytes_max,
                end,
            })
            .await
    }

    async fn bounds(&self, topic: &TopicLog) -> Result<Vec<PartitionBounds>, StoreError> {
        self.open_still()?;
        let bounds = self.cluster.bounds(&topic.location.name).await?;
        self.has_partitions(topic, bounds.len() as u32).await;
        Ok(bounds)
    }

    async fn watch(&self, topic: &TopicLog) -> Result<LogEnds, StoreError> {
        self.open_still()?;
        let before = self.tail.ends(topic.incarnation).unwrap_or_default();
        // Fresh ones, even if the topic is watched already: its watchers may have been told of an end that what
        // is followed has not come to, and must never see it end before.
        let bounds = self.cluster.bounds(&topic.location.name).await?;
        let known = self.known.learn(topic);
        let fresh: Vec<_> = bounds.iter().map(|bounds| bounds.end).collect();
        if check::have_fallen(&before, &fresh) {
            self.drop_buffered(topic).await;
            return Err(StoreError::Unavailable(format!(
                "the Kafka topic {} has lost records",
                topic.location.name
            )));
        }
        producer::load_more_partitions(&self.producer, &known, fresh.len() as u32).await;
        let mut ends = self.tail.watch_or_learn(topic.incarnation, &fresh);
        known.set_watched(true);
        let follow = Command::Follow(known);
        if self.follower.send(follow).await.is_err() {
            self.open_still()?;
        }
        let caught_up = |ends: &Vec<Offset>| {
            ends.len() >= fresh.len() && ends.iter().zip(&fresh).all(|(end, fresh)| end >= fresh)
        };
        let wait = Duration::from_millis(KAFKA_FOLLOW_WAIT_MILLIS);
        match timeout(wait, ends.wait_for(caught_up)).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) => {
                let text = "the topic's log changed while it was opened".to_owned();
                return Err(StoreError::Unavailable(text));
            }
            // Nothing but marks of transactions may be there, which are never read.
            Err(_) => self.tail.raise(topic.incarnation, &fresh),
        }
        Ok(ends)
    }

    async fn offset_at(
        &self,
        topic: &TopicLog,
        partition: Partition,
        time: Timestamp,
    ) -> Result<Offset, StoreError> {
        self.open_still()?;
        self.cluster
            .offset_at(&topic.location.name, partition, time)
            .await
    }

    async fn trim(
        &self,
        topic: &TopicLog,
        partition: Partition,
        done: &[Range<Offset>],
    ) -> Result<Option<Offset>, StoreError> {
        self.open_still()?;
        let (Trims::Start, false, Some(first)) =
            (self.trims(), topic.location.attached, done.first())
        else {
            return Ok(None);
        };
        // Kafka deletes from the log's start only.
        let bounds = self
            .cluster
            .bounds_of(&topic.location.name, partition)
            .await?;
        let until = first.end.min(bounds.end);
        if first.start <= bounds.start && bounds.start < until {
            self.topics
                .delete_records(&topic.location.name, partition, until)
                .await?;
        }
        Ok(None)
    }

    async fn skip_damage(
        &self,
        topic: &TopicLog,
        partition: Partition,
        from: Offset,
    ) -> Result<Offset, StoreError> {
        self.open_still()?;
        let bounds = self
            .cluster
            .bounds_of(&topic.location.name, partition)
            .await?;
        if from >= bounds.end {
            return Ok(from);
        }
        if from < bounds.start {
            return Ok(bounds.start);
        }
        self.readers
            .skip_damage(Wanted {
                topic: topic.location.name.clone(),
                partition,
                range: from..bounds.end,
                bytes_max: 0,
                end: bounds.end,
            })
            .await
    }

    async fn close(&self) {
        self.stopped.cancel();
        let producer = Arc::clone(&self.producer);
        if spawn_blocking(move || producer.close()).await.is_err() {
            tracing::error!("the producer could not be closed");
        }
    }
}

impl Drop for KafkaLog {
    fn drop(&mut self) {
        self.stopped.cancel();
    }
}

impl fmt::Debug for KafkaLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaLog")
            .field("identity", &self.identity)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
