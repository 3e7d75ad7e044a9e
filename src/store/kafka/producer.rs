//! The client that appends: hands records over, takes in what brokers report of them, and is replaced when it breaks.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use parking_lot::{Mutex, RwLock};
use rdkafka::{
    ClientConfig, ClientContext, Message as _,
    config::RDKafkaLogLevel,
    error::{KafkaError, RDKafkaErrorCode},
    producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer},
};
use tokio::{task::spawn_blocking, time::Instant};

use super::{
    context::Listener,
    errors,
    gathering::{Gathered, Gathering},
    head::Head,
    job::{Job, Progress},
    known::KnownTopic,
    record,
};
use crate::{
    limits::{KAFKA_ANSWER_MILLIS, KAFKA_MESSAGE_TIMEOUT_MILLIS_MAX},
    resource::message::Parts,
    store::{StoreError, log::Partition},
};

/// Hands records to Kafka.
pub(super) struct Producer {
    config: ClientConfig,
    head: Arc<Head>,
    /// None once it was closed.
    current: RwLock<Option<Arc<Client>>>,
}

type Client = ThreadedProducer<Reports>;

/// Takes in what happened to each record.
pub(super) struct Reports {
    listener: Listener,
    head: Arc<Head>,
    gathering: Mutex<Gathering>,
    /// The client cannot go on: its records would be out of step with what the broker has.
    broken: AtomicBool,
    since: Instant,
}

const ANSWER: Duration = Duration::from_millis(KAFKA_ANSWER_MILLIS);
/// A client that was not allowed to write is not replaced sooner, whatever the number of requests.
const REFUSED_PAUSE: Duration = Duration::from_secs(1);
/// Longest time that a client takes to get rid of what it was given.
const DRAIN: Duration = Duration::from_millis(KAFKA_MESSAGE_TIMEOUT_MILLIS_MAX + 500);

impl Producer {
    pub(super) fn new(config: ClientConfig, head: Arc<Head>) -> Result<Self, KafkaError> {
        let client = start(&config, &head)?;
        Ok(Self {
            config,
            head,
            current: RwLock::new(Some(client)),
        })
    }

