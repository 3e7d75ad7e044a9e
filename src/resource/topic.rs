//! A topic's configuration.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{
    label::Labels, mask::MaskField, name::TopicName, policy::Policy, requirement::Requirement,
    violation::Violation,
};
use crate::limits::{KMS_KEY_NAME_BYTES_MAX, STORAGE_REGION_BYTES_MAX, STORAGE_REGIONS_MAX};

/// A topic as the API shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Topic {
    /// Its name.
    pub name: TopicName,
    /// Free key-value pairs.
    #[serde(default)]
    pub labels: Labels,
    /// Where its messages may be stored. Only describes.
    #[serde(default)]
    pub storage_policy: Option<StoragePolicy>,
    /// The key that its messages are encrypted with. Only describes.
    #[serde(default)]
    pub kms_key_name: Option<String>,
    /// Who may do what with it. Shared, as each publish reads the topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Arc<Policy>>,
}

impl Topic {
    /// What it requires of a process.
    pub const fn requirement(&self) -> Requirement {
        Requirement::NONE
    }

    /// A topic that has nothing but a name; a bare create fills nothing in.
    pub const fn new(name: TopicName) -> Self {
        Self {
            name,
            labels: Labels::new(),
            storage_policy: None,
            kms_key_name: None,
            policy: None,
        }
    }

    /// This topic with the changes made.
    #[must_use]
    pub fn with(&self, changes: &[TopicChange]) -> Self {
        let mut topic = self.clone();
        for change in changes.iter().cloned() {
            match change {
                TopicChange::Labels(labels) => topic.labels = labels,
                TopicChange::StoragePolicy(policy) => topic.storage_policy = policy,
                TopicChange::KmsKeyName(name) => topic.kms_key_name = name,
            }
        }
        topic
    }
}

/// One field of a topic and its new value, checked.
#[derive(Clone, Debug, PartialEq)]
pub enum TopicChange {
    /// All labels.
    Labels(Labels),
    /// The storage policy, or none.
    StoragePolicy(Option<StoragePolicy>),
    /// The name of the key, or none.
    KmsKeyName(Option<String>),
}

/// Where messages may be stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoragePolicy {
    /// Names of regions, one at least.
    pub regions: Vec<String>,
    /// Whether they must not pass through other regions either.
    #[serde(default)]
    pub enforce_in_transit: bool,
}

impl StoragePolicy {
    /// Checks that there is a region, and that each has a name.
    pub fn new(regions: Vec<String>, enforce_in_transit: bool) -> Result<Self, Violation> {
        let count = 1..=STORAGE_REGIONS_MAX;
        if !count.contains(&regions.len()) {
            return Err(Violation::argument(format!(
                "message_storage_policy.allowed_persistence_regions: {} regions were given, but a policy needs {} to {}",
                regions.len(),
                count.start(),
                count.end()
            )));
        }
        let bytes = 1..=STORAGE_REGION_BYTES_MAX;
        if let Some(region) = regions.iter().find(|region| !bytes.contains(&region.len())) {
            return Err(Violation::argument(format!(
                "message_storage_policy.allowed_persistence_regions: '{region}' is not the name of a region"
            )));
        }
        Ok(Self {
            regions,
            enforce_in_transit,
        })
    }
}

/// Checks the name of a KMS key: `projects/*/locations/*/keyRings/*/cryptoKeys/*`. Empty means none.
pub fn kms_key_name(given: String) -> Result<Option<String>, Violation> {
    const COLLECTIONS: [&str; 4] = ["projects", "locations", "keyRings", "cryptoKeys"];
    if given.is_empty() {
        return Ok(None);
    }
    let segments: Vec<&str> = given.split('/').collect();
    let follows_pattern = segments.len() == 2 * COLLECTIONS.len()
        && segments
            .chunks(2)
            .zip(COLLECTIONS)
            .all(|(pair, collection)| pair[0] == collection && !pair[1].is_empty());
    if follows_pattern
        && given.len() <= KMS_KEY_NAME_BYTES_MAX
        && !given.contains(|c: char| c.is_control())
    {
        Ok(Some(given))
    } else {
        Err(Violation::name("kms_key_name", &given))
    }
}

/// A topic's mutable fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicField {
    /// `labels`
    Labels,
    /// `message_storage_policy`
    StoragePolicy,
    /// `kms_key_name`
    KmsKeyName,
    /// `schema_settings`, or one of its fields
    SchemaSettings,
    /// `message_retention_duration`
    MessageRetention,
    /// `ingestion_data_source_settings`
    Ingestion,
    /// `message_transforms`
    Transforms,
}

impl MaskField for TopicField {
    const RESOURCE: &'static str = "Topic";
    // The second word is misspelt in the public text as well.
    const EXAMPLE: (&'static str, &'static str) = ("schema_settings", "schemaSetings");
    const IMMUTABLE: &'static [&'static str] = &["name", "state", "satisfies_pzs", "tags"];

    fn from_path(path: &str) -> Option<Self> {
        Some(match path {
            "labels" => Self::Labels,
            "message_storage_policy" => Self::StoragePolicy,
            "kms_key_name" => Self::KmsKeyName,
            "schema_settings"
            | "schema_settings.schema"
            | "schema_settings.encoding"
            | "schema_settings.first_revision_id"
            | "schema_settings.last_revision_id" => Self::SchemaSettings,
            "message_retention_duration" => Self::MessageRetention,
            "ingestion_data_source_settings" => Self::Ingestion,
            "message_transforms" => Self::Transforms,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storage_policy_needs_a_region() {
        assert!(StoragePolicy::new(vec!["europe-west1".into()], true).is_ok());
        assert!(StoragePolicy::new(Vec::new(), false).is_err());
        assert!(StoragePolicy::new(vec![String::new()], false).is_err());
        assert!(StoragePolicy::new(vec!["r".into(); 101], false).is_err());
    }

    #[test]
    fn a_kms_key_follows_its_pattern_or_is_none() {
        let key = "projects/p/locations/l/keyRings/r/cryptoKeys/k";
        assert_eq!(kms_key_name(key.to_owned()), Ok(Some(key.to_owned())));
        assert_eq!(kms_key_name(String::new()), Ok(None));
        for wrong in [
            "k",
            "projects/p/locations/l/keyRings/r/cryptoKeys/",
            "projects/p/locations/l/keyRings/r/cryptoKeys/k/x",
            "projects/p/locations/l/keyrings/r/cryptoKeys/k",
        ] {
            assert_eq!(
                kms_key_name(wrong.to_owned())
                    .expect_err("refused")
                    .to_string(),
                format!(
                    "Invalid resource name given (kms_key_name={wrong}). Refer to https://cloud.google.com/pubsub/docs/pubsub-basics#resource_names for more information."
                )
            );
        }
    }

    #[test]
    fn an_update_leaves_other_fields_alone() {
        let name = TopicName::parse("name", "projects/p/topics/abc").expect("valid");
        let topic = Topic {
            labels: [("a".to_owned(), "b".to_owned())].into(),
            ..Topic::new(name)
        };
        let policy = StoragePolicy::new(vec!["r".into()], false).expect("valid");
        let updated = topic.with(&[TopicChange::StoragePolicy(Some(policy.clone()))]);
        assert_eq!(updated.labels, topic.labels);
        assert_eq!(updated.storage_policy, Some(policy));
    }
}
