//! What scenario files cannot tell of exactly-once delivery: two deliveries with one number, and how much is remembered.

use bytes::Bytes;

use super::host::Host;
use crate::{
    clock::Timestamp,
    engine::{
        input::{Config, ConsumerId, Demand, Input, LeaseId},
        output::{Output, Verdict},
    },
    limits::{CHUNK_OFFSETS, CONFIRMED_MILLIS, CONFIRMED_STEP_MILLIS},
};

const NOW: Timestamp = Timestamp::from_millis(1_000_000_000_000);
const CONFIG: Config = Config {
    ack_deadline_millis: 600_000,
    retention_millis: 604_800_000,
    exactly_once: true,
    retry: None,
    attempts_max: None,
    is_ordered: false,
};

fn host(config: Config, messages: u64) -> Host {
    let mut host = Host::new(NOW, config, 1);
    for _ in 0..messages {
        host.log.append(0, NOW, Bytes::new());
    }
    host.publish_is_seen();
    host
}

impl Host {
    /// What a pull of so many messages gets.
    fn pull(&mut self, consumer: u64, messages_max: usize) -> Vec<LeaseId> {
        let demand = Demand::Pull {
            messages_max,
            immediate: false,
        };
        let consumer = ConsumerId(consumer);
        let mut out = self.handle(Input::Open { consumer, demand });
        while !self.reads.is_empty() {
            out.extend(self.answer_read(u64::MAX >> 1, false));
        }
        if self.config.exactly_once {
            out.extend(self.flush_all());
        }
        let frames = out.into_iter().filter_map(|output| match output {
            Output::Deliver { deliveries, .. } => Some(deliveries),
            _ => None,
        });
        frames.flatten().map(|delivery| delivery.lease).collect()
    }
}

#[test]
fn the_id_of_a_lease_that_was_lost_in_a_crash_names_no_later_one() {
    let at_least_once = Config {
        exactly_once: false,
        ..CONFIG
    };
    let mut host = host(at_least_once, 1);
    let lost = host.pull(1, 1);
    host.restart();
    host.publish_is_seen();
    let again = host.pull(2, 1);
    assert_eq!((lost[0].number, again[0].number), (1, 1));
    let nack = |lease| Input::ModifyDeadline(vec![(lease, 0)]);
    let (_, verdicts) = host.handle_with_verdicts(nack(lost[0]));
    assert_eq!(verdicts, [Verdict::Ended]);
    // Nor does it when that one was stored.
    host.flush_all();
    let (_, verdicts) = host.handle_with_verdicts(nack(again[0]));
    assert_eq!(verdicts, [Verdict::Applied]);
}

#[test]
fn a_stored_lease_is_named_by_its_id_after_restarts() {
    let mut host = host(CONFIG, 2);
    let leases = host.pull(1, 2);
    host.restart();
    host.restart();
    let (_, verdicts) = host.handle_with_verdicts(Input::Ack(leases));
    assert_eq!(verdicts, [Verdict::Applied; 2]);
}

#[test]
fn what_was_acknowledged_is_removed_from_the_store_after_ten_minutes() {
    let mut host = host(CONFIG, 3 * CHUNK_OFFSETS);
    let rows = |host: &Host| host.stored.states()[0].retained.len();
    let mut acked = Vec::new();
    for consumer in 1..=3 {
        acked = host.pull(consumer, CHUNK_OFFSETS as usize);
        host.handle(Input::Ack(acked.clone()));
        host.flush_all();
    }
    assert_eq!(rows(&host), 3);
    host.restart();
    let (_, verdicts) = host.handle_with_verdicts(Input::Ack(acked.clone()));
    assert!(verdicts.iter().all(|it| *it == Verdict::Applied));
    host.now = NOW.plus_millis(CONFIRMED_MILLIS + CONFIRMED_STEP_MILLIS);
    host.handle(Input::Tick);
    host.flush_all();
    assert_eq!(rows(&host), 0);
    let (_, verdicts) = host.handle_with_verdicts(Input::Ack(acked));
    assert!(verdicts.iter().all(|it| *it == Verdict::Done));
}
