//! Kafka as its own users see it: the stock console tools, and a bare client for what those cannot say.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use rdkafka::{
    ClientConfig,
    admin::{
        AdminClient, AdminOptions, ConfigSource, NewTopic, ResourceSpecifier, TopicReplication,
    },
    client::DefaultClientContext,
    metadata::MetadataTopic,
    producer::{BaseProducer, BaseRecord, Producer as _},
};
use tokio::{io::AsyncWriteExt as _, process::Command, time::timeout};

use super::{eventually, location::service};

/// Longer than a tool takes to start on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);
/// What a broker that runs needs for an answer.
const AT_ONCE: Duration = Duration::from_secs(1);

/// A broker; as a rule that with which the tests are run.
pub(crate) struct Kafka {
    brokers: String,
    admin: AdminClient<DefaultClientContext>,
}

/// A record of another application.
pub(crate) type Record<'a> = BaseRecord<'a, [u8], [u8]>;

/// The brokers of a partition, by their numbers.
#[derive(Debug)]
pub(crate) struct Replicas {
    /// -1 if there is none.
    pub(crate) leader: i32,
    pub(crate) all: Vec<i32>,
    pub(crate) in_sync: Vec<i32>,
}

impl Kafka {
    pub(crate) fn new() -> Self {
        Self::at(&service("PACKETBOAT_TEST_KAFKA"))
    }

    /// Another broker, by a listener that asks for no password.
    pub(crate) fn at(brokers: &str) -> Self {
        let mut config = ClientConfig::new();
        let admin = config.set("bootstrap.servers", brokers).create();
        Self {
            admin: admin.expect("a client"),
            brokers: brokers.to_owned(),
        }
    }

    /// Lets a user do this with every topic.
    pub(crate) async fn allow(&self, user: &str, operations: &[&str]) {
        let principal = format!("User:{user}");
        let mut arguments = vec!["--add", "--allow-principal", &principal, "--topic", "*"];
        for operation in operations {
            arguments.extend(["--operation", operation]);
        }
        self.tool("kafka-acls", &arguments, "").await;
    }

    /// The names of all topics that begin so, in order.
    pub(crate) fn topics(&self, beginning: &str) -> Vec<String> {
        let metadata = self.admin.inner().fetch_metadata(None, PATIENCE);
        let metadata = metadata.expect("topics");
        let names = metadata.topics().iter().map(MetadataTopic::name);
        let mut names: Vec<_> = names
            .filter(|name| name.starts_with(beginning))
            .map(str::to_owned)
            .collect();
        names.sort();
        names
    }

    /// What Kafka calls the topic that was made for `projects/tests/topics/ID`.
    pub(crate) fn topic_of(&self, prefix: &str, id: &str) -> String {
        self.topics(&format!("{prefix}.tests.{id}.")).remove(0)
    }

    /// Who leads partition 0 of a topic, and which brokers have it. `None` where no broker says so at once, as one may
    /// have been asked that was killed.
    pub(crate) fn replicas(&self, topic: &str) -> Option<Replicas> {
        let metadata = self.admin.inner().fetch_metadata(Some(topic), AT_ONCE);
        let metadata = metadata.ok()?;
        let partition = metadata.topics().first()?.partitions().first()?;
        Some(Replicas {
            leader: partition.leader(),
            all: partition.replicas().to_vec(),
            in_sync: partition.isr().to_vec(),
        })
    }

    /// Makes a topic of one partition on these brokers, the first of which leads it.
    pub(crate) async fn create_on(&self, name: &str, brokers: &[i32]) {
        let on = [brokers];
        let topic = NewTopic::new(name, 1, TopicReplication::Variable(&on));
        let made = self.admin.create_topics([&topic], &AdminOptions::new());
        made.await.expect("answered").remove(0).expect("made");
    }

    /// Makes a topic.
    pub(crate) async fn create(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) {
        let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        for (key, value) in settings {
            topic = topic.set(key, value);
        }
        let made = self.admin.create_topics([&topic], &AdminOptions::new());
        made.await.expect("answered").remove(0).expect("made");
    }

    /// Deletes a topic and makes it again, with one partition.
    pub(crate) async fn make_again(&self, name: &str) {
        self.delete(name).await;
        let topic = NewTopic::new(name, 1, TopicReplication::Fixed(1));
        eventually("the name is free again", || async {
            let made = self.admin.create_topics([&topic], &AdminOptions::new());
            made.await.expect("answered").remove(0).ok()
        })
        .await;
    }

    /// Deletes a topic.
    pub(crate) async fn delete(&self, name: &str) {
        let deleted = self.admin.delete_topics(&[name], &AdminOptions::new());
        deleted.await.expect("answered").remove(0).expect("deleted");
    }

    /// What is set on a topic itself.
    pub(crate) async fn settings(&self, name: &str) -> BTreeMap<String, Option<String>> {
        let topic = ResourceSpecifier::Topic(name);
        let described = self.admin.describe_configs([&topic], &AdminOptions::new());
        let described = described.await.expect("answered").remove(0);
        let entries = described.expect("described").entries.into_iter();
        entries
            .filter(|entry| entry.source == ConfigSource::DynamicTopic)
            .map(|entry| (entry.name, entry.value))
            .collect()
    }

    /// Writes records with a bare client.
    pub(crate) fn write<'a>(&self, records: impl IntoIterator<Item = Record<'a>>) {
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", &self.brokers)
            .set("message.max.bytes", "20000000")
            .create()
            .expect("a client");
        for record in records {
            let sent = producer.send(record).map_err(|(error, _)| error);
            sent.expect("sent");
        }
        producer.flush(PATIENCE).expect("written");
    }

    /// What the console consumer prints of a topic's first `count` records, a line each, in order of their bytes.
    pub(crate) async fn console_consumer(
        &self,
        topic: &str,
        count: usize,
        print: &[&str],
    ) -> Vec<String> {
        let count = count.to_string();
        let mut arguments = vec![
            "--topic",
            topic,
            "--from-beginning",
            "--max-messages",
            &count,
        ];
        arguments.extend(["--timeout-ms", "30000"]);
        for property in print {
            arguments.extend(["--formatter-property", property]);
        }
        let printed = self.tool("kafka-console-consumer", &arguments, "").await;
        let mut lines: Vec<_> = printed.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    }

    /// Has the console producer write these lines: headers, key and value with tabs in between; `NULL` for none.
    pub(crate) async fn console_producer(&self, topic: &str, lines: &str) {
        let mut arguments = vec!["--topic", topic];
        for property in ["parse.key=true", "parse.headers=true", "null.marker=NULL"] {
            arguments.extend(["--reader-property", property]);
        }
        self.tool("kafka-console-producer", &arguments, lines).await;
    }

    async fn tool(&self, tool: &str, arguments: &[&str], input: &str) -> String {
        let services = std::env::var_os("PACKETBOAT_TEST_SERVICES").map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/services"),
            PathBuf::from,
        );
        let mut command = Command::new(services.join("kafka-tools.sh"));
        command
            .args([tool, "--bootstrap-server", &self.brokers])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().expect("kafka-tools.sh runs");
        let mut stdin = child.stdin.take().expect("piped");
        stdin.write_all(input.as_bytes()).await.expect("read");
        drop(stdin);
        let ended = timeout(PATIENCE, child.wait_with_output()).await;
        let output = ended.expect("the tool ends").expect("it runs");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{tool} {arguments:?}: {errors}");
        String::from_utf8(output.stdout).expect("text")
    }
}
