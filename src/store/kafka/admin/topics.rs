//! Makes, changes and deletes Kafka topics.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use rdkafka::{
    Offset as Position, TopicPartitionList,
    admin::{
        AdminClient, AdminOptions, AlterConfig, ConfigSource, NewTopic, ResourceSpecifier,
        TopicReplication, TopicResult,
    },
    error::{KafkaError, RDKafkaErrorCode},
};
use tokio::time::{Instant, sleep};

use super::super::{append::producer::Producer, context::Listener, errors, options::TopicShape};
use super::{
    calls::{self, Asking, Calls, Request},
    cluster::Cluster,
};
use crate::{
    limits::{KAFKA_ANSWER_MILLIS, KAFKA_RECORD_BYTES_MAX},
    store::{
        StoreError,
        log::{Offset, Partition},
    },
};

/// Asks for changes of topics.
pub(in crate::store::kafka) struct Topics {
    admin: Arc<AdminClient<Listener>>,
    creations: Asking<NewLog, u32>,
    deletions: Asking<String, ()>,
    retention: Duration,
}

/// A topic to make.
#[derive(Debug)]
pub(in crate::store::kafka) struct NewLog {
    pub(in crate::store::kafka) name: String,
    pub(in crate::store::kafka) shape: TopicShape,
    /// Copies that have to have a record before it counts as appended; the brokers' default if it is not known how
    /// many copies there will be.
    pub(in crate::store::kafka) min_insync_replicas: Option<u16>,
}

const RETENTION: &str = "retention.ms";
const CALL: Duration = Duration::from_millis(2 * KAFKA_ANSWER_MILLIS);
const PATIENCE: Duration = Duration::from_millis(KAFKA_ANSWER_MILLIS);
const RETRY: Duration = Duration::from_millis(20);
/// Well above a record, and small enough that old messages do not stay much longer than they have to.
const SEGMENT_BYTES: usize = 256 * 1024 * 1024;

impl Topics {
    pub(in crate::store::kafka) fn start(
        admin: AdminClient<Listener>,
        cluster: Cluster,
        producer: Arc<Producer>,
        retention: Duration,
    ) -> Self {
        let admin = Arc::new(admin);
        let of = Arc::clone(&producer);
        let (creations, calls) = Calls::new(move || of.sent());
        tokio::spawn(create_all(Arc::clone(&admin), cluster, calls, retention));
        let (deletions, calls) = Calls::new(move || producer.sent());
        tokio::spawn(delete_all(Arc::clone(&admin), calls));
        Self {
            admin,
            creations,
            deletions,
            retention,
        }
    }

    /// Makes a topic, unless it is there. Answers with its partitions when each has a leader.
    pub(in crate::store::kafka) async fn create(&self, log: NewLog) -> Result<u32, StoreError> {
        calls::ask(&self.creations, log).await
    }

    /// Makes a compacted topic of one partition, unless it is there.
    pub(in crate::store::kafka) async fn create_compacted(
        &self,
        name: &str,
        copies: Option<u16>,
    ) -> Result<(), StoreError> {
        let factor = TopicReplication::Fixed(copies.map_or(-1, i32::from));
        let topic = NewTopic::new(name, 1, factor).set("cleanup.policy", "compact");
        let created = self.admin.create_topics([&topic], &call_options()).await;
        let mut results = results(
            [name].into_iter(),
            created,
            RDKafkaErrorCode::TopicAlreadyExists,
        );
        results.remove(name).unwrap_or(Ok(()))
    }

    /// Deletes a topic, if it is there.
    pub(in crate::store::kafka) async fn delete(&self, name: &str) -> Result<(), StoreError> {
        calls::ask(&self.deletions, name.to_owned()).await
    }

    /// Has a topic retain records for so long at least. The caller sees to it that nobody else changes the topic
    /// meanwhile: there is no way to change one setting without sending all others again.
    pub(in crate::store::kafka) async fn retain(
        &self,
        name: &str,
        at_least: Duration,
    ) -> Result<(), StoreError> {
        let retention = retention_ms(self.retention.max(at_least));
        let set = self.settings(name).await?;
        if set
            .iter()
            .any(|(name, value)| name == RETENTION && *value == retention)
        {
            return Ok(());
        }
        let mut change = AlterConfig::new(ResourceSpecifier::Topic(name));
        change = change.set(RETENTION, &retention);
        for (name, value) in set.iter().filter(|(name, _)| name != RETENTION) {
            change = change.set(name, value);
        }
        let options = AdminOptions::new().request_timeout(Some(CALL));
        let changed = self.admin.alter_configs([&change], &options).await;
        match changed.map_err(|error| errors::of_question(&error))?.pop() {
            Some(Ok(_)) => {}
            Some(Err((_, code))) => return Err(errors::of_change(code)),
            None => return Err(StoreError::NoSuchLog),
        }
        // Brokers hear of it a moment later. The next caller must not take what was before for what is.
        let deadline = Instant::now() + PATIENCE;
        while !self
            .settings(name)
            .await?
            .contains(&(RETENTION.to_owned(), retention.clone()))
        {
            if Instant::now() > deadline {
                return Err(StoreError::Uncertain(
                    "Kafka has taken how long to keep messages, but does not show it".to_owned(),
                ));
            }
            sleep(RETRY).await;
        }
        Ok(())
    }

