//! The client that appends: hands records over, takes in what brokers report of them, and is replaced when it breaks.

use std::{
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use parking_lot::{MappedRwLockReadGuard, Mutex, RwLock, RwLockReadGuard};
use rdkafka::{
    ClientConfig, ClientContext, Message as _,
    config::RDKafkaLogLevel,
    error::{KafkaError, RDKafkaErrorCode},
    producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer},
};
use tokio::{task::spawn_blocking, time::Instant};

use super::super::{
    admin::cluster,
    context::Listener,
    errors,
    follow::gathering::{Gathered, Gathering},
    follow::head::Head,
    known::KnownTopic,
    record,
};
use super::{
    gate::Gate,
    job::{Job, Progress},
};
use crate::{
    limits::{
        KAFKA_ANSWER_MILLIS, KAFKA_MESSAGE_TIMEOUT_MILLIS_MAX, KAFKA_METADATA_MILLIS,
        KAFKA_UNKNOWN_MILLIS,
    },
    resource::message::ScannedMessage,
    store::{StoreError, log::Partition},
};

/// Hands records to Kafka.
pub(in crate::store::kafka) struct Producer {
    me: Weak<Self>,
    config: ClientConfig,
    head: Arc<Head>,
    /// None once it was closed. A task that must not block uses it under the lock: the last one to let go of a client
    /// waits for its thread.
    current: RwLock<Option<Arc<Client>>>,
    /// Appends that were let in and lanes, none of which is handed over yet.
    waiting: AtomicUsize,
    /// Jobs that were ever sent.
    sent: AtomicU64,
}

type Client = ThreadedProducer<Reports>;

/// An append that was let in: until this is dropped, [`Producer::close`] waits for it.
pub(in crate::store::kafka) struct Entered<'a>(&'a AtomicUsize);

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Takes in what happened to each record.
pub(in crate::store::kafka) struct Reports {
    listener: Listener,
    producer: Weak<Producer>,
    head: Arc<Head>,
    gathering: Mutex<Gathering>,
    /// The client cannot go on: its records would be out of step with what the broker has.
    broken: AtomicBool,
    since: Instant,
}

const ANSWER: Duration = Duration::from_millis(KAFKA_ANSWER_MILLIS);
const FIRST_METADATA: Duration = Duration::from_millis(KAFKA_METADATA_MILLIS);
const UNKNOWN: Duration = Duration::from_millis(KAFKA_UNKNOWN_MILLIS);
const RETRY: Duration = Duration::from_millis(20);
/// A client that was not allowed to write is not replaced sooner, whatever the number of requests.
const REFUSED_PAUSE: Duration = Duration::from_secs(1);
/// Between two checks whether everything was handed over, when closing.
const CLOSING_CHECK: Duration = Duration::from_millis(1);
/// Longest time that a client takes to get rid of what it was given.
const DRAIN: Duration = Duration::from_millis(KAFKA_MESSAGE_TIMEOUT_MILLIS_MAX + 500);

impl Producer {
    pub(in crate::store::kafka) fn new(
        config: ClientConfig,
        head: Arc<Head>,
    ) -> Result<Arc<Self>, KafkaError> {
        let producer = Arc::new_cyclic(|me| Self {
            me: Weak::clone(me),
            config,
            head,
            current: RwLock::default(),
            waiting: AtomicUsize::new(0),
            sent: AtomicU64::new(0),
        });
        *producer.current.write() = Some(producer.start()?);
        Ok(producer)
    }

