//! Data that earlier releases stored is opened by this one (tests/data).

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

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
    values::{Received, ack_ids, texts},
};

/// When the data of the first format was stored, milliseconds since the Unix epoch, and a minute, after which no lease is
/// left.
const AFTER: Duration = Duration::from_millis(1_795_984_956_000 - START_MILLIS);
/// The same of the second.
const AFTER_SECOND: Duration = Duration::from_millis(1_796_081_824_000 - START_MILLIS);
/// Of its retry policy.
const BACKOFF: Duration = Duration::from_mins(10);

const ORDERS: &str = "projects/format/topics/orders";

fn subscription(id: &str) -> String {
    format!("projects/format/subscriptions/{id}")
}

fn numbers_of(received: &[Received]) -> Vec<usize> {
    let numbers = received
        .iter()
        .map(|received| received.message.attributes["number"].parse());
    numbers.map(|number| number.expect("a number")).collect()
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
        let mut found = numbers_of(&received);
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

/// What the settings of the second format have led to is there.
async fn settings_hold(client: &Client, confirmed: String) {
    let ordered = client.receive(&subscription("ordered"), 30).await;
    for key in 0..2 {
        let of_key: Vec<_> = numbers_of(&ordered)
            .into_iter()
            .filter(|number| number % 2 == key)
            .collect();
        assert!(of_key.is_sorted() && of_key.len() == 15, "{of_key:?}");
    }
    let mut filtered = numbers_of(&client.receive(&subscription("filtered"), 15).await);
    filtered.sort_unstable();
    let even = (10..40).filter(|number| number % 2 == 0);
    assert_eq!(filtered, even.collect::<Vec<_>>());

    ok(client.ack(&subscription("once"), vec![confirmed]).await);
    let mut once = numbers_of(&client.receive(&subscription("once"), 30).await);
    once.sort_unstable();
    assert_eq!(once, (10..40).collect::<Vec<_>>());

    let worker = &subscription("letters-worker");
    let mut dead = BTreeSet::new();
    while dead.len() < 200 {
        let letters = client.receive_some(worker, 1000).await;
        dead.extend(numbers_of(&letters));
        ok(client.ack(worker, ack_ids(&letters)).await);
    }
    client.assert_nothing(&subscription("dying"), "dead").await;

    let waiting = &subscription("waiting");
    client.receive_and_ack(waiting, 30).await;
    client.assert_nothing(waiting, "ten wait").await;
}

/// Those that wait come when their time is over.
async fn backoffs_end(client: &Client) {
    let mut waited = numbers_of(&client.receive(&subscription("waiting"), 10).await);
    waited.sort_unstable();
    assert_eq!(waited, (0..10).collect::<Vec<_>>());
}

/// The ack id beside the data, which is not to be in a data directory.
fn take_ack_id(directory: &Path) -> String {
    let file = directory.join("ack-id");
    let ack_id = fs::read_to_string(&file).expect("an ack id");
    fs::remove_file(file).expect("removed");
    ack_id
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

    let location = Location::embedded();
    copy("2/embedded", location.path());
    let confirmed = take_ack_id(location.path());
    let pubsub = Pubsub::in_directory(location.path(), AFTER_SECOND).await;
    settings_hold(&pubsub.client(), confirmed).await;
    pubsub.stop().await;
    let pubsub = Pubsub::in_directory(location.path(), AFTER_SECOND + BACKOFF).await;
    backoffs_end(&pubsub.client()).await;
}

/// The stores of a format whose state is in Postgres.
async fn over_postgres(format: &str, location: &Location) -> (Storage, PathBuf) {
    let directory = location.path().join("data");
    fs::create_dir(&directory).expect("a folder");
    copy(format, &directory);
    let dump = directory.join("state.sql");
    let statements = fs::read_to_string(&dump).expect("the dump");
    fs::remove_file(dump).expect("removed");
    let url = &location.services().postgres;
    let mut connection = PgConnection::connect(url).await.expect("Postgres");
    let loaded = connection.execute(AssertSqlSafe(statements)).await;
    loaded.expect("the dump is loaded");
    connection.close().await.expect("closed");
    let storage = Storage::Durable(Box::new(Durable {
        directory: directory.clone(),
        kafka: None,
        postgres: Some(PostgresLocation {
            url: url.clone(),
            password: None,
            node_name: Some("formats".to_owned()),
        }),
    }));
    (storage, directory)
}

#[tokio::test]
async fn a_database_of_each_format_is_opened() {
    let location = Location::kafka_and_postgres().await;
    let (storage, _) = over_postgres("1/postgres", &location).await;
    let pubsub = Pubsub::over(storage.clone(), AFTER).await;
    is_whole(&pubsub).await;
    pubsub.stop().await;
    let pubsub = Pubsub::over(storage, AFTER).await;
    was_changed(&pubsub.client()).await;

    let location = Location::kafka_and_postgres().await;
    let (storage, directory) = over_postgres("2/postgres", &location).await;
    let confirmed = take_ack_id(&directory);
    let pubsub = Pubsub::over(storage.clone(), AFTER_SECOND).await;
    settings_hold(&pubsub.client(), confirmed).await;
    pubsub.stop().await;
    let pubsub = Pubsub::over(storage, AFTER_SECOND + BACKOFF).await;
    backoffs_end(&pubsub.client()).await;
}
