//! Many subscriptions and little memory for their messages.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use futures_util::FutureExt;

use super::{
    Drivers, MessageStream, StreamOpening,
    budget::{Budget, Share},
};
use crate::{
    clock::{Clock, ManualClock, Timestamp},
    limits::{READ_AHEAD_BYTES_MIN, UNWANTED_MILLIS},
    resource::{
        name::{SubscriptionName, TopicName},
        subscription::{Subscription, SubscriptionSettings},
        topic::Topic,
    },
    store::{
        MessageLog, Resources as _,
        cached::CachedResources,
        faulty::{Faults, faulty_state},
        log::TopicLog,
        memory::{MemoryLog, MemoryState},
        operations::Operations,
        resources::SubscriptionRecord,
    },
};

const MESSAGES: usize = 200;
const MESSAGE_BYTES: usize = 10_000;
const BUDGET_BYTES: usize = 256 * 1024;

/// Subscriptions of one topic whose backlog is larger than all of them may hold.
struct World {
    drivers: Drivers,
    hand: ManualClock,
    subscriptions: Vec<Arc<SubscriptionRecord>>,
}

impl World {
    async fn new(subscriptions: usize) -> Self {
        let (clock, hand) = Clock::manual(Timestamp::from_millis(1_000_000));
        let state = Arc::new(MemoryState::new().expect("random bytes"));
        let log: Arc<dyn MessageLog> = Arc::new(MemoryLog::new(clock.clone(), usize::MAX));
        let store = faulty_state(&state, &Faults::default());
        let operations = Arc::new(Operations::new(clock.clone()));
        let resources = CachedResources::new(Arc::clone(&store.resources), Arc::clone(&operations));
        let resources = Arc::new(resources);
        let shared = Arc::clone(&log);
        let drivers = Drivers::start(store, resources, shared, operations, clock, BUDGET_BYTES);
        let topic = topic(&state, log.as_ref()).await;
        let mut records = Vec::new();
        for number in 0..subscriptions {
            let name = format!("projects/p/subscriptions/sub{number}");
            let subscription = Subscription::new(
                SubscriptionName::parse("name", &name).expect("valid"),
                topic_name(),
                SubscriptionSettings::default(),
            );
            let subscription = subscription.expect("valid");
            let created = state.create_subscription(&topic, &subscription, &[(0, 0)]);
            records.push(Arc::new(created.await.expect("subscription")));
        }
        let messages = vec![Bytes::from(vec![0; MESSAGE_BYTES]); MESSAGES];
        log.append(&topic, messages.into()).await.expect("append");
        Self {
            drivers,
            hand,
            subscriptions: records,
        }
    }

    async fn open(&self, subscription: usize) -> MessageStream {
        self.open_for(subscription, None).await
    }

    /// A stream that takes so many messages at most, as it acknowledges none.
    async fn open_for(&self, subscription: usize, messages_max: Option<u64>) -> MessageStream {
        let opening = StreamOpening {
            client_id: String::new(),
            ack_deadline_millis: 600_000,
            messages_max,
            bytes_max: None,
        };
        let subscription = &self.subscriptions[subscription];
        let stream = self.drivers.stream(subscription, opening).await;
        stream.expect("opened")
    }

    /// Checks that all have never held more at the same time than they may, with so many streams.
    fn check_held(&self, streams: usize) {
        // One frame in each stream, and what each subscription has read.
        let small_reads = streams + self.subscriptions.len();
        let held_max = self.drivers.node.budget.held_max.load(Ordering::Acquire);
        assert!(held_max <= BUDGET_BYTES + small_reads * READ_AHEAD_BYTES_MIN);
    }

    fn held(&self) -> usize {
        self.drivers.node.budget.held.load(Ordering::Acquire)
    }
}

fn topic_name() -> TopicName {
    TopicName::parse("name", "projects/p/topics/top").expect("valid")
}

async fn topic(state: &MemoryState, log: &dyn MessageLog) -> TopicLog {
    let name = topic_name();
    let topic = state.create_topic(&Topic::new(name.clone()), None).await;
    let topic = topic.expect("topic");
    let location = log.create(topic, &name).await.expect("log");
    state.publish_topic(topic, &location).await.expect("topic");
    let topic = state.topic(&name).await.expect("topic");
    topic.expect("is live").log
}

async fn receive_all(stream: &mut MessageStream) {
    receive(stream, MESSAGES).await;
}

/// Receives so many messages. Returns the bytes of the largest frame.
async fn receive(stream: &mut MessageStream, messages: usize) -> usize {
    let (mut received, mut largest) = (0, 0);
    while received < messages {
        let frame = poll_fn(|cx| stream.poll_frame(cx)).await;
        let frame = frame.expect("a frame");
        received += frame.len();
        largest = largest.max(frame.iter().map(|delivery| delivery.body.len()).sum());
    }
    largest
}

