//! What the settings of brokers mean to us. Values in, findings out.

use crate::{
    doctor::finding::{Finding, counted},
    limits::{KAFKA_RECORD_BYTES_MAX, KAFKA_TIMESTAMP_MILLIS_MIN},
    store::kafka::{Options, Settings, VERSION_MIN, parse_version},
};

/// Everything that there is to say about one broker's settings.
pub(super) fn judge(settings: &Settings, options: &Options, brokers: usize) -> Vec<Finding> {
    let default_copies = settings.number("default.replication.factor");
    let mut findings = vec![version(settings.get("inter.broker.protocol.version"))];
    if let Some(copies) = options.replication_factor.or(default_copies) {
        findings.push(copies_of("new topics", copies, brokers));
        if let Some(in_sync) = settings.number("min.insync.replicas") {
            findings.extend(in_sync_copies(in_sync, copies));
        }
    }
    for own in &options.overrides {
        if let Some(copies) = own.replication_factor {
            let which = format!("new topics that fit {:?}", own.pattern);
            findings.push(copies_of(&which, copies, brokers));
        }
    }
    findings.extend(unclean_leaders(
        settings.is_on("unclean.leader.election.enable"),
    ));
    findings.extend(made_by_themselves(
        settings.is_on("auto.create.topics.enable"),
    ));
    findings.extend(
        settings
            .number("socket.request.max.bytes")
            .map(request_bytes),
    );
    findings.extend(settings.number("message.max.bytes").map(record_bytes));
    for name in [
        "log.message.timestamp.before.max.ms",
        "log.message.timestamp.after.max.ms",
        "log.message.timestamp.difference.max.ms",
    ] {
        findings.extend(
            settings
                .number(name)
                .and_then(|millis| timestamps(name, millis)),
        );
    }
    findings
}

/// The findings of several brokers, each once. What not all of them have in common says whose it is.
pub(super) fn agreed(judged: Vec<(i32, Vec<Finding>)>) -> Vec<Finding> {
    let count = judged.len();
    let mut agreed: Vec<(Finding, Vec<String>)> = Vec::new();
    for (broker, findings) in judged {
        for finding in findings {
            match agreed.iter_mut().find(|(known, _)| *known == finding) {
                Some((_, brokers)) => brokers.push(broker.to_string()),
                None => agreed.push((finding, vec![broker.to_string()])),
            }
        }
    }
    let shown = |(mut finding, brokers): (Finding, Vec<String>)| {
        if brokers.len() < count {
            finding.text = format!("on broker {} only: {}", brokers.join(", "), finding.text);
        }
        finding
    };
    agreed.into_iter().map(shown).collect()
}

/// Brokers before 4.0 have a setting that names their version unless an operator changed it; later ones have none.
fn version(protocol: Option<(&str, bool)>) -> Finding {
    let (major, minor) = VERSION_MIN;
    let Some((version, is_default)) = protocol else {
        return Finding::ok("Kafka's version is 4.0 or newer");
    };
    match parse_version(version) {
        Some(parsed) if parsed < VERSION_MIN && is_default => Finding::problem(
            format!("Kafka's version is {version}, but {major}.{minor} or newer is needed"),
            "upgrade the brokers",
        ),
        Some(parsed) if parsed < VERSION_MIN => Finding::warning(
            format!("Kafka's brokers are told to speak like version {version}"),
            format!(
                "remove inter.broker.protocol.version if all are {major}.{minor} or newer, otherwise upgrade them"
            ),
        ),
        _ => Finding::ok(format!("Kafka's version is {version}")),
    }
}

fn copies_of(which: &str, copies: u16, brokers: usize) -> Finding {
    let found = format!(
        "the replication factor of {which} is {copies}, of {}",
        counted(brokers, "broker")
    );
    if usize::from(copies) > brokers {
        // Brokers that are away count when a topic is made, so this alone keeps none from being made.
        Finding::warning(
            found,
            "start the brokers that are away, or lower replication_factor in [kafka] (default.replication.factor of the \
             brokers)",
        )
    } else if copies == 1 && brokers >= 3 {
        Finding::warning(
            found,
            "the loss of a disk is the loss of its messages: set replication_factor = 3 in [kafka]",
        )
    } else {
        Finding::ok(found)
    }
}

fn in_sync_copies(in_sync: u16, copies: u16) -> Option<Finding> {
    (in_sync > copies).then(|| {
        Finding::warning(
            format!("the brokers' min.insync.replicas is {in_sync}, but topics have replication factor {copies}"),
            "a topic that does not set it takes no message; Packetboat sets it for the topics that it makes, an attached \
             one needs a lower value",
        )
    })
}

fn unclean_leaders(enabled: bool) -> Option<Finding> {
    enabled.then(|| {
        Finding::warning(
            "unclean.leader.election.enable is true",
            "a broker that was behind may become leader, and messages that were answered are lost: set it to false",
        )
    })
}

