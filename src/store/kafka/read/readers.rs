//! Reads of what is no longer in memory, through a few consumers, however many subscriptions lag.
//!
//! Reads wait in line. A consumer that becomes free carries out many of them together, so that a node which reads a
//! thousand topics for the first time begins with all of them within a few turns.

use std::{sync::Arc, thread, time::Duration};

use rdkafka::ClientConfig;
use tokio::{
    task::spawn_blocking,
    time::{Instant, timeout_at},
};

use super::super::admin::cluster::Cluster;
use super::{
    pool::Pool,
    wanted::{Asked, Found, How, Wanted, astray},
};
use crate::{
    limits::{KAFKA_ANSWER_MILLIS, KAFKA_READER_IDLE_MILLIS},
    store::{
        StoreError,
        log::{Offset, Partition, PartitionBounds, ReadBatch},
    },
};

/// The consumers. Each is made when it is first needed.
pub(in crate::store::kafka) struct Readers {
    pub(in crate::store::kafka) cluster: Cluster,
    pool: Arc<Pool>,
}

const PATIENCE: Duration = Duration::from_millis(2 * KAFKA_ANSWER_MILLIS);
/// A reader says why there is no answer a moment after the patience has ended.
const LAST_WORD: Duration = Duration::from_millis(200);

impl Readers {
    pub(in crate::store::kafka) fn new(config: ClientConfig, cluster: Cluster) -> Self {
        Self {
            cluster,
            pool: Arc::new(Pool::new(config)),
        }
    }

    /// Reads what lies in the range.
    pub(in crate::store::kafka) async fn read(
        &self,
        wanted: Wanted,
    ) -> Result<ReadBatch, StoreError> {
        let start = wanted.range.start;
        if start >= wanted.target() {
            return Ok(ReadBatch::without_records(start));
        }
        let deadline = Instant::now() + PATIENCE;
        match self.ask(wanted.clone(), How::Together, deadline).await {
            Ok(Found::Some(batch)) => return Ok(batch),
            Ok(Found::Damage) => return Err(damaged(&wanted)),
            // A client says of nothing which topic it means.
            Ok(_) | Err(StoreError::NoSuchLog) => {}
            Err(error) => return Err(error),
        }
        // Before an offset is taken for one without a record, the leader says where the log begins and ends, and has
        // nothing there once more: one that has just become the leader shows less for a moment.
        let bounds = self
            .cluster
            .bounds_of(&wanted.topic, wanted.partition)
            .await?;
        let target = wanted.target().min(bounds.end);
        if let Some(batch) = outside(&wanted, bounds) {
            return Ok(batch);
        }
        match self.ask(wanted.clone(), How::Alone, deadline).await {
            Ok(Found::Some(batch)) => Ok(batch),
            Ok(Found::Damage) => Err(damaged(&wanted)),
            Ok(Found::Nothing) => Ok(ReadBatch::without_records(target)),
            Ok(Found::OutOfRange) => Err(StoreError::Unavailable(
                "Kafka's brokers do not agree on where a topic begins and ends".to_owned(),
            )),
            Ok(Found::Stray | Found::Unclear | Found::Readable(_)) => Err(astray(&wanted)),
            Err(StoreError::NoSuchLog) => Err(not_sent(&wanted.topic, wanted.partition)),
            Err(error) => Err(error),
        }
    }

    /// The first offset at or after the range's start from which reading goes on behind damage; that itself where there
    /// is none.
    pub(in crate::store::kafka) async fn skip_damage(
        &self,
        wanted: Wanted,
    ) -> Result<Offset, StoreError> {
        let deadline = Instant::now() + PATIENCE;
        let (topic, partition) = (wanted.topic.clone(), wanted.partition);
        match self.ask(wanted.clone(), How::BehindDamage, deadline).await {
            Ok(Found::Readable(offset)) => Ok(offset),
            Ok(_) => Err(astray(&wanted)),
            Err(StoreError::NoSuchLog) => {
                self.cluster.bounds_of(&topic, partition).await?;
                Err(not_sent(&topic, partition))
            }
            Err(error) => Err(error),
        }
    }

    /// Has readers that nobody used for a while stop reading ahead.
    pub(in crate::store::kafka) async fn rest(&self) {
        let pause = Duration::from_millis(KAFKA_READER_IDLE_MILLIS);
        let resting = self.pool.take_unused(Instant::now(), pause);
        if resting.is_empty() {
            return;
        }
        let pool = Arc::clone(&self.pool);
        let stopped = spawn_blocking(move || {
            for mut reader in resting {
                reader.stop();
                pool.put_back(reader);
            }
        });
        stopped.await.ok();
    }

    #[cfg(test)]
    pub(in crate::store::kafka) fn pool(&self) -> &Pool {
        &self.pool
    }

    async fn ask(&self, wanted: Wanted, how: How, deadline: Instant) -> Result<Found, StoreError> {
        let (asked, answered) = Asked::new(wanted, how, deadline);
        Pool::take_in(&self.pool, asked);
        match timeout_at(deadline + LAST_WORD, answered).await {
            Ok(Ok(found)) => found,
            Ok(Err(_)) => Err(StoreError::Unavailable("the server is stopping".to_owned())),
            Err(_) => Err(too_many()),
        }
    }
}

/// Ending consumers takes its time.
impl Drop for Readers {
    fn drop(&mut self) {
        let readers = self.pool.close();
        if !readers.is_empty() {
            thread::spawn(move || drop(readers));
        }
    }
}

/// Error of a read whose turn does not come.
pub(super) fn too_many() -> StoreError {
    StoreError::Unavailable("too many reads wait for Kafka".to_owned())
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
