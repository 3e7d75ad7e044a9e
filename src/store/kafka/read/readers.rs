//! Reads of what is no longer in memory, through a few consumers, however many subscriptions lag.

use std::{sync::Arc, thread, time::Duration};

use parking_lot::Mutex;
use rdkafka::ClientConfig;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::spawn_blocking,
    time::{Instant, timeout_at},
};

use super::super::{admin::cluster::Cluster, errors};
use super::reader::{self, Found, Reader, Wanted};
use crate::{
    limits::{KAFKA_ANSWER_MILLIS, KAFKA_READER_IDLE_MILLIS, KAFKA_READERS_MAX},
    store::{
        StoreError,
        log::{Offset, Partition, PartitionBounds, ReadBatch},
    },
};

/// The consumers. Each is made when it is first needed.
pub(in crate::store::kafka) struct Readers {
    config: ClientConfig,
    pub(in crate::store::kafka) cluster: Cluster,
    permits: Arc<Semaphore>,
    idle: Arc<Mutex<Vec<Reader>>>,
}

const PATIENCE: Duration = Duration::from_millis(2 * KAFKA_ANSWER_MILLIS);

impl Readers {
    pub(in crate::store::kafka) fn new(config: ClientConfig, cluster: Cluster) -> Self {
        Self {
            config,
            cluster,
            permits: Arc::new(Semaphore::new(KAFKA_READERS_MAX)),
            idle: Arc::default(),
        }
    }

    /// Reads what lies in the range.
    pub(in crate::store::kafka) async fn read(
        &self,
        wanted: Wanted,
    ) -> Result<ReadBatch, StoreError> {
        let deadline = Instant::now() + PATIENCE;
        match self.try_read(wanted.clone(), false, deadline).await {
            Ok(Found::Some(batch)) => return Ok(batch),
            Ok(Found::Damage) => return Err(damaged(&wanted)),
            // A client says of nothing which topic it means.
            Ok(Found::Nothing | Found::OutOfRange | Found::Stray) | Err(StoreError::NoSuchLog) => {}
            Err(error) => return Err(error),
        }
        // Before an offset is taken for one without a record, the leader says where the log begins and ends, and has
        // nothing there once more: one that has just become the leader shows less for a moment.
        let bounds = self
            .cluster
            .bounds_of(&wanted.topic, wanted.partition)
            .await?;
        let target = wanted.range.end.min(wanted.end).min(bounds.end);
        if let Some(batch) = outside(&wanted, bounds) {
            return Ok(batch);
        }
        match self.try_read(wanted.clone(), true, deadline).await {
            Ok(Found::Some(batch)) => Ok(batch),
            Ok(Found::Damage) => Err(damaged(&wanted)),
            Ok(Found::Stray) => Err(reader::astray(&wanted)),
            Ok(Found::Nothing) => Ok(ReadBatch::without_records(target)),
            Err(StoreError::NoSuchLog) => Err(not_sent(&wanted.topic, wanted.partition)),
            Err(error) => Err(error),
            Ok(Found::OutOfRange) => Err(StoreError::Unavailable(
                "Kafka's brokers do not agree on where a topic begins and ends".to_owned(),
            )),
        }
    }

    /// See [`Reader::skip_damage`].
    pub(in crate::store::kafka) async fn skip_damage(
        &self,
        wanted: Wanted,
    ) -> Result<Offset, StoreError> {
        let deadline = Instant::now() + PATIENCE;
        let mut reader = self.reader(&wanted, deadline).await?;
        let (topic, partition) = (wanted.topic.clone(), wanted.partition);
        let skipped = spawn_blocking(move || reader.get()?.skip_damage(&wanted, deadline));
        let skipped = skipped.await.map_err(|_| stopping())?;
        if let Err(StoreError::NoSuchLog) = skipped {
            self.cluster.bounds_of(&topic, partition).await?;
            return Err(not_sent(&topic, partition));
        }
        skipped
    }

