//! Starting on Kafka and Postgres with any pairing, and what a start that cannot succeed says.

use crate::support::{
    location::{Location, service},
    process::{Process, refusal_with, run},
    starts::{File, SECRET, assert_says, outlives_restarts, refusal, text},
};

/// A port of this machine where nobody listens.
const NOBODY: &str = "127.0.0.1:9";

#[tokio::test]
async fn an_address_where_nobody_answers_is_one_clear_line() {
    let log = format!("kafka://{NOBODY}");
    let line = refusal(&["--log", &log], &[]).await;
    assert_says(&line, &[NOBODY, "Kafka"]);
    let store = format!("postgres://me@{NOBODY}/packetboat");
    let line = refusal(&["--store", &store], &[("PGPASSWORD", SECRET)]).await;
    assert_says(&line, &[NOBODY, "Postgres"]);
    // Both protocols are named at the wrong address.
    let kafka = service("PACKETBOAT_TEST_KAFKA");
    let store = format!("postgres://me@{kafka}/packetboat");
    let line = refusal(&["--store", &store], &[]).await;
    assert_says(&line, &[&kafka]);
    let log = format!("kafka://{}", postgres_address());
    let line = refusal(&["--log", &log], &[]).await;
    assert_says(&line, &[&postgres_address()]);
    let line = refusal(&["--log", "kafka://no-such-host.invalid:9092"], &[]).await;
    assert_says(&line, &["no-such-host.invalid"]);
    let line = refusal(&["--store", "postgres://me@no-such-host.invalid/p"], &[]).await;
    assert_says(&line, &["no-such-host.invalid"]);
}

/// `HOST:PORT` of the tests' Postgres.
fn postgres_address() -> String {
    let url = service("PACKETBOAT_TEST_POSTGRES");
    let (_, address) = url.split_once('@').expect("a user in the URL");
    let (address, _) = address.split_once('/').expect("a database in the URL");
    address.to_owned()
}

#[tokio::test]
async fn flags_that_cannot_be_meant_are_refused_without_repeating_a_secret() {
    let with_password = format!("postgres://me:{SECRET}@db/packetboat");
    let line = refusal(&["--store", &with_password], &[]).await;
    assert_says(&line, &["password", "PGPASSFILE"]);
    let with_password = format!("postgres://me@db/packetboat?password={SECRET}");
    let line = refusal(&["--store", &with_password], &[]).await;
    assert_says(&line, &["password", "PGPASSFILE"]);
    let with_password = format!("kafka://me:{SECRET}@kafka-1:9092");
    let line = refusal(&["--log", &with_password], &[]).await;
    assert_says(&line, &["password", "PACKETBOAT_KAFKA_PASSWORD"]);
    let mistyped = format!("postgres:/me:{SECRET}@db/packetboat");
    for arguments in [&["--store", &mistyped][..], &["--log", &mistyped]] {
        let line = refusal(arguments, &[]).await;
        assert_says(&line, &[arguments[0], "is not a location"]);
    }
    for arguments in [
        &[&*mistyped][..],
        &["--listen", &mistyped],
        &["--", &mistyped],
    ] {
        let output = run(&[&["serve"], arguments].concat()).await;
        let text = String::from_utf8(output.stderr).expect("text");
        assert!(
            text.starts_with("error: ") && !text.contains(SECRET),
            "{text}"
        );
    }
    for location in [
        ["--log", "kafka://127.0.0.1:9092"],
        ["--store", "postgres://db/p"],
    ] {
        let line = refusal(&[&["--ephemeral"], &location[..]].concat(), &[]).await;
        assert_says(&line, &["--ephemeral", location[0]]);
    }
    for wrong in ["kafka-1:9092", "http://kafka-1", "kafka://kafka-1:port"] {
        let line = refusal(&["--log", wrong], &[]).await;
        assert_says(&line, &["--log", "HOST:PORT"]);
    }
    let line = refusal(&["--store", "mysql://db/p"], &[]).await;
    assert_says(&line, &["--store", "postgres://"]);
}

