//! The consumer at the head of watched topics: begins, ends and polls without holding up the runtime.

use std::{sync::Arc, time::Duration};

use rdkafka::{
    ClientConfig, Offset as Position, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaError,
    message::BorrowedMessage,
};
use tokio::{sync::Notify, task::spawn_blocking};

use super::{context::Listener, errors};
use crate::store::log::{Offset, Partition};

/// Where to begin reading which partition of which topic.
pub(super) type Start = (String, Partition, Offset);

/// Made when it is first needed.
pub(super) struct HeadConsumer {
    config: ClientConfig,
    client: Option<Arc<Client>>,
    /// Notified when there is something to poll.
    news: Arc<Notify>,
}

type Client = BaseConsumer<Listener>;

impl HeadConsumer {
    pub(super) fn new(config: ClientConfig, news: Arc<Notify>) -> Self {
        Self {
            config,
            client: None,
            news,
        }
    }

    /// What can be polled, if anything was ever begun. Polls do not wait.
    pub(super) fn polled(&self) -> Option<Polled> {
        self.client.clone().map(Polled)
    }

    /// Begins reading.
    pub(super) async fn assign(&mut self, starts: Vec<Start>) {
        if starts.is_empty() {
            return;
        }
        let Some(client) = self.client() else {
            return;
        };
        let assigned = spawn_blocking(move || {
            let mut list = TopicPartitionList::with_capacity(starts.len());
            for (topic, partition, offset) in starts {
                let offset = Position::Offset(offset.cast_signed());
                list.add_partition_offset(&topic, partition.cast_signed(), offset)?;
            }
            client.incremental_assign(&list)
        });
        if let Ok(Err(error)) = assigned.await {
            tracing::error!(error = %errors::text(&error), "watched topics cannot be read");
        }
    }

    /// Ends reading of partitions that were begun.
    pub(super) async fn unassign(&self, partitions: Vec<(String, Partition)>) {
        let Some(client) = self.client.clone() else {
            return;
        };
        if partitions.is_empty() {
            return;
        }
        let unassigned = spawn_blocking(move || {
            let mut list = TopicPartitionList::with_capacity(partitions.len());
            for (topic, partition) in partitions {
                list.add_partition(&topic, partition.cast_signed());
            }
            client.incremental_unassign(&list)
        });
        if let Ok(Err(error)) = unassigned.await {
            tracing::warn!(error = %errors::text(&error), "a topic is read although nobody waits for it");
        }
    }

    /// Ends the client, which takes its time.
    pub(super) async fn end(&mut self) {
        if let Some(client) = self.client.take() {
            spawn_blocking(move || drop(client)).await.ok();
        }
    }

    fn client(&mut self) -> Option<Arc<Client>> {
        if self.client.is_none() {
            let created = self.config.create_with_context(Listener::new("follower"));
            let created: Result<Client, KafkaError> = created;
            match created {
                Ok(mut client) => {
                    let news = Arc::clone(&self.news);
                    client.set_nonempty_callback(move || news.notify_one());
                    self.client = Some(Arc::new(client));
                }
                Err(error) => {
                    tracing::error!(error = %errors::text(&error), "watched topics cannot be read");
                }
            }
        }
        self.client.clone()
    }
}

/// A client to poll.
pub(super) struct Polled(Arc<Client>);

impl Polled {
    /// What came, if anything did. `None` may also mean that the client had to say something else.
    pub(super) fn next(&self) -> Option<Result<BorrowedMessage<'_>, KafkaError>> {
        self.0.poll(Duration::ZERO)
    }
}
