//! Filters of subscriptions: which messages come, and that the others are done.

use packetboat::proto::google::pubsub::v1::{PubsubMessage, PushConfig, Subscription};
use tonic::Code;

use crate::support::{
    Client, Pubsub,
    admin::{Answer, bare, subscription_name},
    location::Location,
    ok,
    process::Process,
    refused, refused_with,
    values::{Received, ack_ids, attributes, map, texts},
};

impl Client {
    async fn create_filtered(&self, id: &str, topic: &str, filter: &str) -> Answer<Subscription> {
        let subscription = Subscription {
            filter: filter.to_owned(),
            ..bare(&subscription_name(id), topic)
        };
        self.create_subscription(subscription).await
    }

    /// Creates a subscription with this filter and returns its full name.
    async fn filtered(&self, id: &str, topic: &str, filter: &str) -> String {
        let created = ok(self.create_filtered(id, topic, filter).await);
        assert_eq!(created.filter, filter);
        created.name
    }
}

/// A message with its number as data, and an attribute that says what it is modulo 10.
fn message(number: usize) -> PubsubMessage {
    PubsubMessage {
        data: number.to_string().into(),
        attributes: map(&[("kind", &(number % 10).to_string())]),
        ..Default::default()
    }
}

fn messages(count: usize) -> Vec<PubsubMessage> {
    (0..count).map(message).collect()
}

fn numbers(received: &[Received]) -> Vec<usize> {
    let texts = received.iter().map(Received::text);
    texts.map(|text| text.parse().expect("a number")).collect()
}

