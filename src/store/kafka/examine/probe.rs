//! Does everything that a node does, to a topic of its own that it deletes at the end.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use rdkafka::{
    Message as _, Offset as Position, TopicPartitionList,
    admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier},
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
        Options,
        admin::cluster,
        admin::topics::{self, NewLog},
        context::Listener,
        errors, open,
        options::TopicShape,
        record,
    },
    PATIENCE, Reached,
    steps::Step,
};
use crate::{
    clock::{Clock, Timestamp},
    limits::{KAFKA_OPEN_MILLIS, KAFKA_PROBE_PARTITIONS_MAX, PUBLISH_BYTES_MAX},
    store::{
        StoreError,
        finding::{self, Finding},
    },
};

/// Longest time that one step takes.
const STEP: Duration = Duration::from_millis(KAFKA_OPEN_MILLIS);
const POLL: Duration = Duration::from_millis(100);
const RETRY: Duration = Duration::from_millis(50);

/// What the names of all probes begin with.
pub(super) fn names_begin(prefix: &str) -> String {
    format!("{prefix}.doctor.")
}

/// Never a name that a topic of ours could have: those end in a number.
fn new_name(prefix: &str) -> Result<String, getrandom::Error> {
    let mut random = [0; 16];
    getrandom::fill(&mut random)?;
    let letters = random.iter().map(|byte| char::from(b'a' + byte % 16));
    Ok(names_begin(prefix) + &letters.collect::<String>())
}

/// Goes through all steps. `default_copies` is how many copies the brokers make by themselves.
pub(super) async fn run(
    options: &Options,
    cluster: &Reached,
    admin: &AdminClient<Listener>,
    brokers: usize,
    default_copies: Option<u16>,
    clock: &Clock,
) -> Vec<Finding> {
    let name = match new_name(&options.prefix) {
        Ok(name) => name,
        Err(error) => {
            return vec![Finding::problem(
                format!("the system gave no random bytes ({error})"),
                "repair the machine",
            )];
        }
    };
    let copies = options.replication_factor.or(default_copies);
    let log = NewLog {
        name: name.clone(),
        // Brokers take turns in leading new partitions.
        shape: TopicShape {
            partitions: brokers.clamp(1, KAFKA_PROBE_PARTITIONS_MAX) as u32,
            replication_factor: options.replication_factor,
            compression: "producer".to_owned(),
        },
        min_insync_replicas: copies.map(|copies| copies.saturating_sub(1).max(1)),
    };
    let probe = Probe {
        options,
        cluster,
        admin,
        name,
    };
    let mut made = topics::create(admin, &[&log], options.retention).await;
    let made = made.remove(&probe.name).unwrap_or(Ok(()));
    if let Err(error) = made {
        let failed = probe.failed(Step::Create, &error);
        // It may have been made all the same.
        return match error {
            StoreError::Refused(_) => vec![failed],
            _ => [Some(failed), probe.delete().await]
                .into_iter()
                .flatten()
                .collect(),
        };
    }
    let mut findings = probe.write_and_read(&log, clock).await;
    findings.extend(probe.change().await);
    findings.extend(probe.delete().await);
    if findings
        .iter()
        .all(|finding| finding.level < finding::Level::Problem)
    {
        findings.insert(
            0,
            Finding::ok(format!(
                "a topic {}* can be created, written to with messages of 10 MB, read, changed and deleted",
                names_begin(&options.prefix)
            )),
        );
    }
    findings
}

struct Probe<'a> {
    options: &'a Options,
    cluster: &'a Reached,
    admin: &'a AdminClient<Listener>,
    name: String,
}

