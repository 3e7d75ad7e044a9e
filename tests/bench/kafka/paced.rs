//! A producer and a consumer at a rate.

use std::{
    hint,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use rdkafka::{
    Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    producer::{BaseRecord, Producer as _, ThreadedProducer},
};

use crate::{
    cluster::Cluster,
    message::{Mark, Message},
    report::Report,
    watch::{Confirmations, Measured, Watch, now},
};

/// Messages per second.
const RATE: u32 = 1_000;
/// Topics that are created.
const NEW_TOPICS: usize = 1_000;
/// Time before a measurement.
const WARM_UP: Duration = Duration::from_millis(500);
/// The system wakes a sleeping thread this much late; the rest of a wait is spun.
const SLACK: Duration = Duration::from_micros(60);
/// What is not confirmed, or does not come, in this time never will.
const ARRIVAL_WAIT: Duration = Duration::from_secs(10);
/// How often a consumer that gets nothing checks whether it should end.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Measures the pair alone.
pub(crate) fn latency(
    cluster: &Cluster,
    topic: &str,
    size: usize,
    seconds: Duration,
) -> anyhow::Result<Vec<Report>> {
    let pair = Pair::start(cluster, topic, size)?;
    let alone = pair.alone(seconds)?;
    pair.end(size, &[("latency", alone)])
}

/// Measures the pair alone, and then while topics are created.
pub(crate) fn topics(
    cluster: &Cluster,
    topic: &str,
    size: usize,
    seconds: Duration,
) -> anyhow::Result<Vec<Report>> {
    let names = cluster.new_names(NEW_TOPICS);
    let pair = Pair::start(cluster, topic, size)?;
    let before = pair.alone(seconds)?;
    let during = pair.watch.during(|| cluster.create_topics(&names));
    let reports = during.and_then(|during| {
        pair.end(
            size,
            &[("topics-before", before), ("topics-during", during)],
        )
    });
    cluster.delete_topics(&names)?;
    let mut reports = reports?;
    if let Some(during) = reports.last_mut() {
        during.new_topics = Some(NEW_TOPICS);
    }
    Ok(reports)
}

/// A producer and a consumer at work.
struct Pair {
    watch: Arc<Watch>,
    stop: Arc<AtomicBool>,
    /// How many messages the consumer waits for.
    expected: Arc<AtomicU64>,
    /// Ends with the number of messages that were sent, once all are confirmed or were given up.
    producing: JoinHandle<anyhow::Result<u64>>,
    /// Ends when it has what it waits for, or nothing comes any more.
    consuming: JoinHandle<anyhow::Result<()>>,
}

impl Pair {
    fn start(cluster: &Cluster, topic: &str, size: usize) -> anyhow::Result<Self> {
        let watch = Watch::new()?;
        let stop = Arc::new(AtomicBool::new(false));
        let expected = Arc::new(AtomicU64::new(u64::MAX));
        let consumer: BaseConsumer = cluster
            .consumer_config()
            .create()
            .context("cannot make a consumer")?;
        let mut partitions = TopicPartitionList::new();
        partitions.add_partition_offset(topic, 0, Offset::Beginning)?;
        consumer.assign(&partitions)?;
        let producer: ThreadedProducer<Confirmations> = cluster
            .producer_config()
            .create_with_context(Confirmations(Arc::clone(&watch)))
            .context("cannot make a producer")?;
        let consuming = thread::spawn({
            let (watch, expected) = (Arc::clone(&watch), Arc::clone(&expected));
            move || consume(&consumer, &watch, &expected)
        });
        let producing = thread::spawn({
            let (watch, stop, topic) = (Arc::clone(&watch), Arc::clone(&stop), topic.to_owned());
            move || produce(&producer, &topic, Message::new(size), &watch, &stop)
        });
        Ok(Self {
            watch,
            stop,
            expected,
            producing,
            consuming,
        })
    }

    fn alone(&self, seconds: Duration) -> anyhow::Result<Measured> {
        // Until the first has come, the clients may still be looking for the topic's broker.
        while self.watch.received.load(Relaxed) == 0 && !self.consuming.is_finished() {
            thread::sleep(POLL_INTERVAL);
        }
        thread::sleep(WARM_UP);
        self.watch.during(|| {
            thread::sleep(seconds);
            Ok(())
        })
    }

    /// Reports what was measured, void if anything of the whole was not confirmed or did not come.
    fn end(
        self,
        size: usize,
        measured: &[(&'static str, Measured)],
    ) -> anyhow::Result<Vec<Report>> {
        self.stop.store(true, Relaxed);
        let published = self.producing.join().expect("a producer does not panic")?;
        self.expected.store(published, Relaxed);
        self.consuming.join().expect("a consumer does not panic")?;
        let confirmed = self.watch.confirmed.load(Relaxed);
        let received = self.watch.received.load(Relaxed);
        let report = |&(load, measured)| Report {
            rate: Some(RATE),
            published,
            confirmed,
            received: Some(received),
            void: confirmed < published || received < published,
            ..Report::new(load, size, measured)
        };
        Ok(measured.iter().map(report).collect())
    }
}

/// Sends a message whenever one is due.
fn produce(
    producer: &ThreadedProducer<Confirmations>,
    topic: &str,
    mut message: Message,
    watch: &Watch,
    stop: &AtomicBool,
) -> anyhow::Result<u64> {
    let interval = Duration::from_secs(1) / RATE;
    let mut due = now();
    let mut sent = 0;
    while !stop.load(Relaxed) {
        wait_until(due);
        let mark = Mark {
            sequence: sent,
            sent_micros: watch.micros_of(due),
        };
        let record = BaseRecord::<(), _>::to(topic)
            .partition(0)
            .payload(message.marked(mark));
        producer.send(record).map_err(|(error, _)| error)?;
        sent += 1;
        due += interval;
    }
    producer.flush(ARRIVAL_WAIT)?;
    Ok(sent)
}

/// Takes messages, each once and in their order.
fn consume(consumer: &BaseConsumer, watch: &Watch, expected: &AtomicU64) -> anyhow::Result<()> {
    let mut last = now();
    let mut next = 0;
    while next < expected.load(Relaxed) && last.elapsed() < ARRIVAL_WAIT {
        let Some(message) = consumer.poll(POLL_INTERVAL) else {
            continue;
        };
        let mark = Mark::of(message?.payload()).context("a message without a mark came")?;
        if mark.sequence != next {
            anyhow::bail!("message {} came instead of {next}", mark.sequence);
        }
        watch.received(mark);
        next += 1;
        last = now();
    }
    Ok(())
}

fn wait_until(due: Instant) {
    let left = due.saturating_duration_since(now());
    if let Some(asleep) = left.checked_sub(SLACK) {
        thread::sleep(asleep);
    }
    while now() < due {
        hint::spin_loop();
    }
}
