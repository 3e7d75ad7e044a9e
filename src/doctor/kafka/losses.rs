//! Whether topics have what their subscriptions have seen of them.

use std::collections::HashMap;

use crate::{
    doctor::finding::{Finding, a_few, counted},
    resource::id::TopicIncarnation,
    store::{
        log::{Offset, Partition},
        positions::Furthest,
        resources::{TopicPhase, TopicRow},
    },
};

/// What the ends of these partitions have to be compared with, by their names in Kafka.
pub(super) fn seen(rows: &[TopicRow], furthest: &[Furthest]) -> Vec<Seen> {
    let live = rows.iter().filter(|row| row.phase != TopicPhase::Creating);
    let names: HashMap<TopicIncarnation, (&str, &TopicRow)> = live
        .filter_map(|row| Some((row.incarnation, (row.location.as_ref()?.name.as_str(), row))))
        .collect();
    let seen = furthest.iter().filter_map(|one| {
        let (kafka_topic, row) = names.get(&one.topic)?;
        (one.cursor > 0).then(|| Seen {
            partition: ((*kafka_topic).to_owned(), one.partition),
            topic: row.name.to_string(),
            cursor: one.cursor,
        })
    });
    seen.collect()
}

/// How far a partition was read.
#[derive(Debug)]
pub(super) struct Seen {
    /// The Kafka topic's name, and which of its partitions.
    pub(super) partition: (String, Partition),
    topic: String,
    cursor: Offset,
}

/// Compares how far partitions were read with where they end, as was asked later. One whose end is not known says
/// nothing.
pub(super) fn compare(
    seen: &[Seen],
    ends: &HashMap<(String, Partition), Offset>,
) -> Option<Finding> {
    let lost = seen.iter().filter_map(|seen| {
        let end = *ends.get(&seen.partition)?;
        let (kafka_topic, partition) = &seen.partition;
        (end < seen.cursor).then(|| {
            format!(
                "{kafka_topic} of {}, partition {partition}, ends at {end} and was read to {}",
                seen.topic, seen.cursor
            )
        })
    });
    let lost: Vec<_> = lost.collect();
    (!lost.is_empty()).then(|| {
        Finding::problem(
            format!(
                "{} in Kafka without what subscriptions have seen: {}",
                counted(lost.len(), "partition"),
                a_few(&lost)
            ),
            "messages were lost there (Kafka was restored from a backup, a broker lost records, or the topic was made \
             again); nothing is to be done for delivery, which goes on with what is there as soon as a client uses the \
             subscription, but publish again what is missing",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{doctor::finding::Level, resource::name::TopicName, store::log::LogLocation};

    #[test]
    fn an_end_below_a_cursor_is_a_problem() {
        let row = TopicRow {
            incarnation: TopicIncarnation(7),
            name: TopicName::parse("name", "projects/shop/topics/orders").expect("a name"),
            phase: TopicPhase::Live,
            location: Some(LogLocation {
                name: "pb.shop.orders.7".to_owned(),
                key_partitions: 2,
                attached: false,
            }),
        };
        let at = |topic, partition, cursor| Furthest {
            topic: TopicIncarnation(topic),
            partition,
            cursor,
        };
        let furthest = [at(7, 0, 10), at(7, 1, 20), at(7, 2, 0), at(8, 0, 5)];
        let seen = seen(&[row], &furthest);
        assert_eq!(seen.len(), 2);
        let ends = |ends: [Offset; 2]| {
            let name = "pb.shop.orders.7".to_owned();
            HashMap::from([((name.clone(), 0), ends[0]), ((name, 1), ends[1])])
        };
        assert_eq!(compare(&seen, &ends([10, 20])), None);
        assert_eq!(compare(&seen, &HashMap::new()), None);
        let found = compare(&seen, &ends([10, 19])).expect("a loss");
        assert_eq!(found.level, Level::Problem);
        let words = "orders, partition 1, ends at 19 and was read to 20";
        assert!(found.text.contains(words), "{}", found.text);
    }
}
