//! Connects to Kafka, or says in one line why that is not possible.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use rdkafka::{
    admin::{
        AdminClient, AdminOptions, ConfigResource, NewTopic, ResourceSpecifier, TopicReplication,
    },
    consumer::{BaseConsumer, Consumer as _},
    error::{KafkaError, RDKafkaErrorCode},
};
use thiserror::Error;
use tokio::{
    sync::Semaphore,
    task::spawn_blocking,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    admin::cluster::Cluster,
    admin::topics::Topics,
    append::cause::Causes,
    append::producer::Producer,
    context::{Complaint, Listener},
    errors,
    follow::follower::Follower,
    follow::head::Head,
    follow::head_consumer::HeadConsumer,
    known::KnownTopics,
    log::KafkaLog,
    names,
    options::Options,
    read::readers::Readers,
};
use crate::{
    limits::{KAFKA_APPEND_BYTES_MAX, KAFKA_OPEN_MILLIS, KAFKA_READER_IDLE_MILLIS, TAIL_BYTES_MAX},
    store::tail::Tail,
};

/// Why Kafka cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OpenError {
    /// The options contradict themselves or what we promise.
    #[error("{0}")]
    Options(String),
    /// No broker answers.
    #[error(
        "no Kafka broker answers at {brokers}: {why}; is the address right, and is Kafka running?"
    )]
    Unreachable {
        /// Brokers that were asked for them.
        brokers: String,
        /// What the last attempt came to.
        why: String,
    },
    /// The brokers do not take the login or the certificate.
    #[error("Kafka at {brokers} refuses the login: {why}; check the security and SASL properties")]
    Login {
        /// Brokers that were asked for them.
        brokers: String,
        /// What they say.
        why: String,
    },
    /// The brokers know us, but do not let us do what is needed.
    #[error(
        "Kafka at {brokers} does not let this user make topics ({why}): a permission is missing; allow it CREATE, \
         DELETE, READ, WRITE, DESCRIBE, DESCRIBE_CONFIGS and ALTER_CONFIGS on topics that begin with {prefix}, and \
         IDEMPOTENT_WRITE on the cluster"
    )]
    Permission {
        /// Where they are.
        brokers: String,
        /// What they say.
        why: String,
        /// What the names of our topics begin with.
        prefix: String,
    },
    /// The brokers are older than we can do with.
    #[error(
        "Kafka at {brokers} is version {version}, but 3.9 or newer is needed: upgrade the brokers"
    )]
    TooOld {
        /// Where they are.
        brokers: String,
        /// What they are.
        version: String,
    },
    /// The topics under our prefix are another store's.
    #[error(
        "the prefix {prefix} (kafka.prefix) belongs to another store: {prefix}.__owner names {owner}, and this one is \
         {store}; give this system a prefix of its own, or start once with --claim-prefix if nothing uses that store"
    )]
    Owned {
        /// The prefix.
        prefix: String,
        /// The id of the store that has it.
        owner: String,
        /// The id of ours.
        store: String,
    },
    /// Names under our prefix could be another system's.
    #[error(
        "the prefix {prefix} (kafka.prefix) and {other}, which {other}.__owner says is in use, begin alike: choose \
         another one, or start once with --claim-prefix if nothing uses {other}"
    )]
    Nested {
        /// Our prefix.
        prefix: String,
        /// The other one.
        other: String,
    },
    /// Nobody can tell whose the topics under our prefix are.
    #[error(
        "{prefix}.__owner cannot be read, which says whose the prefix {prefix} (kafka.prefix) is: {why}; {remedy}"
    )]
    OwnerUnread {
        /// The prefix.
        prefix: String,
        /// What the brokers say.
        why: String,
        /// What to do.
        remedy: &'static str,
    },
    /// Anything else.
    #[error("Kafka cannot be used: {0}")]
    Failed(String),
}

/// The oldest version that we are tested with.
pub(crate) const VERSION_MIN: (u32, u32) = (3, 9);
/// How long one attempt lasts; then what the client complained about is examined.
const ATTEMPT: Duration = Duration::from_millis(200);
const PATIENCE: Duration = Duration::from_millis(KAFKA_OPEN_MILLIS);

