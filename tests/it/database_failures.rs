//! What a database does to servers without being away: it takes no writes, waits for a standby, has no connection left;
//! and a server whose clocks say that its machine was paused. Long, as leases have to run out if they may.
#![allow(
    clippy::disallowed_methods,
    reason = "what real servers take is measured"
)]

use std::time::{Duration, Instant};

use packetboat::{
    proto::google::pubsub::v1::Topic,
    storage::{Durable, PostgresLocation, Storage},
};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use tempfile::TempDir;
use tonic::Code;

use crate::support::{
    Client, Pubsub, eventually, few_or_many, ok,
    process::{Process, run},
    services::Service,
    values::{message, publish_request, texts},
};

/// Longer than a lease.
const LONG: Duration = Duration::from_secs(7);

/// Whether what takes so long is to be tested.
fn is_long() -> bool {
    few_or_many(0, 1) == 1
}

/// Runs a statement on the server, which takes no writes by default.
async fn set(postgres: &Service, statement: &str) {
    let server = postgres.export("PACKETBOAT_TEST_POSTGRES");
    let mut operator = PgConnection::connect(server).await.expect("Postgres");
    for statement in [
        "SET default_transaction_read_only = off",
        "SET synchronous_commit = local",
        statement,
        "SELECT pg_reload_conf()",
    ] {
        let statement = AssertSqlSafe(statement.to_owned());
        operator.execute(statement).await.expect("executed");
    }
}

/// The arguments of a server that stores its messages here and the rest there.
fn arguments(directory: &TempDir, postgres: &Service) -> Vec<String> {
    arguments_at(directory, postgres.export("PACKETBOAT_TEST_POSTGRES"))
}

fn arguments_at(directory: &TempDir, postgres: &str) -> Vec<String> {
    let data = directory.path().join("data");
    [
        "--data-dir",
        data.to_str().expect("text"),
        "--store",
        postgres,
    ]
    .map(str::to_owned)
    .into()
}

async fn serve(arguments: &[String]) -> (Process, Client) {
    let mut all = vec!["--listen", "127.0.0.1:0"];
    all.extend(arguments.iter().map(String::as_str));
    let process = Process::serve(&all).await;
    let client = process.client().await;
    (process, client)
}

/// What `packetboat doctor` finds.
async fn examined(arguments: &[String]) -> String {
    let mut all = vec!["doctor"];
    all.extend(arguments.iter().map(String::as_str));
    let output = run(&all).await;
    String::from_utf8(output.stdout).expect("text")
}

