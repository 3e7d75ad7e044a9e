//! Names of projects, topics and subscriptions (docs/behaviour.md, section 1.3).

use std::{fmt, sync::Arc};

use super::violation::Violation;
use crate::limits::{PROJECT_BYTES_MAX, RESOURCE_ID_CHARS};

/// What `Subscription.topic` shows once the topic was deleted.
pub const DELETED_TOPIC: &str = "_deleted-topic_";

/// `projects/{project}`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProjectName(Arc<str>);

/// `projects/{project}/topics/{topic}`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicName(Arc<str>);

/// `projects/{project}/subscriptions/{subscription}`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriptionName(Arc<str>);

impl ProjectName {
    /// Parses the value of the request's field `field`.
    pub fn parse(field: &'static str, value: &str) -> Result<Self, Violation> {
        match value.strip_prefix("projects/") {
            Some(project) if is_project(project) => Ok(Self(value.into())),
            _ => Err(invalid(field, value)),
        }
    }
}

impl TopicName {
    /// Parses the value of the request's field `field`.
    pub fn parse(field: &'static str, value: &str) -> Result<Self, Violation> {
        parse(field, value, "topics").map(Self)
    }
}

impl SubscriptionName {
    /// Parses the value of the request's field `field`.
    pub fn parse(field: &'static str, value: &str) -> Result<Self, Violation> {
        parse(field, value, "subscriptions").map(Self)
    }

    /// A name in `project` made of an id that obeys the rules.
    pub fn in_project(project: &ProjectName, id: &str) -> Self {
        Self(format!("{project}/subscriptions/{id}").into())
    }
}

macro_rules! name {
    ($name:ident) => {
        impl $name {
            /// The full name.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

macro_rules! resource_name {
    ($name:ident) => {
        name!($name);

        impl $name {
            /// The last segment.
            pub fn id(&self) -> &str {
                self.0.rsplit('/').next().unwrap_or_default()
            }

            /// The project that it lies in.
            pub fn project(&self) -> ProjectName {
                let end = self.0.rmatch_indices('/').nth(1).map_or(0, |(at, _)| at);
                ProjectName(self.0[..end].into())
            }
        }
    };
}

name!(ProjectName);
resource_name!(TopicName);
resource_name!(SubscriptionName);

fn parse(field: &'static str, value: &str, collection: &str) -> Result<Arc<str>, Violation> {
    let mut segments = value.split('/');
    let valid = segments.next() == Some("projects")
        && segments.next().is_some_and(is_project)
        && segments.next() == Some(collection)
        && segments.next().is_some_and(is_id)
        && segments.next().is_none();
    if valid {
        Ok(value.into())
    } else {
        Err(invalid(field, value))
    }
}

fn is_project(project: &str) -> bool {
    (1..=PROJECT_BYTES_MAX).contains(&project.len())
        && !project.contains(|c: char| c == '/' || c.is_control())
}

fn is_id(id: &str) -> bool {
    RESOURCE_ID_CHARS.contains(&id.len())
        && id.starts_with(|c: char| c.is_ascii_alphabetic())
        && id
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._~%+-".contains(&b))
        && !id.starts_with("goog")
}

fn invalid(field: &'static str, value: &str) -> Violation {
    Violation::Name {
        field,
        value: value.to_owned(),
    }
}
