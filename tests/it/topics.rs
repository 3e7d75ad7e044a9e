//! Topics: names, what is stored, and what deleting one leaves.

use packetboat::proto::google::pubsub::v1::{MessageStoragePolicy, Topic};
use tonic::Code;

use crate::support::{
    Pubsub,
    admin::{bare, subscription_name, topic_name, with_subscription},
    ok, refused, refused_with,
    values::{map, message, publish_request, texts},
};

fn topic(id: &str) -> Topic {
    Topic {
        name: topic_name(id),
        ..Default::default()
    }
}

#[tokio::test]
async fn case_01_a_topic_id_follows_the_rules() {
    let client = Pubsub::start().await.client();
    let too_long = "t".repeat(256);
    for id in ["ab", &too_long, "1abc", "googx", "a$b", "", "a/b", "täst"] {
        let name = topic_name(id);
        let text = format!(
            "Invalid resource name given (name={name}). Refer to https://cloud.google.com/pubsub/docs/pubsub-basics#resource_names for more information."
        );
        let answer = client.create_topic(topic(id)).await;
        refused_with(answer, Code::InvalidArgument, &text);
    }
    let longest = "t".repeat(255);
    for id in ["abc", &longest, "abc.~+%_-", "Goog1", "a%2Fb"] {
        let created = ok(client.create_topic(topic(id)).await);
        assert_eq!(created, ok(client.get_topic(&topic_name(id)).await));
    }
}

#[tokio::test]
async fn case_02_a_domain_scoped_project_is_a_project_like_any_other() {
    let client = Pubsub::start().await.client();
    let topic = "projects/example.com:proj/topics/orders";
    let subscription = "projects/example.com:proj/subscriptions/worker";
    let created = Topic {
        name: topic.to_owned(),
        ..Default::default()
    };
    ok(client.create_topic(created).await);
    ok(client.create_subscription(bare(subscription, topic)).await);
    client.publish_text(topic, "hello").await;
    let received = client.receive_and_ack(subscription, 1).await;
    assert_eq!(texts(&received), ["hello"]);
}

#[tokio::test]
async fn a_bare_topic_is_returned_as_its_name_alone() {
    let client = Pubsub::start().await.client();
    let bare = topic("orders");
    assert_eq!(ok(client.create_topic(bare.clone()).await), bare);
    assert_eq!(ok(client.get_topic(&bare.name).await), bare);
}

#[tokio::test]
async fn settings_that_only_describe_a_topic_are_stored_and_tags_are_not_returned() {
    let client = Pubsub::start().await.client();
    let described = Topic {
        labels: map(&[("team", "billing")]),
        kms_key_name: "projects/p/locations/l/keyRings/r/cryptoKeys/k".to_owned(),
        message_storage_policy: Some(MessageStoragePolicy {
            allowed_persistence_regions: vec!["europe-west1".to_owned()],
            enforce_in_transit: true,
        }),
        ..topic("orders")
    };
    let tagged = Topic {
        tags: map(&[("123/environment", "production")]),
        ..described.clone()
    };
    assert_eq!(ok(client.create_topic(tagged).await), described);
    assert_eq!(ok(client.get_topic(&described.name).await), described);
}

#[tokio::test]
async fn a_storage_policy_without_a_region_and_a_malformed_key_name_are_refused() {
    let client = Pubsub::start().await.client();
    let nowhere = Topic {
        message_storage_policy: Some(MessageStoragePolicy::default()),
        ..topic("nowhere")
    };
    let keyless = Topic {
        kms_key_name: "keys/k".to_owned(),
        ..topic("keyless")
    };
    for bad in [nowhere, keyless] {
        let name = bad.name.clone();
        refused(client.create_topic(bad).await, Code::InvalidArgument, &name);
        refused(client.get_topic(&name).await, Code::NotFound, &name);
    }
}

