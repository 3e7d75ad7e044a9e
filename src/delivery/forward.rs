//! Forwards dead letters (docs/behaviour.md, section 11.2): reads them, and publishes them to the dead letter topic as any
//! publisher's messages, beside the driver of their subscription.

use std::{ops::Range, slice, sync::Arc};

use bytes::Bytes;
use parking_lot::Mutex;

use super::{
    append::{self, AppendError},
    forwarding::Forwarded,
    node::Node,
    reads::{self, ReadError},
};
use crate::{
    clock::Timestamp,
    engine::{
        dead_letter::Outcome,
        input::{Input, Issue, LeaseId},
        output::DeadLetter,
    },
    limits::{
        DAMAGE_RETRY_MILLIS, FORWARD_BYTES, FORWARD_GAP_MAX, FORWARD_LOOKUP_MILLIS,
        FORWARD_RETRY_MILLIS,
    },
    resource::{
        message::{AcceptedMessages, Source, dead_letter},
        name::TopicName,
    },
    store::{
        StoreError, batch::LogRecord, log::ReadBatch, operations::Operation,
        resources::SubscriptionRecord,
    },
};

/// Why nothing can be forwarded, and when that was found.
#[derive(Debug)]
pub(super) struct Refusal {
    topic: TopicName,
    why: String,
    found: Timestamp,
}

/// A batch of which something has come.
pub(super) struct Ended {
    partition: u32,
    generation: u32,
    outcomes: Vec<(u64, Outcome)>,
}

impl Ended {
    /// The same came of all of them.
    pub(super) fn all(batch: &Batch, outcome: Outcome) -> Self {
        let outcomes = batch.messages.iter().map(|it| (it.offset, outcome));
        Self {
            partition: batch.partition,
            generation: batch.generation,
            outcomes: outcomes.collect(),
        }
    }

    /// What was forwarded.
    pub(super) fn done(&self) -> Vec<LeaseId> {
        let done = self.outcomes.iter().filter(|it| it.1 == Outcome::Done);
        let lease = |(offset, _): &(u64, Outcome)| LeaseId {
            generation: self.generation,
            partition: self.partition,
            offset: *offset,
            number: 0,
            issue: Issue::default(),
        };
        done.map(lease).collect()
    }

    /// The event for the engine.
    pub(super) fn into_input(self) -> Input {
        Input::Forwarded {
            partition: self.partition,
            outcomes: self.outcomes,
        }
    }
}

/// Dead letters that are read and published together.
pub(super) struct Batch {
    pub(super) node: Arc<Node>,
    pub(super) record: Arc<SubscriptionRecord>,
    pub(super) refusal: Arc<Mutex<Option<Refusal>>>,
    pub(super) partition: u32,
    pub(super) generation: u32,
    pub(super) messages: Vec<DeadLetter>,
}

impl Batch {
    /// They are tried again after so many milliseconds.
    pub(super) fn later(&self, millis: u64) -> Outcome {
        Outcome::Failed {
            retry_at: self.node.clock.now().plus_millis(millis),
        }
    }

    /// Forwards them.
    pub(super) async fn forward(self) -> Ended {
        let node = &self.node;
        let permit = tokio::select! {
            biased;
            () = node.stopping.cancelled() => None,
            permit = node.forwarding.batches.acquire() => permit.ok(),
        };
        if permit.is_none() {
            return Ended::all(&self, self.later(FORWARD_RETRY_MILLIS));
        }
        let topic = match self.topic().await {
            Ok(topic) => topic,
            Err(outcome) => return Ended::all(&self, outcome),
        };
        let mut outcomes = Vec::with_capacity(self.messages.len());
        for neighbours in self
            .messages
            .chunk_by(|a, b| b.offset - a.offset <= FORWARD_GAP_MAX)
        {
            self.forward_neighbours(&topic, neighbours, &mut outcomes)
                .await;
        }
        Ended {
            partition: self.partition,
            generation: self.generation,
            outcomes,
        }
    }

    /// The dead letter topic, as the policy is now.
    async fn topic(&self) -> Result<TopicName, Outcome> {
        let node = &self.node;
        let found = node
            .resources
            .subscription(&self.record.subscription.name)
            .await;
        let current = found.map_err(|_| self.later(FORWARD_RETRY_MILLIS))?;
        let current = current.filter(|current| current.id == self.record.id);
        let policy = current.and_then(|it| it.subscription.dead_letter_policy.clone());
        let topic = policy.ok_or(Outcome::Refused)?.topic;
        let is_refused = self.refusal.lock().as_ref().is_some_and(|refusal| {
            let age = node.clock.now().millis_since(refusal.found);
            refusal.topic == topic && age < FORWARD_LOOKUP_MILLIS
        });
        if is_refused {
            Err(Outcome::Refused)
        } else {
            Ok(topic)
        }
    }

    /// Forwards messages that lie near each other, as many at a time as one read finds.
    async fn forward_neighbours(
        &self,
        topic: &TopicName,
        messages: &[DeadLetter],
        outcomes: &mut Vec<(u64, Outcome)>,
    ) {
        let mut rest = messages;
        while let (Some(first), Some(last)) = (rest.first(), rest.last()) {
            let range = first.offset..last.offset + 1;
            let found = match self.read(range).await {
                Ok(found) => found,
                Err(outcome) => {
                    outcomes.extend(rest.iter().map(|it| (it.offset, outcome)));
                    return;
                }
            };
            let read = rest.iter().take_while(|it| it.offset < found.next).count();
            let (these, later) = rest.split_at(read);
            rest = later;
            self.publish_found(topic, these, &found, outcomes).await;
        }
    }

