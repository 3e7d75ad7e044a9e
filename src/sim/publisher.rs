//! Publishes messages of several keys and colours, and does not always hear what became of them.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    plan::{COLOUR, COLOURS, topic},
    world::World,
};
use crate::{
    resource::{
        message::{self, Parts},
        published::Published,
    },
    service::Service,
};

/// Messages of a run, all in all, but for those before it.
const MESSAGES_MAX: u64 = 300;

/// Publishes until all is calm.
pub(super) async fn run(world: Arc<World>) {
    let mut published = 0;
    while published < MESSAGES_MAX && !world.calm.is_cancelled() {
        world.pause(0..=2_000).await;
        let Some(node) = world.any_node() else {
            continue;
        };
        let count = world.dice.within(1..=15);
        published += count;
        let messages = (0..count).map(|_| random_message(&world)).collect();
        let topic = topic();
        let publish = node.service.publish(&topic, scanned(messages));
        match node.call(publish).await {
            Some(Ok(ids)) => {
                world.trace.note(format_args!("published {ids:?}"));
                world.judge.published(&ids);
            }
            Some(Err(error)) => world.trace.note(format_args!("not published: {error}")),
            None => world.trace.note(format_args!("perhaps published {count}")),
        }
    }
}

/// Publishes what lies in the log before there is a subscription.
pub(super) async fn publish_before(world: &World, service: &Service) {
    for &count in &world.plan.before {
        let messages = (0..count).map(|_| message(world, "")).collect();
        let published = service.publish(&topic(), scanned(messages)).await;
        published.expect("published");
    }
}

fn random_message(world: &World) -> Bytes {
    let key = world.dice.pick(&world.plan.keys).as_str();
    message(world, key)
}

fn message(world: &World, key: &str) -> Bytes {
    let colour = *world.dice.pick(&COLOURS);
    message::encode(&Parts {
        // Tells it from all others, also as a dead letter.
        data: &world.next_message().to_be_bytes(),
        attributes: vec![(COLOUR, colour)],
        ordering_key: key,
    })
}

fn scanned(messages: Vec<Bytes>) -> Published {
    let bytes = messages.iter().map(Bytes::len).sum();
    Published::scan(messages, bytes).expect("messages")
}
