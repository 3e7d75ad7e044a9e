//! The consumer at the head of watched topics: begins, ends and polls without holding up the runtime.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use rdkafka::{
    ClientConfig, Offset as Position, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaError,
    message::BorrowedMessage,
};
use tokio::{sync::Notify, task::spawn_blocking};

use super::super::{context::Listener, errors, metadata};
use crate::store::log::{Offset, Partition};

/// Where to begin reading which partition of which topic.
pub(in crate::store::kafka) type Start = (String, Partition, Offset);

/// Longest wait for the metadata of topics that are about to be read.
const METADATA: Duration = Duration::from_millis(300);

/// Made when it is first needed.
pub(in crate::store::kafka) struct HeadConsumer {
    config: ClientConfig,
    client: Option<Arc<Client>>,
    /// The partitions that are read, by topic.
    read: HashMap<String, HashSet<Partition>>,
    /// Notified when there is something to poll.
    news: Arc<Notify>,
}

type Client = BaseConsumer<Listener>;

impl HeadConsumer {
    pub(in crate::store::kafka) fn new(config: ClientConfig, news: Arc<Notify>) -> Self {
        Self {
            config,
            client: None,
            read: HashMap::new(),
            news,
        }
    }

    /// What can be polled, if anything was ever begun. Polls do not wait.
    pub(in crate::store::kafka) fn polled(&self) -> Option<Polled> {
        self.client.clone().map(Polled)
    }

    /// Whether a partition is read.
    pub(in crate::store::kafka) fn reads(&self, topic: &str, partition: Partition) -> bool {
        let read = self.read.get(topic);
        read.is_some_and(|read| read.contains(&partition))
    }

    /// Begins reading; where a partition is read already, anew.
    pub(in crate::store::kafka) async fn assign(&mut self, starts: Vec<Start>) {
        if starts.is_empty() {
            return;
        }
        let Some(client) = self.client() else {
            return;
        };
        let mut first: HashMap<(String, Partition), Offset> = HashMap::new();
        for (topic, partition, offset) in starts {
            let first = first.entry((topic, partition)).or_insert(offset);
            *first = offset.min(*first);
        }
        // The client refuses all if one of them is read.
        self.unassign(first.keys().cloned().collect()).await;
        let begun: Vec<_> = first.keys().cloned().collect();
        let changed = self.change(client, "watched topics cannot be read", move |client| {
            metadata::load(
                client,
                first.keys().map(|(topic, _)| topic.as_str()),
                METADATA,
            );
            let mut list = TopicPartitionList::with_capacity(first.len());
            for ((topic, partition), offset) in &first {
                let offset = Position::Offset(offset.cast_signed());
                list.add_partition_offset(topic, partition.cast_signed(), offset)?;
            }
            client.incremental_assign(&list)
        });
        if changed.await {
            for (topic, partition) in begun {
                self.read.entry(topic).or_default().insert(partition);
            }
        }
    }

    /// Ends reading of a topic.
    pub(in crate::store::kafka) async fn unassign_topic(&mut self, topic: &str) {
        let read = self.read.get(topic).into_iter().flatten();
        let read = read.map(|partition| (topic.to_owned(), *partition));
        self.unassign(read.collect()).await;
    }

    /// Ends reading of those of the partitions that are read.
    pub(in crate::store::kafka) async fn unassign(&mut self, partitions: Vec<(String, Partition)>) {
        let partitions = partitions.into_iter();
        let read: Vec<_> = partitions
            .filter(|(topic, partition)| self.reads(topic, *partition))
            .collect();
        let (Some(client), false) = (self.client.clone(), read.is_empty()) else {
            return;
        };
        let ended = read.clone();
        let changed = self.change(client, "reading cannot be ended", move |client| {
            let mut list = TopicPartitionList::with_capacity(read.len());
            for (topic, partition) in &read {
                list.add_partition(topic, partition.cast_signed());
            }
            client.incremental_unassign(&list)
        });
        if changed.await {
            for (topic, partition) in ended {
                if let Some(read) = self.read.get_mut(&topic) {
                    read.remove(&partition);
                    if read.is_empty() {
                        self.read.remove(&topic);
                    }
                }
            }
        }
    }

    /// Changes what is read. If that fails, nothing changes, and what is read is what the client says; then `false`.
    async fn change(
        &mut self,
        client: Arc<Client>,
        failed: &str,
        work: impl FnOnce(&Client) -> Result<(), KafkaError> + Send + 'static,
    ) -> bool {
        let changed = spawn_blocking(move || {
            work(&client).map_err(|error| (error, client.assignment().unwrap_or_default()))
        });
        match changed.await {
            Ok(Ok(())) => return true,
            Ok(Err((error, read))) => {
                tracing::error!(error = %errors::text(&error), "{failed}");
                self.read = partitions(&read);
            }
            // The server is stopping.
            Err(_) => {}
        }
        false
    }

    /// Ends the client, which takes its time.
    pub(in crate::store::kafka) async fn end(&mut self) {
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
pub(in crate::store::kafka) struct Polled(Arc<Client>);

impl Polled {
    /// What came, if anything did. `None` may also mean that the client had to say something else.
    pub(in crate::store::kafka) fn next(&self) -> Option<Result<BorrowedMessage<'_>, KafkaError>> {
        self.0.poll(Duration::ZERO)
    }
}

fn partitions(list: &TopicPartitionList) -> HashMap<String, HashSet<Partition>> {
    let mut partitions: HashMap<String, HashSet<Partition>> = HashMap::new();
    for element in list.elements() {
        let of_topic = partitions.entry(element.topic().to_owned()).or_default();
        of_topic.insert(element.partition().cast_unsigned());
    }
    partitions
}
