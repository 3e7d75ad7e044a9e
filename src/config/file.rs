//! The configuration file: TOML, every key optional, an unknown key refused.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use thiserror::Error;

use super::named_file;

/// What the file says. What it leaves out has the default that `packetboat serve --help` names.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct File {
    /// As `--listen`.
    pub listen: Vec<SocketAddr>,
    /// As `--allowed-origin`.
    pub allowed_origin: Vec<String>,
    /// As `--allowed-host`.
    pub allowed_host: Vec<String>,
    /// As `--data-dir`.
    pub data_dir: Option<PathBuf>,
    /// As `--log`.
    pub log: Option<String>,
    /// As `--store`.
    pub store: Option<String>,
    /// As `--node-name`.
    pub node_name: Option<String>,
    /// Of the log in Kafka.
    pub kafka: KafkaSettings,
    /// Of the state in Postgres.
    pub postgres: PostgresSettings,
}

/// How topics are made in Kafka, and how its brokers are reached.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KafkaSettings {
    /// What the names of all Kafka topics begin with.
    pub prefix: String,
    /// Partitions of a new topic.
    pub partitions: u32,
    /// Copies of a new topic; the brokers' default when not set.
    pub replication_factor: Option<u16>,
    /// How batches are compressed: `none`, `gzip`, `snappy`, `lz4` or `zstd`.
    pub compression: String,
    /// For how many days a topic retains messages at least, whatever its subscriptions want.
    pub retention_days: u32,
    /// Whether what all subscriptions have acknowledged is deleted from Kafka before its time.
    pub delete_acknowledged: bool,
    /// The Kafka topics that may be attached: names in which each `*` stands for any characters.
    pub attach: Vec<String>,
    /// A file whose first line is the password of `sasl.username`.
    pub password_file: Option<PathBuf>,
    /// What differs for some topics; the first pattern that fits counts.
    pub topics: Vec<KafkaTopicSettings>,
    /// Properties of librdkafka, passed through.
    pub properties: BTreeMap<String, PropertyValue>,
}

/// What differs for topics whose name fits a pattern.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KafkaTopicSettings {
    /// A full name, `projects/P/topics/T`, in which each `*` stands for any characters.
    pub pattern: String,
    /// As [`KafkaSettings::partitions`].
    pub partitions: Option<u32>,
    /// As [`KafkaSettings::replication_factor`].
    pub replication_factor: Option<u16>,
    /// As [`KafkaSettings::compression`].
    pub compression: Option<String>,
}

/// How Postgres is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PostgresSettings {
    /// A file whose first line is the password.
    pub password_file: Option<PathBuf>,
}

/// A property as TOML writes it.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum PropertyValue {
    /// `true` or `false`.
    Switch(bool),
    /// A number.
    Number(i64),
    /// Anything else.
    Text(String),
}

impl PropertyValue {
    /// As librdkafka reads it.
    pub fn to_text(&self) -> String {
        match self {
            Self::Switch(on) => on.to_string(),
            Self::Number(number) => number.to_string(),
            Self::Text(text) => text.clone(),
        }
    }
}

impl Default for KafkaSettings {
    fn default() -> Self {
        Self {
            prefix: "packetboat".to_owned(),
            partitions: 1,
            replication_factor: None,
            compression: "lz4".to_owned(),
            retention_days: 7,
            delete_acknowledged: false,
            attach: vec!["*".to_owned()],
            password_file: None,
            topics: Vec::new(),
            properties: BTreeMap::new(),
        }
    }
}

/// Shows the names of the properties only: a value may be a secret.
impl std::fmt::Debug for KafkaSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaSettings")
            .field("prefix", &self.prefix)
            .field("partitions", &self.partitions)
            .field("topics", &self.topics)
            .field("properties", &self.properties.keys())
            .finish_non_exhaustive()
    }
}