    /// Hands the records of a job over, which is answered when all were reported.
    pub(super) fn send(&self, job: &Arc<Job>, records: &[(Partition, Parts<'_>)]) {
        let client = match self.working() {
            Ok(client) => client,
            Err(error) => return end(job, records.len(), error),
        };
        // Requests do not mix, so the messages of one are neighbours.
        let _sending = job.topic.sending.lock();
        for (index, (partition, parts)) in records.iter().enumerate() {
            let mut record = BaseRecord::with_opaque_to(&job.topic.name, Arc::clone(job))
                .partition(partition.cast_signed())
                .payload(parts.data);
            if !parts.ordering_key.is_empty() {
                record = record.key(parts.ordering_key.as_bytes());
            }
            if let Some(headers) = record::headers(&parts.attributes) {
                record = record.headers(headers);
            }
            if let Err((error, _record)) = client.send(record) {
                let code = error.rdkafka_error_code();
                if code == Some(RDKafkaErrorCode::Fatal) {
                    client.context().broken.store(true, Ordering::Relaxed);
                }
                // Of this record and those behind it nothing was taken.
                let error = match code.map(errors::of_record) {
                    Some(StoreError::Uncertain(text)) => StoreError::Unavailable(text),
                    Some(error) => error,
                    None => StoreError::Unavailable(errors::text(&error)),
                };
                return end(job, records.len() - index, error);
            }
        }
    }

    /// The failure of a request, or what the client broke from if that says more: what it gives up then is said to be
    /// given up, and no more.
    pub(super) fn explain(&self, error: StoreError) -> StoreError {
        if !matches!(error, StoreError::Unavailable(_) | StoreError::Uncertain(_)) {
            return error;
        }
        let refusal = self.current.read().as_deref().and_then(refusal);
        refusal.unwrap_or(error)
    }

    /// Has the client learn where the partitions of a topic, or of every topic, are. Answers with those that have a
    /// leader each, and how many there are. Blocks.
    pub(super) fn meet(
        &self,
        topic: Option<&str>,
        patience: Duration,
    ) -> Result<HashMap<String, u32>, KafkaError> {
        let Some(client) = self.current.read().clone() else {
            return Err(KafkaError::Canceled);
        };
        let metadata = client.client().fetch_metadata(topic, patience)?;
        let led = metadata.topics().iter().filter(|topic| {
            let mut partitions = topic.partitions().iter();
            topic.error().is_none() && partitions.all(|partition| partition.leader() >= 0)
        });
        Ok(led
            .map(|topic| (topic.name().to_owned(), topic.partitions().len() as u32))
            .filter(|(_, partitions)| *partitions > 0)
            .collect())
    }

    /// Waits until everything that was handed over was reported, or given up. Blocks.
    pub(super) fn close(&self) {
        let client = self.current.write().take();
        if let Some(client) = client {
            drain(&client);
        }
    }

    /// The client, or a new one if it cannot go on.
    fn working(&self) -> Result<Arc<Client>, StoreError> {
        let closed = || StoreError::Unavailable("the log is closed".to_owned());
        let current = self.current.read().clone().ok_or_else(closed)?;
        if !current.context().broken.load(Ordering::Relaxed) {
            return Ok(current);
        }
        if current.context().since.elapsed() < REFUSED_PAUSE
            && let Some(refusal) = refusal(&current)
        {
            return Err(refusal);
        }
        let mut slot = self.current.write();
        match &*slot {
            None => Err(closed()),
            Some(other) if !Arc::ptr_eq(other, &current) => Ok(Arc::clone(other)),
            Some(_) => {
                tracing::error!("the producer cannot go on and is replaced");
                let client = start(&self.config, &self.head)
                    .map_err(|error| StoreError::Unavailable(errors::text(&error)))?;
                *slot = Some(Arc::clone(&client));
                drop(slot);
                retire(current);
                Ok(client)
            }
        }
    }
}

/// Has the client learn of a topic's partitions, now that there are `count`. Only then is anything sent to new ones.
pub(super) async fn meet_partitions(producer: &Arc<Producer>, topic: &Arc<KnownTopic>, count: u32) {
    if count <= topic.partitions() && topic.is_met() {
        return;
    }
    let (producer, topic) = (Arc::clone(producer), Arc::clone(topic));
    let met = spawn_blocking(move || match producer.meet(Some(&topic.name), ANSWER) {
        Ok(met) => topic.meets_partitions(met.get(&topic.name).copied().unwrap_or(0)),
        Err(error) => {
            let error = errors::text(&error);
            tracing::debug!(topic = %topic.name, error, "the producer has not met a topic");
        }
    });
    met.await.ok();
}

impl Drop for Producer {
    fn drop(&mut self) {
        if let Some(client) = self.current.get_mut().take() {
            retire(client);
        }
    }
}

fn start(config: &ClientConfig, head: &Arc<Head>) -> Result<Arc<Client>, KafkaError> {
    let reports = Reports {
        listener: Listener::new("producer"),
        head: Arc::clone(head),
        gathering: Mutex::default(),
        broken: AtomicBool::new(false),
        since: Instant::now(),
    };
    config.create_with_context(reports).map(Arc::new)
}

/// Why a client may not write at all, if that is why it cannot go on.
fn refusal(client: &Client) -> Option<StoreError> {
    let (code, _) = client.client().fatal_error()?;
    errors::is_forbidden(code).then(|| errors::of_record(code))
}

/// Lets a client finish what it has, away from the runtime: ending one takes its time.
fn retire(client: Arc<Client>) {
    let drained = thread::Builder::new()
        .name("kafka-producer-end".to_owned())
        .spawn(move || drain(&client));
    if let Err(error) = drained {
        tracing::error!(%error, "no thread could be started to end a producer");
    }
}

fn drain(client: &Client) {
    if let Err(error) = client.flush(DRAIN) {
        tracing::error!(error = %errors::text(&error), "not everything reached Kafka");
    }
}

fn end(job: &Job, count: usize, error: StoreError) {
    if job.failed(count, error) == Progress::Complete {
        job.answer();
    }
}

impl Reports {
    fn append_own(&self, gathered: Option<Gathered>) {
        if let Some(gathered) = gathered {
            self.head.append_own(gathered);
        }
    }
}

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, log_message: &str) {
        self.listener.log(level, fac, log_message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal) {
            tracing::error!(%reason, "the producer cannot go on");
            self.broken.store(true, Ordering::Relaxed);
        }
        self.listener.error(error, reason);
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = Arc<Job>;

    fn delivery(&self, result: &DeliveryResult<'_>, job: Arc<Job>) {
        let progress = match result {
            // Brokers say of a record that they got twice that they have it, but not always where.
            Ok(record) if record.offset() < 0 => {
                let text = "Kafka has the message, but does not say where".to_owned();
                job.failed(1, StoreError::Uncertain(text))
            }
            Ok(record) => {
                let partition = record.partition().cast_unsigned();
                let offset = record::offset(record);
                let publish_time = record::publish_time(record);
                let (message, progress) = job.delivered(partition, offset, publish_time);
                if let Some(message) = message
                    && job.topic.is_watched()
                {
                    let gathered = self.gathering.lock().push(
                        &job.topic,
                        partition,
                        offset,
                        publish_time,
                        message.clone(),
                    );
                    self.append_own(gathered);
                }
                progress
            }
            Err((error, _)) => {
                let code = error.rdkafka_error_code();
                if code == Some(RDKafkaErrorCode::Fatal) {
                    self.broken.store(true, Ordering::Relaxed);
                }
                let error = code.map_or_else(
                    || StoreError::Uncertain(errors::text(error)),
                    errors::of_record,
                );
                job.failed(1, error)
            }
        };
        if progress == Progress::Complete {
            // The end moves before anybody is answered.
            let gathered = self.gathering.lock().take();
            self.append_own(gathered);
            job.answer();
        }
    }
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Producer")
    }
}
