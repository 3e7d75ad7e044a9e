//! What every message log does.

use std::{collections::BTreeSet, ops::Range, sync::Arc};

use bytes::Bytes;
use futures_util::future::join_all;
use prost::Message as _;

use super::{
    contract,
    published::{encoded, published},
};
use crate::{
    clock::ManualClock,
    proto::google::pubsub::v1::PubsubMessage,
    resource::{id::TopicIncarnation, message::ScannedMessage, name::TopicName},
    store::{
        MessageLog, StoreError,
        batch::LogRecord,
        log::{AppendedRun, LogLocation, Offset, ReadBatch, TopicLog},
    },
};

pub(in crate::store) const TOPIC: TopicIncarnation = TopicIncarnation(7);
const OTHER: TopicIncarnation = TopicIncarnation(8);

/// Makes the log of a topic.
pub(in crate::store) async fn created(log: &dyn MessageLog, topic: TopicIncarnation) -> TopicLog {
    let name = TopicName::parse("name", &format!("projects/p/topics/topic-{}", topic.0));
    let name = name.expect("valid name");
    let location = log.create(topic, &name).await.expect("create");
    assert_eq!(log.location(topic, &name), location, "known before");
    TopicLog {
        incarnation: topic,
        location: Arc::new(location),
    }
}

/// A topic's log that was never made.
fn not_created(topic: TopicIncarnation) -> TopicLog {
    TopicLog {
        incarnation: topic,
        location: Arc::new(LogLocation {
            name: format!("never-made-{}", topic.0),
            ..LogLocation::embedded()
        }),
    }
}

/// An encoded message with this data.
pub(in crate::store) fn message(data: &[u8]) -> Bytes {
    let message = PubsubMessage {
        data: Bytes::copy_from_slice(data),
        ..PubsubMessage::default()
    };
    message.encode_to_vec().into()
}

contract!(log on [memory, sqlite, kafka]: {
    appended_messages_are_read_as_they_came,
    a_read_may_begin_and_end_inside_a_batch,
    a_read_stops_at_its_bytes_but_has_one_record,
    a_read_at_or_behind_the_end_is_empty,
    concurrent_appends_get_distinct_offsets_without_gaps,
    topics_do_not_see_each_other,
    topics_of_one_shape_are_read_alternately_without_mixing,
    the_watched_end_moves_before_the_append_is_answered,
    a_log_that_was_not_created_takes_nothing,
    nothing_is_appended_after_deletion,
    creating_and_deleting_again_changes_nothing,
    several_may_create_or_delete_a_topic_at_once,
    an_append_whose_caller_went_away_is_not_torn,
    without_damage_nothing_is_skipped,
    a_closed_log_refuses,
    what_was_accepted_before_closing_is_appended,
    bytes_of_any_kind_survive,
    whatever_passes_the_edge_comes_back_unchanged,
    the_parts_of_a_record_are_found_when_they_are_asked_for,
});

fn decoded(message: &Bytes) -> PubsubMessage {
    PubsubMessage::decode(message.clone()).expect("a message")
}

pub(super) fn messages(texts: &[&str]) -> Vec<Bytes> {
    texts.iter().map(|text| message(text.as_bytes())).collect()
}

pub(super) async fn append(log: &dyn MessageLog, topic: &TopicLog, texts: &[&str]) -> AppendedRun {
    let runs = log
        .append(topic, messages(texts).into())
        .await
        .expect("append");
    // One after another, though a log may have taken them in more than one go.
    let one = |mut all: AppendedRun, run: AppendedRun| {
        let end = (all.partition, all.first + u64::from(all.count));
        assert_eq!((run.partition, run.first), end);
        all.count += run.count;
        all
    };
    runs.into_iter().reduce(one).expect("a run")
}

pub(super) async fn read(
    log: &dyn MessageLog,
    topic: &TopicLog,
    range: Range<Offset>,
) -> ReadBatch {
    log.read(topic, 0, range, 1 << 20).await.expect("read")
}

pub(super) fn offsets(batch: &ReadBatch) -> Vec<Offset> {
    batch.records().map(LogRecord::offset).collect()
}

