//! Records reach those who asked for their partition, and nobody else, whatever else is read at the same time.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use rdkafka::{
    Message as _,
    admin::{AdminOptions, NewPartitions},
};
use tokio::{sync::Notify, time::timeout};

use super::{
    super::{KafkaLog, Options, follow::head_consumer::HeadConsumer, read::wanted::Wanted},
    TestTopics,
    support::administrator,
};
use crate::{
    resource::id::TopicIncarnation,
    store::{
        MessageLog as _, StoreError,
        batch::LogRecord,
        contract::log::{created, message},
        log::{LogEnds, LogLocation, Offset, Partition, TopicLog},
        tail::TailRead,
    },
};

const PARTITIONS: Partition = 3;
/// Of each partition.
const COUNT: Offset = 200;
/// Topics that may be made for those that are wanted.
const ATTEMPTS_MAX: u64 = 9;
const BYTES_PER_READ: usize = 1_000;
const PATIENCE: Duration = Duration::from_secs(20);

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
        let mut incarnations = (1..=ATTEMPTS_MAX).map(TopicIncarnation);
        while all.topics.len() < usize::try_from(topics).expect("few") {
            let incarnation = incarnations.next().expect("most attempts succeed");
            let topic = created(log, incarnation).await;
            match Self::fill(log, &topic).await {
                Ok(published) => {
                    all.published.extend(published);
                    all.topics.push(topic);
                }
                // A busy broker that gets a record twice does not always say where it is: another topic has to do.
                Err(StoreError::Uncertain(_)) => {}
                Err(error) => panic!("append: {error}"),
            }
        }
        let of_each = |partition| {
            let positions = all.published.keys();
            positions.filter(|position| position.1 == partition).count() as u64
        };
        assert!((0..PARTITIONS).all(|partition| of_each(partition) == topics * COUNT));
        all
    }

    /// Publishes to each partition of a topic, and says what lies where.
    async fn fill(
        log: &KafkaLog,
        topic: &TopicLog,
    ) -> Result<Vec<((TopicIncarnation, Partition, Offset), Bytes)>, StoreError> {
        let mut published = Vec::new();
        // Each request goes to the next partition.
        for request in 0..PARTITIONS {
            let number = topic.incarnation.0;
            let texts = (0..COUNT).map(|at| format!("{number} {request} {at:03}"));
            let messages: Vec<_> = texts.map(|text| message(text.as_bytes())).collect();
            let runs = log.append(topic, messages.clone().into()).await?;
            let positions = runs.iter().flat_map(|run| {
                let offsets = run.first..run.first + u64::from(run.count);
                offsets.map(|offset| (topic.incarnation, run.partition, offset))
            });
            published.extend(positions.zip(messages));
        }
        Ok(published)
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
        let offsets = batch.records().map(LogRecord::offset);
        assert!(offsets.eq(next..batch.next) && next < batch.next);
        for record in batch.records() {
            let position = (topic.incarnation, partition, record.offset());
            let published = &self.published[&position];
            assert_eq!(record.message(), published, "at {position:?}");
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
async fn partitions_of_one_shape_are_read_alternately_without_mixing() {
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
        let misled = log.readers.pool().mislead(&Wanted {
            topic: wrong.location.name.clone(),
            partition,
            range: next..COUNT,
            bytes_max: 0,
            end: COUNT,
        });
        assert_eq!((misled, log.readers.pool().idle()), (1, 1));
        all.read(&log, wrong, partition, next).await;
        assert_eq!(log.readers.pool().idle(), 1, "another reader replaces it");
        all.read(&log, one, 0, next).await;
    }
}

/// Waits until so many records are known to be there.
async fn reaches(ends: &mut LogEnds, count: u64) {
    let reached = ends.wait_for(|ends| ends.iter().sum::<u64>() == count);
    let reached = timeout(PATIENCE, reached).await;
    reached.expect("in time").expect("watched");
}

/// Appends so many messages to a topic's next partition.
async fn append(log: &KafkaLog, topic: &TopicLog, count: usize) {
    let runs = log.append(topic, vec![message(b"a"); count].into()).await;
    let appended: u32 = runs.expect("append").iter().map(|run| run.count).sum();
    assert_eq!(count as u32, appended);
}

/// The first record that comes of each of these partitions.
async fn first_of(consumer: &HeadConsumer, news: &Notify, partitions: &[i32]) -> Vec<i64> {
    let polled = consumer.polled().expect("something was begun");
    let mut first = BTreeMap::new();
    while first.len() < partitions.len() {
        match polled.next() {
            Some(Ok(record)) => {
                first.entry(record.partition()).or_insert(record.offset());
            }
            // The end of a partition.
            Some(Err(_)) => {}
            None => timeout(PATIENCE, news.notified()).await.expect("in time"),
        }
    }
    assert!(first.keys().eq(partitions), "{first:?}");
    first.into_values().collect()
}

#[tokio::test]
async fn the_head_is_read_anew_from_where_it_is_asked_for_again() {
    let topics = TestTopics::new();
    let log = open(&topics).await;
    let all = SameShape::publish(&log, 1).await;
    let name = &all.topics[0].location.name;
    let start = |partition, offset| (name.clone(), partition, offset);
    let news = Arc::<Notify>::default();
    let mut consumer = HeadConsumer::new(topics.options().follower(), Arc::clone(&news));
    consumer.assign(vec![start(0, 100)]).await;
    assert_eq!(first_of(&consumer, &news, &[0]).await, [100]);
    // One of these is read already, and asked for twice.
    let starts = vec![start(0, 150), start(0, 50), start(1, 7)];
    consumer.assign(starts).await;
    assert_eq!(first_of(&consumer, &news, &[0, 1]).await, [50, 7]);
    consumer
        .unassign(vec![(name.clone(), 0), (name.clone(), 2)])
        .await;
    assert!(!consumer.reads(name, 0) && consumer.reads(name, 1));
    consumer.unassign_topic(name).await;
    assert!(!consumer.reads(name, 1));
    consumer.assign(vec![start(2, 3)]).await;
    assert_eq!(first_of(&consumer, &news, &[2]).await, [3]);
    consumer.end().await;
}

#[tokio::test]
async fn what_the_head_cannot_begin_does_not_hold_up_the_rest() {
    let topics = TestTopics::new();
    let log = open(&topics).await;
    let all = SameShape::publish(&log, 1).await;
    let name = &all.topics[0].location.name;
    let start = |partition, offset| (name.clone(), partition, offset);
    let news = Arc::<Notify>::default();
    let mut consumer = HeadConsumer::new(topics.options().follower(), Arc::clone(&news));
    consumer.assign(vec![start(0, 100)]).await;
    // The client refuses a list with one that it reads.
    consumer.forget();
    consumer.assign(vec![start(0, 150), start(1, 7)]).await;
    assert!(consumer.reads(name, 0) && consumer.reads(name, 1));
    assert_eq!(first_of(&consumer, &news, &[0, 1]).await, [150, 7]);
    // What is read although nobody wants it is found out.
    let unneeded = consumer.unneeded(|_, partition| partition == 1);
    assert_eq!(unneeded, [(name.clone(), 0)]);
    consumer.end().await;
}

/// Two more names of a topic's Kafka topic.
fn two_names(topic: &TopicLog) -> [TopicLog; 2] {
    [2, 3].map(|number| TopicLog {
        incarnation: TopicIncarnation(number),
        location: Arc::new(LogLocation {
            attached: true,
            ..(*topic.location).clone()
        }),
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_published_here_by_one_name_reaches_the_other() {
    let topics = TestTopics::new();
    let log = open(&topics).await;
    let names = two_names(&created(&log, TopicIncarnation(1)).await);
    let mut ends = Vec::new();
    for name in &names {
        ends.push(log.watch(name).await.expect("watch"));
    }
    // The other way round too: what is not read for a name may come before or behind what is read for the other.
    let mut count = 0;
    for publisher in [&names[0], &names[1], &names[0]] {
        append(&log, publisher, 16).await;
        count += 16;
        for ends in &mut ends {
            reaches(ends, count).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_names_of_a_kafka_topic_hear_of_new_partitions_at_once() {
    let topics = TestTopics::new();
    let log = open(&topics).await;
    let names = two_names(&created(&log, TopicIncarnation(1)).await);
    let mut first = log.watch(&names[0]).await.expect("watch");
    let mut second = log.watch(&names[1]).await.expect("watch");
    let grown = NewPartitions::new(&names[0].location.name, PARTITIONS as usize + 1);
    let made = administrator().create_partitions([&grown], &AdminOptions::new());
    made.await.expect("answered").remove(0).expect("grown");
    let has_grown = |ends: &Vec<Offset>| ends.len() > PARTITIONS as usize;
    let asked = async {
        while !has_grown(&first.borrow()) {
            log.bounds(&names[0]).await.expect("bounds");
        }
        first.wait_for(has_grown).await.expect("watched");
    };
    timeout(PATIENCE, asked).await.expect("in time");
    // By itself the second would be asked about within three seconds.
    let soon = timeout(Duration::from_millis(300), second.wait_for(has_grown)).await;
    soon.expect("at once").expect("watched");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_lacks_what_has_come_gets_it_before_what_comes() {
    let topics = TestTopics::new();
    let (log, elsewhere) = (open(&topics).await, open(&topics).await);
    let names = two_names(&created(&log, TopicIncarnation(1)).await);
    let mut ends = log.watch(&names[0]).await.expect("watch");
    let mut other = log.watch(&names[1]).await.expect("watch");
    append(&elsewhere, &names[0], 5).await;
    reaches(&mut ends, 5).await;
    let filled = ends.borrow().iter().position(|end| *end > 0);
    let partition = filled.expect("appended") as Partition;
    // As if the other one had never had them.
    log.tail
        .restart(names[1].incarnation, &vec![0; PARTITIONS as usize]);
    for _ in 0..PARTITIONS {
        append(&elsewhere, &names[0], 1).await;
    }
    reaches(&mut other, 5 + u64::from(PARTITIONS)).await;
    let buffered = log
        .tail
        .read(names[1].incarnation, partition, 0..6, BYTES_PER_READ);
    let TailRead::Answer(read) = buffered else {
        panic!("not all is there: {buffered:?}");
    };
    assert_eq!((read.count(), read.next), (6, 6));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_names_of_a_kafka_topic_get_what_is_appended_to_it() {
    let topics = TestTopics::new();
    let (log, elsewhere) = (open(&topics).await, open(&topics).await);
    let own = created(&log, TopicIncarnation(1)).await;
    let [first, second] = two_names(&own);
    let other = created(&log, TopicIncarnation(4)).await;
    let mut first_ends = log.watch(&first).await.expect("watch");
    append(&elsewhere, &first, 1).await;
    reaches(&mut first_ends, 1).await;
    let mut second_ends = log.watch(&second).await.expect("watch");
    let mut other_ends = log.watch(&other).await.expect("watch");
    let mut count = 1;
    for from in [&elsewhere, &log] {
        for name in [&first, &second] {
            append(from, name, 10).await;
            count += 10;
            reaches(&mut first_ends, count).await;
            reaches(&mut second_ends, count).await;
        }
    }
    append(&elsewhere, &other, 1).await;
    reaches(&mut other_ends, 1).await;

    log.delete(&first).await.expect("delete");
    append(&elsewhere, &second, 1).await;
    reaches(&mut second_ends, count + 1).await;
    let mut read = 0;
    for bounds in log.bounds(&second).await.expect("bounds") {
        let range = 0..bounds.end;
        let batch = log.read(&second, bounds.partition, range, 1 << 20).await;
        read += batch.expect("read").count() as u64;
    }
    assert_eq!(read, count + 1);
}
