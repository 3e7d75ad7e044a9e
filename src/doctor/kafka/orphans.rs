//! Whether our topics in Kafka are those that the state store knows.

use std::collections::{HashMap, HashSet};

use super::listing;
use crate::{
    doctor::finding::{Finding, a_few, counted},
    resource::id::TopicIncarnation,
    store::{
        kafka::{self, TopicState},
        resources::{TopicPhase, TopicRow},
    },
};

/// Whether a topic is of this system, by its name. One under a longer prefix that another store has claimed is of that.
pub(super) fn is_ours(prefix: &str, name: &str, topics: &[TopicState]) -> bool {
    let mut prefixes = topics
        .iter()
        .filter_map(|topic| kafka::owned_prefix(&topic.name))
        .filter(|other| kafka::within(prefix, other).is_some());
    kafka::is_kafka_topic(prefix, name)
        && !prefixes.any(|other| kafka::within(other, name).is_some())
}

/// Compares what there is in Kafka with the rows before and after it was asked. What is made or deleted meanwhile is
/// in one of them, as a row is there for longer than its log.
pub(super) fn compare(
    prefix: &str,
    topics: &[TopicState],
    before: &[TopicRow],
    after: &[TopicRow],
) -> Vec<Finding> {
    let known: HashSet<String> = before
        .iter()
        .chain(after)
        .map(|row| kafka_name(prefix, row))
        .collect();
    let orphans: Vec<_> = topics
        .iter()
        .map(|topic| topic.name.as_str())
        .filter(|name| is_ours(prefix, name, topics) && !known.contains(*name))
        .collect();
    let there: HashMap<&str, &TopicState> = topics
        .iter()
        .map(|topic| (topic.name.as_str(), topic))
        .collect();
    let live: HashSet<TopicIncarnation> = after
        .iter()
        .filter(|row| row.phase == TopicPhase::Live)
        .map(|row| row.incarnation)
        .collect();
    let lasting = before
        .iter()
        .filter(|row| row.phase == TopicPhase::Live && live.contains(&row.incarnation));
    let (found, missing): (Vec<_>, Vec<_>) =
        lasting.partition(|row| there.contains_key(kafka_name(prefix, row).as_str()));
    let (attached_missing, own_missing): (Vec<_>, Vec<_>) =
        missing.into_iter().partition(|row| is_attached(row));
    let shown = |rows: Vec<&TopicRow>| -> Vec<String> {
        let rows = rows.iter();
        rows.map(|row| format!("{} of {}", kafka_name(prefix, row), row.name))
            .collect()
    };
    let mut findings = Vec::new();
    findings.extend(missing_own(&shown(own_missing)));
    findings.extend(missing_attached(&shown(attached_missing)));
    findings.extend(unfinished(before, after));
    findings.extend(unknown(&orphans));
    let probes: Vec<_> = topics
        .iter()
        .map(|topic| topic.name.as_str())
        .filter(|name| kafka::is_trial_topic(prefix, name) && !known.contains(*name))
        .collect();
    findings.extend(left_over(&probes));
    if findings.is_empty() {
        findings.push(Finding::ok(format!(
            "Kafka and the store know of the same topics: {}",
            found.len()
        )));
    }
    let mut attached = found.into_iter().filter(|row| is_attached(row)).peekable();
    if attached.peek().is_some() {
        let states = attached.filter_map(|row| there.get(kafka_name(prefix, row).as_str()));
        findings.extend(listing::health("attached topic", states.copied()));
    }
    findings
}

/// What the row's topic is called in Kafka, also when its log is still being made.
fn kafka_name(prefix: &str, row: &TopicRow) -> String {
    match &row.location {
        Some(location) => location.name.clone(),
        None => kafka::kafka_topic(prefix, &row.name, row.incarnation),
    }
}

fn is_attached(row: &TopicRow) -> bool {
    row.location
        .as_ref()
        .is_some_and(|location| location.attached)
}

fn missing_own(names: &[String]) -> Option<Finding> {
    (!names.is_empty()).then(|| {
        Finding::problem(
            format!(
                "{} missing in Kafka, with all messages: {}",
                counted(names.len(), "topic"),
                a_few(names)
            ),
            "restore the disks of the brokers from a backup, delete these topics and create them again, or make Kafka \
             topics of these names, which subscriptions then read from their start",
        )
    })
}

/// Those that were half made before and are so after, with time for a node to make one in between.
fn unfinished(before: &[TopicRow], after: &[TopicRow]) -> Option<Finding> {
    let half_made = |row: &&TopicRow| row.phase == TopicPhase::Creating;
    let after: HashSet<_> = after
        .iter()
        .filter(half_made)
        .map(|row| row.incarnation)
        .collect();
    let names: Vec<_> = before
        .iter()
        .filter(half_made)
        .filter(|row| after.contains(&row.incarnation))
        .map(|row| row.name.to_string())
        .collect();
    (!names.is_empty()).then(|| {
        Finding::warning(
            format!("{} half made: {}", counted(names.len(), "topic"), a_few(&names)),
            "a node that runs finishes them as soon as Kafka lets it, and says in its log why not; DeleteTopic removes one",
        )
    })
}

