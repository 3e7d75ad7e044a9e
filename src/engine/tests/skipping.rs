//! What a filter leaves out is skipped: reads go on behind it, it costs no flush of its own, and no pull waits for it for
//! long.

use bytes::Bytes;

use super::host::Host;
use crate::{
    clock::Timestamp,
    engine::{
        input::{Config, ConsumerId, Demand, Input, LoadedMessage},
        output::Output,
    },
    limits::{PULL_SKIP_MILLIS, SKIP_FLUSH_MILLIS},
};

const MESSAGES: usize = 1_000_000;

/// A subscription to a long log, of which it wants one message in `every`, the last of these.
struct Filtered {
    host: Host,
    every: u64,
    message_bytes: u64,
}

impl Filtered {
    fn new(every: u64, message_bytes: u64) -> Self {
        let config = Config {
            ack_deadline_millis: 10_000,
            retention_millis: 604_800_000,
            exactly_once: false,
            retry: None,
            attempts_max: None,
            is_ordered: false,
        };
        let mut host = Host::new(Timestamp::from_millis(1_000_000_000_000), config, 1);
        host.handle(Input::LogEnds(vec![MESSAGES as u64]));
        Self {
            host,
            every,
            message_bytes,
        }
    }

    fn open(&mut self, consumer: u64, demand: Demand) -> Vec<Output> {
        let consumer = ConsumerId(consumer);
        self.host.handle(Input::Open { consumer, demand })
    }

    fn pull(&mut self, consumer: u64) -> Vec<Output> {
        let demand = Demand::Pull {
            messages_max: 10,
            immediate: true,
        };
        self.open(consumer, demand)
    }

    /// Answers a read; returns how many offsets it read, and what came of it.
    fn answer_read(&mut self) -> (u64, Vec<Output>) {
        let read = self.host.reads.pop_front().expect("a read");
        let from = read.range.start;
        let most = (read.bytes_max as u64 / self.message_bytes).max(1);
        let next = read.range.end.min(from + most);
        let wanted = (from..next).filter(|offset| (offset + 1) % self.every == 0);
        let messages: Vec<_> = wanted
            .map(|offset| LoadedMessage {
                offset,
                publish_time: self.host.now,
                key: None,
                body: Bytes::from(vec![0; self.message_bytes as usize]),
            })
            .collect();
        let filtered = next - from - messages.len() as u64;
        let loaded = Input::Loaded {
            partition: 0,
            from,
            next,
            messages,
            filtered_bytes: filtered * self.message_bytes,
        };
        (next - from, self.host.handle(loaded))
    }
}

#[test]
fn a_pull_that_does_not_wait_is_answered_empty_after_a_second_and_the_next_goes_on_from_there() {
    let mut filtered = Filtered::new(u64::MAX, 1000);
    filtered.host.now = Timestamp::from_millis(1);
    let (mut consumer, mut read) = (0, 0);
    while consumer < 3 {
        assert_eq!(filtered.pull(consumer), []);
        let start = filtered.host.now;
        loop {
            let now = filtered.host.now.plus_millis(100);
            filtered.host.now = now;
            assert_eq!(filtered.host.reads[0].range.start, read);
            let (offsets, out) = filtered.answer_read();
            read += offsets;
            let waited = now.millis_since(start);
            // The first read that finds nothing begins the second.
            if waited <= PULL_SKIP_MILLIS {
                assert_eq!(out, [], "{waited}");
                continue;
            }
            let empty = Output::Empty {
                consumer: ConsumerId(consumer),
                damaged: false,
            };
            assert_eq!(out, [empty]);
            break;
        }
        consumer += 1;
    }
}

#[test]
fn a_pull_gets_what_lies_behind_what_is_skipped_for_less_than_a_second() {
    let mut filtered = Filtered::new(5000, 10);
    let mut out = filtered.pull(0);
    for (consumer, offset) in [(0, 4999), (1, 9999)] {
        while out.is_empty() {
            filtered.host.now = filtered.host.now.plus_millis(100);
            out = filtered.answer_read().1;
        }
        let Output::Deliver { deliveries, .. } = &out[0] else {
            panic!("{out:?}");
        };
        assert_eq!(deliveries[0].lease.offset, offset);
        out = filtered.pull(consumer + 1);
    }
}

#[test]
fn what_is_skipped_is_stored_a_second_later_and_nothing_is_brought_forward_by_it() {
    let mut filtered = Filtered::new(u64::MAX, 1000);
    let demand = Demand::Stream {
        ack_deadline_millis: 10_000,
        messages_max: u64::MAX,
        bytes_max: u64::MAX,
        frames: 2,
    };
    filtered.open(0, demand);
    let start = filtered.host.now;
    while filtered.host.now.millis_since(start) < SKIP_FLUSH_MILLIS {
        filtered.answer_read();
        assert!(!filtered.host.start_flush(false));
        filtered.host.now = filtered.host.now.plus_millis(100);
    }
    filtered.host.handle(Input::Tick);
    assert!(filtered.host.start_flush(false));
    let changes = filtered.host.in_flight.as_ref().expect("a flush");
    assert!(changes[0].cursor > 0);
    assert_eq!((&*changes[0].put, &*changes[0].delete), (&[][..], &[][..]));
}

#[test]
fn reads_are_as_large_as_the_messages_that_are_filtered() {
    let mut filtered = Filtered::new(10, 1000);
    let demand = Demand::Stream {
        ack_deadline_millis: 10_000,
        messages_max: 1000,
        bytes_max: u64::MAX,
        frames: 2,
    };
    filtered.open(0, demand);
    filtered.answer_read();
    // About twice the 1000 messages that are wanted, of 1000 bytes each, whatever the filter does with them.
    let bytes = filtered.host.reads[0].bytes_max;
    assert!((1_500_000..2_500_000).contains(&bytes), "{bytes}");
}