async fn appended_messages_are_read_as_they_came(log: &dyn MessageLog, _: &ManualClock) {
    let topic = created(log, TOPIC).await;
    let first = append(log, &topic, &["one", "", "three"]).await;
    assert_eq!((first.partition, first.first, first.count), (0, 0, 3));
    let second = append(log, &topic, &["four"]).await;
    assert_eq!((second.first, second.count), (3, 1));
    let batch = read(log, &topic, 0..100).await;
    assert_eq!(batch.next, 4);
    assert_eq!(offsets(&batch), [0, 1, 2, 3]);
    let sent = messages(&["one", "", "three", "four"]);
    assert!(batch.records().map(LogRecord::message).eq(&sent));
    let times: Vec<_> = batch.records().map(LogRecord::publish_time).collect();
    assert_eq!(times[0], first.publish_time);
    assert_eq!(times[3], second.publish_time);
    let bounds = log.bounds(&topic).await.expect("bounds");
    assert_eq!((bounds[0].start, bounds[0].end, bounds.len()), (0, 4, 1));
}

async fn a_read_may_begin_and_end_inside_a_batch(log: &dyn MessageLog, _: &ManualClock) {
    let topic = created(log, TOPIC).await;
    append(log, &topic, &["a", "b", "c"]).await;
    append(log, &topic, &["d", "e", "f"]).await;
    let batch = read(log, &topic, 1..5).await;
    assert_eq!((offsets(&batch), batch.next), (vec![1, 2, 3, 4], 5));
    let batch = read(log, &topic, 2..3).await;
    assert_eq!((offsets(&batch), batch.next), (vec![2], 3));
}

async fn a_read_stops_at_its_bytes_but_has_one_record(log: &dyn MessageLog, _: &ManualClock) {
    let topic = created(log, TOPIC).await;
    append(log, &topic, &["12345", "12345", "12345"]).await;
    let batch = log
        .read(&topic, 0, 0..9, 2 * message(b"12345").len())
        .await
        .expect("read");
    assert_eq!((offsets(&batch), batch.next), (vec![0, 1], 2));
    let batch = log.read(&topic, 0, 1..9, 1).await.expect("read");
    assert_eq!((offsets(&batch), batch.next), (vec![1], 2));
}

async fn a_read_at_or_behind_the_end_is_empty(log: &dyn MessageLog, _: &ManualClock) {
    let topic = created(log, TOPIC).await;
    let batch = read(log, &topic, 0..10).await;
    assert_eq!((offsets(&batch), batch.next), (vec![], 0));
    append(log, &topic, &["a"]).await;
    let batch = read(log, &topic, 1..Offset::MAX).await;
    assert_eq!((offsets(&batch), batch.next), (vec![], 1));
    assert!(matches!(
        log.read(&topic, 1, 0..1, 1).await,
        Err(StoreError::NoSuchLog)
    ));
}

async fn concurrent_appends_get_distinct_offsets_without_gaps(
    log: &dyn MessageLog,
    _: &ManualClock,
) {
    let logs = [created(log, TOPIC).await, created(log, OTHER).await];
    let [topic, other] = &logs;
    let appends = (0..200_u32).map(|index| async move {
        let topic = if index % 4 == 0 { other } else { topic };
        let text = index.to_string();
        let runs = log.append(topic, messages(&[&text, &text]).into()).await;
        (topic, text, runs.expect("append")[0])
    });
    let mut seen = BTreeSet::new();
    for (topic, text, run) in futures_util::future::join_all(appends).await {
        let range = run.first..run.first + 2;
        assert!(seen.insert((topic.incarnation, run.first)));
        let batch = log.read(topic, 0, range, 1000).await.expect("read");
        let sent = message(text.as_bytes());
        assert!(batch.records().all(|record| record.message() == &sent));
        let mut times = batch.records().map(LogRecord::publish_time);
        assert_eq!(times.next(), Some(run.publish_time));
    }
    let of_topic = seen.iter().filter(|(topic, _)| *topic == TOPIC);
    assert!(
        of_topic
            .map(|(_, first)| *first)
            .eq((0..150).map(|i| i * 2))
    );
}

async fn topics_do_not_see_each_other(log: &dyn MessageLog, _: &ManualClock) {
    let topic = created(log, TOPIC).await;
    let other = created(log, OTHER).await;
    append(log, &topic, &["a", "b"]).await;
    let bounds = log.bounds(&other).await.expect("bounds");
    assert_eq!((bounds[0].start, bounds[0].end), (0, 0));
    log.delete(&other).await.expect("delete");
    assert_eq!(offsets(&read(log, &topic, 0..9).await), [0, 1]);
}

