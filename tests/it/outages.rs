//! The broker, or the database, is killed while publishers and subscribers are at work, and started again.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::large_futures,
    reason = "what real servers take is measured and shown"
)]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    producer::{FutureProducer, FutureRecord},
};
use serde_json::Value;
use sqlx::{Connection as _, Executor as _, PgConnection};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use crate::support::{
    Client, PATIENCE, eventually, few_or_many, http,
    known::Known,
    location::Location,
    nodes::{Nodes, assert_owned_by},
    process::Process,
    services::Service,
    stream::{PullStream, opening},
    within,
};

/// Nobody waits longer for an answer.
const ANSWERED_WITHIN: Duration = Duration::from_secs(10);
/// From a bare client's first success to ours.
const BACK_WITHIN: Duration = Duration::from_secs(5);
/// Between a client's calls.
const PAUSE: Duration = Duration::from_millis(10);

/// What a call was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Publish,
    /// One that brought messages, with the ack of them.
    Pull,
    /// A stream's next messages, with the ack of them.
    Stream,
}

/// One call, or one frame of a stream.
#[derive(Clone, Debug)]
struct Call {
    what: What,
    begun: Instant,
    ended: Instant,
    /// Whether it did what it is for. An answer without messages did not, nor did a refusal.
    done: bool,
    refused: bool,
    /// What a refusal says.
    text: String,
}

/// What the load has seen.
#[derive(Clone, Default)]
struct Calls(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    calls: Vec<Call>,
    longest: Duration,
}

impl Calls {
    /// Notes what came of a call. A refusal must be one that client libraries try again.
    fn note(&self, what: What, begun: Instant, result: &Result<bool, Status>) {
        if let Err(status) = result {
            assert_eq!(status.code(), Code::Unavailable, "{what:?}: {status:?}");
        }
        let mut seen = self.0.lock();
        seen.longest = seen.longest.max(begun.elapsed());
        seen.calls.push(Call {
            what,
            begun,
            ended: Instant::now(),
            done: matches!(result, Ok(true)),
            refused: result.is_err(),
            text: result
                .as_ref()
                .err()
                .map_or_else(String::new, |status| status.message().to_owned()),
        });
    }

    /// Every call since then, so that a failure says why it took so long.
    fn told(&self, what: What, since: Instant) -> String {
        let seen = self.0.lock();
        let calls = seen
            .calls
            .iter()
            .filter(|call| call.what == what && call.ended > since);
        let told = calls.map(|call| {
            let (begun, ended) = (
                call.begun.saturating_duration_since(since),
                call.ended - since,
            );
            format!(
                "{begun:.1?} to {ended:.1?}: done {}, {}",
                call.done, call.text
            )
        });
        told.collect::<Vec<_>>().join("\n")
    }

    /// Waits for the first call after `since` that fits, and says how long after that it ended.
    async fn first(&self, what: What, since: Instant, fits: impl Fn(&Call) -> bool) -> Duration {
        let search = async {
            loop {
                let found = self.0.lock().calls.iter().find_map(|call| {
                    let later = call.ended > since && call.what == what && fits(call);
                    later.then(|| call.ended - since)
                });
                if let Some(found) = found {
                    return found;
                }
                tokio::time::sleep(PAUSE).await;
            }
        };
        let found = tokio::time::timeout(PATIENCE, search).await;
        found.unwrap_or_else(|_| panic!("{what:?} came to nothing:\n{}", self.told(what, since)))
    }
}

/// Publishers, pullers and streams, which try again what is refused.
struct Load {
    calls: Calls,
    stopping: CancellationToken,
    tasks: JoinSet<()>,
    /// Of the topic and the subscription `pulled`.
    pulled: Known,
    /// Of the topic and the subscription `streamed`.
    streamed: Known,
}

impl Load {
    async fn start(client: &Client) -> Self {
        let mut load = Self {
            calls: Calls::default(),
            stopping: CancellationToken::new(),
            tasks: JoinSet::new(),
            pulled: Known::default(),
            streamed: Known::default(),
        };
        for (name, known) in [
            ("pulled", load.pulled.clone()),
            ("streamed", load.streamed.clone()),
        ] {
            let topic = client.topic(name).await;
            let subscription = client.subscription(name, &topic).await;
            for _ in 0..2 {
                let worker = (client.clone(), known.clone(), topic.clone());
                load.repeat(What::Publish, move || {
                    let (client, known, topic) = worker.clone();
                    async move { known.publish(&client, &topic, 10).await.map(|()| true) }
                });
            }
            if name == "pulled" {
                let worker = (client.clone(), known, subscription);
                load.repeat(What::Pull, move || {
                    let (client, known, subscription) = worker.clone();
                    async move {
                        let pulled = known.pull_and_ack(&client, &subscription, 100).await?;
                        Ok(pulled > 0)
                    }
                });
            } else {
                load.stream(client.clone(), known, subscription);
            }
        }
        load
    }

