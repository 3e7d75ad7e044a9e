//! Several nodes on one Kafka, and topics that change meanwhile.

use std::{collections::HashSet, slice, time::Duration};

use bytes::Bytes;
use prost::Message as _;
use rdkafka::admin::{AdminOptions, NewPartitions, ResourceSpecifier};
use tokio::time::timeout;

use super::{
    super::{KafkaLog, OpenError, Options},
    TestTopics,
    support::administrator,
};
use crate::{
    proto::google::pubsub::v1::PubsubMessage,
    resource::{id::TopicIncarnation, name::TopicName},
    store::{
        MessageLog as _, StoreError,
        contract::log::{created, message},
        log::{Offset, TopicLog, Trims},
    },
};

const TOPIC: TopicIncarnation = TopicIncarnation(7);

/// Reads a partition from its first record, as it grows, until there were `count`.
async fn read_all(log: &KafkaLog, topic: &TopicLog, count: usize) -> Vec<(Offset, Bytes)> {
    let mut ends = log.watch(topic).await.expect("watch");
    let mut read = Vec::new();
    let mut next = 0;
    while read.len() < count {
        let end = ends.wait_for(|ends| ends[0] > next).await.expect("watched")[0];
        while next < end {
            let batch = log
                .read(topic, 0, next..end, 64 * 1024)
                .await
                .expect("read");
            assert!(batch.next > next, "nothing at {next} of {end}");
            next = batch.next;
            let records = batch.records();
            read.extend(records.map(|record| (record.offset(), record.message().clone())));
        }
    }
    read
}

