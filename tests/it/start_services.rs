//! Starting on Kafka and Postgres: with any pairing, with TLS and passwords, and what a start that cannot succeed says.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "what real servers take is measured and shown"
)]

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    time::{Duration, Instant},
};

use sqlx::{Connection as _, Executor as _, PgConnection};
use tempfile::TempDir;

use crate::support::{
    Client,
    place::{Place, service},
    process::{Process, refusal_with},
    services::Service,
    values::{numbered, texts},
};

/// A start that cannot succeed says so within this time.
const REFUSED_WITHIN: Duration = Duration::from_secs(15);
/// What must not be printed.
const SECRET: &str = "s3cret-of-mine";

/// A port of this machine where nobody listens.
const NOBODY: &str = "127.0.0.1:9";

/// The one line with which `packetboat serve` refuses to start.
async fn refused(arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let data = tempfile::tempdir().expect("a directory");
    let data = data.path().join("data");
    let fixed = ["serve", "--listen", "127.0.0.1:0", "--data-dir"];
    let arguments = [&fixed[..], &[text(&data)], arguments].concat();
    let begun = Instant::now();
    let line = refusal_with(&arguments, environment).await;
    let took = begun.elapsed();
    assert!(took <= REFUSED_WITHIN, "{took:?}: {line}");
    assert!(!line.contains(SECRET), "{line}");
    println!("after {took:?}: {line}");
    line
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of text")
}

/// A configuration file.
struct File {
    directory: TempDir,
    path: String,
}

impl File {
    fn new(content: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("packetboat.toml");
        fs::write(&path, content).expect("a file");
        let path = text(&path).to_owned();
        Self { directory, path }
    }

    fn path(&self) -> &str {
        &self.path
    }

    /// Another file beside it, that holds a secret.
    fn secret(&self, content: &str) -> String {
        let path = self.directory.path().join("secret");
        fs::write(&path, content).expect("a file");
        let private = fs::Permissions::from_mode(0o600);
        fs::set_permissions(&path, private).expect("a file of our own");
        text(&path).to_owned()
    }
}

#[track_caller]
fn assert_says(line: &str, parts: &[&str]) {
    for part in parts {
        assert!(line.contains(part), "{part:?} is not in: {line}");
    }
}

#[tokio::test]
async fn an_address_where_nobody_answers_is_one_clear_line() {
    let log = format!("kafka://{NOBODY}");
    let line = refused(&["--log", &log], &[]).await;
    assert_says(&line, &[NOBODY, "Kafka"]);
    let store = format!("postgres://me@{NOBODY}/packetboat");
    let line = refused(&["--store", &store], &[("PGPASSWORD", SECRET)]).await;
    assert_says(&line, &[NOBODY, "Postgres"]);
    // Both protocols are asked in the wrong place.
    let kafka = service("PACKETBOAT_TEST_KAFKA");
    let store = format!("postgres://me@{kafka}/packetboat");
    let line = refused(&["--store", &store], &[]).await;
    assert_says(&line, &[&kafka]);
    let log = format!("kafka://{}", postgres_address());
    let line = refused(&["--log", &log], &[]).await;
    assert_says(&line, &[&postgres_address()]);
    let line = refused(&["--log", "kafka://no-such-host.invalid:9092"], &[]).await;
    assert_says(&line, &["no-such-host.invalid"]);
    let line = refused(&["--store", "postgres://me@no-such-host.invalid/p"], &[]).await;
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
    let line = refused(&["--store", &with_password], &[]).await;
    assert_says(&line, &["password", "PGPASSFILE"]);
    let with_password = format!("postgres://me@db/packetboat?password={SECRET}");
    let line = refused(&["--store", &with_password], &[]).await;
    assert_says(&line, &["password", "PGPASSFILE"]);
    let with_password = format!("kafka://me:{SECRET}@kafka-1:9092");
    let line = refused(&["--log", &with_password], &[]).await;
    assert_says(&line, &["password", "PACKETBOAT_KAFKA_PASSWORD"]);
    for place in [
        ["--log", "kafka://127.0.0.1:9092"],
        ["--store", "postgres://db/p"],
    ] {
        let line = refused(&[&["--ephemeral"], &place[..]].concat(), &[]).await;
        assert_says(&line, &["--ephemeral", place[0]]);
    }
    for wrong in ["kafka-1:9092", "http://kafka-1", "kafka://kafka-1:port"] {
        let line = refused(&["--log", wrong], &[]).await;
        assert_says(&line, &["--log", "HOST:PORT"]);
    }
    let line = refused(&["--store", "mysql://db/p"], &[]).await;
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
        let line = refused(&["--config", file.path()], &[]).await;
        assert_says(&line, &[file.path(), line_number, part]);
    }
    let line = refused(&["--config", "/no/such/file.toml"], &[]).await;
    assert_says(&line, &["/no/such/file.toml"]);

    // What the brokers' library would not know, and what is not for anybody to change.
    let log = format!("kafka://{}", service("PACKETBOAT_TEST_KAFKA"));
    for (property, value) in [
        ("no.such.property", SECRET),
        ("linger.ms", SECRET),
        ("acks", "1"),
    ] {
        let file = File::new(&format!("[kafka.properties]\n'{property}' = '{value}'\n"));
        let line = refused(&["--log", &log, "--config", file.path()], &[]).await;
        assert_says(&line, &[property]);
    }
    let file = File::new("[kafka]\npassword_file = '/no/such/secret'\n");
    let line = refused(&["--log", &log, "--config", file.path()], &[]).await;
    assert_says(&line, &["/no/such/secret"]);
}

