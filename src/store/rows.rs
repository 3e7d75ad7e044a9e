//! How resources and numbers are written into tables, whichever database has them.

use std::collections::HashSet;

use serde::{Serialize, de::DeserializeOwned};

use super::positions::Flush;
use crate::resource::name::ProjectName;

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