fn made_by_themselves(enabled: bool) -> Option<Finding> {
    enabled.then(|| {
        Finding::warning(
            "auto.create.topics.enable is true",
            "a client of somebody else that still names a deleted topic makes it again: set it to false",
        )
    })
}

fn request_bytes(bytes: usize) -> Finding {
    let found = format!("socket.request.max.bytes is {bytes}");
    if bytes < KAFKA_RECORD_BYTES_MAX {
        Finding::problem(
            found,
            format!(
                "a publish request of 10 MB needs {KAFKA_RECORD_BYTES_MAX}: raise it (the default is 104857600)"
            ),
        )
    } else {
        Finding::ok(found)
    }
}

/// Never a fault: topics that we make have their own.
fn record_bytes(bytes: usize) -> Finding {
    let found = format!("message.max.bytes is {bytes}");
    Finding::ok(if bytes < KAFKA_RECORD_BYTES_MAX {
        format!(
            "{found}: that is the largest message of attached topics that set no max.message.bytes; \
             those that Packetboat makes take {KAFKA_RECORD_BYTES_MAX}"
        )
    } else {
        found
    })
}

/// Only attached topics keep the time at which a record was made; ours have the broker's.
fn timestamps(name: &str, millis: u64) -> Option<Finding> {
    (millis < KAFKA_TIMESTAMP_MILLIS_MIN).then(|| {
        Finding::warning(
            format!("{name} is {millis}"),
            format!(
                "publishing to an attached topic is refused where a node's clock is further off: set it to \
                 {KAFKA_TIMESTAMP_MILLIS_MIN} at least"
            ),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Level;

    fn settings(given: &[(&str, &str)]) -> Settings {
        let given = given.iter();
        given
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned(), false))
            .collect()
    }

    fn worst(given: &[(&str, &str)], brokers: usize) -> Level {
        let options = Options::new("localhost:9092");
        let found = judge(&settings(given), &options, brokers);
        let levels = found.iter().map(|finding| finding.level);
        levels.max().expect("a finding")
    }

    #[test]
    fn brokers_are_3_9_or_newer() {
        assert_eq!(version(None).level, Level::Ok);
        assert_eq!(version(Some(("3.9-IV0", true))).level, Level::Ok);
        assert_eq!(version(Some(("3.8", true))).level, Level::Problem);
        assert_eq!(version(Some(("3.8", false))).level, Level::Warning);
    }

    #[test]
    fn copies_fit_the_brokers() {
        for (copies, brokers, level) in [
            (1, 1, Level::Ok),
            (1, 3, Level::Warning),
            (3, 3, Level::Ok),
            (3, 2, Level::Warning),
        ] {
            assert_eq!(copies_of("topics", copies, brokers).level, level);
        }
        assert!(in_sync_copies(2, 3).is_none());
        assert!(in_sync_copies(2, 2).is_none());
        assert!(in_sync_copies(2, 1).is_some());
    }

    #[test]
    fn what_is_configured_counts_before_the_brokers_default() {
        let mut options = Options::new("localhost:9092");
        options.replication_factor = Some(3);
        let found = judge(
            &settings(&[("default.replication.factor", "1")]),
            &options,
            3,
        );
        assert!(
            found.iter().all(|finding| finding.level == Level::Ok),
            "{found:?}"
        );
    }

    #[test]
    fn settings_that_lose_or_refuse_messages_are_found() {
        assert_eq!(
            worst(
                &[
                    ("default.replication.factor", "3"),
                    ("min.insync.replicas", "2"),
                    ("message.max.bytes", "1048588"),
                    ("socket.request.max.bytes", "104857600"),
                    ("log.message.timestamp.after.max.ms", "3600000"),
                    ("log.message.timestamp.before.max.ms", "9223372036854775807"),
                    ("auto.create.topics.enable", "false"),
                ],
                3
            ),
            Level::Ok
        );
        for (name, value, level) in [
            ("default.replication.factor", "1", Level::Warning),
            ("unclean.leader.election.enable", "true", Level::Warning),
            ("auto.create.topics.enable", "true", Level::Warning),
            ("socket.request.max.bytes", "1048576", Level::Problem),
            (
                "log.message.timestamp.before.max.ms",
                "1000",
                Level::Warning,
            ),
        ] {
            assert_eq!(worst(&[(name, value)], 3), level, "{name}");
        }
    }

    #[test]
    fn what_one_broker_says_alone_is_said_of_it() {
        let (same, other) = (Finding::ok("same"), Finding::ok("other"));
        let judged = vec![(1, vec![same.clone()]), (2, vec![same.clone(), other])];
        let texts: Vec<_> = agreed(judged).into_iter().map(|one| one.text).collect();
        assert_eq!(texts, ["same", "on broker 2 only: other"]);
    }
}