#[tokio::test]
async fn case_55_each_filter_gets_what_matches_it() {
    let client = Pubsub::start().await.client();
    let topic = client.topic("orders").await;
    let filters = [
        (r#"attributes.name = "com""#, &[0, 3][..]),
        (r#"attributes.name != "com""#, &[1, 2, 4, 5]),
        (r#"hasPrefix(attributes.name, "co")"#, &[0, 2, 3, 5]),
        ("attributes:name", &[0, 1, 2, 3, 5]),
        ("NOT attributes:name", &[4]),
        ("-attributes:name", &[4]),
        (
            r#"(NOT attributes:name) OR attributes.name = "co""#,
            &[2, 4],
        ),
        (r#"NOT (attributes:name OR attributes.lang = "jp")"#, &[]),
        (r#"attributes.name = "com" AND -attributes:"lang""#, &[3]),
        (r#"attributes:"みんな""#, &[3, 4]),
        (r#"attributes:"\u307f\u3093な""#, &[3, 4]),
        (r#"attributes.name = "contains\"quote""#, &[5]),
        (r#"attributes:"iana.org/language_tag""#, &[5]),
    ];
    let mut subscriptions = Vec::new();
    for (number, (filter, _)) in (100..).zip(&filters) {
        let id = format!("worker-{number}");
        subscriptions.push(client.filtered(&id, &topic, filter).await);
    }
    let messages = [
        attributes(&[("name", "com"), ("lang", "en")]),
        attributes(&[("name", "net"), ("lang", "cn")]),
        attributes(&[("name", "co"), ("lang", "jp")]),
        attributes(&[("name", "com"), ("みんな", "dummy")]),
        attributes(&[("lang", "jp"), ("みんな", "")]),
        attributes(&[("name", "contains\"quote"), ("iana.org/language_tag", "")]),
    ];
    let messages: Vec<_> = (0..)
        .zip(messages)
        .map(|(number, message)| PubsubMessage {
            data: number.to_string().into(),
            ..message
        })
        .collect();
    client.publish(&topic, &messages).await;
    for (subscription, (filter, wanted)) in subscriptions.iter().zip(filters) {
        let received = client.receive(subscription, wanted.len()).await;
        let mut found = numbers(&received);
        found.sort_unstable();
        assert_eq!(found, wanted, "{filter}");
        client.assert_nothing(subscription, filter).await;
    }
}

#[tokio::test]
async fn case_55_what_is_no_filter_is_refused_with_its_place_and_nothing_is_stored() {
    let client = Pubsub::start().await.client();
    let topic = client.topic("orders").await;
    for (filter, wrong) in [
        (
            "attributes:a and attributes:b",
            "expected AND, OR or the end at character 14, found `and`",
        ),
        (
            "attributes:a AND attributes:b OR attributes:c",
            "AND and OR are mixed at character 31: one of them needs parentheses",
        ),
        (
            "attributes:iana.org",
            "expected AND, OR or the end at character 16, found `.`",
        ),
        (
            "attributes.name = $",
            "expected a quoted string at character 19, found `$`",
        ),
        (
            "hasPrefix(attributes.name)",
            "expected `,` at character 26, found `)`",
        ),
        (
            "(attributes:a",
            "expected AND, OR or `)` at character 14, found the end",
        ),
    ] {
        let answer = client.create_filtered("worker", &topic, filter).await;
        let text = format!(
            "You have passed an invalid argument to the service (argument=Invalid filter: {wrong})."
        );
        refused_with(answer, Code::InvalidArgument, &text);
    }
    let longest = format!("attributes:{}", "k".repeat(245));
    let longer = format!("{longest}k");
    let answer = client.create_filtered("worker", &topic, &longer).await;
    refused_with(
        answer,
        Code::InvalidArgument,
        "The value for filter is too large. You passed 257 in the request, but the maximum value is 256.",
    );
    let found = client.get_subscription(&subscription_name("worker")).await;
    refused(found, Code::NotFound, "nothing was created");
    client.filtered("worker", &topic, &longest).await;
}

#[tokio::test]
async fn case_07_a_filter_is_shown_as_it_was_given_and_stays_whatever_else_is_updated() {
    let client = Pubsub::start().await.client();
    let topic = client.topic("orders").await;
    let filter = r#" attributes . kind="1"OR(attributes:"a b")"#;
    let name = client.filtered("worker", &topic, filter).await;
    let created = ok(client.get_subscription(&name).await);
    assert_eq!(created.filter, filter);
    let given = Subscription {
        filter: "attributes:other".to_owned(),
        labels: map(&[("team", "blue")]),
        ..bare(&name, &topic)
    };
    let updated = ok(client.update_subscription(given, &["labels"]).await);
    let wanted = Subscription {
        labels: map(&[("team", "blue")]),
        push_config: Some(PushConfig::default()),
        ..created
    };
    assert_eq!(updated, wanted);
    assert_eq!(ok(client.get_subscription(&name).await), wanted);
}

#[tokio::test]
async fn case_55_a_stream_gets_what_lies_far_behind_what_is_filtered() {
    let client = Pubsub::start().await.client();
    let topic = client.topic("orders").await;
    let subscription = client.filtered("worker", &topic, "attributes:wanted").await;
    let mut stream = client.stream(&subscription).await;
    for _ in 0..15 {
        client.publish(&topic, &messages(1000)).await;
    }
    for number in 0..3 {
        let wanted = PubsubMessage {
            attributes: map(&[("wanted", "")]),
            ..message(number)
        };
        client.publish(&topic, &[wanted]).await;
        let received = stream.receive(1).await;
        assert_eq!(numbers(&received), [number]);
        stream.ack(ack_ids(&received)).await;
        client.publish(&topic, &messages(1000)).await;
    }
    stream.assert_no_message("the others are filtered").await;
}

#[tokio::test]
async fn case_55_filtered_messages_never_come_on_an_embedded_store() {
    filtered_messages_never_come(&Location::embedded()).await;
}

#[tokio::test]
async fn case_55_filtered_messages_never_come_on_kafka_and_postgres() {
    filtered_messages_never_come(&Location::kafka_and_postgres().await).await;
}

/// Not before and not after a crash, whose next server knows the filter from the store.
async fn filtered_messages_never_come(location: &Location) {
    let server = Process::serve_at(location, "only").await;
    let client = server.client().await;
    let topic = client.topic("orders").await;
    let subscription = client
        .filtered("worker", &topic, r#"attributes.kind = "3""#)
        .await;
    client.publish(&topic, &messages(500)).await;
    let received = client.receive_and_ack(&subscription, 50).await;
    assert!(
        received
            .iter()
            .all(|it| it.message.attributes["kind"] == "3")
    );
    client.assert_nothing(&subscription, "all is acked").await;
    client.publish(&topic, &messages(100)).await;
    server.signal("KILL").await;
    server.ended().await;

    let server = Process::serve_at(location, "only").await;
    let client = server.client().await;
    let shown = ok(client.get_subscription(&subscription).await);
    assert_eq!(shown.filter, r#"attributes.kind = "3""#);
    let received = client.receive_and_ack(&subscription, 10).await;
    let mut found = numbers(&received);
    found.sort_unstable();
    assert!(found.into_iter().eq((3..100).step_by(10)));
    client.assert_nothing(&subscription, "all is acked").await;
}

#[tokio::test]
async fn case_55_a_nacked_message_comes_again_and_what_is_filtered_beside_it_does_not() {
    let client = Pubsub::start().await.client();
    let topic = client.topic("orders").await;
    let subscription = client
        .filtered("worker", &topic, r#"attributes.kind = "5""#)
        .await;
    client.publish(&topic, &messages(40)).await;
    let received = client.receive(&subscription, 4).await;
    let nack = client.modify_deadline(&subscription, ack_ids(&received), 0);
    ok(nack.await);
    let again = client.receive_and_ack(&subscription, 4).await;
    assert_eq!(texts(&again), ["15", "25", "35", "5"]);
    client.assert_nothing(&subscription, "all is acked").await;
}