/// With more topics than a log has readers, all of which stand at the same offsets.
async fn topics_of_one_shape_are_read_alternately_without_mixing(
    log: &dyn MessageLog,
    _: &ManualClock,
) {
    const TOPICS: u64 = 8;
    const COUNT: u64 = 300;
    const BYTES_PER_READ: usize = 1_000;
    let text = |topic: u64, at: u64| message(format!("topic {topic} message {at:03}").as_bytes());
    let mut topics = Vec::new();
    for at in 0..TOPICS {
        let topic = created(log, TopicIncarnation(TOPIC.0 + at)).await;
        let all: Vec<_> = (0..COUNT).map(|message| text(at, message)).collect();
        log.append(&topic, all.into()).await.expect("append");
        topics.push((topic, 0));
    }
    while topics.iter().any(|(_, next)| *next < COUNT) {
        for (at, (topic, next)) in (0..).zip(&mut topics) {
            let batch = log.read(topic, 0, *next..COUNT, BYTES_PER_READ).await;
            let batch = batch.expect("read");
            assert!(*next < batch.next && offsets(&batch).into_iter().eq(*next..batch.next));
            for record in batch.records() {
                let offset = record.offset();
                let (got, published) = (decoded(record.message()), text(at, offset));
                assert_eq!(got, decoded(&published), "at {offset} of topic {at}");
            }
            *next = batch.next;
        }
    }
}

async fn the_watched_end_moves_before_the_append_is_answered(
    log: &dyn MessageLog,
    _: &ManualClock,
) {
    let topic = created(log, TOPIC).await;
    let mut ends = log.watch(&topic).await.expect("watch");
    assert_eq!(*ends.borrow_and_update(), vec![0]);
    append(log, &topic, &["a", "b"]).await;
    assert!(ends.has_changed().expect("open"));
    assert_eq!(*ends.borrow_and_update(), vec![2]);
    let late = log.watch(&topic).await.expect("watch");
    assert_eq!(*late.borrow(), vec![2]);
}

async fn a_log_that_was_not_created_takes_nothing(log: &dyn MessageLog, _: &ManualClock) {
    let topic = not_created(TOPIC);
    let gone = |error| matches!(error, StoreError::NoSuchLog);
    // It may take a while until it is certain that there is none.
    while let Err(StoreError::Unavailable(_)) = log.bounds(&topic).await {}
    let appended = log.append(&topic, messages(&["a"]).into()).await;
    assert!(appended.is_err_and(gone));
    assert!(log.bounds(&topic).await.is_err_and(gone));
    assert!(log.watch(&topic).await.is_err_and(gone));
    assert!(log.read(&topic, 0, 0..1, 1).await.is_err_and(gone));
}

async fn nothing_is_appended_after_deletion(log: &dyn MessageLog, _: &ManualClock) {
    let topic = created(log, TOPIC).await;
    append(log, &topic, &["a"]).await;
    let mut ends = log.watch(&topic).await.expect("watch");
    log.delete(&topic).await.expect("delete");
    let gone = |error| matches!(error, StoreError::NoSuchLog);
    let appended = log.append(&topic, messages(&["b"]).into()).await;
    assert!(appended.is_err_and(gone));
    assert!(log.read(&topic, 0, 0..1, 1).await.is_err_and(gone));
    ends.borrow_and_update();
    assert!(
        ends.changed().await.is_err(),
        "watchers see that it is gone"
    );
}

async fn creating_and_deleting_again_changes_nothing(log: &dyn MessageLog, _: &ManualClock) {
    let topic = created(log, TOPIC).await;
    append(log, &topic, &["a"]).await;
    assert_eq!(created(log, TOPIC).await, topic);
    assert_eq!(append(log, &topic, &["b"]).await.first, 1);
    log.delete(&topic).await.expect("delete");
    log.delete(&topic).await.expect("delete");
}

async fn several_may_create_or_delete_a_topic_at_once(log: &dyn MessageLog, _: &ManualClock) {
    // While a log is busy with the first, it may gather the others.
    let made = join_all([OTHER, TOPIC, TOPIC, TOPIC].map(|topic| created(log, topic))).await;
    for topic in &made {
        append(log, topic, &["one"]).await;
    }
    assert_eq!(offsets(&read(log, &made[1], 0..9).await), [0, 1, 2]);
    for deleted in join_all(made.iter().map(|topic| log.delete(topic))).await {
        deleted.expect("delete");
    }
}

async fn an_append_whose_caller_went_away_is_not_torn(log: &dyn MessageLog, _: &ManualClock) {
    let topic = created(log, TOPIC).await;
    for _ in 0..20 {
        let append = log.append(&topic, messages(&["a", "b", "c"]).into());
        // Polled once and dropped.
        tokio::select! {
            biased;
            _ = append => {}
            () = std::future::ready(()) => {}
        }
    }
    let end = append(log, &topic, &["d"]).await.first;
    assert_eq!(end % 3, 0);
    assert_eq!(offsets(&read(log, &topic, 0..end).await).len() as u64, end);
}

