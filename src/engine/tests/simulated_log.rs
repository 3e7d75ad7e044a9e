//! A log in memory, with gaps, damage and a tail that can be lost.

use std::{collections::BTreeSet, ops::Range};

use bytes::Bytes;

use crate::{
    clock::Timestamp,
    engine::input::{Input, LoadedMessage, OrderingKey},
    limits::DAMAGE_RETRY_MILLIS,
};

/// See the module.
#[derive(Debug)]
pub(super) struct SimulatedLog {
    partitions: Vec<Vec<Option<LoadedMessage>>>,
    /// Offsets that never had a record.
    gaps: BTreeSet<(u32, u64)>,
    damaged: BTreeSet<(u32, u64)>,
}

impl SimulatedLog {
    pub(super) fn new(partitions: usize) -> Self {
        Self {
            partitions: vec![Vec::new(); partitions],
            gaps: BTreeSet::new(),
            damaged: BTreeSet::new(),
        }
    }

    pub(super) fn append(&mut self, partition: u32, publish_time: Timestamp, body: Bytes) -> u64 {
        self.append_of(partition, publish_time, body, |_| None)
    }

    /// A message with the key that its offset has.
    pub(super) fn append_of(
        &mut self,
        partition: u32,
        publish_time: Timestamp,
        body: Bytes,
        key_of: impl FnOnce(u64) -> Option<OrderingKey>,
    ) -> u64 {
        let records = &mut self.partitions[partition as usize];
        let offset = records.len() as u64;
        records.push(Some(LoadedMessage {
            offset,
            publish_time,
            key: key_of(offset),
            body,
        }));
        offset
    }

    /// An offset without a record.
    pub(super) fn append_gap(&mut self, partition: u32) {
        let records = &mut self.partitions[partition as usize];
        self.gaps.insert((partition, records.len() as u64));
        records.push(None);
    }

    /// Offsets from `from` on that never had a record.
    pub(super) fn gaps(&self, partition: u32, from: u64) -> impl Iterator<Item = u64> {
        let gaps = self.gaps.range((partition, from)..(partition + 1, 0));
        gaps.map(|(_, offset)| *offset)
    }

    pub(super) fn remove(&mut self, partition: u32, offset: u64) {
        self.partitions[partition as usize][offset as usize] = None;
    }

    pub(super) fn truncate(&mut self, partition: u32, end: u64) {
        self.partitions[partition as usize].truncate(end as usize);
        for offsets in [&mut self.damaged, &mut self.gaps] {
            offsets.retain(|(of, offset)| *of != partition || *offset < end);
        }
    }

    pub(super) fn damage(&mut self, partition: u32, offset: u64) {
        self.damaged.insert((partition, offset));
    }

    pub(super) fn repair(&mut self) {
        self.damaged.clear();
    }

    pub(super) fn ends(&self) -> Vec<u64> {
        self.partitions.iter().map(|p| p.len() as u64).collect()
    }

    /// Reads at most `limit` offsets.
    pub(super) fn read(
        &self,
        now: Timestamp,
        partition: u32,
        range: &Range<u64>,
        limit: u64,
    ) -> Input {
        let is_damaged = |offset: &u64| self.damaged.contains(&(partition, *offset));
        let end = self.partitions[partition as usize].len() as u64;
        if is_damaged(&range.start) {
            let until = (range.start..end)
                .find(|offset| !is_damaged(offset))
                .unwrap_or(end);
            return Input::Damaged {
                partition,
                from: range.start,
                until,
                retry_at: now.plus_millis(DAMAGE_RETRY_MILLIS),
            };
        }
        let until = range.end.min(end).min(range.start + limit);
        let next = (range.start..until).find(is_damaged).unwrap_or(until);
        Input::Loaded {
            partition,
            from: range.start,
            next,
            messages: self.partitions[partition as usize][range.start as usize..next as usize]
                .iter()
                .flatten()
                .cloned()
                .collect(),
            filtered_bytes: 0,
        }
    }
}
