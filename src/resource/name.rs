//! Names of projects, topics and subscriptions (docs/behaviour.md, section 1.3).

use std::{borrow::Borrow, fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use super::violation::Violation;
use crate::limits::{PROJECT_BYTES_MAX, RESOURCE_ID_CHARS};

/// What `Subscription.topic` shows once the topic was deleted.
pub const DELETED_TOPIC: &str = "_deleted-topic_";

/// `projects/{project}`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProjectName(Arc<str>);

/// `projects/{project}/topics/{topic}`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct TopicName(Arc<str>);

/// `projects/{project}/subscriptions/{subscription}`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct SubscriptionName(Arc<str>);

impl ProjectName {
    /// Parses the value of the request's field `field`.
    pub fn parse(field: &'static str, value: &str) -> Result<Self, Violation> {
        match value.strip_prefix("projects/") {
            Some(project) if is_project(project) => Ok(Self(value.into())),
            _ => Err(Violation::name(field, value)),
        }
    }
}

impl ProjectName {
    /// The project's id.
    pub fn id(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
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

        // Names are compared as their text is, as maps by name rely on.
        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.as_str().to_owned()
            }
        }

        impl TryFrom<String> for $name {
            type Error = Violation;

            fn try_from(value: String) -> Result<Self, Violation> {
                Self::parse("name", &value)
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
        Err(Violation::name(field, value))
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn topic(id: &str) -> Result<TopicName, Violation> {
        TopicName::parse("name", &format!("projects/p/topics/{id}"))
    }

    #[test]
    fn an_id_has_3_to_255_characters_starts_with_a_letter_and_not_with_goog() {
        let longest = "a".repeat(255);
        for id in ["abc", "abc.~+%_-", "Goog1", longest.as_str()] {
            assert_eq!(topic(id).expect("valid").id(), id);
        }
        let too_long = "a".repeat(256);
        for id in [
            "",
            "ab",
            "1abc",
            "googx",
            "google-x",
            "a$b",
            "bad$x",
            "aéb",
            too_long.as_str(),
        ] {
            assert!(topic(id).is_err(), "{id}");
        }
    }

    #[test]
    fn a_refused_name_is_reported_as_it_was_sent() {
        assert_eq!(
            topic("ab").expect_err("refused").to_string(),
            "Invalid resource name given (name=projects/p/topics/ab). Refer to https://cloud.google.com/pubsub/docs/pubsub-basics#resource_names for more information."
        );
    }

    #[test]
    fn a_name_has_exactly_its_collections_segments() {
        for name in [
            "",
            "abc",
            DELETED_TOPIC,
            "projects//topics/abc",
            "projects/p/topics/abc/",
            "projects/p/topics/abc/x",
            "projects/p/subscriptions/abc",
            "/projects/p/topics/abc",
            "projects/p\n/topics/abc",
        ] {
            assert!(TopicName::parse("name", name).is_err(), "{name:?}");
        }
        for project in ["", "projects", "projects/", "projects/p/", "p"] {
            assert!(ProjectName::parse("name", project).is_err(), "{project}");
        }
    }

    #[test]
    fn a_project_may_be_scoped_to_a_domain_or_a_number() {
        for project in ["projects/example.com:proj", "projects/123456"] {
            let name = TopicName::parse("name", &format!("{project}/topics/abc")).expect("valid");
            assert_eq!(name.project().as_str(), project);
        }
    }

    proptest! {
        #[test]
        fn a_valid_name_survives_parsing_and_storing(
            project in "[a-z0-9.:-]{1,30}",
            id in "[A-Za-fh-z][A-Za-z0-9._~%+-]{2,254}",
        ) {
            let text = format!("projects/{project}/subscriptions/{id}");
            let name = SubscriptionName::parse("name", &text).expect("valid");
            prop_assert_eq!(name.as_str(), &text);
            prop_assert_eq!(name.id(), &id);
            prop_assert_eq!(&SubscriptionName::in_project(&name.project(), &id), &name);
            prop_assert_eq!(SubscriptionName::try_from(String::from(name.clone())), Ok(name));
        }

        #[test]
        fn no_text_panics(text in ".*", nearly in "projects/.*/topics/.*") {
            let _ = ProjectName::parse("name", &text);
            let _ = TopicName::parse("name", &text);
            let _ = TopicName::parse("name", &nearly);
        }
    }
}
