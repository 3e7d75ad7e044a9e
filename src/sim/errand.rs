//! What consumers do with what they were told: acknowledge soon, late, twice or never, give back, keep for longer; by
//! the stream or by calls of any node; also with ids that are old by then.

use std::{mem, sync::Arc};

use super::{judge::Held, world::World};
use crate::service::{ConsumeError, OpenStream};

/// How often a call is made that fails, while not all is calm.
const ATTEMPTS_MAX: u32 = 4;

/// What becomes of some messages.
#[derive(Clone, Copy, Debug)]
enum Errand {
    Ack,
    AckTwice,
    Nack,
    /// First extends by so many seconds.
    Extend(i32),
    Nothing,
}

/// Decides what becomes of messages, some of which go together.
pub(super) fn decide(
    world: &Arc<World>,
    subscription: usize,
    is_calm: bool,
    mut held: Vec<Held>,
    stream: Option<&Arc<OpenStream>>,
) {
    let dice = &world.dice;
    while !held.is_empty() {
        let count = dice.within(1..=held.len() as u64) as usize;
        let rest = held.split_off(count);
        let mut some = mem::replace(&mut held, rest);
        if dice.chance(20) {
            some.reverse();
        }
        let (errand, wait) = match dice.within(0..=99) {
            _ if is_calm => (Errand::Ack, 0..=20),
            0..50 => (Errand::Ack, 0..=500),
            50..58 => (Errand::Ack, 5_000..=25_000),
            58..64 => (Errand::AckTwice, 0..=2_000),
            64..78 => (Errand::Nack, 0..=2_000),
            78..82 => (Errand::Nack, 9_000..=25_000),
            82..90 => (Errand::Extend(dice.within(1..=30) as i32), 0..=4_000),
            90..94 => (Errand::Extend(dice.within(1..=30) as i32), 9_000..=25_000),
            _ => (Errand::Nothing, 0..=0),
        };
        let by_stream = stream.filter(|_| !is_calm && dice.chance(25));
        let runner = Runner {
            world: Arc::clone(world),
            subscription,
            stream: by_stream.map(Arc::clone),
            held: some,
        };
        tokio::spawn(async move {
            runner.world.pause(wait).await;
            runner.run(errand).await;
        });
    }
}

/// Messages that something becomes of.
struct Runner {
    world: Arc<World>,
    subscription: usize,
    stream: Option<Arc<OpenStream>>,
    held: Vec<Held>,
}

impl Runner {
    async fn run(&self, errand: Errand) {
        match errand {
            Errand::Ack => self.ack().await,
            Errand::AckTwice => {
                self.ack().await;
                self.world.pause(0..=20_000).await;
                self.ack().await;
            }
            Errand::Nack => self.nack().await,
            Errand::Extend(seconds) => {
                self.extend(seconds).await;
                self.world.pause(0..=12_000).await;
                if self.world.dice.chance(70) {
                    self.ack().await;
                }
            }
            Errand::Nothing => {}
        }
    }

    fn ids(&self) -> Vec<String> {
        self.held.iter().map(|held| held.ack_id.clone()).collect()
    }

    fn note(&self, what: &str, answer: Option<&Result<(), ConsumeError>>) {
        let positions: Vec<_> = self
            .held
            .iter()
            .map(|held| (held.position, held.number))
            .collect();
        let answer = match answer {
            Some(Ok(())) => "done".to_owned(),
            Some(Err(error)) => error.to_string(),
            None => "no answer".to_owned(),
        };
        let Self { subscription, .. } = self;
        let trace = &self.world.trace;
        trace.note(format_args!(
            "{subscription}: {what} {positions:?}: {answer}"
        ));
    }

    async fn ack(&self) {
        let World { judge, plan, .. } = &*self.world;
        let ids = self.ids();
        judge.ack_sent(self.subscription, &self.held);
        if let Some(stream) = &self.stream {
            let answer = stream.acknowledge(ids, 0).await.map(drop);
            self.note("ack by stream", Some(&answer));
            return;
        }
        let name = &plan.subscriptions[self.subscription].name;
        for attempt in 1.. {
            let answer = match self.world.any_node() {
                Some(node) => node.call(node.service.acknowledge(name, ids.clone())).await,
                None => None,
            };
            self.note("ack", answer.as_ref());
            if matches!(answer, Some(Ok(()))) {
                judge.acked(self.subscription, &self.held);
                return;
            }
            if attempt >= ATTEMPTS_MAX && !self.world.calm.is_cancelled() {
                return;
            }
            self.world.pause(50..=1_000).await;
        }
    }

    async fn nack(&self) {
        let World { judge, plan, .. } = &*self.world;
        let ids = self.ids();
        judge.nack_sent(self.subscription, &self.held);
        let answer = if let Some(stream) = &self.stream {
            let seconds = vec![0; ids.len()];
            Some(
                stream
                    .modify_ack_deadlines(ids, &seconds, 0)
                    .await
                    .map(drop),
            )
        } else if let Some(node) = self.world.any_node() {
            let name = &plan.subscriptions[self.subscription].name;
            node.call(node.service.modify_ack_deadline(name, ids, 0))
                .await
        } else {
            None
        };
        self.note("nack", answer.as_ref());
        let is_ok = matches!(answer, Some(Ok(())));
        judge.nacked(self.subscription, &self.held, is_ok);
    }

    async fn extend(&self, seconds: i32) {
        let World { judge, plan, .. } = &*self.world;
        let (ids, millis) = (self.ids(), u64::from(seconds.cast_unsigned()) * 1000);
        let sent = self.world.clock.now();
        judge.extension_sent(self.subscription, &self.held, millis);
        let answer = if let Some(stream) = &self.stream {
            let seconds = vec![seconds; ids.len()];
            Some(
                stream
                    .modify_ack_deadlines(ids, &seconds, 0)
                    .await
                    .map(drop),
            )
        } else if let Some(node) = self.world.any_node() {
            let name = &plan.subscriptions[self.subscription].name;
            node.call(node.service.modify_ack_deadline(name, ids, seconds))
                .await
        } else {
            None
        };
        self.note("extension", answer.as_ref());
        let is_ok = matches!(answer, Some(Ok(())));
        judge.extended(self.subscription, &self.held, millis, sent, is_ok);
    }
}
