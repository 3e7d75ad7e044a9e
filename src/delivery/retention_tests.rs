//! What retention costs, counted in calls of the stores and in chunks that they read.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::{
    Drivers,
    changed::Changed,
    retention::Retention,
    sweep::{self, Turn},
};
use crate::{
    clock::{Clock, Timestamp},
    engine::input::LeaseId,
    limits::CHUNK_OFFSETS,
    resource::{
        name::{SubscriptionName, TopicName},
        subscription::{self, Subscription, SubscriptionSettings},
        topic::Topic,
    },
    store::{
        MessageLog, Resources as _,
        cached::CachedResources,
        faulty::{Faults, Faulty, faulty_state},
        log::TopicLog,
        memory::{MemoryLog, MemoryState},
        operations::Operations,
        resources::SubscriptionRecord,
    },
};

pub(super) struct World {
    pub(super) drivers: Drivers,
    state: Arc<MemoryState>,
    pub(super) log: Arc<MemoryLog>,
    pub(super) faults: Faults,
}

impl World {
    fn new() -> Self {
        let (clock, _hand) = Clock::manual(Timestamp::from_millis(1_000_000));
        let faults = Faults::default();
        let state = Arc::new(MemoryState::new().expect("random bytes"));
        let log = Arc::new(MemoryLog::new(clock.clone(), usize::MAX));
        let store = faulty_state(&state, &faults);
        let operations = Arc::new(Operations::new(clock.clone()));
        let resources = CachedResources::new(Arc::clone(&store.resources), Arc::clone(&operations));
        let resources = Arc::new(resources);
        let shared = Faulty::new(&log, &faults);
        let drivers = Drivers::start(store, resources, shared, operations, clock, usize::MAX);
        Self {
            drivers,
            state,
            log,
            faults,
        }
    }

    /// Time stands still, so that retention does nothing by itself once it has seen that there is no topic.
    pub(super) async fn at_rest() -> Self {
        let world = Self::new();
        while world.faults.take_calls().0 == 0 {
            tokio::task::yield_now().await;
        }
        world
    }

    pub(super) async fn topic(&self, name: &str) -> TopicLog {
        let name = TopicName::parse("name", &format!("projects/p/topics/{name}"));
        let name = name.expect("valid");
        let topic = Topic::new(name.clone());
        let topic = self.state.create_topic(&topic, None).await.expect("topic");
        let location = self.log.create(topic, &name).await.expect("log");
        let published = self.state.publish_topic(topic, &location).await;
        published.expect("published");
        let topic = self.state.topic(&name).await.expect("topic");
        topic.expect("is live").log
    }

    pub(super) async fn subscription(
        &self,
        name: &str,
        topic: &TopicLog,
    ) -> Arc<SubscriptionRecord> {
        self.filtered(name, topic, "").await
    }

    /// A subscription with this filter.
    pub(super) async fn filtered(
        &self,
        name: &str,
        topic: &TopicLog,
        filter: &str,
    ) -> Arc<SubscriptionRecord> {
        let name = format!("projects/p/subscriptions/{name}");
        let topics = self.state.logs().await.expect("topics");
        let row = topics
            .iter()
            .find(|row| row.incarnation == topic.incarnation);
        let subscription = Subscription::new(
            SubscriptionName::parse("name", &name).expect("valid"),
            row.expect("the topic's row").name.clone(),
            SubscriptionSettings {
                filter: subscription::filter(filter).expect("a filter"),
                ..SubscriptionSettings::default()
            },
        );
        let starts = [(0, 0)];
        let subscription = subscription.expect("valid");
        let created = self
            .state
            .create_subscription(topic, &subscription, &starts);
        Arc::new(created.await.expect("subscription"))
    }

    /// Appends so many messages, each by itself.
    async fn append(&self, topic: &TopicLog, messages: u64) {
        for _ in 0..messages {
            let message = vec![Bytes::from_static(b"message")];
            self.log
                .append(topic, message.into())
                .await
                .expect("append");
        }
    }

    /// Receives all that is there.
    pub(super) async fn receive(&self, subscription: &Arc<SubscriptionRecord>) -> Vec<LeaseId> {
        let mut leases = Vec::new();
        loop {
            let mut pull = self
                .drivers
                .pull(subscription, 1000, true)
                .await
                .expect("pull");
            let deliveries = pull.answer().await.expect("an answer");
            if deliveries.is_empty() {
                return leases;
            }
            leases.extend(deliveries.iter().map(|delivery| delivery.lease));
        }
    }

    /// Acknowledges so that what is not acknowledged lies between what is.
    async fn leave_holes(&self, topic: &TopicLog, subscription: &Arc<SubscriptionRecord>) {
        self.append(topic, HOLES * 2).await;
        let mut leases = self.receive(subscription).await;
        leases.retain(|lease| lease.offset % 2 == 1);
        assert_eq!(leases.len() as u64, HOLES);
        self.ack(subscription, leases).await;
    }

    pub(super) async fn ack(&self, subscription: &Arc<SubscriptionRecord>, leases: Vec<LeaseId>) {
        let acknowledged = self.drivers.acknowledge(subscription, leases).await;
        acknowledged.expect("acknowledged");
    }

    /// Sweeps to the end. The number of turns, and what they cost.
    async fn sweep(&self, topic: &TopicLog, changed: &Changed) -> (usize, usize, usize) {
        self.faults.take_calls();
        let node = &self.drivers.node;
        let needs = node.store.resources.log_needs(topic.incarnation).await;
        let needs = needs.expect("needs").expect("a topic");
        let begun = sweep::begin(node, needs, changed).await;
        let mut sweep = begun.expect("begun").expect("a sweep");
        let mut turns = 1;
        while sweep.turn(node).await.expect("a turn") == Turn::More {
            turns += 1;
        }
        let (calls, chunks) = self.faults.take_calls();
        (turns, calls, chunks)
    }