    /// Calls again and again, with a short pause, so that the load is the same on any machine.
    fn repeat<F>(&mut self, what: What, call: impl Fn() -> F + Send + 'static)
    where
        F: Future<Output = Result<bool, Status>> + Send,
    {
        let (stopping, calls) = (self.stopping.clone(), self.calls.clone());
        self.tasks.spawn(async move {
            while !stopping.is_cancelled() {
                let begun = Instant::now();
                let result = call().await;
                calls.note(what, begun, &result);
                tokio::time::sleep(PAUSE).await;
            }
        });
    }

    /// Receives on a stream, and opens another one when that ends.
    fn stream(&mut self, client: Client, known: Known, subscription: String) {
        let (stopping, calls) = (self.stopping.clone(), self.calls.clone());
        self.tasks.spawn(async move {
            while !stopping.is_cancelled() {
                let begun = Instant::now();
                let opened = client.open(opening(&subscription)).await;
                let result = opened.as_ref().map(|_| false).map_err(Clone::clone);
                calls.note(What::Stream, begun, &result);
                if let Ok(mut stream) = opened {
                    let received = receive(&mut stream, &client, &known, &subscription, &calls);
                    stopping.run_until_cancelled(received).await;
                }
                tokio::time::sleep(PAUSE).await;
            }
        });
    }

    async fn stop(mut self) -> [Known; 2] {
        self.stopping.cancel();
        while let Some(ended) = within("the load ends", self.tasks.join_next()).await {
            ended.expect("nothing confirmed was lost or undone");
        }
        let longest = self.calls.0.lock().longest;
        println!("the longest call took {longest:?}");
        assert!(longest <= ANSWERED_WITHIN, "{longest:?}");
        [self.pulled, self.streamed]
    }
}

/// Receives and acknowledges until the stream ends.
async fn receive(
    stream: &mut PullStream,
    client: &Client,
    known: &Known,
    subscription: &str,
    calls: &Calls,
) {
    loop {
        let received = stream.next().await;
        // A stream waits for its messages for as long as it takes; the ack is what has to be answered.
        let begun = Instant::now();
        let result = match received {
            Ok(received) => {
                known.received(&received, begun.into());
                let acked = known.ack(client, subscription, &received).await;
                acked.map(|()| !received.is_empty())
            }
            Err(status) => {
                calls.note(What::Stream, begun, &Err(status));
                return;
            }
        };
        calls.note(What::Stream, begun, &result);
    }
}

/// Kills the service under load, waits until what needs it is refused, starts it again, and waits for everything to
/// go on. `bare` returns when a bare client has succeeded.
async fn outage(load: &Load, service: &Service, needs_it: &[What], bare: impl Future<Output = ()>) {
    let at_work = Instant::now();
    for what in [What::Publish, What::Pull, What::Stream] {
        load.calls.first(what, at_work, |call| call.done).await;
    }
    let killed = Instant::now();
    service.kill().await;
    for &what in needs_it {
        let refused = load.calls.first(what, killed, |call| call.refused).await;
        println!("{what:?} is refused {refused:?} after the kill");
        assert!(refused <= ANSWERED_WITHIN, "{what:?}: {refused:?}");
    }
    let started = Instant::now();
    let ((), bare) = tokio::join!(service.start(), async {
        bare.await;
        started.elapsed()
    });
    for what in [What::Publish, What::Pull, What::Stream] {
        let done = load.calls.first(what, started, |call| call.done).await;
        let after = done.as_secs_f64() - bare.as_secs_f64();
        println!("{what:?} works {after:.3} s after a bare client, which took {bare:?}");
        let told = || load.calls.told(what, started);
        assert!(
            after <= BACK_WITHIN.as_secs_f64(),
            "{what:?}: {after} s; {}",
            told()
        );
    }
}

/// Returns when a new producer has delivered a record.
async fn bare_producer(kafka: &str) {
    loop {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", kafka);
        config.set("message.timeout.ms", "1000");
        let producer: FutureProducer = config.create().expect("a client");
        let record = FutureRecord::<(), _>::to("bare").payload("x");
        if producer.send(record, Duration::ZERO).await.is_ok() {
            return;
        }
    }
}

/// Returns when a new connection has written something.
async fn bare_connection(postgres: &str) {
    loop {
        if let Ok(mut connection) = PgConnection::connect(postgres).await
            && connection
                .execute("CREATE TEMPORARY TABLE bare ()")
                .await
                .is_ok()
        {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn make_bare_topic(kafka: &str) {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", kafka);
    let admin: AdminClient<DefaultClientContext> = config.create().expect("a client");
    let topic = NewTopic::new("bare", 1, TopicReplication::Fixed(1));
    let made = admin.create_topics([&topic], &AdminOptions::new()).await;
    for result in made.expect("Kafka answers") {
        result.expect("a topic");
    }
}

/// A Kafka and a Postgres of the test's own.
async fn own_services() -> (Service, Service, Location) {
    let (kafka, postgres) = tokio::join!(Service::kafka(&[]), Service::postgres());
    let brokers = kafka.export("PACKETBOAT_TEST_KAFKA").to_owned();
    let server = postgres.export("PACKETBOAT_TEST_POSTGRES");
    let location = Location::on(brokers, server, "").await;
    (kafka, postgres, location)
}

#[tokio::test]
async fn after_the_broker_was_killed_nothing_is_lost_and_all_goes_on_by_itself() {
    let (kafka, _postgres, location) = own_services().await;
    let brokers = &location.services().kafka;
    make_bare_topic(brokers).await;
    let server = Process::serve_at(&location, "only").await;
    let client = server.client().await;
    let load = Load::start(&client).await;
    for _ in 0..few_or_many(1, 5) {
        // What is read already can be delivered without a broker.
        outage(&load, &kafka, &[What::Publish], bare_producer(brokers)).await;
    }
    let [pulled, streamed] = load.stop().await;
    pulled
        .receive_the_rest(&client, "projects/tests/subscriptions/pulled")
        .await;
    streamed
        .receive_the_rest(&client, "projects/tests/subscriptions/streamed")
        .await;
    kafka.kill().await;
    assert_unhealthy(&server, ("log", "kafka"), brokers, "store").await;
}

/// Waits until health says that this backend is away and where it was, and that the other one is there.
async fn assert_unhealthy(
    server: &Process,
    (away, backend): (&str, &str),
    says: &str,
    other: &str,
) {
    let address = server.addresses[0].to_string();
    let health = within("health tells of it", async {
        loop {
            let answer = http::call(&address, "GET", "/healthz", Value::Null).await;
            if answer.status == 503 {
                return answer;
            }
            tokio::time::sleep(PAUSE).await;
        }
    });
    let health = health.await.json();
    assert_eq!(health["status"], "unavailable");
    assert_eq!(health[away]["backend"], backend);
    assert_eq!(health[away]["status"], "unavailable");
    let message = health[away]["message"].as_str().expect("a reason");
    assert!(message.contains(says), "{message}");
    assert_eq!(health[other]["status"], "ok");
}

#[tokio::test]
async fn after_the_database_was_killed_nothing_is_undone_and_all_goes_on_by_itself() {
    let (_kafka, postgres, location) = own_services().await;
    let database = location.services().postgres.clone();
    let nodes = Nodes::at(location).await;
    let load = Load::start(&nodes.on_a).await;
    for round in 0..few_or_many(2, 6) {
        // Every other time it is back before any lease has run out.
        let needs_it: &[_] = if round % 2 == 0 {
            &[What::Publish, What::Pull, What::Stream]
        } else {
            &[What::Pull, What::Stream]
        };
        outage(&load, &postgres, needs_it, bare_connection(&database)).await;
        // The first server that the database answers must not take everything.
        let pulled = eventually("the other server reaches the database too", || async {
            let name = "projects/tests/subscriptions/pulled";
            let pulled = nodes.on_b.try_pull_now(name).await;
            let is_cut_off = |status: &Status| status.message().contains("the state store");
            (!pulled.as_ref().is_err_and(is_cut_off)).then_some(pulled)
        });
        assert_owned_by(pulled.await, "node-a");
    }
    let [pulled, streamed] = load.stop().await;
    pulled
        .receive_the_rest(&nodes.on_a, "projects/tests/subscriptions/pulled")
        .await;
    streamed
        .receive_the_rest(&nodes.on_a, "projects/tests/subscriptions/streamed")
        .await;
    postgres.kill().await;
    assert_unhealthy(&nodes.a, ("store", "postgres"), "127.0.0.1", "log").await;
}