    /// Lets an append in, which comes before the check whether the log is closed still.
    pub(in crate::store::kafka) fn enter(&self) -> Entered<'_> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        Entered(&self.waiting)
    }

    /// Hands the messages of a job over, each lane in order. The job is answered when all were reported.
    pub(in crate::store::kafka) fn send(&self, job: &Arc<Job>) {
        self.sent.fetch_add(1, Ordering::Relaxed);
        for (index, lane) in job.lanes().iter().enumerate() {
            self.waiting.fetch_add(1, Ordering::SeqCst);
            lane.gate
                .add(job, index, |job, lane| self.hand_over(job, lane));
        }
    }

    /// How many jobs were ever sent: whether it grows tells whether anybody publishes here.
    pub(in crate::store::kafka) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Hands a job over that still waits for those before it.
    pub(in crate::store::kafka) fn hurry(&self, job: &Job) {
        for lane in job.lanes() {
            lane.gate.open_wide(|job, lane| self.hand_over(job, lane));
        }
    }

    /// Hands a lane over, and answers how many of its messages went.
    fn hand_over(&self, job: &Arc<Job>, lane: usize) -> usize {
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        let lane = &job.lanes()[lane];
        let count = lane.len();
        let client = match self.working() {
            Ok(client) => client,
            Err(error) => {
                end(job, count, error);
                return 0;
            }
        };
        for (index, message) in job.messages(lane).enumerate() {
            if let Err(error) = send(&client, job, lane.partition, &message) {
                // Of this message and those behind it nothing was taken.
                end(job, count - index, error);
                return index;
            }
        }
        count
    }

    /// The failure of a request, with what the client broke from if that says more: what it gives up then is said to be
    /// given up, and no more. What may have been appended may have been so still.
    pub(in crate::store::kafka) fn explain(&self, error: StoreError) -> StoreError {
        if !matches!(error, StoreError::Unavailable(_) | StoreError::Uncertain(_)) {
            return error;
        }
        match self.current.read().as_deref().and_then(refusal) {
            Some(refusal) => explained(error, refusal),
            None => error,
        }
    }

    /// Has the client learn where the partitions of a topic are. Answers how many there are, once each has a leader.
    /// Blocks.
    fn load_metadata(&self, topic: &str, patience: Duration) -> Result<Option<u32>, KafkaError> {
        // Not under the lock, as this may take long; and a task that may block may be the last one to let go.
        let Some(client) = self.current.read().clone() else {
            return Err(KafkaError::Canceled);
        };
        let metadata = client.client().fetch_metadata(Some(topic), patience)?;
        let loaded = cluster::named(&metadata, topic).filter(|topic| {
            let mut partitions = topic.partitions().iter();
            topic.error().is_none() && partitions.all(|partition| partition.leader() >= 0)
        });
        let count = loaded.map(|topic| topic.partitions().len() as u32);
        Ok(count.filter(|count| *count > 0))
    }

    /// The same, of a topic that the broker may not have heard of yet.
    fn load_metadata_soon(
        &self,
        topic: &str,
        patience: Duration,
    ) -> Result<Option<u32>, KafkaError> {
        let deadline = Instant::now() + UNKNOWN;
        loop {
            let count = self.load_metadata(topic, patience)?;
            if count.is_some() || Instant::now() + RETRY > deadline {
                return Ok(count);
            }
            thread::sleep(RETRY);
        }
    }

    /// Waits until everything that was sent was reported, or given up. Blocks.
    pub(in crate::store::kafka) fn close(&self) {
        let deadline = Instant::now() + DRAIN;
        while self.waiting.load(Ordering::SeqCst) > 0 && Instant::now() < deadline {
            thread::sleep(CLOSING_CHECK);
        }
        let client = self.current.write().take();
        if let Some(client) = client {
            drain(&client);
        }
    }

    /// The client, or a new one if it cannot go on.
    fn working(&self) -> Result<MappedRwLockReadGuard<'_, Client>, StoreError> {
        let closed = |_| StoreError::Unavailable("the log is closed".to_owned());
        let current = || RwLockReadGuard::try_map(self.current.read(), Option::as_deref);
        let client = current().map_err(closed)?;
        if !client.context().broken.load(Ordering::Relaxed) {
            return Ok(client);
        }
        if client.context().since.elapsed() < REFUSED_PAUSE
            && let Some(refusal) = refusal(&client)
        {
            return Err(refusal);
        }
        drop(client);
        self.replace()?;
        current().map_err(closed)
    }

    /// Replaces a broken client with a new one, unless another task has done so.
    fn replace(&self) -> Result<(), StoreError> {
        let mut slot = self.current.write();
        let is_broken = |client: &mut Arc<Client>| client.context().broken.load(Ordering::Relaxed);
        if slot.as_mut().is_some_and(is_broken) {
            tracing::error!("the producer cannot go on and is replaced");
            let client = self
                .start()
                .map_err(|error| StoreError::Unavailable(errors::text(&error)))?;
            let broken = slot.replace(client);
            drop(slot);
            if let Some(broken) = broken {
                retire(broken);
            }
        }
        Ok(())
    }

    fn start(&self) -> Result<Arc<Client>, KafkaError> {
        let reports = Reports {
            listener: Listener::new("producer"),
            producer: Weak::clone(&self.me),
            head: Arc::clone(&self.head),
            gathering: Mutex::default(),
            broken: AtomicBool::new(false),
            since: Instant::now(),
        };
        self.config.create_with_context(reports).map(Arc::new)
    }
}

