//! Logs that lose records, or are gone, while they are read.

use std::time::Duration;

use bytes::Bytes;

use super::{
    AppendError, DeliveryError, EndCause, MessageStream,
    tests::{World, world},
};
use crate::{
    engine::input::{Issue, LeaseId},
    limits::LOG_CHECK_MILLIS,
    resource::name::TopicName,
    store::{MessageLog as _, Positions as _, StoreError, positions::Acquire},
};

fn topic() -> TopicName {
    TopicName::parse("name", "projects/p/topics/top").expect("valid")
}

impl World {
    async fn append(&self, text: &'static str) -> Result<(), AppendError> {
        let message = vec![Bytes::from_static(text.as_bytes())];
        let appended = self.drivers.append(&topic(), message.into(), 1).await;
        appended.map(|_| ())
    }

    /// Has the first message acknowledged by a stream that stays open.
    async fn first_acknowledged(&self) -> MessageStream {
        let mut stream = self.open_stream().await;
        let frame = std::future::poll_fn(|cx| stream.poll_frame(cx)).await;
        assert_eq!(frame.expect("a frame").len(), 1);
        let lease = LeaseId {
            generation: 1,
            partition: 0,
            offset: 0,
            number: 1,
            issue: Issue::default(),
        };
        let acknowledged = self.drivers.acknowledge(&self.subscription, vec![lease]);
        acknowledged.await.expect("acknowledged");
        stream
    }

    /// How the stream ends, once it does.
    async fn end_of(&self, stream: &mut MessageStream) -> EndCause {
        let frame = std::future::poll_fn(|cx| stream.poll_frame(cx)).await;
        frame.expect_err("ends")
    }
}

#[tokio::test]
async fn a_log_that_lost_records_ends_streams_and_what_comes_then_is_delivered() {
    let world = world().await;
    let mut stream = world.first_acknowledged().await;
    world.log.lose(world.subscription.log.incarnation, 0);
    assert_eq!(world.end_of(&mut stream).await, EndCause::LogChanged);
    assert_eq!(world.pull(true).await, Ok(0));
    world.append("two").await.expect("appended");
    assert_eq!(world.pull(false).await, Ok(1));
    let old = LeaseId {
        generation: 1,
        partition: 0,
        offset: 0,
        number: 1,
        issue: Issue::default(),
    };
    let acknowledged = world.drivers.acknowledge(&world.subscription, vec![old]);
    acknowledged.await.expect("answered");
    world.drivers.drain().await;
    let acquired = world.state.acquire(world.subscription.id).await;
    let Ok(Acquire::Acquired(acquired)) = acquired else {
        panic!("the subscription is there");
    };
    let stored = &acquired.partitions[0];
    assert_eq!(
        (stored.generation, stored.cursor),
        (2, 0),
        "an old ack id is void"
    );
}

#[tokio::test]
async fn a_log_that_is_gone_ends_streams_and_is_told_until_it_is_there_again() {
    let world = world().await;
    let mut stream = world.first_acknowledged().await;
    let log = &world.subscription.log;
    world.log.delete(log).await.expect("deleted");
    assert_eq!(world.end_of(&mut stream).await, EndCause::LogChanged);

    let told = "the log of topic projects/p/topics/top is gone";
    let refused = world.drivers.pull(&world.subscription, 1, true).await;
    let Err(DeliveryError::Ended(EndCause::LogGone(text))) = refused.map(|_| ()) else {
        panic!("the subscription has no log");
    };
    assert!(text.starts_with(told), "{text}");
    let refused = world.append("lost").await;
    assert!(matches!(&refused, Err(AppendError::LogGone(text)) if text.starts_with(told)));

    let name = topic();
    world
        .log
        .create(log.incarnation, &name)
        .await
        .expect("made");
    assert_eq!(world.pull(true).await, Ok(0));
    world.append("two").await.expect("appended");
    assert_eq!(world.pull(true).await, Ok(1));
}

