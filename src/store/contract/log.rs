//! What every message log does.

use std::{collections::BTreeSet, ops::Range, slice, time::Duration};

use bytes::Bytes;

use super::{START, contract};
use crate::{
    clock::{ManualClock, Timestamp},
    resource::id::TopicIncarnation,
    store::{
        MessageLog, StoreError,
        log::{AppendedRun, Offset, ReadBatch},
    },
};

const TOPIC: TopicIncarnation = TopicIncarnation(7);
const OTHER: TopicIncarnation = TopicIncarnation(8);

contract!(log:
    appended_messages_are_read_as_they_came,
    a_read_may_begin_and_end_inside_a_batch,
    a_read_stops_at_its_bytes_but_has_one_record,
    a_read_at_or_behind_the_end_is_empty,
    trimmed_batches_are_holes_that_a_read_passes,
    only_batches_wholly_inside_a_range_are_trimmed,
    offsets_go_on_after_everything_was_trimmed,
    publish_times_never_decrease,
    concurrent_appends_get_distinct_offsets_without_gaps,
    topics_do_not_see_each_other,
    an_offset_is_found_by_time,
    the_watched_end_moves_before_the_append_is_answered,
    a_log_that_was_not_created_takes_nothing,
    nothing_is_appended_after_deletion,
    creating_and_deleting_again_changes_nothing,
    an_append_whose_caller_went_away_is_not_torn,
    without_damage_nothing_is_skipped,
    a_closed_log_refuses,
    what_was_accepted_before_closing_is_appended,
    bytes_of_any_kind_survive,
);

fn messages(texts: &[&str]) -> Vec<Bytes> {
    texts
        .iter()
        .map(|text| Bytes::copy_from_slice(text.as_bytes()))
        .collect()
}

async fn append(log: &dyn MessageLog, texts: &[&str]) -> AppendedRun {
    let runs = log.append(TOPIC, messages(texts)).await.expect("append");
    assert_eq!(runs.len(), 1);
    runs[0]
}

async fn read(log: &dyn MessageLog, range: Range<Offset>) -> ReadBatch {
    log.read(TOPIC, 0, range, 1 << 20).await.expect("read")
}

fn offsets(batch: &ReadBatch) -> Vec<Offset> {
    batch.records.iter().map(|record| record.offset).collect()
}

async fn trim(log: &dyn MessageLog, done: &[Range<Offset>]) {
    while log.trim(TOPIC, 0, done).await.expect("trim") {}
}

async fn appended_messages_are_read_as_they_came(log: &dyn MessageLog, hand: &ManualClock) {
    log.create(TOPIC).await.expect("create");
    let first = append(log, &["one", "", "three"]).await;
    assert_eq!((first.partition, first.first, first.count), (0, 0, 3));
    assert_eq!(first.publish_time, START);
    hand.advance(Duration::from_millis(5));
    let second = append(log, &["four"]).await;
    assert_eq!((second.first, second.count), (3, 1));
    let batch = read(log, 0..100).await;
    assert_eq!(batch.next, 4);
    assert_eq!(offsets(&batch), [0, 1, 2, 3]);
    let texts: Vec<&[u8]> = batch
        .records
        .iter()
        .map(|record| &record.message[..])
        .collect();
    assert_eq!(texts, [&b"one"[..], b"", b"three", b"four"]);
    assert_eq!(batch.records[2].publish_time, START);
    assert_eq!(batch.records[3].publish_time, START.plus_millis(5));
    let bounds = log.bounds(TOPIC).await.expect("bounds");
    assert_eq!((bounds[0].start, bounds[0].end, bounds.len()), (0, 4, 1));
}

async fn a_read_may_begin_and_end_inside_a_batch(log: &dyn MessageLog, _: &ManualClock) {
    log.create(TOPIC).await.expect("create");
    append(log, &["a", "b", "c"]).await;
    append(log, &["d", "e", "f"]).await;
    let batch = read(log, 1..5).await;
    assert_eq!((offsets(&batch), batch.next), (vec![1, 2, 3, 4], 5));
    let batch = read(log, 2..3).await;
    assert_eq!((offsets(&batch), batch.next), (vec![2], 3));
}

async fn a_read_stops_at_its_bytes_but_has_one_record(log: &dyn MessageLog, _: &ManualClock) {
    log.create(TOPIC).await.expect("create");
    append(log, &["12345", "12345", "12345"]).await;
    let batch = log.read(TOPIC, 0, 0..9, 10).await.expect("read");
    assert_eq!((offsets(&batch), batch.next), (vec![0, 1], 2));
    let batch = log.read(TOPIC, 0, 1..9, 1).await.expect("read");
    assert_eq!((offsets(&batch), batch.next), (vec![1], 2));
}

