//! `google.pubsub.v1.Subscription`.

use super::{Refused, destination, duration, is_set, policy, to_proto_duration};
use crate::{
    proto::google::pubsub::v1 as proto,
    resource::{
        label,
        mask::{self, MaskField},
        name::{DELETED_TOPIC, SubscriptionName, TopicName},
        subscription::{
            Expiration, Subscription, SubscriptionChange, SubscriptionField, SubscriptionSettings,
            ack_deadline_seconds, expiration_after, filter, message_retention,
        },
        violation::Violation,
    },
};

/// Every mutable field that does not work yet, in the order of the public documentation.
const UNSUPPORTED: [SubscriptionField; 6] = [
    SubscriptionField::PushConfig,
    SubscriptionField::BigqueryConfig,
    SubscriptionField::CloudStorageConfig,
    SubscriptionField::BigtableConfig,
    SubscriptionField::RetainAckedMessages,
    SubscriptionField::Transforms,
];

/// The name of the subscription that a CreateSubscription makes, where `None` asks for a generated one, and that of the
/// topic to attach it to.
pub fn created(
    given: &proto::Subscription,
) -> Result<(Option<SubscriptionName>, TopicName), Violation> {
    let name = match given.name.as_str() {
        "" => None,
        name => Some(SubscriptionName::parse("name", name)?),
    };
    Ok((name, TopicName::parse("topic", &given.topic)?))
}

/// The settings that a CreateSubscription asks for.
pub fn to_create(given: &proto::Subscription) -> Result<SubscriptionSettings, Refused> {
    let mut settings = SubscriptionSettings {
        ack_deadline_seconds: ack_deadline_seconds(given.ack_deadline_seconds)?,
        message_retention: retention(given)?.map(message_retention).transpose()?,
        expiration: expiration(given)?,
        ordered: given.enable_message_ordering,
        exactly_once: given.enable_exactly_once_delivery,
        labels: label::checked(given.labels.clone())?,
        filter: filter(&given.filter)?,
        ..SubscriptionSettings::default()
    };
    settings.dead_letter_policy = policy::created_dead_letter(given.dead_letter_policy.as_ref())?;
    check_unsupported(&UNSUPPORTED, given)?;
    settings.retry_policy = policy::retry(given.retry_policy.as_ref())?;
    destination::check_single(given)?;

    refuse_unsupported(UNSUPPORTED.iter().map(|field| sets(*field, given)))?;
    Ok(settings)
}

/// The name of the subscription that an UpdateSubscription changes.
pub fn updated(request: &proto::UpdateSubscriptionRequest) -> Result<SubscriptionName, Violation> {
    let given = request.subscription.as_ref();
    SubscriptionName::parse("name", given.map_or("", |given| &given.name))
}

/// The changes that an UpdateSubscription asks for. Fields outside the mask are ignored.
pub fn to_update(
    request: &proto::UpdateSubscriptionRequest,
) -> Result<Vec<SubscriptionChange>, Refused> {
    let absent = proto::Subscription::default();
    let given = request.subscription.as_ref().unwrap_or(&absent);
    let paths = request
        .update_mask
        .as_ref()
        .map_or(&[][..], |mask| &mask.paths);
    let fields: Vec<SubscriptionField> = mask::parse(paths)?;

    let mut changes = Vec::new();
    for field in &fields {
        changes.extend(match field {
            SubscriptionField::AckDeadlineSeconds => Some(SubscriptionChange::AckDeadlineSeconds(
                ack_deadline_seconds(given.ack_deadline_seconds)?,
            )),
            SubscriptionField::MessageRetention => Some(SubscriptionChange::MessageRetention(
                retention(given)?.map(message_retention).transpose()?,
            )),
            SubscriptionField::Expiration => {
                Some(SubscriptionChange::Expiration(expiration(given)?))
            }
            SubscriptionField::Labels => Some(SubscriptionChange::Labels(label::checked(
                given.labels.clone(),
            )?)),
            SubscriptionField::DeadLetterPolicy => Some(SubscriptionChange::DeadLetterPolicy(
                policy::updated_dead_letter(given.dead_letter_policy.as_ref())?,
            )),
            SubscriptionField::RetryPolicy => Some(SubscriptionChange::RetryPolicy(policy::retry(
                given.retry_policy.as_ref(),
            )?)),
            SubscriptionField::ExactlyOnce => Some(SubscriptionChange::ExactlyOnce(
                given.enable_exactly_once_delivery,
            )),
            _ => None,
        });
    }
    check_unsupported(&fields, given)?;
    refuse_unsupported(fields.iter().map(|field| sets(*field, given)))?;
    Ok(changes)
}

