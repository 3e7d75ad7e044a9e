//! A Kafka or a Postgres of a test's own, to be killed, or with users and certificates.

use std::{collections::HashMap, fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

use tempfile::TempDir;
use tokio::process::Command;

/// A throw-away service of tests/services. It is stopped when this is dropped, or when the test's process is gone.
pub(crate) struct Service {
    script: PathBuf,
    directory: TempDir,
    exports: HashMap<String, String>,
}

impl Service {
    /// A Kafka, of one broker unless the settings say otherwise. They are the script's.
    pub(crate) async fn kafka(settings: &[(&str, &str)]) -> Self {
        Self::start_new("kafka.sh", settings).await
    }

    /// A Postgres.
    pub(crate) async fn postgres() -> Self {
        Self::start_new("postgres.sh", &[]).await
    }

    /// A Postgres with further settings, such as `-c max_connections=6`.
    pub(crate) async fn postgres_with(settings: &str) -> Self {
        Self::start_new("postgres.sh", &[("POSTGRES_SETTINGS", settings)]).await
    }

    /// A Postgres that keeps what is committed, as other tests have no need for.
    pub(crate) async fn durable_postgres() -> Self {
        Self::postgres_with("-c fsync=on -c full_page_writes=on").await
    }

    /// A PgBouncer in front of a Postgres, which drops what sessions ask for as they start.
    pub(crate) async fn pooler(postgres: &Self) -> Self {
        let pooled = postgres.export("PACKETBOAT_TEST_POSTGRES");
        Self::start_new("pgbouncer.sh", &[("POOLED", pooled)]).await
    }

    async fn start_new(script: &str, settings: &[(&str, &str)]) -> Self {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/services");
        let directory = tempfile::tempdir().expect("a directory");
        // Postgres may run as another user.
        let open = fs::Permissions::from_mode(0o711);
        fs::set_permissions(directory.path(), open).expect("a directory of our own");
        let mut service = Self {
            script: folder.join(script),
            directory,
            exports: HashMap::new(),
        };
        service.exports = service.run("start", None, settings).await;
        service
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// What the script exported.
    pub(crate) fn export(&self, variable: &str) -> &str {
        let exported = self.exports.get(variable);
        exported.unwrap_or_else(|| panic!("{} exports no {variable}", self.script.display()))
    }

    /// SIGKILL to all of its processes; returns when they are gone.
    pub(crate) async fn kill(&self) {
        self.run("kill", None, &[]).await;
    }

    /// The same to one broker of a Kafka of several.
    pub(crate) async fn kill_broker(&self, node: i32) {
        self.run("kill", Some(node), &[]).await;
    }

    /// Starts it where it was, with the data that it had.
    pub(crate) async fn start(&self) {
        self.run("start", None, &[]).await;
    }

    /// The same with one broker of a Kafka of several.
    pub(crate) async fn start_broker(&self, node: i32) {
        self.run("start", Some(node), &[]).await;
    }

    async fn run(
        &self,
        verb: &str,
        node: Option<i32>,
        settings: &[(&str, &str)],
    ) -> HashMap<String, String> {
        let output = Command::new(&self.script)
            .arg(verb)
            .arg(self.data())
            .args(node.map(|node| node.to_string()))
            .envs(settings.iter().copied())
            .env("PACKETBOAT_TEST_OWNER", std::process::id().to_string())
            .output()
            .await
            .expect("the script runs");
        let text = |bytes| String::from_utf8(bytes).expect("text");
        assert!(
            output.status.success(),
            "{} {verb}: {}",
            self.script.display(),
            text(output.stderr)
        );
        text(output.stdout)
            .lines()
            .filter_map(|line| line.strip_prefix("export ")?.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let stopped = std::process::Command::new(&self.script)
            .arg("stop")
            .arg(self.data())
            .output();
        // A test that fails has more to say than this, and the script watches the test's process anyway.
        drop(stopped);
    }
}
