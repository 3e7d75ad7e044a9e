//! Which state store a prefix belongs to. Two systems under one prefix, or under prefixes of which one begins with the
//! other, would take each other's topics for their own.
//!
//! The topic `PREFIX.__owner` says so: compacted, with one partition, and a record per store that has claimed the prefix,
//! whose key is the store's id. The one that comes first is the owner's. So two stores that claim a prefix at once agree
//! on one of them. A claim by force deletes the others' records.

use std::{collections::BTreeMap, time::Duration};

use rdkafka::{
    ClientConfig, Message as _, Offset as Position, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaError,
    producer::{FutureProducer, FutureRecord, Producer as _},
};
use tokio::{task::spawn_blocking, time::Instant};

use super::{
    admin::cluster, context::Listener, errors, log::KafkaLog, names, open::OpenError,
    options::Options, record,
};
use crate::{
    limits::{KAFKA_ANSWER_MILLIS, KAFKA_OPEN_MILLIS},
    store::{StoreError, log::Offset},
};

const PATIENCE: Duration = Duration::from_millis(KAFKA_OPEN_MILLIS);
const ANSWER: Duration = Duration::from_millis(KAFKA_ANSWER_MILLIS);
const POLL: Duration = Duration::from_millis(100);
/// What a claim says beside whose it is: the form of this record.
const CLAIM: &[u8] = br#"{"version":1}"#;

/// The stores that have claimed a prefix, and where.
#[derive(Debug, Default)]
pub(super) struct Claims(BTreeMap<String, Offset>);

impl Claims {
    fn owner(&self) -> Option<&str> {
        let first = self.0.iter().min_by_key(|(_, offset)| **offset);
        first.map(|(store, _)| store.as_str())
    }
}

impl KafkaLog {
    /// Sees to it that the prefix belongs to the state store with this id, and claims it where it belongs to none.
    ///
    /// # Errors
    /// [`OpenError::Owned`] or [`OpenError::Nested`], unless [`Options::claim_prefix`] is set; else what Kafka says.
    pub async fn claim(&self, store: &str) -> Result<(), OpenError> {
        let Options {
            prefix,
            claim_prefix: by_force,
            ..
        } = &self.options;
        let topic = names::owner_topic(prefix);
        let claims = match self.cluster.find(&topic).await {
            Ok(Some(_)) => self.claims(&topic).await?,
            Ok(None) => Claims::default(),
            Err(error) => return Err(unread(prefix, &error)),
        };
        match claims.owner() {
            Some(owner) if owner == store => return Ok(()),
            Some(owner) if !by_force => return Err(self.owned_by(owner, store)),
            _ if !by_force => self.check_neighbours().await?,
            _ => {}
        }
        let others = claims.0.keys().filter(|other| *other != store);
        let ended = others.map(|other| (other.as_str(), None));
        let written = self.write(&topic, ended.chain([(store, Some(CLAIM))]));
        match written.await {
            Ok(()) => {}
            Err(StoreError::Denied(why) | StoreError::Refused(why)) => {
                tracing::warn!(
                    prefix,
                    why,
                    "Kafka takes no claim in {topic}, so the prefix is not claimed, and another system may use it"
                );
                return Ok(());
            }
            Err(error) => return Err(failed(&error)),
        }
        match self.claims(&topic).await?.owner() {
            Some(owner) if owner == store => {
                tracing::info!(
                    prefix,
                    store,
                    "the prefix belongs to this store from now on"
                );
                Ok(())
            }
            Some(owner) => Err(self.owned_by(owner, store)),
            None => Err(OpenError::Failed(format!(
                "{topic} does not show what was just written to it"
            ))),
        }
    }

    /// Refuses a prefix that other prefixes begin with, or that begins with another one.
    async fn check_neighbours(&self) -> Result<(), OpenError> {
        let topics = self.cluster.all_leaders().await;
        let topics = topics.map_err(|error| failed(&error))?;
        let prefix = &self.options.prefix;
        let mut owned = topics.keys().filter_map(|name| names::owned_prefix(name));
        match owned.find(|other| names::are_nested(prefix, other)) {
            Some(other) => Err(OpenError::Nested {
                prefix: prefix.clone(),
                other: other.to_owned(),
            }),
            None => Ok(()),
        }
    }

    /// Refuses a topic that another system like this one has made, which deletes it without asking anybody.
    pub(super) async fn check_foreign(&self, name: &str) -> Result<(), StoreError> {
        let prefixes: Vec<_> = names::prefixes(name).collect();
        if prefixes.is_empty() {
            return Ok(());
        }
        let topics = self.cluster.all_leaders().await?;
        let is_owned = |prefix: &&&str| topics.contains_key(&names::owner_topic(prefix));
        prefixes.iter().find(is_owned).map_or(Ok(()), |prefix| {
            Err(StoreError::Refused(format!(
                "the Kafka topic {name:?} is another Packetboat's own: its prefix {prefix:?} is in use, as \
                 {prefix}.__owner says, and such topics are never attached"
            )))
        })
    }

