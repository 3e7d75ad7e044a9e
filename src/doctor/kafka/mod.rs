//! Examines a cluster before or while nodes use it. Leaves nothing behind.
//!
//! - `reach`: whether all brokers can be connected to.
//! - `listing`: what the numbers of topics and the states of partitions mean.
//! - `settings`: what the brokers' settings mean to us.
//! - `probe`, `steps`: whether everything that a node does is allowed and works.
//! - `orphans`: whether our topics in Kafka are those that the state store knows.
//! - `losses`: whether they have what subscriptions have seen of them.
//! - `keys`: whether ordering keys are spread over all of their partitions.

mod keys;
mod listing;
mod losses;
mod orphans;
mod probe;
mod reach;
mod settings;
mod steps;

use std::collections::HashSet;

use futures_util::future::join_all;

use super::finding::Finding;
use crate::{
    clock::Clock,
    store::{
        kafka::{Inspection, Listing, Options, Told},
        positions::Furthest,
        resources::TopicRow,
    },
};

/// What was found.
#[derive(Debug)]
pub(super) struct Examined {
    /// One by one.
    pub(super) findings: Vec<Finding>,
    /// The cluster, if it can be reached.
    pub(super) cluster: Option<Inspection>,
}

/// Examines the cluster. Makes one topic, writes to it, and deletes it again.
pub(super) async fn examine(options: &Options, clock: &Clock) -> Examined {
    match Inspection::connect(options).await {
        Err(error) => Examined {
            findings: vec![Finding::failure(&error)],
            cluster: None,
        },
        Ok(cluster) => Examined {
            findings: examine_all(options, &cluster, clock).await,
            cluster: Some(cluster),
        },
    }
}

async fn examine_all(options: &Options, cluster: &Inspection, clock: &Clock) -> Vec<Finding> {
    let listing = match list(cluster).await {
        Ok(listing) => listing,
        Err(finding) => return vec![finding],
    };
    let mut findings = reach::addresses(&options.brokers).await;
    let brokers = listing.brokers.iter();
    let told = join_all(brokers.map(|broker| cluster.settings(broker))).await;
    findings.extend(reach::brokers(cluster.cluster(), &listing.brokers, &told));
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
    let ours =
        ours.filter(|topic| orphans::is_ours(cluster.prefix(), &topic.name, &listing.topics));
    findings.extend(listing::health("topic", ours));
    let copies = told.iter().find_map(|told| match told {
        Told::Settings(settings) => settings.number("default.replication.factor"),
        _ => None,
    });
    findings.extend(probe::run(options, cluster, listing.brokers.len(), copies, clock).await);
    findings
}

/// Compares the topics that there are in Kafka with the rows of the store, which are asked for before and after, and
/// their ends with how far subscriptions have come.
pub(super) async fn compare<E>(
    cluster: &Inspection,
    rows: impl AsyncFn() -> Result<Vec<TopicRow>, E>,
    furthest: impl AsyncFnOnce() -> Result<Vec<Furthest>, E>,
) -> Result<Vec<Finding>, E> {
    let before = rows().await?;
    let listing = match list(cluster).await {
        Ok(listing) => listing,
        Err(finding) => return Ok(vec![finding]),
    };
    let after = rows().await?;
    let mut findings = orphans::compare(cluster.prefix(), &listing.topics, &before, &after);
    findings.extend(keys::compare(&after, &listing.topics));
    // Before the ends: cursors go on as they do.
    let mut seen = losses::seen(&after, &furthest().await?);
    let there: HashSet<&str> = listing
        .topics
        .iter()
        .map(|topic| topic.name.as_str())
        .collect();
    seen.retain(|seen| there.contains(seen.partition.0.as_str()));
    let partitions = seen.iter().map(|seen| seen.partition.clone());
    match cluster.ends(partitions.collect()).await {
        Ok(ends) => findings.extend(losses::compare(&seen, &ends)),
        Err(why) => findings.push(Finding::warning(
            format!("Kafka does not tell where topics end ({why})"),
            "whether they have what subscriptions have seen could not be examined; read the logs of the brokers",
        )),
    }
    Ok(findings)
}

async fn list(cluster: &Inspection) -> Result<Listing, Finding> {
    cluster.list().await.map_err(|why| {
        Finding::problem(
            format!("Kafka does not list its topics ({why})"),
            "read the logs of the brokers",
        )
    })
}
