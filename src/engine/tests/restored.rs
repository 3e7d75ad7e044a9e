//! What was stored while the clock was ahead, or under other policies.

use bytes::Bytes;

use crate::{
    clock::Timestamp,
    engine::{
        Engine,
        change::{PartitionState, StoredChunk},
        chunk::{self, Delivered, Slot},
        input::{Config, ConsumerId, Demand, Input, LoadedMessage},
        output::Output,
    },
};

const NOW: Timestamp = Timestamp::from_millis(10_000_000);
const CONFIG: Config = Config {
    ack_deadline_millis: 10_000,
    retention_millis: 600_000,
    exactly_once: false,
    retry: None,
    attempts_max: None,
    is_ordered: false,
};
/// As a clock said that was an hour ahead.
const DELIVERED: Delivered = Delivered {
    time: NOW.plus_millis(3_600_000),
    number: 1,
    attempts: 0,
};

/// The engine of a subscription with these slots, which asks for one message.
fn restored(slots: &[Slot]) -> (Engine, Vec<Output>) {
    restored_under(CONFIG, slots)
}

/// The same under another configuration.
fn restored_under(config: Config, slots: &[Slot]) -> (Engine, Vec<Output>) {
    let state = PartitionState {
        partition: 0,
        generation: 1,
        cursor: 0,
        chunks: vec![StoredChunk {
            index: 0,
            done_after: 0,
            body: chunk::encode(slots).expect("something to store"),
        }],
        retained: Vec::new(),
    };
    let ends = [slots.len() as u64];
    let (mut engine, _) = Engine::restore(NOW, config, &[state], &ends, 1).expect("readable");
    let open = Input::Open {
        consumer: ConsumerId(1),
        demand: Demand::Pull {
            messages_max: 1,
            immediate: false,
        },
    };
    let mut out = Vec::new();
    engine.handle(NOW, open, &mut out);
    (engine, out)
}

#[test]
fn a_lease_ends_within_the_longest_deadline_that_there_is() {
    let (engine, _) = restored(&[Slot::Leased(DELIVERED)]);
    assert_eq!(engine.next_deadline(), Some(NOW.plus_millis(600_000)));
}

/// What the engine does once it has read the message.
fn loaded(engine: &mut Engine) -> Vec<Output> {
    let message = LoadedMessage {
        offset: 0,
        publish_time: NOW,
        key: None,
        body: Bytes::from_static(b"m"),
    };
    let loaded = Input::Loaded {
        partition: 0,
        from: 0,
        next: 1,
        messages: vec![message],
        filtered_bytes: 0,
    };
    let mut out = Vec::new();
    engine.handle(NOW, loaded, &mut out);
    out
}

#[test]
fn a_failed_message_is_delivered_at_once() {
    let failed = Delivered {
        attempts: 1,
        ..DELIVERED
    };
    let (mut engine, out) = restored(&[Slot::Failed(failed)]);
    assert!(matches!(&out[..], [Output::Read { .. }]), "{out:?}");
    let out = loaded(&mut engine);
    assert!(matches!(&out[..], [Output::Deliver { .. }]), "{out:?}");
}

#[test]
fn a_backoff_goes_on_without_the_policy_and_ends_within_the_longest_that_there_is() {
    let failed = |millis| Delivered {
        time: NOW.plus_millis(millis),
        number: 1,
        attempts: 1,
    };
    for (stored, left) in [(30_000, 30_000), (3_600_000, 600_000)] {
        let (mut engine, _) = restored(&[Slot::Waiting(failed(stored))]);
        assert_eq!(engine.next_deadline(), Some(NOW.plus_millis(left)));
        let out = loaded(&mut engine);
        assert!(out.is_empty(), "{out:?}");
    }
}

#[test]
fn what_is_a_dead_letter_was_said_when_it_failed() {
    let failed = Delivered {
        time: NOW,
        number: 7,
        attempts: 7,
    };
    let policy = Config {
        attempts_max: Some(5),
        ..CONFIG
    };
    let is_forwarded = |config, slot| {
        let (_, out) = restored_under(config, &[slot]);
        out.iter().any(|out| matches!(out, Output::Forward { .. }))
    };
    assert!(is_forwarded(policy, Slot::Dead(failed)));
    // The policy that it failed under allowed more.
    assert!(!is_forwarded(policy, Slot::Failed(failed)));
    // There is none any more.
    assert!(!is_forwarded(CONFIG, Slot::Dead(failed)));
}
