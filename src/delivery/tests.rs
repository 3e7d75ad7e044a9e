//! Drivers as they start while something else happens.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::FutureExt;

use super::{DeliveryError, Drivers, EndCause, MessageStream, StreamOpening};
use crate::{
    clock::{Clock, ManualClock, Timestamp},
    engine::input::{Issue, LeaseId},
    limits::{DRIVER_IDLE_MILLIS, LEASE_FLUSH_MILLIS, RETENTION_SWEEP_ALL_MILLIS},
    resource::{
        name::{SubscriptionName, TopicName},
        subscription::{Subscription, SubscriptionSettings},
        topic::Topic,
    },
    store::{
        MessageLog, Resources as _, StoreError,
        cached::CachedResources,
        faulty::{Faults, Faulty, faulty_state},
        memory::{MemoryLog, MemoryState},
        operations::Operations,
        resources::SubscriptionRecord,
    },
};

/// Drivers, and a subscription with one message.
pub(super) struct World {
    pub(super) drivers: Drivers,
    pub(super) hand: ManualClock,
    clock: Clock,
    pub(super) state: Arc<MemoryState>,
    pub(super) log: Arc<MemoryLog>,
    pub(super) faults: Faults,
    pub(super) subscription: Arc<SubscriptionRecord>,
}

pub(super) async fn world() -> World {
    let (clock, hand) = Clock::manual(Timestamp::from_millis(1_000_000));
    let faults = Faults::default();
    let state = Arc::new(MemoryState::new().expect("random bytes"));
    let log = Arc::new(MemoryLog::new(clock.clone(), usize::MAX));
    let drivers = drivers(&state, &faults, &log, &clock);
    let name = TopicName::parse("name", "projects/p/topics/top").expect("valid");
    let topic = state.create_topic(&Topic::new(name.clone()), None).await;
    let topic = topic.expect("topic");
    let location = log.create(topic, &name).await.expect("log");
    state.publish_topic(topic, &location).await.expect("topic");
    let topic = state.topic(&name).await.expect("topic");
    let topic = topic.expect("is live").log;
    let subscription = Subscription::new(
        SubscriptionName::parse("name", "projects/p/subscriptions/sub").expect("valid"),
        name,
        SubscriptionSettings::default(),
    );
    let subscription = subscription.expect("valid");
    let created = state.create_subscription(&topic, &subscription, &[(0, 0)]);
    let subscription = Arc::new(created.await.expect("subscription"));
    let message = vec![Bytes::from_static(b"one")];
    log.append(&topic, message.into()).await.expect("append");
    World {
        drivers,
        hand,
        clock,
        state,
        log,
        faults,
        subscription,
    }
}

fn drivers(
    state: &Arc<MemoryState>,
    faults: &Faults,
    log: &Arc<MemoryLog>,
    clock: &Clock,
) -> Drivers {
    let store = faulty_state(state, faults);
    let operations = Arc::new(Operations::new(clock.clone()));
    let resources = CachedResources::new(Arc::clone(&store.resources), Arc::clone(&operations));
    let resources = Arc::new(resources);
    let log = Faulty::new(log, faults);
    Drivers::start(store, resources, log, operations, clock.clone(), usize::MAX)
}

impl World {
    /// Opens a stream that takes one message at a time, for ten minutes.
    pub(super) async fn open_stream(&self) -> MessageStream {
        let opening = StreamOpening {
            client_id: String::new(),
            ack_deadline_millis: 600_000,
            messages_max: Some(1),
            bytes_max: None,
        };
        let stream = self.drivers.stream(&self.subscription, opening).await;
        stream.expect("opened")
    }

    /// Other drivers over the same stores, as after a restart.
    pub(super) fn restarted(self) -> Self {
        let drivers = drivers(&self.state, &self.faults, &self.log, &self.clock);
        Self { drivers, ..self }
    }

    /// How many messages a pull gets, or the error's text.
    pub(super) async fn pull(&self, immediate: bool) -> Result<usize, String> {
        let pull = self.drivers.pull(&self.subscription, 1, immediate).await;
        let answer = pull.map_err(|error| error.to_string())?.answer().await;
        answer
            .map(|deliveries| deliveries.len())
            .map_err(|cause| cause.to_string())
    }
}

#[tokio::test]
async fn a_driver_that_starts_during_an_update_has_the_updated_configuration() {
    let world = world().await;
    let held = world.faults.hold("subscription");
    let update = async {
        held.done().await;
        let longer = Subscription {
            ack_deadline_seconds: 600,
            ..world.subscription.subscription.clone()
        };
        let updated = world
            .state
            .update_subscription(&world.subscription, &longer);
        let updated = updated.await.expect("updated");
        world.drivers.node.tell_config(&updated);
        held.release();
    };
    let (pulled, ()) = tokio::join!(world.pull(false), update);
    assert_eq!(pulled, Ok(1));
    world.hand.advance(Duration::from_secs(30));
    assert_eq!(world.pull(true).await, Ok(0));
}

