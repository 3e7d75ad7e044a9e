//! `packetboat doctor`: what is wrong is named, and nothing is left behind.

use std::{fs, process::Output};

use sqlx::{Connection as _, PgConnection};

use crate::support::{
    kafka::Kafka,
    location::{Location, service},
    process::{Process, run},
    services::Service,
    values::ack_ids,
};

/// What it printed, and whether that was without a problem.
struct Report {
    text: String,
    is_well: bool,
}

impl Report {
    fn of(output: &Output) -> Self {
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(!text.is_empty() && errors.is_empty(), "{text}{errors}");
        let code = output.status.code().expect("an exit code");
        for line in text.lines() {
            let level = line.split_whitespace().next().expect("a word");
            assert!(["ok", "warning", "problem"].contains(&level), "{line}");
        }
        assert_eq!(
            code,
            i32::from(text.contains("\nproblem ") || text.starts_with("problem "))
        );
        Self {
            is_well: code == 0,
            text,
        }
    }

    /// Fails unless there is a line of that level with all of these words.
    #[track_caller]
    fn has(&self, level: &str, words: &[&str]) {
        let mut lines = self.text.lines();
        let found = lines
            .any(|line| line.starts_with(level) && words.iter().all(|word| line.contains(word)));
        assert!(found, "no {level} with {words:?} in:\n{}", self.text);
    }
}

/// Runs it on a location's data, with some of its arguments replaced.
async fn doctor(location: &Location, other: &[(&str, &str)]) -> Report {
    let mut arguments = vec!["doctor".to_owned()];
    for pair in location.arguments().chunks(2) {
        if pair[0] == "--listen" {
            continue;
        }
        let replaced = other.iter().find(|(flag, _)| *flag == pair[0]);
        arguments.push(pair[0].clone());
        arguments.push(replaced.map_or_else(|| pair[1].clone(), |(_, value)| (*value).to_owned()));
    }
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    Report::of(&run(&arguments).await)
}

/// A location on the Kafka of the tests, and on a Postgres without the settings that make other tests quick.
async fn healthy() -> (Service, Location) {
    let postgres = Service::durable_postgres().await;
    let server = postgres.export("PACKETBOAT_TEST_POSTGRES");
    let location = Location::on(service("PACKETBOAT_TEST_KAFKA"), server, "").await;
    (postgres, location)
}

async fn database(location: &Location) -> PgConnection {
    let url = &location.services().postgres;
    PgConnection::connect(url).await.expect("Postgres")
}

/// Everything in the database that only nodes or clients change.
async fn rows(location: &Location) -> Vec<String> {
    let mut connection = database(location).await;
    let mut rows = Vec::new();
    for select in [
        "SELECT (version, log_identity)::text FROM packetboat",
        "SELECT topics::text FROM topics",
        "SELECT (name, session)::text FROM nodes",
    ] {
        let found = sqlx::query_scalar(select).fetch_all(&mut connection);
        let found: Vec<String> = found.await.expect("rows");
        rows.extend(found);
    }
    rows
}

#[tokio::test]
async fn names_in_its_lines_neither_hide_nor_turn_anything() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("a\u{202e}b");
    fs::write(&data, "no folder").expect("a file");
    let data = data.to_str().expect("a text");
    let output = run(&["doctor", "--data-dir", data]).await;
    let printed = [output.stdout, output.stderr].concat();
    let printed = String::from_utf8(printed).expect("text");
    assert!(printed.contains("a\\u202eb"), "{printed}");
    assert!(!printed.contains('\u{202e}'), "{printed}");
}

#[tokio::test]
async fn a_healthy_pair_has_no_problem_and_stays_as_it_is() {
    let (_postgres, location) = healthy().await;
    let kafka = Kafka::new();
    let server = Process::serve_at(&location, "the-node").await;
    let client = server.client().await;
    let topic = client.topic("orders").await;
    client.subscription("orders-worker", &topic).await;
    client.publish_text(&topic, "a").await;
    let before = (
        kafka.topics(&location.services().prefix),
        rows(&location).await,
    );
    let report = doctor(&location, &[]).await;
    assert!(report.is_well, "{}", report.text);
    let address = server.addresses[0].to_string();
    report.has("ok", &["the-node", &address]);
    report.has("ok", &["broker", &location.services().kafka]);
    report.has("ok", &["Postgres 1"]);
    report.has("ok", &["can be created, written to"]);
    report.has("ok", &["the clock of Kafka's broker"]);
    report.has(
        "ok",
        &["belongs to the log kafka:", &location.services().prefix],
    );
    report.has("ok", &["same topics: 1"]);
    let after = (
        kafka.topics(&location.services().prefix),
        rows(&location).await,
    );
    assert_eq!(after, before);
}

