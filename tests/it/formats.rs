//! Data that earlier releases stored is opened by this one (tests/data).

use std::{fs, path::Path, time::Duration};

use packetboat::{
    proto::google::iam::v1::{GetIamPolicyRequest, iam_policy_client::IamPolicyClient},
    storage::{Durable, PostgresLocation, Storage},
};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use tonic::Code;

use crate::support::{
    Client, Pubsub, START_MILLIS,
    location::Location,
    ok, refused,
    values::{ack_ids, texts},
};

/// When the data was stored, milliseconds since the Unix epoch, and a minute, after which no lease is left.
const STORED_MILLIS: u64 = 1_795_984_956_000;
const AFTER: Duration = Duration::from_millis(STORED_MILLIS - START_MILLIS);

const ORDERS: &str = "projects/format/topics/orders";

fn subscription(id: &str) -> String {
    format!("projects/format/subscriptions/{id}")
}

/// Copies the data of a format, which is not to be changed.
fn copy(format: &str, to: &Path) {
    let from = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(format);
    for file in fs::read_dir(from).expect("the data") {
        let file = file.expect("an entry");
        fs::copy(file.path(), to.join(file.file_name())).expect("copied");
    }
}

/// Everything that the data holds is there, and what happens next builds on it.
async fn is_whole(pubsub: &Pubsub) {
    let client = &pubsub.client();
    for (resource, member) in [
        (ORDERS.to_owned(), "user:ann@example.com"),
        (subscription("half"), "user:bob@example.com"),
    ] {
        let request = GetIamPolicyRequest {
            resource,
            options: None,
        };
        let mut policies = IamPolicyClient::new(pubsub.transport());
        let policy = ok(policies.get_iam_policy(request).await);
        assert_eq!(policy.bindings[0].members, [member]);
    }
    let topic = ok(client.get_topic(ORDERS).await);
    assert_eq!(topic.labels["team"], "blue");
    let listed = client.subscriptions_of(ORDERS).await;
    assert_eq!(listed, ["done", "fresh", "half"].map(subscription));
    let fresh = ok(client.get_subscription(&subscription("fresh")).await);
    assert_eq!(fresh.ack_deadline_seconds, 42);
    let orphan = ok(client.get_subscription(&subscription("orphan")).await);
    assert_eq!(orphan.topic, "_deleted-topic_");
    let detached = client.try_pull_now(&subscription("detached")).await;
    refused(detached, Code::FailedPrecondition, "detached");

    let odd = (0..600).filter(|number| number % 2 == 1 && !(256..560).contains(number));
    for (id, numbers) in [
        ("fresh", (0..600).collect::<Vec<_>>()),
        ("half", odd.collect()),
        ("done", Vec::new()),
        ("orphan", (0..10).collect()),
    ] {
        let count = if id == "orphan" { 6 } else { numbers.len() };
        let received = client.receive(&subscription(id), count).await;
        let mut found: Vec<usize> = received
            .iter()
            .map(|received| received.message.attributes["number"].parse())
            .map(|number| number.expect("a number"))
            .collect();
        found.sort_unstable();
        if id == "orphan" {
            assert!(found.iter().all(|number| numbers.contains(number)));
        } else {
            assert_eq!(found, numbers, "{id}");
        }
        client.assert_nothing(&subscription(id), id).await;
        if count > 0 {
            ok(client.ack(&subscription(id), ack_ids(&received)).await);
        }
    }
    client.publish_text(ORDERS, "new").await;
    let new = client.receive_and_ack(&subscription("done"), 1).await;
    assert_eq!(texts(&new), ["new"]);
}

/// Only the new message is left for `half` after everything else was acknowledged, and a restart.
async fn was_changed(client: &Client) {
    let new = client.receive_and_ack(&subscription("half"), 1).await;
    assert_eq!(texts(&new), ["new"]);
    client
        .assert_nothing(&subscription("half"), "acknowledged")
        .await;
}

#[tokio::test]
async fn a_data_directory_of_each_format_is_opened() {
    let location = Location::embedded();
    copy("1/embedded", location.path());
    let pubsub = Pubsub::in_directory(location.path(), AFTER).await;
    is_whole(&pubsub).await;
    pubsub.stop().await;
    let pubsub = Pubsub::in_directory(location.path(), AFTER).await;
    was_changed(&pubsub.client()).await;
}

#[tokio::test]
async fn a_database_of_each_format_is_opened() {
    let location = Location::kafka_and_postgres().await;
    let directory = location.path().join("data");
    fs::create_dir(&directory).expect("a folder");
    copy("1/postgres", &directory);
    let dump = directory.join("state.sql");
    let statements = fs::read_to_string(&dump).expect("the dump");
    fs::remove_file(dump).expect("removed");
    let url = &location.services().postgres;
    let mut connection = PgConnection::connect(url).await.expect("Postgres");
    let loaded = connection.execute(AssertSqlSafe(statements)).await;
    loaded.expect("the dump is loaded");
    connection.close().await.expect("closed");
    let storage = Storage::Durable(Box::new(Durable {
        directory,
        kafka: None,
        postgres: Some(PostgresLocation {
            url: url.clone(),
            password: None,
            node_name: Some("formats".to_owned()),
        }),
    }));
    let pubsub = Pubsub::over(storage.clone(), AFTER).await;
    is_whole(&pubsub).await;
    pubsub.stop().await;
    let pubsub = Pubsub::over(storage, AFTER).await;
    was_changed(&pubsub.client()).await;
}