impl KafkaLog {
    /// Connects. Must be called on a runtime, which the log's tasks then run on.
    pub async fn open(options: Options) -> Result<Self, OpenError> {
        Self::open_within(options, PATIENCE).await
    }

    /// Connects if that takes no longer.
    pub(super) async fn open_within(
        options: Options,
        patience: Duration,
    ) -> Result<Self, OpenError> {
        options.check()?;
        let deadline = Instant::now() + patience;
        let asker = options.asker().create_with_context(Listener::new("asker"));
        let asker: BaseConsumer<Listener> = asker.map_err(|error| failed(&error))?;
        let brokers = options.brokers.clone();
        let connected = spawn_blocking(move || connect(asker, &brokers, deadline));
        let (asker, cluster_id) = connected.await.map_err(|_| OpenError::stopped())??;
        let admin = options
            .administrator()
            .create_with_context(Listener::new("administrator"));
        let admin: AdminClient<Listener> = admin.map_err(|error| failed(&error))?;
        let broker = broker_settings(&admin, asker.broker).await;
        check_version(&options, broker.as_ref().ok())?;
        check_permission(&options, &admin).await?;
        if let Err(why) = &broker {
            tracing::warn!(
                why,
                "Kafka does not tell its version and defaults; unless replication_factor is configured, new topics \
                get the brokers' own min.insync.replicas"
            );
        }
        let tail = Arc::new(Tail::new(TAIL_BYTES_MAX));
        let head = Arc::new(Head::new(Arc::clone(&tail)));
        let producer = Producer::new(options.producer(), Arc::clone(&head));
        let producer = producer.map_err(|error| failed(&error))?;
        let cluster = Cluster::new(asker.client);
        let stopped = CancellationToken::new();
        let consumer = HeadConsumer::new(options.follower(), Arc::clone(&head.news));
        let readers = Arc::new(Readers::new(options.reader(), cluster.clone()));
        let follower = Follower::new(consumer, Arc::clone(&readers), Arc::clone(&producer), head);
        let follower = follower.start(stopped.clone());
        let default_copies = broker.ok().and_then(|broker| {
            let setting = broker.get("default.replication.factor")?;
            setting.value.as_ref()?.parse().ok()
        });
        tokio::spawn(tend(Arc::downgrade(&readers), stopped.clone()));
        Ok(Self {
            identity: names::identity(&cluster_id, &options.prefix),
            default_copies,
            topics: Topics::start(
                admin,
                cluster.clone(),
                Arc::clone(&producer),
                options.retention,
            ),
            known: KnownTopics::default(),
            permits: Arc::new(Semaphore::new(KAFKA_APPEND_BYTES_MAX / 1024)),
            options,
            cluster,
            producer,
            causes: Causes::default(),
            readers,
            tail,
            follower,
            stopped,
        })
    }
}

/// Asks whether we might make a topic, without making one.
async fn check_permission(
    options: &Options,
    admin: &AdminClient<Listener>,
) -> Result<(), OpenError> {
    let name = format!("{}.permission", options.prefix);
    let topic = NewTopic::new(&name, 1, TopicReplication::Fixed(1));
    let asked = AdminOptions::new()
        .request_timeout(Some(PATIENCE))
        .validate_only(true);
    // What else may be wrong with such a topic is no matter of ours.
    let Ok(results) = admin.create_topics([&topic], &asked).await else {
        return Ok(());
    };
    match results.into_iter().next() {
        Some(Err((_, code))) if errors::is_forbidden(code) => Err(OpenError::Permission {
            brokers: options.brokers.clone(),
            why: code.to_string(),
            prefix: options.prefix.clone(),
        }),
        _ => Ok(()),
    }
}

/// Lets readers rest that nobody uses, and clients say what they have to say.
async fn tend(readers: Weak<Readers>, stopped: CancellationToken) {
    let pause = Duration::from_millis(KAFKA_READER_IDLE_MILLIS);
    while timeout(pause, stopped.cancelled()).await.is_err()
        && let Some(readers) = readers.upgrade()
    {
        readers.cluster.listen();
        readers.rest().await;
    }
}

impl OpenError {
    pub(super) fn stopped() -> Self {
        Self::Failed("the server is stopping".to_owned())
    }
}

