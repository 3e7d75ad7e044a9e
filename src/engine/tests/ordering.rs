//! What is known of ordering keys is bounded, costs what it is worth, and goes.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{backlog::Backlog, host::Host};
use crate::{
    clock::Timestamp,
    engine::{
        chunk::Slot,
        input::{Config, ConsumerId, Demand, Input, LeaseId, OrderingKey},
        partition::Partition,
    },
    limits::{KEY_WAITING_MAX, OUTSTANDING_MAX},
};

const CONFIG: Config = Config {
    ack_deadline_millis: 10_000,
    retention_millis: 604_800_000,
    exactly_once: false,
    retry: None,
    attempts_max: None,
    is_ordered: true,
};

/// A subscription of messages with these keys.
fn ordered(keys: impl IntoIterator<Item = u64>) -> Backlog {
    let mut host = Host::new(Timestamp::from_millis(1_000_000_000_000), CONFIG, 1);
    for key in keys {
        let key = Some(OrderingKey::new(key));
        host.log
            .append_of(0, host.now, Bytes::from_static(&[0; 10]), |_| key);
    }
    Backlog::of(host)
}

fn stream(backlog: &mut Backlog, number: u64, messages_max: u64) -> Vec<LeaseId> {
    let demand = Demand::Stream {
        ack_deadline_millis: 600_000,
        messages_max,
        bytes_max: u64::MAX,
        frames: u32::MAX,
    };
    let consumer = ConsumerId(number);
    backlog.handle(Input::Open { consumer, demand })
}

fn offsets(leases: &[LeaseId]) -> Vec<u64> {
    leases.iter().map(|lease| lease.offset).collect()
}

fn partition(backlog: &Backlog) -> &Partition {
    let mut partitions = backlog.host.engine.partitions.iter();
    partitions.next().expect("one")
}

#[test]
fn a_blocked_key_holds_no_other_up_and_is_known_up_to_a_bound() {
    const MESSAGES: u64 = 60_000;
    let others = |offset: &u64| offset % 3 == 2;
    // Two of three messages are of one key.
    let mut backlog = ordered((0..MESSAGES).map(|it| if others(&it) { it + 2 } else { 1 }));
    let mut blocked = stream(&mut backlog, 1, 1);
    assert_eq!(offsets(&blocked), [0]);
    let mut got = stream(&mut backlog, 2, 1_000);
    let mut seen = Vec::new();
    while !got.is_empty() {
        seen.extend(offsets(&got));
        assert!(partition(&backlog).waiting() <= KEY_WAITING_MAX + 5_000);
        got = backlog.handle(Input::Ack(got));
    }
    assert_eq!(seen, (0..MESSAGES).filter(others).collect::<Vec<_>>());
    assert_eq!(partition(&backlog).waiting(), KEY_WAITING_MAX);
    // Its own come from the log in order, each read for many.
    let reads = backlog.reads.len();
    let mut seen = Vec::new();
    while !blocked.is_empty() {
        seen.extend(offsets(&blocked));
        blocked = backlog.handle(Input::Ack(blocked));
        assert!(partition(&backlog).waiting() <= KEY_WAITING_MAX);
    }
    let of_key = |offset: &u64| !others(offset);
    assert_eq!(seen, (0..MESSAGES).filter(of_key).collect::<Vec<_>>());
    let reads = backlog.reads.len() - reads;
    assert!(reads < 200, "{reads} reads");
    let ordered = partition(&backlog).candidates.ordered().expect("ordered");
    assert_eq!(ordered.keys(), 0, "nothing is known of idle keys");
}

#[test]
fn new_keys_flow_soon_after_a_restart_with_many_leases() {
    const LEASED: u64 = 100_000;
    let mut backlog = ordered(0..LEASED);
    let leases = stream(&mut backlog, 1, u64::MAX);
    assert_eq!(leases.len() as u64, LEASED);
    backlog.host.flush_all();
    backlog.host.restart();
    backlog.reads.clear();
    let key = Some(OrderingKey::new(LEASED));
    let host = &mut backlog.host;
    host.log.append_of(0, host.now, Bytes::new(), |_| key);
    let ends = Input::LogEnds(host.log.ends());
    backlog.handle(ends);
    assert_eq!(offsets(&stream(&mut backlog, 2, u64::MAX)), [LEASED]);
    assert!(backlog.reads.len() < 40, "{} reads", backlog.reads.len());
}

