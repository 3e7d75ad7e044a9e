//! Opens sessions that are what everything here counts on: of a server that takes writes, and with settings of our own.
//! A pooler may drop what a session asks for when it starts, so settings are made by a statement and read back.

use std::{borrow::Cow, collections::BTreeMap, time::Duration};

use sqlx::{
    ConnectOptions as _, Executor as _, PgConnection, Row as _, postgres::PgConnectOptions,
};
use thiserror::Error;

use super::database::{error_code, within};
use crate::limits::{
    POSTGRES_LOCK_MILLIS, POSTGRES_STATEMENT_MILLIS, POSTGRES_TRANSACTION_IDLE_MILLIS,
};

/// A setting of our own that says what a session is for, so that another one is found out that a pooler gives instead.
pub(super) const PURPOSE: &str = "packetboat.session";

/// A setting of a session, and its value.
pub(super) type Setting = (Cow<'static, str>, Cow<'static, str>);

/// Why a session that was opened cannot be used.
#[derive(Debug, Error)]
pub(super) enum Unusable {
    #[error("the server is a standby, which takes no writes: name the primary server")]
    Standby,
    #[error(
        "the server takes no writes: default_transaction_read_only is on for it, for the database or for the user"
    )]
    ReadOnly,
    #[error(
        "the server has no connection left, and those for heartbeats and acknowledgements come first"
    )]
    Scarce,
    #[error(
        "the session lacks what was set in it ({0}): a pooler between has to pool sessions, not transactions \
         (pool_mode = session)"
    )]
    Settings(String),
}

impl From<Unusable> for sqlx::Error {
    fn from(unusable: Unusable) -> Self {
        Self::Configuration(unusable.into())
    }
}

impl Unusable {
    /// What an error says about the session, if that is what it is.
    pub(super) fn of(error: &sqlx::Error) -> Option<&Self> {
        match error {
            sqlx::Error::Configuration(error) => error.downcast_ref(),
            _ => None,
        }
    }
}

/// How to open a session. Cheap to clone.
#[derive(Clone)]
pub(super) struct Connector {
    options: PgConnectOptions,
    settings: Vec<Setting>,
    writes: bool,
}

impl Connector {
    pub(super) fn new(options: PgConnectOptions) -> Self {
        let mut settings = options.get_options().map(asked_for).unwrap_or_default();
        // The later one counts.
        settings.extend(session_settings());
        Self {
            options,
            settings,
            writes: true,
        }
    }

    /// The same, with further settings.
    pub(super) fn with(mut self, settings: &[(&'static str, &'static str)]) -> Self {
        let settings = settings.iter();
        self.settings
            .extend(settings.map(|&(name, value)| (name.into(), value.into())));
        self
    }

    /// The same, but its sessions only read, from whatever server there is.
    pub(super) fn reading(self) -> Self {
        let mut reading = self.with(&[("default_transaction_read_only", "on")]);
        reading.writes = false;
        reading
    }

    pub(super) const fn options(&self) -> &PgConnectOptions {
        &self.options
    }

    fn purpose(&self) -> Option<&str> {
        let mut settings = self.settings.iter().rev();
        let purpose = settings.find(|(name, _)| name == PURPOSE);
        purpose.map(|(_, value)| value.as_ref())
    }

    /// Opens a session and makes sure of it.
    pub(super) async fn open(&self) -> Result<PgConnection, sqlx::Error> {
        let mut connection = self.options.connect().await?;
        let lost = self.set(&mut connection).await?;
        if !lost.is_empty() {
            return Err(Unusable::Settings(lost.join(", ")).into());
        }
        self.check(&mut connection).await?;
        Ok(connection)
    }

