//! Malformed values in every RPC get their documented status, and the server serves on afterwards.

use packetboat::proto::google::pubsub::v1::{
    ListSubscriptionsRequest, ListTopicSubscriptionsRequest, ListTopicsRequest, Topic,
};
use tonic::{Code, Status};

use crate::support::{
    Client,
    admin::{bare, subscription_name, topic_name, with_subscription},
    backlog::pull_request,
    refused,
    stream::opening,
    values::{message, publish_request},
};

/// Names that are neither a topic's nor a subscription's.
fn bad_names() -> Vec<String> {
    let long = "x".repeat(300);
    [
        "",
        "/",
        "orders",
        "projects",
        "projects/",
        "projects/p",
        "projects//topics/orders",
        "projects//subscriptions/orders",
        "projects/p/topics",
        "projects/p/topics/",
        "projects/p/subscriptions/",
        "projects/p/schemas/orders",
        "projects/p/topics/orders/",
        "projects/p/topics/orders/more",
        "projects/p/subscriptions/orders/more",
        "/projects/p/topics/orders",
        " projects/p/topics/orders",
        "projects/p/topics/or ders",
        "projects/p/topics/orders\n",
        "projects/p\0/topics/orders",
        "projects/p/topics/ordérs",
        "projects/p/subscriptions/ordérs",
        "projects/p/topics/../orders",
        "Projects/p/topics/orders",
        "_deleted-topic_",
    ]
    .into_iter()
    .map(str::to_owned)
    .chain([
        format!("projects/p/topics/{long}"),
        format!("projects/p/subscriptions/{long}"),
        format!("projects/{long}/topics/orders"),
        format!("projects/{long}/subscriptions/orders"),
        "/".repeat(100_000),
    ])
    .collect()
}

/// Calls every RPC that takes a topic's or a subscription's name with `name`.
async fn with_name(client: &Client, name: &str) -> Vec<(&'static str, Result<(), Status>)> {
    let topic = Topic {
        name: name.to_owned(),
        ..Default::default()
    };
    let good = topic_name("orders");
    let subscriptions = ListTopicSubscriptionsRequest {
        topic: name.to_owned(),
        ..Default::default()
    };
    let publish = publish_request(name, &[message("d")]);
    let ids = || vec!["x".to_owned()];
    let stream = async {
        let mut stream = client.open(opening(name)).await?;
        match stream.end().await {
            status if status.code() == Code::Ok => Ok(()),
            status => Err(status),
        }
    };
    let update = ["labels"];
    let attach = bare(&subscription_name("attached"), name);
    let mut results = vec![
        (
            "CreateTopic",
            client.create_topic(topic.clone()).await.map(drop),
        ),
        (
            "UpdateTopic",
            client.update_topic(topic, &update).await.map(drop),
        ),
        ("GetTopic", client.get_topic(name).await.map(drop)),
        ("DeleteTopic", client.delete_topic(name).await.map(drop)),
        (
            "Publish",
            client.publisher().publish(publish).await.map(drop),
        ),
        (
            "ListTopicSubscriptions",
            client
                .publisher()
                .list_topic_subscriptions(subscriptions)
                .await
                .map(drop),
        ),
        (
            "CreateSubscription on it",
            client.create_subscription(attach).await.map(drop),
        ),
        (
            "UpdateSubscription",
            client
                .update_subscription(bare(name, &good), &update)
                .await
                .map(drop),
        ),
        (
            "GetSubscription",
            client.get_subscription(name).await.map(drop),
        ),
        (
            "DeleteSubscription",
            client.delete_subscription(name).await.map(drop),
        ),
        ("DetachSubscription", client.detach(name).await.map(drop)),
        (
            "Pull",
            client
                .subscriber()
                .pull(pull_request(name, 1, true))
                .await
                .map(drop),
        ),
        ("Acknowledge", client.ack(name, ids()).await.map(drop)),
        (
            "ModifyAckDeadline",
            client.modify_deadline(name, ids(), 10).await.map(drop),
        ),
        ("StreamingPull", stream.await),
    ];
    // An empty name of a new subscription asks for one.
    if !name.is_empty() {
        let create = client.create_subscription(bare(name, &good)).await;
        results.push(("CreateSubscription", create.map(drop)));
    }
    results
}

#[tokio::test]
async fn malformed_names_are_invalid_arguments_in_every_rpc() {
    let (_pubsub, client, topic, subscription) = with_subscription().await;
    for name in bad_names() {
        for (rpc, result) in with_name(&client, &name).await {
            let what = format!("{rpc} with {:.60}", name.escape_debug().to_string());
            refused(result, Code::InvalidArgument, &what);
        }
    }
    client.publish_text(&topic, "it serves on").await;
    client.receive_and_ack(&subscription, 1).await;
    assert_eq!(client.subscriptions_of(&topic).await, [subscription]);
}

#[tokio::test]
async fn a_topics_name_is_no_subscriptions_and_the_other_way_round() {
    let (_pubsub, client, topic, subscription) = with_subscription().await;
    let of_topic = client.get_topic(&subscription).await;
    refused(of_topic, Code::InvalidArgument, "GetTopic");
    let of_subscription = client.get_subscription(&topic).await;
    refused(of_subscription, Code::InvalidArgument, "GetSubscription");
}

#[tokio::test]
async fn malformed_projects_page_sizes_and_tokens_are_invalid_arguments_in_every_list() {
    let (_pubsub, client, topic, _subscription) = with_subscription().await;
    let good = "projects/tests";
    let long = format!("projects/{}", "x".repeat(300));
    let mut cases: Vec<(&str, i32, &str)> = Vec::new();
    for project in [
        "",
        "tests",
        "projects/",
        "projects/a/b",
        "project/tests",
        &long,
    ] {
        cases.push((project, 0, ""));
    }
    for page_size in [-1, 1001, i32::MIN, i32::MAX] {
        cases.push((good, page_size, ""));
    }
    for token in [
        "x",
        "garbage",
        "cHJvamVjdHM",
        "////",
        "=",
        "\u{fffd}",
        "a b",
    ] {
        cases.push((good, 10, token));
    }
    for (project, page_size, token) in cases {
        let what = format!("{project:.40} {page_size} {token}");
        let page_token = token.to_owned();
        let request = ListTopicsRequest {
            project: project.to_owned(),
            page_size,
            page_token: page_token.clone(),
        };
        let answer = client.publisher().list_topics(request).await;
        refused(answer, Code::InvalidArgument, &what);
        let request = ListSubscriptionsRequest {
            project: project.to_owned(),
            page_size,
            page_token: page_token.clone(),
        };
        let answer = client.subscriber().list_subscriptions(request).await;
        refused(answer, Code::InvalidArgument, &what);
        if project == good {
            let request = ListTopicSubscriptionsRequest {
                topic: topic.clone(),
                page_size,
                page_token,
            };
            let answer = client.publisher().list_topic_subscriptions(request).await;
            refused(answer, Code::InvalidArgument, &what);
        }
    }
}
