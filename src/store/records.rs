//! The port to documents: resources that are a name, a version and a text, of which the store knows nothing more.
//!
//! A kind of resource that fits needs no code of a backend's own.

use std::borrow::Cow;

use async_trait::async_trait;
use bytes::Bytes;
use thiserror::Error;

use super::{StoreError, resources::check_known};
use crate::resource::name::ProjectName;

/// Names a document.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordKey {
    /// What it is, as `schema`. Without `/`.
    pub kind: Cow<'static, str>,
    /// Whose it is.
    pub project: ProjectName,
    /// Its name in the project, unique among those of its kind.
    pub name: String,
}

/// A document as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Which one.
    pub key: RecordKey,
    /// Which life and version of the name this is. Never used twice, whichever document.
    pub etag: u64,
    /// The least data version that a process must have to carry it out ([`crate::resource::requirement`]).
    pub needs: u32,
    /// The document.
    pub body: Bytes,
}

impl Record {
    /// Refuses what this process does not know how to carry out.
    pub(super) fn check_known(&self) -> Result<(), StoreError> {
        check_known(&self.key.kind, &self.key.name, self.needs)
    }
}

/// Why a document was not written.
#[derive(Debug, Error)]
pub enum WriteError {
    /// What is there is not what was expected: read again and repeat.
    #[error("the document was changed meanwhile")]
    Changed,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Documents. A method that writes returns when the write is durable. Other nodes are told of each write
/// ([`super::membership::Change::RecordChanged`]).
#[async_trait]
pub trait Records: Send + Sync + 'static {
    /// The document of that name.
    async fn record(&self, key: &RecordKey) -> Result<Option<Record>, StoreError>;
    /// Writes a document over the one that was `read`, or a new one, if that is still what is there. Returns its
    /// etag. [`StoreError::Newer`] where this process does not know how to carry out what was read.
    async fn put_record(
        &self,
        key: &RecordKey,
        read: Option<&Record>,
        needs: u32,
        body: &Bytes,
    ) -> Result<u64, WriteError>;
    /// Deletes a document if it has this etag.
    async fn delete_record(&self, key: &RecordKey, etag: u64) -> Result<(), WriteError>;
    /// Documents of a kind and a project in order of name, behind `after`, at most `limit`.
    async fn list_records(
        &self,
        kind: &str,
        project: &ProjectName,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Record>, StoreError>;
}
