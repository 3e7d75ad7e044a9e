//! Partitions that a log shows later than the others.

use crate::{
    clock::Timestamp,
    engine::{
        Engine,
        change::PartitionState,
        input::{Config, ConsumerId, Demand, Input},
        output::Output,
    },
};

const NOW: Timestamp = Timestamp::from_millis(1_000_000);
const CONFIG: Config = Config {
    ack_deadline_millis: 10_000,
    retention_millis: 600_000,
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
    let (mut engine, voided) = Engine::restore(CONFIG, &states, &[3]).expect("readable");
    assert!(voided.is_empty(), "{voided:?}");
    assert_eq!(reads(&mut engine, &[3]), []);
    assert_eq!(reads(&mut engine, &[3, 9]), [(1, 5)]);
}

#[test]
fn a_partition_that_is_seen_for_the_first_time_is_read_from_its_beginning() {
    let (mut engine, _) = Engine::restore(CONFIG, &[stored(0, 3)], &[3]).expect("readable");
    assert_eq!(reads(&mut engine, &[3, 9]), [(1, 0)]);
}
