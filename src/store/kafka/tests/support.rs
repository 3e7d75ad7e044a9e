//! A broker for tests, and topics on it that are gone when the test has ended.

use std::{env, thread, time::Duration};

use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
};
use tokio::runtime;

use crate::store::kafka::{KafkaLog, Options};

/// Topics of one test.
#[derive(Debug)]
pub(in crate::store) struct TestTopics {
    prefix: String,
}

/// Where the broker is.
pub(super) fn brokers() -> String {
    env::var("PACKETBOAT_TEST_KAFKA").expect(
        "PACKETBOAT_TEST_KAFKA names no broker: start one (tests/services/kafka.sh start DIR) and set \
         PACKETBOAT_TEST_KAFKA=HOST:PORT",
    )
}

impl TestTopics {
    pub(in crate::store) fn new() -> Self {
        let mut random = [0; 6];
        getrandom::fill(&mut random).expect("random bytes");
        let digits = random.map(|byte| format!("{byte:02x}")).concat();
        Self {
            prefix: format!("test-{digits}"),
        }
    }

    /// What a log of this test is opened with.
    pub(super) fn options(&self) -> Options {
        options(self.prefix.clone())
    }

    /// The same for another system, whose prefix begins with this one.
    pub(super) fn options_within(&self) -> Options {
        options(format!("{}.within", self.prefix))
    }

    /// The name of a topic that the test makes itself.
    pub(super) fn name(&self, topic: &str) -> String {
        format!("{}-{topic}", self.prefix)
    }

    /// One more node.
    pub(in crate::store) async fn open(&self) -> KafkaLog {
        KafkaLog::open(self.options()).await.expect("open")
    }
}

fn options(prefix: String) -> Options {
    Options {
        prefix,
        ..Options::new(brokers())
    }
}

impl Drop for TestTopics {
    fn drop(&mut self) {
        let prefix = self.prefix.clone();
        let deleted = thread::spawn(move || delete(&prefix));
        deleted.join().ok();
    }
}

fn delete(prefix: &str) {
    let admin = administrator();
    let patience = Duration::from_secs(5);
    let metadata = admin
        .inner()
        .fetch_metadata(None, patience)
        .expect("topics");
    let names = metadata
        .topics()
        .iter()
        .map(rdkafka::metadata::MetadataTopic::name);
    let ours: Vec<_> = names.filter(|name| name.starts_with(prefix)).collect();
    if ours.is_empty() {
        return;
    }
    let runtime = runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let deleted = runtime.block_on(admin.delete_topics(&ours, &AdminOptions::new()));
    deleted.expect("deleted");
}

/// For topics that are not ours.
pub(super) fn administrator() -> AdminClient<DefaultClientContext> {
    ClientConfig::new()
        .set("bootstrap.servers", brokers())
        .create()
        .expect("a client")
}
