//! What a run consists of: the stores, the nodes over them, and what happens to these.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{
    client,
    dice::Dice,
    errand,
    judge::Judge,
    log::SharedLog,
    node::Node,
    plan::{Plan, Trouble, dead_letters, topic},
    ports::Cluster,
    publisher,
    trace::Trace,
};
use crate::{
    clock::{Clock, Timestamp},
    resource::{name::TopicName, topic::Topic},
    service::Service,
    store::{Resources as _, log::TopicLog, memory::MemoryState},
};

/// How long it may take until everything is acknowledged once nothing goes wrong any more, milliseconds: leases and
/// backoffs end long before.
const CALM_MILLIS_MAX: u64 = 20 * 60 * 1000;
/// How long nobody may get what was acknowledged, at the end, milliseconds.
const QUIET_MILLIS: u64 = 20_000;

/// See the module.
pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) dice: Dice,
    pub(super) clock: Clock,
    pub(super) trace: Trace,
    pub(super) judge: Judge,
    pub(super) state: Arc<MemoryState>,
    pub(super) log: Arc<SharedLog>,
    pub(super) cluster: Arc<Mutex<Cluster>>,
    nodes: Mutex<Vec<Option<Arc<Node>>>>,
    lives: AtomicU64,
    messages: AtomicU64,
    /// From then on nothing goes wrong, and consumers behave.
    pub(super) calm: CancellationToken,
}

impl World {
    pub(super) fn new(seed: u64) -> Arc<Self> {
        let clock = Clock::of_runtime(Timestamp::from_millis(1_000_000_000_000));
        let trace = Trace::new(clock.clone());
        let dice = Dice::seeded(seed);
        let judge = Judge::new(&clock, &trace);
        let plan = Plan::new(&dice);
        let log = SharedLog::new(plan.partitions, usize::MAX, &clock, &judge, &dice);
        Arc::new(Self {
            nodes: Mutex::new((0..plan.nodes).map(|_| None).collect()),
            plan,
            dice,
            clock,
            trace,
            judge,
            state: Arc::new(MemoryState::with_ack_key([7; 16])),
            log: Arc::new(log),
            cluster: Arc::default(),
            lives: AtomicU64::new(0),
            messages: AtomicU64::new(0),
            calm: CancellationToken::new(),
        })
    }

    /// Lets everything happen that is to.
    pub(super) async fn run(self: &Arc<Self>) {
        self.start(0);
        let (log, letters) = self.prepare().await;
        for number in 1..self.plan.nodes {
            self.start(number);
        }
        let publisher = tokio::spawn(publisher::run(Arc::clone(self)));
        for (number, subscribed) in self.plan.subscriptions.iter().enumerate() {
            for slot in 0..subscribed.consumers {
                tokio::spawn(client::run(Arc::clone(self), number, slot));
            }
        }
        let end = self.clock.now().plus_millis(self.plan.busy_millis);
        while self.clock.now() < end && self.judge.violation().is_none() {
            self.pause(500..=5_000).await;
            self.disturb(&log).await;
        }
        self.calm.cancel();
        self.heal();
        publisher.await.expect("no panic");
        self.trace.note(format_args!("all is calm"));
        for number in self.exactly_once() {
            tokio::spawn(errand::settle(Arc::clone(self), number));
        }
        let deadline = self.clock.now().plus_millis(CALM_MILLIS_MAX);
        while let Err(left) = self.are_done() {
            if self.judge.violation().is_some() {
                return;
            }
            if self.clock.now() > deadline {
                self.judge.accuse(format!("stuck: {left}"));
                return;
            }
            self.pause(500..=500).await;
        }
        self.restart(0).await;
        for number in self.exactly_once() {
            errand::repeat(self, number).await;
        }
        let deadline = self.clock.now().plus_millis(CALM_MILLIS_MAX);
        self.pause(QUIET_MILLIS..=QUIET_MILLIS).await;
        for log in [&log, &letters] {
            while let Err(left) = self.log.is_empty(log).await {
                if self.clock.now() > deadline {
                    self.judge.accuse(format!("retained: {left}"));
                    return;
                }
                self.pause(1_000..=1_000).await;
            }
        }
    }