/// Why a file was not taken.
#[derive(Debug, Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It says something that is not understood.
    #[error("{path}: {reason}")]
    Refused {
        /// The file.
        path: PathBuf,
        /// Where and what.
        reason: String,
    },
}

impl File {
    /// Reads a file. With it comes what is dangerous about its permissions, if anything is.
    pub fn read(path: &Path) -> Result<(Self, Option<String>), FileError> {
        let (text, danger) = named_file::read(path, false)?;
        let file = Self::parse(&text).map_err(|reason| FileError::Refused {
            path: path.to_owned(),
            reason,
        })?;
        Ok((file, danger))
    }

    fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| {
            // Its own text shows the line, which may hold a secret.
            let line = error.span().map_or(1, |span| {
                1 + text[..span.start.min(text.len())].matches('\n').count()
            });
            format!("line {line}: {}", without_location(error.message()))
        })
    }
}

/// What the reader says, without a value that it repeats and that may be a location with a password in it.
fn without_location(message: &str) -> String {
    let value = message
        .find('"')
        .zip(message.rfind('"'))
        .filter(|(from, to)| message[*from..*to].contains(['@', '/']));
    match value {
        Some((from, to)) => format!("{}(a text){}", &message[..from], &message[to + 1..]),
        None => message.to_owned(),
    }
}

/// The first line of a file that holds a secret. With it comes what is dangerous about the file's permissions, if
/// anything is.
pub fn read_secret(path: &Path) -> Result<(String, Option<String>), FileError> {
    let (text, danger) = named_file::read(path, true)?;
    match text.lines().next() {
        Some(secret) if !secret.is_empty() => Ok((secret.to_owned(), danger)),
        _ => Err(FileError::Refused {
            path: path.to_owned(),
            reason: "its first line is empty where the password should be".to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_has_its_default() {
        let file = File::parse("log = 'kafka://a'\n[kafka]\npartitions = 3\n").expect("valid");
        assert_eq!(file.log.as_deref(), Some("kafka://a"));
        assert_eq!(file.kafka.partitions, 3);
        assert_eq!(file.kafka.compression, "lz4");
        assert_eq!(File::parse("").expect("valid"), File::default());
    }

    #[test]
    fn properties_are_passed_through_whatever_their_type() {
        let text = "[kafka.properties]\n'linger.ms' = 5\n'sasl.username' = 'u'\n'socket.keepalive.enable' = true\n";
        let properties = File::parse(text).expect("valid").kafka.properties;
        let texts: Vec<_> = properties.values().map(PropertyValue::to_text).collect();
        assert_eq!(texts, ["5", "u", "true"]);
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_line_but_not_its_value() {
        let refused = File::parse("\n[kafka]\npasswort = 'secret'\n").expect_err("unknown");
        assert!(
            refused.starts_with("line 3: ") && refused.contains("passwort"),
            "{refused}"
        );
        assert!(!refused.contains("secret"), "{refused}");
    }

    #[test]
    fn a_location_in_the_wrong_place_is_refused_without_its_password() {
        for wrong in [
            "postgres = 'postgres://me:s3cret@db/p'",
            "listen = ['postgres://me:s3cret@db/p']",
            "store = postgres://me:s3cret@db/p",
            "store = \"postgres://me:s3cret@db/p",
            "kafka.partitions = 'me:s3cret@\"host'",
        ] {
            let refused = File::parse(wrong).expect_err(wrong);
            assert!(refused.starts_with("line 1: "), "{wrong}: {refused}");
            assert!(!refused.contains("s3cret"), "{wrong}: {refused}");
        }
    }

    #[test]
    fn settings_show_no_values_of_properties() {
        let file = File::parse("[kafka.properties]\n'sasl.password' = 'secret'\n").expect("valid");
        let shown = format!("{file:?}");
        assert!(
            shown.contains("sasl.password") && !shown.contains("secret"),
            "{shown}"
        );
    }
}
