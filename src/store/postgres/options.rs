//! Where the database is, and who this node is in it. Holds no secret that can be printed.

use std::{fmt, fs, path::Path, str::FromStr as _, time::Duration};

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

/// Why a database cannot be named so. No text holds a password.
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
        "{shown} does not name a Postgres database ({reason}): write postgres://HOST:PORT/DATABASE"
    )]
    Url {
        /// The URL up to its parameters.
        shown: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A parameter that is not known, or is misspelled.
    #[error("the Postgres URL's parameter {0} is not known: take one of {list}", list = PARAMETERS.join(", "))]
    Parameter(String),
    /// `PGSSLMODE` says something that is not known. The driver would ignore it.
    #[error(
        "PGSSLMODE is {0:?}, which is not known: take disable, allow, prefer, require, verify-ca or verify-full"
    )]
    SslMode(String),
    /// The file with the password cannot be read.
    #[error("the file with the Postgres password, {path}: {source}")]
    PasswordFile {
        /// The file.
        path: String,
        /// What the system answered.
        source: std::io::Error,
    },
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
            shown: before_parameters(url).to_owned(),
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

    /// Takes the password from the first line of a file.
    pub fn password_file(mut self, path: &Path) -> Result<Self, OptionsError> {
        let password = fs::read_to_string(path).map_err(|source| OptionsError::PasswordFile {
            path: path.display().to_string(),
            source,
        })?;
        let password = password.lines().next().unwrap_or_default();
        self.connect = self.connect.password(password);
        Ok(self)
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

fn before_parameters(url: &str) -> &str {
    url.split(['?', '#']).next().unwrap_or_default()
}

fn check_url(url: &str) -> Result<(), OptionsError> {
    let shown = before_parameters(url);
    let rest = shown
        .strip_prefix("postgres://")
        .or_else(|| shown.strip_prefix("postgresql://"));
    let Some(rest) = rest else {
        // What it is instead is not shown: it may be anything, with a password in it.
        return Err(OptionsError::Url {
            shown: "the given text".to_owned(),
            reason: "it does not begin with postgres://".to_owned(),
        });
    };
    let authority = rest.split('/').next().unwrap_or_default();
    if let Some((user, _)) = rest.rsplit_once('@')
        && user.contains(':')
    {
        return Err(OptionsError::Password);
    }
    if authority.contains(',') {
        return Err(OptionsError::Url {
            shown: shown.to_owned(),
            reason: "it names more than one host".to_owned(),
        });
    }
    let parameters = url.split_once('?').map_or("", |(_, parameters)| parameters);
    for parameter in parameters
        .split('&')
        .filter(|parameter| !parameter.is_empty())
    {
        let name = parameter.split('=').next().unwrap_or_default();
        if name.eq_ignore_ascii_case("password") {
            return Err(OptionsError::Password);
        }
        if !PARAMETERS.contains(&name) {
            return Err(OptionsError::Parameter(name.to_owned()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

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
        for url in ["mysql://me:s3cret@db/p", "db", "postgres://a,b/p"] {
            let text = options(url).expect_err("refused").to_string();
            assert!(text.contains("postgres://HOST:PORT/DATABASE"), "{text}");
            assert!(!text.contains("s3cret"), "{text}");
        }
        let text = options("postgres://db/p?sslmod=require&x=s3cret");
        let text = text.expect_err("refused").to_string();
        assert!(text.contains("sslmod is not known"), "{text}");
        assert!(!text.contains("s3cret"), "{text}");
        let text = options("postgres://db/p?sslmode=full").expect_err("refused");
        assert!(text.to_string().contains("full"), "{text}");
    }

    #[test]
    fn the_parts_of_the_url_are_shown_and_the_password_of_a_file_is_not() {
        let mut file = tempfile::NamedTempFile::new().expect("file");
        file.write_all(b"s3cret\nnot this\n").expect("written");
        let options = options("postgres://me@[::1]:5433/pb?sslmode=disable").expect("options");
        let options = options.password_file(file.path()).expect("password");
        assert_eq!(options.shown(), "postgres pb at ::1:5433 as me");
        assert!(!format!("{options:?}").contains("s3cret"));
        let missing = options.password_file(Path::new("/no/such/file"));
        assert!(matches!(missing, Err(OptionsError::PasswordFile { .. })));
    }
}