/// What the API shows (docs/behaviour.md, section 4.1): a pull subscription has an empty `push_config`.
pub fn to_proto(subscription: Subscription) -> proto::Subscription {
    let ttl = match subscription.expiration {
        Expiration::Never => None,
        Expiration::After(ttl) => Some(to_proto_duration(ttl)),
    };
    proto::Subscription {
        name: subscription.name.as_str().to_owned(),
        topic: subscription
            .topic
            .as_ref()
            .map_or(DELETED_TOPIC, TopicName::as_str)
            .to_owned(),
        push_config: Some(proto::PushConfig::default()),
        ack_deadline_seconds: i32::try_from(subscription.ack_deadline_seconds).unwrap_or(i32::MAX),
        message_retention_duration: Some(to_proto_duration(subscription.message_retention)),
        labels: subscription.labels.into_iter().collect(),
        expiration_policy: Some(proto::ExpirationPolicy { ttl }),
        filter: subscription
            .filter
            .map_or_else(String::new, |filter| filter.as_str().to_owned()),
        dead_letter_policy: subscription
            .dead_letter_policy
            .as_ref()
            .map(policy::dead_letter_to_proto),
        retry_policy: subscription.retry_policy.map(policy::retry_to_proto),
        enable_message_ordering: subscription.ordered,
        enable_exactly_once_delivery: subscription.exactly_once,
        detached: subscription.detached,
        state: proto::subscription::State::Active.into(),
        ..proto::Subscription::default()
    }
}

fn retention(
    given: &proto::Subscription,
) -> Result<Option<crate::resource::duration::GivenDuration>, Violation> {
    duration(
        "message_retention_duration",
        given.message_retention_duration,
    )
}

/// No policy is the default, a policy without a ttl is never.
fn expiration(given: &proto::Subscription) -> Result<Option<Expiration>, Violation> {
    let Some(policy) = &given.expiration_policy else {
        return Ok(None);
    };
    match duration("expiration_policy.ttl", policy.ttl)? {
        None => Ok(Some(Expiration::Never)),
        Some(ttl) => expiration_after(ttl).map(Some),
    }
}

/// Finds malformed values of settings that do not work yet.
fn check_unsupported(
    fields: &[SubscriptionField],
    given: &proto::Subscription,
) -> Result<(), Violation> {
    if fields.contains(&SubscriptionField::PushConfig) {
        destination::check_push(given.push_config.as_ref())?;
    }
    Ok(())
}

/// Whether the value would set `field` to what does not work yet, and the field's public name.
fn sets(field: SubscriptionField, given: &proto::Subscription) -> (bool, &'static str) {
    match field {
        SubscriptionField::AckDeadlineSeconds
        | SubscriptionField::MessageRetention
        | SubscriptionField::Labels
        | SubscriptionField::Expiration
        | SubscriptionField::DeadLetterPolicy
        | SubscriptionField::RetryPolicy
        | SubscriptionField::ExactlyOnce => (false, ""),
        SubscriptionField::PushConfig => destination::sets_push(given.push_config.as_ref()),
        SubscriptionField::BigqueryConfig => {
            (is_set(given.bigquery_config.as_ref()), "bigquery_config")
        }
        SubscriptionField::CloudStorageConfig => (
            is_set(given.cloud_storage_config.as_ref()),
            "cloud_storage_config",
        ),
        SubscriptionField::BigtableConfig => {
            (is_set(given.bigtable_config.as_ref()), "bigtable_config")
        }
        SubscriptionField::RetainAckedMessages => {
            (given.retain_acked_messages, "retain_acked_messages")
        }
        SubscriptionField::Transforms => {
            (!given.message_transforms.is_empty(), "message_transforms")
        }
    }
}