#[tokio::test]
async fn a_store_that_belongs_to_another_log_is_refused() {
    let place = Place::kafka_and_postgres().await;
    let server = Process::serve_at(&place, "only").await;
    server.signal("TERM").await;
    server.ended().await;
    let services = place.services();
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
    let line = refused(&arguments, &[]).await;
    assert_says(&line, &["belongs to", &services.prefix, "it_another"]);
    let line = refused(&["--store", &services.postgres], &[]).await;
    assert_says(&line, &["belongs to", &services.prefix]);

    // The same of a data directory that was used with Kafka before.
    let data = text(&place.path().join("data")).to_owned();
    let file = text(&place.path().join("packetboat.toml")).to_owned();
    let listen = [
        "--listen",
        "127.0.0.1:0",
        "--data-dir",
        &data,
        "--log",
        &log,
    ];
    let server = Process::serve(&[&listen[..], &["--config", &file]].concat()).await;
    server.signal("TERM").await;
    server.ended().await;
    let arguments = [&["serve"], &listen[..], &["--config", other.path()]].concat();
    let line = refusal_with(&arguments, &[]).await;
    assert_says(&line, &["belongs to", &services.prefix, "it_another"]);
}

/// Publishes, receives, acknowledges, starts again twice, and finds everything as it was.
async fn outlives_restarts(arguments: &[&str], environment: &[(&str, &str)]) {
    let arguments = [&["--listen", "127.0.0.1:0"], arguments].concat();
    let mut server = Process::serve_with(&arguments, environment).await;
    let mut client = Client::new(server.channel().await);
    let topic = client.topic("orders").await;
    let subscription = client.subscription("orders-worker", &topic).await;
    client.publish(&topic, &numbered(10)).await;
    let mut acked = client.receive_and_ack(&subscription, 4).await;
    for signal in ["TERM", "KILL"] {
        server.signal(signal).await;
        server.ended().await;
        server = Process::serve_with(&arguments, environment).await;
        client = Client::new(server.channel().await);
        acked.extend(client.receive_and_ack(&subscription, 3).await);
    }
    let all: Vec<_> = (0..10).map(|number| number.to_string()).collect();
    assert_eq!(texts(&acked), all);
    client.assert_nothing(&subscription, "all is acked").await;
}

#[tokio::test]
async fn messages_in_kafka_and_the_rest_in_a_directory() {
    let place = Place::kafka_and_postgres().await;
    let log = format!("kafka://{}", place.services().kafka);
    let file = place.path().join("packetboat.toml");
    let data = place.path().join("data");
    let arguments = ["--log", &log, "--config", text(&file)];
    outlives_restarts(
        &[&arguments[..], &["--data-dir", text(&data)]].concat(),
        &[],
    )
    .await;
}

#[tokio::test]
async fn messages_in_a_directory_and_the_rest_in_postgres() {
    let place = Place::kafka_and_postgres().await;
    let data = place.path().join("data");
    let store = &place.services().postgres;
    let arguments = ["--store", store, "--node-name", "only"];
    outlives_restarts(
        &[&arguments[..], &["--data-dir", text(&data)]].concat(),
        &[],
    )
    .await;
}

/// Settings for a Kafka with users; `more` is of the section `[kafka]`, `ca` of its properties.
fn secured(more: &str, protocol: &str, mechanism: &str, user: &str, ca: &str) -> String {
    format!(
        "[kafka]\n{more}\n[kafka.properties]\n'security.protocol' = '{protocol}'\n'sasl.mechanism' = '{mechanism}'\n\
        'sasl.username' = '{user}'\n{ca}\n"
    )
}