#[tokio::test]
async fn what_waits_behind_the_end_of_a_subscription_hears_why_it_ended() {
    let world = world().await;
    let held = world.faults.hold("acquire");
    let end = async {
        held.done().await;
        let lease = LeaseId {
            generation: 1,
            partition: 0,
            offset: 0,
            number: 1,
            issue: Issue::default(),
        };
        let id = world.subscription.id;
        let end = world.drivers.end(id, EndCause::Deleted);
        let ack = world.drivers.acknowledge(&world.subscription, vec![lease]);
        let release = async { held.release() };
        // In the order in which they are here.
        tokio::join!(biased; end, ack, release).1
    };
    let (pulled, acknowledged) = tokio::join!(world.pull(false), end);
    assert_eq!(pulled, Err(EndCause::Deleted.to_string()));
    assert!(matches!(
        acknowledged,
        Err(DeliveryError::Ended(EndCause::Deleted))
    ));
}

#[tokio::test]
async fn what_an_ack_makes_room_for_while_the_server_stops_is_available_at_the_next_start() {
    let world = world().await;
    let second = vec![Bytes::from_static(b"two")];
    let appended = world
        .log
        .append(&world.subscription.log, second.into())
        .await;
    appended.expect("append");
    let mut stream = world.open_stream().await;
    let frame = std::future::poll_fn(|cx| stream.poll_frame(cx)).await;
    let lease = frame.expect("a frame")[0].lease;
    let ack = world.drivers.acknowledge(&world.subscription, vec![lease]);
    let (acknowledged, ()) = tokio::join!(biased; ack, world.drivers.drain());
    acknowledged.expect("acknowledged");
    assert_eq!(world.restarted().pull(true).await, Ok(1));
}

#[tokio::test]
async fn what_a_consumer_leaves_behind_as_the_server_stops_is_available_at_the_next_start() {
    let world = world().await;
    let stream = world.open_stream().await;
    // Only nothing is left once the stream's message is on its way.
    assert_eq!(world.pull(true).await, Ok(0));
    drop(stream);
    world.drivers.drain().await;
    assert_eq!(world.restarted().pull(true).await, Ok(1));
}

#[tokio::test]
async fn while_clocks_disagree_what_is_too_old_is_delivered_and_stays_in_the_log() {
    let world = world().await;
    let log = &world.subscription.log;
    let start = async || world.log.bounds(log).await.expect("bounds")[0].start;
    let passes = async |millis| {
        world.hand.advance(Duration::from_millis(millis));
        for _ in 0..1_000 {
            tokio::task::yield_now().await;
        }
    };
    world.hand.set_agrees(false);
    passes(8 * 24 * 3_600_000).await;
    assert_eq!((world.pull(true).await, start().await), (Ok(1), 0));
    passes(RETENTION_SWEEP_ALL_MILLIS).await;
    assert_eq!((world.pull(true).await, start().await), (Ok(1), 0));

    // The lease ends, and what runs already hears that messages expire again.
    world.hand.set_agrees(true);
    passes(11_000).await;
    assert_eq!(world.pull(true).await, Ok(0));
    passes(RETENTION_SWEEP_ALL_MILLIS).await;
    assert_eq!(start().await, 1);
}

/// The bodies of the stream's next frame, if it has one by now.
fn next_frame(stream: &mut MessageStream) -> Option<Result<Vec<Bytes>, EndCause>> {
    let frame = std::future::poll_fn(|cx| stream.poll_frame(cx)).now_or_never()?;
    Some(frame.map(|frame| frame.into_iter().map(|it| it.body).collect()))
}

#[tokio::test]
async fn what_is_acknowledged_while_it_waits_in_a_slow_stream_is_not_sent_and_makes_room() {
    let world = world().await;
    let mut slow = world.open_stream().await;
    assert_eq!(world.pull(true).await, Ok(0), "the slow stream has it");
    let second = vec![Bytes::from_static(b"two")];
    let appended = world
        .log
        .append(&world.subscription.log, second.into())
        .await;
    appended.expect("append");
    let lease = LeaseId {
        generation: 1,
        partition: 0,
        offset: 0,
        number: 1,
        issue: Issue::default(),
    };
    let acknowledged = world.drivers.acknowledge(&world.subscription, vec![lease]);
    acknowledged.await.expect("acknowledged");
    assert_eq!(
        world.pull(true).await,
        Ok(0),
        "the slow stream has the next"
    );
    assert_eq!(
        next_frame(&mut slow),
        Some(Ok(vec![Bytes::from_static(b"two")]))
    );
    assert_eq!(next_frame(&mut slow), None);
}

#[tokio::test]
async fn what_another_consumer_has_by_now_is_not_sent_by_a_slow_stream() {
    let world = world().await;
    let mut slow = world.open_stream().await;
    assert_eq!(world.pull(true).await, Ok(0), "the slow stream has it");
    world.hand.advance(Duration::from_mins(10));
    assert_eq!(world.pull(true).await, Ok(1));
    assert_eq!(next_frame(&mut slow), None);
}

