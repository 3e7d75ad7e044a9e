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
async fn opened(properties: &[(&str, &str)]) -> (Mock, KafkaLog, TopicLog) {
    let mock = MockCluster::new(1).expect("a cluster");
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

#[tokio::test]
async fn a_head_that_is_out_of_range_without_having_changed_is_read_on() {
    let (mock, log, topic) = opened(&[]).await;
    let mut ends = log.watch(&topic).await.expect("watched");
    let theirs: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", mock.bootstrap_servers())
        .create()
        .expect("a producer");
    let write = |text: &str| {
        let record: BaseRecord<'_, (), str> = BaseRecord::to("theirs").partition(0).payload(text);
        theirs
            .send(record)
            .map_err(|(error, _)| error)
            .expect("sent");
        theirs.flush(PATIENCE).expect("flushed");
    };
    for end in 1..5 {
        write("text");
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
            // Until the record is compared, after it was asked where the topic ends.
            let compared = async {
                while log.readers.pool().idle() == 0 {
                    yield_now().await;
                }
            };
            timeout(PATIENCE, compared)
                .await
                .expect("nobody has noticed");
        }
    }
}

#[tokio::test]
async fn records_that_were_given_up_are_told_with_the_reason() {
    let (mock, log, topic) = opened(&[("message.timeout.ms", "1500")]).await;
    mock.partition_leader("theirs", 0, None).expect("no leader");
    let refused = log.append(&topic, vec![message(b"one")].into()).await;
    let text = refused.expect_err("refused").to_string();
    assert!(
        text.contains("MessageTimedOut") && text.contains("partition 0 has no leader"),
        "{text}"
    );
}
