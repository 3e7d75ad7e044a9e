//! What happened in a run, in order: the last lines for a reader, and a hash of all of it.

use std::{
    collections::VecDeque,
    fmt::{Arguments, Write as _},
    hash::Hasher as _,
    sync::Arc,
};

use parking_lot::Mutex;
use siphasher::sip::SipHasher13;

use crate::clock::Clock;

/// Lines that are kept for a report.
const LINES_MAX: usize = 4_000;

/// See the module. Cheap to clone; all clones are the same.
#[derive(Clone)]
pub(super) struct Trace {
    clock: Clock,
    lines: Arc<Mutex<Lines>>,
}

struct Lines {
    last: VecDeque<String>,
    hash: SipHasher13,
}

impl Trace {
    /// An empty one, with the times of this clock.
    pub(super) fn new(clock: Clock) -> Self {
        let lines = Lines {
            last: VecDeque::new(),
            hash: SipHasher13::new(),
        };
        Self {
            clock,
            lines: Arc::new(Mutex::new(lines)),
        }
    }

    /// Adds a line.
    pub(super) fn note(&self, what: Arguments<'_>) {
        let mut line = String::with_capacity(80);
        write!(line, "{} {what}", self.clock.now()).expect("a string takes it");
        let mut lines = self.lines.lock();
        lines.hash.write(line.as_bytes());
        if lines.last.len() == LINES_MAX {
            lines.last.pop_front();
        }
        lines.last.push_back(line);
    }

    /// The hash of all lines so far.
    pub(super) fn hash(&self) -> u64 {
        self.lines.lock().hash.finish()
    }

    /// The last lines.
    pub(super) fn last(&self) -> Vec<String> {
        self.lines.lock().last.iter().cloned().collect()
    }
}
