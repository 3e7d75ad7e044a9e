//! What `delivery::host` does for an engine, one step at a time.

use std::{collections::VecDeque, ops::Range};

use super::{simulated_log::SimulatedLog, stored::Stored};
use crate::{
    clock::Timestamp,
    engine::{
        Engine,
        change::PartitionChange,
        input::{Config, Input},
        output::{Output, Verdict},
    },
    limits::READ_RETRY_MILLIS,
};

/// A read that the engine asked for.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) partition: u32,
    pub(super) range: Range<u64>,
    pub(super) bytes_max: usize,
}

/// An engine with its log, its store and the time.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) now: Timestamp,
    pub(super) config: Config,
    /// Of the engine.
    pub(super) epoch: u64,
    pub(super) engine: Engine,
    pub(super) log: SimulatedLog,
    pub(super) stored: Stored,
    pub(super) reads: VecDeque<Request>,
    pub(super) in_flight: Option<Vec<PartitionChange>>,
}

impl Host {
    pub(super) fn new(now: Timestamp, config: Config, partitions: usize) -> Self {
        let log = SimulatedLog::new(partitions);
        let (engine, _) =
            Engine::restore(now, config, &[], &log.ends(), 1).expect("nothing is damaged");
        Self {
            now,
            config,
            epoch: 1,
            engine,
            log,
            stored: Stored::default(),
            reads: VecDeque::new(),
            in_flight: None,
        }
    }

    /// What the engine wants of consumers; reads are queued.
    pub(super) fn handle(&mut self, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        self.engine.handle(self.now, input, &mut out);
        self.queue_reads(&mut out);
        out
    }

    /// As [`Host::handle`], with what each id of the request found.
    pub(super) fn handle_with_verdicts(&mut self, input: Input) -> (Vec<Output>, Vec<Verdict>) {
        let (mut out, mut verdicts) = (Vec::new(), Vec::new());
        let engine = &mut self.engine;
        engine.handle_with_verdicts(self.now, input, &mut out, &mut verdicts);
        self.queue_reads(&mut out);
        (out, verdicts)
    }

    fn queue_reads(&mut self, out: &mut Vec<Output>) {
        out.retain(|output| {
            let Output::Read {
                partition,
                range,
                bytes_max,
            } = output
            else {
                return true;
            };
            assert!(!range.is_empty());
            assert!(self.reads.iter().all(|read| read.partition != *partition));
            self.reads.push_back(Request {
                partition: *partition,
                range: range.clone(),
                bytes_max: *bytes_max,
            });
            false
        });
    }

    pub(super) fn publish_is_seen(&mut self) -> Vec<Output> {
        self.handle(Input::LogEnds(self.log.ends()))
    }

    /// Answers the oldest read with at most `limit` offsets.
    pub(super) fn answer_read(&mut self, limit: u64, fails: bool) -> Vec<Output> {
        let Some(Request {
            partition, range, ..
        }) = self.reads.pop_front()
        else {
            return Vec::new();
        };
        let input = if fails {
            Input::ReadFailed {
                partition,
                retry_at: self.now.plus_millis(READ_RETRY_MILLIS),
            }
        } else {
            self.log.read(self.now, partition, &range, limit)
        };
        self.handle(input)
    }

    /// Whether there was something to store. Does nothing while a flush is on its way.
    pub(super) fn start_flush(&mut self, all: bool) -> bool {
        if self.in_flight.is_none() {
            self.in_flight = self.engine.take_changes(all);
            return self.in_flight.is_some();
        }
        assert_eq!(self.engine.take_changes(all), None);
        false
    }

    pub(super) fn end_flush(&mut self, stored: bool) -> Vec<Output> {
        let Some(changes) = self.in_flight.take() else {
            return Vec::new();
        };
        if stored {
            self.stored.apply(&changes);
        }
        self.handle(Input::Flushed { stored })
    }

    /// The flush on its way is stored, and nobody hears of it.
    pub(super) fn store_flush(&mut self) {
        if let Some(changes) = self.in_flight.take() {
            self.stored.apply(&changes);
        }
    }

    /// Stores everything.
    pub(super) fn flush_all(&mut self) -> Vec<Output> {
        let mut out = self.end_flush(true);
        while self.start_flush(true) {
            out.extend(self.end_flush(true));
        }
        out
    }

    /// A new engine from what was stored; the partitions whose state was voided.
    pub(super) fn restart(&mut self) -> Vec<u32> {
        self.reads.clear();
        self.in_flight = None;
        self.epoch += 1;
        let (engine, voided) = Engine::restore(
            self.now,
            self.config,
            &self.stored.states(),
            &self.log.ends(),
            self.epoch,
        )
        .expect("nothing is damaged");
        self.engine = engine;
        voided
    }
}