pub(super) struct Connected {
    pub(super) client: BaseConsumer<Listener>,
    /// One of the brokers.
    broker: Option<i32>,
}

/// Waits until a broker has answered. Blocks.
pub(super) fn connect(
    client: BaseConsumer<Listener>,
    brokers: &str,
    deadline: Instant,
) -> Result<(Connected, String), OpenError> {
    loop {
        if let Some(id) = client.client().fetch_cluster_id(ATTEMPT) {
            // A topic that is not there: the answer names the brokers all the same.
            let metadata = client.fetch_metadata(Some("packetboat"), PATIENCE);
            let broker = metadata.ok().and_then(|metadata| {
                metadata
                    .brokers()
                    .first()
                    .map(rdkafka::metadata::MetadataBroker::id)
            });
            client.context().forget();
            return Ok((Connected { client, broker }, id));
        }
        // What the client complains about is told while it is polled.
        while client.poll(Duration::ZERO).is_some() {}
        let complaint = client.context().last();
        match complaint {
            Some(complaint) if complaint.is_final() => {
                return Err(OpenError::Login {
                    brokers: brokers.to_owned(),
                    why: complaint.text,
                });
            }
            complaint if Instant::now() >= deadline => {
                return Err(OpenError::Unreachable {
                    brokers: brokers.to_owned(),
                    why: unreachable(complaint),
                });
            }
            _ => {}
        }
    }
}

fn unreachable(complaint: Option<Complaint>) -> String {
    match complaint {
        Some(complaint) if complaint.code != RDKafkaErrorCode::AllBrokersDown => complaint.text,
        None => "nothing there answers, though it may take connections; is it a broker, and does a firewall drop \
                 packets?"
            .to_owned(),
        // What they do with a client that they do not understand.
        _ => "they close every connection, as if another security.protocol were needed".to_owned(),
    }
}

/// How a broker is configured, or why we may not know.
async fn broker_settings(
    admin: &AdminClient<Listener>,
    broker: Option<i32>,
) -> Result<ConfigResource, String> {
    let options = AdminOptions::new().request_timeout(Some(PATIENCE));
    let broker = broker.ok_or("no broker is known by its number")?;
    let broker = ResourceSpecifier::Broker(broker);
    let described = admin.describe_configs([&broker], &options).await;
    match described.map(|mut described| described.pop()) {
        Ok(Some(Ok(settings))) if !settings.entries.is_empty() => Ok(settings),
        Ok(Some(Err(code))) => Err(code.to_string()),
        Err(error) => Err(errors::text(&error)),
        // The client has no other way to tell that a broker refuses.
        Ok(_) => Err("the user needs DescribeConfigs on the cluster".to_owned()),
    }
}

/// Brokers before 4.0 have a setting that names their own version unless an operator changed it; later ones have none.
fn check_version(options: &Options, broker: Option<&ConfigResource>) -> Result<(), OpenError> {
    let setting = broker.and_then(|broker| broker.get("inter.broker.protocol.version"));
    let Some(setting) = setting else {
        return Ok(());
    };
    let version = setting.value.as_deref().unwrap_or_default();
    match parse_version(version) {
        Some(parsed) if parsed < VERSION_MIN && setting.is_default => Err(OpenError::TooOld {
            brokers: options.brokers.clone(),
            version: version.to_owned(),
        }),
        Some(parsed) if parsed < VERSION_MIN => {
            tracing::warn!(
                version,
                "the brokers are told to speak like an older version; 3.9 or newer is needed"
            );
            Ok(())
        }
        _ => Ok(()),
    }
}

pub(crate) fn parse_version(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.split(['.', '-']);
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

pub(super) fn failed(error: &KafkaError) -> OpenError {
    match error {
        KafkaError::ClientConfig(..) => OpenError::Options(errors::text(error)),
        error => OpenError::Failed(errors::text(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_number() {
        for (text, version) in [("3.9-IV0", (3, 9)), ("3.10", (3, 10)), ("2.8-IV1", (2, 8))] {
            assert_eq!(parse_version(text), Some(version));
        }
        assert!(parse_version("3.10") > Some(VERSION_MIN));
        assert_eq!(parse_version(""), None);
    }
}
