//! Subscriptions: defaults, names, deleting and detaching.

use packetboat::proto::google::pubsub::v1::{
    ExpirationPolicy, ListSubscriptionsRequest, PushConfig, Subscription, subscription::State,
};
use tonic::Code;

use crate::support::{
    Pubsub,
    admin::{bare, subscription_name, topic_name, with_subscription},
    backlog::pull_request,
    ok, refused, refused_with,
    values::{ack_ids, days, map, texts},
    within,
};

#[tokio::test]
async fn case_01_a_subscription_id_follows_the_rules() {
    let client = Pubsub::start().await.client();
    let topic = client.topic("orders").await;
    let too_long = "s".repeat(256);
    for id in ["ab", &too_long, "1abc", "googx", "a$b"] {
        let name = subscription_name(id);
        let text = format!(
            "Invalid resource name given (name={name}). Refer to https://cloud.google.com/pubsub/docs/pubsub-basics#resource_names for more information."
        );
        let answer = client.create_subscription(bare(&name, &topic)).await;
        refused_with(answer, Code::InvalidArgument, &text);
    }
    for id in ["abc.~+%_-", "Goog1"] {
        let name = subscription_name(id);
        let created = ok(client.create_subscription(bare(&name, &topic)).await);
        assert_eq!(created, ok(client.get_subscription(&name).await));
    }
}

#[tokio::test]
async fn case_03_a_bare_subscription_has_the_documented_defaults_wherever_it_is_read() {
    let client = Pubsub::start().await.client();
    let topic = client.topic("orders").await;
    let name = subscription_name("orders-worker");
    let created = ok(client.create_subscription(bare(&name, &topic)).await);
    let expected = Subscription {
        push_config: Some(PushConfig::default()),
        ack_deadline_seconds: 10,
        message_retention_duration: days(7),
        expiration_policy: Some(ExpirationPolicy { ttl: days(31) }),
        state: State::Active.into(),
        ..bare(&name, &topic)
    };
    assert_eq!(created, expected);
    assert_eq!(ok(client.get_subscription(&name).await), expected);
    let request = ListSubscriptionsRequest {
        project: "projects/tests".to_owned(),
        ..Default::default()
    };
    let listed = ok(client.subscriber().list_subscriptions(request).await);
    assert_eq!(listed.subscriptions, [expected]);
    assert_eq!(client.subscriptions_of(&topic).await, [name]);
}

#[tokio::test]
async fn what_only_the_server_sets_is_ignored_on_create_and_tags_are_not_returned() {
    let client = Pubsub::start().await.client();
    let topic = client.topic("orders").await;
    let name = subscription_name("orders-worker");
    let presumptuous = Subscription {
        detached: true,
        state: State::ResourceError.into(),
        topic_message_retention_duration: days(1),
        tags: map(&[("123/environment", "production")]),
        labels: map(&[("team", "billing")]),
        ..bare(&name, &topic)
    };
    let created = ok(client.create_subscription(presumptuous).await);
    assert!(!created.detached);
    assert_eq!(created.state(), State::Active);
    assert_eq!(created.topic_message_retention_duration, None);
    assert!(created.tags.is_empty());
    assert_eq!(created.labels, map(&[("team", "billing")]));
}

#[tokio::test]
async fn case_11_a_subscription_is_created_once() {
    let (_pubsub, client, topic, subscription) = with_subscription().await;
    let text = "Resource already exists in the project (resource=orders-worker).";
    let again = client
        .create_subscription(bare(&subscription, &topic))
        .await;
    refused_with(again, Code::AlreadyExists, text);
}

#[tokio::test]
async fn case_12_a_subscription_without_a_name_gets_one_in_its_topics_project() {
    let client = Pubsub::start().await.client();
    let topic = client.topic("orders").await;
    let first = ok(client.create_subscription(bare("", &topic)).await).name;
    let second = ok(client.create_subscription(bare("", &topic)).await).name;
    assert_ne!(first, second);
    for name in [first, second] {
        let id = name.strip_prefix("projects/tests/subscriptions/");
        let id = id.expect("in the topic's project");
        assert!((3..=255).contains(&id.len()), "{id}");
        assert!(id.starts_with(|c: char| c.is_ascii_alphabetic()), "{id}");
        assert_eq!(ok(client.get_subscription(&name).await).topic, topic);
    }
}

