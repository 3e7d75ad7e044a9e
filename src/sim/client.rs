//! Consumers of a subscription, one after the other in each slot. The first slot has one stream of small credit, which
//! stays as long as its node does; the others pull, come and go, and are slow.

use std::{future::poll_fn, sync::Arc, time::Duration};

use prost::Message as _;
use tokio::time::timeout;

use super::{
    errand::{self, Stream},
    judge::{self, Told},
    node::Node,
    world::World,
};
use crate::{
    clock::Timestamp,
    proto::google::pubsub::v1::PubsubMessage,
    resource::message::ReceivedMessage,
    service::{MessageStream, Receipts, StreamStart},
};

/// Consumes until the run is over; but for the first slot, until all is calm.
pub(super) async fn run(world: Arc<World>, subscription: usize, slot: u64) {
    let client = Client {
        world,
        subscription,
        is_first: slot == 0,
    };
    while client.is_first || !client.world.calm.is_cancelled() {
        client.world.pause(0..=400).await;
        let Some(node) = client.world.any_node() else {
            continue;
        };
        if client.is_first || client.world.dice.chance(60) {
            client.stream(&node).await;
        } else {
            client.pull(&node).await;
        }
    }
}

/// See the module.
struct Client {
    world: Arc<World>,
    subscription: usize,
    is_first: bool,
}

/// What a stream is, to its consumer.
struct Opened {
    consumer: u64,
    deadline_seconds: i32,
    stream: Stream,
    messages: MessageStream,
    receipts: Receipts,
    since: Timestamp,
}

impl Client {
    fn is_calm(&self) -> bool {
        self.world.calm.is_cancelled()
    }

    async fn pull(&self, node: &Arc<Node>) {
        let World { dice, judge, .. } = &*self.world;
        let plan = &self.world.plan.subscriptions[self.subscription];
        let consumer = judge.opened(self.subscription, "", None);
        let (max, at_once) = (dice.within(1..=20) as i32, dice.chance(30));
        let from = self.world.clock.now();
        let pull = node.service.pull(&plan.name, max, at_once, None);
        // Some give up.
        let patience = Duration::from_millis(*dice.pick(&[50, 3_000, 30_000]));
        let pulled = timeout(patience, node.call(pull)).await;
        if let Ok(Some(Ok((received, unsent)))) = pulled {
            drop(unsent);
            let millis = u64::from(plan.ack_deadline_seconds) * 1000;
            self.receive(consumer, from, millis, &received, None);
        }
        judge.closed(self.subscription, consumer);
    }

    async fn stream(&self, node: &Arc<Node>) {
        let World { dice, judge, .. } = &*self.world;
        let plan = &self.world.plan.subscriptions[self.subscription];
        let client = *dice.pick(&["", "a", "b"]);
        let max = if self.is_first {
            dice.within(1..=6)
        } else {
            *dice.pick(&[0, 1, 3, 50])
        };
        let start = StreamStart {
            subscription: plan.name.clone(),
            client_id: client.to_owned(),
            ack_deadline_seconds: *dice.pick(&[10, 12]),
            max_outstanding_messages: max.cast_signed(),
            max_outstanding_bytes: 0,
        };
        let deadline_seconds = start.ack_deadline_seconds;
        let since = self.world.clock.now();
        let consumer = judge.opened(self.subscription, client, (max > 0).then_some(max));
        let patience = Duration::from_secs(30);
        let open = timeout(patience, node.call(node.service.open_stream(start))).await;
        match open {
            Ok(Some(Ok((stream, messages, receipts)))) => {
                let trace = &self.world.trace;
                trace.note(format_args!(
                    "stream {consumer} of {client:?} opens, {max} at most"
                ));
                let opened = Opened {
                    consumer,
                    deadline_seconds,
                    stream: Stream {
                        node: Arc::clone(node),
                        open: Arc::new(stream),
                    },
                    messages,
                    receipts,
                    since,
                };
                self.consume(node, opened).await;
                trace.note(format_args!("stream {consumer} ends"));
            }
            Ok(Some(Err(error))) => self.world.trace.note(format_args!("no stream: {error}")),
            Ok(None) | Err(_) => {}
        }
        judge.closed(self.subscription, consumer);
    }

    /// Takes frames until the stream or its patience ends.
    async fn consume(&self, node: &Arc<Node>, mut opened: Opened) {
        let World { dice, clock, .. } = &*self.world;
        let lives_millis = if self.is_first {
            u64::MAX
        } else {
            dice.within(100..=30_000)
        };
        let until = clock.now().plus_millis(lives_millis);
        // When the last frames were asked for: with the next but one, the first of them had been taken.
        let (mut last, mut before_last) = (opened.since, opened.since);
        loop {
            let mut empty = opened.since;
            let messages = &mut opened.messages;
            let frame = poll_fn(|cx| {
                let frame = messages.poll_frame(cx);
                if frame.is_pending() {
                    empty = clock.now();
                }
                frame
            });
            let deliveries = tokio::select! {
                biased;
                () = node.gate.gone() => return,
                () = self.world.calm.cancelled(), if !self.is_first => return,
                () = clock.sleep_until(until) => return,
                frame = frame => match frame {
                    Ok(deliveries) => deliveries,
                    Err(_) => return,
                },
            };
            let from = self.leased_since(empty).max(before_last);
            (before_last, last) = (last, clock.now());
            let unsent = opened.messages.take_unsent();
            let received = opened.receipts.received(deliveries);
            let millis = u64::from(opened.deadline_seconds.cast_unsigned()) * 1000;
            let stream = Some(&opened.stream);
            self.receive(opened.consumer, from, millis, &received, stream);
            if !self.is_first && dice.chance(20) {
                self.world.pause(0..=15_000).await;
            }
            drop(unsent);
        }
    }

    /// When the lease of a message began, at the earliest, that had not been sent at this time.
    fn leased_since(&self, unsent: Timestamp) -> Timestamp {
        let plan = &self.world.plan.subscriptions[self.subscription];
        if plan.is_exactly_once {
            self.world.judge.stored_before(unsent)
        } else {
            unsent
        }
    }

    /// Takes messages in, and decides what becomes of them.
    fn receive(
        &self,
        consumer: u64,
        from: Timestamp,
        millis: u64,
        received: &[ReceivedMessage],
        stream: Option<&Stream>,
    ) {
        let told: Vec<_> = received.iter().filter_map(told).collect();
        if told.len() < received.len() {
            let judge = &self.world.judge;
            judge.accuse(format!("consumer {consumer} was told what is no message"));
        }
        let positions: Vec<_> = told.iter().map(|told| told.position).collect();
        let Self { subscription, .. } = *self;
        let trace = &self.world.trace;
        trace.note(format_args!(
            "{subscription}: {consumer} gets {positions:?}"
        ));
        let held = self
            .world
            .judge
            .received(subscription, consumer, from, millis, told);
        let is_calm = self.is_calm();
        errand::decide(&self.world, subscription, is_calm, held, stream);
    }
}

/// What a consumer reads of a message.
fn told(received: &ReceivedMessage) -> Option<Told> {
    let encoded = ReceivedMessage::decode(received.encode_to_vec().as_slice()).ok()?;
    let message = PubsubMessage::decode(encoded.message).ok()?;
    Some(Told {
        position: judge::position(&message.message_id)?,
        ack_id: encoded.ack_id,
        attempt: encoded.delivery_attempt.cast_unsigned(),
    })
}
