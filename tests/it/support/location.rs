//! Locations for a server's data: a directory, or a database and a prefix of topics on the services that tests/services
//! has started.

use std::{fs, path::Path};

use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use tempfile::TempDir;

/// Somewhere that nobody else uses. It goes away when this is dropped, but for what is on the throw-away services.
pub(crate) struct Location {
    directory: TempDir,
    services: Option<Services>,
}

/// What the location has on the services.
#[derive(Clone, Debug)]
pub(crate) struct Services {
    /// `HOST:PORT` of Kafka.
    pub(crate) kafka: String,
    /// The database's URL.
    pub(crate) postgres: String,
    /// What the names of Kafka topics begin with.
    pub(crate) prefix: String,
}

/// The address of a service that the tests are run with.
pub(crate) fn service(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| {
        panic!("{variable} does not name a service: tests/run.sh starts what tests need; by hand, tests/services does")
    })
}

impl Location {
    /// A directory.
    pub(crate) fn embedded() -> Self {
        Self {
            directory: tempfile::tempdir().expect("a directory"),
            services: None,
        }
    }

    /// Kafka and Postgres.
    pub(crate) async fn kafka_and_postgres() -> Self {
        Self::with_settings("").await
    }

    /// Kafka and Postgres, with more lines for the file's section `[kafka]`.
    pub(crate) async fn with_settings(kafka: &str) -> Self {
        let (brokers, server) = (
            service("PACKETBOAT_TEST_KAFKA"),
            service("PACKETBOAT_TEST_POSTGRES"),
        );
        Self::on(brokers, &server, kafka).await
    }

    /// On this Kafka, and in a new database of this Postgres, whose URL names another database of it.
    pub(crate) async fn on(brokers: String, server: &str, kafka: &str) -> Self {
        let location = Self::embedded();
        let name = location
            .path()
            .file_name()
            .expect("a name")
            .to_string_lossy();
        let name = format!("it_{}", name.trim_start_matches('.').to_lowercase());
        let mut connection = PgConnection::connect(server).await.expect("Postgres");
        let create = AssertSqlSafe(format!("CREATE DATABASE {name}"));
        connection.execute(create).await.expect("a database");
        let (base, _) = server.rsplit_once('/').expect("a database in the URL");
        let text = format!("[kafka]\nprefix = \"{name}\"\n{kafka}\n");
        fs::write(location.path().join("packetboat.toml"), text).expect("a file");
        Self {
            services: Some(Services {
                kafka: brokers,
                postgres: format!("{base}/{name}"),
                prefix: name,
            }),
            ..location
        }
    }

    /// The directory, which is empty unless data is stored in it.
    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// What is on the services.
    pub(crate) fn services(&self) -> &Services {
        self.services.as_ref().expect("a location on services")
    }

    /// The flags that name it, and a free port.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let path = |name: &str| self.path().join(name).to_string_lossy().into_owned();
        let mut arguments = vec!["--listen".to_owned(), "127.0.0.1:0".to_owned()];
        match &self.services {
            None => arguments.extend(["--data-dir".to_owned(), path("data")]),
            Some(services) => arguments.extend([
                "--config".to_owned(),
                path("packetboat.toml"),
                "--log".to_owned(),
                format!("kafka://{}", services.kafka),
                "--store".to_owned(),
                services.postgres.clone(),
            ]),
        }
        arguments
    }

    /// The same for one of several servers, or for one that starts again and takes its own back at once.
    pub(crate) fn arguments_of(&self, node: &str) -> Vec<String> {
        let mut arguments = self.arguments();
        arguments.extend(["--node-name".to_owned(), node.to_owned()]);
        arguments
    }
}