    /// How many of the topic's messages are left.
    pub(super) async fn left(&self, topic: &TopicLog) -> usize {
        let read = self.log.read(topic, 0, 0..u64::MAX, usize::MAX).await;
        read.expect("read").records().count()
    }
}

const HOLES: u64 = 50 * CHUNK_OFFSETS;

/// Where these were acknowledged.
fn changed(leases: &[LeaseId]) -> Changed {
    let mut changed = Changed::default();
    for lease in leases {
        changed.note(lease.partition, lease.offset);
    }
    changed
}

#[tokio::test]
async fn a_sweep_costs_what_changed_and_not_what_is_there() {
    let world = World::at_rest().await;
    let topic = world.topic("holes").await;
    let subscription = world.subscription("sub", &topic).await;
    world.leave_holes(&topic, &subscription).await;
    // The first sweep finds them all, some at a time.
    let (turns, calls, chunks) = world.sweep(&topic, &Changed::everything()).await;
    assert_eq!(world.left(&topic).await as u64, HOLES);
    let all_chunks = (2 * HOLES / CHUNK_OFFSETS) as usize;
    assert!((all_chunks..2 * all_chunks).contains(&chunks), "{chunks}");
    assert!(turns < 20 && calls < 30, "{turns} turns, {calls} calls");

    // What is published and acknowledged above them goes, and they are not searched again.
    world.append(&topic, 1000).await;
    let leases = world.receive(&subscription).await;
    assert_eq!(leases.len(), 1000);
    let changed = changed(&leases);
    world.ack(&subscription, leases).await;
    let (turns, calls, chunks) = world.sweep(&topic, &changed).await;
    assert_eq!(world.left(&topic).await as u64, HOLES);
    assert!(turns <= 4 && calls <= 12, "{turns} turns, {calls} calls");
    assert!(chunks <= 5, "{chunks} chunks");
}

#[tokio::test]
async fn a_sweep_at_rest_reads_no_chunk() {
    let world = World::at_rest().await;
    let topic = world.topic("holes").await;
    let subscription = world.subscription("sub", &topic).await;
    world.leave_holes(&topic, &subscription).await;
    let (turns, calls, chunks) = world.sweep(&topic, &Changed::default()).await;
    assert_eq!(chunks, 0);
    assert!(turns <= 3 && calls <= 10, "{turns} turns, {calls} calls");
}

#[tokio::test]
async fn many_subscriptions_cost_no_more_calls_than_one() {
    let world = World::at_rest().await;
    let topic = world.topic("many").await;
    let mut costs = Vec::new();
    for number in 0..50 {
        let subscription = world.subscription(&format!("sub-{number}"), &topic).await;
        if number == 0 {
            world.append(&topic, 100).await;
        }
        let leases = world.receive(&subscription).await;
        world.ack(&subscription, leases).await;
        if number == 0 {
            // Deletes nothing, as another subscription is at the start.
            world.subscription("idle", &topic).await;
            costs.push(world.sweep(&topic, &Changed::everything()).await.1);
        }
    }
    costs.push(world.sweep(&topic, &Changed::everything()).await.1);
    assert_eq!(costs[0], costs[1]);
    assert_eq!(world.left(&topic).await, 100);
}

#[tokio::test]
async fn a_batch_whose_messages_are_acknowledged_one_after_the_other_goes_with_the_last() {
    let world = World::at_rest().await;
    let topic = world.topic("large").await;
    let subscription = world.subscription("sub", &topic).await;
    // Never acknowledged, so that nothing above it is below the cursor.
    world.append(&topic, 1).await;
    let batch = vec![Bytes::from_static(b"message"); 3 * CHUNK_OFFSETS as usize];
    world
        .log
        .append(&topic, batch.into())
        .await
        .expect("append");
    let mut leases = world.receive(&subscription).await;
    leases.remove(0);
    while !leases.is_empty() {
        let some: Vec<_> = leases.drain(..leases.len().min(250)).collect();
        let changed = changed(&some);
        world.ack(&subscription, some).await;
        world.sweep(&topic, &changed).await;
        let left = if leases.is_empty() { 1 } else { 769 };
        assert_eq!(world.left(&topic).await, left);
    }
}

#[tokio::test]
async fn topics_take_turns() {
    let world = World::at_rest().await;
    let large = world.topic("large").await;
    let subscription = world.subscription("sub", &large).await;
    world.leave_holes(&large, &subscription).await;
    let small = world.topic("small").await;
    world.append(&small, 10).await;
    let mut retention = Retention::new(&world.drivers);
    retention.check(Timestamp::from_millis(1_000_000)).await;
    for _ in 0..2 * 3 {
        assert!(retention.turn().await);
    }
    assert_eq!(world.left(&small).await, 0);
    let left = world.left(&large).await as u64;
    assert!(left > HOLES, "the large one was finished first");
    while retention.turn().await {}
    assert_eq!(world.left(&large).await as u64, HOLES);
}

#[tokio::test]
async fn the_server_stops_in_the_middle_of_a_sweep() {
    let world = World::new();
    let topic = world.topic("held").await;
    world.append(&topic, 10).await;
    let held = world.faults.hold("trim");
    tokio::time::timeout(Duration::from_secs(10), async {
        held.done().await;
        world.drivers.drain().await;
    })
    .await
    .expect("the end of the server waits for a sweep");
}
