//! Names of one Kafka topic that leave and come back while another application writes to it and streams are open.

use std::{
    collections::BTreeSet,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use tokio::task::{JoinHandle, spawn_blocking, yield_now};

use crate::support::{
    Client,
    admin::topic_name,
    kafka::{Kafka, Record},
    location::Location,
    process::{Process, run},
    stream::PullStream,
    values::{ack_ids, texts},
    within,
};

const PARTITIONS: i32 = 3;
const RECORDS_PER_WRITE: usize = 10;

/// Writes numbers, ascending, until it is stopped.
struct Writer {
    written: Arc<AtomicUsize>,
    stopped: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Writer {
    fn start(topic: &str) -> Self {
        let (written, stopped) = (
            Arc::new(AtomicUsize::new(0)),
            Arc::new(AtomicBool::new(false)),
        );
        let (topic, count, stop) = (topic.to_owned(), Arc::clone(&written), Arc::clone(&stopped));
        let task = spawn_blocking(move || {
            let kafka = Kafka::new();
            while !stop.load(Ordering::Relaxed) {
                let next = count.load(Ordering::Relaxed);
                let texts: Vec<_> = (next..next + RECORDS_PER_WRITE)
                    .map(|number| (number, number.to_string()))
                    .collect();
                kafka.write(texts.iter().map(|(number, text)| -> Record<'_> {
                    let partition = i32::try_from(*number).expect("few") % PARTITIONS;
                    Record::to(&topic)
                        .partition(partition)
                        .payload(text.as_bytes())
                }));
                count.fetch_add(RECORDS_PER_WRITE, Ordering::Relaxed);
            }
        });
        Self {
            written,
            stopped,
            task,
        }
    }

    /// How many are certainly written.
    fn count(&self) -> usize {
        self.written.load(Ordering::Relaxed)
    }

    /// The first number that is certainly not written yet.
    fn next(&self) -> usize {
        self.count() + RECORDS_PER_WRITE
    }

    /// Waits until so many more were written.
    async fn writes(&self, more: usize) {
        let until = self.count() + more;
        within("more is written", async {
            while self.count() < until {
                yield_now().await;
            }
        })
        .await;
    }

    /// Returns how many were written.
    async fn stop(self) -> usize {
        self.stopped.store(true, Ordering::Relaxed);
        self.task.await.expect("it ends");
        self.written.load(Ordering::Relaxed)
    }
}

/// A server, a Kafka topic and its names.
struct Names {
    kafka_topic: String,
    process: Process,
    client: Client,
    _location: Location,
}

impl Names {
    async fn new() -> Self {
        let location = Location::kafka_and_postgres().await;
        let process = Process::serve_at(&location, "only").await;
        let kafka_topic = format!("{}-theirs", location.services().prefix);
        Kafka::new().create(&kafka_topic, PARTITIONS, &[]).await;
        Self {
            kafka_topic,
            client: process.client().await,
            process,
            _location: location,
        }
    }

    /// Puts a name on the Kafka topic and opens a stream of a new subscription to it.
    async fn open(&self, topic: &str, subscription: &str) -> (String, PullStream) {
        let topic = topic_name(topic);
        self.process.attach(&topic, &self.kafka_topic).await;
        let subscription = self.client.subscription(subscription, &topic).await;
        let stream = self.client.stream(&subscription).await;
        (subscription, stream)
    }

    async fn detach(&self, topic: &str) {
        let (address, topic) = (self.process.addresses[0].to_string(), topic_name(topic));
        let detached = run(&["topics", "--addr", &address, "detach", &topic]).await;
        assert!(detached.status.success(), "{detached:?}");
    }
}

/// Receives until all of these numbers have come, each once. Others may come, which were written before.
async fn receive_all(stream: &mut PullStream, numbers: Range<usize>) {
    let mut missing: BTreeSet<_> = numbers.clone().collect();
    while !missing.is_empty() {
        let received = stream.receive_some().await;
        stream.ack(ack_ids(&received)).await;
        for number in texts(&received) {
            let number = number.parse().expect("a number");
            let is_new = missing.remove(&number) || number < numbers.start;
            assert!(is_new, "{number} came twice");
        }
    }
}

#[tokio::test]
async fn a_name_that_leaves_takes_nothing_from_the_other_one() {
    let names = Names::new().await;
    let (leaving, mut stream) = names.open("leaving", "leaving").await;
    let (_, mut staying) = names.open("staying", "staying").await;
    let writer = Writer::start(&names.kafka_topic);
    stream.receive_some().await;
    names.detach("leaving").await;
    writer.writes(50).await;
    let deleted = names.client.delete_subscription(&leaving).await;
    deleted.expect("deleted");
    writer.writes(50).await;
    let count = writer.stop().await;
    receive_all(&mut staying, 0..count).await;
}

#[tokio::test]
async fn a_name_that_is_detached_and_attached_again_gets_everything() {
    let names = Names::new().await;
    let (first, mut stream) = names.open("theirs", "first").await;
    let writer = Writer::start(&names.kafka_topic);
    stream.receive_some().await;
    names.detach("theirs").await;
    let (_, mut again) = names.open("theirs", "again").await;
    let from = writer.next();
    writer.writes(50).await;
    let deleted = names.client.delete_subscription(&first).await;
    deleted.expect("deleted");
    writer.writes(50).await;
    let count = writer.stop().await;
    receive_all(&mut again, from..count).await;
}
