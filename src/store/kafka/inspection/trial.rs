//! Does to a topic of an examination's own what nodes do to theirs.

use std::{collections::HashMap, sync::Arc, time::Duration};

use rdkafka::{
    Message as _, Offset as Position, TopicPartitionList,
    admin::{AdminOptions, AlterConfig, ResourceSpecifier},
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaError,
    metadata::MetadataTopic,
    producer::{FutureProducer, FutureRecord, Producer as _},
};
use tokio::{
    task::spawn_blocking,
    time::{Instant, sleep},
};

use super::{
    super::{
        admin::cluster,
        admin::topics::{self, NewLog},
        context::Listener,
        errors,
        open::{self, OpenError},
        options::TopicShape,
        record,
    },
    Inspection, PATIENCE,
};
use crate::{clock::Timestamp, limits::KAFKA_OPEN_MILLIS, store::StoreError};

/// Appends to topics as a node does.
pub(crate) struct TrialProducer(FutureProducer<Listener>);

/// Longest time that one step takes.
const STEP: Duration = Duration::from_millis(KAFKA_OPEN_MILLIS);
const POLL: Duration = Duration::from_millis(100);
const RETRY: Duration = Duration::from_millis(50);

impl Inspection {
    /// Makes a topic with as many copies as new ones have.
    pub(crate) async fn create(
        &self,
        name: &str,
        partitions: u32,
        min_insync_replicas: Option<u16>,
    ) -> Result<(), StoreError> {
        let log = NewLog {
            name: name.to_owned(),
            shape: TopicShape {
                partitions,
                replication_factor: self.options.replication_factor,
                compression: "producer".to_owned(),
            },
            min_insync_replicas,
        };
        let mut made = topics::create(&self.admin, &[&log], self.options.retention).await;
        made.remove(name).unwrap_or(Ok(()))
    }

    /// A producer that waits for a topic which brokers do not know yet.
    pub(crate) fn producer(&self) -> Result<TrialProducer, OpenError> {
        let mut config = self.options.producer();
        config.set(
            "topic.metadata.propagation.max.ms",
            STEP.as_millis().to_string(),
        );
        let producer = config.create_with_context(Listener::new("producer"));
        Ok(TrialProducer(
            producer.map_err(|error| open::failed(&error))?,
        ))
    }

    /// The leader of each partition, once all have one.
    pub(crate) async fn leaders(
        &self,
        name: &str,
        partitions: u32,
    ) -> Result<HashMap<i32, i32>, StoreError> {
        let deadline = Instant::now() + STEP;
        loop {
            let (client, name) = (Arc::clone(&self.asker), name.to_owned());
            let asked = spawn_blocking(move || {
                let metadata = client.fetch_metadata(Some(&name), PATIENCE)?;
                let topic = cluster::named(&metadata, &name).into_iter();
                let partitions = topic.flat_map(MetadataTopic::partitions);
                let led = partitions.filter(|partition| partition.leader() >= 0);
                Ok(led
                    .map(|partition| (partition.id(), partition.leader()))
                    .collect::<HashMap<_, _>>())
            });
            let error = match asked.await {
                Ok(Ok(leaders)) if leaders.len() >= partitions as usize => return Ok(leaders),
                Ok(Ok(_)) => {
                    StoreError::Unavailable("not all of its partitions have a leader".to_owned())
                }
                Ok(Err(error)) => errors::of_question(&error),
                Err(error) => StoreError::Unavailable(error.to_string()),
            };
            if Instant::now() >= deadline {
                return Err(error);
            }
            sleep(RETRY).await;
        }
    }

    /// Reads until everything that was written has come.
    pub(crate) async fn read(
        &self,
        name: &str,
        partitions: u32,
        count: usize,
    ) -> Result<(), StoreError> {
        let (config, name) = (self.options.reader(), name.to_owned());
        let read = spawn_blocking(move || {
            let client: BaseConsumer<Listener> =
                config.create_with_context(Listener::new("reader"))?;
            let mut list = TopicPartitionList::new();
            for partition in 0..partitions.cast_signed() {
                list.add_partition_offset(&name, partition, Position::Offset(0))?;
            }
            client.assign(&list)?;
            Ok(read_until(&client, &name, partitions, count))
        });
        match read.await {
            Ok(Ok(read)) => read,
            Ok(Err(error)) => Err(errors::of_question(&error)),
            Err(error) => Err(StoreError::Unavailable(error.to_string())),
        }
    }