#[tokio::test]
async fn a_subscription_that_does_not_exist_is_not_found() {
    let client = Pubsub::start().await.client();
    let name = subscription_name("missing");
    let text = "Resource not found (resource=missing).";
    refused_with(client.get_subscription(&name).await, Code::NotFound, text);
    refused_with(
        client.delete_subscription(&name).await,
        Code::NotFound,
        text,
    );
    let update = bare(&name, &topic_name("orders"));
    let update = client.update_subscription(update, &["labels"]).await;
    refused_with(update, Code::NotFound, text);
    refused_with(client.detach(&name).await, Code::NotFound, text);
    let request = pull_request(&name, 1, true);
    let pull = client.subscriber().pull(request).await;
    refused_with(pull, Code::NotFound, text);
}

#[tokio::test]
async fn a_subscription_may_lie_in_another_project_than_its_topic() {
    let client = Pubsub::start().await.client();
    let topic = client.topic("orders").await;
    let name = "projects/elsewhere/subscriptions/worker";
    ok(client.create_subscription(bare(name, &topic)).await);
    assert_eq!(client.subscriptions_of(&topic).await, [name]);
    client.publish_text(&topic, "hello").await;
    assert_eq!(texts(&client.receive_and_ack(name, 1).await), ["hello"]);
}

#[tokio::test]
async fn a_deleted_subscription_and_one_created_anew_share_nothing_but_the_name() {
    let (_pubsub, client, topic, subscription) = with_subscription().await;
    client.publish_text(&topic, "old").await;
    let old = client.receive(&subscription, 1).await;
    client.publish_text(&topic, "old too").await;
    ok(client.delete_subscription(&subscription).await);
    let ack = client.ack(&subscription, ack_ids(&old)).await;
    refused(ack, Code::NotFound, "an ack on a deleted subscription");
    assert!(client.subscriptions_of(&topic).await.is_empty());

    client.subscription("orders-worker", &topic).await;
    let why = "what was published before belongs to the old one";
    client.assert_nothing(&subscription, why).await;
    client.publish_text(&topic, "new").await;
    ok(client.ack(&subscription, ack_ids(&old)).await);
    let received = client.receive_and_ack(&subscription, 1).await;
    assert_eq!(texts(&received), ["new"]);
}

#[tokio::test]
async fn case_13_a_topic_without_retention_shows_none_on_its_subscriptions() {
    let (_pubsub, client, _topic, subscription) = with_subscription().await;
    let subscription = ok(client.get_subscription(&subscription).await);
    assert_eq!(subscription.topic_message_retention_duration, None);
}

#[tokio::test]
async fn case_14_a_detached_subscription_ends_its_pulls_and_loses_its_backlog() {
    let (pubsub, client, topic, subscription) = with_subscription().await;
    let mut stream = client.stream(&subscription).await;
    stream.pong_after_ping().await;
    let waiting = tokio::spawn({
        let mut subscriber = pubsub.another_client().subscriber();
        let request = pull_request(&subscription, 1, false);
        async move { subscriber.pull(request).await }
    });
    ok(client.detach(&subscription).await);
    stream
        .assert_ends(Code::FailedPrecondition, "an open stream")
        .await;
    let waiting = within("the long poll's end", waiting).await;
    let waiting = waiting.expect("the task ends");
    refused(waiting, Code::FailedPrecondition, "a waiting pull");
    let pull = client
        .subscriber()
        .pull(pull_request(&subscription, 1, true))
        .await;
    refused(pull, Code::FailedPrecondition, "a later pull");

    client.publish_text(&topic, "unheard").await;
    let detached = ok(client.get_subscription(&subscription).await);
    assert!(detached.detached);
    assert_eq!(detached.topic, topic);
    assert!(client.subscriptions_of(&topic).await.is_empty());
    ok(client.detach(&subscription).await);
    ok(client.delete_subscription(&subscription).await);
}

#[tokio::test]
async fn case_14_acks_on_a_detached_subscription_are_accepted() {
    let (_pubsub, client, topic, subscription) = with_subscription().await;
    client.publish_text(&topic, "a").await;
    let received = client.receive(&subscription, 1).await;
    ok(client.detach(&subscription).await);
    ok(client.ack(&subscription, ack_ids(&received)).await);
    let modify = client.modify_deadline(&subscription, ack_ids(&received), 20);
    ok(modify.await);
}
