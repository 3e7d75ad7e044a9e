//! Lists come in pages: complete, in order, and only of the project that was asked for.

use std::collections::HashMap;

use packetboat::proto::google::pubsub::v1::{
    ListSubscriptionsRequest, ListTopicSubscriptionsRequest, ListTopicsRequest, ListTopicsResponse,
    Topic,
};
use serde_json::Value;
use tonic::Code;

use crate::support::{
    Client, Pubsub,
    admin::{Answer, subscription_name, topic_name},
    http, ok, refused, refused_with,
};

async fn list(client: &Client, page_size: i32, page_token: &str) -> Answer<ListTopicsResponse> {
    let request = ListTopicsRequest {
        project: "projects/tests".to_owned(),
        page_size,
        page_token: page_token.to_owned(),
    };
    client.publisher().list_topics(request).await
}

/// The names of every topic, page by page, and how many pages it took.
async fn list_all(client: &Client, page_size: i32) -> (Vec<String>, usize) {
    let (mut names, mut pages, mut token) = (Vec::new(), 0, String::new());
    loop {
        let page = ok(list(client, page_size, &token).await);
        if page_size > 0 {
            assert!(page.topics.len() <= page_size.unsigned_abs() as usize);
        }
        pages += 1;
        names.extend(page.topics.into_iter().map(|topic| topic.name));
        token = page.next_page_token;
        if token.is_empty() {
            return (names, pages);
        }
    }
}

async fn with_topics(count: usize) -> (Pubsub, Vec<String>) {
    let pubsub = Pubsub::start().await;
    let client = pubsub.client();
    let mut names = Vec::new();
    for number in 0..count {
        names.push(client.topic(&format!("topic-{number:03}")).await);
    }
    (pubsub, names)
}

#[tokio::test]
async fn a_page_is_no_larger_than_clients_receive_by_default() {
    let pubsub = Pubsub::start().await;
    let client = pubsub.client();
    let labels = (0..64).map(|number| (format!("l{number:062}"), "v".repeat(63)));
    let labels: HashMap<_, _> = labels.collect();
    let mut names = Vec::new();
    for number in 0..600 {
        let topic = Topic {
            name: topic_name(&format!("topic-{number:03}")),
            labels: labels.clone(),
            ..Topic::default()
        };
        names.push(ok(client.create_topic(topic).await).name);
    }
    // All of them have 5 MB.
    assert_eq!(list_all(&client, 1000).await, (names, 2));
}

#[tokio::test]
async fn case_09_listing_pages_completely_and_in_order_whatever_the_page_size() {
    let (pubsub, names) = with_topics(250).await;
    let client = pubsub.client();
    for (page_size, pages) in [(0, 3), (1, 250), (100, 3), (249, 2), (250, 1), (1000, 1)] {
        let listed = list_all(&client, page_size).await;
        assert_eq!(listed, (names.clone(), pages), "page size {page_size}");
    }
}

#[tokio::test]
async fn case_09_page_sizes_and_tokens_that_cannot_be_are_refused() {
    let (pubsub, _names) = with_topics(3).await;
    let client = pubsub.client();
    for page_size in [1001, -1, i32::MAX, i32::MIN] {
        let text = format!(
            "The value for page_size is out of bounds. You passed {page_size} in the request, but the value must be between 0 and 1000."
        );
        let answer = list(&client, page_size, "").await;
        refused_with(answer, Code::InvalidArgument, &text);
    }
    for token in ["garbage", "AAAA", "%00", "ключ", &"A".repeat(10_000)] {
        let text = format!("Invalid page token given (token={token}).");
        let answer = list(&client, 1, token).await;
        if token.len() < 1000 {
            refused_with(answer, Code::InvalidArgument, &text);
        } else {
            // A text of that length does not fit into a header.
            refused(answer, Code::InvalidArgument, "a long token");
        }
    }
}

#[tokio::test]
async fn case_09_a_token_of_another_list_is_refused() {
    let (pubsub, _names) = with_topics(3).await;
    let client = pubsub.client();
    let token = ok(list(&client, 1, "").await).next_page_token;
    let text = format!("Invalid page token given (token={token}).");
    let of_another_project = ListTopicsRequest {
        project: "projects/another".to_owned(),
        page_token: token.clone(),
        ..Default::default()
    };
    let answer = client.publisher().list_topics(of_another_project).await;
    refused_with(answer, Code::InvalidArgument, &text);
    let subscriptions = ListSubscriptionsRequest {
        project: "projects/tests".to_owned(),
        page_token: token,
        ..Default::default()
    };
    let answer = client.subscriber().list_subscriptions(subscriptions).await;
    refused_with(answer, Code::InvalidArgument, &text);
}