fn refuse_unsupported(
    settings: impl IntoIterator<Item = (bool, &'static str)>,
) -> Result<(), Refused> {
    match settings.into_iter().find(|(set, _)| *set) {
        Some((_, field)) => Err(Refused::Unsupported {
            resource: SubscriptionField::RESOURCE,
            field,
        }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::requirement::Requirement;

    const RETENTION_7_DAYS: prost_types::Duration = seconds(7 * 86_400);

    const fn seconds(seconds: i64) -> prost_types::Duration {
        prost_types::Duration { seconds, nanos: 0 }
    }

    fn named() -> proto::Subscription {
        proto::Subscription {
            name: "projects/p/subscriptions/abc".into(),
            topic: "projects/q/topics/abc".into(),
            ..proto::Subscription::default()
        }
    }

    fn create(given: &proto::Subscription) -> Result<Subscription, Refused> {
        let (name, topic) = created(given)?;
        let name = name.expect("the tests give a name");
        Ok(Subscription::new(name, topic, to_create(given)?)?)
    }

    fn update(
        given: proto::Subscription,
        paths: &[&str],
    ) -> Result<Vec<SubscriptionChange>, Refused> {
        to_update(&proto::UpdateSubscriptionRequest {
            subscription: Some(given),
            update_mask: Some(prost_types::FieldMask {
                paths: paths.iter().map(|&path| path.to_owned()).collect(),
            }),
        })
    }

    fn mutable_unsupported() -> Vec<(&'static str, proto::Subscription)> {
        let base = named;
        vec![
            (
                "push_config",
                proto::Subscription {
                    push_config: Some(proto::PushConfig {
                        push_endpoint: "https://example.com/push".into(),
                        ..proto::PushConfig::default()
                    }),
                    ..base()
                },
            ),
            (
                "bigquery_config",
                proto::Subscription {
                    bigquery_config: Some(proto::BigQueryConfig {
                        table: "p.d.t".into(),
                        ..proto::BigQueryConfig::default()
                    }),
                    ..base()
                },
            ),
            (
                "cloud_storage_config",
                proto::Subscription {
                    cloud_storage_config: Some(proto::CloudStorageConfig {
                        bucket: "b".into(),
                        ..proto::CloudStorageConfig::default()
                    }),
                    ..base()
                },
            ),
            (
                "bigtable_config",
                proto::Subscription {
                    bigtable_config: Some(proto::BigtableConfig {
                        table: "projects/p/instances/i/tables/t".into(),
                        ..proto::BigtableConfig::default()
                    }),
                    ..base()
                },
            ),
            (
                "retain_acked_messages",
                proto::Subscription {
                    retain_acked_messages: true,
                    ..base()
                },
            ),
            (
                "message_transforms",
                proto::Subscription {
                    message_transforms: vec![proto::MessageTransform::default()],
                    ..base()
                },
            ),
        ]
    }

    fn unsupported<T>(field: &'static str) -> Result<T, Refused> {
        Err(Refused::Unsupported {
            resource: "Subscription",
            field,
        })
    }

    #[test]
    fn a_bare_subscription_shows_its_defaults_and_an_empty_push_config() {
        assert_eq!(
            to_proto(create(&named()).expect("valid")),
            proto::Subscription {
                push_config: Some(proto::PushConfig::default()),
                ack_deadline_seconds: 10,
                message_retention_duration: Some(RETENTION_7_DAYS),
                expiration_policy: Some(proto::ExpirationPolicy {
                    ttl: Some(seconds(31 * 86_400)),
                }),
                state: 1,
                ..named()
            }
        );
    }

    #[test]
    fn a_subscription_of_a_deleted_topic_says_so_and_nobody_may_ask_for_one() {
        let mut subscription = create(&named()).expect("valid");
        subscription.topic = None;
        assert_eq!(to_proto(subscription).topic, "_deleted-topic_");
        let given = proto::Subscription {
            topic: "_deleted-topic_".into(),
            ..named()
        };
        assert_eq!(
            create(&given).expect_err("refused").to_string(),
            "Invalid resource name given (topic=_deleted-topic_). Refer to https://cloud.google.com/pubsub/docs/pubsub-basics#resource_names for more information."
        );
    }

    #[test]
    fn an_expiration_policy_without_a_ttl_is_never_and_is_shown_empty() {
        let given = proto::Subscription {
            expiration_policy: Some(proto::ExpirationPolicy { ttl: None }),
            ..named()
        };
        let shown = to_proto(create(&given).expect("valid"));
        assert_eq!(
            shown.expiration_policy,
            Some(proto::ExpirationPolicy { ttl: None })
        );
    }

    #[test]
    fn output_only_fields_and_tags_are_ignored_on_input() {
        let given = proto::Subscription {
            detached: true,
            state: 2,
            topic_message_retention_duration: Some(seconds(600)),
            tags: [("123/env".to_owned(), "prod".to_owned())].into(),
            ..named()
        };
        assert_eq!(create(&given), create(&named()));
    }

    #[test]
    fn a_setting_that_does_not_work_yet_is_refused_by_name_on_create_and_update() {
        for (field, given) in mutable_unsupported() {
            assert_eq!(create(&given), unsupported(field));
            assert_eq!(update(given.clone(), &[field]), unsupported(field));
            assert!(
                update(given, &["labels"]).is_ok(),
                "{field} outside the mask is ignored"
            );
            assert_eq!(
                update(named(), &[field]),
                Ok(Vec::new()),
                "clearing {field} changes nothing"
            );
        }
    }

    #[test]
    fn an_immutable_path_is_reported_before_a_setting_that_does_not_work_yet() {
        let (field, given) = mutable_unsupported().swap_remove(0);
        let refused = update(given, &[field, "filter"]).expect_err("refused");
        assert_eq!(
            refused.to_string(),
            "Invalid update_mask provided in the UpdateSubscriptionRequest: the 'filter' field in the Subscription is not mutable."
        );
    }

    #[test]
    fn an_update_without_a_subscription_or_a_mask_is_refused() {
        let request = proto::UpdateSubscriptionRequest::default();
        let refused = updated(&request).expect_err("refused").to_string();
        assert!(refused.starts_with("Invalid resource name given (name=)."));
        let request = proto::UpdateSubscriptionRequest {
            subscription: Some(named()),
            ..request
        };
        assert_eq!(updated(&request).map(String::from), Ok(named().name));
        assert_eq!(
            to_update(&request).expect_err("refused").to_string(),
            "The update_mask in the UpdateSubscriptionRequest must be set, and must contain a non-empty paths list."
        );
    }

    #[test]
    fn a_push_config_without_an_endpoint_is_pull() {
        let given = proto::Subscription {
            push_config: Some(proto::PushConfig {
                attributes: [("x-goog-version".to_owned(), "v1".to_owned())].into(),
                ..proto::PushConfig::default()
            }),
            ..named()
        };
        assert_eq!(create(&given), create(&named()));
        assert_eq!(update(given, &["push_config"]), Ok(Vec::new()));
    }

    #[test]
    fn a_filter_is_shown_as_it_was_given_and_an_empty_one_is_none() {
        let with = |filter: &str| {
            create(&proto::Subscription {
                filter: filter.to_owned(),
                ..named()
            })
        };
        let given = "attributes . a=\"b\"";
        let created = with(given).expect("a filter");
        assert_eq!(created.requirement(), Requirement::FILTER);
        assert_eq!(to_proto(created).filter, given);
        assert_eq!(
            with("").expect("no filter"),
            create(&named()).expect("valid")
        );
        for (filter, text) in [
            (
                "a".repeat(257),
                "The value for filter is too large. You passed 257 in the request, but the maximum value is 256.",
            ),
            (
                "attributes.a = b".to_owned(),
                "You have passed an invalid argument to the service (argument=Invalid filter: expected a quoted string at character 16, found `b`).",
            ),
        ] {
            assert_eq!(with(&filter).expect_err("refused").to_string(), text);
        }
    }
}
