//! The brokers: clients of them, and topics that are made and deleted.

use std::time::Duration;

use anyhow::Context as _;
use futures_util::future::try_join_all;
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
};
use tokio::runtime::Runtime;

/// How long the brokers have for a change.
const CHANGE_WAIT: Duration = Duration::from_secs(30);
/// Topics in one call. A broker answers the calls of a connection one after the other, so topics of a call each would
/// not be made in parallel.
const CALL_TOPICS: usize = 100;

/// The brokers, and this process's own name there.
pub(crate) struct Cluster {
    brokers: String,
    admin: AdminClient<DefaultClientContext>,
    runtime: Runtime,
    /// Tells topics of this process from others.
    run: u32,
}

impl Cluster {
    pub(crate) fn connect(brokers: &str) -> anyhow::Result<Self> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", brokers);
        Ok(Self {
            brokers: brokers.to_owned(),
            admin: config.create().context("cannot make an admin client")?,
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .context("cannot start the runtime")?,
            run: getrandom::u32().context("the system has no random bytes")?,
        })
    }

    /// Of a producer as the server has it.
    pub(crate) fn producer_config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.brokers)
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("compression.type", "lz4")
            .set("linger.ms", "0");
        config
    }

    /// Of a consumer that is told what to read.
    pub(crate) fn consumer_config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.brokers)
            .set("group.id", format!("bench-{:08x}", self.run))
            .set("enable.auto.commit", "false")
            .set("isolation.level", "read_committed");
        config
    }

    /// Makes a topic of one partition; returns its name.
    pub(crate) fn create_topic(&self) -> anyhow::Result<String> {
        let name = format!("bench-{:08x}-{:08x}", self.run, getrandom::u32()?);
        self.create_topics(std::slice::from_ref(&name))?;
        Ok(name)
    }

    /// Names of so many topics that are not there.
    pub(crate) fn new_names(&self, topics: usize) -> Vec<String> {
        let name = |topic| format!("bench-{:08x}-new-{topic}", self.run);
        (0..topics).map(name).collect()
    }

    /// Makes topics, in calls of many, all at once.
    pub(crate) fn create_topics(&self, names: &[String]) -> anyhow::Result<()> {
        let calls = names.chunks(CALL_TOPICS).map(|names| self.create(names));
        self.runtime.block_on(try_join_all(calls)).map(|_| ())
    }

    async fn create(&self, names: &[String]) -> anyhow::Result<()> {
        let topic = |name| {
            // As many copies as the brokers give by default.
            NewTopic::new(name, 1, TopicReplication::Fixed(-1))
                .set("message.timestamp.type", "LogAppendTime")
        };
        let topics: Vec<_> = names.iter().map(|name| topic(name)).collect();
        for created in self.admin.create_topics(&topics, &options()).await? {
            created.map_err(|(name, error)| anyhow::anyhow!("cannot create {name}: {error}"))?;
        }
        Ok(())
    }

    /// Deletes what is there of these.
    pub(crate) fn delete_topics(&self, names: &[String]) -> anyhow::Result<()> {
        for names in names.chunks(CALL_TOPICS) {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let deleting = self.admin.delete_topics(&names, &options());
            // Each one's own result is not checked: some may never have been made.
            self.runtime.block_on(deleting)?;
        }
        Ok(())
    }
}

fn options() -> AdminOptions {
    AdminOptions::new()
        .request_timeout(Some(CHANGE_WAIT))
        .operation_timeout(Some(CHANGE_WAIT))
}
