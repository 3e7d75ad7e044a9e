//! What consumers do with what they were told: acknowledge soon, late, twice or never, give back, keep for longer; by
//! the stream or by calls of any node; also with ids that are old by then. What they are answered is judged.

use std::{mem, sync::Arc};

use super::{answer::Answer, judge::Held, node::Node, world::World};
use crate::service::OpenStream;

/// How often a call is made that fails, while not all is calm.
const ATTEMPTS_MAX: u32 = 4;

/// A stream that is open, and the node that it leads to.
#[derive(Clone)]
pub(super) struct Stream {
    pub(super) node: Arc<Node>,
    pub(super) open: Arc<OpenStream>,
}

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
    stream: Option<&Stream>,
) {
    let World { dice, plan, .. } = &**world;
    let plan = &plan.subscriptions[subscription];
    while !held.is_empty() {
        let count = dice.within(1..=held.len() as u64) as usize;
        let rest = held.split_off(count);
        let mut some = mem::replace(&mut held, rest);
        if dice.chance(20) {
            some.reverse();
        }
        let (errand, wait) = match dice.within(0..=99) {
            _ if is_calm => (Errand::Ack, 0..=20),
            _ if plan.collects() => (Errand::Ack, 0..=500),
            _ if plan.dead_letter.is_some() && dice.chance(60) => (Errand::Nack, 0..=500),
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
            stream: by_stream.cloned(),
            held: some,
        };
        tokio::spawn(async move {
            runner.world.pause(wait).await;
            runner.run(errand).await;
        });
    }
}

/// Acknowledges once more, by the same ids, what consumers did not hear the end of, until they have.
pub(super) async fn settle(world: Arc<World>, subscription: usize) {
    loop {
        world.pause(500..=2_000).await;
        let held = world.judge.unsettled(subscription);
        if !held.is_empty() {
            Runner::of_calls(&world, subscription, held).ack().await;
        }
    }
}

/// Acknowledges everything once more by the id that was confirmed.
pub(super) async fn repeat(world: &Arc<World>, subscription: usize) {
    let held = world.judge.confirmed(subscription);
    if !held.is_empty() {
        Runner::of_calls(world, subscription, held).ack().await;
    }
}

/// Messages that something becomes of.
struct Runner {
    world: Arc<World>,
    subscription: usize,
    stream: Option<Stream>,
    held: Vec<Held>,
}

/// What is said of messages.
#[derive(Clone, Copy, Debug)]
enum Said {
    Ack,
    /// To be kept for so many seconds from now.
    Keep(i32),
}

impl Runner {
    fn of_calls(world: &Arc<World>, subscription: usize, held: Vec<Held>) -> Self {
        Self {
            world: Arc::clone(world),
            subscription,
            stream: None,
            held,
        }
    }

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

    /// Says so of messages, by the stream if there is one and this is the first time.
    async fn say(&self, said: Said, held: &[Held], is_first: bool) -> Vec<Answer> {
        let ids: Vec<_> = held.iter().map(|held| held.ack_id.clone()).collect();
        let stream = self.stream.as_ref().filter(|_| is_first);
        let answers = if let Some(stream) = stream {
            self.request(said, &ids, stream).await
        } else {
            self.call(said, &ids).await
        };
        let by = if stream.is_some() { " by stream" } else { "" };
        let said_of = held.iter().zip(&answers).map(|(held, answer)| {
            let Held {
                position, number, ..
            } = held;
            format!("{position:?}#{number} {answer:?}")
        });
        let said_of = said_of.collect::<Vec<_>>().join(", ");
        let Self { subscription, .. } = self;
        self.world
            .trace
            .note(format_args!("{subscription}: {said:?}{by}: {said_of}"));
        answers
    }

    async fn call(&self, said: Said, ids: &[String]) -> Vec<Answer> {
        let Some(node) = self.world.any_node() else {
            return Answer::of_call(ids, None);
        };
        let name = &self.world.plan.subscriptions[self.subscription].name;
        let answer = match said {
            Said::Ack => {
                node.call(node.service.acknowledge(name, ids.to_vec()))
                    .await
            }
            Said::Keep(seconds) => {
                let modified = node
                    .service
                    .modify_ack_deadline(name, ids.to_vec(), seconds);
                node.call(modified).await
            }
        };
        Answer::of_call(ids, answer)
    }

    async fn request(&self, said: Said, ids: &[String], stream: &Stream) -> Vec<Answer> {
        let answers = async {
            let open = &stream.open;
            let judging = match said {
                Said::Ack => open.acknowledge(ids.to_vec(), 0).await,
                Said::Keep(seconds) => {
                    let seconds = vec![seconds; ids.len()];
                    open.modify_ack_deadlines(ids.to_vec(), &seconds, 0).await
                }
            };
            match judging {
                Ok(Some(judging)) => Answer::of_request(ids, judging.ended().await),
                // Nobody hears of an ack where delivery is at least once.
                Ok(None) if !matches!(said, Said::Ack) => vec![Answer::Done; ids.len()],
                Ok(None) | Err(_) => vec![Answer::Unknown; ids.len()],
            }
        };
        let answers = stream.node.call(answers).await;
        answers.unwrap_or_else(|| vec![Answer::Unknown; ids.len()])
    }

    /// Acknowledges, and again what may be tried again.
    async fn ack(&self) {
        let World { judge, plan, .. } = &*self.world;
        let is_exactly_once = plan.subscriptions[self.subscription].is_exactly_once;
        let mut left = self.held.clone();
        for attempt in 1.. {
            judge.ack_sent(self.subscription, &left);
            let answers = self.say(Said::Ack, &left, attempt == 1).await;
            judge.ack_answered(self.subscription, &left, &answers);
            if self.stream.is_some() && !is_exactly_once {
                return;
            }
            let mut again = answers
                .iter()
                .map(|answer| matches!(answer, Answer::Unordered | Answer::Unknown));
            left.retain(|_| again.next().unwrap_or_default());
            let gives_up = attempt >= ATTEMPTS_MAX && !self.world.calm.is_cancelled();
            if left.is_empty() || gives_up {
                return;
            }
            self.world.pause(50..=1_000).await;
        }
    }

    async fn nack(&self) {
        let World { judge, clock, .. } = &*self.world;
        let sent = clock.now();
        judge.nack_sent(self.subscription, &self.held);
        let answers = self.say(Said::Keep(0), &self.held, true).await;
        judge.nacked(self.subscription, &self.held, &answers, sent);
    }

    async fn extend(&self, seconds: i32) {
        let World { judge, clock, .. } = &*self.world;
        let millis = u64::from(seconds.cast_unsigned()) * 1000;
        let sent = clock.now();
        judge.extension_sent(self.subscription, &self.held, millis);
        let answers = self.say(Said::Keep(seconds), &self.held, true).await;
        judge.extended(self.subscription, &self.held, millis, &answers, sent);
    }
}
