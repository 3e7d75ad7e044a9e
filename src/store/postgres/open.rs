//! Opens the store: connects, checks the server, brings the tables up to date, and says in one line why it cannot.

use std::time::Duration;

use sqlx::{
    PgConnection,
    postgres::{PgConnectOptions, PgSslMode},
};
use thiserror::Error;
use tokio::time::{Instant, sleep, timeout};

use super::{
    connector::{Connector, Unusable, is_full},
    database::error_code,
};
use crate::limits::{
    OPEN_MILLIS_MAX, POSTGRES_NODE_CONNECTIONS_MAX, POSTGRES_RETRY_MILLIS, POSTGRES_VERSION_MIN,
};

/// Why a database was not opened: which one, and what to do.
#[derive(Debug, Error)]
#[error("{database}: {cause}")]
pub struct OpenError {
    /// Database, host, port and user.
    pub database: String,
    /// Why.
    pub cause: Refusal,
}

/// Why a database was not opened. Each text says what to do.
#[derive(Debug, Error)]
pub enum Refusal {
    /// Nobody answers there.
    #[error("no Postgres server answers there ({0}): start it, or correct the address")]
    Unreachable(String),
    /// TLS could not be agreed on.
    #[error("the connection cannot be encrypted as asked ({0}): check sslmode and sslrootcert")]
    Tls(String),
    /// The server does not let this user in.
    #[error(
        "the server refused the login ({0}): check the user, and the password in PGPASSWORD, PGPASSFILE or \
         postgres.password_file"
    )]
    Login(String),
    /// There is no such database.
    #[error("{0}: create it, or name another one")]
    NoDatabase(String),
    /// The user may not do what is needed.
    #[error(
        "a permission is missing ({0}): make the user the owner of the database, or GRANT it CREATE and USAGE on the \
         schema and everything on the tables in it"
    )]
    Permission(String),
    /// It is too old.
    #[error("the server is Postgres {found}: Packetboat needs {min} or newer", min = POSTGRES_VERSION_MIN)]
    OldServer {
        /// Its version.
        found: String,
    },
    /// It has no connection left.
    #[error(
        "the server has no connection left for this user ({0}): raise max_connections, or the limit of the user or the \
         database; a node uses up to {max}", max = POSTGRES_NODE_CONNECTIONS_MAX
    )]
    Full(String),
    /// It takes no writes.
    #[error("the server is a standby, which takes no writes: name the primary server")]
    Standby,
    /// Its sessions are not what is needed; the text says what to do.
    #[error("{0}")]
    Unusable(String),
    /// A later version made the tables.
    #[error(
        "its tables were made by a newer version of Packetboat (they are of version {found}, this one knows up to \
         {known}): run that version, or name another database"
    )]
    Newer {
        /// The tables' version.
        found: i32,
        /// The latest version that this one can use.
        known: i32,
    },
    /// Its offsets are of other messages.
    #[error(
        "it belongs to the log {found}, but messages are kept in {expected}: name the log that belongs to it, or \
         another database"
    )]
    OtherLog {
        /// The log that it belongs to.
        found: String,
        /// The log that was given.
        expected: String,
    },
    /// Another application's tables are there.
    #[error(
        "tables of something else are in the way ({0}): name another database, or another schema with \
         ?options=-csearch_path%3DNAME"
    )]
    Taken(String),
    /// Another process did not finish the tables.
    #[error(
        "the tables are still being brought up to date by another process: see what holds it up in pg_stat_activity"
    )]
    Migrating,
    /// What the store's row says makes no sense.
    #[error("the table packetboat cannot be read ({0}): restore the database from a backup")]
    Damaged(String),
    /// The system gave no random bytes.
    #[error("the system gave no random bytes: {0}")]
    Random(#[from] getrandom::Error),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl From<sqlx::Error> for Refusal {
    fn from(error: sqlx::Error) -> Self {
        match Unusable::of(&error) {
            Some(Unusable::Standby) => return Self::Standby,
            Some(unusable) => return Self::Unusable(unusable.to_string()),
            None if is_full(&error) => return Self::Full(error.to_string()),
            None => {}
        }
        let text = match &error {
            sqlx::Error::Database(answer) => answer.message().to_owned(),
            error => error.to_string(),
        };
        match (&error, error_code(&error).as_deref()) {
            (sqlx::Error::Io(error), _) => Self::Unreachable(error.to_string()),
            (sqlx::Error::Tls(_), _) => Self::Tls(text),
            (sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. }, _) => Self::Damaged(text),
            (sqlx::Error::RowNotFound, _) => Self::Damaged("it is empty".to_owned()),
            (_, Some("28P01" | "28000")) => Self::Login(text),
            (_, Some("3D000")) => Self::NoDatabase(text),
            // "No schema to create in" is one that does not exist or may not be used.
            (_, Some("42501" | "3F000")) => Self::Permission(text),
            (_, Some("42P07" | "42703")) => Self::Taken(text),
            _ => Self::Other(text),
        }
    }
}

/// The first connection. A server that is just starting is waited for.
pub(super) async fn connect(connector: &Connector) -> Result<PgConnection, Refusal> {
    let longest = Duration::from_millis(OPEN_MILLIS_MAX);
    let deadline = Instant::now() + longest;
    loop {
        let rest = deadline.saturating_duration_since(Instant::now());
        match timeout(rest, connector.open()).await {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(error)) if is_starting(&error) && Instant::now() < deadline => {
                sleep(Duration::from_millis(POSTGRES_RETRY_MILLIS)).await;
            }
            Ok(Err(error)) => return Err(encryption(connector.options(), error)),
            Err(_) => {
                let text = format!("no answer within {OPEN_MILLIS_MAX} ms");
                return Err(Refusal::Unreachable(text));
            }
        }
    }
}

fn is_starting(error: &sqlx::Error) -> bool {
    error_code(error).as_deref() == Some("57P03")
}

/// The driver reports a server without TLS as an error of the configuration.
fn encryption(connect: &PgConnectOptions, error: sqlx::Error) -> Refusal {
    if Unusable::of(&error).is_some() {
        return error.into();
    }
    match error {
        sqlx::Error::Configuration(error)
            if !matches!(connect.get_ssl_mode(), PgSslMode::Disable) =>
        {
            Refusal::Tls(error.to_string())
        }
        error => error.into(),
    }
}
