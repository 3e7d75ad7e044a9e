//! Starting on a Kafka and a Postgres that want a password, with TLS and without.

use std::fs;

use sqlx::{Connection as _, Executor as _, PgConnection};
use tonic::Code;

use crate::support::{
    eventually,
    kafka::Kafka,
    process::Process,
    refused,
    services::Service,
    starts::{File, SECRET, assert_says, outlives_restarts, refusal, text},
    values::{numbered, publish_request},
};

/// Settings for a Kafka with users; `more` is of the section `[kafka]`, `ca` of its properties.
fn secured(more: &str, protocol: &str, mechanism: &str, user: &str, ca: &str) -> String {
    format!(
        "[kafka]\n{more}\n[kafka.properties]\n'security.protocol' = '{protocol}'\n'sasl.mechanism' = '{mechanism}'\n\
        'sasl.username' = '{user}'\n{ca}\n"
    )
}

#[tokio::test]
async fn a_kafka_with_tls_and_scram_serves_those_with_the_password_only() {
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
        let wrong = refusal(&arguments, &[(variable, SECRET)]).await;
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
    let wrong = refusal(&arguments, &[]).await;
    assert_says(&wrong, &["refuses the login", "SASL"]);

    // Without a certificate that is trusted, without a password, and without speaking of either.
    let scram = |protocol, user, ca| File::new(&secured("", protocol, "SCRAM-SHA-512", user, ca));
    let untrusted = scram("SASL_SSL", "packetboat", "");
    let arguments = ["--log", &encrypted, "--config", untrusted.path()];
    let line = refusal(&arguments, &[(variable, SECRET)]).await;
    assert_says(&line, &[&encrypted["kafka://".len()..], "certificate"]);
    let nobody = scram("SASL_PLAINTEXT", "nobody", "");
    let arguments = ["--log", &clear_log, "--config", nobody.path()];
    let line = refusal(&arguments, &[(variable, SECRET)]).await;
    assert_says(&line, &[clear, "refuses the login"]);
    let line = refusal(&arguments, &[]).await;
    assert_says(&line, &["password"]);
    let line = refusal(&["--log", &clear_log], &[]).await;
    assert_says(&line, &[clear]);
    // Someone whom the brokers know, and who may do nothing.
    let stranger = scram("SASL_PLAINTEXT", "stranger", "");
    let arguments = ["--log", &clear_log, "--config", stranger.path()];
    let line = refusal(&arguments, &[(variable, password)]).await;
    assert_says(&line, &[clear, "permission"]);
    assert!(!line.contains(password), "{line}");
    // Someone who may do everything but write: no client is told to try again.
    let tools = Kafka::at(kafka.export("PACKETBOAT_TEST_KAFKA"));
    let allowed = [
        "Create",
        "Delete",
        "Read",
        "Describe",
        "DescribeConfigs",
        "AlterConfigs",
    ];
    tools.allow("stranger", &allowed).await;
    let data = tempfile::tempdir().expect("a directory");
    let listen = ["--listen", "127.0.0.1:0", "--data-dir", text(data.path())];
    let arguments = [&listen[..], &arguments[..]].concat();
    let server = Process::serve_with(&arguments, &[(variable, password)]).await;
    let client = server.client().await;
    let topic = client.topic("orders").await;
    for _ in 0..2 {
        let request = publish_request(&topic, &numbered(3));
        let published = client.publisher().publish(request).await;
        let status = refused(published, Code::FailedPrecondition, "no right to write");
        assert_says(status.message(), &["Kafka does not allow publishing"]);
    }
    // And no start is needed when that was mended.
    tools.allow("stranger", &["Write"]).await;
    eventually("the right is noticed", || async {
        let request = publish_request(&topic, &numbered(3));
        client.publisher().publish(request).await.ok()
    })
    .await;
    server.signal("TERM").await;
    let (_, log) = server.ended().await;
    assert!(!log.contains(password), "{log}");
}

#[tokio::test]
async fn a_postgres_with_passwords_serves_those_with_the_right_one_only() {
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
    let line = refusal(&arguments[..2], &[wrong]).await;
    assert_says(&line, &[address, "boat", "refused the login"]);
    let nothing = file.secret("");
    let line = refusal(&arguments[..2], &[("PGPASSFILE", &nothing)]).await;
    assert_says(&line, &[address, "boat", "password"]);
    let missing = format!("postgres://boat@{address}/ships");
    let line = refusal(&["--store", &missing], &[environments[0]]).await;
    assert_says(&line, &[address, "ships", "does not exist"]);
    let guest = format!("postgres://guest@{address}/boats");
    let line = refusal(&["--store", &guest], &[environments[0]]).await;
    assert_says(&line, &[address, "guest", "permission"]);
}