#[tokio::test]
async fn a_topic_that_does_not_exist_is_not_found() {
    let client = Pubsub::start().await.client();
    let name = topic_name("missing");
    let text = "Resource not found (resource=missing).";
    refused_with(client.get_topic(&name).await, Code::NotFound, text);
    refused_with(client.delete_topic(&name).await, Code::NotFound, text);
    let update = client.update_topic(topic("missing"), &["labels"]).await;
    refused_with(update, Code::NotFound, text);
    let request = publish_request(&name, &[message("a")]);
    let publish = client.publisher().publish(request).await;
    refused_with(publish, Code::NotFound, text);
    let subscription = bare(&subscription_name("worker"), &name);
    let create = client.create_subscription(subscription).await;
    refused_with(create, Code::NotFound, text);
}

#[tokio::test]
async fn case_11_a_topic_is_created_once() {
    let client = Pubsub::start().await.client();
    client.topic("orders").await;
    let text = "Resource already exists in the project (resource=orders).";
    let again = client.create_topic(topic("orders")).await;
    refused_with(again, Code::AlreadyExists, text);
}

#[tokio::test]
async fn case_10_a_deleted_topic_leaves_its_subscriptions_their_backlog() {
    let (_pubsub, client, topic, subscription) = with_subscription().await;
    client.publish_text(&topic, "before").await;
    ok(client.delete_topic(&topic).await);

    let left = ok(client.get_subscription(&subscription).await);
    assert_eq!(left.topic, "_deleted-topic_");
    let answer = client.delete_topic(&topic).await;
    refused(answer, Code::NotFound, "a second delete");

    client.topic("orders").await;
    client.publish_text(&topic, "after").await;
    assert!(client.subscriptions_of(&topic).await.is_empty());
    let received = client.receive_and_ack(&subscription, 1).await;
    assert_eq!(texts(&received), ["before"]);
    client
        .assert_nothing(&subscription, "it is not attached to the new topic")
        .await;
}

#[tokio::test]
async fn case_15_labels_follow_the_rules() {
    let client = Pubsub::start().await.client();
    let labels = |count: usize| {
        let numbers = 0..count;
        let labels = numbers.map(|number| (format!("k{number}"), String::new()));
        Topic {
            labels: labels.collect(),
            ..topic(&format!("with-{count}"))
        }
    };
    let full = labels(64);
    let created = ok(client.create_topic(full.clone()).await);
    assert_eq!(created.labels, full.labels);
    refused_labels(client.create_topic(labels(65)).await, "65 labels");

    let (long, too_long) = ("v".repeat(63), "v".repeat(64));
    let good = [
        ("k", ""),
        (&long, &long),
        ("ключ", "значение"),
        ("表", "1_-a"),
        ("a1_-", "9"),
    ];
    for (number, (key, value)) in good.into_iter().enumerate() {
        let good = Topic {
            labels: map(&[(key, value)]),
            ..topic(&format!("good-{number}"))
        };
        assert_eq!(ok(client.create_topic(good.clone()).await), good);
    }
    let bad = [
        ("", "v"),
        ("K", "v"),
        ("1k", "v"),
        ("_k", "v"),
        ("a b", "v"),
        (&too_long, "v"),
        ("k", "V"),
        ("k", "a.b"),
        ("k", &too_long),
    ];
    for (key, value) in bad {
        let bad = Topic {
            labels: map(&[(key, value)]),
            ..topic("bad")
        };
        refused_labels(client.create_topic(bad).await, &format!("{key}={value}"));
    }
    refused(
        client.get_topic(&topic_name("bad")).await,
        Code::NotFound,
        "nothing was stored",
    );
}

#[track_caller]
fn refused_labels<T>(answer: Result<T, tonic::Status>, what: &str) {
    let status = refused(answer, Code::InvalidArgument, what);
    let beginning = "You have passed an invalid argument to the service (argument=Invalid labels: ";
    assert!(
        status.message().starts_with(beginning),
        "{what}: {status:?}"
    );
}
