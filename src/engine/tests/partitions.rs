//! Round robin among partitions, and a log may show one later than the others.

use bytes::Bytes;

use crate::{
    clock::Timestamp,
    engine::{
        Engine,
        change::PartitionState,
        input::{Config, ConsumerId, Demand, Input, LoadedMessage},
        output::Output,
    },
};

const NOW: Timestamp = Timestamp::from_millis(1_000_000);
const CONFIG: Config = Config {
    ack_deadline_millis: 10_000,
    retention_millis: 600_000,
    exactly_once: false,
    retry: None,
    attempts_max: None,
    is_ordered: false,
};

fn stored(partition: u32, cursor: u64) -> PartitionState {
    PartitionState {
        partition,
        generation: 1,
        cursor,
        chunks: Vec::new(),
        retained: Vec::new(),
    }
}

/// What is read once the log has these ends.
fn reads(engine: &mut Engine, ends: &[u64]) -> Vec<(u32, u64)> {
    let mut out = Vec::new();
    let demand = Demand::Pull {
        messages_max: 10,
        immediate: false,
    };
    let consumer = ConsumerId(ends.len() as u64);
    engine.handle(NOW, Input::Open { consumer, demand }, &mut out);
    engine.handle(NOW, Input::LogEnds(ends.to_vec()), &mut out);
    out.into_iter()
        .filter_map(|output| match output {
            Output::Read {
                partition, range, ..
            } => Some((partition, range.start)),
            _ => None,
        })
        .collect()
}

#[test]
fn what_is_known_of_a_partition_holds_while_the_log_does_not_show_it() {
    let states = [stored(0, 3), stored(1, 5)];
    let (mut engine, voided) = Engine::restore(NOW, CONFIG, &states, &[3], 1).expect("readable");
    assert!(voided.is_empty(), "{voided:?}");
    assert_eq!(reads(&mut engine, &[3]), []);
    assert_eq!(reads(&mut engine, &[3, 9]), [(1, 5)]);
}

#[test]
fn a_partition_that_is_seen_for_the_first_time_is_read_from_its_beginning() {
    let (mut engine, _) = Engine::restore(NOW, CONFIG, &[stored(0, 3)], &[3], 1).expect("readable");
    assert_eq!(reads(&mut engine, &[3, 9]), [(1, 0)]);
}

/// An engine in whose partitions so many messages are ready.
fn loaded(messages: &[u64]) -> Engine {
    let (mut engine, _) = Engine::restore(NOW, CONFIG, &[], messages, 1).expect("readable");
    let mut out = Vec::new();
    let consumer = ConsumerId(0);
    let demand = Demand::Pull {
        messages_max: 1,
        immediate: false,
    };
    engine.handle(NOW, Input::Open { consumer, demand }, &mut out);
    engine.handle(NOW, Input::Close { consumer }, &mut out);
    out.clear();
    for (partition, messages) in (0..).zip(messages) {
        let message = |offset| LoadedMessage {
            offset,
            publish_time: NOW,
            key: None,
            body: Bytes::new(),
        };
        let loaded = Input::Loaded {
            partition,
            from: 0,
            next: *messages,
            messages: (0..*messages).map(message).collect(),
            filtered_bytes: 0,
        };
        engine.handle(NOW, loaded, &mut out);
    }
    assert_eq!(out, []);
    engine
}

/// The partitions that the next pull of so many messages gets them from, with how many from each.
fn pulled(engine: &mut Engine, pull: u64, messages_max: usize) -> Vec<(u32, usize)> {
    let mut out = Vec::new();
    let demand = Demand::Pull {
        messages_max,
        immediate: true,
    };
    let consumer = ConsumerId(pull);
    engine.handle(NOW, Input::Open { consumer, demand }, &mut out);
    let deliveries = match &out[..] {
        [Output::Deliver { deliveries, .. }] => deliveries.as_slice(),
        _ => &[],
    };
    let runs = deliveries.chunk_by(|a, b| a.lease.partition == b.lease.partition);
    runs.map(|run| (run[0].lease.partition, run.len()))
        .collect()
}

#[test]
fn a_busy_partition_holds_up_no_other() {
    let mut engine = loaded(&[100, 2, 3]);
    let order = (1..=8).map(|pull| pulled(&mut engine, pull, 1)[0].0);
    assert_eq!(order.collect::<Vec<_>>(), [0, 1, 2, 0, 1, 2, 0, 2]);
}

#[test]
fn a_frame_is_filled_from_the_next_partitions_and_the_next_one_begins_behind_them() {
    let mut engine = loaded(&[5, 5, 5]);
    assert_eq!(pulled(&mut engine, 1, 7), [(0, 5), (1, 2)]);
    assert_eq!(pulled(&mut engine, 2, 4), [(2, 4)]);
    assert_eq!(pulled(&mut engine, 3, 4), [(1, 3), (2, 1)]);
    assert_eq!(pulled(&mut engine, 4, 4), []);
}
