//! Update masks: what may change, what is refused, and that a refusal changes nothing.

use packetboat::proto::google::pubsub::v1::{
    PushConfig, Subscription, Topic, UpdateSubscriptionRequest, UpdateTopicRequest,
};
use tonic::Code;

use crate::support::{
    admin::{bare, topic_name, with_subscription},
    ok, refused, refused_with,
    values::{days, expires, map, mask, seconds},
};

#[tokio::test]
async fn case_06_a_subscriptions_immutable_fields_are_refused_even_unchanged() {
    let (_pubsub, client, _topic, subscription) = with_subscription().await;
    let before = ok(client.get_subscription(&subscription).await);
    for field in [
        "filter",
        "enable_message_ordering",
        "topic",
        "name",
        "tags",
        "detached",
        "state",
        "topic_message_retention_duration",
        "analytics_hub_subscription_info",
    ] {
        let text = format!(
            "Invalid update_mask provided in the UpdateSubscriptionRequest: the '{field}' field in the Subscription is not mutable."
        );
        let answer = client.update_subscription(before.clone(), &[field]).await;
        refused_with(answer, Code::InvalidArgument, &text);
    }
    assert_eq!(ok(client.get_subscription(&subscription).await), before);
}

#[tokio::test]
async fn case_06_a_topics_immutable_fields_are_refused() {
    let (_pubsub, client, topic, _subscription) = with_subscription().await;
    let before = ok(client.get_topic(&topic).await);
    for field in ["name", "state", "satisfies_pzs", "tags"] {
        let text = format!(
            "Invalid update_mask provided in the UpdateTopicRequest: the '{field}' field in the Topic is not mutable."
        );
        let answer = client.update_topic(before.clone(), &[field]).await;
        refused_with(answer, Code::InvalidArgument, &text);
    }
}

#[tokio::test]
async fn case_06_unknown_fields_are_refused_with_a_hint() {
    let (_pubsub, client, topic, subscription) = with_subscription().await;
    for field in [
        "fooBar",
        "pushConfig",
        "ackDeadlineSeconds",
        "*",
        "",
        "labels.team",
    ] {
        let text = format!(
            "Invalid update_mask provided in the UpdateSubscriptionRequest: {field} is not a known Subscription field. Note that field paths must be of the form 'push_config' rather than 'pushConfig'."
        );
        let update = bare(&subscription, &topic);
        let answer = client.update_subscription(update, &[field]).await;
        refused_with(answer, Code::InvalidArgument, &text);
    }
    for field in ["foo", "schemaSettings", "*", ""] {
        let text = format!(
            "Invalid update_mask provided in the UpdateTopicRequest: {field} is not a known Topic field. Note that field paths must be of the form 'schema_settings' rather than 'schemaSetings'."
        );
        let update = Topic {
            name: topic.clone(),
            ..Default::default()
        };
        let answer = client.update_topic(update, &[field]).await;
        refused_with(answer, Code::InvalidArgument, &text);
    }
}

#[tokio::test]
async fn case_06_an_update_needs_a_mask_with_a_path() {
    let (_pubsub, client, topic, subscription) = with_subscription().await;
    for update_mask in [None, mask(&[])] {
        let request = UpdateSubscriptionRequest {
            subscription: Some(bare(&subscription, &topic)),
            update_mask: update_mask.clone(),
        };
        let answer = client.subscriber().update_subscription(request).await;
        let text = "The update_mask in the UpdateSubscriptionRequest must be set, and must contain a non-empty paths list.";
        refused_with(answer, Code::InvalidArgument, text);

        let named = Topic {
            name: topic.clone(),
            ..Default::default()
        };
        let request = UpdateTopicRequest {
            topic: Some(named),
            update_mask,
        };
        let answer = client.publisher().update_topic(request).await;
        let text = "The update_mask in the UpdateTopicRequest must be set, and must contain a non-empty paths list.";
        refused_with(answer, Code::InvalidArgument, text);
    }
}

#[tokio::test]
async fn an_update_without_the_resource_is_refused() {
    let (_pubsub, client, _topic, _subscription) = with_subscription().await;
    let request = UpdateSubscriptionRequest {
        subscription: None,
        update_mask: mask(&["labels"]),
    };
    let answer = client.subscriber().update_subscription(request).await;
    refused(answer, Code::InvalidArgument, "no subscription");
    let request = UpdateTopicRequest {
        topic: None,
        update_mask: mask(&["labels"]),
    };
    let answer = client.publisher().update_topic(request).await;
    refused(answer, Code::InvalidArgument, "no topic");
}

