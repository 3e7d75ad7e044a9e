//! What an operator decides about Kafka, and the settings of our clients that nobody may change.

use std::{collections::BTreeMap, fmt, time::Duration};

use rdkafka::{ClientConfig, config::RDKafkaLogLevel};

use super::{names, open::OpenError};
use crate::{
    limits::{
        KAFKA_APPEND_BYTES_MAX, KAFKA_FOLLOW_AHEAD_KIB, KAFKA_MESSAGE_TIMEOUT_MILLIS,
        KAFKA_MESSAGE_TIMEOUT_MILLIS_MAX, KAFKA_PREFIX_CHARS_MAX, KAFKA_READ_AHEAD_KIB,
        KAFKA_RECORD_BYTES_MAX,
    },
    resource::name::TopicName,
    store::StoreError,
};

/// Which Kafka, and how topics are made there.
#[derive(Clone)]
pub struct Options {
    /// `host:port` of one or more brokers, between commas.
    pub brokers: String,
    /// What the names of our topics begin with: letters, digits, `.`, `_` and `-`. Two installations on one cluster
    /// need different ones.
    pub prefix: String,
    /// Partitions of a new topic.
    pub partitions: u32,
    /// Copies of a new topic's records; the brokers' default when there is none.
    pub replication_factor: Option<u16>,
    /// How batches are compressed on their way: `none`, `gzip`, `snappy`, `lz4` or `zstd`.
    pub compression: String,
    /// Every log that we make retains messages for so long at least, whatever subscriptions need.
    pub retention: Duration,
    /// Whether records that every subscription has done with are deleted early, although other readers of Kafka may
    /// want them.
    pub delete_acknowledged: bool,
    /// Takes the prefix over from another store that has claimed it, or that has claimed one which begins alike.
    pub claim_prefix: bool,
    /// The Kafka topics that may be attached: names in which each `*` stands for any characters. Internal topics, whose
    /// names begin with `__`, and those under our prefix never may.
    pub attach: Vec<String>,
    /// What differs for some topics. The first one whose pattern fits counts.
    pub overrides: Vec<TopicOverride>,
    /// Further settings of librdkafka, for TLS and SASL above all.
    pub properties: BTreeMap<String, String>,
    /// The password for SASL, which must come from an environment variable or a file.
    pub password: Option<String>,
}

/// What differs for the topics whose full name (`projects/P/topics/T`) fits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicOverride {
    /// A full name in which each `*` stands for any characters.
    pub pattern: String,
    /// See [`Options::partitions`].
    pub partitions: Option<u32>,
    /// See [`Options::replication_factor`].
    pub replication_factor: Option<u16>,
    /// What brokers store batches as; they compress again where it is not what they get.
    pub compression: Option<String>,
}

/// How one topic is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TopicShape {
    pub(super) partitions: u32,
    pub(super) replication_factor: Option<u16>,
    /// Kafka's `compression.type`.
    pub(super) compression: String,
}

/// Settings that are ours, because what we promise depends on them.
const OURS: [&str; 22] = [
    "bootstrap.servers",
    "metadata.broker.list",
    "enable.idempotence",
    "acks",
    "request.required.acks",
    "transactional.id",
    "message.max.bytes",
    "queue.buffering.max.messages",
    "queue.buffering.max.kbytes",
    "partitioner",
    "isolation.level",
    "group.id",
    "group.instance.id",
    "group.protocol",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.partition.eof",
    "auto.offset.reset",
    "allow.auto.create.topics",
    "check.crcs",
    "topic.blacklist",
    "log.queue",
];
const COMPRESSIONS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];
/// What in a setting's name says that its value is nobody's business.
const SECRET: [&str; 8] = [
    "password",
    "secret",
    "pem",
    "ssl.key",
    "jaas",
    "token",
    "oauth",
    "credential",
];

impl Options {
    /// Kafka at `brokers`, with the defaults for everything else.
    pub fn new(brokers: impl Into<String>) -> Self {
        Self {
            brokers: brokers.into(),
            prefix: "packetboat".to_owned(),
            partitions: 1,
            replication_factor: None,
            compression: "lz4".to_owned(),
            retention: Duration::from_hours(7 * 24),
            delete_acknowledged: false,
            claim_prefix: false,
            attach: vec!["*".to_owned()],
            overrides: Vec::new(),
            properties: BTreeMap::new(),
            password: None,
        }
    }