    async fn read(&self, range: Range<u64>) -> Result<ReadBatch, Outcome> {
        let node = &self.node;
        let read = reads::read(
            node.log.as_ref(),
            &self.record.log,
            self.partition,
            range.clone(),
            FORWARD_BYTES,
        );
        let read = read.await;
        let outage = match &read {
            Err(ReadError::Failed(error)) => Some(error),
            Ok(_) | Err(ReadError::Damaged(..)) => None,
        };
        node.operations.note(Operation::Read, outage);
        match read {
            Ok(found) if found.next > range.start => Ok(found),
            Ok(_) | Err(ReadError::Failed(_)) => Err(self.later(FORWARD_RETRY_MILLIS)),
            Err(ReadError::Damaged(error, _)) => {
                let subscription = &self.record.subscription.name;
                tracing::error!(
                    %subscription, partition = self.partition, offset = range.start, %error,
                    "a dead letter cannot be read; trying again later"
                );
                Err(self.later(DAMAGE_RETRY_MILLIS))
            }
        }
    }

    /// Publishes these messages as far as a read has found them: what is gone from the log is done.
    async fn publish_found(
        &self,
        topic: &TopicName,
        messages: &[DeadLetter],
        found: &ReadBatch,
        outcomes: &mut Vec<(u64, Outcome)>,
    ) {
        let mut records = found.records().peekable();
        let mut letters = Vec::with_capacity(messages.len());
        for message in messages {
            while records.next_if(|it| it.offset() < message.offset).is_some() {}
            let record = records.next_if(|it| it.offset() == message.offset);
            let is_published = self.node.forwarding.knows(&self.forwarded(message.offset));
            match record.filter(|_| !is_published) {
                Some(record) => letters.push((message.offset, self.letter(record, *message))),
                None => outcomes.push((message.offset, Outcome::Done)),
            }
        }
        if letters.is_empty() {
            return;
        }
        match self.publish(topic, &letters).await {
            Err(Failure::OfMessages(_)) if letters.len() > 1 => {
                for letter in &letters {
                    let published = self.publish(topic, slice::from_ref(letter)).await;
                    outcomes.push((letter.0, self.outcome(topic, published)));
                }
            }
            published => {
                let outcome = self.outcome(topic, published);
                outcomes.extend(letters.iter().map(|(offset, _)| (*offset, outcome)));
            }
        }
    }

    fn letter(&self, record: LogRecord<'_>, message: DeadLetter) -> Bytes {
        let source = Source {
            subscription: &self.record.subscription.name,
            attempts: message.attempts,
            publish_time: record.publish_time(),
        };
        dead_letter(&record.scanned(), source)
    }

    fn forwarded(&self, offset: u64) -> Forwarded {
        Forwarded {
            subscription: self.record.id,
            partition: self.partition,
            generation: self.generation,
            offset,
        }
    }

    async fn publish(&self, topic: &TopicName, letters: &[(u64, Bytes)]) -> Result<(), Failure> {
        let node = &self.node;
        if !node.membership.holds() {
            // Another node may have the subscription.
            return Err(Failure::ForNow);
        }
        let bytes: usize = letters.iter().map(|(_, letter)| letter.len()).sum();
        let messages = letters.iter().map(|(_, letter)| letter.clone()).collect();
        let messages = AcceptedMessages::again(messages);
        match append::append(node, topic, messages, bytes as u64).await {
            Ok(_) => {
                node.forwarding
                    .add(letters.iter().map(|it| self.forwarded(it.0)));
                Ok(())
            }
            Err(AppendError::NoTopic) => Err(Failure::OfTopic("it does not exist".to_owned())),
            Err(AppendError::LogGone(text) | AppendError::Store(StoreError::Denied(text))) => {
                Err(Failure::OfTopic(text))
            }
            Err(AppendError::Store(StoreError::Refused(text))) => Err(Failure::OfMessages(text)),
            // Outages of the log are logged where they are noted.
            Err(AppendError::Store(_)) => Err(Failure::ForNow),
        }
    }

    /// What an attempt means to the messages; a change is logged.
    fn outcome(&self, topic: &TopicName, published: Result<(), Failure>) -> Outcome {
        let (why, outcome) = match published {
            Ok(()) => (None, Outcome::Done),
            Err(Failure::ForNow) => return self.later(FORWARD_RETRY_MILLIS),
            Err(Failure::OfTopic(why)) => (Some(why), Outcome::Refused),
            Err(Failure::OfMessages(why)) => {
                let subscription = &self.record.subscription.name;
                tracing::warn!(
                    %subscription, dead_letter_topic = %topic, why,
                    "a message is delivered again, as the dead letter topic does not take it"
                );
                return Outcome::Refused;
            }
        };
        self.note(topic, why);
        outcome
    }

    fn note(&self, topic: &TopicName, why: Option<String>) {
        let subscription = &self.record.subscription.name;
        let mut refusal = self.refusal.lock();
        let Some(why) = why else {
            if refusal.take().is_some() {
                tracing::info!(%subscription, dead_letter_topic = %topic, "dead letters are forwarded again");
            }
            return;
        };
        let known = refusal.as_ref();
        if known.is_none_or(|known| known.topic != *topic || known.why != why) {
            tracing::warn!(
                %subscription, dead_letter_topic = %topic, why,
                "dead letters cannot be forwarded; they are delivered again until they can"
            );
        }
        *refusal = Some(Refusal {
            topic: topic.clone(),
            why,
            found: self.node.clock.now(),
        });
    }
}

/// Why messages were not published.
enum Failure {
    /// The topic takes none.
    OfTopic(String),
    /// It does not take these, or one of them.
    OfMessages(String),
    /// That may change, or they may have been published all the same.
    ForNow,
}
