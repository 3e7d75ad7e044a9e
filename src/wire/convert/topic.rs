//! `google.pubsub.v1.Topic`.

use super::{Refused, duration, is_set};
use crate::{
    proto::google::pubsub::v1 as proto,
    resource::{
        label,
        mask::{self, MaskField},
        name::TopicName,
        subscription::message_retention,
        topic::{StoragePolicy, Topic, TopicChange, TopicField, kms_key_name},
        violation::Violation,
    },
};

/// Every mutable field: a create sets all of them.
const FIELDS: [TopicField; 7] = [
    TopicField::Labels,
    TopicField::StoragePolicy,
    TopicField::KmsKeyName,
    TopicField::SchemaSettings,
    TopicField::MessageRetention,
    TopicField::Ingestion,
    TopicField::Transforms,
];

/// The topic of that name that a CreateTopic asks for.
pub fn to_create(name: TopicName, mut given: proto::Topic) -> Result<Topic, Refused> {
    Ok(Topic::new(name).with(&changes(&FIELDS, &mut given)?))
}

/// The name of the topic that an UpdateTopic changes.
pub fn updated(request: &proto::UpdateTopicRequest) -> Result<TopicName, Violation> {
    let name = request.topic.as_ref().map_or("", |topic| &topic.name);
    TopicName::parse("name", name)
}

/// The changes that an UpdateTopic asks for. Fields outside the mask are ignored.
pub fn to_update(request: proto::UpdateTopicRequest) -> Result<Vec<TopicChange>, Refused> {
    let mut given = request.topic.unwrap_or_default();
    let fields = mask::parse(&request.update_mask.unwrap_or_default().paths)?;
    changes(&fields, &mut given)
}

/// What the API shows.
pub fn to_proto(topic: Topic) -> proto::Topic {
    proto::Topic {
        name: topic.name.as_str().to_owned(),
        labels: topic.labels.into_iter().collect(),
        message_storage_policy: topic
            .storage_policy
            .map(|policy| proto::MessageStoragePolicy {
                allowed_persistence_regions: policy.regions,
                enforce_in_transit: policy.enforce_in_transit,
            }),
        kms_key_name: topic.kms_key_name.unwrap_or_default(),
        ..proto::Topic::default()
    }
}

fn changes(fields: &[TopicField], given: &mut proto::Topic) -> Result<Vec<TopicChange>, Refused> {
    let mut changes = Vec::new();
    let mut unsupported = None;
    for field in fields {
        match field {
            TopicField::Labels => {
                let labels = label::checked(std::mem::take(&mut given.labels))?;
                changes.push(TopicChange::Labels(labels));
            }
            TopicField::StoragePolicy => {
                let policy = given
                    .message_storage_policy
                    .take()
                    .map(|policy| {
                        StoragePolicy::new(
                            policy.allowed_persistence_regions,
                            policy.enforce_in_transit,
                        )
                    })
                    .transpose()?;
                changes.push(TopicChange::StoragePolicy(policy));
            }
            TopicField::KmsKeyName => {
                let name = kms_key_name(std::mem::take(&mut given.kms_key_name))?;
                changes.push(TopicChange::KmsKeyName(name));
            }
            TopicField::SchemaSettings | TopicField::Ingestion | TopicField::Transforms => {}
            TopicField::MessageRetention => {
                duration(
                    "message_retention_duration",
                    given.message_retention_duration,
                )?
                .map(message_retention)
                .transpose()?;
            }
        }
        unsupported = unsupported.or_else(|| sets_unsupported(*field, given));
    }
    match unsupported {
        Some(field) => Err(Refused::Unsupported {
            resource: TopicField::RESOURCE,
            field,
        }),
        None => Ok(changes),
    }
}

