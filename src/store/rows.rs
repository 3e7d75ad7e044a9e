//! How resources and numbers are written into tables, whichever database has them.

use std::{collections::HashSet, fmt::Debug};

use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;

use super::{StoreError, positions::Flush};
use crate::resource::{name::ProjectName, requirement::DATA_VERSION};

/// Generation of the positions that a new subscription gets.
pub(super) const FIRST_GENERATION: u32 = 1;

/// A configuration as it is stored. New fields of a resource follow by themselves.
pub(super) fn to_json(config: &impl Serialize) -> Result<String, sqlx::Error> {
    serde_json::to_string(config).map_err(|error| sqlx::Error::Encode(error.into()))
}

/// A stored configuration.
pub(super) fn from_json<T: DeserializeOwned>(config: &str) -> Result<T, sqlx::Error> {
    serde_json::from_str(config).map_err(|error| sqlx::Error::Decode(error.into()))
}

/// A stored configuration that needs this data version. Where the version is not known, that is why it cannot be read.
pub(super) fn read_config<T: DeserializeOwned>(config: &str, needs: u32) -> Result<T, sqlx::Error> {
    from_json(config).map_err(|error| {
        if needs > DATA_VERSION {
            sqlx::Error::Decode(Unknown { needs }.into())
        } else {
            error
        }
    })
}

/// Why a configuration of a newer release cannot be read.
#[derive(Debug, Error)]
#[error("it needs data version {needs}, and this server has {DATA_VERSION}; use a newer release")]
struct Unknown {
    needs: u32,
}

/// What a failure to read a row means, if a newer release has written the row.
pub(super) fn newer(error: &sqlx::Error) -> Option<StoreError> {
    let (sqlx::Error::Decode(source) | sqlx::Error::ColumnDecode { source, .. }) = error else {
        return None;
    };
    let Unknown { needs } = source.downcast_ref()?;
    Some(StoreError::Newer {
        what: "a stored configuration".to_owned(),
        needs: *needs,
        known: DATA_VERSION,
    })
}

/// A stored value that is not one.
pub(super) fn invalid(error: impl Debug) -> sqlx::Error {
    sqlx::Error::Decode(format!("{error:?}").into())
}

/// A row of a list, unless it cannot be read: then it is logged and left out.
pub(super) fn readable<T>(name: &str, row: Result<T, sqlx::Error>) -> Option<T> {
    row.inspect_err(
        |error| tracing::error!(name, %error, "a row cannot be read and is left out of lists"),
    )
    .ok()
}

/// A list that is read until it has as many readable rows as are wanted: one that cannot be read must not end a page
/// early.
#[derive(Debug)]
pub(super) struct Listing<T> {
    found: Vec<T>,
    after: String,
    limit: usize,
    is_complete: bool,
}

impl<T> Listing<T> {
    /// At most `limit` rows behind the name `after`.
    pub(super) const fn new(after: String, limit: usize) -> Self {
        Self {
            found: Vec::new(),
            after,
            limit,
            is_complete: limit == 0,
        }
    }

    /// Behind which name to read, and how many rows, unless there is nothing left to read.
    pub(super) fn next(&self) -> Option<(&str, i64)> {
        let wanted = self.limit - self.found.len();
        (!self.is_complete).then_some((&self.after, to_sql(wanted as u64)))
    }

    /// Takes in what was read: each row's name, and the row if it can be read.
    pub(super) fn add(&mut self, rows: impl IntoIterator<Item = (String, Result<T, sqlx::Error>)>) {
        let wanted = self.limit - self.found.len();
        let mut read = 0;
        for (name, row) in rows {
            read += 1;
            self.found.extend(readable(&name, row));
            self.after = name;
        }
        self.is_complete = read < wanted || self.found.len() == self.limit;
    }

    /// The rows.
    pub(super) fn found(self) -> Vec<T> {
        self.found
    }
}

/// For databases, whose integers are signed: what does not fit is as good as "for ever" where it may occur.
pub(super) fn to_sql(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Back from [`to_sql`]. Ours are never negative; a damaged one must not panic.
pub(super) const fn from_sql(value: i64) -> u64 {
    value.cast_unsigned()
}

/// Between which names those of a project's resources lie.
pub(super) fn listed_names(
    project: &ProjectName,
    collection: &str,
    after: Option<&str>,
) -> (String, String) {
    let first = format!("{project}/{collection}/");
    // '0' follows '/', so this is behind every name that begins with `first`.
    let end = format!("{project}/{collection}0");
    let after = after.map_or(first.clone(), |after| first.max(after.to_owned()));
    (after, end)
}

/// How many of the first flushes are of different subscriptions: a later change of the same one builds on the earlier.
pub(super) fn distinct(flushes: &[Flush]) -> usize {
    let mut seen = HashSet::with_capacity(flushes.len());
    flushes
        .iter()
        .take_while(|flush| seen.insert(flush.subscription))
        .count()
}
