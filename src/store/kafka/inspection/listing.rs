//! The brokers and topics of a cluster, as one answer of its brokers has them.

use std::fmt;

use rdkafka::metadata::Metadata;

/// Everything that there is.
#[derive(Debug)]
pub(crate) struct Listing {
    pub(crate) brokers: Vec<Broker>,
    pub(crate) topics: Vec<TopicState>,
}

/// A broker, and where it says that it is reached.
#[derive(Debug)]
pub(crate) struct Broker {
    pub(crate) id: i32,
    pub(crate) host: String,
    pub(crate) port: i32,
}

/// How a topic is.
#[derive(Clone, Debug, Default)]
pub(crate) struct TopicState {
    pub(crate) name: String,
    pub(crate) partitions: usize,
    /// Copies of all partitions together.
    pub(crate) replicas: usize,
    /// Partitions that nobody leads.
    pub(crate) leaderless: usize,
    /// Partitions of which not all copies are in sync.
    pub(crate) behind: usize,
}

impl fmt::Display for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}:{}", self.id, self.host, self.port)
    }
}

impl From<&Metadata> for Listing {
    fn from(metadata: &Metadata) -> Self {
        let brokers = metadata.brokers().iter().map(|broker| Broker {
            id: broker.id(),
            host: broker.host().to_owned(),
            port: broker.port(),
        });
        let topics = metadata.topics().iter().map(|topic| {
            let partitions = topic.partitions();
            TopicState {
                name: topic.name().to_owned(),
                partitions: partitions.len(),
                replicas: partitions.iter().map(|one| one.replicas().len()).sum(),
                leaderless: partitions.iter().filter(|one| one.leader() < 0).count(),
                behind: partitions
                    .iter()
                    .filter(|one| one.isr().len() < one.replicas().len())
                    .count(),
            }
        });
        Self {
            brokers: brokers.collect(),
            topics: topics.collect(),
        }
    }
}
