//! Kafka's own users: what Pub/Sub clients publish is theirs to read, and what they write arrives at subscribers.

use packetboat::proto::google::pubsub::v1::PubsubMessage;
use rdkafka::message::{Header, OwnedHeaders};
use sqlx::PgPool;
use tonic::Code;

use crate::support::{
    Client,
    admin::topic_name,
    eventually,
    kafka::{Kafka, Record},
    location::Location,
    process::{Process, refusal, run},
    refused,
    values::{Received, attributes, map, message, publish_request},
};

/// A server on Kafka and Postgres.
struct Server {
    location: Location,
    process: Process,
    client: Client,
    kafka: Kafka,
}

impl Server {
    async fn start() -> Self {
        let location = Location::kafka_and_postgres().await;
        let process = Process::serve_at(&location, "only").await;
        Self {
            client: process.client().await,
            process,
            location,
            kafka: Kafka::new(),
        }
    }

    /// The Kafka topic that was made for a topic.
    fn topic_of(&self, id: &str) -> String {
        let prefix = &self.location.services().prefix;
        self.kafka.topic_of(prefix, id)
    }

    /// Makes a Kafka topic as another application would, and returns its name.
    async fn foreign_topic(&self, partitions: i32, settings: &[(&str, &str)]) -> String {
        let name = format!("{}-theirs", self.location.services().prefix);
        self.kafka.create(&name, partitions, settings).await;
        name
    }

    /// The same with a Pub/Sub name put on it, and a subscription to that.
    async fn attached(&self, partitions: i32, settings: &[(&str, &str)]) -> (String, String) {
        let name = self.foreign_topic(partitions, settings).await;
        self.attach("theirs", &name).await;
        let topic = topic_name("theirs");
        (name, self.client.subscription("ours", &topic).await)
    }

    async fn attach(&self, id: &str, kafka_topic: &str) {
        let topic = topic_name(id);
        let output = run(&self.topics(&["attach", &topic, "--kafka-topic", kafka_topic])).await;
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{errors}");
    }

    async fn detach(&self, id: &str) {
        let output = run(&self.topics(&["detach", &topic_name(id)])).await;
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{errors}");
    }

    /// Arguments of `packetboat topics` for this server.
    fn topics<'a>(&self, action: &[&'a str]) -> Vec<&'a str> {
        let address = self.process.addresses[0].to_string();
        let flags = ["topics", "--addr", address.leak()];
        [&flags, action].concat()
    }

    /// Waits until everything is done that follows the deletion of a topic.
    async fn has_forgotten_what_was_deleted(&self) {
        let url = &self.location.services().postgres;
        let database = PgPool::connect(url).await.expect("Postgres");
        eventually("no topic is half deleted", || async {
            let left = sqlx::query_scalar("SELECT count(*) FROM topics WHERE phase = 2");
            let left: i64 = left.fetch_one(&database).await.expect("a count");
            (left == 0).then_some(())
        })
        .await;
    }

    /// Receives `count` messages in order of their data.
    async fn receive(&self, subscription: &str, count: usize) -> Vec<PubsubMessage> {
        let received = self.client.receive(subscription, count).await;
        let mut messages: Vec<_> = received
            .into_iter()
            .map(|one: Received| one.message)
            .collect();
        messages.sort_by(|a, b| a.data.cmp(&b.data));
        messages
    }
}

fn keyed(data: &str, key: &str) -> PubsubMessage {
    PubsubMessage {
        ordering_key: key.to_owned(),
        ..message(data.to_owned())
    }
}

fn attribute<'a>(message: &'a PubsubMessage, name: &str) -> Option<&'a str> {
    message.attributes.get(name).map(String::as_str)
}

const SHOWN: [&str; 2] = ["print.key=true", "print.headers=true"];

#[tokio::test]
async fn what_is_published_is_a_plain_record_with_key_and_headers() {
    let server = Server::start().await;
    let topic = server.client.topic("orders").await;
    let full = PubsubMessage {
        attributes: map(&[("colour", "green")]),
        ..keyed("hällo", "customer-1")
    };
    let messages = [full, message("bare"), attributes(&[("only", "this")])];
    server.client.publish(&topic, &messages).await;
    let name = server.topic_of("orders");
    let lines = server.kafka.console_consumer(&name, 3, &SHOWN).await;
    let expected = [
        "NO_HEADERS\tnull\tbare",
        "colour:green\tcustomer-1\thällo",
        // No data is an empty value. One that is null, which means deleted, would be shown as such.
        "only:this\tnull\t",
    ];
    assert_eq!(lines, expected);
}

