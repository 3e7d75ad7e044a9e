//! Whether all brokers can be connected to, those that were named and those that the cluster names.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::{net::TcpStream, time::timeout};

use crate::{
    doctor::finding::{Finding, counted},
    limits::KAFKA_ANSWER_MILLIS,
    store::kafka::{Broker, Told},
};

const PATIENCE: Duration = Duration::from_millis(KAFKA_ANSWER_MILLIS);

/// Connects to the brokers that were named, `HOST:PORT` between commas.
pub(super) async fn addresses(named: &str) -> Vec<Finding> {
    let tried = named.split(',').map(|address| async move {
        let connected = timeout(PATIENCE, TcpStream::connect(address)).await;
        let why = match connected {
            Ok(Ok(_)) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("no answer".to_owned()),
        };
        (address, why)
    });
    let tried = join_all(tried).await;
    tried
        .iter()
        .filter_map(|(address, why)| Some(unreached(address, why.as_deref()?)))
        .collect()
}

/// Another one has answered, otherwise there would be nothing to examine.
fn unreached(address: &str, why: &str) -> Finding {
    Finding::warning(
        format!("nobody answers at {address}, which --log names ({why})"),
        "nodes do not start if the others are away too: start that broker, or correct the address",
    )
}

/// Judges what each broker of a cluster answered.
pub(super) fn brokers(cluster: &str, brokers: &[Broker], told: &[Told]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let addresses: Vec<_> = brokers.iter().map(ToString::to_string).collect();
    for (broker, told) in brokers.iter().zip(told) {
        if let Told::Silent(why) = told {
            findings.push(Finding::problem(
                format!("broker {broker} of the Kafka cluster {cluster} does not answer ({why})"),
                "every node connects to every broker: start it, or correct its advertised.listeners, the name \
                 resolution or the firewall in between",
            ));
        }
    }
    if findings.is_empty() {
        findings.push(Finding::ok(format!(
            "the Kafka cluster {cluster} answers, with {}: {}",
            counted(brokers.len(), "broker"),
            addresses.join(", ")
        )));
    }
    let refused = told.iter().find_map(|told| match told {
        Told::Refused(why) => Some(why),
        _ => None,
    });
    if let Some(why) = refused {
        findings.push(Finding::warning(
            format!("Kafka does not tell the version and the settings of its brokers ({why})"),
            "grant the user DescribeConfigs on the cluster, or set replication_factor in [kafka]; without either, \
             topics are made with the brokers' min.insync.replicas",
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{doctor::finding::Level, store::kafka::Settings};

    #[test]
    fn a_broker_that_does_not_answer_is_named_and_one_that_tells_nothing_is_reached() {
        let brokers: Vec<_> = [1, 2]
            .map(|id| Broker {
                id,
                host: "kafka".to_owned(),
                port: 9092,
            })
            .into();
        let told = [
            Told::Refused("no".to_owned()),
            Told::Silent("connection refused".to_owned()),
        ];
        let found = super::brokers("abc", &brokers, &told);
        let levels: Vec<_> = found.iter().map(|finding| finding.level).collect();
        assert_eq!(levels, [Level::Problem, Level::Warning]);
        let text = &found[0].text;
        assert!(
            text.contains("2 at kafka:9092") && text.contains("connection refused"),
            "{text}"
        );
        let told = [
            Told::Settings(Settings::default()),
            Told::Refused("no".to_owned()),
        ];
        assert_eq!(super::brokers("abc", &brokers, &told)[0].level, Level::Ok);
    }

    #[test]
    fn an_address_that_does_not_work_is_named() {
        let found = unreached("kafka-9:9092", "connection refused");
        assert_eq!(found.level, Level::Warning);
        assert!(found.text.contains("kafka-9:9092"), "{found}");
    }
}
