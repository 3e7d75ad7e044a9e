//! What is read ahead follows what consumers take, and is dropped when they take no more.

use super::backlog::Backlog;
use crate::{
    engine::input::{ConsumerId, Demand, Input},
    limits::{PREFETCH_BYTES_MAX, PREFETCH_MESSAGES_MAX, READ_AHEAD_BYTES_MIN, UNWANTED_MILLIS},
};

/// Offsets of the messages that are loaded.
fn loaded(backlog: &Backlog) -> Vec<u64> {
    let mut partitions = backlog.host.engine.partitions.iter();
    let partition = partitions.next().expect("one");
    partition.loaded_messages().offsets().collect()
}

fn stream(messages_max: u64, bytes_max: u64) -> Demand {
    Demand::Stream {
        ack_deadline_millis: 600_000,
        messages_max,
        bytes_max,
        frames: 2,
    }
}

#[test]
fn a_pull_of_one_message_has_little_read_and_many_in_a_row_have_much_read_at_once() {
    let mut backlog = Backlog::new(20_000, 1_000);
    backlog.pull_one();
    assert_eq!(backlog.bytes_read, READ_AHEAD_BYTES_MIN);
    assert!(loaded(&backlog).len() < READ_AHEAD_BYTES_MIN / 1_000);
    for _ in 1..20_000 {
        let lease = backlog.pull_one();
        backlog.handle(Input::Ack(vec![lease]));
    }
    // As many as with the largest reads, and those on the way there.
    let largest = PREFETCH_MESSAGES_MAX.min(PREFETCH_BYTES_MAX / 2 / 1_000);
    assert!(
        backlog.reads.len() <= 20_000 / largest + 7,
        "{:?}",
        backlog.reads
    );
}

#[test]
fn twice_as_much_is_read_as_a_stream_takes() {
    let mut backlog = Backlog::new(6_000, 1_000);
    let consumer = ConsumerId(1);
    let demand = stream(1_000, u64::MAX);
    let leases = backlog.handle(Input::Open { consumer, demand });
    assert_eq!(leases.len(), 1_000);
    assert_eq!(
        (&*backlog.reads, loaded(&backlog).len()),
        (&[2_000][..], 1_000)
    );
}

#[test]
fn a_stream_that_takes_few_bytes_has_few_read() {
    let mut backlog = Backlog::new(6_000, 1_000);
    let consumer = ConsumerId(1);
    let demand = stream(u64::MAX, 100_000);
    assert_eq!(backlog.handle(Input::Open { consumer, demand }).len(), 100);
    assert_eq!(backlog.bytes_read, 200_000);
}

#[test]
fn what_nobody_wants_for_a_second_is_dropped_and_read_again_when_it_is_wanted() {
    let mut backlog = Backlog::new(500, 10);
    let leases = backlog.pull(10);
    backlog.nack([leases[7], leases[2]]);
    let before = loaded(&backlog);
    backlog.wait(UNWANTED_MILLIS - 1);
    assert_eq!(loaded(&backlog), before);
    assert!(before.len() > 20 && before.contains(&2) && before.contains(&7));
    backlog.reads.clear();
    backlog.wait(1);
    assert!(loaded(&backlog).is_empty());
    backlog.wait(5_000);
    assert!(backlog.reads.is_empty(), "nobody wants anything");
    let mut came: Vec<_> = (0..5).map(|_| backlog.pull_one()).collect();
    let again = came.extract_if(.., |lease| lease.number > 1);
    let again: Vec<u64> = again.map(|lease| lease.offset).collect();
    assert_eq!(again, [7, 2], "in the order in which they came back");
    let fresh: Vec<u64> = came.iter().map(|lease| lease.offset).collect();
    assert_eq!(fresh, [10, 11, 12]);
}

#[test]
fn what_comes_while_nobody_is_there_is_not_read() {
    let mut backlog = Backlog::new(100, 10);
    let lease = backlog.pull_one();
    backlog.wait(5_000);
    backlog.reads.clear();
    backlog.nack([lease]);
    assert!(backlog.reads.is_empty());
    assert!(backlog.pulls_until(0) <= 2);
}

#[test]
fn what_is_taken_again_and_again_stays() {
    let mut backlog = Backlog::new(64, 10);
    for _ in 0..50 {
        let lease = backlog.pull_one();
        backlog.handle(Input::Ack(vec![lease]));
        backlog.wait(UNWANTED_MILLIS / 2);
    }
    assert_eq!(backlog.reads.len(), 1);
}
