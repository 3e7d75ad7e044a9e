//! Publishers and consumers at both of two nodes, of one subscription, while the nodes are killed or frozen; and what the
//! subscription has promised them.

use std::{
    array,
    collections::{BTreeMap, HashMap, HashSet},
    error::Error as _,
    sync::Arc,
    time::Duration,
};

use packetboat::proto::google::pubsub::v1::{PubsubMessage, Subscription};
use parking_lot::Mutex;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use super::{
    Client,
    admin::{bare, subscription_name},
    backlog::pull_request,
    eventually,
    values::{Received, ack_ids, message, publish_request},
    within,
};

/// How many keys each publisher has to itself; each node has one publisher.
const KEYS: usize = 5;
/// How many consumers each node has.
const CONSUMERS: usize = 3;
const MESSAGES_OF_A_PULL: i32 = 15;
/// The longest that a consumer works on what it has pulled, so that some is held whenever a node fails.
const WORK_MILLIS_MAX: u64 = 200;
/// How far publishers may be ahead of the consumers.
const AHEAD_MAX: usize = 500;
/// Between two calls of one client, so that the load is one and the same on any machine.
const PAUSE: Duration = Duration::from_millis(5);
/// What was delivered into a killed server's connection comes back after its lease.
const END_WITHIN: Duration = Duration::from_secs(90);

/// What a subscription promises.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Promise {
    Ordered,
    ExactlyOnce,
}

impl Promise {
    /// Exactly-once: longer than a takeover, so that what is held through one may still be acknowledged.
    fn lease(self) -> Duration {
        match self {
            Self::Ordered => Duration::from_secs(10),
            Self::ExactlyOnce => Duration::from_secs(30),
        }
    }

    pub(crate) fn subscription(self, topic: &str) -> Subscription {
        Subscription {
            enable_message_ordering: self == Self::Ordered,
            enable_exactly_once_delivery: self == Self::ExactlyOnce,
            ack_deadline_seconds: i32::try_from(self.lease().as_secs()).expect("small"),
            ..bare(&subscription_name("worker"), topic)
        }
    }
}

/// What the clients were told. Messages are numbered by key.
#[derive(Default)]
struct Told {
    /// Ids of answered publishes.
    published: HashSet<String>,
    /// How many of each key.
    counts: BTreeMap<String, usize>,
    /// The numbers that came, each where it first came.
    came: BTreeMap<String, Vec<usize>>,
    /// When the pull of the last delivery had been asked for, so that its lease is no older.
    leased: HashMap<String, Instant>,
    /// When an ack was answered.
    acked: HashMap<String, Instant>,
}

/// Cheap to clone; the clones are the same load.
#[derive(Clone)]
pub(crate) struct Load {
    promise: Promise,
    topic: String,
    subscription: String,
    /// A client of each node; another one when the node has started again.
    clients: Arc<[Mutex<Client>; 2]>,
    /// How many pulls each node has answered.
    pulls: Arc<[Mutex<usize>; 2]>,
    told: Arc<Mutex<Told>>,
    publishing: CancellationToken,
    consuming: CancellationToken,
}

/// The tasks of a load.
#[must_use = "it ends by `end`"]
pub(crate) struct Running {
    publishers: JoinSet<()>,
    consumers: JoinSet<()>,
}

impl Load {
    pub(crate) fn start(
        promise: Promise,
        clients: [&Client; 2],
        topic: &str,
        subscription: &str,
    ) -> (Self, Running) {
        let load = Self {
            promise,
            topic: topic.to_owned(),
            subscription: subscription.to_owned(),
            clients: Arc::new(clients.map(|client| Mutex::new(client.clone()))),
            pulls: Arc::new(array::from_fn(|_| Mutex::new(0))),
            told: Arc::default(),
            publishing: CancellationToken::new(),
            consuming: CancellationToken::new(),
        };
        let mut running = Running {
            publishers: JoinSet::new(),
            consumers: JoinSet::new(),
        };
        for node in 0..2 {
            running.publishers.spawn(load.clone().publish(node));
            for _ in 0..CONSUMERS {
                running.consumers.spawn(load.clone().consume(node));
            }
        }
        (load, running)
    }

    pub(crate) fn client(&self, node: usize) -> Client {
        self.clients[node].lock().clone()
    }

    /// From now on the node is reached so.
    pub(crate) fn reconnect(&self, node: usize, client: Client) {
        *self.clients[node].lock() = client;
    }

    /// Publishes the next number of each key, again and again until that is answered, as client libraries do.
    async fn publish(self, node: usize) {
        let keys: Vec<_> = (0..KEYS).map(|key| format!("{node}-{key}")).collect();
        for number in 0.. {
            let messages: Vec<_> = keys.iter().map(|key| numbered(key, number)).collect();
            let ids = loop {
                let request = publish_request(&self.topic, &messages);
                match self.client(node).publisher().publish(request).await {
                    Ok(answer) => break answer.into_inner().message_ids,
                    Err(status) => assert_may_retry(&status),
                }
                sleep(PAUSE).await;
            };
            {
                let mut told = self.told.lock();
                told.published.extend(ids);
                for key in &keys {
                    told.counts.insert(key.clone(), number + 1);
                }
            }
            while self.ahead() && !self.publishing.is_cancelled() {
                sleep(PAUSE).await;
            }
            if self.publishing.is_cancelled() {
                return;
            }
            sleep(PAUSE).await;
        }
    }

    fn ahead(&self) -> bool {
        let told = self.told.lock();
        told.published.len() > told.acked.len() + AHEAD_MAX
    }

