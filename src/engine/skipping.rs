//! How long reads for a pull that wants an answer now have found nothing but what is to be skipped.

use crate::{clock::Timestamp, limits::PULL_SKIP_MILLIS};

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Skipping {
    since: Option<Timestamp>,
}

impl Skipping {
    /// A read found nothing to deliver, and went on.
    pub(super) fn note(&mut self, now: Timestamp) {
        self.since.get_or_insert(now);
    }

    /// No such pull waits any more.
    pub(super) fn end(&mut self) {
        self.since = None;
    }

    /// Whether a pull is to be answered although there may be something for it behind what was skipped.
    pub(super) fn is_long(self, now: Timestamp) -> bool {
        self.since
            .is_some_and(|since| now.millis_since(since) >= PULL_SKIP_MILLIS)
    }
}