    /// How many copies of a topic have to be in sync for it to take records, if this client may know.
    pub(in crate::store::kafka) async fn in_sync_min(
        &self,
        name: &str,
        patience: Duration,
    ) -> Option<usize> {
        let topic = ResourceSpecifier::Topic(name);
        let options = AdminOptions::new().request_timeout(Some(patience));
        let described = self.admin.describe_configs([&topic], &options).await;
        let described = described.ok()?.pop()?.ok()?;
        described
            .get("min.insync.replicas")?
            .value
            .as_ref()?
            .parse()
            .ok()
    }

    /// The settings that were made for a topic itself.
    async fn settings(&self, name: &str) -> Result<Vec<(String, String)>, StoreError> {
        let topic = ResourceSpecifier::Topic(name);
        let options = AdminOptions::new().request_timeout(Some(CALL));
        let described = self.admin.describe_configs([&topic], &options).await;
        let described = described
            .map_err(|error| errors::of_question(&error))?
            .pop();
        let described = described
            .ok_or(StoreError::NoSuchLog)?
            .map_err(errors::of_question_code)?;
        if described.entries.is_empty() {
            // The client has no other way to tell that a broker refuses, or has not heard of the topic yet. To go on
            // would put everything that is set on the topic back to the brokers' defaults.
            return Err(StoreError::Unavailable(
                "Kafka does not tell how the topic is set up; the user needs DescribeConfigs on topics".to_owned(),
            ));
        }
        let entries = described.entries.into_iter();
        Ok(entries
            .filter(|entry| entry.source == ConfigSource::DynamicTopic)
            .filter_map(|entry| Some((entry.name, entry.value?)))
            .collect())
    }

    /// Deletes the records of a partition below `until`.
    pub(in crate::store::kafka) async fn delete_records(
        &self,
        name: &str,
        partition: Partition,
        until: Offset,
    ) -> Result<(), StoreError> {
        let mut list = TopicPartitionList::with_capacity(1);
        let position = Position::Offset(until.cast_signed());
        let options = AdminOptions::new().request_timeout(Some(CALL));
        let deleted = match list.add_partition_offset(name, partition.cast_signed(), position) {
            Ok(()) => self.admin.delete_records(&list, &options).await,
            Err(error) => Err(error),
        };
        let deleted = deleted.map_err(|error| errors::of_question(&error))?;
        let failed = deleted
            .elements()
            .iter()
            .find_map(|element| element.error().err());
        failed.map_or(Ok(()), |error| Err(errors::of_question(&error)))
    }
}

async fn create_all(
    admin: Arc<AdminClient<Listener>>,
    cluster: Cluster,
    mut calls: Calls<NewLog, u32, impl Fn() -> u64>,
    retention: Duration,
) {
    while let Some(taken) = calls.next().await {
        let logs = taken.iter().map(|request| &request.what);
        let logs: Vec<_> = distinct(logs, |log| &log.name).collect();
        let results = create(&admin, &logs, retention).await;
        let made = logs.iter().map(|log| log.name.as_str());
        let made = made.filter(|name| matches!(results.get(*name), Some(Ok(()))));
        let led = led(&cluster, made.map(str::to_owned).collect()).await;
        for Request { what, answer, .. } in taken {
            let result = match results.get(&what.name).cloned() {
                Some(Ok(())) => led.get(&what.name).copied().ok_or_else(|| {
                    let text = "Kafka has made the topic, but not all partitions have a leader";
                    StoreError::Uncertain(text.to_owned())
                }),
                // Not all of the brokers know what one of them has begun.
                Some(Err(StoreError::NoSuchLog)) => Err(StoreError::Uncertain(
                    "Kafka's brokers do not all know the topic".to_owned(),
                )),
                Some(Err(error)) => Err(error),
                None => Err(StoreError::Uncertain(
                    "Kafka does not say what became of the topic".to_owned(),
                )),
            };
            // The caller may be gone.
            answer.send(result).ok();
        }
    }
}