/// The public name of `field`, if the value would set what does not work yet.
fn sets_unsupported(field: TopicField, given: &proto::Topic) -> Option<&'static str> {
    let (set, name) = match field {
        TopicField::Labels | TopicField::StoragePolicy | TopicField::KmsKeyName => return None,
        TopicField::SchemaSettings => (is_set(given.schema_settings.as_ref()), "schema_settings"),
        TopicField::MessageRetention => (
            given.message_retention_duration.is_some(),
            "message_retention_duration",
        ),
        TopicField::Ingestion => (
            is_set(given.ingestion_data_source_settings.as_ref()),
            "ingestion_data_source_settings",
        ),
        TopicField::Transforms => (!given.message_transforms.is_empty(), "message_transforms"),
    };
    set.then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named() -> proto::Topic {
        proto::Topic {
            name: "projects/p/topics/abc".into(),
            ..proto::Topic::default()
        }
    }

    fn update(topic: proto::Topic, paths: &[&str]) -> Result<Vec<TopicChange>, Refused> {
        to_update(proto::UpdateTopicRequest {
            topic: Some(topic),
            update_mask: Some(prost_types::FieldMask {
                paths: paths.iter().map(|&path| path.to_owned()).collect(),
            }),
        })
    }

    fn create(given: proto::Topic) -> Result<Topic, Refused> {
        to_create(TopicName::parse("name", &given.name)?, given)
    }

    fn unsupported() -> [(&'static str, proto::Topic); 4] {
        [
            (
                "schema_settings",
                proto::Topic {
                    schema_settings: Some(proto::SchemaSettings {
                        schema: "projects/p/schemas/abc".into(),
                        ..proto::SchemaSettings::default()
                    }),
                    ..named()
                },
            ),
            (
                "message_retention_duration",
                proto::Topic {
                    message_retention_duration: Some(prost_types::Duration {
                        seconds: 600,
                        nanos: 0,
                    }),
                    ..named()
                },
            ),
            (
                "ingestion_data_source_settings",
                proto::Topic {
                    ingestion_data_source_settings: Some(proto::IngestionDataSourceSettings {
                        platform_logs_settings: Some(proto::PlatformLogsSettings::default()),
                        ..proto::IngestionDataSourceSettings::default()
                    }),
                    ..named()
                },
            ),
            (
                "message_transforms",
                proto::Topic {
                    message_transforms: vec![proto::MessageTransform::default()],
                    ..named()
                },
            ),
        ]
    }

    #[test]
    fn a_bare_topic_shows_its_name_and_nothing_else() {
        assert_eq!(to_proto(create(named()).expect("valid")), named());
    }

    #[test]
    fn what_only_describes_is_stored_and_shown_but_tags_are_not() {
        let shown = proto::Topic {
            labels: [("a".to_owned(), "b".to_owned())].into(),
            message_storage_policy: Some(proto::MessageStoragePolicy {
                allowed_persistence_regions: vec!["europe-west1".into()],
                enforce_in_transit: true,
            }),
            kms_key_name: "projects/p/locations/l/keyRings/r/cryptoKeys/k".into(),
            ..named()
        };
        let given = proto::Topic {
            tags: [("123/env".to_owned(), "prod".to_owned())].into(),
            satisfies_pzs: true,
            state: 1,
            ..shown.clone()
        };
        assert_eq!(to_proto(create(given).expect("valid")), shown);
    }

    #[test]
    fn a_setting_that_does_not_work_yet_is_refused_by_name_on_create_and_update() {
        for (field, topic) in unsupported() {
            let refused = Err(Refused::Unsupported {
                resource: "Topic",
                field,
            });
            assert_eq!(create(topic.clone()).map(|_| ()), refused.clone());
            assert_eq!(update(topic.clone(), &[field]).map(|_| ()), refused);
            let (first, second) = (update(topic, &["labels"]), update(named(), &[field]));
            assert!(first.is_ok(), "{field} outside the mask is ignored");
            assert_eq!(second, Ok(Vec::new()), "clearing {field} changes nothing");
        }
    }

    #[test]
    fn a_malformed_value_is_reported_before_a_setting_that_does_not_work_yet() {
        let mut topic = unsupported()[0].1.clone();
        topic.message_retention_duration = Some(prost_types::Duration {
            seconds: 599,
            nanos: 0,
        });
        assert!(matches!(create(topic), Err(Refused::Violation(_))));
        let (_, topic) = &unsupported()[0];
        assert!(matches!(
            update(topic.clone(), &["schema_settings.schema", "name"]),
            Err(Refused::Violation(_))
        ));
    }

    #[test]
    fn an_update_without_a_topic_is_refused_for_its_name() {
        let refused = updated(&proto::UpdateTopicRequest::default()).expect_err("refused");
        assert_eq!(
            refused.to_string(),
            "Invalid resource name given (name=). Refer to https://cloud.google.com/pubsub/docs/pubsub-basics#resource_names for more information."
        );
    }
}
