//! What came back is delivered soon, whatever waits behind it, and holds nothing up.

use super::backlog::Backlog;
use crate::{
    engine::input::{ConsumerId, Demand, Input},
    limits::{REDELIVERY_BYTES_MAX, REDELIVERY_MESSAGES_MAX},
};

#[test]
fn a_nacked_message_comes_back_at_once_before_a_long_backlog() {
    let mut backlog = Backlog::new(6_000, 10);
    let lease = backlog.pull_one();
    backlog.nack([lease]);
    assert!(backlog.pulls_until(0) <= 2);
}

#[test]
fn an_expired_message_comes_back_at_once_before_a_long_backlog() {
    let mut backlog = Backlog::new(6_000, 10);
    assert_eq!(backlog.pull_one().offset, 0);
    backlog.wait(10_000);
    assert!(backlog.pulls_until(0) <= 2);
}

#[test]
fn a_stream_at_its_limit_gets_what_it_nacks_as_its_next_or_the_one_after() {
    let mut backlog = Backlog::new(6_000, 10);
    let demand = Demand::Stream {
        ack_deadline_millis: 600_000,
        messages_max: 10,
        bytes_max: u64::MAX,
        frames: u32::MAX,
    };
    let consumer = ConsumerId(1);
    let first = backlog.handle(Input::Open { consumer, demand });
    assert_eq!(first.len(), 10);
    let nacked = backlog.handle(Input::ModifyDeadline(vec![(first[4], 0)]));
    let acked = backlog.handle(Input::Ack(vec![first[5]]));
    let next = [nacked, acked].concat();
    assert_eq!(next.len(), 2);
    assert!(next.iter().any(|lease| lease.offset == 4), "{next:?}");
}

#[test]
fn what_is_always_nacked_takes_at_most_every_second_place() {
    let mut backlog = Backlog::new(4_001, 1_000);
    let mut delivered = 0;
    for _ in 0..8_001 {
        let lease = backlog.pull_one();
        if lease.offset == 0 {
            backlog.nack([lease]);
        } else {
            delivered += 1;
            backlog.handle(Input::Ack(vec![lease]));
        }
    }
    assert_eq!(delivered, 4_000);
}

#[test]
fn a_failed_message_waits_for_those_that_failed_before_it_and_no_others() {
    let mut backlog = Backlog::new(100, 10);
    let leases = backlog.pull(50);
    backlog.nack([leases[30]]);
    backlog.nack(leases[..20].iter().copied());
    let mut came = Vec::new();
    for _ in 0..42 {
        let lease = backlog.pull_one();
        if lease.number > 1 {
            came.push(lease.offset);
            // It fails over and over, and keeps no other from its place.
            backlog.nack([lease]);
        }
    }
    let expected: Vec<u64> = [30].into_iter().chain(0..20).collect();
    assert_eq!(came, expected);
}

#[test]
fn sparse_redeliveries_are_read_together_when_little_lies_between() {
    let mut backlog = Backlog::new(10_000, 10);
    let mut leases = Vec::new();
    while leases.len() < 10_000 {
        leases.extend(backlog.pull(1_000));
    }
    backlog.reads.clear();
    backlog.nack(leases.iter().step_by(20).copied());
    let again: usize = (0..500).map(|_| backlog.pull(1).len()).sum();
    assert_eq!(again, 500);
    assert!(backlog.reads.len() <= 5, "{:?}", backlog.reads);
}

#[test]
fn sparse_redeliveries_of_large_messages_are_read_one_by_one() {
    let mut backlog = Backlog::new(40, 100_000);
    let leases: Vec<_> = (0..2).flat_map(|_| backlog.pull(1_000)).collect();
    assert_eq!(leases.len(), 40);
    backlog.reads.clear();
    backlog.nack([leases[1], leases[3], leases[20], leases[21], leases[39]]);
    assert_eq!(backlog.pull(10).len(), 5);
    assert_eq!(backlog.reads, [3, 2, 1]);
}

#[test]
fn what_comes_back_is_read_ahead_within_a_bound_of_its_own() {
    let mut backlog = Backlog::new(20_000, 10);
    let mut leases = Vec::new();
    while leases.len() < 10_000 {
        leases.extend(backlog.pull(1_000));
    }
    let ready = |backlog: &Backlog| {
        let mut partitions = backlog.host.engine.partitions.iter();
        let loaded = partitions.next().expect("one").loaded_messages();
        (loaded.fresh().count(), loaded.again().count())
    };
    let (fresh, _) = ready(&backlog);
    backlog.nack(leases);
    let (still_fresh, again) = ready(&backlog);
    assert_eq!(fresh, still_fresh, "a backlog gives up its place");
    assert!((1..=REDELIVERY_MESSAGES_MAX).contains(&again), "{again}");
    const { assert!(REDELIVERY_BYTES_MAX >= 10 * REDELIVERY_MESSAGES_MAX) };
}