/// Has the client learn where a topic's partitions are, if nothing was published to it here yet. Each topic that the
/// client has loaded costs a little in every send, so it loads none that is not published to. A caller that comes
/// meanwhile does not wait: the client keeps messages until it knows.
pub(in crate::store::kafka) async fn load_first_metadata(
    producer: &Arc<Producer>,
    topic: &Arc<KnownTopic>,
) {
    if topic.begins_loading() {
        load_metadata(producer, topic, FIRST_METADATA).await;
    }
}

/// Has the client learn of a topic's new partitions, now that there are `count`, if it has loaded the topic. Only then
/// is anything sent to new ones.
pub(in crate::store::kafka) async fn load_more_partitions(
    producer: &Arc<Producer>,
    topic: &Arc<KnownTopic>,
    count: u32,
) {
    if topic.is_loaded() && count > topic.partitions() {
        load_metadata(producer, topic, ANSWER).await;
    }
}

async fn load_metadata(producer: &Arc<Producer>, topic: &Arc<KnownTopic>, patience: Duration) {
    let (producer, topic) = (Arc::clone(producer), Arc::clone(topic));
    let loading = spawn_blocking(move || {
        match producer.load_metadata_soon(&topic.name, patience) {
            Ok(count) => topic.loaded_partitions(count.unwrap_or(0)),
            Err(error) => {
                let error = errors::text(&error);
                tracing::debug!(topic = %topic.name, error, "the producer has not met a topic");
            }
        }
        topic.ends_loading();
    });
    loading.await.ok();
}

impl Drop for Producer {
    fn drop(&mut self) {
        if let Some(client) = self.current.get_mut().take() {
            retire(client);
        }
    }
}

/// Gives a client one message.
fn send(
    client: &Client,
    job: &Arc<Job>,
    partition: Partition,
    message: &ScannedMessage<'_>,
) -> Result<(), StoreError> {
    let mut record = BaseRecord::with_opaque_to(&job.topic.name, Arc::clone(job))
        .partition(partition.cast_signed())
        .payload(message.data());
    if !message.ordering_key().is_empty() {
        record = record.key(message.ordering_key());
    }
    if let Some(headers) = record::headers(message)? {
        record = record.headers(headers);
    }
    let Err((error, _record)) = client.send(record) else {
        return Ok(());
    };
    let code = error.rdkafka_error_code();
    if code == Some(RDKafkaErrorCode::Fatal) {
        client.context().broken.store(true, Ordering::Relaxed);
    }
    Err(match code.map(errors::of_record) {
        Some(StoreError::Uncertain(text)) => StoreError::Unavailable(text),
        Some(error) => error,
        None => StoreError::Unavailable(errors::text(&error)),
    })
}

fn explained(error: StoreError, refusal: StoreError) -> StoreError {
    match error {
        StoreError::Uncertain(text) => StoreError::Uncertain(format!("{text}; {refusal}")),
        _ => refusal,
    }
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

    /// Lets those go that wait behind a message which was reported.
    fn let_next(&self, gate: Option<&Gate>) {
        if let Some(gate) = gate
            && gate.is_free_after_report()
            && let Some(producer) = self.producer.upgrade()
        {
            gate.open(|job, lane| producer.hand_over(job, lane));
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
        let record = match result {
            Ok(record) | Err((_, record)) => record,
        };
        let gate = job.gate(record.partition().cast_unsigned());
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
        self.let_next(gate);
    }
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Producer")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_have_been_appended_is_not_said_to_be_refused() {
        let refusal = || StoreError::Refused("not allowed".to_owned());
        let late = StoreError::Uncertain("late".to_owned());
        let error = explained(late, refusal());
        assert!(!error.definitely_failed(), "{error}");
        assert!(error.to_string().contains("not allowed"), "{error}");
        let given_up = explained(StoreError::Unavailable("given up".to_owned()), refusal());
        assert!(matches!(given_up, StoreError::Refused(_)), "{given_up}");
    }
}
