//! A leader that lacks what was published: three brokers, of which one that was away while others answered is elected.

use std::collections::BTreeSet;

use futures_util::FutureExt as _;

use crate::support::{
    Client,
    admin::topic_name,
    eventually,
    kafka::{Kafka, Record, Replicas},
    location::{Location, service},
    process::Process,
    services::Service,
    stream::{PullStream, opening},
    values::{ack_ids, message, publish_request, texts},
    within,
};

const SETTINGS: [(&str, &str); 3] = [
    ("KAFKA_BROKERS", "3"),
    (
        "KAFKA_SETTINGS",
        "unclean.leader.election.enable=true\nmin.insync.replicas=1",
    ),
    ("KAFKA_JAVA_OPTIONS", "-Xms64m -Xmx256m -XX:+UseSerialGC"),
];

fn texts_of(kind: &str, count: usize) -> Vec<String> {
    (0..count).map(|at| format!("{kind} {at:03}")).collect()
}

/// A server on the three brokers, with a data store of its own.
struct Node {
    location: Location,
    process: Process,
    client: Client,
}

impl Node {
    async fn start(brokers: &str) -> Self {
        let server = service("PACKETBOAT_TEST_POSTGRES");
        let copies = "replication_factor = 2";
        let location = Location::on(brokers.to_owned(), &server, copies).await;
        let process = Process::serve_at(&location, "only").await;
        let client = process.client().await;
        Self {
            location,
            process,
            client,
        }
    }

    /// Makes a Kafka topic on these brokers and attaches it.
    async fn attach(&self, kafka: &Kafka, id: &str, brokers: &[i32]) -> Used {
        let name = format!("{}-{id}", self.location.services().prefix);
        kafka.create_on(&name, brokers).await;
        let topic = topic_name(id);
        self.process.attach(&topic, &name).await;
        self.used(topic, name).await
    }

    async fn used(&self, topic: String, name: String) -> Used {
        let id = topic.rsplit('/').next().expect("an id");
        let subscription = self.client.subscription(id, &topic).await;
        Used {
            topic,
            name,
            subscription,
        }
    }
}

/// A topic with a subscription that acknowledges what comes.
struct Used {
    topic: String,
    /// What Kafka calls it.
    name: String,
    subscription: String,
}

impl Used {
    fn write(&self, kafka: &Kafka, texts: &[String]) {
        kafka.write(texts.iter().map(|text| -> Record<'_> {
            let record = Record::to(&self.name).partition(0);
            record.payload(text.as_bytes())
        }));
    }

    async fn publish(&self, client: &Client, texts: &[String]) {
        let messages: Vec<_> = texts.iter().map(|text| message(text.clone())).collect();
        let request = publish_request(&self.topic, &messages);
        eventually("it is published", || async {
            client.publisher().publish(request.clone()).await.ok()
        })
        .await;
    }

    /// Receives and acknowledges so many messages that a stream has.
    async fn acknowledge(&self, stream: &mut PullStream, count: usize) {
        let received = stream.receive(count).await;
        stream.ack(ack_ids(&received)).await;
        stream.pong_after_ping().await;
    }

    /// Receives and acknowledges from one stream after the other until each of these has come.
    async fn receive_all(
        &self,
        client: &Client,
        mut stream: Option<PullStream>,
        expected: &[String],
    ) {
        let mut missing: BTreeSet<_> = expected.iter().cloned().collect();
        within("all that was published after the election", async {
            while !missing.is_empty() {
                let mut open = if let Some(open) = stream.take() {
                    open
                } else {
                    let opening = opening(&self.subscription);
                    let opened = || client.open(opening.clone()).map(Result::ok);
                    eventually("a stream opens", opened).await
                };
                while !missing.is_empty()
                    && let Ok(some) = open.next().await
                {
                    open.ack(ack_ids(&some)).await;
                    for text in texts(&some) {
                        missing.remove(&text);
                    }
                }
            }
        })
        .await;
    }
}

/// The brokers of a topic, once they are like that.
async fn replicas(kafka: &Kafka, topic: &str, are: impl Fn(&Replicas) -> bool) -> Replicas {
    eventually("the brokers agree", || async {
        kafka.replicas(topic).filter(|found| are(found))
    })
    .await
}

#[tokio::test]
#[ignore = "three brokers: tests/run.sh --long starts them"]
async fn what_is_published_to_a_leader_that_lacks_messages_is_delivered_on_kafka() {
    let brokers = Service::kafka(&SETTINGS).await;
    let addresses = brokers.export("PACKETBOAT_TEST_KAFKA");
    let kafka = Kafka::at(addresses);
    let (here, other) = (Node::start(addresses).await, Node::start(addresses).await);
    let topic = here.client.topic("published").await;
    let name = kafka.topic_of(&here.location.services().prefix, "published");
    let Replicas { leader, all, .. } = replicas(&kafka, &name, |_| true).await;
    let stale = all.into_iter().find(|one| *one != leader).expect("two");
    // Of each, the second 50 are only on the leader. The end of one is passed again before anybody could see it fall, that
    // of another while its subscription is not delivered.
    let published = here.used(topic, name).await;
    let watched = here.attach(&kafka, "watched", &[leader, stale]).await;
    let left = other.attach(&kafka, "left", &[leader, stale]).await;
    let uses = [
        (&published, &here.client),
        (&watched, &here.client),
        (&left, &other.client),
    ];
    let mut streams = Vec::new();
    for (used, client) in uses {
        used.publish(client, &texts_of("both", 100)).await;
        let mut stream = client.stream(&used.subscription).await;
        used.acknowledge(&mut stream, 100).await;
        streams.push(stream);
    }
    brokers.kill_broker(stale).await;
    for ((used, client), stream) in uses.iter().zip(&mut streams) {
        replicas(&kafka, &used.name, |found| found.in_sync == [leader]).await;
        used.publish(client, &texts_of("lost", 50)).await;
        used.acknowledge(stream, 50).await;
    }
    other.process.signal("TERM").await;
    let Node {
        location, process, ..
    } = other;
    process.ended().await;

    brokers.kill_broker(leader).await;
    brokers.start_broker(stale).await;
    let (later, many) = (texts_of("later", 30), texts_of("later", 100));
    for (used, _) in uses {
        replicas(&kafka, &used.name, |found| found.leader == stale).await;
    }
    watched.write(&kafka, &many);
    left.write(&kafka, &many);
    let [published_stream, watched_stream] = [streams.remove(0), streams.remove(0)];
    published.publish(&here.client, &later).await;
    published
        .receive_all(&here.client, Some(published_stream), &later)
        .await;
    watched
        .receive_all(&here.client, Some(watched_stream), &many)
        .await;
    let process = Process::serve_at(&location, "only").await;
    let client = process.client().await;
    left.receive_all(&client, None, &many).await;

    // The one that had them gives them up.
    brokers.start_broker(leader).await;
    let last = texts_of("last", 5);
    for (used, client) in [(&published, &here.client), (&left, &client)] {
        replicas(&kafka, &used.name, |found| found.in_sync.len() == 2).await;
        used.publish(client, &last).await;
        used.receive_all(client, None, &last).await;
    }
    for (process, count) in [(here.process, 2), (process, 1)] {
        process.signal("TERM").await;
        let (_, log) = process.ended().await;
        let told = log
            .lines()
            .filter(|line| line.contains("is not what this subscription has seen"));
        let told: Vec<_> = told.collect();
        let errors = told.iter().all(|line| line.contains("ERROR"));
        assert!(told.len() == count && errors, "{told:#?}");
    }
}