#[tokio::test]
async fn what_a_stock_producer_writes_is_data_attributes_and_ordering_key() {
    let server = Server::start().await;
    let topic = server.client.topic("orders").await;
    let subscription = server.client.subscription("desk", &topic).await;
    let name = server.topic_of("orders");
    let lines = "colour:green,size:3\tcustomer-1\tfull\nNULL\tNULL\tbare\n";
    server.kafka.console_producer(&name, lines).await;
    let received = server.receive(&subscription, 2).await;
    assert_eq!(
        (&received[0].data[..], received[0].ordering_key.as_str()),
        (&b"bare"[..], "")
    );
    assert!(received[0].attributes.is_empty());
    assert_eq!(received[1].data, "full");
    assert_eq!(received[1].ordering_key, "customer-1");
    assert_eq!(
        received[1].attributes,
        map(&[("colour", "green"), ("size", "3")])
    );
}

#[tokio::test]
async fn an_attached_topic_is_read_and_written_and_never_touched() {
    let server = Server::start().await;
    let settings = [("retention.ms", "-1"), ("segment.bytes", "2097152")];
    let name = server.foreign_topic(3, &settings).await;
    let before: Vec<_> = (0..3)
        .map(|partition| to(&name, partition, b"before"))
        .collect();
    server.kafka.write(before);
    server.attach("theirs", &name).await;
    let topic = topic_name("theirs");
    let subscription = server.client.subscription("ours", &topic).await;
    let set = server.kafka.settings(&name).await;

    // Older than the subscription's retention: on an attached topic only Kafka's own rules count.
    let old = (0..3).map(|partition| {
        to(&name, partition, b"theirs").timestamp(1_600_000_000_000 + i64::from(partition))
    });
    server.kafka.write(old);
    let messages = [keyed("ours", "a"), keyed("ours", "b"), message("ours")];
    server.client.publish(&topic, &messages).await;
    let received = server.receive(&subscription, 6).await;
    assert!(
        received[..3].iter().all(|one| one.data == "ours"),
        "{received:?}"
    );
    let mut times: Vec<_> = received[3..]
        .iter()
        .map(|one| {
            assert_eq!(one.data, "theirs");
            let time = one.publish_time.expect("a time");
            (time.seconds, time.nanos)
        })
        .collect();
    times.sort_unstable();
    assert_eq!(
        times,
        [
            (1_600_000_000, 0),
            (1_600_000_000, 1_000_000),
            (1_600_000_000, 2_000_000)
        ]
    );

    server.detach("theirs").await;
    server
        .client
        .delete_subscription(&subscription)
        .await
        .expect("deleted");
    server.attach("theirs", &name).await;
    server.client.delete_topic(&topic).await.expect("deleted");
    server.has_forgotten_what_was_deleted().await;
    let records = server.kafka.console_consumer(&name, 9, &[]).await;
    assert_eq!(
        records,
        [["before"; 3], ["ours"; 3], ["theirs"; 3]].concat()
    );
    assert_eq!(server.kafka.settings(&name).await, set);
}

/// A record without key.
fn to<'a>(topic: &'a str, partition: i32, value: &'a [u8]) -> Record<'a> {
    Record::to(topic).partition(partition).payload(value)
}

#[tokio::test]
async fn subscriptions_deliver_what_they_have_after_their_topic_is_detached() {
    let server = Server::start().await;
    let (name, subscription) = server.attached(1, &[]).await;
    server.kafka.write([to(&name, 0, b"last")]);
    server.detach("theirs").await;
    assert_eq!(server.receive(&subscription, 1).await[0].data, "last");
    let publish = publish_request(&topic_name("theirs"), &[message("late")]);
    refused(
        server.client.publisher().publish(publish).await,
        Code::NotFound,
        "detached",
    );
}

#[tokio::test]
async fn every_name_of_a_kafka_topic_gets_what_is_written_to_it() {
    let server = Server::start().await;
    let (name, first) = server.attached(1, &[]).await;
    // Both are in use before anything is written.
    server
        .client
        .assert_nothing(&first, "nothing is written")
        .await;
    server.attach("theirs-too", &name).await;
    let topic = topic_name("theirs-too");
    let second = server.client.subscription("ours-too", &topic).await;
    server
        .client
        .assert_nothing(&second, "nothing is written")
        .await;
    let both = async |text: &str| {
        server.kafka.write([to(&name, 0, text.as_bytes())]);
        for subscription in [&first, &second] {
            let received = server.client.receive_and_ack(subscription, 1).await;
            assert_eq!(received[0].message.data, *text);
        }
    };
    both("for both").await;
    // One of them goes and comes back while the other one is in use.
    server.detach("theirs-too").await;
    both("to what is left").await;
    server.attach("theirs-too", &name).await;
    let third = server.client.subscription("ours-again", &topic).await;
    both("for three").await;
    assert_eq!(server.receive(&third, 1).await[0].data, "for three");
}

