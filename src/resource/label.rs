//! Labels: free key-value pairs of a resource (docs/behaviour.md, section 1.7).

use std::collections::BTreeMap;

use super::violation::Violation;
use crate::limits::{LABEL_CHARS_MAX, LABELS_MAX};

/// A resource's labels, in order of key.
pub type Labels = BTreeMap<String, String>;

/// Checks the labels of a request.
pub fn checked(given: impl IntoIterator<Item = (String, String)>) -> Result<Labels, Violation> {
    let labels: Labels = given.into_iter().collect();
    if labels.len() > LABELS_MAX {
        return Err(invalid(format!(
            "{} labels were given, but a resource has at most {LABELS_MAX}",
            labels.len()
        )));
    }
    for (key, value) in &labels {
        if !is_key(key) {
            return Err(invalid(format!(
                "the key '{key}' must be 1 to {LABEL_CHARS_MAX} lower-case letters, digits, '_' or '-', and start with a letter"
            )));
        }
        if !is_text(value) {
            return Err(invalid(format!(
                "the value '{value}' must be at most {LABEL_CHARS_MAX} lower-case letters, digits, '_' or '-'"
            )));
        }
    }
    Ok(labels)
}

fn is_key(key: &str) -> bool {
    key.starts_with(is_letter) && is_text(key)
}

fn is_text(text: &str) -> bool {
    text.chars().count() <= LABEL_CHARS_MAX
        && text
            .chars()
            .all(|c| is_letter(c) || c.is_numeric() || c == '_' || c == '-')
}

/// A lower-case letter, or one of a script without case. Upper and title case are what lower-casing changes.
fn is_letter(c: char) -> bool {
    c.is_alphabetic() && c.to_lowercase().eq([c])
}

fn invalid(reason: String) -> Violation {
    Violation::Labels { reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(key: &str, value: &str) -> Result<Labels, Violation> {
        checked([(key.to_owned(), value.to_owned())])
    }

    #[test]
    fn a_label_is_lower_case_letters_of_any_script_digits_underscore_and_hyphen() {
        let longest = "k".repeat(63);
        for (key, value) in [
            ("env", "prod-1_x"),
            ("env", ""),
            ("数", "値9"),
            ("é", "é"),
            (longest.as_str(), longest.as_str()),
        ] {
            assert!(one(key, value).is_ok(), "{key}={value}");
        }
        let too_long = "k".repeat(64);
        for (key, value) in [
            ("", "v"),
            ("Env", "v"),
            ("1a", "v"),
            ("-a", "v"),
            ("a b", "v"),
            ("a", "V"),
            ("ǅ", "v"),
            (too_long.as_str(), "v"),
            ("k", too_long.as_str()),
        ] {
            let text = one(key, value).expect_err("refused").to_string();
            assert!(
                text.starts_with(
                    "You have passed an invalid argument to the service (argument=Invalid labels: "
                ),
                "{text}"
            );
        }
    }

    #[test]
    fn a_resource_has_at_most_64_labels() {
        let labels = |count: usize| (0..count).map(|n| (format!("k{n}"), String::new()));
        assert_eq!(checked(labels(64)).expect("64").len(), 64);
        assert!(checked(labels(65)).is_err());
    }
}
