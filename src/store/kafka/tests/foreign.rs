//! Topics and records that are not ours.

use std::{ops::Range, sync::Arc, time::Duration};

use prost::Message as _;
use rdkafka::{
    ClientConfig, Offset as Position, TopicPartitionList,
    admin::{AdminOptions, NewTopic, TopicReplication},
    message::{Header, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, Producer as _},
};

use super::{
    super::{KafkaLog, append::partitioner},
    TestTopics,
    support::{administrator, brokers},
};
use crate::{
    proto::google::pubsub::v1::PubsubMessage,
    resource::{id::TopicIncarnation, name::TopicName},
    store::{
        MessageLog as _, StoreError,
        batch::LogRecord,
        contract::log::message,
        log::{Comparison, KnownRecord, Offset, PartitionBounds, ReadBatch, TopicLog},
    },
};

const PATIENCE: Duration = Duration::from_secs(10);

/// Makes a topic as another application would, and puts a Pub/Sub name on it.
async fn attached(
    topics: &TestTopics,
    log: &KafkaLog,
    partitions: i32,
    set: &[(&str, &str)],
) -> TopicLog {
    let name = topics.name("theirs");
    let mut topic = NewTopic::new(&name, partitions, TopicReplication::Fixed(1));
    for (key, value) in set {
        topic = topic.set(key, value);
    }
    let made = administrator()
        .create_topics([&topic], &AdminOptions::new())
        .await;
    made.expect("answered").remove(0).expect("made");
    let location = loop {
        // A busy broker may not have heard yet that it was made.
        if let Some(location) = log.attach(&name).await.expect("asked") {
            break location;
        }
    };
    TopicLog {
        incarnation: TopicIncarnation(3),
        location: Arc::new(location),
    }
}

fn producer(set: &[(&str, &str)]) -> BaseProducer {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers());
    for (key, value) in set {
        config.set(*key, *value);
    }
    config.create().expect("a producer")
}

type Record<'a> = BaseRecord<'a, [u8], [u8]>;

fn send(producer: &BaseProducer, record: Record<'_>) {
    producer
        .send(record)
        .map_err(|(error, _)| error)
        .expect("sent");
}

fn to<'a>(topic: &'a TopicLog, value: &'a [u8]) -> Record<'a> {
    BaseRecord::to(&topic.location.name)
        .partition(0)
        .payload(value)
}

async fn read(log: &KafkaLog, topic: &TopicLog, range: Range<Offset>) -> ReadBatch {
    log.read(topic, 0, range, 1 << 20).await.expect("read")
}

/// Waits for the mark of a transaction, which is written after its producer was answered.
async fn ends_at(log: &KafkaLog, topic: &TopicLog, end: Offset) {
    while log.bounds(topic).await.expect("bounds")[0].end < end {
        tokio::task::yield_now().await;
    }
}

fn decoded(record: LogRecord<'_>) -> PubsubMessage {
    PubsubMessage::decode(record.message().clone()).expect("a message")
}

fn data(batch: &ReadBatch) -> Vec<String> {
    let text = |record| String::from_utf8(decoded(record).data.into()).expect("text");
    batch.records().map(text).collect()
}

#[tokio::test]
async fn what_others_write_is_delivered_as_well_as_can_be_said() {
    let topics = TestTopics::new();
    let log = topics.open().await;
    let topic = attached(&topics, &log, 1, &[]).await;
    let theirs = producer(&[]);
    let headers = OwnedHeaders::new()
        .insert(Header {
            key: "twice",
            value: Some(&b"first"[..]),
        })
        .insert(Header {
            key: "twice",
            value: Some(&b"last"[..]),
        })
        .insert(Header {
            key: "null",
            value: None::<&[u8]>,
        })
        .insert(Header {
            key: "binary",
            value: Some(&[0xff_u8, 0][..]),
        });
    send(&theirs, to(&topic, b"plain").key(b"key").headers(headers));
    send(
        &theirs,
        to(&topic, b"binary").key(&[0xff, 0]).timestamp(1_234_567),
    );
    send(&theirs, to(&topic, b"").key(b""));
    let tombstone: Record<'_> = BaseRecord::to(&topic.location.name)
        .partition(0)
        .key(b"gone");
    send(&theirs, tombstone);
    theirs.flush(PATIENCE).expect("flushed");
    let batch = read(&log, &topic, 0..9).await;
    assert_eq!(batch.next, 4);
    let read: Vec<_> = batch.records().map(decoded).collect();
    let attribute = |at: usize, name: &str| read[at].attributes.get(name).map(String::as_str);
    assert_eq!(
        (&read[0].data[..], read[0].ordering_key.as_str()),
        (&b"plain"[..], "key")
    );
    assert_eq!(attribute(0, "twice"), Some("last"));
    assert_eq!(attribute(0, "null"), Some(""));
    assert_eq!(attribute(0, "binary.base64"), Some("/wA="));
    assert_eq!(read[1].ordering_key, "/wA=");
    assert_eq!(attribute(1, "kafka-key-encoding"), Some("base64"));
    let times: Vec<_> = batch.records().map(LogRecord::publish_time).collect();
    assert_eq!(times[1].as_millis(), 1_234_567);
    assert_eq!(
        read[2],
        PubsubMessage::default(),
        "an empty value and an empty key"
    );
    assert_eq!(attribute(3, "kafka-tombstone"), Some("true"));
}

