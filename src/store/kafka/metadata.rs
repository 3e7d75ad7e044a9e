//! Has a consumer learn where topics are before it is assigned partitions of theirs.
//!
//! By itself librdkafka asks about the topics that it does not know once a second, so that the first record of one
//! would come after 0.9 s.

use std::{collections::HashSet, time::Duration};

use rdkafka::{
    Offset as Position, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
};

use super::context::Listener;

/// A partition that no topic has.
const NONE: i32 = i32::MAX;

/// Loads the metadata of those of these topics that the client does not know, in one request. Takes no longer than
/// `patience`; if it fails, the client asks by itself. Blocks.
pub(super) fn load<'a>(
    client: &BaseConsumer<Listener>,
    topics: impl IntoIterator<Item = &'a str>,
    patience: Duration,
) {
    let topics: HashSet<_> = topics.into_iter().collect();
    let mut list = TopicPartitionList::with_capacity(topics.len());
    for topic in topics {
        // A name that the client does not take is refused when it is assigned.
        list.add_partition_offset(topic, NONE, Position::End).ok();
    }
    if list.count() > 0 {
        // The only call that asks about many topics at once, before it asks their leaders about partitions. There are
        // none to be asked about, so it ends as soon as all topics are known, with an error that says nothing.
        client.offsets_for_times(list, patience).ok();
    }
}