#[tokio::test]
async fn before_the_first_start_nothing_is_made() {
    let (_postgres, location) = healthy().await;
    let report = doctor(&location, &[]).await;
    assert!(report.is_well, "{}", report.text);
    report.has("ok", &["no tables yet"]);
    let mut connection = database(&location).await;
    let tables: i64 =
        sqlx::query_scalar("SELECT count(*) FROM pg_tables WHERE schemaname = current_schema()")
            .fetch_one(&mut connection)
            .await
            .expect("a count");
    assert_eq!(tables, 0);
    let topics = Kafka::new().topics(&location.services().prefix);
    assert_eq!(topics, Vec::<String>::new());
}

#[tokio::test]
async fn services_that_are_not_there_are_named() {
    let location = Location::kafka_and_postgres().await;
    let missing = format!("{}_missing", location.services().postgres);
    let report = doctor(
        &location,
        &[("--log", "kafka://127.0.0.1:1"), ("--store", &missing)],
    )
    .await;
    assert!(!report.is_well, "{}", report.text);
    report.has("problem", &["127.0.0.1:1", "is Kafka running?"]);
    report.has("problem", &["_missing", "does not exist", "create it"]);
}

#[tokio::test]
async fn a_store_of_another_log_is_named_with_both() {
    let location = Location::kafka_and_postgres().await;
    drop(Process::serve_at(&location, "the-node").await);
    let prefix = &location.services().prefix;
    let config = location.path().join("other.toml");
    fs::write(&config, format!("[kafka]\nprefix = '{prefix}-other'\n")).expect("a file");
    let config = config.to_string_lossy();
    let report = doctor(&location, &[("--config", &config)]).await;
    assert!(!report.is_well, "{}", report.text);
    let (found, expected) = (format!(":{prefix},"), format!(":{prefix}-other:"));
    report.has("problem", &["it belongs to the log", &found, &expected]);
}

#[tokio::test]
async fn topics_that_only_one_side_knows_are_named() {
    let location = Location::kafka_and_postgres().await;
    let prefix = &location.services().prefix;
    let kafka = Kafka::new();
    let server = Process::serve_at(&location, "the-node").await;
    let client = server.client().await;
    client.topic("kept").await;
    client.topic("lost").await;
    let lost = kafka.topic_of(prefix, "lost");
    kafka.delete(&lost).await;
    let orphan = format!("{prefix}.tests.orphan.77");
    kafka.create(&orphan, 1, &[]).await;
    let report = doctor(&location, &[]).await;
    assert!(!report.is_well, "{}", report.text);
    report.has(
        "problem",
        &["1 topic missing", &lost, "projects/tests/topics/lost"],
    );
    report.has("warning", &["1 topic in Kafka", &orphan, "another system"]);
    assert!(
        !report.text.contains(&format!("{prefix}.tests.kept.")),
        "{}",
        report.text
    );
    assert!(kafka.topics(prefix).contains(&orphan), "it only reads");
}

#[tokio::test]
async fn a_data_directory_in_use_is_left_alone() {
    let location = Location::embedded();
    let report = doctor(&location, &[]).await;
    assert!(report.is_well, "{}", report.text);
    report.has("ok", &["is new"]);
    assert!(!location.path().join("data").exists());
    let server = Process::serve_at(&location, "only").await;
    let report = doctor(&location, &[]).await;
    assert!(report.is_well, "{}", report.text);
    let address = server.addresses[0].to_string();
    report.has("ok", &["in use by", &address]);
}

#[tokio::test]
async fn a_topic_without_what_its_subscriptions_have_seen_is_a_problem() {
    let (_postgres, location) = healthy().await;
    let kafka = Kafka::new();
    let server = Process::serve_at(&location, "the-node").await;
    let client = server.client().await;
    let topic = client.topic("orders").await;
    let subscription = client.subscription("orders-worker", &topic).await;
    client.publish_text(&topic, "a").await;
    let received = client.receive(&subscription, 1).await;
    let acknowledged = client.ack(&subscription, ack_ids(&received)).await;
    acknowledged.expect("acknowledged");
    server.signal("TERM").await;
    server.ended().await;
    let report = doctor(&location, &[]).await;
    assert!(!report.text.contains("have seen"), "{}", report.text);
    let name = kafka.topic_of(&location.services().prefix, "orders");
    kafka.make_again(&name).await;
    let report = doctor(&location, &[]).await;
    report.has("problem", &[&name, &topic, "ends at 0 and was read to 1"]);
}
