//! The random operations of the property test.

use proptest::prelude::*;

/// One step. Numbers that pick something are taken modulo how many there are.
#[derive(Clone, Copy, Debug)]
pub(super) enum Operation {
    Publish {
        partition: u32,
        messages: u16,
        gap: bool,
    },
    Open {
        client: u8,
        messages: Option<u8>,
        bytes: Option<u16>,
        frames: u8,
    },
    Room {
        pick: u16,
        frames: u8,
    },
    StreamDeadline {
        pick: u16,
        millis: u64,
    },
    Close {
        pick: u16,
    },
    Pull {
        messages: u8,
        immediate: bool,
    },
    Ack {
        pick: u16,
        run: u16,
    },
    AckForeign {
        offset: u16,
        generation: u8,
    },
    ModifyDeadline {
        pick: u16,
        run: u8,
        millis: u64,
    },
    Return {
        pick: u16,
        run: u8,
    },
    Wait {
        millis: u32,
    },
    Read {
        limit: u16,
        fails: bool,
    },
    /// Without being asked, of the state of now or of the one before it.
    Filter {
        partition: u32,
        run: u8,
        stale: bool,
    },
    /// 0 to 5: forwarded, 6 and 7: refused, else not known.
    Forwarded {
        pick: u16,
        run: u8,
        outcome: u8,
    },
    StartFlush,
    EndFlush {
        stored: bool,
    },
    /// With the flush on its way made durable or not.
    Crash {
        stored: bool,
    },
    Restart,
    LoseEnd {
        partition: u32,
        messages: u8,
    },
    Damage {
        pick: u16,
        run: u8,
    },
    Repair,
    Remove {
        pick: u16,
        run: u16,
    },
    Configure {
        ack_deadline_millis: u64,
        retention_millis: u64,
    },
    CompareWithStored,
}

pub(super) fn operations() -> impl Strategy<Value = Vec<Operation>> {
    prop::collection::vec(operation(), 1..150)
}

fn operation() -> impl Strategy<Value = Operation> {
    use Operation::*;
    let messages = prop_oneof![20 => 1u16..12, 3 => 200u16..700, 1 => 2000u16..6000];
    let run = prop_oneof![6 => 1u16..6, 3 => 1u16..400, 1 => 1u16..3000];
    let millis = prop_oneof![2 => Just(0u64), 3 => 1u64..2_000, 3 => 10_000u64..600_000];
    prop_oneof![
        10 => (0u32..2, messages, any::<bool>())
            .prop_map(|(partition, messages, gap)| Publish { partition, messages, gap }),
        5 => (0u8..4, prop::option::of(1u8..20), prop::option::of(1u16..600), 0u8..4)
            .prop_map(|(client, messages, bytes, frames)| Open { client, messages, bytes, frames }),
        8 => (any::<u16>(), 0u8..5).prop_map(|(pick, frames)| Room { pick, frames }),
        1 => (any::<u16>(), 10_000u64..60_000)
            .prop_map(|(pick, millis)| StreamDeadline { pick, millis }),
        2 => any::<u16>().prop_map(|pick| Close { pick }),
        5 => (1u8..255, any::<bool>())
            .prop_map(|(messages, immediate)| Pull { messages, immediate }),
        14 => (any::<u16>(), run.clone()).prop_map(|(pick, run)| Ack { pick, run }),
        1 => (any::<u16>(), 0u8..5)
            .prop_map(|(offset, generation)| AckForeign { offset, generation }),
        8 => (any::<u16>(), 1u8..30, millis)
            .prop_map(|(pick, run, millis)| ModifyDeadline { pick, run, millis }),
        3 => (any::<u16>(), 1u8..30).prop_map(|(pick, run)| Return { pick, run }),
        8 => prop_oneof![1u32..200, 1000u32..12_000, Just(31_000), Just(200_000)]
            .prop_map(|millis| Wait { millis }),
        20 => (prop_oneof![1u16..20, Just(u16::MAX)], prop::bool::weighted(0.1))
            .prop_map(|(limit, fails)| Read { limit, fails }),
        2 => (0u32..2, 1u8..20, prop::bool::weighted(0.1))
            .prop_map(|(partition, run, stale)| Filter { partition, run, stale }),
        6 => (any::<u16>(), 1u8..70, 0u8..10)
            .prop_map(|(pick, run, outcome)| Forwarded { pick, run, outcome }),
        8 => Just(StartFlush),
        8 => prop::bool::weighted(0.8).prop_map(|stored| EndFlush { stored }),
        2 => any::<bool>().prop_map(|stored| Crash { stored }),
        1 => Just(Restart),
        1 => (0u32..2, 1u8..200)
            .prop_map(|(partition, messages)| LoseEnd { partition, messages }),
        2 => (any::<u16>(), 1u8..10).prop_map(|(pick, run)| Damage { pick, run }),
        1 => Just(Repair),
        1 => (any::<u16>(), run).prop_map(|(pick, run)| Remove { pick, run }),
        1 => (10_000u64..30_000, prop_oneof![Just(600_000u64), Just(604_800_000)])
            .prop_map(|(ack_deadline_millis, retention_millis)| Configure {
                ack_deadline_millis,
                retention_millis,
            }),
        2 => Just(CompareWithStored),
    ]
}