#[tokio::test]
async fn aborted_transactions_and_marks_are_passed_and_open_ones_waited_for() {
    let topics = TestTopics::new();
    let log = topics.open().await;
    let topic = attached(&topics, &log, 1, &[]).await;
    let id = topics.name("transactions");
    let theirs = producer(&[("transactional.id", &id)]);
    theirs.init_transactions(PATIENCE).expect("initialized");
    let write = |value: &[u8]| {
        theirs.begin_transaction().expect("begun");
        send(&theirs, to(&topic, value));
        theirs.flush(PATIENCE).expect("flushed");
    };
    write(b"aborted");
    theirs.abort_transaction(PATIENCE).expect("aborted");
    write(b"committed");
    theirs.commit_transaction(PATIENCE).expect("committed");
    // aborted, mark, committed, mark
    ends_at(&log, &topic, 4).await;
    let batch = read(&log, &topic, 0..9).await;
    assert_eq!(
        (data(&batch), batch.next),
        (vec!["committed".to_owned()], 3)
    );
    let batch = read(&log, &topic, 3..9).await;
    assert_eq!((data(&batch), batch.next), (vec![], 4), "a mark at the end");
    assert_eq!(read(&log, &topic, 0..1).await.next, 1);

    let mut ends = log.watch(&topic).await.expect("watch");
    assert_eq!(*ends.borrow_and_update(), [4]);
    write(b"open");
    let ours = log
        .append(&topic, vec![message(b"ours")].into())
        .await
        .expect("append");
    assert_eq!(ours[0].first, 5);
    assert_eq!(log.bounds(&topic).await.expect("bounds")[0].end, 4);
    theirs.commit_transaction(PATIENCE).expect("committed");
    ends.wait_for(|ends| ends[0] >= 6).await.expect("watched");
    let batch = read(&log, &topic, 4..9).await;
    assert_eq!(
        (data(&batch), batch.next),
        (vec!["open".to_owned(), "ours".to_owned()], 6)
    );
}

#[tokio::test]
async fn marks_are_told_from_records_in_partitions_that_are_read_together() {
    const PARTITIONS: i32 = 24;
    let topics = TestTopics::new();
    let log = topics.open().await;
    let topic = attached(&topics, &log, PARTITIONS, &[]).await;
    let id = topics.name("transactions");
    let theirs = producer(&[("transactional.id", &id)]);
    theirs.init_transactions(PATIENCE).expect("initialized");
    theirs.begin_transaction().expect("begun");
    for partition in 0..PARTITIONS {
        send(&theirs, to(&topic, b"committed").partition(partition));
    }
    theirs.flush(PATIENCE).expect("flushed");
    theirs.commit_transaction(PATIENCE).expect("committed");
    let marked = |bounds: &PartitionBounds| bounds.end == 2;
    while !log.bounds(&topic).await.expect("bounds").iter().all(marked) {
        tokio::task::yield_now().await;
    }
    let reads =
        (0..PARTITIONS.cast_unsigned()).flat_map(|partition| [(partition, 0), (partition, 1)]);
    let reads = reads.map(|(partition, from)| {
        let read = log.read(&topic, partition, from..9, 1 << 20);
        async move { (from, read.await.expect("read")) }
    });
    for (from, batch) in futures_util::future::join_all(reads).await {
        let expected = if from == 0 { (1, 1) } else { (0, 2) };
        assert_eq!((batch.count(), batch.next), expected);
    }
}

