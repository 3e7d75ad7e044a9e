//! From flags, environment and file to where data is stored.

use std::{collections::BTreeMap, env, path::PathBuf, time::Duration};

use anyhow::{anyhow, ensure};
use clap::Args;

use crate::{
    config::{File, LogSetting, PropertyValue, StateSetting, read_secret},
    storage::{Durable, PostgresLocation, Storage},
    store::kafka::{self, TopicOverride},
};

/// Holds the password of Kafka's `sasl.username`.
const KAFKA_PASSWORD: &str = "PACKETBOAT_KAFKA_PASSWORD";
const DATA_DIR_DEFAULT: &str = "./packetboat-data";

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
    pub(super) fn storage(self, file: &File, claim_prefix: bool) -> anyhow::Result<Storage> {
        let mut durable = self.durable(file)?;
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
    pub(super) fn durable(self, file: &File) -> anyhow::Result<Durable> {
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
        Ok(Durable {
            directory: directory.unwrap_or_else(|| PathBuf::from(DATA_DIR_DEFAULT)),
            kafka: match log {
                LogSetting::Embedded => None,
                LogSetting::Kafka(brokers) => Some(kafka_options(brokers, file)?),
            },
            postgres: match store {
                StateSetting::Embedded => None,
                StateSetting::Postgres(url) => Some(PostgresLocation {
                    url,
                    password_file: file.postgres.password_file.clone(),
                    node_name,
                }),
            },
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

fn kafka_options(brokers: String, file: &File) -> anyhow::Result<kafka::Options> {
    let settings = &file.kafka;
    let password = match (env::var(KAFKA_PASSWORD), &settings.password_file) {
        (Ok(password), _) => Some(password),
        (Err(_), Some(path)) => Some(read_secret(path)?),
        (Err(_), None) => None,
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
