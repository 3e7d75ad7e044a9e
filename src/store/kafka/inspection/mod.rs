//! What a cluster says about itself, and a trial topic, for an examination.
//!
//! - `listing`: what brokers and topics there are, and how the partitions are.
//! - `trial`: everything that a node does, to a topic of the examination's own.

mod listing;
mod trial;

use std::{collections::HashMap, fmt, str::FromStr, sync::Arc, time::Duration};

use rdkafka::{
    Offset as Position, TopicPartitionList,
    admin::{AdminClient, AdminOptions, ConfigResource, ResourceSpecifier},
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaError,
};
use tokio::{task::spawn_blocking, time::Instant};

pub(crate) use listing::{Broker, Listing, TopicState};

use super::{
    Options,
    context::Listener,
    errors, names,
    open::{self, OpenError},
};
use crate::{
    limits::KAFKA_ANSWER_MILLIS,
    store::log::{Offset, Partition},
};

/// A cluster that answers.
pub(crate) struct Inspection {
    id: String,
    options: Options,
    asker: Arc<BaseConsumer<Listener>>,
    admin: AdminClient<Listener>,
}

/// What a broker answered when it was asked for its settings.
#[derive(Debug)]
pub(crate) enum Told {
    Settings(Settings),
    /// Nothing, as we may not know them.
    Refused(String),
    Silent(String),
}

/// Settings of a broker by name, and whether each is the default.
#[derive(Debug, Default)]
pub(crate) struct Settings(HashMap<String, (String, bool)>);

/// Partitions about which brokers are asked at once.
const PARTITIONS_PER_QUESTION: usize = 1_000;
const PATIENCE: Duration = Duration::from_millis(KAFKA_ANSWER_MILLIS);

impl Inspection {
    /// Connects as a node would, and waits until a broker has answered.
    ///
    /// # Errors
    ///
    /// If none does within 5 s, or it does not let us in.
    pub(crate) async fn connect(options: &Options) -> Result<Self, OpenError> {
        options.check()?;
        let asker = options.asker().create_with_context(Listener::new("asker"));
        let asker: BaseConsumer<Listener> = asker.map_err(|error| open::failed(&error))?;
        let (brokers, deadline) = (options.brokers.clone(), Instant::now() + PATIENCE);
        let connected = spawn_blocking(move || open::connect(asker, &brokers, deadline));
        let connected = connected.await.map_err(|_| OpenError::stopped())?;
        let (connected, id) = connected?;
        let admin = options
            .administrator()
            .create_with_context(Listener::new("administrator"))
            .map_err(|error| open::failed(&error))?;
        Ok(Self {
            id,
            options: options.clone(),
            asker: Arc::new(connected.client),
            admin,
        })
    }

    /// The cluster's own id.
    pub(crate) fn cluster(&self) -> &str {
        &self.id
    }

    /// What the names of our topics begin with.
    pub(crate) fn prefix(&self) -> &str {
        &self.options.prefix
    }

    /// The log that a state store has to belong to.
    pub(crate) fn identity(&self) -> String {
        names::identity(&self.id, &self.options.prefix)
    }

    /// All brokers and topics, or why there is no answer.
    pub(crate) async fn list(&self) -> Result<Listing, String> {
        let client = Arc::clone(&self.asker);
        let listed = spawn_blocking(move || {
            client
                .fetch_metadata(None, PATIENCE)
                .map(|metadata| Listing::from(&metadata))
        });
        match listed.await {
            Ok(listed) => listed.map_err(|error| errors::text(&error)),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Where these partitions end, of those of which a broker says so.
    pub(crate) async fn ends(
        &self,
        partitions: Vec<(String, Partition)>,
    ) -> Result<HashMap<(String, Partition), Offset>, String> {
        let client = Arc::clone(&self.asker);
        let asked = spawn_blocking(move || {
            let mut ends = HashMap::new();
            for some in partitions.chunks(PARTITIONS_PER_QUESTION) {
                let mut list = TopicPartitionList::with_capacity(some.len());
                for (topic, partition) in some {
                    list.add_partition_offset(topic, partition.cast_signed(), Position::End)?;
                }
                let found = client.offsets_for_times(list, PATIENCE)?;
                for element in found.elements() {
                    if let (Ok(()), Position::Offset(end)) = (element.error(), element.offset()) {
                        let partition = element.partition().cast_unsigned();
                        let of = (element.topic().to_owned(), partition);
                        ends.insert(of, Offset::try_from(end).unwrap_or(0));
                    }
                }
            }
            Ok::<_, KafkaError>(ends)
        });
        match asked.await {
            Ok(ends) => ends.map_err(|error| errors::text(&error)),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Asks one broker, and no other, for its settings.
    pub(crate) async fn settings(&self, broker: &Broker) -> Told {
        let options = AdminOptions::new().request_timeout(Some(PATIENCE));
        let broker = ResourceSpecifier::Broker(broker.id);
        match self.admin.describe_configs([&broker], &options).await {
            Ok(mut described) => match described.pop() {
                // The client does not tell a refusal from a broker without settings, which there is not.
                Some(Ok(described)) if !described.entries.is_empty() => {
                    Told::Settings(described.into())
                }
                Some(Err(code)) => Told::Refused(code.to_string()),
                _ => Told::Refused("the answer is empty".to_owned()),
            },
            Err(error) => {
                let complaint = self.admin.inner().context().last();
                Told::Silent(
                    complaint.map_or_else(|| errors::text(&error), |complaint| complaint.text),
                )
            }
        }
    }
}

impl fmt::Debug for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inspection")
            .field("id", &self.id)
            .field("prefix", &self.options.prefix)
            .finish_non_exhaustive()
    }
}

impl Settings {
    /// A setting's value, and whether it is the default.
    pub(crate) fn get(&self, name: &str) -> Option<(&str, bool)> {
        let (value, is_default) = self.0.get(name)?;
        Some((value, *is_default))
    }

    /// A setting that is a number.
    pub(crate) fn number<T: FromStr>(&self, name: &str) -> Option<T> {
        self.get(name)?.0.parse().ok()
    }

    /// Whether a setting is there and true.
    pub(crate) fn is_on(&self, name: &str) -> bool {
        self.get(name).is_some_and(|(value, _)| value == "true")
    }
}

impl From<ConfigResource> for Settings {
    fn from(described: ConfigResource) -> Self {
        let entries = described.entries.into_iter();
        entries
            .filter_map(|one| Some((one.name, one.value?, one.is_default)))
            .collect()
    }
}

/// Of a name, a value, and whether it is the default.
impl FromIterator<(String, String, bool)> for Settings {
    fn from_iter<I: IntoIterator<Item = (String, String, bool)>>(settings: I) -> Self {
        let settings = settings.into_iter();
        let settings = settings.map(|(name, value, is_default)| (name, (value, is_default)));
        Self(settings.collect())
    }
}
