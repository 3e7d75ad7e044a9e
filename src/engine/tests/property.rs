//! Random operations, with crashes at every point: nothing acknowledged returns, nothing else is lost, and nobody
//! gets what another consumer has.
//!
//! - `steps`: the operations.
//! - `checks`: what holds after each, and in the end.

mod checks;
mod steps;

use std::{collections::BTreeMap, env};

use proptest::prelude::*;

use super::{
    host::Host,
    model::{Model, Position},
    operations::{Operation, operations},
};
use crate::{
    clock::Timestamp,
    engine::{
        chunk::Slot,
        input::{Config, ConsumerId, Demand, Input, LeaseId},
        partition::Partition,
        retry::Backoff,
    },
};

fn cases() -> u32 {
    if env::var_os("PACKETBOAT_LONG").is_some() {
        20_000
    } else {
        256
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: cases(),
        max_shrink_iters: 3000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn nothing_acknowledged_returns_and_nothing_else_is_lost(operations in operations()) {
        Run::new(false, Rules::default(), false).run(operations);
    }

    #[test]
    fn nothing_leaves_before_its_lease_is_durable_if_so_configured(operations in operations()) {
        Run::new(true, Rules::default(), false).run(operations);
    }

    #[test]
    fn nothing_leaves_again_before_its_failure_is_stored_and_its_backoff_over(
        operations in operations(),
        exactly_once: bool,
        min_millis in 0u64..20_000,
        more in 0u64..60_000,
    ) {
        let retry = Backoff { min_millis, max_millis: min_millis + more };
        Run::new(exactly_once, Rules::retrying(retry), false).run(operations);
    }
}

proptest! {
    // What is checked of keys is the dearer part.
    #![proptest_config(ProptestConfig {
        cases: cases() / 2,
        max_shrink_iters: 3000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn keys_keep_their_order_and_their_consumer(operations in operations()) {
        Run::new(false, Rules::default(), true).run(operations);
    }

    #[test]
    fn keys_keep_their_order_when_nothing_leaves_before_its_lease_is_durable(operations in operations()) {
        Run::new(true, Rules::default(), true).run(operations);
    }

    #[test]
    fn keys_keep_their_order_while_messages_back_off(
        operations in operations(),
        min_millis in 0u64..20_000,
        more in 0u64..60_000,
    ) {
        let retry = Backoff { min_millis, max_millis: min_millis + more };
        Run::new(false, Rules::retrying(retry), true).run(operations);
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: cases() / 2,
        max_shrink_iters: 3000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn dead_letters_are_forwarded_and_nobody_gets_them(
        operations in operations(),
        is_ordered: bool,
        exactly_once: bool,
        attempts_max in 1u32..4,
        millis in prop::option::of(0u64..20_000),
    ) {
        let rules = Rules {
            retry: millis.map(|millis| Backoff { min_millis: millis, max_millis: millis }),
            attempts_max: Some(attempts_max),
        };
        Run::new(exactly_once, rules, is_ordered).run(operations);
    }
}

/// What becomes of failed messages.
#[derive(Clone, Copy, Default)]
struct Rules {
    retry: Option<Backoff>,
    attempts_max: Option<u32>,
}

impl Rules {
    fn retrying(retry: Backoff) -> Self {
        Self {
            retry: Some(retry),
            attempts_max: None,
        }
    }
}

struct Run {
    host: Host,
    model: Model,
    consumers: u64,
    /// Acknowledged since the last flush started.
    waiting: Vec<Position>,
    /// Confirmed by the flush that is on its way.
    flushing: Vec<Position>,
    /// How many frames went to others, per partition, since it has had messages to deliver.
    passed_over: BTreeMap<u32, usize>,
    /// Messages that were handed out, per partition.
    handed_out: BTreeMap<u32, u64>,
    /// How many will have been when a failed message that is loaded has been too, at the latest.
    redelivered_by: BTreeMap<Position, u64>,
    /// The number of each lease after the last event.
    leased: BTreeMap<Position, u32>,
    /// When a consumer was last there that would have taken a message.
    wanted_at: Timestamp,
}

impl Run {
    fn new(exactly_once: bool, rules: Rules, is_ordered: bool) -> Self {
        let config = Config {
            ack_deadline_millis: 10_003,
            retention_millis: 604_800_000,
            exactly_once,
            retry: rules.retry,
            attempts_max: rules.attempts_max,
            is_ordered,
        };
        Self {
            host: Host::new(Timestamp::from_millis(1_000_000_000_001), config, 2),
            model: Model::new(is_ordered),
            consumers: 0,
            waiting: Vec::new(),
            flushing: Vec::new(),
            passed_over: BTreeMap::new(),
            handed_out: BTreeMap::new(),
            redelivered_by: BTreeMap::new(),
            leased: BTreeMap::new(),
            wanted_at: Timestamp::ZERO,
        }
    }

    fn run(mut self, operations: Vec<Operation>) {
        for operation in operations {
            self.operate(operation);
            self.check();
        }
        self.deliver_all_that_is_left();
    }

    fn handle(&mut self, input: Input) {
        let out = self.host.handle(input);
        self.take(&out);
    }

    /// The number of each lease.
    fn leases(&self) -> BTreeMap<Position, u32> {
        let mut leases = BTreeMap::new();
        for partition in self.host.engine.partitions.iter() {
            for (offset, slot) in partition.ledger().slots(0..u64::MAX) {
                if let Slot::Leased(lease) = slot {
                    leases.insert((partition.id(), offset), lease.number);
                }
            }
        }
        leases
    }

    fn generation(&self, partition: u32) -> u32 {
        self.partition(partition).ledger().generation()
    }

    fn partition(&self, partition: u32) -> &Partition {
        let mut partitions = self.host.engine.partitions.iter();
        let found = partitions.find(|it| it.id() == partition);
        found.expect("a partition of the log")
    }

    /// Those ids that still count.
    fn current(&self, leases: &[LeaseId]) -> Vec<LeaseId> {
        let is_current = |lease: &&LeaseId| lease.generation == self.generation(lease.partition);
        leases.iter().filter(is_current).copied().collect()
    }

    fn issued(&self, pick: u16, run: u16) -> Vec<LeaseId> {
        let issued = &self.model.issued;
        if issued.is_empty() {
            return Vec::new();
        }
        // Mostly newer ones: those at the end of the list.
        let back = usize::from(pick) % issued.len().min(3000) + 1;
        let from = issued.len() - back;
        issued[from..issued.len().min(from + usize::from(run))].to_vec()
    }

    fn positions(&self, pick: u16, run: u16) -> Vec<Position> {
        let positions = self.model.messages.keys();
        let from = usize::from(pick) % positions.len().max(1);
        positions.skip(from).take(run.into()).copied().collect()
    }

    fn consumer(&mut self, pick: u16) -> Option<(ConsumerId, &mut Demand)> {
        let count = self.model.consumers.len();
        let mut all = self.model.consumers.iter_mut();
        let (consumer, demand) = all.nth(usize::from(pick) % count.max(1))?;
        Some((*consumer, demand))
    }
}
