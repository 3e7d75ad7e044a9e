//! Google's client for Rust: topics and subscriptions over REST, messages over gRPC, on one port.

use std::{collections::HashSet, path::Path, time::Duration};

use google_cloud_auth::credentials::{Credentials, anonymous};
use google_cloud_gax::{error::rpc::Code, paginator::ItemPaginator as _};
use google_cloud_pubsub::{
    client::{Publisher, Subscriber, SubscriptionAdmin, TopicAdmin},
    model::{Message, Subscription, Topic},
};
use google_cloud_wkt::FieldMask;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    time::timeout,
};

const PATIENCE: Duration = Duration::from_secs(60);

/// A server of a test's own, which is killed when this is dropped.
struct Server {
    url: String,
    _process: Child,
    _directory: TempDir,
}

impl Server {
    async fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let location = Path::new(env!("CARGO_MANIFEST_DIR")).join("../location.sh");
        let location = Command::new(location).arg(directory.path()).output().await;
        let location = location.expect("location.sh runs");
        assert!(location.status.success(), "{location:?}");
        let location = String::from_utf8(location.stdout).expect("text");
        let binary = std::env::var("PACKETBOAT_BIN").expect("PACKETBOAT_BIN names the server");
        let mut process = Command::new(binary)
            .args(["serve", "--listen", "127.0.0.1:0"])
            .args(location.lines())
            .stdout(std::process::Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the server runs");
        let stdout = process.stdout.take().expect("piped");
        let mut lines = BufReader::new(stdout).lines();
        let address = async {
            loop {
                let line = lines.next_line().await.expect("text");
                let line = line.expect("the server says where it is");
                if let Some((_, host)) = line.split_once("PUBSUB_EMULATOR_HOST=") {
                    return host.trim_matches('"').to_owned();
                }
            }
        };
        let address = timeout(PATIENCE, address).await.expect("it starts in time");
        Self {
            url: format!("http://{address}"),
            _process: process,
            _directory: directory,
        }
    }

    async fn topics(&self) -> TopicAdmin {
        let builder = TopicAdmin::builder().with_endpoint(&self.url);
        let client = builder.with_credentials(nobody()).build().await;
        client.expect("a client")
    }

    async fn subscriptions(&self) -> SubscriptionAdmin {
        let builder = SubscriptionAdmin::builder().with_endpoint(&self.url);
        let client = builder.with_credentials(nobody()).build().await;
        client.expect("a client")
    }
}

fn nobody() -> Credentials {
    anonymous::Builder::new().build()
}

const PROJECT: &str = "projects/client-tests";
const TOPIC: &str = "projects/client-tests/topics/letters";
const SUBSCRIPTION: &str = "projects/client-tests/subscriptions/desk";

#[tokio::test]
async fn messages_go_from_publish_to_ack() {
    let server = Server::start().await;
    let (topics, subscriptions) = (server.topics().await, server.subscriptions().await);
    let created = topics.create_topic().set_name(TOPIC).send().await;
    assert_eq!(created.expect("created").name, TOPIC);
    let created = subscriptions.create_subscription().set_name(SUBSCRIPTION);
    let created = created.set_topic(TOPIC).send().await.expect("created");
    assert_eq!(created.ack_deadline_seconds, 10);

    let publisher = Publisher::builder(TOPIC)
        .with_endpoint(&server.url)
        .with_credentials(nobody())
        .build()
        .await
        .expect("a publisher");
    let mut published = HashSet::new();
    let waiting: Vec<_> = (0..100)
        .map(|number| {
            let message = Message::new().set_data(format!("letter {number}"));
            publisher.publish(message.set_attributes([("number", number.to_string())]))
        })
        .collect();
    for id in waiting {
        published.insert(id.await.expect("published"));
    }
    assert_eq!(published.len(), 100);

    let subscriber = Subscriber::builder()
        .with_endpoint(&server.url)
        .with_credentials(nobody())
        .build()
        .await
        .expect("a subscriber");
    let mut stream = subscriber.subscribe(SUBSCRIPTION).build();
    let mut received = HashSet::new();
    while received.len() < published.len() {
        let next = timeout(PATIENCE, stream.next()).await.expect("in time");
        let (message, handler) = next.expect("the stream goes on").expect("a message");
        let text = format!("letter {}", message.attributes["number"]);
        assert_eq!(message.data, text);
        received.insert(message.message_id);
        handler.ack();
    }
    assert_eq!(received, published);
}

#[tokio::test]
async fn resources_are_changed_listed_and_deleted() {
    let server = Server::start().await;
    let topics = server.topics().await;
    let names: Vec<_> = (0..7)
        .map(|number| format!("{PROJECT}/topics/topic-{number}"))
        .collect();
    for name in &names {
        topics
            .create_topic()
            .set_name(name)
            .send()
            .await
            .expect("created");
    }
    let labelled = Topic::new()
        .set_name(&names[0])
        .set_labels([("team", "post")]);
    let updated = topics.update_topic().set_topic(labelled);
    let updated = updated.set_update_mask(FieldMask::default().set_paths(["labels"]));
    let updated = updated.send().await.expect("updated");
    assert_eq!(updated.labels["team"], "post");

    let mut listed = Vec::new();
    let mut items = topics
        .list_topics()
        .set_project(PROJECT)
        .set_page_size(3)
        .by_item();
    while let Some(topic) = items.next().await {
        listed.push(topic.expect("a topic").name);
    }
    assert_eq!(listed, names);

    let subscriptions = server.subscriptions().await;
    let create = subscriptions.create_subscription().set_name(SUBSCRIPTION);
    create.set_topic(&names[0]).send().await.expect("created");
    let slower = Subscription::new()
        .set_name(SUBSCRIPTION)
        .set_ack_deadline_seconds(45);
    let updated = subscriptions.update_subscription().set_subscription(slower);
    let mask = FieldMask::default().set_paths(["ack_deadline_seconds"]);
    let updated = updated.set_update_mask(mask).send().await.expect("updated");
    assert_eq!(updated.ack_deadline_seconds, 45);

    let delete = subscriptions
        .delete_subscription()
        .set_subscription(SUBSCRIPTION);
    delete.send().await.expect("deleted");
    topics
        .delete_topic()
        .set_topic(&names[0])
        .send()
        .await
        .expect("deleted");
    let error = topics.get_topic().set_topic(&names[0]).send().await;
    assert_refused(
        error,
        Code::NotFound,
        "Resource not found (resource=topic-0).",
    );
}

#[tokio::test]
async fn refusals_say_why() {
    let server = Server::start().await;
    let topics = server.topics().await;
    topics
        .create_topic()
        .set_name(TOPIC)
        .send()
        .await
        .expect("created");
    let again = topics.create_topic().set_name(TOPIC).send().await;
    let text = "Resource already exists in the project (resource=letters).";
    assert_refused(again, Code::AlreadyExists, text);
    let bad = topics
        .create_topic()
        .set_name(format!("{PROJECT}/topics/a$b"));
    assert_refused(
        bad.send().await,
        Code::InvalidArgument,
        "Invalid resource name given",
    );
}

#[track_caller]
fn assert_refused<T: std::fmt::Debug>(
    result: Result<T, google_cloud_gax::error::Error>,
    code: Code,
    text: &str,
) {
    let error = result.expect_err("it is refused");
    let status = error.status().expect("with a status");
    assert_eq!(status.code, code);
    assert!(status.message.starts_with(text), "{}", status.message);
}