#[tokio::test]
async fn what_was_deleted_below_the_start_is_passed() {
    let topics = TestTopics::new();
    let log = topics.open().await;
    let topic = attached(&topics, &log, 1, &[]).await;
    log.append(
        &topic,
        vec![message(b"a"), message(b"b"), message(b"c")].into(),
    )
    .await
    .expect("append");
    let ends = log.watch(&topic).await.expect("watch");
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&topic.location.name, 0, Position::Offset(2))
        .expect("added");
    let deleted = administrator()
        .delete_records(&list, &AdminOptions::new())
        .await;
    deleted.expect("deleted");
    assert_eq!(log.bounds(&topic).await.expect("bounds")[0].start, 2);
    let batch = read(&log, &topic, 0..9).await;
    assert_eq!((data(&batch), batch.next), (vec![], 2));
    let batch = read(&log, &topic, 2..9).await;
    assert_eq!((data(&batch), batch.next), (vec!["c".to_owned()], 3));
    assert_eq!(log.skip_damage(&topic, 0, 0).await.expect("skipped"), 2);
    drop(ends);
}

#[tokio::test]
async fn an_attached_topic_is_never_changed_or_deleted() {
    let topics = TestTopics::new();
    let log = topics.open().await;
    let missing = log.attach(&topics.name("missing")).await;
    assert_eq!(missing.expect("asked"), None);
    let topic = attached(&topics, &log, 3, &[]).await;
    assert_eq!(topic.location.key_partitions, 3);
    log.retain(&topic, Duration::from_secs(99))
        .await
        .expect("nothing to do");
    log.delete(&topic).await.expect("nothing to do");
    assert_eq!(log.bounds(&topic).await.expect("still there").len(), 3);
}

#[tokio::test]
async fn what_the_broker_will_never_take_is_refused() {
    let topics = TestTopics::new();
    let log = topics.open().await;
    let topic = attached(&topics, &log, 1, &[("max.message.bytes", "1000")]).await;
    let random: Vec<u8> = (0..2_000_u32)
        .flat_map(|at| at.wrapping_mul(2_654_435_761).to_be_bytes())
        .collect();
    let error = log
        .append(&topic, vec![message(&random)].into())
        .await
        .expect_err("too large");
    assert!(matches!(error, StoreError::Refused(_)), "{error}");
    log.append(&topic, vec![message(b"small")].into())
        .await
        .expect("small enough");
}

#[tokio::test]
async fn a_compacted_topic_takes_no_message_without_a_key() {
    let topics = TestTopics::new();
    let log = topics.open().await;
    let topic = attached(&topics, &log, 1, &[("cleanup.policy", "compact")]).await;
    let error = log
        .append(&topic, vec![message(b"a")].into())
        .await
        .expect_err("no key");
    assert!(matches!(error, StoreError::Refused(_)), "{error}");
}

#[tokio::test]
async fn keys_go_where_other_producers_put_them() {
    const PARTITIONS: u32 = 7;
    let topics = TestTopics::new();
    let log = topics.open().await;
    let topic = attached(&topics, &log, PARTITIONS.cast_signed(), &[]).await;
    let theirs = producer(&[("partitioner", "murmur2_random")]);
    let keys: Vec<String> = (0..100)
        .map(|at| "k".repeat(at % 13 + 1) + &at.to_string())
        .collect();
    for key in &keys {
        let record: Record<'_> = BaseRecord::to(&topic.location.name).key(key.as_bytes());
        send(&theirs, record.payload(key.as_bytes()));
    }
    theirs.flush(PATIENCE).expect("flushed");
    let mut seen = 0;
    for partition in 0..PARTITIONS {
        let mut next = 0;
        loop {
            let batch = log
                .read(&topic, partition, next..999, 1 << 20)
                .await
                .expect("read");
            for record in batch.records() {
                let key = decoded(record).ordering_key;
                assert_eq!(
                    partitioner::of_key(key.as_bytes(), PARTITIONS),
                    partition,
                    "{key}"
                );
                seen += 1;
            }
            if batch.next == next {
                break;
            }
            next = batch.next;
        }
    }
    assert_eq!(seen, keys.len());
}

