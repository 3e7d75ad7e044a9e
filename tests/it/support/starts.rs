//! Starts of `packetboat serve` as an operator makes them: with configuration files, secrets, and what a refused one says.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "what a real start takes is measured and shown"
)]

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use super::{
    process::{Process, refusal_with},
    values::{numbered, texts},
};

/// A start that cannot succeed says so within this time.
const REFUSED_WITHIN: Duration = Duration::from_secs(15);
/// What must not be printed.
pub(crate) const SECRET: &str = "s3cret-of-mine";

/// The one line with which `packetboat serve` refuses to start.
pub(crate) async fn refusal(arguments: &[&str], environment: &[(&str, &str)]) -> String {
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

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("a path of text")
}

/// A configuration file.
pub(crate) struct File {
    directory: TempDir,
    path: String,
}

impl File {
    pub(crate) fn new(content: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("packetboat.toml");
        fs::write(&path, content).expect("a file");
        let path = text(&path).to_owned();
        Self { directory, path }
    }

    /// Gives it these permissions.
    pub(crate) fn set_mode(&self, mode: u32) {
        let permissions = fs::Permissions::from_mode(mode);
        fs::set_permissions(&self.path, permissions).expect("a file of our own");
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// Another file beside it, that holds a secret.
    pub(crate) fn secret(&self, content: &str) -> String {
        let path = self.directory.path().join("secret");
        fs::write(&path, content).expect("a file");
        let private = fs::Permissions::from_mode(0o600);
        fs::set_permissions(&path, private).expect("a file of our own");
        text(&path).to_owned()
    }
}

#[track_caller]
pub(crate) fn assert_says(line: &str, parts: &[&str]) {
    for part in parts {
        assert!(line.contains(part), "{part:?} is not in: {line}");
    }
}

/// Publishes, receives, acknowledges, starts again twice, and finds everything as it was.
pub(crate) async fn outlives_restarts(arguments: &[&str], environment: &[(&str, &str)]) {
    let arguments = [&["--listen", "127.0.0.1:0"], arguments].concat();
    let mut server = Process::serve_with(&arguments, environment).await;
    let mut client = server.client().await;
    let topic = client.topic("orders").await;
    let subscription = client.subscription("orders-worker", &topic).await;
    client.publish(&topic, &numbered(10)).await;
    let mut acked = client.receive_and_ack(&subscription, 4).await;
    for signal in ["TERM", "KILL"] {
        server.signal(signal).await;
        server.ended().await;
        server = Process::serve_with(&arguments, environment).await;
        client = server.client().await;
        acked.extend(client.receive_and_ack(&subscription, 3).await);
    }
    let all: Vec<_> = (0..10).map(|number| number.to_string()).collect();
    assert_eq!(texts(&acked), all);
    client.assert_nothing(&subscription, "all is acked").await;
    server.signal("TERM").await;
    server.ended().await;
}
