//! Retry policies: how long a message waits for its redelivery.

use std::time::Duration;

use packetboat::proto::google::pubsub::v1::{PubsubMessage, RetryPolicy, Subscription};
use tonic::Code;

use crate::support::{
    Client, Pubsub,
    admin::{bare, subscription_name},
    ok, refused,
    values::{Received, message, seconds},
};

fn policy(minimum: i64, maximum: i64) -> RetryPolicy {
    RetryPolicy {
        minimum_backoff: seconds(minimum),
        maximum_backoff: seconds(maximum),
    }
}

impl Client {
    async fn subscription_with(&self, topic: &str, retry_policy: Option<RetryPolicy>) -> String {
        let subscription = Subscription {
            retry_policy,
            ..bare(&subscription_name("worker"), topic)
        };
        ok(self.create_subscription(subscription).await).name
    }

    async fn nack(&self, subscription: &str, received: &Received) {
        let ack_ids = vec![received.ack_id.clone()];
        ok(self.modify_deadline(subscription, ack_ids, 0).await);
    }
}

#[tokio::test]
async fn case_53_backoffs_double_from_the_minimum_to_the_maximum_and_others_flow() {
    let pubsub = Pubsub::start().await;
    let client = pubsub.client();
    let topic = client.topic("orders").await;
    let subscription = client.subscription_with(&topic, Some(policy(1, 4))).await;
    client.publish_text(&topic, "a").await;
    let mut received = client.receive_one(&subscription).await;
    for wait in [1, 2, 4, 4] {
        client.nack(&subscription, &received).await;
        let almost = Duration::from_millis(wait * 1000 - 20);
        pubsub.advance(almost);
        client.assert_nothing(&subscription, "it waits").await;
        client.publish_text(&topic, "other").await;
        client.receive_and_ack(&subscription, 1).await;
        pubsub.advance(Duration::from_millis(40));
        let again = client.receive_one(&subscription).await;
        assert_eq!(again.message, received.message);
        received = again;
    }
    // An expiry counts like a nack.
    pubsub.advance_seconds(11);
    client.assert_nothing(&subscription, "it waits").await;
    pubsub.advance_seconds(4);
    client.receive_and_ack(&subscription, 1).await;
}

#[tokio::test]
async fn case_53_without_a_policy_or_a_minimum_a_nacked_message_comes_back_at_once() {
    for policy in [None, Some(policy(0, 600))] {
        let client = Pubsub::start().await.client();
        let topic = client.topic("orders").await;
        let subscription = client.subscription_with(&topic, policy).await;
        client.publish_text(&topic, "a").await;
        let received = client.receive_one(&subscription).await;
        client.nack(&subscription, &received).await;
        let again = client.receive_one(&subscription).await;
        assert_eq!(again.message, received.message);
    }
}

#[tokio::test]
async fn case_05_a_retry_policy_is_shown_with_its_defaults_changed_and_cleared() {
    let client = Pubsub::start().await.client();
    let topic = client.topic("orders").await;
    let name = client
        .subscription_with(&topic, Some(RetryPolicy::default()))
        .await;
    let shown = ok(client.get_subscription(&name).await);
    assert_eq!(shown.retry_policy, Some(policy(10, 600)));
    let update = async |retry_policy| {
        let changed = Subscription {
            retry_policy,
            ..bare(&name, &topic)
        };
        ok(client.update_subscription(changed, &["retry_policy"]).await).retry_policy
    };
    assert_eq!(update(Some(policy(5, 7))).await, Some(policy(5, 7)));
    assert_eq!(update(None).await, None);
}

#[tokio::test]
async fn case_05_backoffs_are_0_to_600_seconds_and_the_minimum_is_the_smaller() {
    let client = Pubsub::start().await.client();
    let topic = client.topic("orders").await;
    let name = client.subscription_with(&topic, Some(policy(0, 0))).await;
    let set = async |retry_policy: RetryPolicy, subscription: &str| {
        let changed = Subscription {
            retry_policy: Some(retry_policy),
            ..bare(subscription, &topic)
        };
        client.update_subscription(changed, &["retry_policy"]).await
    };
    for (minimum, maximum) in [(0, 0), (0, 600), (600, 600)] {
        let valid = policy(minimum, maximum);
        let changed = ok(set(valid, &name).await);
        assert_eq!(changed.retry_policy, Some(valid));
    }
    let only_minimum = RetryPolicy {
        maximum_backoff: None,
        ..policy(601, 0)
    };
    let only_maximum = RetryPolicy {
        minimum_backoff: None,
        ..policy(0, 9)
    };
    let wrong = [policy(-1, 600), policy(0, 601), policy(8, 7)];
    for wrong in wrong.into_iter().chain([only_minimum, only_maximum]) {
        let create = client.create_subscription(Subscription {
            retry_policy: Some(wrong),
            ..bare(&subscription_name("refused"), &topic)
        });
        refused(create.await, Code::InvalidArgument, "its policy");
        refused(set(wrong, &name).await, Code::InvalidArgument, "its policy");
    }
    let kept = ok(client.get_subscription(&name).await);
    assert_eq!(kept.retry_policy, Some(policy(600, 600)));
}

#[tokio::test]
async fn case_53_a_key_waits_for_the_backoff_of_its_first_message_and_others_flow() {
    let pubsub = Pubsub::start().await;
    let client = pubsub.client();
    let topic = client.topic("orders").await;
    let subscription = Subscription {
        enable_message_ordering: true,
        retry_policy: Some(policy(2, 2)),
        ..bare(&subscription_name("worker"), &topic)
    };
    let name = ok(client.create_subscription(subscription).await).name;
    let keyed = |key: &str, text: &str| PubsubMessage {
        ordering_key: key.to_owned(),
        ..message(text.to_owned())
    };
    client
        .publish(&topic, &[keyed("k", "1"), keyed("k", "2")])
        .await;
    let first = client.receive(&name, 2).await;
    client.nack(&name, &first[0]).await;
    client
        .publish(&topic, &[keyed("k", "3"), keyed("other", "a")])
        .await;
    let other = client.receive_and_ack(&name, 1).await;
    assert_eq!(other[0].text(), "a");
    pubsub.advance(Duration::from_millis(1980));
    client.assert_nothing(&name, "its key waits").await;
    pubsub.advance(Duration::from_millis(40));
    let again = client.receive(&name, 3).await;
    let again: Vec<_> = again.iter().map(Received::text).collect();
    assert_eq!(again, ["1", "2", "3"]);
}

#[tokio::test]
async fn case_53_a_changed_policy_counts_from_the_next_failure_on() {
    let pubsub = Pubsub::start().await;
    let client = pubsub.client();
    let topic = client.topic("orders").await;
    let subscription = client.subscription_with(&topic, Some(policy(8, 8))).await;
    client.publish_text(&topic, "a").await;
    let received = client.receive_one(&subscription).await;
    client.nack(&subscription, &received).await;
    let cleared = bare(&subscription, &topic);
    ok(client.update_subscription(cleared, &["retry_policy"]).await);
    pubsub.advance_seconds(7);
    client.assert_nothing(&subscription, "its wait runs").await;
    pubsub.advance_seconds(2);
    let received = client.receive_one(&subscription).await;
    client.nack(&subscription, &received).await;
    client.receive_and_ack(&subscription, 1).await;
}
