//! Sweeps of logs that are not, or may not be, those of which the stored cursors speak.

use bytes::Bytes;

use super::{
    EndCause,
    changed::Changed,
    retention_tests::World,
    sweep::{self, Sweep, Turn},
};
use crate::store::{MessageLog as _, log::TopicLog};

/// Over a log that may lose records, and one topic.
async fn world() -> (World, TopicLog) {
    let world = World::at_rest().await;
    world.faults.let_log_lose_records();
    let topic = world.topic("top").await;
    (world, topic)
}

impl World {
    async fn append_texts(&self, topic: &TopicLog, texts: &[&'static str]) {
        for text in texts {
            let message = vec![Bytes::from_static(text.as_bytes())];
            let appended = self.log.append(topic, message.into()).await;
            appended.expect("appended");
        }
    }

    async fn begin_sweep(&self, topic: &TopicLog) -> Option<Sweep> {
        let node = &self.drivers.node;
        let needs = node.store.resources.log_needs(topic.incarnation).await;
        let needs = needs.expect("needs").expect("a topic");
        let begun = sweep::begin(node, needs, &Changed::everything()).await;
        begun.expect("begun")
    }

    async fn end_sweep(&self, sweep: &mut Sweep) {
        while sweep.turn(&self.drivers.node).await.expect("a turn") == Turn::More {}
    }

    /// How many messages are left after a sweep of everything.
    async fn left_after_sweep(&self, topic: &TopicLog) -> usize {
        let mut sweep = self.begin_sweep(topic).await.expect("a sweep");
        self.end_sweep(&mut sweep).await;
        self.left(topic).await
    }
}

/// Messages, encoded, of which none is another one.
const OLD: [&str; 3] = ["\n\x01a", "\n\x01b", "\n\x01c"];
const NEW: [&str; 5] = ["\n\x01p", "\n\x01q", "\n\x01r", "\n\x01s", "\n\x01t"];

#[tokio::test]
async fn what_a_log_has_that_was_made_again_is_not_deleted_by_old_cursors() {
    let (world, topic) = world().await;
    let idle = world.subscription("idle", &topic).await;
    let used = world.subscription("used", &topic).await;
    world.append_texts(&topic, &OLD).await;
    for subscription in [&idle, &used] {
        let leases = world.receive(subscription).await;
        world.ack(subscription, leases).await;
    }
    world.log.lose_unseen(topic.incarnation, 0);
    world.append_texts(&topic, &NEW).await;
    assert_eq!(world.left_after_sweep(&topic).await, NEW.len());

    // One is voided, and has done with the first messages that the log has now.
    world.drivers.end(used.id, EndCause::LogChanged).await;
    let leases = world.receive(&used).await;
    assert_eq!(leases.len(), NEW.len());
    world.ack(&used, leases).await;
    assert_eq!(world.left_after_sweep(&topic).await, NEW.len());

    world.drivers.end(idle.id, EndCause::LogChanged).await;
    let leases = world.receive(&idle).await;
    assert_eq!(leases.len(), NEW.len());
    world.ack(&idle, leases).await;
    assert_eq!(world.left_after_sweep(&topic).await, 0);
}

#[tokio::test]
async fn what_was_read_on_in_another_log_says_nothing_of_what_lies_below() {
    let (world, topic) = world().await;
    let subscription = world.subscription("sub", &topic).await;
    world.append_texts(&topic, &OLD).await;
    let leases = world.receive(&subscription).await;
    world.ack(&subscription, leases).await;
    world.log.lose_unseen(topic.incarnation, 0);
    world.append_texts(&topic, &NEW).await;
    let leases = world.receive(&subscription).await;
    assert_eq!(leases.len(), NEW.len() - OLD.len(), "nobody has noticed");
    world.ack(&subscription, leases).await;
    assert_eq!(world.left_after_sweep(&topic).await, NEW.len());
}

#[tokio::test]
async fn a_log_that_is_made_again_during_a_sweep_is_not_trimmed() {
    let (world, topic) = world().await;
    let subscription = world.subscription("sub", &topic).await;
    world.append_texts(&topic, &OLD).await;
    let leases = world.receive(&subscription).await;
    world.ack(&subscription, leases).await;
    let mut sweep = world.begin_sweep(&topic).await.expect("a sweep");
    world.log.lose_unseen(topic.incarnation, 0);
    world.append_texts(&topic, &NEW).await;
    world.end_sweep(&mut sweep).await;
    assert_eq!(world.left(&topic).await, NEW.len());
}

#[tokio::test]
async fn a_log_that_ends_below_a_cursor_is_not_trimmed() {
    // No record tells here, as in a log of which an older copy was put back.
    let world = World::at_rest().await;
    let topic = world.topic("top").await;
    let subscription = world.subscription("sub", &topic).await;
    world.append_texts(&topic, &OLD).await;
    let leases = world.receive(&subscription).await;
    world.ack(&subscription, leases).await;
    world.log.lose(topic.incarnation, 0);
    world.append_texts(&topic, &NEW[..2]).await;
    assert_eq!(world.left_after_sweep(&topic).await, 2);
}

#[tokio::test]
async fn a_log_that_only_grows_is_trimmed() {
    let (world, topic) = world().await;
    let subscription = world.subscription("sub", &topic).await;
    world.append_texts(&topic, &OLD).await;
    let leases = world.receive(&subscription).await;
    world.ack(&subscription, leases).await;
    // More is published and acknowledged between the question where the log ends and that for the cursors.
    let held = world.faults.hold("offset_at");
    let grow = async {
        held.done().await;
        world.append_texts(&topic, &NEW).await;
        let leases = world.receive(&subscription).await;
        assert_eq!(leases.len(), NEW.len());
        world.ack(&subscription, leases).await;
        held.release();
    };
    let (left, ()) = tokio::join!(world.left_after_sweep(&topic), grow);
    assert_eq!(left, NEW.len());
    assert_eq!(world.left_after_sweep(&topic).await, 0);
}
