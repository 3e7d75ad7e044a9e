//! A well-behaved client beside the attack: publishes a small message every few milliseconds, receives and acknowledges
//! it, and notes how long that takes. It runs on a thread of its own, which no attack holds up.

use std::{
    mem,
    net::SocketAddr,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use packetboat::proto::google::pubsub::v1::{
    AcknowledgeRequest, PublishRequest, PubsubMessage, PullRequest, Subscription, Topic,
    publisher_client::PublisherClient, subscriber_client::SubscriberClient,
};
use parking_lot::Mutex;
use prost::Message as _;
use tokio::{
    sync::Semaphore,
    task::{LocalSet, spawn_local},
    time::{sleep_until, timeout},
};
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};

const TOPIC: &str = "projects/neighbour/topics/orders";
const SUBSCRIPTION: &str = "projects/neighbour/subscriptions/orders-worker";
/// From one message to the next.
const PACE: Duration = Duration::from_millis(5);
/// Messages that may be unanswered; then the next one waits, and its wait counts.
const UNANSWERED_MAX: usize = 500;
/// Bytes of a message's data, of which the first eight say when it was due.
const DATA_BYTES: usize = 256;
/// A call that takes longer has failed. Longer than a Pull waits.
const PATIENCE: Duration = Duration::from_secs(30);

/// The client.
pub(crate) struct Neighbour {
    noted: Arc<Mutex<Latencies>>,
}

/// What it has waited for.
#[derive(Default)]
pub(crate) struct Latencies {
    /// Publish, from when it was due, and Acknowledge.
    pub(crate) calls: Times,
    /// From when a message was due to be published until it was received.
    pub(crate) deliveries: Times,
    /// What calls failed with.
    pub(crate) failed: Vec<String>,
}

/// Some lengths of time.
#[derive(Default)]
pub(crate) struct Times(Vec<Duration>);

impl Times {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Zero if there are none.
    pub(crate) fn p99(&self) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let at = (sorted.len() * 99).div_ceil(100);
        sorted
            .get(at.saturating_sub(1))
            .copied()
            .unwrap_or_default()
    }

    /// Zero if there are none.
    pub(crate) fn longest(&self) -> Duration {
        self.0.iter().max().copied().unwrap_or_default()
    }
}

impl Neighbour {
    /// Makes a topic and a subscription and begins. It ends with this process.
    pub(crate) fn start(address: SocketAddr) -> Self {
        let noted = Arc::<Mutex<Latencies>>::default();
        let to = Arc::clone(&noted);
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            LocalSet::new().block_on(&runtime, work(address, to));
        });
        Self { noted }
    }

    /// What it has noted since this was asked last.
    pub(crate) fn take(&self) -> Latencies {
        mem::take(&mut *self.noted.lock())
    }
}

async fn work(address: SocketAddr, noted: Arc<Mutex<Latencies>>) {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("a URI");
    let channel = endpoint.connect().await.expect("the server takes it");
    let topic = Topic {
        name: TOPIC.to_owned(),
        ..Topic::default()
    };
    let mut publisher = PublisherClient::new(channel.clone());
    let made = publisher.create_topic(topic).await;
    made.expect("the topic is made");
    let subscription = Subscription {
        name: SUBSCRIPTION.to_owned(),
        topic: TOPIC.to_owned(),
        ..Subscription::default()
    };
    let mut subscriber = SubscriberClient::new(channel);
    let made = subscriber.create_subscription(subscription).await;
    made.expect("the subscription is made");
    let start = Instant::now();
    tokio::join!(
        publish(publisher, start, &noted),
        receive(subscriber, start, &noted)
    );
}

/// Publishes a message whenever one is due, whether or not those before it were answered.
async fn publish(
    publisher: PublisherClient<Channel>,
    start: Instant,
    noted: &Arc<Mutex<Latencies>>,
) {
    let unanswered = Arc::new(Semaphore::new(UNANSWERED_MAX));
    let mut due = start;
    loop {
        due += PACE;
        sleep_until(due.into()).await;
        let permit = Arc::clone(&unanswered).acquire_owned().await;
        let mut data = vec![0; DATA_BYTES];
        data[..8].copy_from_slice(&micros(due.saturating_duration_since(start)).to_le_bytes());
        let message = PubsubMessage {
            data: Bytes::from(data),
            ..PubsubMessage::default()
        };
        let request = PublishRequest {
            topic: TOPIC.to_owned(),
            messages: vec![message.encode_to_vec().into()],
        };
        let (mut publisher, noted) = (publisher.clone(), Arc::clone(noted));
        spawn_local(async move {
            let answer = answered("Publish", publisher.publish(request)).await;
            note(&noted, due, answer.err());
            drop(permit);
        });
    }
}

/// Receives what is published, and acknowledges it.
async fn receive(
    mut subscriber: SubscriberClient<Channel>,
    start: Instant,
    noted: &Mutex<Latencies>,
) {
    loop {
        let request = PullRequest {
            subscription: SUBSCRIPTION.to_owned(),
            max_messages: 100,
            ..PullRequest::default()
        };
        let received = match answered("Pull", subscriber.pull(request)).await {
            Ok(answer) => answer.into_inner().received_messages,
            Err(fault) => {
                noted.lock().failed.push(fault);
                continue;
            }
        };
        let now = Instant::now();
        let due = received.iter().filter_map(|received| {
            let message = PubsubMessage::decode(&received.message[..]).ok()?;
            let micros = u64::from_le_bytes(*message.data.first_chunk()?);
            Some(start + Duration::from_micros(micros))
        });
        noted
            .lock()
            .deliveries
            .0
            .extend(due.map(|due| now.saturating_duration_since(due)));
        if received.is_empty() {
            continue;
        }
        let request = AcknowledgeRequest {
            subscription: SUBSCRIPTION.to_owned(),
            ack_ids: received.into_iter().map(|it| it.ack_id).collect(),
        };
        let began = Instant::now();
        let answer = answered("Acknowledge", subscriber.acknowledge(request)).await;
        note(noted, began, answer.err());
    }
}

async fn answered<T>(
    what: &str,
    call: impl Future<Output = Result<T, Status>>,
) -> Result<T, String> {
    let answer = timeout(PATIENCE, call).await;
    let answer = answer.map_err(|_| format!("{what}: no answer within {PATIENCE:?}"))?;
    answer.map_err(|status| format!("{what}: {status}"))
}

fn note(noted: &Mutex<Latencies>, since: Instant, fault: Option<String>) {
    let mut noted = noted.lock();
    noted.calls.0.push(since.elapsed());
    noted.failed.extend(fault);
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).expect("no test goes on for so long")
}