pub(in crate::store::kafka) type Results = HashMap<String, Result<(), StoreError>>;

/// Makes topics, unless they are there.
pub(in crate::store::kafka) async fn create(
    admin: &AdminClient<Listener>,
    logs: &[&NewLog],
    retention: Duration,
) -> Results {
    let retention = retention_ms(retention);
    let record_bytes = KAFKA_RECORD_BYTES_MAX.to_string();
    let segment_bytes = SEGMENT_BYTES.to_string();
    let copies: Vec<_> = logs
        .iter()
        .map(|log| log.min_insync_replicas.map(|copies| copies.to_string()))
        .collect();
    let topics: Vec<_> = logs
        .iter()
        .zip(&copies)
        .map(|(log, copies)| {
            let factor = log.shape.replication_factor.map_or(-1, i32::from);
            let partitions = log.shape.partitions.cast_signed();
            let topic = NewTopic::new(&log.name, partitions, TopicReplication::Fixed(factor))
                // One clock for publish times, whichever node published.
                .set("message.timestamp.type", "LogAppendTime")
                .set("cleanup.policy", "delete")
                .set(RETENTION, &retention)
                .set("retention.bytes", "-1")
                .set("max.message.bytes", &record_bytes)
                .set("segment.bytes", &segment_bytes)
                .set("compression.type", &log.shape.compression);
            match copies {
                Some(copies) => topic.set("min.insync.replicas", copies),
                None => topic,
            }
        })
        .collect();
    let options = call_options();
    let created = admin.create_topics(&topics, &options).await;
    let names = logs.iter().map(|log| log.name.as_str());
    results(names, created, RDKafkaErrorCode::TopicAlreadyExists)
}

async fn delete_all(
    admin: Arc<AdminClient<Listener>>,
    mut calls: Calls<String, (), impl Fn() -> u64>,
) {
    while let Some(taken) = calls.next().await {
        let names = taken.iter().map(|request| request.what.as_str());
        let names: Vec<_> = distinct(names, |name| name).collect();
        let deleted = admin.delete_topics(&names, &call_options()).await;
        let absent = RDKafkaErrorCode::UnknownTopicOrPartition;
        let results = results(names.iter().copied(), deleted, absent);
        for Request { what, answer, .. } in taken {
            let result = results.get(&what).cloned().unwrap_or_else(|| {
                let text = "Kafka does not say what became of the topic";
                Err(StoreError::Uncertain(text.to_owned()))
            });
            answer.send(result).ok();
        }
    }
}

/// Each topic once, however many callers ask for it: brokers refuse a topic that is in a call twice.
fn distinct<'a, T: Copy>(
    topics: impl Iterator<Item = T>,
    name: impl Fn(T) -> &'a str,
) -> impl Iterator<Item = T> {
    let mut seen = HashSet::new();
    topics.filter(move |topic| seen.insert(name(*topic)))
}

fn call_options() -> AdminOptions {
    AdminOptions::new()
        .request_timeout(Some(CALL))
        .operation_timeout(Some(PATIENCE))
}

/// What became of each topic. One that `is_done` says of is as it should be.
fn results<'a>(
    names: impl Iterator<Item = &'a str>,
    answer: Result<Vec<TopicResult>, KafkaError>,
    is_done: RDKafkaErrorCode,
) -> Results {
    match answer {
        Ok(each) => each
            .into_iter()
            .map(|result| match result {
                Ok(name) => (name, Ok(())),
                Err((name, code)) if code == is_done => (name, Ok(())),
                Err((name, code)) => (name, Err(errors::of_change(code))),
            })
            .collect(),
        // It may have been carried out, and only the answer is missing.
        Err(error) => names
            .map(|name| {
                let text = format!("Kafka: {}", errors::text(&error));
                (name.to_owned(), Err(StoreError::Uncertain(text)))
            })
            .collect(),
    }
}

/// Waits until every partition of these topics has a leader. Answers how many partitions each has.
async fn led(cluster: &Cluster, mut missing: Vec<String>) -> HashMap<String, u32> {
    let deadline = Instant::now() + PATIENCE;
    let mut led = HashMap::new();
    while !missing.is_empty() && Instant::now() < deadline {
        if let Ok(found) = cluster.led(missing.clone(), deadline).await {
            missing.retain(|name| !found.contains_key(name));
            led.extend(found);
        }
        if !missing.is_empty() {
            sleep(RETRY).await;
        }
    }
    led
}

/// Kafka's setting for this; without end where it is longer than Kafka can say.
fn retention_ms(retention: Duration) -> String {
    i64::try_from(retention.as_millis())
        .unwrap_or(-1)
        .to_string()
}