#[tokio::test]
async fn case_06_one_bad_path_or_value_leaves_everything_as_it_was() {
    let (_pubsub, client, topic, subscription) = with_subscription().await;
    let before = ok(client.get_subscription(&subscription).await);
    let change = Subscription {
        labels: map(&[("team", "billing")]),
        ack_deadline_seconds: 9,
        ..bare(&subscription, &topic)
    };
    for bad in ["filter", "fooBar", "ack_deadline_seconds"] {
        for paths in [["labels", bad], [bad, "labels"]] {
            let answer = client.update_subscription(change.clone(), &paths).await;
            refused(answer, Code::InvalidArgument, bad);
            assert_eq!(ok(client.get_subscription(&subscription).await), before);
        }
    }
}

#[tokio::test]
async fn case_07_only_what_the_mask_names_changes() {
    let (_pubsub, client, topic, subscription) = with_subscription().await;
    let before = ok(client.get_subscription(&subscription).await);
    let change = Subscription {
        labels: map(&[("team", "billing")]),
        filter: "attributes:a".to_owned(),
        enable_message_ordering: true,
        ack_deadline_seconds: 300,
        message_retention_duration: days(1),
        ..bare(&subscription, &topic_name("another"))
    };
    let expected = Subscription {
        labels: change.labels.clone(),
        ..before
    };
    let answer = client.update_subscription(change, &["labels"]).await;
    assert_eq!(ok(answer), expected);
    assert_eq!(ok(client.get_subscription(&subscription).await), expected);

    let change = Topic {
        name: topic.clone(),
        labels: map(&[("team", "billing")]),
        kms_key_name: "projects/p/locations/l/keyRings/r/cryptoKeys/k".to_owned(),
        message_retention_duration: days(1),
        ..Default::default()
    };
    let expected = Topic {
        name: topic.clone(),
        labels: change.labels.clone(),
        ..Default::default()
    };
    let answer = client.update_topic(change, &["labels"]).await;
    assert_eq!(ok(answer), expected);
    assert_eq!(ok(client.get_topic(&topic).await), expected);
}

#[tokio::test]
async fn case_08_a_path_without_a_value_puts_the_default_back() {
    let (_pubsub, client, topic, _subscription) = with_subscription().await;
    let name = "projects/tests/subscriptions/with-settings";
    let created = Subscription {
        labels: map(&[("team", "billing")]),
        ack_deadline_seconds: 60,
        message_retention_duration: seconds(600),
        expiration_policy: expires(None),
        ..bare(name, &topic)
    };
    ok(client.create_subscription(created).await);
    let paths = [
        "labels",
        "ack_deadline_seconds",
        "message_retention_duration",
        "expiration_policy",
        "push_config",
        // Not set, so that there is nothing to remove.
        "dead_letter_policy",
        "retry_policy",
    ];
    let updated = ok(client.update_subscription(bare(name, &topic), &paths).await);
    assert!(updated.labels.is_empty());
    assert_eq!(updated.ack_deadline_seconds, 10);
    assert_eq!(updated.message_retention_duration, days(7));
    assert_eq!(updated.expiration_policy, expires(days(31)));
    assert_eq!(updated.push_config, Some(PushConfig::default()));
    assert_eq!(updated.dead_letter_policy, None);
    assert_eq!(updated.retry_policy, None);
    assert_eq!(ok(client.get_subscription(name).await), updated);

    let never = Subscription {
        expiration_policy: expires(None),
        ..bare(name, &topic)
    };
    let updated = ok(client
        .update_subscription(never, &["expiration_policy"])
        .await);
    assert_eq!(updated.expiration_policy, expires(None));
}

#[tokio::test]
async fn case_08_a_topics_path_without_a_value_removes_it() {
    let (_pubsub, client, topic, _subscription) = with_subscription().await;
    let bare = Topic {
        name: topic.clone(),
        ..Default::default()
    };
    let described = Topic {
        labels: map(&[("team", "billing")]),
        kms_key_name: "projects/p/locations/l/keyRings/r/cryptoKeys/k".to_owned(),
        ..bare.clone()
    };
    let paths = ["labels", "kms_key_name"];
    let updated = ok(client.update_topic(described.clone(), &paths).await);
    assert_eq!(updated, described);
    let paths = [
        "labels",
        "kms_key_name",
        "message_storage_policy",
        "message_retention_duration",
    ];
    let updated = ok(client.update_topic(bare.clone(), &paths).await);
    assert_eq!(updated, bare);
    assert_eq!(ok(client.get_topic(&topic).await), bare);
}
