//! Where the database is, and who this node is in it. Holds no secret that can be printed.

use std::{fmt, str::FromStr as _, time::Duration};

use sqlx::{
    ConnectOptions as _,
    postgres::{PgConnectOptions, PgSslMode},
};
use thiserror::Error;

use crate::limits::NODE_LEASE_MILLIS;

/// Parameters of a URL that are taken; all are libpq's.
const PARAMETERS: [&str; 10] = [
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "host",
    "port",
    "dbname",
    "user",
    "application_name",
    "options",
];

/// Why a database cannot be named so. No text repeats what was given, where a password may be at any place.
#[derive(Debug, Error)]
pub enum OptionsError {
    /// The URL holds a password.
    #[error(
        "the URL of the Postgres database holds a password, which others could read in the list of processes: leave it \
         out, and set PGPASSWORD, or PGPASSFILE with a file of mode 0600, or postgres.password_file in the configuration \
         file"
    )]
    Password,
    /// It is no such URL.
    #[error(
        "the given text does not name a Postgres database ({reason}): write postgres://USER@HOST:PORT/DATABASE"
    )]
    Url {
        /// What is wrong with it.
        reason: String,
    },
    /// A parameter that is not known, or is misspelled.
    #[error(
        "the Postgres URL's parameter number {0} is not known: take one of {list}; a question mark in a user's name is \
         written %3F", list = PARAMETERS.join(", ")
    )]
    Parameter(usize),
    /// `PGSSLMODE` says something that is not known. The driver would ignore it.
    #[error(
        "PGSSLMODE is {0:?}, which is not known: take disable, allow, prefer, require, verify-ca or verify-full"
    )]
    SslMode(String),
}

/// How to connect, and as which node.
#[derive(Clone)]
pub struct Options {
    pub(super) connect: PgConnectOptions,
    /// User, host, port and database.
    pub(super) shown: String,
    pub(super) node: String,
    pub(super) address: String,
    pub(super) node_lease: Duration,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("database", &self.shown)
            .field("node", &self.node)
            .field("address", &self.address)
            .field("lease", &self.node_lease)
            .finish_non_exhaustive()
    }
}

impl Options {
    /// From a URL without password. What it leaves out comes from libpq's environment variables (PGUSER, PGPASSWORD,
    /// PGPASSFILE, PGSSLMODE, PGSSLROOTCERT and so on).
    ///
    /// `node` names this process among those that share the database: a process that starts under the name of another
    /// one replaces it. `address` is where the others reach it.
    pub fn new(url: &str, node: String, address: String) -> Result<Self, OptionsError> {
        check_url(url)?;
        if let Ok(mode) = std::env::var("PGSSLMODE")
            && PgSslMode::from_str(&mode).is_err()
        {
            return Err(OptionsError::SslMode(mode));
        }
        let connect = PgConnectOptions::from_str(url).map_err(|error| OptionsError::Url {
            reason: error.to_string(),
        })?;
        // The driver hands the host to the resolver, which does not know an address in brackets.
        let host = connect.get_host().to_owned();
        let connect = match host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
        {
            Some(address) => connect.host(address),
            None => connect,
        };
        let connect = connect
            .application_name(&format!("packetboat {node}"))
            .disable_statement_logging();
        let location = match connect.get_socket() {
            Some(socket) => socket.display().to_string(),
            None => format!("{}:{}", connect.get_host(), connect.get_port()),
        };
        let user = connect.get_username();
        let database = connect.get_database().unwrap_or(user);
        Ok(Self {
            shown: format!("postgres {database} at {location} as {user}"),
            connect,
            node,
            address,
            node_lease: Duration::from_millis(NODE_LEASE_MILLIS),
        })
    }

    /// Logs in with this password.
    #[must_use]
    pub fn password(mut self, password: &str) -> Self {
        self.connect = self.connect.password(password);
        self
    }

