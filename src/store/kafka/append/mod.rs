//! One append: waits for a permit, finds each message's partition, hands everything over, waits for the reports.

pub(super) mod cause;
pub(super) mod gate;
pub(super) mod job;
pub(super) mod partitioner;
pub(super) mod producer;

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, oneshot},
    time::timeout,
};

use self::{
    job::{Answer, Job, Lane},
    producer::Entered,
};
use super::{known::KnownTopic, log::KafkaLog};
use crate::{
    limits::{KAFKA_APPEND_BYTES_MAX, KAFKA_APPEND_WAIT_MILLIS, KAFKA_GATE_WAIT_MILLIS},
    resource::message::AcceptedMessages,
    store::{StoreError, log::AppendedRun},
};

/// What a record costs on its way beside its bytes.
const RECORD_BYTES: usize = 256;
const WAIT: Duration = Duration::from_millis(KAFKA_APPEND_WAIT_MILLIS);
const GATE_WAIT: Duration = Duration::from_millis(KAFKA_GATE_WAIT_MILLIS);

/// A request that is on its way.
struct HandedOver {
    /// The lane of each message, in request order.
    lanes: Vec<usize>,
    job: Arc<Job>,
    answer: oneshot::Receiver<Answer>,
}

impl KafkaLog {
    pub(super) async fn append_to(
        &self,
        topic: &Arc<KnownTopic>,
        messages: AcceptedMessages,
        entered: Entered<'_>,
    ) -> Result<Vec<AppendedRun>, StoreError> {
        let permit = self.permit(&messages).await?;
        let mut handed_over = self.hand_over(topic, messages, permit);
        drop(entered);
        let answer = if let Ok(answer) = timeout(GATE_WAIT, &mut handed_over.answer).await {
            answer
        } else {
            self.producer.hurry(&handed_over.job);
            handed_over.answer.await
        };
        let answer = answer
            .unwrap_or_else(|_| Err(StoreError::Uncertain("the producer has ended".to_owned())));
        let runs = answer.map_err(|error| self.producer.explain(error))?;
        Ok(job::in_order(handed_over.lanes, &runs))
    }

    /// How many kibibytes a request takes of what may be on its way, as soon as they are free.
    async fn permit(
        &self,
        messages: &AcceptedMessages,
    ) -> Result<OwnedSemaphorePermit, StoreError> {
        let bytes: usize = messages
            .messages()
            .iter()
            .map(|message| message.len() + RECORD_BYTES)
            .sum();
        let kib = (bytes / 1024 + 1).min(KAFKA_APPEND_BYTES_MAX / 1024) as u32;
        // Mostly there is room, and no timer is needed.
        if let Ok(permit) = Arc::clone(&self.permits).try_acquire_many_owned(kib) {
            return Ok(permit);
        }
        let permit = timeout(WAIT, Arc::clone(&self.permits).acquire_many_owned(kib));
        match permit.await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(StoreError::Unavailable(
                "Kafka takes messages more slowly than they are published".to_owned(),
            )),
        }
    }

    /// Never waits in between, so that a request whose caller goes away is handed over wholly or not at all.
    fn hand_over(
        &self,
        topic: &Arc<KnownTopic>,
        messages: AcceptedMessages,
        permit: OwnedSemaphorePermit,
    ) -> HandedOver {
        let mut lanes: Vec<Lane> = Vec::with_capacity(1);
        let count = messages.messages().len();
        let mut lane_of = Vec::with_capacity(count);
        // All messages of a request that have no key go to one partition.
        let mut keyless = None;
        for (index, message) in (0..).zip(messages.scanned()) {
            let partition = if message.ordering_key().is_empty() {
                *keyless.get_or_insert_with(|| topic.next_partition())
            } else {
                topic.partition_of(message.ordering_key())
            };
            let lane = lanes.iter().position(|lane| lane.partition == partition);
            let lane = lane.unwrap_or_else(|| {
                lanes.push(Lane::new(partition, topic.gate(partition), count));
                lanes.len() - 1
            });
            lanes[lane].add(index, &message);
            lane_of.push(lane);
        }
        let (job, answer) = Job::new(Arc::clone(topic), messages, lanes, permit);
        self.producer.send(&job);
        HandedOver {
            lanes: lane_of,
            job,
            answer,
        }
    }
}