async fn a_read_at_or_behind_the_end_is_empty(log: &dyn MessageLog, _: &ManualClock) {
    log.create(TOPIC).await.expect("create");
    let batch = read(log, 0..10).await;
    assert_eq!((offsets(&batch), batch.next), (vec![], 0));
    append(log, &["a"]).await;
    let batch = read(log, 1..Offset::MAX).await;
    assert_eq!((offsets(&batch), batch.next), (vec![], 1));
    assert!(matches!(
        log.read(TOPIC, 1, 0..1, 1).await,
        Err(StoreError::NoSuchLog)
    ));
}

async fn trimmed_batches_are_holes_that_a_read_passes(log: &dyn MessageLog, _: &ManualClock) {
    log.create(TOPIC).await.expect("create");
    for _ in 0..5 {
        append(log, &["a", "b"]).await;
    }
    trim(log, &[0..2, 4..8]).await;
    let batch = read(log, 0..10).await;
    assert_eq!((offsets(&batch), batch.next), (vec![2, 3, 8, 9], 10));
    let batch = read(log, 4..7).await;
    assert_eq!((offsets(&batch), batch.next), (vec![], 7));
    let bounds = log.bounds(TOPIC).await.expect("bounds");
    assert_eq!((bounds[0].start, bounds[0].end), (2, 10));
}

async fn only_batches_wholly_inside_a_range_are_trimmed(log: &dyn MessageLog, _: &ManualClock) {
    log.create(TOPIC).await.expect("create");
    append(log, &["a", "b", "c"]).await;
    append(log, &["d", "e", "f"]).await;
    trim(log, &[0..2, 3..5]).await;
    assert_eq!(offsets(&read(log, 0..9).await).len(), 6);
    trim(log, slice::from_ref(&(0..5))).await;
    assert_eq!(offsets(&read(log, 0..9).await), [3, 4, 5]);
}

async fn offsets_go_on_after_everything_was_trimmed(log: &dyn MessageLog, hand: &ManualClock) {
    log.create(TOPIC).await.expect("create");
    hand.advance(Duration::from_millis(50));
    append(log, &["a", "b", "c"]).await;
    trim(log, slice::from_ref(&(0..3))).await;
    let bounds = log.bounds(TOPIC).await.expect("bounds");
    assert_eq!((bounds[0].start, bounds[0].end), (3, 3));
    assert_eq!(append(log, &["d"]).await.first, 3);
    let batch = read(log, 0..9).await;
    assert_eq!((offsets(&batch), batch.next), (vec![3], 4));
}

async fn publish_times_never_decrease(log: &dyn MessageLog, hand: &ManualClock) {
    log.create(TOPIC).await.expect("create");
    let mut last = Timestamp::ZERO;
    for millis in [0, 3, 0, 2] {
        hand.advance(Duration::from_millis(millis));
        let run = append(log, &["a"]).await;
        assert!(run.publish_time >= last);
        last = run.publish_time;
    }
    assert_eq!(last, START.plus_millis(5));
}

async fn concurrent_appends_get_distinct_offsets_without_gaps(
    log: &dyn MessageLog,
    _: &ManualClock,
) {
    log.create(TOPIC).await.expect("create");
    log.create(OTHER).await.expect("create");
    let appends = (0..200_u32).map(|index| async move {
        let topic = if index % 4 == 0 { OTHER } else { TOPIC };
        let text = index.to_string();
        let runs = log.append(topic, messages(&[&text, &text])).await;
        (topic, text, runs.expect("append")[0])
    });
    let mut seen = BTreeSet::new();
    for (topic, text, run) in futures_util::future::join_all(appends).await {
        let range = run.first..run.first + 2;
        assert!(seen.insert((topic, run.first)));
        let batch = log.read(topic, 0, range, 1000).await.expect("read");
        assert!(batch.records.iter().all(|record| record.message == text));
        assert_eq!(batch.records[0].publish_time, run.publish_time);
    }
    let of_topic = seen.iter().filter(|(topic, _)| *topic == TOPIC);
    assert!(
        of_topic
            .map(|(_, first)| *first)
            .eq((0..150).map(|i| i * 2))
    );
}

async fn topics_do_not_see_each_other(log: &dyn MessageLog, _: &ManualClock) {
    log.create(TOPIC).await.expect("create");
    log.create(OTHER).await.expect("create");
    append(log, &["a", "b"]).await;
    let bounds = log.bounds(OTHER).await.expect("bounds");
    assert_eq!((bounds[0].start, bounds[0].end), (0, 0));
    log.delete(OTHER).await.expect("delete");
    assert_eq!(offsets(&read(log, 0..9).await), [0, 1]);
}

async fn an_offset_is_found_by_time(log: &dyn MessageLog, hand: &ManualClock) {
    log.create(TOPIC).await.expect("create");
    for _ in 0..3 {
        append(log, &["a", "b"]).await;
        hand.advance(Duration::from_millis(10));
    }
    for (millis, offset) in [(0, 0), (1, 2), (10, 2), (20, 4), (21, 6)] {
        let found = log.offset_at(TOPIC, 0, START.plus_millis(millis)).await;
        assert_eq!(found.expect("offset"), offset, "at {millis} ms");
    }
    let never = log.offset_at(TOPIC, 0, Timestamp::NEVER).await;
    assert_eq!(never.expect("offset"), 6);
}

