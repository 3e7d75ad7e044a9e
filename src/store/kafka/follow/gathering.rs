//! Neighbouring records on their way into the tail, so that they become few batches.

use std::sync::Arc;

use bytes::Bytes;

use super::super::known::KnownTopic;
use crate::{
    clock::Timestamp,
    store::{
        log::{Offset, Partition},
        tail::TailBatch,
    },
};

/// Records that follow each other in one partition, with one publish time.
#[derive(Debug)]
pub(in crate::store::kafka) struct Gathered {
    pub(in crate::store::kafka) topic: Arc<KnownTopic>,
    pub(in crate::store::kafka) partition: Partition,
    pub(in crate::store::kafka) batch: TailBatch,
}

/// Gathers records.
#[derive(Debug, Default)]
pub(in crate::store::kafka) struct Gathering(Option<Gathered>);

impl Gathering {
    /// Takes a record in. Returns what was gathered before if the record does not go on from there.
    pub(in crate::store::kafka) fn push(
        &mut self,
        topic: &Arc<KnownTopic>,
        partition: Partition,
        offset: Offset,
        publish_time: Timestamp,
        message: Bytes,
    ) -> Option<Gathered> {
        if let Some(Gathered {
            topic: gathered,
            partition: of,
            batch,
        }) = &mut self.0
            && Arc::ptr_eq(gathered, topic)
            && (*of, batch.publish_time) == (partition, publish_time)
            && batch.base + batch.messages.len() as u64 == offset
        {
            batch.messages.push(message);
            return None;
        }
        self.0.replace(Gathered {
            topic: Arc::clone(topic),
            partition,
            batch: TailBatch {
                base: offset,
                publish_time,
                messages: vec![message],
            },
        })
    }

    /// What was gathered.
    pub(in crate::store::kafka) fn take(&mut self) -> Option<Gathered> {
        self.0.take()
    }
}
