//! Ranges of a subscription's settings, on create and on update.

use packetboat::proto::google::pubsub::v1::Subscription;
use prost_types::Duration;
use tonic::Code;

use crate::support::{
    Client, Pubsub,
    admin::{Answer, bare, subscription_name, topic_name, with_subscription},
    ok, refused, refused_with,
    values::{days, expires, seconds},
};

async fn client_with_topic() -> Client {
    let client = Pubsub::start().await.client();
    client.topic("orders").await;
    client
}

/// Creates a subscription that differs from the defaults as `change` says.
async fn create(
    client: &Client,
    id: &str,
    change: impl FnOnce(&mut Subscription),
) -> Answer<Subscription> {
    let mut subscription = bare(&subscription_name(id), &topic_name("orders"));
    change(&mut subscription);
    client.create_subscription(subscription).await
}

#[tokio::test]
async fn case_04_a_ttl_shorter_than_the_default_retention_brings_the_retention_down() {
    let client = client_with_topic().await;
    let created = ok(create(&client, "short", |s| s.expiration_policy = expires(days(1))).await);
    assert_eq!(created.message_retention_duration, days(1));
    assert_eq!(created.expiration_policy, expires(days(1)));
}

#[tokio::test]
async fn case_04_a_ttl_under_a_day_is_refused() {
    let client = client_with_topic().await;
    for (hours, shown) in [(1, "1h"), (23, "23h")] {
        let ttl = seconds(hours * 3600);
        let answer = create(&client, "short", |s| s.expiration_policy = expires(ttl)).await;
        let text = format!(
            "The value for expiration duration is too small. You passed {shown} in the request, but the minimum value is 24h."
        );
        refused_with(answer, Code::InvalidArgument, &text);
    }
}

#[tokio::test]
async fn case_04_a_retention_longer_than_the_ttl_is_refused_and_changes_nothing() {
    let client = client_with_topic().await;
    let beginning = "The subscription's message retention duration (259200 seconds) cannot be greater than the TTL in the subscription's expiration policy (172800 seconds), since ";
    let answer = create(&client, "short", |s| {
        s.expiration_policy = expires(days(2));
        s.message_retention_duration = days(3);
    })
    .await;
    let status = refused(answer, Code::InvalidArgument, "3 days under a ttl of 2");
    assert!(status.message().starts_with(beginning), "{status:?}");

    let created = ok(create(&client, "short", |s| s.expiration_policy = expires(days(2))).await);
    let longer = Subscription {
        message_retention_duration: days(3),
        ..created.clone()
    };
    let answer = client
        .update_subscription(longer, &["message_retention_duration"])
        .await;
    let status = refused(answer, Code::InvalidArgument, "3 days by update");
    assert!(status.message().starts_with(beginning), "{status:?}");
    assert_eq!(ok(client.get_subscription(&created.name).await), created);
}

#[tokio::test]
async fn case_04_an_empty_expiration_policy_means_never() {
    let client = client_with_topic().await;
    let created = ok(create(&client, "for-ever", |s| s.expiration_policy = expires(None)).await);
    assert_eq!(created.expiration_policy, expires(None));
    assert_eq!(created.message_retention_duration, days(7));
}

#[tokio::test]
async fn case_05_an_ack_deadline_is_10_to_600_seconds_and_0_means_10() {
    let client = client_with_topic().await;
    for (id, given, stored) in [("least", 10, 10), ("most", 600, 600), ("zero", 0, 10)] {
        let created = ok(create(&client, id, |s| s.ack_deadline_seconds = given).await);
        assert_eq!(created.ack_deadline_seconds, stored);
    }
    for given in [9, 601, 1, -1, i32::MAX, i32::MIN] {
        let text = format!(
            "Invalid ack deadline given (ack_deadline={given}). The ack deadline must be between 10 and 600 seconds."
        );
        let answer = create(&client, "bad", |s| s.ack_deadline_seconds = given).await;
        refused_with(answer, Code::InvalidArgument, &text);
        let update = Subscription {
            ack_deadline_seconds: given,
            ..bare(&subscription_name("most"), &topic_name("orders"))
        };
        let answer = client
            .update_subscription(update, &["ack_deadline_seconds"])
            .await;
        refused_with(answer, Code::InvalidArgument, &text);
    }
    let most = ok(client.get_subscription(&subscription_name("most")).await);
    assert_eq!(most.ack_deadline_seconds, 600);
}

#[tokio::test]
async fn case_05_retention_is_10_minutes_to_31_days() {
    let client = client_with_topic().await;
    for (id, duration) in [("least", seconds(600)), ("most", days(31))] {
        let created = ok(create(&client, id, |s| s.message_retention_duration = duration).await);
        assert_eq!(created.message_retention_duration, duration);
    }
    let answer = create(&client, "bad", |s| {
        s.message_retention_duration = seconds(599);
    })
    .await;
    let text = "The value for message retention duration is out of bounds. You passed 9m59s in the request, but the value must be between 10m and 744h.";
    refused_with(answer, Code::InvalidArgument, text);
    let a_little_more = Duration {
        seconds: 31 * 86_400,
        nanos: 1,
    };
    for duration in [
        a_little_more,
        Duration {
            seconds: 0,
            nanos: 0,
        },
        Duration {
            seconds: -600,
            nanos: 0,
        },
        Duration {
            seconds: 600,
            nanos: -1,
        },
        Duration {
            seconds: 600,
            nanos: 1_000_000_000,
        },
        Duration {
            seconds: i64::MAX,
            nanos: i32::MAX,
        },
        Duration {
            seconds: i64::MIN,
            nanos: i32::MIN,
        },
    ] {
        let answer = create(&client, "bad", |s| {
            s.message_retention_duration = Some(duration);
        })
        .await;
        refused(answer, Code::InvalidArgument, &format!("{duration:?}"));
    }
    let name = subscription_name("bad");
    refused(client.get_subscription(&name).await, Code::NotFound, &name);
}

#[tokio::test]
async fn a_ttl_that_is_no_duration_is_refused() {
    let client = client_with_topic().await;
    for (seconds, nanos) in [
        (-86_400, 0),
        (86_400, -1),
        (86_400, 1_000_000_000),
        (i64::MAX, i32::MAX),
        (i64::MIN, 0),
    ] {
        let ttl = Duration { seconds, nanos };
        let answer = create(&client, "bad", |s| s.expiration_policy = expires(Some(ttl))).await;
        refused(answer, Code::InvalidArgument, &format!("{ttl:?}"));
    }
}

#[tokio::test]
async fn case_15_labels_of_a_subscription_follow_the_rules_too() {
    let client = client_with_topic().await;
    let key = |key: &str| [(key.to_owned(), "v".to_owned())].into_iter().collect();
    let created = ok(create(&client, "good", |s| s.labels = key("team")).await);
    assert_eq!(created.labels, key("team"));
    let answer = create(&client, "bad", |s| s.labels = key("Team")).await;
    refused(answer, Code::InvalidArgument, "an upper-case key");
}

#[tokio::test]
async fn a_shorter_ack_deadline_holds_for_the_next_delivery() {
    let (pubsub, client, topic, subscription) = with_subscription().await;
    let longer = Subscription {
        ack_deadline_seconds: 60,
        ..bare(&subscription, &topic)
    };
    ok(client
        .update_subscription(longer, &["ack_deadline_seconds"])
        .await);
    client.publish_text(&topic, "a").await;
    client.receive_one(&subscription).await;
    pubsub.advance_seconds(59);
    client.assert_nothing(&subscription, "59 of 60 s").await;
    pubsub.advance_seconds(2);
    client.receive_one(&subscription).await;
}
