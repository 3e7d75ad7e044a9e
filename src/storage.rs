//! Puts a log and a state store together, of whatever kinds they are.

use std::{fmt, path::PathBuf, sync::Arc};

use thiserror::Error;

pub(crate) use crate::store::sqlite::DirectoryLock;

use crate::{
    clock::Clock,
    config::machine_name,
    limits,
    store::{
        MessageLog, StateStore,
        kafka::{self, KafkaLog},
        memory::{MemoryLog, MemoryState},
        postgres::{self, PostgresState},
        sqlite,
    },
};

/// Where messages and subscriptions are stored.
#[derive(Clone, Debug)]
pub enum Storage {
    /// In memory: gone when the server stops.
    Memory,
    /// On disks.
    Durable(Box<Durable>),
}

/// Storage that survives a restart.
#[derive(Clone, Debug)]
pub struct Durable {
    /// Data directory for what neither Kafka nor Postgres stores. Made if it does not exist, and unused if both are
    /// named.
    pub directory: PathBuf,
    /// Kafka, if it has the messages.
    pub kafka: Option<kafka::Options>,
    /// Postgres, if it has resources and positions.
    pub postgres: Option<PostgresLocation>,
}

/// A Postgres database, and who this process is in it.
#[derive(Clone)]
pub struct PostgresLocation {
    /// Without a password.
    pub url: String,
    /// The password, if it is not where libpq would find it.
    pub password: Option<String>,
    /// Names this process among those that share the database. `None`: the machine's name and the server's port.
    pub node_name: Option<String>,
}

/// Without the password.
impl fmt::Debug for PostgresLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresLocation")
            .field("url", &self.url)
            .field("node_name", &self.node_name)
            .finish_non_exhaustive()
    }
}

impl Storage {
    /// Everything in files of one directory.
    pub fn directory(path: impl Into<PathBuf>) -> Self {
        Self::Durable(Box::new(Durable {
            directory: path.into(),
            kafka: None,
            postgres: None,
        }))
    }

    /// The clock of a server with this storage: nodes that share a database have its time.
    pub(crate) fn clock(&self, clock: &Clock) -> Clock {
        match self {
            Self::Durable(durable) if durable.postgres.is_some() => clock.led(),
            _ => clock.clone(),
        }
    }
}

/// Why a store cannot be used. Each text is one line and says what to do.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The data directory.
    #[error(transparent)]
    Directory(#[from] sqlite::OpenError),
    /// Kafka.
    #[error(transparent)]
    Kafka(#[from] kafka::OpenError),
    /// Postgres.
    #[error(transparent)]
    Postgres(#[from] postgres::OpenError),
    /// How Postgres is to be reached.
    #[error(transparent)]
    PostgresOptions(#[from] postgres::OptionsError),
    /// The system gave no random bytes.
    #[error("the system gave no random bytes: {0}")]
    Random(#[from] getrandom::Error),
}

/// Both stores, open.
pub(crate) struct Opened {
    pub(crate) state: StateStore,
    pub(crate) log: Arc<dyn MessageLog>,
    /// Held until the stores are closed.
    pub(crate) lock: Option<DirectoryLock>,
}

/// Opens both. `address` is where this server is reached.
pub(crate) async fn open(
    storage: &Storage,
    address: &str,
    clock: &Clock,
) -> Result<Opened, OpenError> {
    let durable = match storage {
        Storage::Memory => {
            let log = MemoryLog::new(clock.clone(), limits::MEMORY_LOG_BYTES_MAX);
            return Ok(Opened {
                state: StateStore::new(Arc::new(MemoryState::new()?)),
                log: Arc::new(log),
                lock: None,
            });
        }
        Storage::Durable(durable) => durable,
    };
    let directory = &durable.directory;
    match (&durable.kafka, &durable.postgres) {
        (None, None) => {
            let (log, state, lock) = sqlite::open(directory, clock.clone()).await?;
            Ok(Opened {
                state: StateStore::new(Arc::new(state)),
                log: Arc::new(log),
                lock: Some(lock),
            })
        }
        (Some(kafka), None) => {
            let log = KafkaLog::open(kafka.clone()).await?;
            let (state, lock) = sqlite::open_state(directory, &log.identity()).await?;
            let state = StateStore::new(Arc::new(state));
            claim(&log, &state).await?;
            Ok(Opened {
                state,
                log: Arc::new(log),
                lock: Some(lock),
            })
        }
        (None, Some(postgres)) => {
            let (log, lock) = sqlite::open_log(directory, clock.clone()).await?;
            let state = open_postgres(postgres, address, &log.identity(), clock).await?;
            Ok(Opened {
                state: StateStore::new(Arc::new(state)),
                log: Arc::new(log),
                lock: Some(lock),
            })
        }
        (Some(kafka), Some(postgres)) => {
            let log = KafkaLog::open(kafka.clone()).await?;
            let state = open_postgres(postgres, address, &log.identity(), clock).await?;
            let state = StateStore::new(Arc::new(state));
            claim(&log, &state).await?;
            Ok(Opened {
                state,
                log: Arc::new(log),
                lock: None,
            })
        }
    }
}

/// Sees to it that no other store has the topics. The store of this one names itself, so it is open by then.
async fn claim(log: &KafkaLog, state: &StateStore) -> Result<(), OpenError> {
    let claimed = log.claim(&state.backend.store_id()).await;
    if claimed.is_err() {
        log.close().await;
        state.backend.close().await;
    }
    Ok(claimed?)
}

async fn open_postgres(
    location: &PostgresLocation,
    address: &str,
    log: &str,
    clock: &Clock,
) -> Result<PostgresState, OpenError> {
    let options = location.options(address)?;
    Ok(PostgresState::open(options, log, clock.clone()).await?)
}

impl PostgresLocation {
    /// For a process that is reached at `address`.
    pub(crate) fn options(
        &self,
        address: &str,
    ) -> Result<postgres::Options, postgres::OptionsError> {
        let name = self.node_name.clone();
        let name = name.unwrap_or_else(|| default_node_name(address));
        let options = postgres::Options::new(&self.url, name, address.to_owned())?;
        Ok(match &self.password {
            Some(password) => options.password(password),
            None => options,
        })
    }
}

/// The machine's name and the server's port: a server that restarts on the same machine and port has the same name.
fn default_node_name(address: &str) -> String {
    let machine = machine_name().unwrap_or_else(|| "localhost".to_owned());
    let port = address.rsplit_once(':').map_or("", |(_, port)| port);
    format!("{machine}:{port}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_that_share_a_database_and_no_others_have_its_time() {
        let clock = Clock::system();
        assert!(!Storage::Memory.clock(&clock).is_led());
        assert!(!Storage::directory("data").clock(&clock).is_led());
        let shared = Storage::Durable(Box::new(Durable {
            directory: "data".into(),
            kafka: None,
            postgres: Some(PostgresLocation {
                url: "postgres://db/packetboat".to_owned(),
                password: None,
                node_name: None,
            }),
        }));
        assert!(shared.clock(&clock).is_led());
    }
}