    /// Also where brokers are missing for as many copies as topics are to have: one that cannot be made must not keep
    /// the others from being served.
    async fn make_owner_topic(&self, topic: &str) -> Result<(), StoreError> {
        let configured = self.options.replication_factor;
        let mut made = Ok(());
        for copies in [configured, None, Some(1)] {
            made = self.topics.create_compacted(topic, copies).await;
            if !matches!(made, Err(StoreError::Unavailable(_))) {
                break;
            }
        }
        made
    }

    async fn claims(&self, topic: &str) -> Result<Claims, OpenError> {
        let (config, topic) = (self.options.reader(), topic.to_owned());
        let read = spawn_blocking(move || read(&config, &topic, PATIENCE)).await;
        let read = read.map_err(|_| OpenError::stopped())?;
        read.map_err(|error| unread(&self.options.prefix, &error))
    }

    /// Writes records, and makes their topic if it is not there: a store's id with a claim, or without one to delete it.
    async fn write(
        &self,
        topic: &str,
        records: impl Iterator<Item = (&str, Option<&'static [u8]>)>,
    ) -> Result<(), StoreError> {
        self.make_owner_topic(topic).await?;
        let mut config = self.options.producer();
        config.set(
            "topic.metadata.propagation.max.ms",
            PATIENCE.as_millis().to_string(),
        );
        let producer = config.create_with_context(Listener::new("claim"));
        let producer: FutureProducer<Listener> =
            producer.map_err(|error| errors::of_question(&error))?;
        for (store, claim) in records {
            let mut record: FutureRecord<'_, str, [u8]> =
                FutureRecord::to(topic).partition(0).key(store);
            record.payload = claim;
            if let Err((error, _record)) = producer.send(record, PATIENCE).await {
                // That the record was given up says less than why the client has.
                let fatal = producer.client().fatal_error().map(|(code, _)| code);
                let code = fatal.or_else(|| error.rdkafka_error_code());
                let other = || StoreError::Unavailable(errors::text(&error));
                return Err(code.map_or_else(other, errors::of_record));
            }
        }
        Ok(())
    }

    fn owned_by(&self, owner: &str, store: &str) -> OpenError {
        OpenError::Owned {
            prefix: self.options.prefix.clone(),
            owner: owner.to_owned(),
            store: store.to_owned(),
        }
    }
}

/// Reads the topic to its end. Blocks.
pub(super) fn read(
    config: &ClientConfig,
    topic: &str,
    patience: Duration,
) -> Result<Claims, StoreError> {
    let asked = |error: KafkaError| errors::of_question(&error);
    let client = config.create_with_context(Listener::new("claims"));
    let client: BaseConsumer<Listener> = client.map_err(asked)?;
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Position::Beginning)
        .map_err(asked)?;
    client.assign(&list).map_err(asked)?;
    let deadline = Instant::now() + patience;
    let mut claims = Claims::default();
    let mut why = None;
    while Instant::now() < deadline {
        match client.poll(POLL) {
            Some(Ok(record)) if record::is_of(&record, topic, 0) => {
                let store = record.key().and_then(|key| str::from_utf8(key).ok());
                match (store, record.payload()) {
                    (Some(store), Some(_)) => {
                        claims.0.insert(store.to_owned(), record::offset(&record));
                    }
                    (Some(store), None) => {
                        claims.0.remove(store);
                    }
                    (None, _) => {}
                }
            }
            Some(Err(KafkaError::PartitionEOF(_))) => return Ok(claims),
            Some(Err(error)) => why = Some(errors::of_question(&error)),
            Some(Ok(_)) | None => {}
        }
    }
    Err(why.unwrap_or_else(|| StoreError::Unavailable(silence(&client, topic))))
}

/// Why nothing came of a topic, and no error.
fn silence(client: &BaseConsumer<Listener>, topic: &str) -> String {
    let metadata = client.fetch_metadata(Some(topic), ANSWER).ok();
    let found = metadata.as_ref().and_then(|all| cluster::named(all, topic));
    let is_led = found.is_none_or(|topic| topic.partitions().iter().all(|one| one.leader() >= 0));
    let text = if is_led {
        "its records did not come in time"
    } else {
        "its partition has no leader, so no broker that runs has it"
    };
    text.to_owned()
}

/// The prefix may be another store's, and nobody can tell.
pub(super) fn unread(prefix: &str, error: &StoreError) -> OpenError {
    let remedy = if matches!(error, StoreError::Denied(_)) {
        "allow this user READ and DESCRIBE on topics that begin with the prefix"
    } else {
        "start the brokers that have it, or, if its records are lost for good, delete the topic: it is made again and \
         the prefix claimed at the next start"
    };
    OpenError::OwnerUnread {
        prefix: prefix.to_owned(),
        why: error.to_string(),
        remedy,
    }
}

fn failed(error: &StoreError) -> OpenError {
    OpenError::Failed(format!("its prefix could not be claimed: {error}"))
}