#[test]
fn beside_a_spent_budget_there_is_one_small_read_at_a_time_and_only_when_nothing_is_ready() {
    let budget = Arc::new(Budget::new(BUDGET_BYTES));
    let (share, other) = (Share::new(&budget), Share::new(&budget));
    let room = |share: &Share| share.room(BUDGET_BYTES).now_or_never();
    let (bytes_max, mut loaded) = room(&share).expect("nobody holds anything");
    assert_eq!((bytes_max, loaded.is_small_read()), (BUDGET_BYTES, false));
    loaded.found(BUDGET_BYTES);
    share.set_ready(true);
    assert!(room(&share).is_none(), "what is ready comes first");
    let frame = loaded.split(BUDGET_BYTES);
    share.set_ready(false);
    let (bytes_max, mut small) = room(&share).expect("what is handed out is not ready");
    assert_eq!(
        (bytes_max, small.is_small_read()),
        (READ_AHEAD_BYTES_MIN, true)
    );
    assert!(room(&share).is_none(), "one at a time");
    assert!(room(&other).is_some(), "of each subscription");
    small.found(1);
    let waiting = share.room(BUDGET_BYTES);
    let mut waiting = pin!(waiting);
    assert!(waiting.as_mut().now_or_never().is_none());
    loaded.merge(small);
    assert!(waiting.now_or_never().is_some(), "the one before has ended");
    drop((loaded, frame));
    let (bytes_max, all) = room(&share).expect("everything was given back");
    assert_eq!((bytes_max, all.is_small_read()), (BUDGET_BYTES, false));
}

#[tokio::test]
async fn streams_that_take_nothing_hold_up_no_others_and_all_hold_no_more_than_they_may() {
    let world = World::new(20).await;
    let mut silent = Vec::new();
    for subscription in 0..10 {
        silent.push(world.open(subscription).await);
    }
    let busy = (10..20).map(|subscription| {
        let world = &world;
        async move { receive_all(&mut world.open(subscription).await).await }
    });
    let received = futures_util::future::join_all(busy);
    let received = tokio::time::timeout(Duration::from_mins(1), received).await;
    received.expect("nobody waits for ever");
    world.check_held(20);
    // Those who took nothing get everything as soon as they do.
    for stream in &mut silent {
        receive_all(stream).await;
    }
}

#[tokio::test]
async fn a_stream_that_takes_nothing_holds_up_no_other_consumer_of_its_subscription() {
    // A little more than there is room for.
    const SILENT: usize = 30;
    let world = World::new(1).await;
    let _silent = world.open_for(0, Some(SILENT as u64)).await;
    let mut stream = world.open(0).await;
    let received = receive(&mut stream, MESSAGES - SILENT);
    let received = tokio::time::timeout(Duration::from_mins(1), received).await;
    let largest = received.expect("nobody waits for ever");
    assert!(
        largest <= READ_AHEAD_BYTES_MIN,
        "the budget is spent: {largest}"
    );
    world.check_held(2);
}

#[tokio::test]
async fn connections_that_send_nothing_hold_little_more_than_there_is_room_for() {
    const STREAMS: usize = 10;
    let world = World::new(1).await;
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        streams.push(world.open(0).await);
    }
    let mut unsent = Vec::new();
    let mut received = 0;
    // Nothing is ready at the first look, and everything that will be is after some more.
    for _ in 0..100 {
        for stream in &mut streams {
            let frame = poll_fn(|cx| stream.poll_frame(cx)).now_or_never();
            received += frame.map_or(0, |frame| frame.expect("a frame").len());
            unsent.extend(stream.take_unsent());
        }
        tokio::task::yield_now().await;
    }
    assert!(received < MESSAGES && unsent.len() <= STREAMS + BUDGET_BYTES / MESSAGE_BYTES);
    world.check_held(STREAMS);
    drop(unsent);
    while received < MESSAGES {
        for stream in &mut streams {
            let frame = poll_fn(|cx| stream.poll_frame(cx)).now_or_never();
            received += frame.map_or(0, |frame| frame.expect("a frame").len());
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn everything_is_given_back() {
    let world = World::new(3).await;
    let mut stream = world.open(0).await;
    poll_fn(|cx| stream.poll_frame(cx)).await.expect("a frame");
    let subscription = &world.subscriptions[1];
    let pull = world.drivers.pull(subscription, 1, false).await;
    let mut pull = pull.expect("opened");
    assert_eq!(pull.answer().await.expect("a message").len(), 1);
    assert!(world.held() > 0);
    drop((stream, pull));
    // Less than it takes until a driver without work ends.
    for _ in 0..400 {
        world
            .hand
            .advance(Duration::from_millis(UNWANTED_MILLIS / 100));
        tokio::task::yield_now().await;
    }
    assert_eq!(world.held(), 0, "what was not wanted is dropped");
}