#[test]
fn keys_come_free_however_much_was_outstanding_before_a_restart() {
    let mut backlog = ordered((0..OUTSTANDING_MAX as u64 + 10).map(|it| it % 100 + 1));
    let mut leases = stream(&mut backlog, 1, u64::MAX);
    assert!(leases.len() >= OUTSTANDING_MAX);
    backlog.host.flush_all();
    backlog.host.restart();
    stream(&mut backlog, 2, 1);
    let nacked = leases.remove(50_000);
    let changes = vec![(nacked, 0)];
    backlog.handle(Input::ModifyDeadline(changes));
    let before = nacked.offset % 100..nacked.offset;
    let of_key = before
        .step_by(100)
        .map(|offset| LeaseId { offset, ..nacked });
    let again = backlog.handle(Input::Ack(of_key.collect()));
    assert_eq!(offsets(&again), [nacked.offset]);
}

#[test]
fn of_a_key_whose_leases_end_in_one_event_the_first_has_failed() {
    let mut backlog = ordered([1, 1, 1, 2]);
    let leases = backlog.pull(4);
    let deadlines = leases.iter().zip([12_000, 11_000, 10_000, 10_000]);
    let deadlines = deadlines.map(|(lease, millis)| (*lease, millis));
    backlog.handle(Input::ModifyDeadline(deadlines.collect()));
    // Nobody looked meanwhile, as after a pause of the machine.
    backlog.host.now = backlog.host.now.plus_millis(13_000);
    backlog.handle(Input::Tick);
    let slots = partition(&backlog).ledger().slots(0..u64::MAX);
    let attempts = slots.map(|(_, slot)| match slot {
        Slot::Failed(failed) => failed.attempts,
        slot => panic!("{slot:?}"),
    });
    assert_eq!(attempts.collect::<Vec<_>>(), [1, 0, 0, 1]);
}

#[test]
fn many_keys_that_wait_for_their_consumer_cost_no_other_a_walk() {
    const KEYS: u64 = 3_000;
    let mut backlog = ordered((0..2).flat_map(|_| 1..=KEYS));
    for number in 1..=KEYS {
        assert_eq!(stream(&mut backlog, number, 1).len(), 1);
    }
    let last = KEYS + 1;
    assert!(stream(&mut backlog, last, 10).is_empty());
    let visits = |backlog: &mut Backlog| backlog.host.engine.consumers.flow().take_visits();
    visits(&mut backlog);
    let key = Some(OrderingKey::new(KEYS + 1));
    let host = &mut backlog.host;
    host.log.append_of(0, host.now, Bytes::new(), |_| key);
    let ends = Input::LogEnds(host.log.ends());
    assert_eq!(backlog.handle(ends).len(), 1);
    assert!(visits(&mut backlog) <= 2);
}

#[test]
fn what_was_dropped_is_read_again_when_its_consumer_has_credit() {
    let mut backlog = ordered([1, 1, 1]);
    let first = stream(&mut backlog, 1, 2);
    backlog.wait(2_000);
    assert!(!partition(&backlog).has_loaded(), "nobody wants it");
    // What is not wanted is not read while others want something.
    assert!(stream(&mut backlog, 2, 1).is_empty());
    assert!(!partition(&backlog).has_loaded());
    let next = backlog.handle(Input::Ack(first[..1].to_vec()));
    assert_eq!(offsets(&next), [2]);
}

#[test]
fn n_nacks_cause_n_redeliveries_in_whatever_order_they_come() {
    const MESSAGES: u64 = 50;
    for step in [1, 7, MESSAGES - 1] {
        let mut backlog = ordered((0..MESSAGES).map(|_| 1));
        let mut held: BTreeMap<u64, LeaseId> = BTreeMap::new();
        let first = stream(&mut backlog, 1, u64::MAX);
        held.extend(first.into_iter().map(|it| (it.offset, it)));
        let mut redelivered = 0;
        let ids: Vec<LeaseId> = (0..MESSAGES)
            .map(|n| held[&((n + 1) * step % MESSAGES)])
            .collect();
        for lease in ids {
            let again = backlog.handle(Input::ModifyDeadline(vec![(lease, 0)]));
            redelivered += again.len();
            held.extend(again.into_iter().map(|it| (it.offset, it)));
        }
        while let Some((_, lease)) = held.pop_first() {
            let again = backlog.handle(Input::Ack(vec![lease]));
            redelivered += again.len();
            held.extend(again.into_iter().map(|it| (it.offset, it)));
        }
        assert!(redelivered as u64 <= MESSAGES, "{redelivered} with {step}");
    }
}