/// Deletes a topic and makes it again, with one partition.
async fn make_again(topic: &TopicLog) {
    let (admin, name) = (administrator(), topic.location.name.as_str());
    let deleted = admin.delete_topics(&[name], &AdminOptions::new()).await;
    deleted.expect("answered").remove(0).expect("deleted");
    // The name is free again a moment after.
    loop {
        let again = NewTopic::new(name, 1, TopicReplication::Fixed(1));
        let made = admin.create_topics([&again], &AdminOptions::new()).await;
        if made.expect("answered").remove(0).is_ok() {
            break;
        }
    }
    // A busy broker serves the log of the first one until it has heard of both.
    let broker = admin.inner();
    let is_the_new_one = || {
        let metadata = broker.fetch_metadata(Some(name), PATIENCE).ok()?;
        let bounds = broker.fetch_watermarks(name, 0, PATIENCE).ok()?;
        Some(metadata.topics()[0].partitions().len() == 1 && bounds == (0, 0))
    };
    while is_the_new_one() != Some(true) {}
}

#[tokio::test]
async fn a_topic_that_was_made_again_is_not_taken_for_the_one_that_was_watched() {
    let topics = TestTopics::new();
    let log = topics.open().await;
    let topic = attached(&topics, &log, 3, &[]).await;
    let five = ["a", "b", "c", "d", "e"].map(|text| message(text.as_bytes()));
    log.append(&topic, five.to_vec().into())
        .await
        .expect("append");
    let mut ends = log.watch(&topic).await.expect("watch");
    assert_eq!(ends.borrow_and_update().iter().sum::<Offset>(), 5);
    make_again(&topic).await;
    while ends.changed().await.is_ok() {}
    let ends = loop {
        match log.watch(&topic).await {
            Ok(ends) => break ends,
            Err(error) => assert!(matches!(error, StoreError::Unavailable(_)), "{error}"),
        }
    };
    assert_eq!(*ends.borrow(), [0]);
    let batch = read(&log, &topic, 3..9).await;
    assert_eq!((data(&batch), batch.next), (vec![], 3));
    // A key of the first topic went to one of three partitions.
    let mut keys = (0..9).map(|at| {
        let message = PubsubMessage {
            ordering_key: format!("key {at}"),
            ..PubsubMessage::default()
        };
        message.encode_to_vec().into()
    });
    let keyed: Vec<_> = keys.by_ref().collect();
    let appended = loop {
        match log.append(&topic, keyed.clone().into()).await {
            Ok(runs) => break runs,
            // Until the client that appends has heard that it was made again.
            Err(StoreError::Unavailable(_) | StoreError::Uncertain(_)) => {}
            Err(error) => panic!("{error}"),
        }
    };
    assert!(
        appended.iter().all(|run| run.partition == 0),
        "{appended:?}"
    );
}

#[tokio::test]
async fn a_topic_that_was_made_again_and_has_grown_is_told_by_its_records() {
    let topics = TestTopics::new();
    let log = topics.open().await;
    let theirs = attached(&topics, &log, 1, &[]).await;
    let name = TopicName::parse("name", "projects/tests/topics/ours").expect("valid");
    let incarnation = TopicIncarnation(7);
    let location = log.create(incarnation, &name).await.expect("made");
    let ours = TopicLog {
        incarnation,
        location: Arc::new(location),
    };
    for topic in [theirs, ours] {
        let three = ["a", "b", "c"].map(|text| message(text.as_bytes()));
        log.append(&topic, three.to_vec().into())
            .await
            .expect("append");
        let mut ends = log.watch(&topic).await.expect("watch");
        let batch = read(&log, &topic, 0..9).await;
        let known: Vec<_> = batch.records().map(|one| KnownRecord::of(0, one)).collect();
        for record in &known {
            let compared = log.compare(&topic, &[*record]).await;
            assert_eq!(compared.expect("compared"), [Comparison::Same]);
        }
        make_again(&topic).await;
        let others = producer(&[]);
        for text in ["1", "2", "3", "4", "5"] {
            send(&others, to(&topic, text.as_bytes()));
        }
        others.flush(PATIENCE).expect("flushed");
        for record in &known {
            let compared = loop {
                match log.compare(&topic, &[*record]).await {
                    Ok(compared) => break compared,
                    Err(error) => assert!(matches!(error, StoreError::Unavailable(_)), "{error}"),
                }
            };
            assert_eq!(compared, [Comparison::Other]);
        }
        log.drop_buffered(&topic).await;
        while ends.changed().await.is_ok() {}
        let watched = loop {
            match log.watch(&topic).await {
                Ok(ends) => break ends,
                Err(error) => assert!(matches!(error, StoreError::Unavailable(_)), "{error}"),
            }
        };
        assert_eq!(*watched.borrow(), [5]);
        let batch = read(&log, &topic, 0..9).await;
        assert_eq!(data(&batch), ["1", "2", "3", "4", "5"]);
    }
}
