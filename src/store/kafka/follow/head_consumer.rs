//! The consumer at the head of watched topics: begins, ends and polls without holding up the runtime.

use std::{collections::HashMap, sync::Arc, time::Duration};

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

/// Lists that the client may refuse until the rest waits for the next check.
const FAILURES_MAX: u32 = 32;

/// Made when it is first needed.
pub(in crate::store::kafka) struct HeadConsumer {
    config: ClientConfig,
    client: Option<Arc<Client>>,
    /// The partitions that are read, by topic, each with the offset up to which everything came since it was begun.
    read: HashMap<String, HashMap<Partition, Offset>>,
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
        self.came_to(topic, partition).is_some()
    }

    /// The offset up to which everything has come of a partition that is read, from where it was begun.
    pub(in crate::store::kafka) fn came_to(
        &self,
        topic: &str,
        partition: Partition,
    ) -> Option<Offset> {
        self.read.get(topic)?.get(&partition).copied()
    }

    /// Takes note that everything below `next` has come.
    pub(in crate::store::kafka) fn comes_to(
        &mut self,
        topic: &str,
        partition: Partition,
        next: Offset,
    ) {
        let read = self.read.get_mut(topic);
        if let Some(came_to) = read.and_then(|read| read.get_mut(&partition)) {
            *came_to = next;
        }
    }

    /// The partitions that are read, of those that need not be.
    pub(in crate::store::kafka) fn unneeded(
        &self,
        is_needed: impl Fn(&str, Partition) -> bool,
    ) -> Vec<(String, Partition)> {
        let read = self.read.iter().flat_map(|(topic, read)| {
            let partitions = read.keys();
            partitions.map(move |partition| (topic, *partition))
        });
        let unneeded = read.filter(|(topic, partition)| !is_needed(topic, *partition));
        unneeded
            .map(|(topic, partition)| (topic.clone(), partition))
            .collect()
    }

    /// Has it know of nothing that it reads, as a defect would.
    #[cfg(test)]
    pub(in crate::store::kafka) fn forget(&mut self) {
        self.read.clear();
    }

    /// Begins reading; where a partition is read already, anew. What cannot be begun does not hold up the rest.
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
        let mut lists = vec![first.into_iter().collect::<Vec<_>>()];
        let mut failures = 0;
        while let Some(mut list) = lists.pop() {
            // The client refuses all if one of them is read.
            let again = list.iter().map(|(partition, _)| partition.clone());
            self.unassign(again.collect()).await;
            if self.begin(&client, list.clone()).await {
                continue;
            }
            failures += 1;
            if failures == 1 {
                // What the client reads is known now, and may be what it refused the rest for.
                lists.push(list);
            } else if list.len() > 1 && failures < FAILURES_MAX {
                lists.push(list.split_off(list.len() / 2));
                lists.push(list);
            }
        }
    }

    async fn begin(
        &mut self,
        client: &Arc<Client>,
        starts: Vec<((String, Partition), Offset)>,
    ) -> bool {
        let begun = starts.clone();
        let failed = "watched topics cannot be read";
        let changed = self.change(Arc::clone(client), failed, move |client| {
            let topics = starts.iter().map(|((topic, _), _)| topic.as_str());
            metadata::load(client, topics, METADATA);
            let mut list = TopicPartitionList::with_capacity(starts.len());
            for ((topic, partition), offset) in &starts {
                let offset = Position::Offset(offset.cast_signed());
                list.add_partition_offset(topic, partition.cast_signed(), offset)?;
            }
            client.incremental_assign(&list)
        });
        let changed = changed.await;
        if changed {
            for ((topic, partition), offset) in begun {
                let read = self.read.entry(topic).or_default();
                read.insert(partition, offset);
            }
        }
        changed
    }

    /// Ends reading of a topic.
    pub(in crate::store::kafka) async fn unassign_topic(&mut self, topic: &str) {
        let read = self.read.get(topic).into_iter().flatten();
        let read = read.map(|(partition, _)| (topic.to_owned(), *partition));
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
                self.read = self.partitions(&read);
            }
            // The server is stopping.
            Err(_) => {}
        }
        false
    }

    /// What is read, of which the client says what it is.
    fn partitions(&self, list: &TopicPartitionList) -> HashMap<String, HashMap<Partition, Offset>> {
        let mut partitions: HashMap<String, HashMap<Partition, Offset>> = HashMap::new();
        for element in list.elements() {
            let (topic, partition) = (element.topic(), element.partition().cast_unsigned());
            // Whoever lacks anything of what was not begun here has it begun anew.
            let came_to = self.came_to(topic, partition).unwrap_or(Offset::MAX);
            let of_topic = partitions.entry(topic.to_owned()).or_default();
            of_topic.insert(partition, came_to);
        }
        partitions
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
