//! Filtered subscriptions that nobody uses.

use std::sync::Arc;

use super::{
    changed::Changed,
    command::Skipped,
    retention::Retention,
    retention_tests::World,
    skim::{self, Skim},
    sweep::Turn,
};
use crate::{
    engine::input::LeaseId,
    resource::message::{self, Parts},
    store::{MessageLog as _, log::TopicLog, positions::ReadFrom, resources::SubscriptionRecord},
};

/// Messages in the log.
const MESSAGES: u64 = 2000;

impl World {
    /// Appends messages, each by itself, whose attribute is their number modulo 100.
    async fn append_kinds(&self, topic: &TopicLog, messages: u64) {
        for number in 0..messages {
            let kind = (number % 100).to_string();
            let message = message::encode(&Parts {
                attributes: vec![("kind", &kind)],
                ..Parts::default()
            });
            let appended = self.log.append(topic, vec![message].into()).await;
            appended.expect("append");
        }
    }

    /// A subscription that wants one message in a hundred.
    async fn of_kind(&self, kind: u64, topic: &TopicLog) -> Arc<SubscriptionRecord> {
        let filter = format!("attributes.kind = \"{kind}\"");
        self.filtered(&format!("kind-{kind}"), topic, &filter).await
    }

    async fn begin(&self, topic: &TopicLog, changed: Changed) -> Option<Skim> {
        let node = &self.drivers.node;
        let needs = node.store.resources.log_needs(topic.incarnation).await;
        let needs = needs.expect("needs").expect("a topic");
        skim::begin(node, &needs, changed)
            .await
            .expect("begun")
            .ok()
    }

    /// Skims all there is; whether there was anything.
    async fn skim(&self, topic: &TopicLog, changed: Changed) -> bool {
        let Some(mut skim) = self.begin(topic, changed).await else {
            return false;
        };
        while skim.turn(&self.drivers).await.expect("a turn") == Turn::More {}
        true
    }

    async fn cursor(&self, subscription: &SubscriptionRecord) -> u64 {
        let asked = [ReadFrom {
            subscription: subscription.id,
            offset: 0,
        }];
        let positions = self.drivers.node.store.positions.as_ref();
        let read = positions.positions(&asked, 0, 0, 1).await;
        read.expect("positions").states[&subscription.id].cursor
    }

    /// Until no driver is left, while time stands still.
    async fn nobody_owns(&self, subscription: &SubscriptionRecord) {
        while self.drivers.node.registry.is_running(subscription.id) {
            tokio::task::yield_now().await;
        }
    }
}

fn offsets(leases: &[LeaseId]) -> Vec<u64> {
    leases.iter().map(|lease| lease.offset).collect()
}

#[tokio::test]
async fn what_the_filters_of_unused_subscriptions_leave_out_is_deleted() {
    let world = World::at_rest().await;
    let topic = world.topic("top").await;
    let seven = world.of_kind(7, &topic).await;
    let eight = world.of_kind(8, &topic).await;
    world.append_kinds(&topic, MESSAGES).await;
    let mut retention = Retention::new(&world.drivers);
    retention.check(world.drivers.node.clock.now()).await;
    while retention.turn().await {}
    assert_eq!(world.left(&topic).await as u64, 2 * MESSAGES / 100);
    for (kind, subscription) in [(7, seven), (8, eight)] {
        world.nobody_owns(&subscription).await;
        assert_eq!(world.cursor(&subscription).await, kind);
        let leases = world.receive(&subscription).await;
        assert!(
            offsets(&leases)
                .into_iter()
                .eq((kind..MESSAGES).step_by(100))
        );
    }
}

#[tokio::test]
async fn the_log_is_read_once_for_all_of_them_and_not_again() {
    let world = World::at_rest().await;
    let topic = world.topic("top").await;
    for kind in 0..50 {
        world.of_kind(kind, &topic).await;
    }
    world.append_kinds(&topic, MESSAGES).await;
    let mut skim = world.begin(&topic, Changed::default()).await.expect("much");
    world.faults.take_calls();
    assert_eq!(skim.turn(&world.drivers).await.expect("a turn"), Turn::More);
    assert_eq!(world.faults.take_calls().0, 1);
    while skim.turn(&world.drivers).await.expect("a turn") == Turn::More {}
    assert!(!world.skim(&topic, Changed::everything()).await);
    // Little more is not worth it, but now and then.
    world.append_kinds(&topic, MESSAGES / 8).await;
    assert!(!world.skim(&topic, Changed::default()).await);
    assert!(world.skim(&topic, Changed::everything()).await);
}

#[tokio::test]
async fn one_that_wants_everything_is_searched_once() {
    let world = World::at_rest().await;
    let topic = world.topic("top").await;
    let all = world.filtered("all", &topic, "attributes:kind").await;
    world.append_kinds(&topic, 100).await;
    assert!(world.skim(&topic, Changed::everything()).await);
    assert!(!world.skim(&topic, Changed::everything()).await);
    assert_eq!(world.cursor(&all).await, 0);
    assert_eq!(world.receive(&all).await.len(), 100);
}

#[tokio::test]
async fn a_consumer_that_comes_meanwhile_is_served() {
    let world = World::at_rest().await;
    let topic = world.topic("top").await;
    let seven = world.of_kind(7, &topic).await;
    world.append_kinds(&topic, MESSAGES).await;
    let held = world.faults.hold("flush");
    let skim = world.skim(&topic, Changed::default());
    let received = async {
        held.done().await;
        let leases = world.receive(&seven).await;
        held.release();
        leases
    };
    let (_, leases) = tokio::join!(skim, received);
    assert!(offsets(&leases).into_iter().eq((7..MESSAGES).step_by(100)));
    world.ack(&seven, leases).await;
    // Of one that is used, nothing is searched.
    world.append_kinds(&topic, MESSAGES).await;
    assert!(!world.skim(&topic, Changed::everything()).await);
}

#[tokio::test]
async fn what_was_found_of_another_state_is_not_skipped() {
    let world = World::at_rest().await;
    let topic = world.topic("top").await;
    let seven = world.of_kind(7, &topic).await;
    world.append_kinds(&topic, 10).await;
    let skip = async |generation| {
        let skipped = Skipped {
            partition: 0,
            generation,
            offsets: vec![0..3, 3..7],
            last: None,
        };
        world
            .drivers
            .skip(&seven, vec![skipped])
            .await
            .expect("taken");
        world.nobody_owns(&seven).await;
        world.cursor(&seven).await
    };
    assert_eq!(skip(2).await, 0);
    assert_eq!(skip(1).await, 7);
}
