//! Records reach those who asked for their partition, and nobody else, whatever else is read at the same time.

use std::collections::HashMap;

use bytes::Bytes;

use super::{
    super::{KafkaLog, Options, reader::Wanted},
    TestTopics,
};
use crate::{
    resource::id::TopicIncarnation,
    store::{
        MessageLog as _,
        contract::log::{created, message},
        log::{Offset, Partition, TopicLog},
    },
};

const PARTITIONS: Partition = 3;
/// Of each partition.
const COUNT: Offset = 200;
const BYTES_PER_READ: usize = 1_000;

/// Topics with as many messages of the same sizes in each partition, and what lies where.
struct SameShape {
    topics: Vec<TopicLog>,
    published: HashMap<(TopicIncarnation, Partition, Offset), Bytes>,
}

impl SameShape {
    async fn publish(log: &KafkaLog, topics: u64) -> Self {
        let mut all = Self {
            topics: Vec::new(),
            published: HashMap::new(),
        };
        for number in 1..=topics {
            let topic = created(log, TopicIncarnation(number)).await;
            // Each request goes to the next partition.
            for request in 0..u64::from(PARTITIONS) {
                let texts = (0..COUNT).map(|at| format!("{number} {request} {at:03}"));
                let messages: Vec<_> = texts.map(|text| message(text.as_bytes())).collect();
                let runs = log.append(&topic, messages.clone()).await.expect("append");
                let places = runs.iter().flat_map(|run| {
                    let offsets = run.first..run.first + u64::from(run.count);
                    offsets.map(|offset| (topic.incarnation, run.partition, offset))
                });
                all.published.extend(places.zip(messages));
            }
            all.topics.push(topic);
        }
        let of_each = |partition| {
            let places = all.published.keys();
            places.filter(|place| place.1 == partition).count() as u64
        };
        assert!((0..PARTITIONS).all(|partition| of_each(partition) == topics * COUNT));
        all
    }

    /// Reads a part of a partition, sees that each record is the one that was published there, and says how far it came.
    async fn read(
        &self,
        log: &KafkaLog,
        topic: &TopicLog,
        partition: Partition,
        next: Offset,
    ) -> Offset {
        let batch = log
            .read(topic, partition, next..COUNT, BYTES_PER_READ)
            .await
            .expect("read");
        let offsets = batch.records.iter().map(|record| record.offset);
        assert!(offsets.eq(next..batch.next) && next < batch.next);
        for record in &batch.records {
            let place = (topic.incarnation, partition, record.offset);
            assert_eq!(record.message, self.published[&place], "at {place:?}");
        }
        batch.next
    }
}

/// A log that reads from Kafka itself what nobody has watched.
async fn open(topics: &TestTopics) -> KafkaLog {
    let options = Options {
        partitions: PARTITIONS,
        ..topics.options()
    };
    KafkaLog::open(options).await.expect("open")
}

#[tokio::test]
async fn partitions_of_one_shape_are_read_in_turns_without_mixing() {
    let topics = TestTopics::new();
    let log = open(&topics).await;
    let all = SameShape::publish(&log, 2).await;
    let mut next = HashMap::new();
    while next.values().filter(|next| **next == COUNT).count() < 2 * PARTITIONS as usize {
        for topic in &all.topics {
            for partition in 0..PARTITIONS {
                let next = next.entry((topic.incarnation, partition)).or_insert(0);
                if *next < COUNT {
                    *next = all.read(&log, topic, partition, *next).await;
                }
            }
        }
    }
}

#[tokio::test]
async fn records_of_another_partition_are_never_returned_but_read_again() {
    let topics = TestTopics::new();
    let log = open(&topics).await;
    let all = SameShape::publish(&log, 2).await;
    let [one, other] = &all.topics[..] else {
        panic!("two topics");
    };
    for (wrong, partition) in [(other, 0), (one, 1)] {
        let log = open(&topics).await;
        let next = all.read(&log, one, 0, 0).await;
        let misled = log.readers.mislead(&Wanted {
            topic: wrong.place.name.clone(),
            partition,
            range: next..COUNT,
            bytes_max: 0,
            end: COUNT,
        });
        assert_eq!((misled, log.readers.idle()), (1, 1));
        all.read(&log, wrong, partition, next).await;
        assert_eq!(log.readers.idle(), 1, "another reader in its place");
        all.read(&log, one, 0, next).await;
    }
}
