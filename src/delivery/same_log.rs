//! Whether a log is the one of which subscriptions' stored states speak, asked before anything is deleted by them.
//!
//! A driver compares its subscription's state with the log and voids what speaks of another one. A subscription that
//! nobody uses has no driver, and what a driver found is void in memory before it is in the store. Until then the
//! stored cursor may lie above messages that were never delivered, of a log that lost its end or was made again.

use std::{collections::BTreeMap, slice};

use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};

use super::{
    marks::{self, Marks},
    node::Node,
};
use crate::{
    engine::change::PartitionState,
    limits::COMPARED_PARTITIONS_MAX,
    resource::id::SubscriptionId,
    store::{
        StoreError,
        log::{Comparison, KnownRecord, Offset, PartitionBounds, TopicLog},
    },
};

/// Records that one partition of a log has if it is the one of which all states speak.
#[derive(Debug, Default)]
pub(super) struct SameLog {
    records: Vec<KnownRecord>,
}

impl SameLog {
    /// What tells the log of these states, which were read after it had these bounds. `None` where one of them speaks
    /// of another log already.
    pub(super) async fn of(
        node: &Node,
        log: &TopicLog,
        bounds: PartitionBounds,
        states: &BTreeMap<SubscriptionId, PartitionState>,
    ) -> Result<Option<Self>, StoreError> {
        let furthest = states.values().map(|state| state.cursor).max();
        if let Some(furthest) = furthest.filter(|furthest| *furthest > bounds.end)
            // It may have grown since.
            && furthest > end(node, log, bounds.partition).await?
        {
            return Ok(None);
        }
        if !node.log.may_lose_records() {
            return Ok(Some(Self::default()));
        }
        let asked: Vec<_> = states.keys().copied().collect();
        let positions = node.store.positions.as_ref();
        let retained = positions.retained(&asked, bounds.partition, marks::KEY);
        let mut records = Vec::new();
        for retained in retained.await? {
            let state = states.get(&retained.subscription);
            if state.is_none_or(|state| state.generation != retained.generation) {
                // It was voided since its cursor was read.
                return Ok(None);
            }
            let marks = Marks::of_row(&retained.row).unwrap_or_default();
            records.extend(marks.telling().map(|mark| mark.record(bounds.partition)));
        }
        // Subscriptions that read together have the same ones.
        records.sort_unstable_by_key(|record| record.offset);
        records.dedup();
        Ok(Some(Self { records }))
    }

    /// Whether the log has these records now, or had them until it was trimmed.
    pub(super) async fn is_there(&self, node: &Node, log: &TopicLog) -> Result<bool, StoreError> {
        let Some(highest) = self.records.last() else {
            return Ok(true);
        };
        if highest.offset >= end(node, log, highest.partition).await? {
            return Ok(false);
        }
        // One of a partition may be asked about in a call.
        let asked = self.records.iter().map(|record| {
            let compared = async move { node.log.compare(log, slice::from_ref(record)).await };
            compared.boxed()
        });
        let mut compared =
            stream::iter(asked.collect::<Vec<_>>()).buffer_unordered(COMPARED_PARTITIONS_MAX);
        while let Some(compared) = compared.try_next().await? {
            if compared.contains(&Comparison::Other) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Where the partition ends now; 0 for one that is not there.
async fn end(node: &Node, log: &TopicLog, partition: u32) -> Result<Offset, StoreError> {
    let bounds = node.log.bounds(log).await?;
    let mut same = bounds.iter().filter(|it| it.partition == partition);
    Ok(same.next().map_or(0, |bounds| bounds.end))
}