    /// The topic with its first messages, the one for dead letters, and the subscriptions.
    async fn prepare(self: &Arc<Self>) -> (TopicLog, TopicLog) {
        let service = Arc::clone(&self.node(0).expect("it was started").service);
        let log = self.create_topic(&service, topic()).await;
        let letters = self.create_topic(&service, dead_letters()).await;
        publisher::publish_before(self, &service).await;
        for subscribed in &self.plan.subscriptions {
            let name = &subscribed.name;
            service
                .create_subscription(
                    Some(name.clone()),
                    subscribed.topic.clone(),
                    subscribed.settings(),
                )
                .await
                .expect("a subscription");
            let record = self.state.subscription(name).await.expect("answers");
            let record = record.expect("exists");
            let starts = self.log.ends(&record.log).await.expect("answers");
            let topic = record.log.incarnation;
            self.judge
                .subscribed(record.id, topic, subscribed.clone(), starts);
        }
        (log, letters)
    }

    async fn create_topic(&self, service: &Arc<Service>, name: TopicName) -> TopicLog {
        let created = service.create_topic(Topic::new(name.clone())).await;
        created.expect("a topic");
        let record = self.state.topic(&name).await.expect("answers");
        record.expect("exists").log
    }

    /// Which subscriptions have exactly-once delivery.
    fn exactly_once(&self) -> impl Iterator<Item = usize> {
        let subscriptions = self.plan.subscriptions.iter().enumerate();
        let exactly_once = subscriptions.filter(|(_, subscribed)| subscribed.is_exactly_once);
        exactly_once.map(|(number, _)| number)
    }

    fn are_done(&self) -> Result<(), String> {
        let count = self.plan.subscriptions.len();
        (0..count).try_for_each(|number| self.judge.is_done(number))
    }

    /// Something happens.
    async fn disturb(self: &Arc<Self>, log: &TopicLog) {
        let number = self.dice.within(0..=self.plan.nodes as u64 - 1) as usize;
        let Some(node) = self.node(number) else {
            return;
        };
        match self.dice.within(0..=99) {
            0..25 => node.gate.die_in(self.dice.within(1..=12)),
            25..32 => node.gate.die(),
            32..42 => self.restart(number).await,
            42..62 => node.gate.set_trouble(self.plan.trouble),
            62..75 => node.gate.set_trouble(Trouble::default()),
            75..82 => self.log.damage(log, &self.trace).await.expect("answers"),
            82..87 => self.log.heal(),
            87..93 if self.plan.nodes > 1 => self.cut(&node).await,
            _ => {}
        }
    }

    /// The node cannot reach the stores for a while.
    async fn cut(&self, node: &Node) {
        self.trace.note(format_args!("a node is cut off"));
        node.gate.set_cut(true);
        self.pause(500..=12_000).await;
        node.gate.set_cut(false);
        self.trace.note(format_args!("a node is cut off no more"));
    }

    /// Nothing goes wrong any more.
    fn heal(&self) {
        self.log.heal();
        for node in self.nodes.lock().iter().flatten() {
            node.gate.calm();
        }
    }

    /// Starts a node, and another one each time that it dies.
    fn start(self: &Arc<Self>, number: usize) -> Arc<Node> {
        let life = self.lives.fetch_add(1, Ordering::Relaxed) + 1;
        let node = Arc::new(Node::start(self, life));
        self.nodes.lock()[number] = Some(Arc::clone(&node));
        let (world, started) = (Arc::clone(self), Arc::clone(&node));
        tokio::spawn(async move {
            started.gate.gone().await;
            world.nodes.lock()[number] = None;
            if !world.calm.is_cancelled() {
                world.pause(0..=4_000).await;
            }
            started.bury(&world.cluster);
            world.start(number);
        });
        node
    }

    /// Stops a node as an operator does, and starts it again.
    async fn restart(self: &Arc<Self>, number: usize) {
        let Some(node) = self.node(number) else {
            return;
        };
        self.trace.note(format_args!("a node stops"));
        node.call(node.service.drain()).await;
        node.gate.die();
    }

    /// The number of the next message that is published.
    pub(super) fn next_message(&self) -> u64 {
        self.messages.fetch_add(1, Ordering::Relaxed)
    }

    /// The node of this number, if it lives.
    pub(super) fn node(&self, number: usize) -> Option<Arc<Node>> {
        self.nodes.lock()[number].clone()
    }

    /// Any node, if it lives.
    pub(super) fn any_node(&self) -> Option<Arc<Node>> {
        let number = self.dice.within(0..=self.plan.nodes as u64 - 1);
        self.node(number as usize)
    }

    /// Waits for so many milliseconds.
    pub(super) async fn pause(&self, millis: std::ops::RangeInclusive<u64>) {
        let millis = self.dice.within(millis);
        sleep(Duration::from_millis(millis)).await;
    }
}
