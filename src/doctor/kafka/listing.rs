//! Whether the brokers have room for what there is, and how its partitions are.

use crate::{
    doctor::finding::{Finding, a_few, counted},
    limits::KAFKA_BROKER_REPLICAS_MAX,
    store::kafka::{Listing, TopicState},
};

/// Whether the brokers have more to keep than they can.
pub(super) fn size(listing: &Listing) -> Finding {
    let brokers = listing.brokers.len().max(1);
    let partitions: usize = listing.topics.iter().map(|topic| topic.partitions).sum();
    let replicas: usize = listing.topics.iter().map(|topic| topic.replicas).sum();
    let each = replicas.div_ceil(brokers);
    let found = format!(
        "Kafka has {} with {}, which is {} on each of {}",
        counted(listing.topics.len(), "topic"),
        counted(partitions, "partition"),
        counted(each, "replica"),
        counted(brokers, "broker")
    );
    if each > KAFKA_BROKER_REPLICAS_MAX {
        Finding::warning(
            found,
            format!(
                "a broker holds about {KAFKA_BROKER_REPLICAS_MAX}, as of 10,000 topics with three copies on three \
                 brokers: add brokers, or delete topics"
            ),
        )
    } else {
        Finding::ok(found)
    }
}

/// Whether these topics can be written to, and have all of their copies.
pub(super) fn health<'a>(
    which: &str,
    topics: impl Iterator<Item = &'a TopicState>,
) -> Vec<Finding> {
    let topics: Vec<_> = topics.collect();
    let with = |count: fn(&TopicState) -> usize| -> Vec<&str> {
        let topics = topics.iter().filter(|topic| count(topic) > 0);
        topics.map(|topic| topic.name.as_str()).collect()
    };
    let (leaderless, behind) = (with(|topic| topic.leaderless), with(|topic| topic.behind));
    let mut findings = Vec::new();
    if !leaderless.is_empty() {
        findings.push(Finding::problem(
            format!(
                "partitions of {} have no leader and take no message: {}",
                counted(leaderless.len(), which),
                a_few(&leaderless)
            ),
            "start the brokers that have them",
        ));
    }
    if !behind.is_empty() {
        findings.push(Finding::warning(
            format!(
                "partitions of {} have copies that are not in sync: {}",
                counted(behind.len(), which),
                a_few(&behind)
            ),
            "start the brokers that are missing, or wait until they have caught up",
        ));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(format!(
            "all partitions of {} have a leader, and all copies are in sync",
            counted(topics.len(), which)
        )));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{doctor::finding::Level, store::kafka::Broker};

    fn listing(brokers: i32, topics: Vec<TopicState>) -> Listing {
        let broker = |id: i32| Broker {
            id,
            host: "h".to_owned(),
            port: 1,
        };
        Listing {
            brokers: (0..brokers).map(broker).collect(),
            topics,
        }
    }

    fn topic(name: &str) -> TopicState {
        TopicState {
            name: name.to_owned(),
            partitions: 1,
            replicas: 3,
            ..TopicState::default()
        }
    }

    #[test]
    fn ten_thousand_topics_on_three_brokers_are_the_most() {
        let of = |count| vec![topic("t"); count];
        assert_eq!(size(&listing(3, of(10_000))).level, Level::Ok);
        assert_eq!(size(&listing(3, of(10_001))).level, Level::Warning);
        assert_eq!(size(&listing(4, of(10_001))).level, Level::Ok);
        assert_eq!(size(&listing(0, Vec::new())).level, Level::Ok);
    }

    #[test]
    fn partitions_that_are_not_well_are_named_by_topic() {
        let dead = TopicState {
            leaderless: 1,
            ..topic("dead")
        };
        let slow = TopicState {
            behind: 2,
            ..topic("slow")
        };
        let found = health("topic", [topic("fine"), dead, slow].iter());
        let [leaderless, behind] = &found[..] else {
            panic!("two findings, not {found:?}");
        };
        assert_eq!(leaderless.level, Level::Problem);
        assert!(leaderless.text.contains(": dead:"), "{}", leaderless.text);
        assert_eq!(behind.level, Level::Warning);
        assert!(behind.text.contains(": slow:"), "{}", behind.text);
        assert_eq!(health("topic", [topic("fine")].iter())[0].level, Level::Ok);
    }
}
