//! Update masks: which fields of a resource an update replaces (docs/behaviour.md, section 1.6).

use super::violation::Violation;

/// A resource's mutable fields, as paths of its update mask.
pub trait MaskField: Copy + PartialEq + Sized {
    /// The message's name.
    const RESOURCE: &'static str;
    /// A path, right and wrong, as the public text about unknown paths shows it for this message.
    const EXAMPLE: (&'static str, &'static str);
    /// Paths of fields that never change or that only the server sets.
    const IMMUTABLE: &'static [&'static str];

    /// The mutable field of that path.
    fn from_path(path: &str) -> Option<Self>;
}

/// The fields that the mask names, each once, in order. Fails on the first path that is not a mutable field,
/// whatever the value beside it: an unchanged immutable field is refused as well.
pub fn parse<F: MaskField>(paths: &[String]) -> Result<Vec<F>, Violation> {
    if paths.is_empty() {
        return Err(Violation::EmptyMask {
            resource: F::RESOURCE,
        });
    }
    let mut fields = Vec::new();
    for path in paths {
        let field = F::from_path(path).ok_or_else(|| not_mutable::<F>(path))?;
        if !fields.contains(&field) {
            fields.push(field);
        }
    }
    Ok(fields)
}

fn not_mutable<F: MaskField>(path: &str) -> Violation {
    let (resource, path) = (F::RESOURCE, path.to_owned());
    if F::IMMUTABLE.contains(&path.as_str()) {
        return Violation::ImmutablePath { resource, path };
    }
    let (snake_case, camel_case) = F::EXAMPLE;
    Violation::UnknownPath {
        resource,
        path,
        snake_case,
        camel_case,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::{subscription::SubscriptionField, topic::TopicField};

    fn refused<F: MaskField + std::fmt::Debug>(paths: &[&str]) -> String {
        let paths: Vec<String> = paths.iter().map(|&path| path.to_owned()).collect();
        parse::<F>(&paths).expect_err("refused").to_string()
    }

    #[test]
    fn an_empty_mask_is_refused() {
        assert_eq!(
            refused::<SubscriptionField>(&[]),
            "The update_mask in the UpdateSubscriptionRequest must be set, and must contain a non-empty paths list."
        );
        assert_eq!(
            refused::<TopicField>(&[]),
            "The update_mask in the UpdateTopicRequest must be set, and must contain a non-empty paths list."
        );
    }

    #[test]
    fn an_immutable_field_is_refused_by_its_path() {
        assert_eq!(
            refused::<SubscriptionField>(&["labels", "filter"]),
            "Invalid update_mask provided in the UpdateSubscriptionRequest: the 'filter' field in the Subscription is not mutable."
        );
        for path in ["name", "state", "satisfies_pzs", "tags"] {
            assert_eq!(
                refused::<TopicField>(&[path]),
                format!(
                    "Invalid update_mask provided in the UpdateTopicRequest: the '{path}' field in the Topic is not mutable."
                )
            );
        }
        for path in [
            "name",
            "topic",
            "enable_message_ordering",
            "detached",
            "state",
            "topic_message_retention_duration",
            "analytics_hub_subscription_info",
            "tags",
        ] {
            assert!(
                refused::<SubscriptionField>(&[path])
                    .ends_with("field in the Subscription is not mutable."),
                "{path}"
            );
        }
    }

    #[test]
    fn an_unknown_path_is_refused_with_a_hint_about_its_form() {
        assert_eq!(
            refused::<TopicField>(&["foo"]),
            "Invalid update_mask provided in the UpdateTopicRequest: foo is not a known Topic field. Note that field paths must be of the form 'schema_settings' rather than 'schemaSetings'."
        );
        for path in [
            "pushConfig",
            "*",
            "",
            "labels.a",
            "ingestion_data_source_settings.aws_kinesis",
        ] {
            assert_eq!(
                refused::<SubscriptionField>(&["labels", path]),
                format!(
                    "Invalid update_mask provided in the UpdateSubscriptionRequest: {path} is not a known Subscription field. Note that field paths must be of the form 'push_config' rather than 'pushConfig'."
                )
            );
        }
    }

    #[test]
    fn a_field_that_is_named_twice_counts_once() {
        let paths = ["labels".to_owned(), "labels".to_owned()];
        assert_eq!(parse(&paths), Ok(vec![TopicField::Labels]));
    }
}
