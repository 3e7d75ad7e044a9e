//! What is a record in Kafka comes back as the message that it was.

use super::TestTopics;
use crate::store::{
    MessageLog as _,
    contract::{
        log::{TOPIC, created, publish_all, read_all},
        published::published,
    },
};

/// The node that appended it has everything in its tail, and does not ask Kafka.
#[tokio::test]
async fn another_node_reads_what_was_published_unchanged() {
    let topics = TestTopics::new();
    let topic = created(&topics.open().await, TOPIC).await;
    let sent = published();
    let runs = publish_all(&topics.open().await, &topic, &sent).await;
    let reader = topics.open().await;
    assert_eq!(read_all(&reader, &topic).await, sent);
    let read = reader.read(&topic, 0, 0..1, 1).await.expect("read");
    let first = read.records().next().expect("a record");
    assert_eq!(first.publish_time(), runs[0].publish_time);
}