impl Probe<'_> {
    fn failed(&self, step: Step, error: &StoreError) -> Finding {
        step.failed(&self.options.prefix, &self.name, error)
    }

    async fn write_and_read(&self, log: &NewLog, clock: &Clock) -> Vec<Finding> {
        let leaders = match self.leaders(log.shape.partitions).await {
            Ok(leaders) => leaders,
            Err(error) => return vec![self.failed(Step::Produce, &error)],
        };
        let mut config = self.options.producer();
        // The client may not have heard of the topic yet.
        config.set(
            "topic.metadata.propagation.max.ms",
            STEP.as_millis().to_string(),
        );
        let producer: FutureProducer<Listener> =
            match config.create_with_context(Listener::new("producer")) {
                Ok(producer) => producer,
                Err(error) => return vec![Finding::failure(&open::failed(&error))],
            };
        let mut ahead_of = BTreeMap::new();
        for partition in 0..log.shape.partitions.cast_signed() {
            let asked = clock.now();
            let appended = self
                .append(&producer, partition, b"packetboat doctor")
                .await;
            match (appended, leaders.get(&partition)) {
                (Ok(theirs), Some(leader)) => {
                    let ahead = finding::ahead_by(asked, theirs, clock.now());
                    ahead_of.entry(*leader).or_insert(ahead);
                }
                (Ok(_), None) => {}
                (Err(error), _) => return vec![self.failed(Step::Produce, &error)],
            }
        }
        let clocks = ahead_of.iter();
        let mut findings: Vec<_> = clocks
            .map(|(broker, ahead)| finding::clock(&format!("Kafka's broker {broker}"), *ahead))
            .collect();
        // As large as a publish request can be, and incompressible.
        let mut large = vec![0; PUBLISH_BYTES_MAX];
        let mut written = log.shape.partitions as usize;
        if getrandom::fill(&mut large).is_ok() {
            match self.append(&producer, 0, &large).await {
                Ok(_) => written += 1,
                Err(error) => findings.push(self.failed(Step::ProduceLarge, &error)),
            }
        }
        if let Err(error) = self.read(log.shape.partitions, written).await {
            findings.push(self.failed(Step::Consume, &error));
        }
        findings
    }

    /// The leader of each partition, once all have one.
    async fn leaders(&self, partitions: u32) -> Result<HashMap<i32, i32>, StoreError> {
        let deadline = Instant::now() + STEP;
        loop {
            let (client, name) = (Arc::clone(&self.cluster.client), self.name.clone());
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

    /// Appends a record and returns its timestamp, which is the broker's.
    async fn append(
        &self,
        producer: &FutureProducer<Listener>,
        partition: i32,
        value: &[u8],
    ) -> Result<Timestamp, StoreError> {
        let record: FutureRecord<'_, [u8], [u8]> = FutureRecord::to(&self.name)
            .partition(partition)
            .payload(value);
        match producer.send(record, STEP).await {
            Ok(delivered) => {
                let millis = delivered.timestamp.to_millis().unwrap_or(0);
                Ok(Timestamp::from_millis(u64::try_from(millis).unwrap_or(0)))
            }
            Err((error, _record)) => {
                // That the record was given up says less than why the client has.
                let fatal = producer.client().fatal_error().map(|(code, _)| code);
                let code = fatal.or_else(|| error.rdkafka_error_code());
                let other = || StoreError::Unavailable(errors::text(&error));
                Err(code.map_or_else(other, errors::of_record))
            }
        }
    }

    /// Reads until everything that was written has come.
    async fn read(&self, partitions: u32, count: usize) -> Result<(), StoreError> {
        let (config, name) = (self.options.reader(), self.name.clone());
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

    /// Reads the settings, and changes one.
    async fn change(&self) -> Option<Finding> {
        let options = AdminOptions::new().request_timeout(Some(STEP));
        let topic = ResourceSpecifier::Topic(&self.name);
        let described = match self.admin.describe_configs([&topic], &options).await {
            Ok(mut described) => described.pop(),
            Err(error) => return Some(self.failed(Step::Describe, &errors::of_question(&error))),
        };
        // The client does not tell a refusal from a topic without settings, which there is not.
        if !matches!(described, Some(Ok(described)) if !described.entries.is_empty()) {
            let empty = StoreError::Refused("the answer is empty".to_owned());
            return Some(self.failed(Step::Describe, &empty));
        }
        let change = AlterConfig::new(topic).set("retention.ms", "3600000");
        match self.admin.alter_configs([&change], &options).await {
            Ok(mut changed) => match changed.pop() {
                Some(Err((_, code))) => Some(self.failed(Step::Alter, &errors::of_change(code))),
                _ => None,
            },
            Err(error) => Some(self.failed(Step::Alter, &errors::of_question(&error))),
        }
    }

    /// Deletes the topic, if it is there.
    async fn delete(&self) -> Option<Finding> {
        let options = AdminOptions::new()
            .request_timeout(Some(STEP))
            .operation_timeout(Some(PATIENCE));
        let error = match self.admin.delete_topics(&[&self.name], &options).await {
            Ok(mut deleted) => match deleted.pop() {
                Some(Err((_, code))) => errors::of_change(code),
                _ => return None,
            },
            Err(error) => errors::of_question(&error),
        };
        match error {
            StoreError::NoSuchLog => None,
            error => Some(self.failed(Step::Delete, &error)),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_has_a_name_of_its_own() {
        let (one, other) = (new_name("pb"), new_name("pb"));
        let (one, other) = (one.expect("random"), other.expect("random"));
        assert_ne!(one, other);
        assert!(one.starts_with("pb.doctor."), "{one}");
        assert!(one.bytes().all(|byte| !byte.is_ascii_digit()), "{one}");
    }
}
