//! Topics that a node has never read: after a start, or when it takes over what another one delivered.
//!
//! By itself Kafka's client begins with a topic that it does not know after up to a second.

use std::time::Duration;

use futures_util::{StreamExt as _, future::join_all, stream};
use tokio::time::{Instant, timeout};

use super::{super::KafkaLog, TestTopics};
use crate::{
    resource::id::TopicIncarnation,
    store::{
        MessageLog as _,
        contract::log::{created, message},
        log::TopicLog,
    },
};

/// Topics that another node makes, with one message in each.
async fn filled(topics: &TestTopics, count: u64) -> Vec<TopicLog> {
    let log = topics.open().await;
    let made = join_all((1..=count).map(|at| created(&log, TopicIncarnation(at)))).await;
    let filled = stream::iter(made).map(|topic| async {
        // A busy broker may not have heard of a topic that another one says was made.
        while log
            .append(&topic, vec![message(b"waiting")].into())
            .await
            .is_err()
        {}
        topic
    });
    filled.buffer_unordered(100).collect().await
}

/// Reads what waits in a topic as a subscription does that is taken over.
async fn first_read(log: &KafkaLog, topic: &TopicLog) {
    let ends = log.watch(topic).await.expect("watch");
    let end = ends.borrow()[0];
    let batch = log.read(topic, 0, 0..end, 1 << 20).await.expect("read");
    assert!(batch.count() > 0 && batch.next == end);
}

async fn all_are_read_within(count: u64, bound: Duration) {
    let topics = TestTopics::new();
    let made = filled(&topics, count).await;
    let log = topics.open().await;
    let all = join_all(made.iter().map(|topic| first_read(&log, topic)));
    let read = timeout(bound, all).await;
    assert!(read.is_ok(), "not all of {count} were read in {bound:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_topics_are_read_for_the_first_time_at_once() {
    // One after the other with four readers: 35 s. On an idle machine this is done after 0.3 s.
    all_are_read_within(150, Duration::from_secs(8)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a broker does little else while it makes so many topics: tests/run.sh --long runs it by itself"]
async fn thousands_of_topics_are_read_for_the_first_time_at_once() {
    all_are_read_within(2_000, Duration::from_secs(40)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_read_and_the_first_news_of_a_topic_do_not_wait_for_a_timer() {
    let topics = TestTopics::new();
    let made = filled(&topics, 7).await;
    let (log, elsewhere) = (topics.open().await, topics.open().await);
    let (mut reads, mut news) = (Vec::new(), Vec::new());
    for topic in &made {
        // So that the other node's client knows the topic.
        elsewhere
            .append(topic, vec![message(b"first")].into())
            .await
            .expect("append");
        let started = Instant::now();
        first_read(&log, topic).await;
        reads.push(started.elapsed());
        let mut ends = log.watch(topic).await.expect("watch");
        let end = ends.borrow_and_update()[0];
        let started = Instant::now();
        elsewhere
            .append(topic, vec![message(b"news")].into())
            .await
            .expect("append");
        ends.wait_for(|ends| ends[0] > end).await.expect("watched");
        news.push(started.elapsed());
    }
    reads.sort_unstable();
    news.sort_unstable();
    let bound = Duration::from_millis(400);
    assert!(reads[made.len() / 2] < bound, "reads took {reads:?}");
    assert!(news[made.len() / 2] < bound, "news took {news:?}");
}
