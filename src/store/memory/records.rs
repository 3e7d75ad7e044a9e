//! Documents in memory.

use std::ops::Bound;

use async_trait::async_trait;
use bytes::Bytes;

use super::MemoryState;
use crate::{
    resource::name::ProjectName,
    store::{
        Records, StoreError,
        records::{Record, RecordKey, WriteError},
    },
};

#[async_trait]
impl Records for MemoryState {
    async fn record(&self, key: &RecordKey) -> Result<Option<Record>, StoreError> {
        self.with(|tables| Ok(tables.records.get(key).cloned()))
    }

    async fn put_record(
        &self,
        key: &RecordKey,
        read: Option<&Record>,
        needs: u32,
        body: &Bytes,
    ) -> Result<u64, WriteError> {
        if let Some(read) = read {
            read.check_known()?;
        }
        self.with(|tables| {
            let found = tables.records.get(key).map(|record| record.etag);
            if found != read.map(|record| record.etag) {
                return Err(WriteError::Changed);
            }
            tables.last_etag += 1;
            let record = Record {
                key: key.clone(),
                etag: tables.last_etag,
                needs,
                body: body.clone(),
            };
            tables.records.insert(key.clone(), record);
            Ok(tables.last_etag)
        })
    }

    async fn delete_record(&self, key: &RecordKey, etag: u64) -> Result<(), WriteError> {
        self.with(|tables| {
            if tables.records.get(key).map(|record| record.etag) != Some(etag) {
                return Err(WriteError::Changed);
            }
            tables.records.remove(key);
            Ok(())
        })
    }

    async fn list_records(
        &self,
        kind: &str,
        project: &ProjectName,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Record>, StoreError> {
        let first = RecordKey {
            kind: kind.to_owned().into(),
            project: project.clone(),
            name: after.unwrap_or_default().to_owned(),
        };
        self.with(|tables| {
            let behind = (Bound::Excluded(&first), Bound::Unbounded);
            Ok(tables
                .records
                .range(behind)
                .map(|(_, record)| record)
                .take_while(|record| record.key.kind == kind && record.key.project == *project)
                .take(limit)
                .cloned()
                .collect())
        })
    }
}