#[tokio::test]
async fn case_09_a_token_outlives_the_topic_that_it_points_at_and_fits_other_page_sizes() {
    let (pubsub, names) = with_topics(6).await;
    let client = pubsub.client();
    let first = ok(list(&client, 2, "").await);
    let token = first.next_page_token;
    ok(client.delete_topic(&names[1]).await);
    ok(client.delete_topic(&names[2]).await);
    let rest = ok(list(&client, 10, &token).await);
    let rest: Vec<_> = rest.topics.into_iter().map(|topic| topic.name).collect();
    assert_eq!(rest, names[3..]);
    // The same token again gives the same page again.
    let again = ok(list(&client, 1, &token).await);
    assert_eq!(again.topics[0].name, names[3]);
}

#[tokio::test]
async fn case_09_a_project_whose_name_begins_like_anothers_does_not_see_its_topics() {
    let client = Pubsub::start().await.client();
    for project in ["p1", "p10", "p"] {
        let topic = Topic {
            name: format!("projects/{project}/topics/of-{project}"),
            ..Default::default()
        };
        ok(client.create_topic(topic).await);
    }
    for (project, expected) in [("p1", 1), ("p10", 1), ("p", 1), ("p100", 0)] {
        let request = ListTopicsRequest {
            project: format!("projects/{project}"),
            ..Default::default()
        };
        let listed = ok(client.publisher().list_topics(request).await);
        assert_eq!(listed.topics.len(), expected, "{project}");
        assert!(listed.next_page_token.is_empty());
    }
}

#[tokio::test]
async fn case_09_subscriptions_are_paged_by_project_and_by_topic() {
    let client = Pubsub::start().await.client();
    let topic = client.topic("orders").await;
    let other = client.topic("other").await;
    let mut names = Vec::new();
    for number in 0..7 {
        let id = format!("worker-{number}");
        names.push(client.subscription(&id, &topic).await);
    }
    client.subscription("zz-of-the-other-topic", &other).await;

    let (mut of_topic, mut token) = (Vec::new(), String::new());
    loop {
        let request = ListTopicSubscriptionsRequest {
            topic: topic.clone(),
            page_size: 3,
            page_token: token,
        };
        let page = ok(client.publisher().list_topic_subscriptions(request).await);
        of_topic.extend(page.subscriptions);
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(of_topic, names);

    let (mut of_project, mut token) = (Vec::new(), String::new());
    loop {
        let request = ListSubscriptionsRequest {
            project: "projects/tests".to_owned(),
            page_size: 4,
            page_token: token,
        };
        let page = ok(client.subscriber().list_subscriptions(request).await);
        let page_names = page.subscriptions.into_iter().map(|one| one.name);
        of_project.extend(page_names);
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    names.push(subscription_name("zz-of-the-other-topic"));
    assert_eq!(of_project, names);
}

#[tokio::test]
async fn case_09_the_subscriptions_of_a_missing_topic_are_not_found() {
    let client = Pubsub::start().await.client();
    let request = ListTopicSubscriptionsRequest {
        topic: topic_name("missing"),
        ..Default::default()
    };
    let answer = client.publisher().list_topic_subscriptions(request).await;
    refused(answer, Code::NotFound, "a missing topic");
}

#[tokio::test]
async fn case_09_a_token_of_grpc_is_good_over_rest() {
    let (pubsub, names) = with_topics(3).await;
    let first = ok(list(&pubsub.client(), 2, "").await);
    let target = format!(
        "/v1/projects/tests/topics?pageToken={}",
        first.next_page_token.replace('=', "%3D")
    );
    let rest = http::call(&pubsub.address(), "GET", &target, Value::Null).await;
    let rest = rest.expect(200).json();
    assert_eq!(rest["topics"][0]["name"], names[2]);
    assert_eq!(rest["topics"].as_array().map(Vec::len), Some(1));
}