fn missing_attached(names: &[String]) -> Option<Finding> {
    (!names.is_empty()).then(|| {
        Finding::problem(
            format!(
                "{} missing in Kafka: {}",
                counted(names.len(), "attached topic"),
                a_few(names)
            ),
            "detach them (packetboat topics detach), or make the Kafka topics again",
        )
    })
}

fn unknown(names: &[&str]) -> Option<Finding> {
    (!names.is_empty()).then(|| {
        Finding::warning(
            format!(
                "{} in Kafka with our prefix but unknown to the store: {}",
                counted(names.len(), "topic"),
                a_few(names)
            ),
            "nothing here reads or deletes them; find out whether they are another system's, or are known to a backup of \
             the store that is to be restored",
        )
    })
}

fn left_over(names: &[&str]) -> Option<Finding> {
    (!names.is_empty()).then(|| {
        Finding::warning(
            format!(
                "{} in Kafka left by an earlier examination: {}",
                counted(names.len(), "topic"),
                a_few(names)
            ),
            "unless one runs just now, delete them with kafka-topics --delete",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{doctor::finding::Level, resource::name::TopicName, store::log::LogLocation};

    fn in_kafka(names: &[&str]) -> Vec<TopicState> {
        let state = |name: &&str| TopicState {
            name: (*name).to_owned(),
            ..TopicState::default()
        };
        names.iter().map(state).collect()
    }

    fn row(incarnation: u64, location: Option<(&str, bool)>) -> TopicRow {
        TopicRow {
            incarnation: TopicIncarnation(incarnation),
            name: TopicName::parse("name", "projects/shop/topics/orders").expect("a name"),
            phase: if location.is_some() {
                TopicPhase::Live
            } else {
                TopicPhase::Creating
            },
            location: location.map(|(name, attached)| LogLocation {
                name: name.to_owned(),
                key_partitions: 1,
                attached,
            }),
        }
    }

    fn compared(kafka: &[&str], before: &[TopicRow], after: &[TopicRow]) -> Vec<(Level, String)> {
        let found = compare("pb", &in_kafka(kafka), before, after);
        found.into_iter().map(|one| (one.level, one.text)).collect()
    }

    #[test]
    fn what_is_another_systems_is_not_ours() {
        let rows = [row(7, Some(("pb.doctor.orders.7", false)))];
        let kafka = [
            "pb.doctor.orders.7",
            "pb.__owner",
            "pb.x.__owner",
            "pb.x.shop.orders.5",
            "pb.x.shop.orders.t5",
            "pbx.shop.orders.t5",
        ];
        let found = compared(&kafka, &rows, &rows);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].0, Level::Ok);
    }

    #[test]
    fn topics_and_rows_that_belong_together_are_fine() {
        let rows = [row(7, Some(("pb.shop.orders.7", false))), row(8, None)];
        let kafka = ["pb.shop.orders.7", "pb.shop.orders.t8", "theirs"];
        let found = compared(&kafka, &rows, &rows[..1]);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].0, Level::Ok);
    }

    #[test]
    fn a_topic_that_stays_half_made_is_named() {
        let rows = [row(8, None)];
        let found = compared(&[], &rows, &rows);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].0, Level::Warning);
        assert!(
            found[0].1.contains("projects/shop/topics/orders"),
            "{}",
            found[0].1
        );
    }

    #[test]
    fn a_topic_without_row_and_a_row_without_topic_are_named() {
        let rows = [
            row(7, Some(("pb.shop.orders.7", false))),
            row(8, Some(("theirs", true))),
        ];
        let found = compared(
            &["pb.shop.gone.3", "pb.shop.gone.t4", "pb.__doctor.abc"],
            &rows,
            &rows,
        );
        let [own, attached, orphan, probe] = &found[..] else {
            panic!("four findings, not {found:?}");
        };
        assert_eq!(own.0, Level::Problem);
        assert!(
            own.1
                .contains("pb.shop.orders.7 of projects/shop/topics/orders"),
            "{}",
            own.1
        );
        assert_eq!(attached.0, Level::Problem);
        assert!(attached.1.contains("theirs"), "{}", attached.1);
        assert_eq!(orphan.0, Level::Warning);
        for name in ["pb.shop.gone.3", "pb.shop.gone.t4"] {
            assert!(orphan.1.contains(name), "{}", orphan.1);
        }
        assert_eq!(probe.0, Level::Warning);
        assert!(probe.1.contains("pb.__doctor.abc"), "{}", probe.1);
    }

    #[test]
    fn what_is_made_or_deleted_meanwhile_is_neither() {
        let rows = [row(7, Some(("pb.shop.orders.7", false)))];
        assert_eq!(compared(&["pb.shop.orders.7"], &[], &rows)[0].0, Level::Ok);
        assert_eq!(compared(&["pb.shop.orders.7"], &rows, &[])[0].0, Level::Ok);
        assert_eq!(compared(&[], &rows, &[])[0].0, Level::Ok);
        assert_eq!(compared(&[], &[], &rows)[0].0, Level::Ok);
    }

    #[test]
    fn the_partitions_of_attached_topics_are_examined_too() {
        let mut kafka = in_kafka(&["theirs"]);
        kafka[0].leaderless = 1;
        let rows = [row(8, Some(("theirs", true)))];
        let found = compare("pb", &kafka, &rows, &rows);
        assert_eq!(found[1].level, Level::Problem);
    }
}
