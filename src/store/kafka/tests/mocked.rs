//! A broker that answers what no other can be made to answer: librdkafka's own, which says what it is told to.

use std::{sync::Arc, time::Duration};

use rdkafka::{
    ClientConfig,
    mocking::MockCluster,
    producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer as _},
    types::{RDKafkaApiKey, RDKafkaRespErr},
};
use tokio::{task::yield_now, time::timeout};

use super::{super::KafkaLog, TestTopics};
use crate::{
    resource::id::TopicIncarnation,
    store::{MessageLog as _, contract::log::message, log::TopicLog},
};

const PATIENCE: Duration = Duration::from_secs(20);

type Mock = MockCluster<'static, DefaultProducerContext>;

/// A log over that broker, and a topic of others.
async fn opened(brokers: i32, properties: &[(&str, &str)]) -> (Mock, KafkaLog, TopicLog) {
    let mock = MockCluster::new(brokers).expect("a cluster");
    mock.create_topic("theirs", 1, 1).expect("made");
    let mut options = TestTopics::new().options();
    options.brokers = mock.bootstrap_servers();
    let properties = properties.iter();
    let properties = properties.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    options.properties.extend(properties);
    let log = KafkaLog::open(options).await.expect("open");
    let location = log.attach("theirs").await.expect("asked").expect("there");
    let topic = TopicLog {
        incarnation: TopicIncarnation(1),
        location: Arc::new(location),
    };
    (mock, log, topic)
}

fn writer(mock: &Mock) -> BaseProducer {
    ClientConfig::new()
        .set("bootstrap.servers", mock.bootstrap_servers())
        .create()
        .expect("a producer")
}

fn write(theirs: &BaseProducer) {
    let record: BaseRecord<'_, (), str> = BaseRecord::to("theirs").partition(0).payload("text");
    let sent = theirs.send(record).map_err(|(error, _)| error);
    sent.expect("sent");
    theirs.flush(PATIENCE).expect("flushed");
}

/// Until a record that was read is compared.
async fn compared(log: &KafkaLog) {
    let compared = async {
        while log.readers.pool().idle() == 0 {
            yield_now().await;
        }
    };
    timeout(PATIENCE, compared)
        .await
        .expect("nobody has noticed");
}

#[tokio::test]
async fn a_topic_with_another_leader_is_compared_with_what_was_read_of_it() {
    let (mock, log, topic) = opened(2, &[]).await;
    mock.partition_leader("theirs", 0, Some(1)).expect("led");
    let mut ends = log.watch(&topic).await.expect("watched");
    let theirs = writer(&mock);
    write(&theirs);
    let comes = timeout(PATIENCE, ends.wait_for(|ends| ends == &[1])).await;
    comes.expect("in time").expect("watched");
    let known = log.known.get(&topic).expect("known");
    let leader_is_known = async {
        while !known.has_other_leaders(&[2]) {
            yield_now().await;
        }
    };
    timeout(PATIENCE, leader_is_known).await.expect("asked");
    assert_eq!(log.readers.pool().idle(), 0, "nothing was to be compared");
    mock.partition_leader("theirs", 0, Some(2)).expect("led");
    compared(&log).await;
    write(&theirs);
    let comes = timeout(PATIENCE, ends.wait_for(|ends| ends == &[2])).await;
    comes.expect("in time").expect("it is as it was");
}

#[tokio::test]
async fn a_head_that_is_out_of_range_without_having_changed_is_read_on() {
    let (mock, log, topic) = opened(1, &[]).await;
    let mut ends = log.watch(&topic).await.expect("watched");
    let theirs = writer(&mock);
    for end in 1..5 {
        write(&theirs);
        let comes = ends.wait_for(|ends| ends == &[end]);
        let came = timeout(PATIENCE, comes).await;
        assert!(
            came.is_ok_and(|came| came.is_ok()),
            "record {end} did not come"
        );
        if end == 1 {
            // The consumer at the head is the only one that reads. It overlooks what comes with the end of the topic.
            let out_of_range = RDKafkaRespErr::RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE;
            mock.request_errors(RDKafkaApiKey::Fetch, &[out_of_range; 2]);
            // After it was asked where the topic ends.
            compared(&log).await;
        }
    }
}

#[tokio::test]
async fn records_that_were_given_up_are_told_with_the_reason() {
    let (mock, log, topic) = opened(1, &[("message.timeout.ms", "1500")]).await;
    mock.partition_leader("theirs", 0, None).expect("no leader");
    let refused = log.append(&topic, vec![message(b"one")].into()).await;
    let text = refused.expect_err("refused").to_string();
    assert!(
        text.contains("MessageTimedOut") && text.contains("partition 0 has no leader"),
        "{text}"
    );
}
