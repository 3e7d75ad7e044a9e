//! What one of the reads that are carried out together has so far.

use super::{
    super::record::DecodedRecord,
    wanted::{Asked, Found, Wanted},
};
use crate::store::{
    StoreError,
    log::{Offset, ReadBatch},
    reading::Reading,
};

/// A read with its answer.
pub(super) type Answer = (Asked, Result<Found, StoreError>);

/// See the module.
pub(super) struct Share {
    pub(super) asked: Asked,
    pub(super) reading: Reading,
    /// Everything below has come.
    pub(super) next: Offset,
}

impl Share {
    pub(super) fn new(asked: Asked) -> Self {
        Self {
            reading: Reading::new(asked.wanted.range.clone(), asked.wanted.bytes_max),
            next: asked.wanted.range.start,
            asked,
        }
    }

    pub(super) fn limit(&mut self, bytes_max: usize) {
        let Wanted {
            range,
            bytes_max: wanted,
            ..
        } = &self.asked.wanted;
        self.reading = Reading::new(range.clone(), bytes_max.min(*wanted));
    }

    /// Takes a record in, if it is wanted and there is room. Whether the read is done.
    pub(super) fn take(&mut self, record: &DecodedRecord) -> bool {
        if record.offset < self.next {
            return false;
        }
        if !self
            .reading
            .take(record.offset, record.publish_time, &record.message)
        {
            return true;
        }
        self.next = record.offset + 1;
        self.next >= self.asked.wanted.target()
    }

    /// What it got.
    pub(super) fn finish(self) -> (Asked, ReadBatch) {
        (self.asked, self.reading.finish(self.next))
    }

    pub(super) fn answer(self) -> Answer {
        let (asked, batch) = self.finish();
        (asked, Ok(Found::Some(batch)))
    }
}
