//! Examines everything that a server would use, without being one: `packetboat doctor`.
//!
//! A backend's `inspection` has the questions; what the answers mean is here.
//!
//! - `finding`: one thing that was examined, and how it is told.
//! - `kafka`, `postgres`, `sqlite`: an examination each.

pub mod finding;
mod kafka;
mod postgres;
mod sqlite;

use self::{finding::Finding, sqlite::Contents};
use crate::{
    clock::Clock,
    storage::Durable,
    store::{
        kafka::Inspection as Cluster, postgres::TopicRows as PostgresRows,
        sqlite::TopicRows as DirectoryRows,
    },
};

/// Where the rows of topics are.
enum Topics {
    Postgres(PostgresRows),
    Directory(DirectoryRows),
}

/// Examines each store, and whether they belong together. Changes nothing that a server would see.
pub async fn examine(durable: &Durable, clock: &Clock) -> Vec<Finding> {
    let mut findings = Vec::new();
    let (mut log, mut cluster) = (None, None);
    if let Some(options) = &durable.kafka {
        let examined = kafka::examine(options, clock).await;
        findings.extend(examined.findings);
        log = examined.cluster.as_ref().map(Cluster::identity);
        cluster = examined.cluster;
    }
    let contents = match (&durable.kafka, &durable.postgres) {
        (None, None) => Some(Contents::Everything),
        (None, Some(_)) => Some(Contents::Log),
        (Some(_), None) => Some(Contents::State(log.as_deref())),
        (Some(_), Some(_)) => None,
    };
    let mut topics = None;
    if let Some(contents) = contents {
        let examined = sqlite::examine(&durable.directory, contents).await;
        findings.extend(examined.findings);
        topics = examined.topics.map(Topics::Directory);
        if durable.kafka.is_none() {
            log = examined.log;
        }
    }
    if let Some(location) = &durable.postgres {
        match location.options("") {
            Ok(options) => {
                let examined = postgres::examine(&options, log.as_deref(), clock).await;
                findings.extend(examined.findings);
                topics = examined.topics.map(Topics::Postgres);
            }
            Err(error) => findings.push(Finding::failure(&error)),
        }
    }
    if let (Some(cluster), Some(topics)) = (cluster, topics) {
        findings.extend(topics.compare(&cluster).await);
    }
    findings
}

impl Topics {
    /// Compares the rows with the topics that there are in Kafka.
    async fn compare(self, cluster: &Cluster) -> Vec<Finding> {
        match self {
            Self::Postgres(rows) => {
                let read = async || rows.read().await;
                let compared = kafka::compare(cluster, read, async || rows.furthest().await).await;
                rows.close().await;
                compared.unwrap_or_else(|error| vec![Finding::failure(&error)])
            }
            Self::Directory(rows) => {
                let read = async || rows.read().await;
                let compared = kafka::compare(cluster, read, async || rows.furthest().await).await;
                compared.unwrap_or_else(|error| vec![Finding::failure(&error)])
            }
        }
    }
}