    /// Makes the settings. Returns what the session does not have after that.
    async fn set(&self, connection: &mut PgConnection) -> Result<Vec<String>, sqlx::Error> {
        let (names, values): (Vec<&str>, Vec<&str>) = self
            .settings
            .iter()
            .map(|(name, value)| (name.as_ref(), value.as_ref()))
            .unzip();
        // Commits are durable, whatever the default is.
        let rows = sqlx::query(
            "SELECT name, set_config(name, CASE WHEN name = 'synchronous_commit' AND value = ''
                THEN coalesce(nullif(current_setting(name), 'off'), 'on') ELSE value END, false)
            FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS wanted (name, value, place) ORDER BY place",
        )
        .bind(names)
        .bind(values)
        .fetch_all(&mut *connection)
        .await?;
        // Of a setting that was made twice the later one counts.
        let mut wanted = BTreeMap::<String, String>::new();
        for row in &rows {
            wanted.insert(row.try_get(0)?, row.try_get(1)?);
        }
        let (names, values): (Vec<String>, Vec<String>) = wanted.into_iter().unzip();
        sqlx::query_scalar(
            "SELECT name FROM unnest($1::text[], $2::text[]) AS wanted (name, value)
            WHERE current_setting(name, true) IS DISTINCT FROM value",
        )
        .bind(names)
        .bind(values)
        .fetch_all(connection)
        .await
    }

    /// Whether the server still takes writes, and the session is the one that was opened.
    pub(super) async fn check(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        let row = connection
            .fetch_one(
                "SELECT pg_is_in_recovery(), current_setting('transaction_read_only') = 'on',
                    current_setting('packetboat.session', true)",
            )
            .await?;
        let purpose: Option<String> = row.try_get(2)?;
        if purpose.as_deref() != self.purpose() {
            return Err(Unusable::Settings(PURPOSE.to_owned()).into());
        }
        if self.writes && row.try_get(0)? {
            return Err(Unusable::Standby.into());
        }
        if self.writes && row.try_get(1)? {
            return Err(Unusable::ReadOnly.into());
        }
        Ok(())
    }
}

/// Whether the server, or what bounds its user or its database, has no connection left.
pub(super) fn is_full(error: &sqlx::Error) -> bool {
    error_code(error).as_deref() == Some(TOO_MANY_CONNECTIONS)
}

/// Bounded as everything that waits for the database.
pub(super) async fn open_within(
    connector: &Connector,
    longest: Duration,
) -> Result<PgConnection, sqlx::Error> {
    within(longest, connector.open()).await
}

/// Of every session, whatever the server's and the user's defaults are.
fn session_settings() -> [Setting; 11] {
    let millis = |millis: u64| Cow::Owned(millis.to_string());
    [
        // Everything here counts on a later statement seeing what was committed before it.
        (
            "default_transaction_isolation".into(),
            "read committed".into(),
        ),
        (
            "statement_timeout".into(),
            millis(POSTGRES_STATEMENT_MILLIS),
        ),
        ("lock_timeout".into(), millis(POSTGRES_LOCK_MILLIS)),
        (
            "idle_in_transaction_session_timeout".into(),
            millis(POSTGRES_TRANSACTION_IDLE_MILLIS),
        ),
        // The default, unless that is not durable.
        ("synchronous_commit".into(), "".into()),
        // So that the locks of a machine that is gone are free again soon.
        ("tcp_keepalives_idle".into(), "5".into()),
        ("tcp_keepalives_interval".into(), "2".into()),
        ("tcp_keepalives_count".into(), "3".into()),
        ("tcp_user_timeout".into(), "10000".into()),
        ("client_min_messages".into(), "warning".into()),
        (PURPOSE.into(), "anything".into()),
    ]
}

/// The settings in the options of a connection's start, as `-c name=value` and `--name=value`: a pooler may drop them.
fn asked_for(options: &str) -> Vec<Setting> {
    let mut settings = Vec::new();
    let mut words = words(options).into_iter();
    while let Some(word) = words.next() {
        let assignment = match word.strip_prefix("-c") {
            Some("") => words.next(),
            Some(rest) => Some(rest.to_owned()),
            None => word.strip_prefix("--").map(|rest| rest.replace('-', "_")),
        };
        if let Some((name, value)) = assignment.as_deref().and_then(|it| it.split_once('=')) {
            settings.push((name.to_owned().into(), value.to_owned().into()));
        }
    }
    settings
}

/// Splits at spaces that have no backslash before them, as the server does.
fn words(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => words
                .last_mut()
                .map_or((), |word| word.extend(characters.next())),
            space if space.is_whitespace() => words.push(String::new()),
            other => words.last_mut().map_or((), |word| word.push(other)),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

const TOO_MANY_CONNECTIONS: &str = "53300";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_settings_of_a_url_are_found_in_each_form() {
        let found =
            asked_for(r"-c search_path=a\ b -cwork_mem=4MB --lock-timeout=5 -B 3 -c broken");
        let found: Vec<(&str, &str)> = found
            .iter()
            .map(|(name, value)| (name.as_ref(), value.as_ref()))
            .collect();
        assert_eq!(
            found,
            [
                ("search_path", "a b"),
                ("work_mem", "4MB"),
                ("lock_timeout", "5")
            ]
        );
    }
}