    /// Refuses what cannot work or would break what we promise.
    pub(super) fn check(&self) -> Result<(), OpenError> {
        if self.brokers.trim().is_empty() {
            return refuse("no broker is named: give host:port, or several between commas");
        }
        if !names::is_prefix(&self.prefix) {
            return refuse(format!(
                "the prefix {:?} is not made of 1 to {KAFKA_PREFIX_CHARS_MAX} letters, digits, '.', '_' and '-'",
                self.prefix
            ));
        }
        let overrides = self.overrides.iter();
        let partitions = overrides.clone().filter_map(|one| one.partitions);
        if partitions
            .chain([self.partitions])
            .any(|count| !(1..=i32::MAX as u32).contains(&count))
        {
            return refuse("a topic needs at least one partition");
        }
        let factors = overrides.clone().filter_map(|one| one.replication_factor);
        if factors
            .chain(self.replication_factor)
            .any(|factor| factor == 0 || factor > i16::MAX as u16)
        {
            return refuse("a replication factor is at least 1");
        }
        let compressions = overrides.filter_map(|one| one.compression.as_ref());
        for compression in compressions.chain([&self.compression]) {
            if !COMPRESSIONS.contains(&compression.as_str()) {
                return refuse(format!(
                    "the compression {compression:?} is not one of {}",
                    COMPRESSIONS.join(", ")
                ));
            }
        }
        self.properties
            .iter()
            .try_for_each(|(name, value)| check_property(name, value))
    }

    /// Refuses a Kafka topic that may not be attached.
    pub(super) fn check_attach(&self, name: &str) -> Result<(), StoreError> {
        let why = if name.starts_with("__") || names::owned_prefix(name).is_some() {
            "is an internal one, which is never attached".to_owned()
        } else if names::within(&self.prefix, name).is_some() {
            format!(
                "is under the prefix of this system's own topics, kafka.prefix = {:?}, and those are never attached",
                self.prefix
            )
        } else if !self.attach.iter().any(|pattern| fits(pattern, name)) {
            format!(
                "fits none of the patterns of kafka.attach = {:?}",
                self.attach
            )
        } else {
            return Ok(());
        };
        Err(StoreError::Refused(format!(
            "the Kafka topic {name:?} {why}"
        )))
    }

    /// How a topic of this name is made.
    pub(super) fn shape(&self, topic: &TopicName) -> TopicShape {
        let own = self
            .overrides
            .iter()
            .find(|one| fits(&one.pattern, topic.as_str()));
        let compression = own.and_then(|one| one.compression.as_deref());
        TopicShape {
            partitions: own
                .and_then(|one| one.partitions)
                .unwrap_or(self.partitions),
            replication_factor: own
                .and_then(|one| one.replication_factor)
                .or(self.replication_factor),
            compression: match compression {
                None => "producer",
                Some("none") => "uncompressed",
                Some(codec) => codec,
            }
            .to_owned(),
        }
    }