async fn without_damage_nothing_is_skipped(log: &dyn MessageLog, _: &ManualClock) {
    let topic = created(log, TOPIC).await;
    append(log, &topic, &["a", "b"]).await;
    assert_eq!(log.skip_damage(&topic, 0, 1).await.expect("skip"), 1);
}

async fn a_closed_log_refuses(log: &dyn MessageLog, _: &ManualClock) {
    let topic = created(log, TOPIC).await;
    append(log, &topic, &["a"]).await;
    log.close().await;
    let error = log
        .append(&topic, messages(&["a"]).into())
        .await
        .expect_err("closed");
    assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
    assert!(error.definitely_failed());
}

async fn bytes_of_any_kind_survive(log: &dyn MessageLog, _: &ManualClock) {
    let topic = created(log, TOPIC).await;
    let data = |data: Vec<u8>| PubsubMessage {
        data: data.into(),
        ..PubsubMessage::default()
    };
    let decorated = PubsubMessage {
        attributes: [
            ("κλειδί".to_owned(), String::new()),
            ("k".to_owned(), "\0".to_owned()),
        ]
        .into(),
        ordering_key: "κ".to_owned(),
        ..PubsubMessage::default()
    };
    let sent = vec![
        data((0..=255).collect()),
        data(vec![0xff; 3 << 20]),
        data(vec![0]),
        decorated,
    ];
    let encoded = sent.iter().map(|sent| Bytes::from(sent.encode_to_vec()));
    let encoded: Vec<_> = encoded.collect();
    let appended = log.append(&topic, encoded.into()).await;
    appended.expect("append");
    let batch = log.read(&topic, 0, 0..9, usize::MAX).await.expect("read");
    let got = batch.records().map(|record| decoded(record.message()));
    assert_eq!(got.collect::<Vec<_>>(), sent);
}

async fn whatever_passes_the_edge_comes_back_unchanged(log: &dyn MessageLog, _: &ManualClock) {
    let topic = created(log, TOPIC).await;
    let sent = published();
    publish_all(log, &topic, &sent).await;
    assert_eq!(read_all(log, &topic).await, sent);
}

/// Appends messages in one call.
pub(in crate::store) async fn publish_all(
    log: &dyn MessageLog,
    topic: &TopicLog,
    sent: &[PubsubMessage],
) -> Vec<AppendedRun> {
    let messages: Vec<_> = sent.iter().map(encoded).collect();
    log.append(topic, messages.into()).await.expect("append")
}

/// Everything in the only partition.
pub(in crate::store) async fn read_all(
    log: &dyn MessageLog,
    topic: &TopicLog,
) -> Vec<PubsubMessage> {
    let end = log.bounds(topic).await.expect("bounds")[0].end;
    let batch = log.read(topic, 0, 0..end, usize::MAX).await.expect("read");
    assert_eq!(batch.next, end);
    let messages = batch.records().map(|record| decoded(record.message()));
    messages.collect()
}

async fn the_parts_of_a_record_are_found_when_they_are_asked_for(
    log: &dyn MessageLog,
    _: &ManualClock,
) {
    type Parts<'a> = (&'a [u8], &'a [u8], Vec<(&'a [u8], &'a [u8])>);
    fn parts(message: ScannedMessage<'_>) -> Parts<'_> {
        let attributes = message.attributes().collect();
        (message.data(), message.ordering_key(), attributes)
    }
    let topic = created(log, TOPIC).await;
    let decorated = PubsubMessage {
        data: Bytes::from_static(b"data"),
        attributes: [("name".to_owned(), "value".to_owned())].into(),
        ordering_key: "key".to_owned(),
        ..PubsubMessage::default()
    };
    let sent = vec![
        message(b"a"),
        decorated.encode_to_vec().into(),
        message(b"b"),
    ];
    log.append(&topic, sent.into()).await.expect("append");
    let batch = read(log, &topic, 0..9).await;
    let found: Vec<_> = batch
        .records()
        .map(|record| parts(record.scanned()))
        .collect();
    let expected: [Parts<'_>; 3] = [
        (b"a", b"", vec![]),
        (b"data", b"key", vec![(b"name", b"value")]),
        (b"b", b"", vec![]),
    ];
    assert_eq!(found, expected);
}

async fn what_was_accepted_before_closing_is_appended(log: &dyn MessageLog, _: &ManualClock) {
    let topic = created(log, TOPIC).await;
    let appends = join_all((0..100).map(|_| log.append(&topic, messages(&["a"]).into())));
    let (runs, ()) = tokio::join!(appends, log.close());
    for run in runs {
        run.expect("accepted, so appended");
    }
}
