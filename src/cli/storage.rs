//! From flags, environment and file to where data is stored.

use std::{
    collections::BTreeMap,
    env,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{anyhow, ensure};
use clap::Args;

use crate::{
    config::{File, FileError, LogSetting, PropertyValue, StateSetting, named_file, read_secret},
    storage::{Durable, PostgresLocation, Storage},
    store::kafka::{self, TopicOverride},
};

/// Holds the password of Kafka's `sasl.username`.
const KAFKA_PASSWORD: &str = "PACKETBOAT_KAFKA_PASSWORD";
const DATA_DIR_DEFAULT: &str = "./packetboat-data";

/// What is dangerous about the permissions of files that the operator named.
pub(super) type Dangers = Vec<String>;

/// Reads the configuration file, if one is named.
pub(super) fn read_config(path: Option<&Path>, dangers: &mut Dangers) -> anyhow::Result<File> {
    let Some(path) = path else {
        return Ok(File::default());
    };
    let (file, mut danger) = File::read(path)?;
    if file
        .kafka
        .properties
        .keys()
        .any(|name| kafka::is_secret(name))
    {
        danger = named_file::check(path, true)?;
    }
    dangers.extend(danger);
    Ok(file)
}

/// Where data is stored.
#[derive(Args, Debug)]
pub(super) struct StorageArguments {
    /// Where messages are stored: kafka://HOST:PORT[,HOST:PORT], or embedded for the data directory
    #[arg(
        long,
        value_name = "URL",
        env = "PACKETBOAT_LOG",
        hide_env_values = true
    )]
    log: Option<String>,

    /// Where topics, subscriptions and positions are stored: postgres://USER@HOST/DATABASE, or embedded
    ///
    /// The password is in PGPASSWORD, in the file that PGPASSFILE names, or in postgres.password_file of the
    /// configuration file.
    #[arg(
        long,
        value_name = "URL",
        env = "PACKETBOAT_STORE",
        hide_env_values = true
    )]
    store: Option<String>,

    /// Directory for what is embedded; made if it does not exist [default: ./packetboat-data]
    #[arg(
        long,
        value_name = "DIR",
        env = "PACKETBOAT_DATA_DIR",
        hide_env_values = true
    )]
    data_dir: Option<PathBuf>,

    /// Name of this server among those that share a Postgres [default: the machine's name and the port]
    ///
    /// A server that starts under the name of another one replaces it.
    #[arg(
        long,
        value_name = "NAME",
        env = "PACKETBOAT_NODE_NAME",
        hide_env_values = true
    )]
    node_name: Option<String>,
}

impl StorageArguments {
    /// Whether a location is named, as a flag or in the environment.
    pub(super) const fn names_a_location(&self) -> bool {
        self.log.is_some() || self.store.is_some()
    }

    /// What they and the file say together.
    pub(super) fn storage(
        self,
        file: &File,
        claim_prefix: bool,
        dangers: &mut Dangers,
    ) -> anyhow::Result<Storage> {
        let mut durable = self.durable(file, dangers)?;
        match &mut durable.kafka {
            Some(kafka) => kafka.claim_prefix = claim_prefix,
            None => ensure!(
                !claim_prefix,
                "--claim-prefix is about topics in Kafka: leave it out, or say where Kafka is with --log"
            ),
        }
        Ok(Storage::Durable(Box::new(durable)))
    }

    /// The same, of what is stored on disks.
    pub(super) fn durable(self, file: &File, dangers: &mut Dangers) -> anyhow::Result<Durable> {
        let log = location("--log", self.log.as_ref().or(file.log.as_ref()))?;
        let store = location("--store", self.store.as_ref().or(file.store.as_ref()))?;
        let directory = self.data_dir.or_else(|| file.data_dir.clone());
        let node_name = self.node_name.or_else(|| file.node_name.clone());
        if let Some(name) = &node_name {
            ensure!(
                !name.is_empty() && name.len() <= NODE_NAME_BYTES_MAX,
                "--node-name {name:?} has to have 1 to {NODE_NAME_BYTES_MAX} bytes"
            );
        }
        let kafka = match log {
            LogSetting::Embedded => None,
            LogSetting::Kafka(brokers) => Some(kafka_options(brokers, file, dangers)?),
        };
        let postgres = match store {
            StateSetting::Embedded => None,
            StateSetting::Postgres(url) => Some(PostgresLocation {
                url,
                password: secret(file.postgres.password_file.as_deref(), dangers)?,
                node_name,
            }),
        };
        let url = postgres.as_ref().map(|postgres| postgres.url.as_str());
        for (path, is_secret) in named_file::of_clients(file, url, |name| env::var(name).ok()) {
            match named_file::check(&path, is_secret) {
                Ok(danger) => dangers.extend(danger),
                // The client says what it misses.
                Err(FileError::Io { .. }) => {}
                Err(refused) => return Err(refused.into()),
            }
        }
        Ok(Durable {
            directory: directory.unwrap_or_else(|| PathBuf::from(DATA_DIR_DEFAULT)),
            kafka,
            postgres,
        })
    }
}

const NODE_NAME_BYTES_MAX: usize = 255;

fn location<T: std::str::FromStr<Err = String> + Default>(
    flag: &str,
    text: Option<&String>,
) -> anyhow::Result<T> {
    match text {
        Some(text) => text.parse().map_err(|reason| anyhow!("{flag}: {reason}")),
        None => Ok(T::default()),
    }
}

/// The secret in a file, if one is named.
fn secret(path: Option<&Path>, dangers: &mut Dangers) -> anyhow::Result<Option<String>> {
    let Some(path) = path else {
        return Ok(None);
    };
    let (secret, danger) = read_secret(path)?;
    dangers.extend(danger);
    Ok(Some(secret))
}

fn kafka_options(
    brokers: String,
    file: &File,
    dangers: &mut Dangers,
) -> anyhow::Result<kafka::Options> {
    let settings = &file.kafka;
    let password = match env::var(KAFKA_PASSWORD) {
        Ok(password) => Some(password),
        Err(_) => secret(settings.password_file.as_deref(), dangers)?,
    };
    let properties = settings.properties.iter();
    let properties: BTreeMap<_, _> = properties
        .map(|(name, value)| (name.clone(), PropertyValue::to_text(value)))
        .collect();
    let overrides = settings.topics.iter().map(|topic| TopicOverride {
        pattern: topic.pattern.clone(),
        partitions: topic.partitions,
        replication_factor: topic.replication_factor,
        compression: topic.compression.clone(),
    });
    Ok(kafka::Options {
        brokers,
        prefix: settings.prefix.clone(),
        partitions: settings.partitions,
        replication_factor: settings.replication_factor,
        compression: settings.compression.clone(),
        retention: Duration::from_hours(24 * u64::from(settings.retention_days)),
        delete_acknowledged: settings.delete_acknowledged,
        claim_prefix: false,
        attach: settings.attach.clone(),
        overrides: overrides.collect(),
        properties,
        password,
    })
}