    /// What all of our clients have in common.
    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set_log_level(RDKafkaLogLevel::Warning)
            .set("bootstrap.servers", self.brokers.as_str())
            .set("client.id", "packetboat")
            .set("allow.auto.create.topics", "false")
            .set("socket.nagle.disable", "true")
            .set("socket.keepalive.enable", "true")
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "1000")
            .set("retry.backoff.ms", "50")
            .set("retry.backoff.max.ms", "500");
        config
    }

    fn with_properties(&self, mut config: ClientConfig) -> ClientConfig {
        for (name, value) in &self.properties {
            // One setting with two names: whichever came last from a hash map would count.
            match name.as_str() {
                "compression.codec" => config.remove("compression.type"),
                "queue.buffering.max.ms" => config.remove("linger.ms"),
                "delivery.timeout.ms" => config.remove("message.timeout.ms"),
                "max.partition.fetch.bytes" => config.remove("fetch.message.max.bytes"),
                _ => &mut config,
            }
            .set(name, value);
        }
        if let Some(password) = &self.password {
            config.set("sasl.password", password);
        }
        config
    }

    /// The client that appends.
    pub(super) fn producer(&self) -> ClientConfig {
        let mut config = self.client();
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            // Batches form by themselves while others are on their way; waiting only makes everybody slower.
            .set("linger.ms", "0")
            .set("compression.type", self.compression.as_str())
            .set(
                "message.timeout.ms",
                KAFKA_MESSAGE_TIMEOUT_MILLIS.to_string(),
            )
            .set("message.max.bytes", KAFKA_RECORD_BYTES_MAX.to_string())
            // What is on its way is bounded before it gets here, so that no queue is ever full.
            .set("queue.buffering.max.messages", "0")
            .set(
                "queue.buffering.max.kbytes",
                (4 * KAFKA_APPEND_BYTES_MAX / 1024).to_string(),
            )
            // A topic's log is made before anybody appends to it, so one that is not there is gone.
            .set("topic.metadata.propagation.max.ms", "1000");
        self.with_properties(config)
    }

    /// A client that asks, and never waits for records: one that does answers everything else late.
    pub(super) fn asker(&self) -> ClientConfig {
        let mut config = self.client();
        config.set("isolation.level", "read_committed");
        self.with_properties(config)
    }

    /// The client that makes and deletes topics.
    pub(super) fn administrator(&self) -> ClientConfig {
        let mut config = self.client();
        // Nobody can take in what it would log.
        config.set_log_level(RDKafkaLogLevel::Emerg);
        self.with_properties(config)
    }

    /// The client that reads at the head of watched topics.
    pub(super) fn follower(&self) -> ClientConfig {
        self.reader_of(KAFKA_FOLLOW_AHEAD_KIB)
    }

    /// A client that reads what is no longer in memory.
    pub(super) fn reader(&self) -> ClientConfig {
        self.reader_of(KAFKA_READ_AHEAD_KIB)
    }

    fn reader_of(&self, ahead_kib: usize) -> ClientConfig {
        let mut config = self.client();
        config
            // Nobody joins this group: librdkafka assigns partitions only where there is one.
            .set("group.id", format!("{}.readers", self.prefix))
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("isolation.level", "read_committed")
            .set("enable.partition.eof", "true")
            // Otherwise a read below the log's start silently goes on elsewhere.
            .set("auto.offset.reset", "error")
            .set("check.crcs", "true")
            // A newly assigned partition waits for the fetch that is on its way.
            .set("fetch.wait.max.ms", "20")
            .set("fetch.queue.backoff.ms", "2")
            .set("fetch.error.backoff.ms", "20")
            .set("fetch.message.max.bytes", "1048576")
            .set("fetch.max.bytes", KAFKA_RECORD_BYTES_MAX.to_string())
            .set("queued.max.messages.kbytes", ahead_kib.to_string());
        self.with_properties(config)
    }
}

/// Without secrets.
impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |(name, value): (&String, &String)| {
            (
                name.clone(),
                if is_secret(name) {
                    "(secret)".to_owned()
                } else {
                    value.clone()
                },
            )
        };
        f.debug_struct("Options")
            .field("brokers", &self.brokers)
            .field("prefix", &self.prefix)
            .field("partitions", &self.partitions)
            .field("replication_factor", &self.replication_factor)
            .field("compression", &self.compression)
            .field("retention", &self.retention)
            .field("delete_acknowledged", &self.delete_acknowledged)
            .field("claim_prefix", &self.claim_prefix)
            .field("attach", &self.attach)
            .field("overrides", &self.overrides)
            .field(
                "properties",
                &self
                    .properties
                    .iter()
                    .map(shown)
                    .collect::<BTreeMap<_, _>>(),
            )
            .field("password", &self.password.as_ref().map(|_| "(secret)"))
            .finish()
    }
}

/// Whether the value of a property of librdkafka is a secret.
pub fn is_secret(property: &str) -> bool {
    SECRET.iter().any(|word| property.contains(word))
}

fn check_property(name: &str, value: &str) -> Result<(), OpenError> {
    if OURS.contains(&name) {
        return refuse(format!(
            "the Kafka property {name} cannot be changed, because what Packetboat promises depends on it: leave it out"
        ));
    }
    if ["message.timeout.ms", "delivery.timeout.ms"].contains(&name) {
        let fine = value
            .parse()
            .is_ok_and(|millis| (1..=KAFKA_MESSAGE_TIMEOUT_MILLIS_MAX).contains(&millis));
        if !fine {
            return refuse(format!(
                "the Kafka property {name} is {value}, but has to be 1 to {KAFKA_MESSAGE_TIMEOUT_MILLIS_MAX}, \
                 so that publishers are answered within 10 s"
            ));
        }
    }
    Ok(())
}

fn refuse<T>(text: impl Into<String>) -> Result<T, OpenError> {
    Err(OpenError::Options(text.into()))
}

