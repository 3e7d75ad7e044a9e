//! Lists, of which a few entries at a time are copied: all else that the tables are for waits no longer than for those,
//! however much an entry has. What changes meanwhile is listed as it was or as it is.

use std::{borrow::Borrow, collections::BTreeMap, ops::Bound};

use super::MemoryState;
use crate::{
    limits::LISTED_AT_ONCE_MAX,
    resource::name::ProjectName,
    store::{
        StoreError,
        resources::{SubscriptionRecord, TopicRecord},
    },
};

/// The project's topics behind `after`, in order of name, at most `limit`.
pub(super) fn topics(
    state: &MemoryState,
    project: &ProjectName,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<TopicRecord>, StoreError> {
    let name = |record: &TopicRecord| record.topic.name.as_str().to_owned();
    in_pieces(after, limit, name, |after, limit| {
        state.with(|tables| {
            Ok(behind(&tables.topic_names, project, after)
                .filter_map(|&incarnation| tables.topic(incarnation))
                .take(limit)
                .collect())
        })
    })
}

/// The same of its subscriptions.
pub(super) fn subscriptions(
    state: &MemoryState,
    project: &ProjectName,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<SubscriptionRecord>, StoreError> {
    let name = |record: &SubscriptionRecord| record.subscription.name.as_str().to_owned();
    in_pieces(after, limit, name, |after, limit| {
        state.with(|tables| {
            Ok(behind(&tables.subscription_names, project, after)
                .map(|&id| tables.subscription(id))
                .take(limit)
                .collect())
        })
    })
}

/// What is behind `after` among those whose names are of the project.
fn behind<'tables, N: Borrow<str> + Ord, V>(
    names: &'tables BTreeMap<N, V>,
    project: &ProjectName,
    after: Option<&str>,
) -> impl Iterator<Item = &'tables V> {
    let prefix = format!("{project}/");
    let first = match after {
        Some(after) if after > prefix.as_str() => Bound::Excluded(after),
        _ => Bound::Included(prefix.as_str()),
    };
    names
        .range::<str, _>((first, Bound::Unbounded))
        .take_while(move |(name, _)| (*name).borrow().starts_with(&prefix))
        .map(|(_, value)| value)
}

/// Reads up to `limit` entries by calls of `read`, which returns at most so many behind a name, and fewer only at the
/// end.
fn in_pieces<T>(
    after: Option<&str>,
    limit: usize,
    name: impl Fn(&T) -> String,
    read: impl Fn(Option<&str>, usize) -> Result<Vec<T>, StoreError>,
) -> Result<Vec<T>, StoreError> {
    let mut listed = Vec::new();
    let mut last = after.map(str::to_owned);
    loop {
        let wanted = (limit - listed.len()).min(LISTED_AT_ONCE_MAX);
        let piece = read(last.as_deref(), wanted)?;
        let is_end = piece.len() < wanted;
        listed.extend(piece);
        if is_end || listed.len() == limit {
            return Ok(listed);
        }
        last = listed.last().map(&name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_follow_each_other_up_to_the_limit_or_the_end() {
        let all = LISTED_AT_ONCE_MAX * 3 + 1;
        let read = |after: Option<&str>, limit: usize| {
            let first = after.map_or(0, |after| after.parse::<usize>().expect("a number") + 1);
            Ok((first..all).take(limit).collect())
        };
        let name = |number: &usize| number.to_string();
        for limit in [
            0,
            1,
            LISTED_AT_ONCE_MAX,
            LISTED_AT_ONCE_MAX * 2,
            all,
            all + 1,
        ] {
            let listed = in_pieces(None, limit, name, read).expect("it is read");
            assert_eq!(listed, (0..all.min(limit)).collect::<Vec<_>>());
        }
        let listed = in_pieces(Some("4"), 2, name, read).expect("it is read");
        assert_eq!(listed, [5, 6]);
    }
}
