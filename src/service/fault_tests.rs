//! What users rely on while a store fails for a time, answers late, or its caller goes away.

mod creation;

use std::{collections::HashSet, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use prost::Message;
use tokio::time::timeout;

use super::{
    ConsumeError, DeliveryError, EndCause, MessageStream, OpenStream, PublishError, Receipts,
    Service, StoreError, StreamStart,
};
use crate::{
    clock::{Clock, ManualClock, Timestamp},
    limits::{HEALTH_FAILURES, HEALTH_VALID_MILLIS},
    proto::google::pubsub::v1::PubsubMessage,
    random::Random,
    resource::{
        message::ReceivedMessage,
        name::{SubscriptionName, TopicName},
        published::Published,
        subscription::{Subscription, SubscriptionSettings},
        topic::{Topic, TopicChange},
    },
    store::{
        MessageLog, Resources as _,
        faulty::{Faults, Faulty, faulty_state},
        memory::{MemoryLog, MemoryState},
        resources::SubscriptionRecord,
    },
};

const TOPIC: &str = "projects/p/topics/top";
const SUBSCRIPTION: &str = "projects/p/subscriptions/sub";

/// A service over stores that outlive it.
struct World {
    state: Arc<MemoryState>,
    log: Arc<MemoryLog>,
    clock: Clock,
    hand: ManualClock,
    faults: Faults,
    service: Arc<Service>,
}

impl World {
    /// With the topic and a subscription to it.
    async fn new() -> Self {
        let (clock, hand) = Clock::manual(Timestamp::from_millis(1_000_000_000));
        let state = Arc::new(MemoryState::new().expect("random bytes"));
        let log = Arc::new(MemoryLog::new(clock.clone(), usize::MAX));
        let faults = Faults::default();
        let service = start(&state, &log, &clock, &faults);
        let world = Self {
            state,
            log,
            clock,
            hand,
            faults,
            service,
        };
        let topic = Topic::new(topic());
        world.service.create_topic(topic).await.expect("topic");
        world.subscribe(SUBSCRIPTION).await;
        world
    }

    async fn subscribe(&self, name: &str) {
        let created = self.service.create_subscription(
            Some(subscription(name)),
            topic(),
            SubscriptionSettings::default(),
        );
        created.await.expect("subscription");
    }

    /// Stops the service and starts another over the same stores.
    async fn restart(&mut self) {
        let service = Arc::clone(&self.service);
        self.in_time(service.drain()).await;
        self.service = start(&self.state, &self.log, &self.clock, &self.faults);
    }

    /// The result of `future`, while time goes on.
    async fn in_time<T>(&self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        for _ in 0..10_000 {
            if let Ok(result) = timeout(Duration::from_millis(2), &mut future).await {
                return result;
            }
            self.hand.advance(Duration::from_millis(100));
        }
        panic!("not within a thousand seconds of the clock");
    }

    async fn publish(&self, text: &str) -> Result<Vec<String>, PublishError> {
        let topic = topic();
        let published = Published::scan(vec![message(text)], 100).expect("a message");
        let publish = self.service.publish(&topic, published);
        self.in_time(publish).await
    }

    async fn open_stream(&self) -> (OpenStream, MessageStream, Receipts) {
        let opened = self.service.open_stream(stream_start()).await;
        opened.expect("the stream opens")
    }

    /// Everything that is available now.
    async fn pull(&self, name: &str) -> Vec<ReceivedMessage> {
        let name = subscription(name);
        let pull = self.service.pull(&name, 1000, true, None);
        self.in_time(pull).await.expect("pull").0
    }

    async fn ack(&self, received: &[ReceivedMessage]) -> Result<(), ConsumeError> {
        self.ack_of(SUBSCRIPTION, received).await
    }

    async fn ack_of(&self, name: &str, received: &[ReceivedMessage]) -> Result<(), ConsumeError> {
        let ids: Vec<_> = received.iter().map(|one| one.ack_id.clone()).collect();
        let name = subscription(name);
        self.in_time(self.service.acknowledge(&name, ids)).await
    }
}

fn stream_start() -> StreamStart {
    StreamStart {
        client_id: String::new(),
        subscription: subscription(SUBSCRIPTION),
        ack_deadline_seconds: 10,
        max_outstanding_messages: 0,
        max_outstanding_bytes: 0,
    }
}

fn start(
    state: &Arc<MemoryState>,
    log: &Arc<MemoryLog>,
    clock: &Clock,
    faults: &Faults,
) -> Arc<Service> {
    let (state, log) = (faulty_state(state, faults), Faulty::new(log, faults));
    Arc::new(Service::start(state, log, clock.clone(), Random::seeded(1)))
}

fn topic() -> TopicName {
    TopicName::parse("name", TOPIC).expect("valid")
}

fn subscription(name: &str) -> SubscriptionName {
    SubscriptionName::parse("name", name).expect("valid")
}

fn message(text: &str) -> Bytes {
    let message = PubsubMessage {
        data: Bytes::copy_from_slice(text.as_bytes()),
        ..Default::default()
    };
    message.encode_to_vec().into()
}

fn texts(received: &[ReceivedMessage]) -> Vec<String> {
    let text = |one: &ReceivedMessage| {
        let message = PubsubMessage::decode(one.message.clone()).expect("a message");
        String::from_utf8(message.data.to_vec()).expect("text")
    };
    received.iter().map(text).collect()
}

fn unavailable() -> StoreError {
    StoreError::Unavailable("on purpose".to_owned())
}

#[tokio::test]
async fn a_publish_that_fails_leaves_nothing_and_the_next_one_works() {
    let world = World::new().await;
    world.faults.fail("append", unavailable());
    let failed = world.publish("lost").await.expect_err("failed");
    assert!(matches!(
        failed,
        PublishError::Store(StoreError::Unavailable(_))
    ));
    world.publish("kept").await.expect("published");
    assert_eq!(texts(&world.pull(SUBSCRIPTION).await), ["kept"]);
}

#[tokio::test]
async fn a_store_that_answers_and_does_nothing_is_not_healthy() {
    let world = World::new().await;
    assert!(world.service.health().await.is_good());
    for _ in 0..HEALTH_FAILURES {
        let denied = StoreError::Denied("no right to write".to_owned());
        world.faults.fail("append", denied);
        world.publish("lost").await.expect_err("failed");
    }
    world
        .hand
        .advance(Duration::from_millis(HEALTH_VALID_MILLIS));
    let health = world.service.health().await;
    let failure = health.backends.log.failure.clone().expect("a failure");
    assert!(failure.contains("no right to write"), "{failure}");
    assert!(!health.is_good() && health.backends.store.failure.is_none());

    world.publish("kept").await.expect("published");
    world
        .hand
        .advance(Duration::from_millis(HEALTH_VALID_MILLIS));
    assert!(world.service.health().await.is_good());

    world.publish("another").await.expect("published");
    for message in &world.pull(SUBSCRIPTION).await {
        world.faults.fail("flush", unavailable());
        let failed = world.ack(std::slice::from_ref(message)).await;
        failed.expect_err("not stored");
    }
    world
        .hand
        .advance(Duration::from_millis(HEALTH_VALID_MILLIS));
    assert!(world.service.health().await.is_good(), "two are few");
}

#[tokio::test]
async fn an_ack_is_answered_when_it_is_stored_and_not_before() {
    let mut world = World::new().await;
    world.publish("one").await.expect("published");
    let received = world.pull(SUBSCRIPTION).await;
    for _ in 0..2 {
        world.faults.fail("flush", unavailable());
        let failed = world.ack(&received).await.expect_err("not stored");
        assert!(
            matches!(
                failed,
                ConsumeError::Delivery(DeliveryError::Store(StoreError::Unavailable(_)))
            ),
            "{failed:?}"
        );
    }
    world.ack(&received).await.expect("stored");
    world.restart().await;
    world.hand.advance(Duration::from_secs(700));
    assert_eq!(texts(&world.pull(SUBSCRIPTION).await), [""; 0]);
}

#[tokio::test]
async fn a_failed_flush_says_once_that_the_store_is_not_available() {
    let world = World::new().await;
    world.publish("one").await.expect("published");
    let received = world.pull(SUBSCRIPTION).await;
    world.faults.fail("flush", unavailable());
    let text = world
        .ack(&received)
        .await
        .expect_err("not stored")
        .to_string();
    assert_eq!(text.matches("not available").count(), 1, "{text}");
}

#[tokio::test]
async fn an_ack_that_a_damaged_page_keeps_from_being_stored_says_so_and_harms_no_other() {
    let world = World::new().await;
    let other = "projects/p/subscriptions/other";
    world.subscribe(other).await;
    world.publish("one").await.expect("published");
    let (mine, theirs) = (world.pull(SUBSCRIPTION).await, world.pull(other).await);
    let record = world.state.subscription(&subscription(SUBSCRIPTION)).await;
    world
        .faults
        .damage(record.expect("answers").expect("exists").id);
    let (mine, theirs) = tokio::join!(world.ack(&mine), world.ack_of(other, &theirs));
    theirs.expect("stored");
    let failed = mine.expect_err("damaged");
    assert!(
        matches!(
            failed,
            ConsumeError::Delivery(DeliveryError::Store(StoreError::Damaged(_)))
        ),
        "{failed:?}"
    );
}

#[tokio::test]
async fn a_stream_goes_on_when_the_log_can_be_read_again() {
    let world = World::new().await;
    let (_stream, mut messages, receipts) = world.open_stream().await;
    world.faults.fail("read", unavailable());
    world.publish("one").await.expect("published");
    let frame = std::future::poll_fn(|cx| messages.poll_frame(cx));
    let deliveries = world.in_time(frame).await.expect("a frame");
    assert_eq!(texts(&receipts.received(deliveries)), ["one"]);
}

#[tokio::test]
async fn an_ack_that_meets_the_deletion_of_its_subscription_is_answered_with_not_found() {
    let world = World::new().await;
    world.publish("one").await.expect("published");
    let received = world.pull(SUBSCRIPTION).await;
    let held = world.faults.hold("delete_subscription");
    let service = Arc::clone(&world.service);
    let deleting = tokio::spawn(async move {
        service
            .delete_subscription(&subscription(SUBSCRIPTION))
            .await
    });
    held.done().await;
    let failed = world.ack(&received).await.expect_err("it is deleted");
    assert!(
        matches!(failed, ConsumeError::NotFound { .. }),
        "{failed:?}"
    );
    held.release();
    deleting.await.expect("no panic").expect("deleted");
}

#[tokio::test]
async fn a_stream_whose_log_is_deleted_before_it_hears_of_its_subscriptions_deletion_ends_with_that()
 {
    let world = World::new().await;
    let (_stream, mut messages, _receipts) = world.open_stream().await;
    let log = world.state.topic(&topic()).await.expect("answers");
    let log = log.expect("exists").log;
    world.service.delete_topic(&topic()).await.expect("deleted");
    let held = world.faults.hold("delete_subscription");
    let service = Arc::clone(&world.service);
    let deleting = tokio::spawn(async move {
        service
            .delete_subscription(&subscription(SUBSCRIPTION))
            .await
    });
    held.done().await;
    let gone = async {
        while world.log.bounds(&log).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    world.in_time(gone).await;
    held.release();
    let frame = std::future::poll_fn(|cx| messages.poll_frame(cx));
    let end = world.in_time(frame).await.expect_err("it is deleted");
    assert_eq!(end, EndCause::Deleted);
    deleting.await.expect("no panic").expect("deleted");
}

/// What a call is answered that starts a delivery, where `change` happens between the take-over and the log.
async fn answer_of(
    call: &str,
    change: impl AsyncFn(&World, SubscriptionRecord),
) -> Result<(), ConsumeError> {
    let mut world = World::new().await;
    world.publish("one").await.expect("published");
    let received = world.pull(SUBSCRIPTION).await;
    world.restart().await;
    let ids: Vec<_> = received.iter().map(|one| one.ack_id.clone()).collect();
    let (name, service) = (subscription(SUBSCRIPTION), &world.service);
    let held = world.faults.hold("acquire");
    let change = async {
        held.done().await;
        let record = world.state.subscription(&name).await.expect("answers");
        let record = record.expect("exists");
        let log = record.log.clone();
        change(&world, record).await;
        world.log.delete(&log).await.expect("deleted");
        held.release();
    };
    let answer = async {
        match call {
            "Pull" => service.pull(&name, 1, true, None).await.map(drop),
            "StreamingPull" => service.open_stream(stream_start()).await.map(drop),
            "Acknowledge" => service.acknowledge(&name, ids.clone()).await,
            _ => service.modify_ack_deadline(&name, ids.clone(), 0).await,
        }
    };
    tokio::join!(world.in_time(answer), change).0
}

const CALLS: [&str; 4] = ["Pull", "StreamingPull", "Acknowledge", "ModifyAckDeadline"];

#[tokio::test]
async fn a_delivery_that_starts_while_its_subscription_and_log_are_deleted_finds_no_subscription() {
    for call in CALLS {
        let answer = answer_of(call, async |world, record| {
            // As another node does, which this one has not heard of yet.
            let name = &record.subscription.name;
            let deleted = world.state.delete_subscription(name).await;
            deleted.expect("deleted");
        });
        let answer = answer.await;
        assert!(
            matches!(answer, Err(ConsumeError::NotFound { .. })),
            "{call}: {answer:?}"
        );
    }
}

#[tokio::test]
async fn a_delivery_that_starts_while_its_subscription_is_detached_and_its_log_deleted_says_so() {
    for call in CALLS {
        let answer = answer_of(call, async |world, record| {
            let detached = Subscription {
                detached: true,
                ..record.subscription.clone()
            };
            let detached = world.state.update_subscription(&record, &detached).await;
            detached.expect("detached");
        });
        let answer = answer.await;
        let consumes = matches!(call, "Pull" | "StreamingPull");
        assert!(
            matches!(answer, Err(ConsumeError::Detached { .. })) == consumes
                && answer.is_ok() != consumes,
            "{call}: {answer:?}"
        );
    }
}

#[tokio::test]
async fn a_log_that_is_missing_under_its_subscription_is_not_taken_for_a_deletion() {
    let answer = answer_of("Pull", async |_, _| {}).await;
    assert!(
        matches!(
            answer,
            Err(ConsumeError::Delivery(DeliveryError::Ended(
                EndCause::LogGone(_)
            )))
        ),
        "{answer:?}"
    );
}

#[tokio::test]
async fn an_ack_that_meets_the_detachment_of_its_subscription_succeeds() {
    let world = World::new().await;
    world.publish("one").await.expect("published");
    let received = world.pull(SUBSCRIPTION).await;
    // What the delivery stores of its leases must not be what is held.
    world.hand.advance(Duration::from_secs(1));
    let held = world.faults.hold("flush");
    let ack = async { world.ack(&received).await };
    let detach = async {
        held.done().await;
        let name = subscription(SUBSCRIPTION);
        world.service.detach_subscription(&name).await
    };
    let (acknowledged, detached) = tokio::join!(ack, detach);
    detached.expect("detached");
    acknowledged.expect("a no-op");
}

#[tokio::test]
async fn a_change_whose_caller_goes_away_is_seen_by_everybody() {
    let world = World::new().await;
    world.service.topic(&topic()).await.expect("found");
    let held = world.faults.hold("update_topic");
    let service = Arc::clone(&world.service);
    let updating = tokio::spawn(async move {
        let change = TopicChange::KmsKeyName(Some("key".to_owned()));
        service.update_topic(&topic(), vec![change]).await
    });
    held.done().await;
    updating.abort();
    assert!(updating.await.is_err_and(|error| error.is_cancelled()));
    held.release();
    let seen = async {
        let key = || async {
            world
                .service
                .topic(&topic())
                .await
                .expect("found")
                .kms_key_name
        };
        while key().await.as_deref() != Some("key") {
            tokio::task::yield_now().await;
        }
    };
    world.in_time(seen).await;
}

/// Everything that can fail while messages come and go.
const BUSY_CALLS: &[&str] = &[
    "append",
    "read",
    "flush",
    "acquire",
    "watch",
    "positions",
    "trim",
    "bounds",
];

#[tokio::test]
async fn whatever_fails_nothing_published_is_lost_and_nothing_acknowledged_comes_back() {
    for seed in 1..=8 {
        let mut world = World::new().await;
        let (mut published, mut acked, mut tried) =
            (HashSet::new(), HashSet::new(), HashSet::new());
        world.faults.at_random(seed, 25, BUSY_CALLS);
        for round in 0..40 {
            for number in 0..3 {
                let text = format!("{round}/{number}");
                if world.publish(&text).await.is_ok() {
                    published.insert(text);
                }
            }
            let name = subscription(SUBSCRIPTION);
            let pull = world.service.pull(&name, 4, true, None);
            if let Ok((received, _)) = world.in_time(pull).await {
                let texts = texts(&received);
                for text in &texts {
                    assert!(!acked.contains(text), "seed {seed}: {text} came back");
                }
                if !received.is_empty() {
                    tried.extend(texts.iter().cloned());
                    if world.ack(&received).await.is_ok() {
                        acked.extend(texts);
                    }
                }
            }
            if round % 10 == 9 {
                // The stop may not be able to store anything.
                world.restart().await;
            }
        }
        world.faults.heal();
        world.restart().await;
        world.hand.advance(Duration::from_secs(700));
        let mut rest = HashSet::new();
        loop {
            let received = world.pull(SUBSCRIPTION).await;
            if received.is_empty() {
                break;
            }
            rest.extend(texts(&received));
            world.ack(&received).await.expect("nothing fails any more");
        }
        let back: Vec<_> = rest.intersection(&acked).collect();
        assert!(back.is_empty(), "seed {seed}: came back: {back:?}");
        let lost: Vec<_> = published
            .iter()
            .filter(|text| !rest.contains(*text) && !tried.contains(*text))
            .collect();
        assert!(lost.is_empty(), "seed {seed}: lost: {lost:?}");
    }
}

#[tokio::test]
async fn who_asks_for_health_and_goes_away_leaves_the_answer_to_the_next() {
    let world = World::new().await;
    let held = world.faults.hold("check_log");
    let gone = timeout(Duration::from_millis(1), world.service.health()).await;
    assert!(gone.is_err(), "the log does not answer yet");
    held.done().await;
    // One check serves all who ask meanwhile: another one would fail.
    let away = || StoreError::Unavailable("the log is away".to_owned());
    world.faults.fail("check_log", away());
    let (next, ()) = tokio::join!(world.service.health(), async { held.release() });
    assert!(next.is_good(), "{next:?}");
    assert!(
        world.service.health().await.is_good(),
        "it is kept for a while"
    );

    world.hand.advance(Duration::from_secs(1));
    let health = world.service.health().await;
    assert!(!health.is_good());
    let log = health.backends.log.failure.as_deref();
    assert!(
        log.is_some_and(|why| why.contains("the log is away")),
        "{health:?}"
    );
    assert_eq!(health.backends.store.failure, None);
}

#[tokio::test]
async fn a_service_that_stops_is_not_healthy() {
    let world = World::new().await;
    assert!(world.service.health().await.is_good());
    world.in_time(world.service.drain()).await;
    let health = world.service.health().await;
    assert_eq!(health.node, Some("the server is stopping"));
    assert!(!health.is_good());
}
