//! Does everything that a node does, to a topic of its own that it deletes at the end.

use std::collections::BTreeMap;

use super::steps::Step;
use crate::{
    clock::Clock,
    doctor::finding::{self, Finding},
    limits::{KAFKA_PROBE_PARTITIONS_MAX, PUBLISH_BYTES_MAX},
    store::{
        StoreError,
        kafka::{self, Inspection, Options},
    },
};

/// Never a name that a topic of ours could have, whatever its project: those end in a number.
fn new_name(prefix: &str) -> Result<String, getrandom::Error> {
    let mut random = [0; 16];
    getrandom::fill(&mut random)?;
    let letters = random.iter().map(|byte| char::from(b'a' + byte % 16));
    Ok(kafka::trial_topics(prefix) + &letters.collect::<String>())
}

/// Goes through all steps. `default_copies` is how many copies the brokers make by themselves.
pub(super) async fn run(
    options: &Options,
    cluster: &Inspection,
    brokers: usize,
    default_copies: Option<u16>,
    clock: &Clock,
) -> Vec<Finding> {
    let name = match new_name(cluster.prefix()) {
        Ok(name) => name,
        Err(error) => {
            return vec![Finding::problem(
                format!("the system gave no random bytes ({error})"),
                "repair the machine",
            )];
        }
    };
    let copies = options.replication_factor.or(default_copies);
    let probe = Probe {
        cluster,
        name,
        // Brokers take turns in leading new partitions.
        partitions: brokers.clamp(1, KAFKA_PROBE_PARTITIONS_MAX) as u32,
    };
    let in_sync = copies.map(|copies| copies.saturating_sub(1).max(1));
    let made = cluster.create(&probe.name, probe.partitions, in_sync);
    if let Err(error) = made.await {
        let failed = probe.failed(Step::Create, &error);
        // It may have been made all the same.
        return match error {
            StoreError::Refused(_) | StoreError::Denied(_) => vec![failed],
            _ => [Some(failed), probe.delete().await]
                .into_iter()
                .flatten()
                .collect(),
        };
    }
    let mut findings = probe.write_and_read(clock).await;
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
                kafka::trial_topics(cluster.prefix())
            )),
        );
    }
    findings
}

struct Probe<'a> {
    cluster: &'a Inspection,
    name: String,
    partitions: u32,
}

impl Probe<'_> {
    fn failed(&self, step: Step, error: &StoreError) -> Finding {
        step.failed(self.cluster.prefix(), &self.name, error)
    }

    async fn write_and_read(&self, clock: &Clock) -> Vec<Finding> {
        let leaders = match self.cluster.leaders(&self.name, self.partitions).await {
            Ok(leaders) => leaders,
            Err(error) => return vec![self.failed(Step::Produce, &error)],
        };
        let producer = match self.cluster.producer() {
            Ok(producer) => producer,
            Err(error) => return vec![Finding::failure(&error)],
        };
        let mut ahead_of = BTreeMap::new();
        for partition in 0..self.partitions.cast_signed() {
            let asked = clock.now();
            let appended = producer.append(&self.name, partition, b"packetboat doctor");
            match (appended.await, leaders.get(&partition)) {
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
        let mut written = self.partitions as usize;
        if getrandom::fill(&mut large).is_ok() {
            match producer.append(&self.name, 0, &large).await {
                Ok(_) => written += 1,
                Err(error) => findings.push(self.failed(Step::ProduceLarge, &error)),
            }
        }
        let read = self.cluster.read(&self.name, self.partitions, written);
        if let Err(error) = read.await {
            findings.push(self.failed(Step::Consume, &error));
        }
        findings
    }

    /// Reads the settings, and changes one.
    async fn change(&self) -> Option<Finding> {
        if let Err(error) = self.cluster.describe(&self.name).await {
            return Some(self.failed(Step::Describe, &error));
        }
        let error = self.cluster.alter(&self.name).await.err()?;
        Some(self.failed(Step::Alter, &error))
    }

    async fn delete(&self) -> Option<Finding> {
        let error = self.cluster.delete(&self.name).await.err()?;
        Some(self.failed(Step::Delete, &error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_has_a_name_of_its_own() {
        let (one, other) = (new_name("pb"), new_name("pb"));
        let (one, other) = (one.expect("random"), other.expect("random"));
        assert_ne!(one, other);
        assert!(kafka::is_trial_topic("pb", &one), "{one}");
        assert!(one.bytes().all(|byte| !byte.is_ascii_digit()), "{one}");
    }
}