/// Whether `name` fits the pattern, in which each `*` stands for any characters.
fn fits(pattern: &str, name: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else {
        return pattern == name;
    };
    let Some(name) = name.strip_prefix(start) else {
        return false;
    };
    (0..=name.len()).any(|at| name.is_char_boundary(at) && fits(rest, &name[at..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(name: &str) -> TopicName {
        TopicName::parse("name", name).expect("a topic name")
    }

    fn refusal(change: impl FnOnce(&mut Options)) -> String {
        let mut options = Options::new("localhost:9092");
        change(&mut options);
        options.check().expect_err("refused").to_string()
    }

    fn with_property(name: &str, value: &str) -> impl FnOnce(&mut Options) {
        move |options| {
            options.properties.insert(name.to_owned(), value.to_owned());
        }
    }

    #[test]
    fn what_would_break_a_promise_is_refused_by_name() {
        for name in OURS {
            assert!(refusal(with_property(name, "x")).contains(name));
        }
        assert!(refusal(with_property("message.timeout.ms", "30000")).contains("30000"));
        assert!(refusal(|options| options.compression = "rar".to_owned()).contains("rar"));
        assert!(refusal(|options| options.prefix = "a b".to_owned()).contains("a b"));
        refusal(|options| options.partitions = 0);
        refusal(|options| options.replication_factor = Some(0));
        refusal(|options| options.brokers = " ".to_owned());
    }

    #[test]
    fn everything_else_passes_through_and_wins() {
        let mut options = Options::new("localhost:9092");
        with_property("linger.ms", "5")(&mut options);
        with_property("compression.codec", "zstd")(&mut options);
        options.check().expect("fine");
        let config = options.producer();
        assert_eq!(config.get("linger.ms"), Some("5"));
        assert_eq!(config.get("compression.codec"), Some("zstd"));
        assert_eq!(config.get("compression.type"), None);
        for config in [
            config,
            options.asker(),
            options.follower(),
            options.reader(),
        ] {
            config
                .create_native_config()
                .expect("librdkafka knows every setting");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let mut options = Options::new("localhost:9092");
        options.password = Some("hunter2".to_owned());
        with_property("ssl.key.password", "hunter2")(&mut options);
        with_property("sasl.username", "me")(&mut options);
        let shown = format!("{options:?}");
        assert!(
            !shown.contains("hunter2") && shown.contains("\"me\""),
            "{shown}"
        );
    }

    #[test]
    fn internal_topics_our_own_and_those_that_fit_no_pattern_are_not_attached() {
        let mut options = Options::new("localhost:9092");
        options.prefix = "pb".to_owned();
        let check = |options: &Options, name| {
            let refused = options
                .check_attach(name)
                .err()
                .map(|error| error.to_string());
            assert!(
                refused.as_ref().is_none_or(|text| text.contains(name)),
                "{refused:?}"
            );
            refused
        };
        for (name, why) in [
            ("__consumer_offsets", "internal"),
            ("other.__owner", "internal"),
            ("pb.shop.orders.t7", "kafka.prefix = \"pb\""),
            ("pb.shop.orders.7", "kafka.prefix = \"pb\""),
        ] {
            let refused = check(&options, name).expect("refused");
            assert!(refused.contains(why), "{refused}");
        }
        for name in ["web.clicks", "pbx", "pb", "_schemas"] {
            assert_eq!(check(&options, name), None);
        }
        options.attach = vec!["web.*".to_owned(), "shop".to_owned()];
        assert_eq!(check(&options, "web.clicks"), None);
        assert_eq!(check(&options, "shop"), None);
        let refused = check(&options, "shop2").expect("refused");
        assert!(
            refused.contains("kafka.attach = [\"web.*\", \"shop\"]"),
            "{refused}"
        );
        options.attach = Vec::new();
        assert!(check(&options, "web.clicks").is_some());
    }

    #[test]
    fn the_first_override_that_fits_counts() {
        let mut options = Options::new("localhost:9092");
        options.overrides = vec![
            TopicOverride {
                pattern: "projects/*/topics/big-*".to_owned(),
                partitions: Some(12),
                compression: Some("none".to_owned()),
                ..TopicOverride::default()
            },
            TopicOverride {
                pattern: "projects/p/*".to_owned(),
                replication_factor: Some(3),
                ..TopicOverride::default()
            },
        ];
        let big = options.shape(&topic("projects/p/topics/big-one"));
        assert_eq!((big.partitions, big.replication_factor), (12, None));
        assert_eq!(big.compression, "uncompressed");
        let small = options.shape(&topic("projects/p/topics/small"));
        assert_eq!((small.partitions, small.replication_factor), (1, Some(3)));
        assert_eq!(small.compression, "producer");
        assert!(!fits("projects/p", "projects/p/topics/t"));
        assert!(fits("*", "projects/p/topics/t"));
    }
}