#[tokio::test]
async fn a_kafka_with_tls_and_scram_serves_whoever_has_the_password_and_nobody_else() {
    let kafka = Service::kafka(&[("KAFKA_SECURE", "1")]).await;
    let encrypted = format!("kafka://{}", kafka.export("PACKETBOAT_TEST_KAFKA_SASL_SSL"));
    let clear = kafka.export("PACKETBOAT_TEST_KAFKA_SASL_PLAINTEXT");
    let clear_log = format!("kafka://{clear}");
    let ca = kafka.export("PACKETBOAT_TEST_KAFKA_CA");
    let ca = format!("'ssl.ca.location' = '{ca}'");
    let password = kafka.export("PACKETBOAT_TEST_KAFKA_PASSWORD");
    let variable = "PACKETBOAT_KAFKA_PASSWORD";

    for mechanism in ["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"] {
        let data = tempfile::tempdir().expect("a directory");
        let prefix = format!("prefix = '{mechanism}'");
        let settings = secured(&prefix, "SASL_SSL", mechanism, "packetboat", &ca);
        let file = File::new(&settings);
        let arguments = ["--log", &encrypted, "--config", file.path()];
        let wrong = refused(&arguments, &[(variable, SECRET)]).await;
        assert_says(&wrong, &["refuses the login", "SASL"]);
        let arguments = [&arguments[..], &["--data-dir", text(data.path())]].concat();
        outlives_restarts(&arguments, &[(variable, password)]).await;
    }
    // The password from a file.
    let data = tempfile::tempdir().expect("a directory");
    let file = File::new("");
    let secret = file.secret(&format!("{password}\n"));
    let from_file = format!("prefix = 'file'\npassword_file = '{secret}'");
    let settings = secured(&from_file, "SASL_SSL", "SCRAM-SHA-512", "packetboat", &ca);
    fs::write(file.path(), settings).expect("a file");
    let arguments = ["--log", &encrypted, "--config", file.path()];
    let with_data = [&arguments[..], &["--data-dir", text(data.path())]].concat();
    outlives_restarts(&with_data, &[]).await;
    file.secret(SECRET);
    let wrong = refused(&arguments, &[]).await;
    assert_says(&wrong, &["refuses the login", "SASL"]);

    // Without a certificate that is trusted, without a password, and without speaking of either.
    let scram = |protocol, user, ca| File::new(&secured("", protocol, "SCRAM-SHA-512", user, ca));
    let untrusted = scram("SASL_SSL", "packetboat", "");
    let arguments = ["--log", &encrypted, "--config", untrusted.path()];
    let line = refused(&arguments, &[(variable, SECRET)]).await;
    assert_says(&line, &[&encrypted["kafka://".len()..], "certificate"]);
    let nobody = scram("SASL_PLAINTEXT", "nobody", "");
    let arguments = ["--log", &clear_log, "--config", nobody.path()];
    let line = refused(&arguments, &[(variable, SECRET)]).await;
    assert_says(&line, &[clear, "refuses the login"]);
    let line = refused(&arguments, &[]).await;
    assert_says(&line, &["password"]);
    let line = refused(&["--log", &clear_log], &[]).await;
    assert_says(&line, &[clear]);
    // Someone whom the brokers know, and who may do nothing.
    let stranger = scram("SASL_PLAINTEXT", "stranger", "");
    let arguments = ["--log", &clear_log, "--config", stranger.path()];
    let line = refused(&arguments, &[(variable, password)]).await;
    assert_says(&line, &[clear, "permission"]);
    assert!(!line.contains(password), "{line}");
}

#[tokio::test]
async fn a_postgres_with_passwords_serves_whoever_has_the_right_one_and_nobody_else() {
    let server = Service::postgres().await;
    let url = server.export("PACKETBOAT_TEST_POSTGRES");
    let mut admin = PgConnection::connect(url).await.expect("Postgres");
    for statement in [
        "CREATE ROLE boat LOGIN PASSWORD 'right one'",
        "CREATE ROLE guest LOGIN PASSWORD 'right one'",
        "CREATE DATABASE boats OWNER boat",
    ] {
        admin.execute(statement).await.expect(statement);
    }
    let (_, address) = url.split_once('@').expect("a user in the URL");
    let (address, _) = address.split_once('/').expect("a database in the URL");
    let store = format!("postgres://boat@{address}/boats");
    let data = tempfile::tempdir().expect("a directory");
    let data = text(data.path());

    let file = File::new("");
    let secret = file.secret("right one\n");
    fs::write(
        file.path(),
        format!("[postgres]\npassword_file = '{secret}'\n"),
    )
    .expect("a file");
    let arguments = ["--store", &store, "--node-name", "only", "--data-dir", data];
    let from_file = [&arguments[..], &["--config", file.path()]].concat();
    outlives_restarts(&from_file, &[]).await;
    let (host, port) = address.split_once(':').expect("a port");
    let password_file = file.secret(&format!("{host}:{port}:boats:boat:right one\n"));
    let environments = [("PGPASSWORD", "right one"), ("PGPASSFILE", &password_file)];
    for environment in environments {
        let listen = [&["--listen", "127.0.0.1:0"], &arguments[..]].concat();
        let server = Process::serve_with(&listen, &[environment]).await;
        server.signal("TERM").await;
        server.ended().await;
    }

    let wrong = ("PGPASSWORD", SECRET);
    let line = refused(&arguments[..2], &[wrong]).await;
    assert_says(&line, &[address, "boat", "refused the login"]);
    let nothing = file.secret("");
    let line = refused(&arguments[..2], &[("PGPASSFILE", &nothing)]).await;
    assert_says(&line, &[address, "boat", "password"]);
    let missing = format!("postgres://boat@{address}/ships");
    let line = refused(&["--store", &missing], &[environments[0]]).await;
    assert_says(&line, &[address, "ships", "does not exist"]);
    let guest = format!("postgres://guest@{address}/boats");
    let line = refused(&["--store", &guest], &[environments[0]]).await;
    assert_says(&line, &[address, "guest", "permission"]);
}