/// Publishes for so long; each has to be accepted.
async fn publishing_goes_on(client: &Client, topic: &str) {
    let begun = Instant::now();
    while begun.elapsed() < LONG {
        client.publish_text(topic, "one").await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn without_its_synchronous_standby_a_database_holds_up_no_publish() {
    if !is_long() {
        return;
    }
    let postgres = Service::postgres().await;
    let directory = tempfile::tempdir().expect("a directory");
    let arguments = arguments(&directory, &postgres);
    let (_server, client) = serve(&arguments).await;
    let topic = client.topic("orders").await;
    let subscription = client.subscription("orders-worker", &topic).await;
    client.publish_text(&topic, "before").await;
    assert_eq!(
        texts(&client.receive_and_ack(&subscription, 1).await),
        ["before"]
    );

    set(
        &postgres,
        "ALTER SYSTEM SET synchronous_standby_names = 'nobody'",
    )
    .await;
    publishing_goes_on(&client, &topic).await;
    let report = examined(&arguments).await;
    assert!(report.contains("none is connected"), "{report}");

    set(&postgres, "ALTER SYSTEM RESET synchronous_standby_names").await;
    eventually("what was held up goes on", || async {
        client.try_pull_now(&subscription).await.ok()
    })
    .await;
    client.topic("after").await;
}

#[tokio::test]
async fn a_database_that_took_no_writes_for_a_while_is_used_as_before() {
    if !is_long() {
        return;
    }
    let postgres = Service::postgres().await;
    let directory = tempfile::tempdir().expect("a directory");
    let arguments = arguments(&directory, &postgres);
    let (_server, client) = serve(&arguments).await;
    let topic = client.topic("orders").await;
    let subscription = client.subscription("orders-worker", &topic).await;
    client.publish_text(&topic, "before").await;
    client.receive(&subscription, 1).await;

    set(
        &postgres,
        "ALTER SYSTEM SET default_transaction_read_only = on",
    )
    .await;
    let refused = eventually("it is refused", || async {
        let topic = Topic {
            name: "projects/tests/topics/refused".to_owned(),
            ..Default::default()
        };
        client.create_topic(topic).await.err()
    });
    assert_eq!(refused.await.code(), Code::Unavailable);
    let report = examined(&arguments).await;
    assert!(
        report.contains("default_transaction_read_only is on"),
        "{report}"
    );
    // Until the lease has run out.
    eventually("publishing is refused", || async {
        let request = publish_request(&topic, &[message("x")]);
        client.publisher().publish(request).await.err()
    })
    .await;

    set(
        &postgres,
        "ALTER SYSTEM RESET default_transaction_read_only",
    )
    .await;
    eventually("it takes publishes again", || async {
        let request = publish_request(&topic, &[message("after")]);
        client.publisher().publish(request).await.ok()
    })
    .await;
    for number in 0..12 {
        client.topic(&format!("after-{number}")).await;
    }
    eventually("it delivers again", || async {
        let received = client.try_pull_now(&subscription).await.ok()?;
        (!received.is_empty()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn with_few_connections_calls_take_turns_and_the_lease_holds() {
    if !is_long() {
        return;
    }
    let postgres = Service::postgres_with("-c max_connections=6").await;
    let directory = tempfile::tempdir().expect("a directory");
    let arguments = arguments(&directory, &postgres);
    let (_server, client) = serve(&arguments).await;
    let topic = client.topic("orders").await;
    // From then on the topic is known, and publishing asks the database nothing.
    client.publish_text(&topic, "first").await;
    let begun = Instant::now();
    let reads = (0..20).map(|number| {
        let (client, topic) = (&client, format!("projects/tests/topics/none-{number}"));
        async move {
            while begun.elapsed() < LONG {
                let found = client.get_topic(&topic).await.expect_err("is not there");
                assert!(
                    found.code() == Code::NotFound || found.message().contains("too many"),
                    "{found:?}"
                );
            }
        }
    });
    let reads = futures_util::future::join_all(reads);
    tokio::join!(reads, publishing_goes_on(&client, &topic));
}

#[tokio::test]
async fn a_server_whose_clock_jumps_is_silent_until_the_database_has_answered() {
    if !is_long() {
        return;
    }
    let postgres = Service::postgres().await;
    let directory = tempfile::tempdir().expect("a directory");
    let storage = Storage::Durable(Box::new(Durable {
        directory: directory.path().join("data"),
        kafka: None,
        postgres: Some(PostgresLocation {
            url: postgres.export("PACKETBOAT_TEST_POSTGRES").to_owned(),
            password: None,
            node_name: None,
        }),
    }));
    let server = Pubsub::over(storage, Duration::ZERO).await;
    let client = server.client();
    let topic = client.topic("orders").await;
    client.publish_text(&topic, "known").await;
    postgres.kill().await;
    // By its own clock, which stands still, the lease holds.
    client.publish_text(&topic, "before").await;
    server.jump_wall(Duration::from_mins(1));
    let request = publish_request(&topic, &[message("paused")]);
    let refused = client
        .publisher()
        .publish(request)
        .await
        .expect_err("refused");
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    postgres.start().await;
    eventually("the database has answered", || async {
        let request = publish_request(&topic, &[message("after")]);
        client.publisher().publish(request).await.ok()
    })
    .await;
    ok(client.get_topic(&topic).await);
}

#[tokio::test]
async fn behind_a_pooler_of_sessions_a_server_has_its_settings() {
    if !is_long() {
        return;
    }
    let postgres = Service::postgres().await;
    let pooler = Service::pooler(&postgres).await;
    let directory = tempfile::tempdir().expect("a directory");
    let arguments = arguments_at(&directory, pooler.export("PACKETBOAT_TEST_POOLER"));
    let (server, client) = serve(&arguments).await;
    let topic = client.topic("orders").await;
    let subscription = client.subscription("orders-worker", &topic).await;
    client.publish_text(&topic, "one").await;
    assert_eq!(
        texts(&client.receive_and_ack(&subscription, 1).await),
        ["one"]
    );
    let report = examined(&arguments).await;
    assert!(!report.contains("lacks"), "{report}");
    server.signal("TERM").await;
    let (status, log) = server.ended().await;
    assert!(status.success() && !log.contains("WARN"), "{log}");
}
