//! Examines a cluster before or while nodes use it. Leaves nothing behind.
//!
//! - `reach`: whether all brokers can be connected to.
//! - `listing`: what brokers and topics there are, and how the partitions are.
//! - `settings`: what the brokers' settings mean to us.
//! - `probe`, `steps`: whether everything that a node does is allowed and works.
//! - `orphans`: whether our topics in Kafka are those that the state store knows.

mod listing;
mod orphans;
mod probe;
mod reach;
mod settings;
mod steps;

use std::sync::Arc;

use futures_util::future::join_all;
use rdkafka::{
    admin::AdminClient,
    consumer::{BaseConsumer, Consumer as _},
};
use tokio::{task::spawn_blocking, time::Instant};

use self::{listing::Listing, reach::Told};
use super::{
    Options,
    context::Listener,
    errors, names,
    open::{self, OpenError},
};
use crate::{
    clock::Clock,
    limits::KAFKA_ANSWER_MILLIS,
    store::{finding::Finding, resources::TopicRow},
};

/// What was found.
#[derive(Debug)]
pub struct Examined {
    /// One by one.
    pub findings: Vec<Finding>,
    /// The cluster, if it can be reached.
    pub cluster: Option<Reached>,
}

/// A cluster that answers.
pub struct Reached {
    id: String,
    prefix: String,
    client: Arc<BaseConsumer<Listener>>,
}

const PATIENCE: std::time::Duration = std::time::Duration::from_millis(KAFKA_ANSWER_MILLIS);

/// Examines the cluster. Makes one topic, writes to it, and deletes it again.
pub async fn examine(options: &Options, clock: &Clock) -> Examined {
    match reach(options).await {
        Err(error) => Examined {
            findings: vec![Finding::failure(&error)],
            cluster: None,
        },
        Ok((cluster, admin)) => Examined {
            findings: examine_all(options, &cluster, &admin, clock).await,
            cluster: Some(cluster),
        },
    }
}

async fn reach(options: &Options) -> Result<(Reached, AdminClient<Listener>), OpenError> {
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
    let cluster = Reached {
        id,
        prefix: options.prefix.clone(),
        client: Arc::new(connected.client),
    };
    Ok((cluster, admin))
}

async fn examine_all(
    options: &Options,
    cluster: &Reached,
    admin: &AdminClient<Listener>,
    clock: &Clock,
) -> Vec<Finding> {
    let listing = match cluster.list().await {
        Ok(listing) => listing,
        Err(finding) => return vec![finding],
    };
    let mut findings = reach::addresses(&options.brokers).await;
    let asked = listing
        .brokers
        .iter()
        .map(|broker| reach::ask(admin, broker));
    let told = join_all(asked).await;
    findings.extend(reach::brokers(&cluster.id, &listing.brokers, &told));
    let mut judged = Vec::new();
    for (broker, told) in listing.brokers.iter().zip(&told) {
        if let Told::Settings(settings) = told {
            judged.push((
                broker.id,
                settings::judge(settings, options, listing.brokers.len()),
            ));
        }
    }
    findings.extend(settings::agreed(judged));
    findings.push(listing::size(&listing));
    let ours = listing.topics.iter();
    let ours = ours.filter(|topic| orphans::incarnation(&options.prefix, &topic.name).is_some());
    findings.extend(listing::health("topic", ours));
    let copies = told.iter().find_map(|told| match told {
        Told::Settings(settings) => settings.number("default.replication.factor"),
        _ => None,
    });
    findings.extend(
        probe::run(
            options,
            cluster,
            admin,
            listing.brokers.len(),
            copies,
            clock,
        )
        .await,
    );
    findings
}

impl Reached {
    /// The log that a state store has to belong to.
    pub fn identity(&self) -> String {
        names::identity(&self.id, &self.prefix)
    }

    /// Compares the topics that there are in Kafka with the rows of the store, which are asked for before and after.
    pub async fn compare<E>(
        &self,
        rows: impl AsyncFn() -> Result<Vec<TopicRow>, E>,
    ) -> Result<Vec<Finding>, E> {
        let before = rows().await?;
        let listing = match self.list().await {
            Ok(listing) => listing,
            Err(finding) => return Ok(vec![finding]),
        };
        let after = rows().await?;
        Ok(orphans::compare(
            &self.prefix,
            &listing.topics,
            &before,
            &after,
        ))
    }

    async fn list(&self) -> Result<Listing, Finding> {
        let client = Arc::clone(&self.client);
        let listed = spawn_blocking(move || {
            client
                .fetch_metadata(None, PATIENCE)
                .map(|metadata| Listing::from(&metadata))
        });
        let failed = |why: String| {
            Finding::problem(
                format!("Kafka does not list its topics ({why})"),
                "look at the logs of the brokers",
            )
        };
        match listed.await {
            Ok(Ok(listing)) => Ok(listing),
            Ok(Err(error)) => Err(failed(errors::text(&error))),
            Err(error) => Err(failed(error.to_string())),
        }
    }
}

impl std::fmt::Debug for Reached {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reached")
            .field("id", &self.id)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}