    /// How long what this node owns stays its own after its last heartbeat. The heartbeats follow from it.
    #[must_use]
    pub const fn node_lease(mut self, node_lease: Duration) -> Self {
        self.node_lease = node_lease;
        self
    }

    /// User, host, port and database, for a greeting or an error.
    pub fn shown(&self) -> &str {
        &self.shown
    }
}

fn check_url(url: &str) -> Result<(), OptionsError> {
    let refused = |reason: &str| OptionsError::Url {
        reason: reason.to_owned(),
    };
    let rest = url
        .strip_prefix("postgres://")
        .or_else(|| url.strip_prefix("postgresql://"))
        .ok_or_else(|| refused("it does not begin with postgres://"))?;
    let before_parameters = rest.split(['?', '#']).next().unwrap_or_default();
    let authority = before_parameters.split('/').next().unwrap_or_default();
    // Up to the last of them: a password may hold one, or a slash.
    let user = before_parameters
        .rsplit_once('@')
        .map_or("", |(user, _)| user);
    if user.contains(':') || user.to_ascii_lowercase().contains("%3a") {
        return Err(OptionsError::Password);
    }
    if authority.contains(',') {
        return Err(refused("it names more than one host"));
    }
    let parameters = url.split_once('?').map_or("", |(_, parameters)| parameters);
    let parameters = parameters
        .split('&')
        .filter(|parameter| !parameter.is_empty());
    for (number, parameter) in (1..).zip(parameters) {
        let name = parameter.split('=').next().unwrap_or_default();
        if name.eq_ignore_ascii_case("password") {
            return Err(OptionsError::Password);
        }
        if !PARAMETERS.contains(&name) {
            return Err(OptionsError::Parameter(number));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(url: &str) -> Result<Options, OptionsError> {
        Options::new(url, "n".to_owned(), "a:1".to_owned())
    }

    #[test]
    fn a_password_in_the_url_is_refused_and_never_repeated() {
        for url in [
            "postgres://me:s3cret@db/p",
            "postgresql://:s3cret@db/p",
            "postgres://me:s3c/r3cret@db/p",
            "postgres://me%3As3cret@db/p",
            "postgres://db/p?password=s3cret",
            "postgres://db/p?sslmode=require&PassWord=s3cret",
        ] {
            let text = options(url).expect_err("refused").to_string();
            assert!(text.contains("PGPASSFILE"), "{url}: {text}");
            assert!(!text.contains("s3c"), "{url}: {text}");
        }
    }

    #[test]
    fn what_is_no_url_of_postgres_is_refused_with_what_to_write() {
        for url in [
            "mysql://me:s3cret@db/p",
            "db",
            "postgres://a,b/p",
            "postgres://me:s3cret",
            "postgres://me:s3cret%40db/p",
            "postgres://db:s3cret/p",
        ] {
            let text = options(url).expect_err("refused").to_string();
            assert!(
                text.contains("postgres://USER@HOST:PORT/DATABASE"),
                "{text}"
            );
            assert!(!text.contains("s3cret"), "{text}");
        }
        for (url, number) in [
            ("postgres://db/p?sslmod=require&x=s3cret", 1),
            ("postgres://db/p?sslmode=require&s3cret", 2),
            ("postgres://me:pass?s3cret@db/p", 1),
        ] {
            let text = options(url).expect_err("refused").to_string();
            let named = format!("parameter number {number} is not known");
            assert!(text.contains(&named) && text.contains("sslmode"), "{text}");
            assert!(!text.contains("s3cret"), "{text}");
        }
        let text = options("postgres://db/p?sslmode=full").expect_err("refused");
        assert!(text.to_string().contains("full"), "{text}");
    }

    #[test]
    fn the_parts_of_the_url_are_shown_and_the_password_is_not() {
        let options = options("postgres://me@[::1]:5433/pb?sslmode=disable").expect("options");
        let options = options.password("s3cret");
        assert_eq!(options.shown(), "postgres pb at ::1:5433 as me");
        assert!(!format!("{options:?}").contains("s3cret"));
    }
}
