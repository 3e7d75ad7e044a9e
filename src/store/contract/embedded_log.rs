//! What logs do whose clock and whose deletions are ours.

use std::{ops::Range, slice, time::Duration};

use super::{
    START, contract,
    log::{TOPIC, append, created, offsets, read},
};
use crate::{
    clock::{ManualClock, Timestamp},
    store::{
        MessageLog,
        batch::LogRecord,
        log::{Offset, TopicLog},
    },
};

contract!(log on [memory, sqlite]: {
    the_publish_time_is_that_of_the_clock,
    trimmed_batches_are_holes_that_a_read_passes,
    only_batches_wholly_inside_a_range_are_trimmed,
    many_holes_are_trimmed_in_few_calls,
    a_range_is_widened_to_whole_batches,
    offsets_go_on_after_everything_was_trimmed,
    publish_times_never_decrease,
    an_offset_is_found_by_time,
});

/// Trims as often as it takes, and returns how often that was.
async fn trim(log: &dyn MessageLog, topic: &TopicLog, done: &[Range<Offset>]) -> usize {
    let (mut done, mut calls) = (done.to_vec(), 1);
    while let Some(next) = log.trim(topic, 0, &done).await.expect("trim") {
        done.retain(|range| range.end > next);
        if let Some(first) = done.first_mut() {
            first.start = first.start.max(next);
        }
        calls += 1;
    }
    calls
}

async fn the_publish_time_is_that_of_the_clock(log: &dyn MessageLog, hand: &ManualClock) {
    let topic = created(log, TOPIC).await;
    assert_eq!(append(log, &topic, &["a"]).await.publish_time, START);
    hand.advance(Duration::from_millis(5));
    append(log, &topic, &["b"]).await;
    let batch = read(log, &topic, 0..9).await;
    let times: Vec<_> = batch.records().map(LogRecord::publish_time).collect();
    assert_eq!(times, [START, START.plus_millis(5)]);
}

async fn trimmed_batches_are_holes_that_a_read_passes(log: &dyn MessageLog, _: &ManualClock) {
    let topic = created(log, TOPIC).await;
    for _ in 0..5 {
        append(log, &topic, &["a", "b"]).await;
    }
    trim(log, &topic, &[0..2, 4..8]).await;
    let batch = read(log, &topic, 0..10).await;
    assert_eq!((offsets(&batch), batch.next), (vec![2, 3, 8, 9], 10));
    let batch = read(log, &topic, 4..7).await;
    assert_eq!((offsets(&batch), batch.next), (vec![], 7));
    let bounds = log.bounds(&topic).await.expect("bounds");
    assert_eq!((bounds[0].start, bounds[0].end), (2, 10));
}

async fn only_batches_wholly_inside_a_range_are_trimmed(log: &dyn MessageLog, _: &ManualClock) {
    let topic = created(log, TOPIC).await;
    append(log, &topic, &["a", "b", "c"]).await;
    append(log, &topic, &["d", "e", "f"]).await;
    trim(log, &topic, &[0..2, 3..5]).await;
    assert_eq!(offsets(&read(log, &topic, 0..9).await).len(), 6);
    trim(log, &topic, slice::from_ref(&(0..5))).await;
    assert_eq!(offsets(&read(log, &topic, 0..9).await), [3, 4, 5]);
}

async fn many_holes_are_trimmed_in_few_calls(log: &dyn MessageLog, _: &ManualClock) {
    let topic = created(log, TOPIC).await;
    for _ in 0..1500 {
        append(log, &topic, &["a"]).await;
    }
    let holes: Vec<_> = (0..750).map(|hole| 2 * hole..2 * hole + 1).collect();
    assert_eq!(trim(log, &topic, &holes).await, 1);
    // Most of what is done has no batch any more.
    let done: Vec<_> = (0..2000).map(|hole| 2 * hole..2 * hole + 1).collect();
    assert!(trim(log, &topic, &done).await <= 2);
    let left = offsets(&read(log, &topic, 0..1500).await);
    assert_eq!(left, (0..750).map(|one| 2 * one + 1).collect::<Vec<_>>());
    assert!(trim(log, &topic, slice::from_ref(&(0..1500))).await <= 2);
    let bounds = log.bounds(&topic).await.expect("bounds");
    assert_eq!((bounds[0].start, bounds[0].end), (1500, 1500));
}

async fn a_range_is_widened_to_whole_batches(log: &dyn MessageLog, _: &ManualClock) {
    let topic = created(log, TOPIC).await;
    for _ in 0..3 {
        append(log, &topic, &["a", "b", "c"]).await;
    }
    trim(log, &topic, slice::from_ref(&(0..3))).await;
    for (range, whole) in [
        (0..2, 0..2),
        (1..4, 1..6),
        (3..6, 3..6),
        (4..5, 3..6),
        (5..7, 3..9),
        (6..9, 6..9),
        (9..12, 9..12),
    ] {
        let found = log.whole_batches(&topic, 0, range.clone()).await;
        assert_eq!(found.expect("widened"), whole, "{range:?}");
    }
}

async fn offsets_go_on_after_everything_was_trimmed(log: &dyn MessageLog, hand: &ManualClock) {
    let topic = created(log, TOPIC).await;
    hand.advance(Duration::from_millis(50));
    append(log, &topic, &["a", "b", "c"]).await;
    trim(log, &topic, slice::from_ref(&(0..3))).await;
    let bounds = log.bounds(&topic).await.expect("bounds");
    assert_eq!((bounds[0].start, bounds[0].end), (3, 3));
    assert_eq!(append(log, &topic, &["d"]).await.first, 3);
    let batch = read(log, &topic, 0..9).await;
    assert_eq!((offsets(&batch), batch.next), (vec![3], 4));
}

async fn publish_times_never_decrease(log: &dyn MessageLog, hand: &ManualClock) {
    let topic = created(log, TOPIC).await;
    let mut last = Timestamp::ZERO;
    for millis in [0, 3, 0, 2] {
        hand.advance(Duration::from_millis(millis));
        let run = append(log, &topic, &["a"]).await;
        assert!(run.publish_time >= last);
        last = run.publish_time;
    }
    assert_eq!(last, START.plus_millis(5));
}

async fn an_offset_is_found_by_time(log: &dyn MessageLog, hand: &ManualClock) {
    let topic = created(log, TOPIC).await;
    for _ in 0..3 {
        append(log, &topic, &["a", "b"]).await;
        hand.advance(Duration::from_millis(10));
    }
    for (millis, offset) in [(0, 0), (1, 2), (10, 2), (20, 4), (21, 6)] {
        let found = log.offset_at(&topic, 0, START.plus_millis(millis)).await;
        assert_eq!(found.expect("offset"), offset, "at {millis} ms");
    }
    let never = log.offset_at(&topic, 0, Timestamp::NEVER).await;
    assert_eq!(never.expect("offset"), 6);
    trim(log, &topic, &[0..2, 4..6]).await;
    for (millis, offset) in [(0, 2), (10, 2), (11, 6)] {
        let found = log.offset_at(&topic, 0, START.plus_millis(millis)).await;
        assert_eq!(found.expect("offset"), offset, "at {millis} ms");
    }
    trim(log, &topic, slice::from_ref(&(0..6))).await;
    let empty = log.offset_at(&topic, 0, START).await;
    assert_eq!(empty.expect("offset"), 6);
}