    async fn consume(self, node: usize) {
        while !self.consuming.is_cancelled() {
            match self.pull(node).await {
                Ok(received) if !received.is_empty() => {
                    sleep(up_to_millis(WORK_MILLIS_MAX)).await;
                    self.acknowledge(node, &received).await;
                }
                Ok(_) => {}
                Err(status) => assert_may_retry(&status),
            }
            sleep(PAUSE).await;
        }
    }

    /// Pulls once at a node, and checks what comes.
    pub(crate) async fn pull(&self, node: usize) -> Result<Vec<Received>, Status> {
        let pulled = Instant::now();
        let request = pull_request(&self.subscription, MESSAGES_OF_A_PULL, true);
        let answer = self.client(node).subscriber().pull(request).await?;
        let received = answer.into_inner().received_messages.into_iter();
        let received: Vec<_> = received.map(Received::from).collect();
        *self.pulls[node].lock() += 1;
        self.told.lock().note(self.promise, &received, pulled);
        Ok(received)
    }

    /// Acknowledges at either node until that is answered.
    pub(crate) async fn acknowledge(&self, mut node: usize, received: &[Received]) {
        loop {
            let answer = self
                .client(node)
                .ack(&self.subscription, ack_ids(received))
                .await;
            match answer {
                Ok(_) => {
                    let ids = received.iter().map(|it| it.message.message_id.clone());
                    let now = Instant::now();
                    let mut told = self.told.lock();
                    told.acked.extend(ids.map(|id| (id, now)));
                    return;
                }
                Err(status) if status.code() == Code::InvalidArgument => {
                    let told = self.told.lock();
                    let lasts = |it: &Received| {
                        let leased = told.leased.get(&it.message.message_id);
                        leased.is_some_and(|since| since.elapsed() < self.promise.lease())
                    };
                    let all_last = received.iter().all(lasts);
                    assert!(!all_last, "refused while its leases last: {status:?}");
                    return;
                }
                Err(status) => assert_may_retry(&status),
            }
            node = 1 - node;
            sleep(PAUSE).await;
        }
    }

    /// Returns once the node has answered another pull.
    pub(crate) async fn delivers(&self, node: usize) {
        let before = *self.pulls[node].lock();
        eventually("the node delivers", || async {
            sleep(PAUSE).await;
            (*self.pulls[node].lock() > before).then_some(())
        })
        .await;
    }

    /// Returns once another message is acknowledged, and another one published at each node.
    pub(crate) async fn goes_on(&self) {
        let counts = || {
            let told = self.told.lock();
            (told.acked.len(), told.counts.clone())
        };
        let (acked, published) = counts();
        eventually("the load goes on", || async {
            sleep(PAUSE).await;
            let now = counts();
            let more = |key| now.1.get(key) > published.get(key);
            (now.0 > acked && more("0-0") && more("1-0")).then_some(())
        })
        .await;
    }

    /// Ends the publishing, waits until all that was published is acknowledged, and checks the order.
    pub(crate) async fn end(self, mut running: Running) {
        self.publishing.cancel();
        while let Some(ended) = within("a publisher ends", running.publishers.join_next()).await {
            ended.expect("it was served");
        }
        let all_acked = async {
            while running.consumers.try_join_next().is_none() {
                if self.told.lock().missing() == 0 {
                    return;
                }
                sleep(PAUSE).await;
            }
        };
        let ended = timeout(END_WITHIN, all_acked).await;
        self.consuming.cancel();
        while let Some(ended) = within("a consumer ends", running.consumers.join_next()).await {
            ended.expect("it was served as promised");
        }
        let told = self.told.lock();
        assert!(ended.is_ok(), "{} are lost", told.missing());
        assert_eq!(told.missing(), 0, "a consumer ended before");
        if self.promise == Promise::Ordered {
            for (key, count) in &told.counts {
                let wanted: Vec<_> = (0..*count).collect();
                assert_eq!(told.came[key], wanted, "first deliveries of {key}");
            }
        }
    }
}

impl Told {
    fn note(&mut self, promise: Promise, received: &[Received], pulled: Instant) {
        for Received { message, .. } in received {
            let id = &message.message_id;
            let leased = self.leased.insert(id.clone(), pulled);
            let acked = self.acked.get(id);
            match promise {
                // A server may be frozen in the middle of an answer: that arrives late, as if the network were slow.
                Promise::Ordered => assert!(
                    acked.is_none_or(|acked| *acked >= pulled),
                    "{id} came although its ack had been answered"
                ),
                Promise::ExactlyOnce => {
                    assert_eq!(acked, None, "{id} came after its ack was answered");
                    assert!(
                        leased.is_none_or(|since| since.elapsed() >= promise.lease()),
                        "{id} came while it was leased"
                    );
                }
            }
            let number = String::from_utf8_lossy(&message.data).parse();
            let number = number.expect("a number");
            let came = self.came.entry(message.ordering_key.clone()).or_default();
            if !came.contains(&number) {
                came.push(number);
            }
        }
    }

    /// How many are published and not acknowledged.
    fn missing(&self) -> usize {
        let missing = |id: &&String| !self.acked.contains_key(*id);
        self.published.iter().filter(missing).count()
    }
}

/// A time up to this, by chance.
pub(crate) fn up_to_millis(max: u64) -> Duration {
    let random = getrandom::u32().expect("random numbers");
    Duration::from_millis(u64::from(random) % max)
}

fn numbered(key: &str, number: usize) -> PubsubMessage {
    PubsubMessage {
        ordering_key: key.to_owned(),
        ..message(number.to_string())
    }
}

/// Fails unless client libraries try again what was answered so, or not answered because the connection is gone.
#[track_caller]
fn assert_may_retry(status: &Status) {
    // Only what this side made of a connection has a source; it may be cut in the middle of an answer.
    let is_cut = status.source().is_some();
    assert!(is_cut || status.code() == Code::Unavailable, "{status:?}");
}
