//! A database of its own for each test, on the server that the environment names.

use std::{str::FromStr as _, thread, time::Duration};

use sqlx::{ConnectOptions as _, PgConnection, postgres::PgConnectOptions};

use crate::{
    clock::Clock,
    store::postgres::{OpenError, Options, PostgresState},
};

/// The log that the stores of tests are of.
pub(super) const LOG: &str = "test:log";

/// An empty database, dropped with this.
pub(in crate::store) struct TestDatabase {
    server: PgConnectOptions,
    pub(super) name: String,
}

impl TestDatabase {
    pub(in crate::store) async fn new() -> Self {
        let url = std::env::var("PACKETBOAT_TEST_POSTGRES").expect(
            "PACKETBOAT_TEST_POSTGRES names no Postgres server: start one (tests/services/postgres.sh start) and set \
             PACKETBOAT_TEST_POSTGRES=postgres://USER@HOST:PORT/DATABASE of a superuser",
        );
        let server = PgConnectOptions::from_str(&url).expect("a URL of Postgres");
        let mut random = [0; 8];
        getrandom::fill(&mut random).expect("random bytes");
        let name = format!("packetboat_test_{:016x}", u64::from_le_bytes(random));
        let database = Self { server, name };
        let create = format!("CREATE DATABASE {}", database.name);
        database.on_server(&create).await;
        database
    }

    async fn on_server(&self, statement: &str) {
        let server = self.server.clone().disable_statement_logging();
        let mut connection = server
            .connect()
            .await
            .expect("the Postgres server of tests");
        run(&mut connection, statement).await;
    }

    /// Host and port of the server.
    pub(super) fn address(&self) -> (String, u16) {
        (self.server.get_host().to_owned(), self.server.get_port())
    }

    /// A plain connection, as a superuser.
    pub(super) async fn connect(&self) -> PgConnection {
        let options = self.server.clone().database(&self.name);
        options.connect().await.expect("connection")
    }

    /// Runs statements on a connection of their own.
    pub(super) async fn run(&self, statements: &str) {
        run(&mut self.connect().await, statements).await;
    }

    pub(super) fn url(&self) -> String {
        self.url_at(&self.address())
    }

    /// Of this database, at another address.
    pub(super) fn url_at(&self, (host, port): &(String, u16)) -> String {
        let user = self.server.get_username();
        format!("postgres://{user}@{host}:{port}/{}", self.name)
    }

    pub(super) fn options(&self, node: &str) -> Options {
        options(&self.url(), node)
    }

    pub(super) async fn try_open(&self, options: Options) -> Result<PostgresState, OpenError> {
        PostgresState::open(options, LOG, Clock::system()).await
    }

    /// A node with the usual lease.
    pub(in crate::store) async fn open(&self, node: &str) -> PostgresState {
        self.try_open(self.options(node)).await.expect("open")
    }

    /// A node with a lease of half a second.
    pub(super) async fn open_hasty(&self, node: &str) -> PostgresState {
        self.try_open(hasty(self.options(node)))
            .await
            .expect("open")
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        // The test's own runtime may be gone or busy.
        thread::scope(|scope| {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .expect("runtime");
                let drop = format!("DROP DATABASE {} WITH (FORCE)", self.name);
                runtime.block_on(self.on_server(&drop));
            });
        });
    }
}

pub(super) fn options(url: &str, node: &str) -> Options {
    let address = format!("{node}.example:8085");
    Options::new(url, node.to_owned(), address).expect("options")
}

pub(super) fn hasty(options: Options) -> Options {
    options.node_lease(HASTY_LEASE)
}

/// Short enough to wait for.
pub(super) const HASTY_LEASE: Duration = Duration::from_millis(600);

pub(super) async fn run(connection: &mut PgConnection, statements: &str) {
    sqlx::raw_sql(sqlx::AssertSqlSafe(statements.to_owned()))
        .execute(connection)
        .await
        .expect(statements);
}