async fn append_all(log: &KafkaLog, topic: &TopicLog, node: u8, requests: u16) {
    for request in 0..requests {
        let messages = (0..10).map(|at| message(format!("{node} {request} {at}").as_bytes()));
        let messages: Vec<_> = messages.collect();
        let runs = log.append(topic, messages.into()).await.expect("append");
        assert_eq!(runs.iter().map(|run| run.count).sum::<u32>(), 10);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_two_nodes_append_both_read_once_and_in_order() {
    const REQUESTS: u16 = 300;
    let topics = TestTopics::new();
    let (one, other) = (topics.open().await, topics.open().await);
    let topic = created(&one, TOPIC).await;
    let count = 2 * 10 * usize::from(REQUESTS);
    let (read_by_one, read_by_other, (), ()) = tokio::join!(
        read_all(&one, &topic, count),
        read_all(&other, &topic, count),
        append_all(&one, &topic, 1, REQUESTS),
        append_all(&other, &topic, 2, REQUESTS),
    );
    assert_eq!(read_by_one, read_by_other);
    let offsets = read_by_one.iter().map(|(offset, _)| *offset);
    assert!(offsets.eq(0..count as u64), "every offset once");
    let texts: HashSet<_> = read_by_one.iter().map(|(_, message)| message).collect();
    assert_eq!(texts.len(), count, "every message once");
    for node in ["1", "2"] {
        let of_node = read_by_one.iter().filter_map(|(_, message)| {
            let data = PubsubMessage::decode(message.clone())
                .expect("a message")
                .data;
            let text = String::from_utf8(data.into()).expect("text");
            let (of, rest) = text.split_once(' ').expect("a node");
            let (request, at) = rest.split_once(' ').expect("a request");
            let number = |text: &str| text.parse::<u32>().expect("a number");
            (of == node).then(|| number(request) * 10 + number(at))
        });
        assert!(
            of_node.eq(0..u32::from(REQUESTS) * 10),
            "in order of node {node}"
        );
    }
}

#[tokio::test]
async fn partitions_that_are_added_are_seen_by_watchers_and_used() {
    let topics = TestTopics::new();
    let (one, other) = (topics.open().await, topics.open().await);
    let topic = created(&one, TOPIC).await;
    let mut ends = other.watch(&topic).await.expect("watch");
    let more = NewPartitions::new(&topic.location.name, 3);
    let grown = administrator()
        .create_partitions([&more], &AdminOptions::new())
        .await;
    grown.expect("answered").remove(0).expect("grown");
    while one.bounds(&topic).await.expect("bounds").len() < 3 {
        tokio::task::yield_now().await;
    }
    let mut used = HashSet::new();
    for _ in 0..6 {
        used.insert(
            one.append(&topic, vec![message(b"a")].into())
                .await
                .expect("append")[0]
                .partition,
        );
    }
    assert_eq!(used.len(), 3);
    ends.wait_for(|ends| *ends == [2, 2, 2])
        .await
        .expect("watched");
    let read = other.read(&topic, 2, 0..9, 1 << 20).await.expect("read");
    assert_eq!((read.count(), read.next), (2, 2));
    // Keys stay where they are.
    let keyed = PubsubMessage {
        ordering_key: "a key".to_owned(),
        ..PubsubMessage::default()
    };
    let runs = one
        .append(&topic, vec![keyed.encode_to_vec().into()].into())
        .await;
    assert_eq!(runs.expect("append")[0].partition, 0);
}

#[tokio::test]
async fn a_topic_that_another_node_deleted_is_gone() {
    let topics = TestTopics::new();
    let (one, other) = (topics.open().await, topics.open().await);
    let topic = created(&one, TOPIC).await;
    other
        .append(&topic, vec![message(b"a")].into())
        .await
        .expect("append");
    let mut ends = other.watch(&topic).await.expect("watch");
    one.delete(&topic).await.expect("delete");
    let append = || other.append(&topic, vec![message(b"b")].into());
    let error = loop {
        match append().await.expect_err("gone") {
            // Until it is certain.
            StoreError::Unavailable(_) => {}
            error => break error,
        }
    };
    assert!(matches!(error, StoreError::NoSuchLog), "{error}");
    ends.borrow_and_update();
    assert!(
        ends.changed().await.is_err(),
        "watchers see that it is gone"
    );
}

#[tokio::test]
async fn a_request_of_the_largest_size_is_read_as_it_was_written() {
    let topics = TestTopics::new();
    let log = topics.open().await;
    let topic = created(&log, TOPIC).await;
    let random = |seed: u32| -> Vec<u8> {
        let words = (0..2_400_000_u32).map(|at| (at ^ seed).wrapping_mul(2_654_435_761));
        words.flat_map(u32::to_be_bytes).collect()
    };
    let one = message(&random(1));
    log.append(&topic, vec![one.clone()].into())
        .await
        .expect("one large message");
    let parts: Vec<_> = random(2).chunks(100_000).map(message).collect();
    log.append(&topic, parts.clone().into())
        .await
        .expect("many that are as large together");
    let (mut read, mut next) = (Vec::new(), 0);
    while next < 1 + parts.len() as u64 {
        let batch = log.read(&topic, 0, next..999, 1 << 20).await.expect("read");
        assert!(batch.next > next);
        next = batch.next;
        read.extend(batch.records().map(|record| record.message().clone()));
    }
    assert!(read[0] == one && read[1..] == parts[..]);
}

#[tokio::test]
async fn a_message_goes_where_its_key_says_and_runs_come_in_request_order() {
    let topics = TestTopics::new();
    let log = KafkaLog::open(Options {
        partitions: 4,
        ..topics.options()
    });
    let log = log.await.expect("open");
    let topic = created(&log, TOPIC).await;
    assert_eq!(topic.location.key_partitions, 4);
    let keyed = |at: u32| -> Bytes {
        let message = PubsubMessage {
            data: at.to_string().into_bytes().into(),
            ordering_key: format!("key {}", at % 5),
            ..PubsubMessage::default()
        };
        message.encode_to_vec().into()
    };
    let sent: Vec<_> = (0..50).map(keyed).collect();
    let runs = log
        .append(&topic, sent.clone().into())
        .await
        .expect("append");
    let positions = runs.iter().flat_map(|run| {
        let offsets = run.first..run.first + u64::from(run.count);
        offsets.map(|offset| (run.partition, offset))
    });
    let mut read = Vec::new();
    for (partition, offset) in positions {
        let batch = log
            .read(&topic, partition, offset..offset + 1, 1)
            .await
            .expect("read");
        read.extend(batch.records().map(|record| record.message().clone()));
    }
    assert_eq!(read, sent);
}

#[tokio::test]
async fn how_long_a_topic_keeps_messages_changes_and_nothing_else() {
    let topics = TestTopics::new();
    let log = topics.open().await;
    let topic = created(&log, TOPIC).await;
    let settings = async || {
        let topic = ResourceSpecifier::Topic(&topic.location.name);
        let options = AdminOptions::new();
        let described = administrator().describe_configs([&topic], &options).await;
        let described = described.expect("answered").remove(0).expect("described");
        let retention = described
            .get("retention.ms")
            .and_then(|entry| entry.value.clone());
        let set = described
            .entries
            .into_iter()
            .filter(|entry| !entry.is_default);
        let others = set.filter(|entry| entry.name != "retention.ms");
        let mut others: Vec<_> = others.map(|entry| (entry.name, entry.value)).collect();
        others.sort_unstable();
        (others, retention)
    };
    let days = |days: u64| Some((days * 24 * 3_600_000).to_string());
    let (before, retention) = settings().await;
    assert_eq!(retention, days(7));
    let set = |name: &str, value: &str| before.contains(&(name.to_owned(), Some(value.to_owned())));
    assert!(set("message.timestamp.type", "LogAppendTime") && set("retention.bytes", "-1"));
    log.retain(&topic, Duration::from_hours(31 * 24))
        .await
        .expect("kept longer");
    assert_eq!(settings().await, (before.clone(), days(31)));
    log.retain(&topic, Duration::from_hours(1))
        .await
        .expect("kept shorter");
    assert_eq!(settings().await, (before, days(7)));
}

#[tokio::test]
async fn acknowledged_records_are_deleted_only_where_that_was_asked_for() {
    let topics = TestTopics::new();
    let log = topics.open().await;
    let eager = KafkaLog::open(Options {
        delete_acknowledged: true,
        ..topics.options()
    });
    let eager = eager.await.expect("open");
    let topic = created(&log, TOPIC).await;
    let three = ["a", "b", "c"].map(|text| message(text.as_bytes()));
    log.append(&topic, three.to_vec().into())
        .await
        .expect("append");
    for (log, start) in [(&log, 0), (&eager, 2)] {
        assert!(
            log.trim(&topic, 0, slice::from_ref(&(1..2)))
                .await
                .expect("not at the start")
                .is_none()
        );
        assert!(
            log.trim(&topic, 0, slice::from_ref(&(0..2)))
                .await
                .expect("trim")
                .is_none()
        );
        assert_eq!(log.bounds(&topic).await.expect("bounds")[0].start, start);
        assert_eq!(log.trims() == Trims::Start, start > 0);
    }
}

#[tokio::test]
async fn a_wrong_address_is_one_clear_line() {
    let options = Options::new("127.0.0.1:1");
    let opened = KafkaLog::open_within(options, Duration::from_millis(500)).await;
    let error = opened.expect_err("nobody is there");
    let text = error.to_string();
    assert!(matches!(error, OpenError::Unreachable { .. }), "{text}");
    assert!(
        text.contains("127.0.0.1:1") && text.lines().count() == 1,
        "{text}"
    );
}

#[tokio::test]
async fn the_log_is_known_by_its_cluster_and_prefix() {
    let topics = TestTopics::new();
    let (one, other) = (topics.open().await, topics.open().await);
    assert_eq!(one.identity(), other.identity());
    assert!(
        one.identity().starts_with("kafka:") && one.identity().contains(&topics.options().prefix)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_topics_are_made_at_once() {
    let topics = TestTopics::new();
    let log = topics.open().await;
    let made = (1..=300).map(|at| created(&log, TopicIncarnation(at)));
    let made = futures_util::future::join_all(made).await;
    // Each topic that the client that appends has loaded makes every append slower.
    let loaded = |topic: &&TopicLog| log.known.get(topic).expect("known").is_loaded();
    assert_eq!(made.iter().filter(loaded).count(), 0);
    let appended = made
        .iter()
        .map(|topic| log.append(topic, vec![message(b"first")].into()));
    for runs in futures_util::future::join_all(appended).await {
        assert_eq!(runs.expect("append")[0].first, 0);
    }
    // With so many at once the client may not hear of a topic in time; the next append has it learn of that again.
    for topic in made.iter().filter(|topic| !loaded(topic)) {
        let appended = log.append(topic, vec![message(b"next")].into()).await;
        assert_eq!(appended.expect("append")[0].first, 1);
    }
    assert_eq!(made.iter().filter(loaded).count(), made.len());
}

#[tokio::test]
async fn a_topic_with_more_copies_than_brokers_is_certainly_not_made() {
    let topics = TestTopics::new();
    let log = KafkaLog::open(Options {
        replication_factor: Some(99),
        ..topics.options()
    });
    let log = log.await.expect("open");
    let name = TopicName::parse("name", "projects/p/topics/copies").expect("valid");
    let error = log.create(TOPIC, &name).await.expect_err("too few brokers");
    assert!(error.definitely_failed(), "{error}");
    assert!(error.to_string().contains("replication_factor"), "{error}");
    let made = topics.open().await.create(TOPIC, &name).await;
    assert!(made.is_ok(), "{made:?}");
    // Existing ones are not checked again.
    assert_eq!(
        log.create(TOPIC, &name).await.expect("there"),
        made.expect("made")
    );
}

#[tokio::test]
async fn among_many_watched_topics_the_one_that_is_gone_is_noticed() {
    let topics = TestTopics::new();
    let log = topics.open().await;
    let mut watched = Vec::new();
    for at in 0..20 {
        let topic = created(&log, TopicIncarnation(TOPIC.0 + at)).await;
        let ends = log.watch(&topic).await.expect("watch");
        watched.push((topic, ends));
    }
    let (topic, mut ends) = watched.swap_remove(3);
    let name = topic.location.name.as_str();
    let deleted = administrator().delete_topics(&[name], &AdminOptions::new());
    deleted.await.expect("deleted");
    // The client says nothing of it for half a minute.
    let closed = async { while ends.changed().await.is_ok() {} };
    timeout(Duration::from_secs(20), closed)
        .await
        .expect("in time");
    for (topic, ends) in &watched {
        assert!(ends.has_changed().is_ok(), "{topic:?} is there");
    }
    while let Err(StoreError::Unavailable(_)) = log.bounds(&topic).await {}
    let gone = log.watch(&topic).await;
    assert!(matches!(gone, Err(StoreError::NoSuchLog)), "{gone:?}");
}
