//! Whether ordering keys are spread over all partitions of their topics.

use std::collections::HashMap;

use crate::{
    doctor::finding::{Finding, a_few, counted},
    store::{
        kafka::TopicState,
        resources::{TopicPhase, TopicRow},
    },
};

/// Compares over how many partitions the keys of live topics go with how many there are. A topic has more after it was
/// grown, and an attached one also after it was made again.
pub(super) fn compare(rows: &[TopicRow], topics: &[TopicState]) -> Option<Finding> {
    let there: HashMap<&str, usize> = topics
        .iter()
        .map(|topic| (topic.name.as_str(), topic.partitions))
        .collect();
    let live = rows.iter().filter(|row| row.phase == TopicPhase::Live);
    let narrow = live.filter_map(|row| {
        let location = row.location.as_ref()?;
        let partitions = *there.get(location.name.as_str())?;
        (partitions > location.key_partitions as usize).then(|| {
            format!(
                "{} of {} has {partitions}, its keys {}",
                location.name, row.name, location.key_partitions
            )
        })
    });
    let narrow: Vec<_> = narrow.collect();
    (!narrow.is_empty()).then(|| {
        Finding::warning(
            format!(
                "ordering keys of {} do not go to all partitions: {}",
                counted(narrow.len(), "topic"),
                a_few(&narrow)
            ),
            "a key stays in its partition when a topic grows, so that its order holds, but other producers of the Kafka \
             topic may put the same key elsewhere; to spread keys over all partitions, detach an attached topic and \
             attach it again, or make another topic, each with new subscriptions",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        doctor::finding::Level,
        resource::{id::TopicIncarnation, name::TopicName},
        store::log::LogLocation,
    };

    #[test]
    fn a_topic_with_more_partitions_than_its_keys_have_is_named() {
        let row = |phase| TopicRow {
            incarnation: TopicIncarnation(7),
            name: TopicName::parse("name", "projects/shop/topics/orders").expect("a name"),
            phase,
            location: Some(LogLocation {
                name: "orders".to_owned(),
                key_partitions: 3,
                attached: true,
            }),
        };
        let of = |partitions| TopicState {
            name: "orders".to_owned(),
            partitions,
            ..TopicState::default()
        };
        let live = [row(TopicPhase::Live)];
        // One with fewer was made again: its keys go to those that there are.
        for fine in [2, 3] {
            assert_eq!(compare(&live, &[of(fine)]), None);
        }
        assert_eq!(compare(&live, &[]), None);
        assert_eq!(compare(&[row(TopicPhase::Deleted)], &[of(4)]), None);
        let found = compare(&live, &[of(4)]).expect("a warning");
        assert_eq!(found.level, Level::Warning);
        let words = "1 topic do not go to all partitions: orders of projects/shop/topics/orders has 4, its keys 3:";
        assert!(found.text.contains(words), "{}", found.text);
    }
}