#[tokio::test]
async fn what_is_acknowledged_in_the_pass_in_which_it_was_leased_is_not_sent() {
    let world = world().await;
    assert_eq!(world.pull(true).await, Ok(1));
    let delivery = |number| LeaseId {
        generation: 1,
        partition: 0,
        offset: 0,
        number,
        issue: Issue {
            epoch: 1,
            exactly_once: false,
        },
    };
    let nack = vec![(delivery(1), 0)];
    let nacked = world.drivers.modify_deadlines(&world.subscription, nack);
    nacked.await.expect("nacked");
    // Answered when the message was read again.
    let ack = |number| {
        let leases = vec![delivery(number)];
        world.drivers.acknowledge(&world.subscription, leases)
    };
    let other = LeaseId {
        generation: 2,
        ..delivery(1)
    };
    let answered = world.drivers.acknowledge(&world.subscription, vec![other]);
    answered.await.expect("answered");
    // The driver finds both commands when it comes to run.
    let (mut stream, acknowledged) = tokio::join!(biased; world.open_stream(), ack(2));
    acknowledged.expect("acknowledged");
    assert_eq!(next_frame(&mut stream), None);
}

#[tokio::test]
async fn what_waits_in_a_slow_stream_is_not_sent_when_its_subscription_ends() {
    let world = world().await;
    let mut slow = world.open_stream().await;
    assert_eq!(world.pull(true).await, Ok(0), "the slow stream has it");
    let id = world.subscription.id;
    world.drivers.end(id, EndCause::Deleted).await;
    assert_eq!(next_frame(&mut slow), Some(Err(EndCause::Deleted)));
}

impl World {
    /// Returns once this node owns nothing. Time that tasks sleep passes meanwhile.
    async fn all_is_given_up(&self) {
        let given_up = async {
            while !self.faults.owned().is_empty() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let given_up = tokio::time::timeout(Duration::from_secs(10), given_up).await;
        given_up.expect("a subscription that is not delivered is given up");
    }
}

#[tokio::test(start_paused = true)]
async fn a_subscription_of_which_nobody_knows_whether_it_was_taken_over_is_given_up() {
    let world = world().await;
    let lost = || StoreError::Uncertain("no answer".to_owned());
    world.faults.fail("acquire", lost());
    // Neither the question nor the answer to it comes through at first.
    world.faults.fail("owned", lost());
    world.faults.fail("release", lost());
    world.pull(true).await.expect_err("not taken over");
    assert_eq!(world.faults.owned(), [world.subscription.id]);
    world.all_is_given_up().await;
    assert_eq!(world.pull(true).await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn a_subscription_that_cannot_be_loaded_is_given_up_though_the_store_fails_too() {
    let world = world().await;
    let away = || StoreError::Unavailable("away".to_owned());
    world.faults.fail("watch", away());
    world.faults.fail("release", away());
    world.faults.fail("release", away());
    world.pull(true).await.expect_err("not loaded");
    assert_eq!(world.faults.owned(), [world.subscription.id]);
    world.all_is_given_up().await;
}

#[tokio::test(start_paused = true)]
async fn a_delivery_that_ends_for_any_cause_gives_its_subscription_up() {
    let world = world().await;
    for cause in [
        EndCause::lease_lost(),
        EndCause::Detached,
        EndCause::Damaged("a page".to_owned()),
    ] {
        world.pull(true).await.expect("pulled");
        assert_eq!(world.faults.owned(), [world.subscription.id]);
        world.drivers.end(world.subscription.id, cause).await;
        world.all_is_given_up().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_new_driver_took_over_is_not_given_up_for_an_older_one() {
    let world = world().await;
    let lost = || StoreError::Uncertain("no answer".to_owned());
    world.faults.fail("acquire", lost());
    // Whether it was taken over is asked again once the new driver runs.
    world.faults.fail("owned", lost());
    world.pull(true).await.expect_err("not taken over");
    assert_eq!(world.pull(true).await, Ok(1));
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(world.faults.owned(), [world.subscription.id]);
}

#[tokio::test(start_paused = true)]
async fn an_owner_without_consumers_gives_up_what_is_leased_once_the_leases_are_stored() {
    let world = world().await;
    let mut stream = world.open_stream().await;
    assert_eq!(world.pull(true).await, Ok(0), "the stream has it");
    let sent = next_frame(&mut stream).expect("a frame").expect("messages");
    assert_eq!(sent.len(), 1);
    drop(stream);
    assert_eq!(world.pull(true).await, Ok(0), "it is leased");
    for millis in [LEASE_FLUSH_MILLIS, DRIVER_IDLE_MILLIS] {
        world.hand.advance(Duration::from_millis(millis));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    world.all_is_given_up().await;
    // Whoever has it next knows of the lease.
    let world = world.restarted();
    assert_eq!(world.pull(true).await, Ok(0));
    world.hand.advance(Duration::from_mins(10));
    assert_eq!(world.pull(true).await, Ok(1));
}