    /// Has readers that nobody used for a while stop reading ahead.
    pub(in crate::store::kafka) async fn rest(&self) {
        let now = Instant::now();
        let pause = Duration::from_millis(KAFKA_READER_IDLE_MILLIS);
        let rests =
            |reader: &Reader| reader.is_ahead() && now.duration_since(reader.used_at) > pause;
        while let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
            let Some(mut lent) = self.lend_first(rests, permit) else {
                self.idle.lock().iter().for_each(Reader::listen);
                return;
            };
            let stopped = spawn_blocking(move || {
                if let Some(reader) = &mut lent.reader {
                    reader.stop();
                }
            });
            stopped.await.ok();
        }
    }

    fn lend_first(
        &self,
        which: impl Fn(&Reader) -> bool,
        permit: OwnedSemaphorePermit,
    ) -> Option<Lent> {
        let mut idle = self.idle.lock();
        let at = idle.iter().position(which)?;
        Some(self.lend(Some(idle.swap_remove(at)), permit))
    }

    /// Has every idle reader take the partition that it reads for this one, as a defect would. How many did.
    #[cfg(test)]
    pub(in crate::store::kafka) fn mislead(&self, to: &Wanted) -> usize {
        let mut idle = self.idle.lock();
        let misled = idle.iter_mut().map(|reader| reader.mislead(to));
        misled.filter(|misled| *misled).count()
    }

    /// How many readers wait for their next read.
    #[cfg(test)]
    pub(in crate::store::kafka) fn idle(&self) -> usize {
        self.idle.lock().len()
    }

    async fn try_read(
        &self,
        wanted: Wanted,
        fresh: bool,
        deadline: Instant,
    ) -> Result<Found, StoreError> {
        let mut reader = self.reader(&wanted, deadline).await?;
        let found = spawn_blocking(move || reader.get()?.read(&wanted, fresh, deadline));
        found.await.map_err(|_| stopping())?
    }

    /// The reader that stands there already, or else the one that was used least recently.
    async fn reader(&self, wanted: &Wanted, deadline: Instant) -> Result<Lent, StoreError> {
        let permit = timeout_at(deadline, Arc::clone(&self.permits).acquire_owned()).await;
        let permit = permit
            .map_err(|_| StoreError::Unavailable("too many reads wait for Kafka".to_owned()))?
            .map_err(|_| stopping())?;
        let mut idle = self.idle.lock();
        let at = idle
            .iter()
            .position(|reader| reader.stands_at(wanted))
            .or_else(|| {
                let oldest = (0..idle.len()).min_by_key(|at| idle[*at].used_at)?;
                // As long as there may be more, one that is not reading ahead for another caller.
                (idle.len() > self.permits.available_permits() || !idle[oldest].is_ahead())
                    .then_some(oldest)
            });
        let reader = at.map(|at| idle.swap_remove(at));
        Ok(self.lend(reader, permit))
    }

    fn lend(&self, reader: Option<Reader>, permit: OwnedSemaphorePermit) -> Lent {
        Lent {
            config: self.config.clone(),
            reader,
            home: Arc::clone(&self.idle),
            _permit: permit,
        }
    }
}

/// Ending consumers takes its time.
impl Drop for Readers {
    fn drop(&mut self) {
        let readers = std::mem::take(&mut *self.idle.lock());
        if !readers.is_empty() {
            thread::spawn(move || drop(readers));
        }
    }
}

/// A reader that comes back by itself.
struct Lent {
    config: ClientConfig,
    reader: Option<Reader>,
    home: Arc<Mutex<Vec<Reader>>>,
    _permit: OwnedSemaphorePermit,
}

impl Lent {
    /// The reader, made now if there was none.
    fn get(&mut self) -> Result<&mut Reader, StoreError> {
        match &mut self.reader {
            Some(reader) => Ok(reader),
            none => {
                let made = Reader::new(&self.config);
                Ok(none.insert(made.map_err(|error| errors::of_question(&error))?))
            }
        }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(reader) = self.reader.take().filter(|reader| !reader.is_broken()) {
            self.home.lock().push(reader);
        }
    }
}

/// The answer of a read that begins outside of the log.
fn outside(wanted: &Wanted, bounds: PartitionBounds) -> Option<ReadBatch> {
    let from = wanted.range.start;
    let next = if from >= bounds.end {
        from
    } else if from < bounds.start {
        bounds.start.min(wanted.range.end)
    } else {
        return None;
    };
    Some(ReadBatch::without_records(next))
}

/// Of a topic that is there, whatever a client has said, which may have meant another one that it read before.
fn not_sent(topic: &str, partition: Partition) -> StoreError {
    StoreError::Unavailable(format!(
        "Kafka does not send records of {topic}, partition {partition}"
    ))
}

fn damaged(wanted: &Wanted) -> StoreError {
    StoreError::Damaged(format!(
        "a batch of the Kafka topic {}, partition {}, at or after offset {} cannot be read",
        wanted.topic, wanted.partition, wanted.range.start
    ))
}

fn stopping() -> StoreError {
    StoreError::Unavailable("the server is stopping".to_owned())
}