#[tokio::test]
async fn what_lies_where_records_were_lost_is_delivered_also_when_nobody_saw_them_go() {
    let world = world().await;
    world.faults.let_log_lose_records();
    drop(world.first_acknowledged().await);
    world.drivers.drain().await;
    world.log.lose(world.subscription.log.incarnation, 0);
    world.hand.advance(Duration::from_secs(1));
    let world = world.restarted();
    world.append("two").await.expect("appended");
    assert_eq!(world.pull(true).await, Ok(1));
}

#[tokio::test]
async fn a_log_that_has_grown_past_what_it_lost_is_told_by_its_records() {
    let world = world().await;
    world.faults.let_log_lose_records();
    let mut stream = world.first_acknowledged().await;
    world.log.lose_unseen(world.subscription.log.incarnation, 0);
    world.hand.advance(Duration::from_secs(1));
    for text in ["two", "three"] {
        world.append(text).await.expect("appended");
    }
    let frame = std::future::poll_fn(|cx| stream.poll_frame(cx)).await;
    assert_eq!(frame.expect("nobody has noticed").len(), 1);
    world.hand.advance(Duration::from_millis(LOG_CHECK_MILLIS));
    assert_eq!(world.end_of(&mut stream).await, EndCause::LogChanged);
    let mut received = 0;
    while received < 2 {
        received += world.pull(true).await.expect("pulled");
        // One of them may be leased for a moment.
        world.hand.advance(Duration::from_secs(1));
    }
}

#[tokio::test]
async fn what_lies_below_what_was_read_on_in_another_log_is_delivered_by_the_next_node() {
    let world = world().await;
    world.faults.let_log_lose_records();
    let mut stream = world.first_acknowledged().await;
    world.log.lose_unseen(world.subscription.log.incarnation, 0);
    world.hand.advance(Duration::from_secs(1));
    for text in ["two", "three"] {
        world.append(text).await.expect("appended");
    }
    let frame = std::future::poll_fn(|cx| stream.poll_frame(cx)).await;
    assert_eq!(frame.expect("nobody has noticed").len(), 1);
    let lease = LeaseId {
        generation: 1,
        partition: 0,
        offset: 1,
        number: 1,
        issue: Issue::default(),
    };
    let acknowledged = world.drivers.acknowledge(&world.subscription, vec![lease]);
    acknowledged.await.expect("acknowledged");
    // It dies before it compares the log.
    world.drivers.drain().await;
    let world = world.restarted();
    let pull = world.drivers.pull(&world.subscription, 2, false).await;
    let received = pull.expect("pulls").answer().await;
    assert_eq!(received.expect("the log's messages").len(), 2);
}

#[tokio::test]
async fn a_log_that_only_grows_is_the_same_under_a_stream() {
    let world = world().await;
    world.faults.let_log_lose_records();
    let mut stream = world.first_acknowledged().await;
    for offset in 1..4 {
        world.append("more").await.expect("appended");
        let frame = std::future::poll_fn(|cx| stream.poll_frame(cx)).await;
        assert_eq!(frame.expect("a frame").len(), 1);
        let lease = LeaseId {
            generation: 1,
            partition: 0,
            offset,
            number: 1,
            issue: Issue::default(),
        };
        let acknowledged = world.drivers.acknowledge(&world.subscription, vec![lease]);
        acknowledged.await.expect("acknowledged");
        world.hand.advance(Duration::from_millis(LOG_CHECK_MILLIS));
    }
}

#[tokio::test]
async fn a_log_that_is_not_known_for_a_moment_is_waited_for() {
    let world = world().await;
    let mut stream = world.first_acknowledged().await;
    let slow = StoreError::Unavailable("not yet".to_owned());
    world.faults.fail("watch", slow);
    world.log.lose(world.subscription.log.incarnation, 1);
    assert_eq!(world.end_of(&mut stream).await, EndCause::LogChanged);
    let refused = world.pull(true).await.expect_err("not yet");
    assert!(refused.contains("try again"), "{refused}");
    world.append("two").await.expect("appended");
    assert_eq!(world.pull(true).await, Ok(1));
}