async fn the_watched_end_moves_before_the_append_is_answered(
    log: &dyn MessageLog,
    _: &ManualClock,
) {
    log.create(TOPIC).await.expect("create");
    let mut ends = log.watch(TOPIC).await.expect("watch");
    assert_eq!(*ends.borrow_and_update(), vec![0]);
    append(log, &["a", "b"]).await;
    assert!(ends.has_changed().expect("open"));
    assert_eq!(*ends.borrow_and_update(), vec![2]);
    let late = log.watch(TOPIC).await.expect("watch");
    assert_eq!(*late.borrow(), vec![2]);
}

async fn a_log_that_was_not_created_takes_nothing(log: &dyn MessageLog, _: &ManualClock) {
    let gone = |error| matches!(error, StoreError::NoSuchLog);
    let appended = log.append(TOPIC, messages(&["a"])).await;
    assert!(appended.is_err_and(gone));
    assert!(log.bounds(TOPIC).await.is_err_and(gone));
    assert!(log.watch(TOPIC).await.is_err_and(gone));
    assert!(log.read(TOPIC, 0, 0..1, 1).await.is_err_and(gone));
}

async fn nothing_is_appended_after_deletion(log: &dyn MessageLog, _: &ManualClock) {
    log.create(TOPIC).await.expect("create");
    append(log, &["a"]).await;
    let mut ends = log.watch(TOPIC).await.expect("watch");
    log.delete(TOPIC).await.expect("delete");
    let gone = |error| matches!(error, StoreError::NoSuchLog);
    let appended = log.append(TOPIC, messages(&["b"])).await;
    assert!(appended.is_err_and(gone));
    assert!(log.read(TOPIC, 0, 0..1, 1).await.is_err_and(gone));
    ends.borrow_and_update();
    assert!(
        ends.changed().await.is_err(),
        "watchers see that it is gone"
    );
}

async fn creating_and_deleting_again_changes_nothing(log: &dyn MessageLog, _: &ManualClock) {
    log.create(TOPIC).await.expect("create");
    append(log, &["a"]).await;
    log.create(TOPIC).await.expect("create");
    assert_eq!(append(log, &["b"]).await.first, 1);
    log.delete(TOPIC).await.expect("delete");
    log.delete(TOPIC).await.expect("delete");
}

async fn an_append_whose_caller_went_away_is_not_torn(log: &dyn MessageLog, _: &ManualClock) {
    log.create(TOPIC).await.expect("create");
    for _ in 0..20 {
        let append = log.append(TOPIC, messages(&["a", "b", "c"]));
        // Polled once and dropped.
        tokio::select! {
            biased;
            _ = append => {}
            () = std::future::ready(()) => {}
        }
    }
    let end = append(log, &["d"]).await.first;
    assert_eq!(end % 3, 0);
    assert_eq!(offsets(&read(log, 0..end).await).len() as u64, end);
}

async fn without_damage_nothing_is_skipped(log: &dyn MessageLog, _: &ManualClock) {
    log.create(TOPIC).await.expect("create");
    append(log, &["a", "b"]).await;
    assert_eq!(log.skip_damage(TOPIC, 0, 1).await.expect("skip"), 1);
}

async fn a_closed_log_refuses(log: &dyn MessageLog, _: &ManualClock) {
    log.create(TOPIC).await.expect("create");
    append(log, &["a"]).await;
    log.close().await;
    let error = log
        .append(TOPIC, messages(&["a"]))
        .await
        .expect_err("closed");
    assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
    assert!(error.definitely_failed());
}

async fn bytes_of_any_kind_survive(log: &dyn MessageLog, _: &ManualClock) {
    log.create(TOPIC).await.expect("create");
    let large = Bytes::from(vec![0xff; 3 << 20]);
    let all = Bytes::from((0..=255).collect::<Vec<u8>>());
    let sent = vec![all, Bytes::new(), large, Bytes::from_static(b"\0")];
    log.append(TOPIC, sent.clone()).await.expect("append");
    let batch = log.read(TOPIC, 0, 0..9, usize::MAX).await.expect("read");
    let got: Vec<Bytes> = batch.records.into_iter().map(|r| r.message).collect();
    assert_eq!(got, sent);
}

async fn what_was_accepted_before_closing_is_appended(log: &dyn MessageLog, _: &ManualClock) {
    log.create(TOPIC).await.expect("create");
    let appends = (0..100).map(|_| log.append(TOPIC, messages(&["a"])));
    let appends = futures_util::future::join_all(appends);
    let (runs, ()) = tokio::join!(appends, log.close());
    assert!(runs.iter().all(Result::is_ok));
}