#[tokio::test]
async fn a_file_that_cannot_be_meant_is_refused_with_its_line_and_no_secret() {
    let cases = [
        (
            format!("[kafka]\nprefix = 'p'\npasswort = '{SECRET}'\n"),
            "line 3",
            "passwort",
        ),
        (
            format!("[postgres]\npassword = '{SECRET}'\n"),
            "line 2",
            "password",
        ),
        (
            "[kafka]\npartitions = 'many'\n".to_owned(),
            "line 2",
            "many",
        ),
        ("store = postgres\n".to_owned(), "line 1", ""),
    ];
    for (content, line_number, part) in cases {
        let file = File::new(&content);
        let line = refusal(&["--config", file.path()], &[]).await;
        assert_says(&line, &[file.path(), line_number, part]);
    }
    let line = refusal(&["--config", "/no/such/file.toml"], &[]).await;
    assert_says(&line, &["/no/such/file.toml"]);

    // What the brokers' library would not know, and what is not for anybody to change.
    let log = format!("kafka://{}", service("PACKETBOAT_TEST_KAFKA"));
    for (property, value) in [
        ("no.such.property", SECRET),
        ("linger.ms", SECRET),
        ("acks", "1"),
    ] {
        let file = File::new(&format!("[kafka.properties]\n'{property}' = '{value}'\n"));
        let line = refusal(&["--log", &log, "--config", file.path()], &[]).await;
        assert_says(&line, &[property]);
    }
    let file = File::new("[kafka]\npassword_file = '/no/such/secret'\n");
    let line = refusal(&["--log", &log, "--config", file.path()], &[]).await;
    assert_says(&line, &["/no/such/secret"]);
}

#[tokio::test]
async fn a_store_that_belongs_to_another_log_is_refused() {
    let location = Location::kafka_and_postgres().await;
    let server = Process::serve_at(&location, "only").await;
    server.signal("TERM").await;
    server.ended().await;
    let services = location.services();
    let other = File::new("[kafka]\nprefix = 'it_another'\n");
    let log = format!("kafka://{}", services.kafka);
    let arguments = [
        "--log",
        &log,
        "--store",
        &services.postgres,
        "--config",
        other.path(),
    ];
    let line = refusal(&arguments, &[]).await;
    assert_says(&line, &["belongs to", &services.prefix, "it_another"]);
    let line = refusal(&["--store", &services.postgres], &[]).await;
    assert_says(&line, &["belongs to", &services.prefix]);

    // The topics under the prefix belong to the database, until another store takes them over.
    let data = text(&location.path().join("data")).to_owned();
    let file = text(&location.path().join("packetboat.toml")).to_owned();
    let listen = [
        "--listen",
        "127.0.0.1:0",
        "--data-dir",
        &data,
        "--log",
        &log,
    ];
    let with_file = [&listen[..], &["--config", &file]].concat();
    let line = refusal_with(&[&["serve"], &with_file[..]].concat(), &[]).await;
    assert_says(&line, &[&services.prefix, "__owner", "--claim-prefix"]);
    let server = Process::serve(&[&with_file[..], &["--claim-prefix"]].concat()).await;
    server.signal("TERM").await;
    server.ended().await;
    let first = location.arguments();
    let first: Vec<_> = first.iter().map(String::as_str).collect();
    let line = refusal_with(&[&["serve"], &first[..]].concat(), &[]).await;
    assert_says(&line, &[&services.prefix, "__owner"]);
    // The same of a data directory that was used with Kafka before.
    let server = Process::serve(&with_file).await;
    server.signal("TERM").await;
    server.ended().await;
    let arguments = [&["serve"], &listen[..], &["--config", other.path()]].concat();
    let line = refusal_with(&arguments, &[]).await;
    assert_says(&line, &["belongs to", &services.prefix, "it_another"]);
}

#[tokio::test]
async fn messages_in_kafka_and_the_rest_in_a_directory() {
    let location = Location::kafka_and_postgres().await;
    let log = format!("kafka://{}", location.services().kafka);
    let file = location.path().join("packetboat.toml");
    let data = location.path().join("data");
    let arguments = ["--log", &log, "--config", text(&file)];
    outlives_restarts(
        &[&arguments[..], &["--data-dir", text(&data)]].concat(),
        &[],
    )
    .await;
}

#[tokio::test]
async fn messages_in_a_directory_and_the_rest_in_postgres() {
    let location = Location::kafka_and_postgres().await;
    let data = location.path().join("data");
    let store = &location.services().postgres;
    let arguments = ["--store", store, "--node-name", "only"];
    outlives_restarts(
        &[&arguments[..], &["--data-dir", text(&data)]].concat(),
        &[],
    )
    .await;
}