    /// Reads the settings of a topic.
    pub(crate) async fn describe(&self, name: &str) -> Result<(), StoreError> {
        let options = AdminOptions::new().request_timeout(Some(STEP));
        let topic = ResourceSpecifier::Topic(name);
        let described = self.admin.describe_configs([&topic], &options).await;
        let described = described
            .map_err(|error| errors::of_question(&error))?
            .pop();
        // The client does not tell a refusal from a topic without settings, which there is not.
        if !matches!(described, Some(Ok(described)) if !described.entries.is_empty()) {
            return Err(StoreError::Refused("the answer is empty".to_owned()));
        }
        Ok(())
    }

    /// Changes a setting of a topic.
    pub(crate) async fn alter(&self, name: &str) -> Result<(), StoreError> {
        let options = AdminOptions::new().request_timeout(Some(STEP));
        let topic = ResourceSpecifier::Topic(name);
        let change = AlterConfig::new(topic).set("retention.ms", "3600000");
        let changed = self.admin.alter_configs([&change], &options).await;
        match changed.map_err(|error| errors::of_question(&error))?.pop() {
            Some(Err((_, code))) => Err(errors::of_change(code)),
            _ => Ok(()),
        }
    }

    /// Deletes a topic, if it is there.
    pub(crate) async fn delete(&self, name: &str) -> Result<(), StoreError> {
        let options = AdminOptions::new()
            .request_timeout(Some(STEP))
            .operation_timeout(Some(PATIENCE));
        let deleted = self.admin.delete_topics(&[name], &options).await;
        let error = match deleted.map(|mut deleted| deleted.pop()) {
            Ok(Some(Err((_, code)))) => errors::of_change(code),
            Ok(_) => return Ok(()),
            Err(error) => errors::of_question(&error),
        };
        match error {
            StoreError::NoSuchLog => Ok(()),
            error => Err(error),
        }
    }
}

impl TrialProducer {
    /// Appends a record and returns its timestamp, which is the broker's.
    pub(crate) async fn append(
        &self,
        topic: &str,
        partition: i32,
        value: &[u8],
    ) -> Result<Timestamp, StoreError> {
        let record: FutureRecord<'_, [u8], [u8]> =
            FutureRecord::to(topic).partition(partition).payload(value);
        match self.0.send(record, STEP).await {
            Ok(delivered) => {
                let millis = delivered.timestamp.to_millis().unwrap_or(0);
                Ok(Timestamp::from_millis(u64::try_from(millis).unwrap_or(0)))
            }
            Err((error, _record)) => {
                // That the record was given up says less than why the client has.
                let fatal = self.0.client().fatal_error().map(|(code, _)| code);
                let code = fatal.or_else(|| error.rdkafka_error_code());
                let other = || StoreError::Unavailable(errors::text(&error));
                Err(code.map_or_else(other, errors::of_record))
            }
        }
    }
}

/// Blocks until so many records have come.
fn read_until(
    client: &BaseConsumer<Listener>,
    topic: &str,
    partitions: u32,
    count: usize,
) -> Result<(), StoreError> {
    let deadline = Instant::now() + STEP;
    let (mut seen, mut last) = (0, None);
    while seen < count {
        match client.poll(POLL) {
            Some(Ok(record))
                if !(0..partitions).any(|partition| record::is_of(&record, topic, partition)) =>
            {
                return Err(StoreError::Unavailable(format!(
                    "a record of the topic {}, partition {} came",
                    record.topic(),
                    record.partition()
                )));
            }
            Some(Ok(record)) if record.payload().is_some() => seen += 1,
            Some(Err(KafkaError::PartitionEOF(_)) | Ok(_)) | None => {}
            // As for every reader, it counts only if nothing comes.
            Some(Err(error)) => last = Some(errors::of_question(&error)),
        }
        if Instant::now() >= deadline {
            let none = || StoreError::Unavailable(format!("{seen} of {count} records came"));
            return Err(last.unwrap_or_else(none));
        }
    }
    Ok(())
}
