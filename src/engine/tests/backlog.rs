//! One partition with messages, consumed by pulls.

use bytes::Bytes;

use super::host::Host;
use crate::{
    clock::Timestamp,
    engine::{
        input::{Config, ConsumerId, Demand, Input, LeaseId},
        output::Output,
    },
};

/// A subscription whose reads are answered at once, as far as the log's answer goes.
pub(super) struct Backlog {
    pub(super) host: Host,
    pulls: u64,
    message_bytes: usize,
    /// How many offsets each read asked for.
    pub(super) reads: Vec<u64>,
    /// How many bytes the last one asked for.
    pub(super) bytes_read: usize,
}

impl Backlog {
    pub(super) fn new(messages: u64, bytes: usize) -> Self {
        let config = Config {
            ack_deadline_millis: 10_000,
            retention_millis: 604_800_000,
            exactly_once: false,
            retry: None,
            attempts_max: None,
            is_ordered: false,
        };
        let mut host = Host::new(Timestamp::from_millis(1_000_000_000_000), config, 1);
        for _ in 0..messages {
            host.log.append(0, host.now, Bytes::from(vec![0; bytes]));
        }
        Self {
            message_bytes: bytes,
            ..Self::of(host)
        }
    }

    /// With what is in the log of this one, in small messages.
    pub(super) fn of(host: Host) -> Self {
        let mut backlog = Self {
            host,
            pulls: 0,
            message_bytes: 0,
            reads: Vec::new(),
            bytes_read: 0,
        };
        let seen = backlog.host.log.ends();
        backlog.handle(Input::LogEnds(seen));
        backlog
    }

    /// Tells the engine, answers its reads, and returns what was delivered.
    pub(super) fn handle(&mut self, input: Input) -> Vec<LeaseId> {
        let mut out = self.host.handle(input);
        let mut delivered = Vec::new();
        loop {
            for output in out.drain(..) {
                if let Output::Deliver { deliveries, .. } = output {
                    delivered.extend(deliveries.iter().map(|it| it.lease));
                }
            }
            let Some(read) = self.host.reads.front() else {
                return delivered;
            };
            self.reads.push(read.range.end - read.range.start);
            self.bytes_read = read.bytes_max;
            let messages = (read.bytes_max / self.message_bytes.max(1)) as u64;
            out = self.host.answer_read(messages.max(1), false);
        }
    }

    pub(super) fn pull(&mut self, messages_max: usize) -> Vec<LeaseId> {
        self.pulls += 1;
        let consumer = ConsumerId(self.pulls);
        let demand = Demand::Pull {
            messages_max,
            immediate: true,
        };
        self.handle(Input::Open { consumer, demand })
    }

    pub(super) fn pull_one(&mut self) -> LeaseId {
        self.pull(1)[0]
    }

    pub(super) fn nack(&mut self, leases: impl IntoIterator<Item = LeaseId>) {
        let changes = leases.into_iter().map(|lease| (lease, 0)).collect();
        self.handle(Input::ModifyDeadline(changes));
    }

    /// How many pulls of one message it takes until this offset comes.
    pub(super) fn pulls_until(&mut self, offset: u64) -> usize {
        let mut pulls = 1;
        while self.pull_one().offset != offset {
            pulls += 1;
        }
        pulls
    }

    /// Lets time pass, and what comes due happen in time.
    pub(super) fn wait(&mut self, millis: u64) {
        let until = self.host.now.plus_millis(millis);
        while let Some(next) = self.host.engine.next_deadline() {
            if next > until {
                break;
            }
            self.host.now = next;
            self.handle(Input::Tick);
        }
        self.host.now = until;
    }
}