#[tokio::test]
async fn what_cannot_be_attached_or_detached_says_why() {
    let server = Server::start().await;
    let name = server.foreign_topic(1, &[]).await;
    server.client.topic("orders").await;
    let orders = topic_name("orders");
    let attach = |kafka_topic| server.topics(&["attach", &orders, "--kafka-topic", kafka_topic]);
    let text = refusal(&attach(&name)).await;
    assert!(
        text.contains("AlreadyExists") && text.contains("orders"),
        "{text}"
    );
    let fresh = topic_name("fresh");
    let missing = ["attach", &fresh, "--kafka-topic", "no-such-topic"];
    let text = refusal(&server.topics(&missing)).await;
    assert!(
        text.contains("NotFound") && text.contains("no-such-topic"),
        "{text}"
    );
    let own = server.topic_of("orders");
    for never in ["__consumer_offsets", &own] {
        let attach = ["attach", &fresh, "--kafka-topic", never];
        let text = refusal(&server.topics(&attach)).await;
        assert!(
            text.contains("FailedPrecondition") && text.contains(never),
            "{text}"
        );
    }
    let text = refusal(&server.topics(&["detach", &orders])).await;
    assert!(
        text.contains("FailedPrecondition") && text.contains("not attached"),
        "{text}"
    );
    let text = refusal(&server.topics(&["detach", &fresh])).await;
    assert!(text.contains("NotFound"), "{text}");

    let embedded = Process::serve(&["--ephemeral", "--listen", "127.0.0.1:0"]).await;
    let address = embedded.addresses[0].to_string();
    let attach = [
        "topics",
        "--addr",
        &address,
        "attach",
        &fresh,
        "--kafka-topic",
        &name,
    ];
    let text = refusal(&attach).await;
    assert!(
        text.contains("FailedPrecondition") && text.contains("Kafka"),
        "{text}"
    );
}

#[tokio::test]
async fn a_compacted_topic_takes_messages_with_a_key_only() {
    let server = Server::start().await;
    let (_, subscription) = server.attached(1, &[("cleanup.policy", "compact")]).await;
    let topic = topic_name("theirs");
    let keyless = server
        .client
        .publisher()
        .publish(publish_request(&topic, &[message("a")]))
        .await;
    let status = refused(keyless, Code::FailedPrecondition, "without a key");
    assert!(status.message().contains("ordering key"), "{status:?}");
    server.client.publish(&topic, &[keyed("b", "key")]).await;
    assert_eq!(
        server.receive(&subscription, 1).await[0].ordering_key,
        "key"
    );
}

#[tokio::test]
async fn records_that_are_no_messages_arrive_as_well_as_can_be_said() {
    let server = Server::start().await;
    let (name, subscription) = server.attached(1, &[]).await;
    server
        .kafka
        .console_producer(&name, "NULL\tgone\tNULL\n")
        .await;
    let tombstone = &server.receive(&subscription, 1).await[0];
    assert_eq!(
        (&tombstone.data[..], tombstone.ordering_key.as_str()),
        (&b""[..], "gone")
    );
    assert_eq!(attribute(tombstone, "kafka-tombstone"), Some("true"));

    let headers = OwnedHeaders::new()
        .insert(Header {
            key: "twice",
            value: Some(&b"first"[..]),
        })
        .insert(Header {
            key: "twice",
            value: Some(&b"last"[..]),
        })
        .insert(Header {
            key: "none",
            value: None::<&[u8]>,
        })
        .insert(Header {
            key: "binary",
            value: Some(&[0xff_u8, 0][..]),
        });
    server.kafka.write([
        to(&name, 0, b"binary key").key(&[0xff, 0]),
        to(&name, 0, b"headers").headers(headers),
    ]);
    let received = server.receive(&subscription, 2).await;
    assert_eq!(received[0].ordering_key, "/wA=");
    assert_eq!(
        attribute(&received[0], "kafka-key-encoding"),
        Some("base64")
    );
    let expected = map(&[("twice", "last"), ("none", ""), ("binary.base64", "/wA=")]);
    assert_eq!(received[1].attributes, expected);
}

#[tokio::test]
async fn a_record_larger_than_a_request_may_be_is_delivered_alone() {
    let server = Server::start().await;
    let (name, subscription) = server
        .attached(1, &[("max.message.bytes", "20000000")])
        .await;
    let large = vec![b'x'; 12_000_000];
    server
        .kafka
        .write([to(&name, 0, b"a"), to(&name, 0, &large), to(&name, 0, b"z")]);
    let received = server.receive(&subscription, 3).await;
    let sizes: Vec<_> = received.iter().map(|one| one.data.len()).collect();
    assert_eq!(sizes, [1, 12_000_000, 1]);
}
