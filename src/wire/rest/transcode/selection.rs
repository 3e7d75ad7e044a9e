//! What of an answer a client wants: the parameter `fields`, as `topics(name,labels),nextPageToken` or `topics/name`.

use std::collections::BTreeMap;

use thiserror::Error;

use crate::limits::SELECTION_DEPTH_MAX;

/// Names of fields, and of fields inside of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// Everything inside is wanted, whatever else is named.
    whole: bool,
    inside: BTreeMap<String, Selection>,
}

/// Everything.
impl Default for Selection {
    fn default() -> Self {
        Self {
            whole: true,
            inside: BTreeMap::new(),
        }
    }
}

/// A list of fields that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("Invalid field selection {0}")]
pub struct BadSelection(pub String);

impl Selection {
    /// Reads a list of fields; an empty one is everything.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn parse(list: &str) -> Result<Self, BadSelection> {
        if list.is_empty() {
            return Ok(Self::default());
        }
        let mut selection = Self::nothing();
        let rest = selection.add_list(list, SELECTION_DEPTH_MAX);
        match rest {
            Some("") => Ok(selection),
            _ => Err(BadSelection(list.chars().take(100).collect())),
        }
    }

    const fn nothing() -> Self {
        Self {
            whole: false,
            inside: BTreeMap::new(),
        }
    }

    /// What is wanted inside the field of that name; nothing if it is not wanted.
    pub fn within(&self, name: &str) -> Option<&Self> {
        if self.whole {
            return Some(self);
        }
        self.inside.get(name).or_else(|| self.inside.get("*"))
    }

    /// Adds a list; returns what stands behind it, or nothing if it is none.
    fn add_list<'a>(&mut self, list: &'a str, depth: usize) -> Option<&'a str> {
        let mut rest = self.add(list, depth.checked_sub(1)?)?;
        while let Some(next) = rest.strip_prefix(',') {
            rest = self.add(next, depth - 1)?;
        }
        Some(rest)
    }

    /// Adds one name, with what is wanted inside of it.
    fn add<'a>(&mut self, item: &'a str, depth: usize) -> Option<&'a str> {
        let end = item.find(['/', '.', '(', ')', ',']);
        let (name, rest) = item.split_at(end.unwrap_or(item.len()));
        if name.is_empty() {
            return None;
        }
        let inside = self.inside.entry(name.to_owned());
        let inside = inside.or_insert_with(Self::nothing);
        if let Some(rest) = rest.strip_prefix(['/', '.']) {
            return inside.add(rest, depth.checked_sub(1)?);
        }
        if let Some(list) = rest.strip_prefix('(') {
            return inside.add_list(list, depth)?.strip_prefix(')');
        }
        inside.whole = true;
        Some(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether the field at this path is wanted.
    fn wanted(list: &str, path: &str) -> bool {
        let selection = Selection::parse(list).expect("a list");
        path.split('/')
            .try_fold(&selection, |selection, name| selection.within(name))
            .is_some()
    }

    #[test]
    fn what_is_listed_is_wanted_with_all_that_is_inside() {
        for list in [
            "topics(name,labels),nextPageToken",
            "topics/name,topics.labels,nextPageToken",
        ] {
            assert!(wanted(list, "topics/name"), "{list}");
            assert!(wanted(list, "topics/labels/colour"), "{list}");
            assert!(wanted(list, "nextPageToken"), "{list}");
            assert!(!wanted(list, "topics/state"), "{list}");
            assert!(!wanted(list, "other"), "{list}");
        }
        assert!(wanted("", "anything/at/all"));
        for list in ["topics/name,topics", "topics,topics/name"] {
            assert!(wanted(list, "topics/state"), "{list}");
        }
        assert!(wanted("*/name", "topics/name"));
        assert!(!wanted("*/name", "topics/state"));
    }

    #[test]
    fn what_is_no_list_is_refused_however_deep_it_is() {
        let deep = "a(".repeat(100_000);
        let long = "a/".repeat(100_000);
        for wrong in [
            ",", "a,", "a(", "a()", "a)", "a(b", "a(b))", "/a", "a//b", &deep, &long,
        ] {
            assert!(Selection::parse(wrong).is_err(), "{wrong:.20}");
        }
    }
}
