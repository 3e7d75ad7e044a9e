//! Reads at the head of every topic that a subscription here reads, with one consumer for all of them, into the tail.
//!
//! What this node appends itself gets there faster, from the producer's reports. What is read again is dropped, and a
//! partition to which only this node appends is not read at all while that goes on.

use std::{collections::HashSet, mem, ops::Range, sync::Arc, time::Duration};

use rdkafka::{Message as _, error::KafkaError, message::BorrowedMessage};
use tokio::{
    sync::{Semaphore, mpsc},
    task::yield_now,
    time::{Instant, MissedTickBehavior, interval, sleep},
};
use tokio_util::sync::CancellationToken;

use super::super::{
    append::producer::Producer, errors, known::KnownTopic, read::readers::Readers, record,
};
use super::{
    check::{self, Checked, Found},
    checking::Checking,
    followed::{Followed, FollowedTopics},
    gathering::{Gathered, Gathering},
    growth,
    head::{Head, TopicPartition},
    head_consumer::{HeadConsumer, Start},
    resting::Resting,
};
use crate::{
    limits::{KAFKA_FOLLOW_RECORDS_PER_PASS, KAFKA_WATCH_REFRESH_MILLIS},
    resource::id::TopicIncarnation,
    store::{
        StoreError,
        log::{Offset, Partition},
    },
};

/// What the follower is told.
#[derive(Debug)]
pub(in crate::store::kafka) enum Command {
    /// Read a topic that a subscription here reads, from where the tail says that it ends.
    Follow(Arc<KnownTopic>),
    /// The topic has so many partitions.
    Grown(TopicIncarnation, u32),
    /// The topic was deleted, or has lost records: who watches it sees the channel of its ends close.
    Forget(TopicIncarnation),
    /// What became of a followed topic, because somewhere reading failed.
    Checked(TopicIncarnation, Result<Found, StoreError>),
    /// All followed topics were checked.
    AllChecked,
}

/// Commands that wait for the follower.
const COMMANDS_MAX: usize = 1_024;
/// How often the consumer is asked although it did not say that it has something, and whether partitions are read
/// that need not be is checked.
const CHECK: Duration = Duration::from_millis(25);
/// The task's state.
pub(in crate::store::kafka) struct Follower {
    consumer: HeadConsumer,
    readers: Arc<Readers>,
    producer: Arc<Producer>,
    head: Arc<Head>,
    topics: FollowedTopics,
    /// Partitions that are not read just now.
    resting: Resting,
    /// Of each topic that stands for the Kafka topic whose records come just now.
    gatherings: Vec<Gathering>,
    checking: Checking,
    /// Whether the client reads some partition no further until that is begun anew.
    stalled: bool,
    /// Taken while topics are asked for new partitions, and for a while after that.
    growth: Arc<Semaphore>,
    /// Partitions of which some topic lacks something that has come before it could have that.
    behind: HashSet<(String, Partition)>,
}

/// Where records come from just now.
struct Source {
    name: String,
    partition: Partition,
    /// The topics that stand for it, each with where it ended in the tail. None of a partition that is not read.
    topics: Vec<(Arc<KnownTopic>, Offset)>,
    /// Everything below has come.
    next: Offset,
}

impl Follower {
    pub(in crate::store::kafka) fn new(
        consumer: HeadConsumer,
        readers: Arc<Readers>,
        producer: Arc<Producer>,
        head: Arc<Head>,
    ) -> Self {
        Self {
            consumer,
            readers,
            producer,
            head,
            topics: FollowedTopics::default(),
            resting: Resting::default(),
            gatherings: Vec::new(),
            checking: Checking::No,
            stalled: false,
            growth: Arc::new(Semaphore::new(1)),
            behind: HashSet::new(),
        }
    }

    /// Starts the task; what is sent to the answer is obeyed until `stopped`.
    pub(in crate::store::kafka) fn start(
        self,
        stopped: CancellationToken,
    ) -> mpsc::Sender<Command> {
        let (commands, received) = mpsc::channel(COMMANDS_MAX);
        tokio::spawn(self.run(commands.clone(), received, stopped));
        commands
    }

    async fn run(
        mut self,
        answers: mpsc::Sender<Command>,
        mut commands: mpsc::Receiver<Command>,
        stopped: CancellationToken,
    ) {
        let mut refresh = interval(Duration::from_millis(KAFKA_WATCH_REFRESH_MILLIS));
        let mut check = interval(CHECK);
        refresh.set_missed_tick_behavior(MissedTickBehavior::Delay);
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let news = Arc::clone(&self.head.news);
        loop {
            tokio::select! {
                () = stopped.cancelled() => break,
                Some(command) = commands.recv() => {
                    let mut waiting = vec![command];
                    while let Ok(command) = commands.try_recv() {
                        waiting.push(command);
                    }
                    self.obey(waiting, &answers).await;
                }
                () = news.notified() => {
                    self.fill_gaps().await;
                    self.take_in(&answers).await;
                }
                _ = check.tick(), if !self.topics.is_empty() => {
                    self.check_busy().await;
                    self.take_in(&answers).await;
                }
                _ = refresh.tick(), if !self.topics.is_empty() => self.refresh(&answers).await,
            }
        }
        self.consumer.end().await;
    }

    async fn obey(&mut self, commands: Vec<Command>, answers: &mpsc::Sender<Command>) {
        let mut begin = Vec::new();
        for command in commands {
            match command {
                Command::Follow(topic) => self.follow(&topic, &mut begin),
                Command::Grown(topic, count) => self.grow(topic, count, &mut begin),
                Command::Forget(topic) => self.forget(topic, &mut begin).await,
                Command::Checked(topic, checked) => self.apply(topic, checked, &mut begin).await,
                Command::AllChecked => {
                    let again = self.checking.ends();
                    self.stalled = again.is_some();
                    if let Some(is_odd) = again {
                        self.check_all(is_odd, answers);
                    }
                }
            }
        }
        self.consumer.assign(begin).await;
    }

    fn follow(&mut self, topic: &Arc<KnownTopic>, begin: &mut Vec<Start>) {
        let Some(ends) = self.head.tail.ends(topic.incarnation) else {
            return;
        };
        topic.set_watched(true);
        if self.topics.get(topic.incarnation).is_some() {
            return self.grow(topic.incarnation, ends.len() as u32, begin);
        }
        self.topics.insert(topic, ends.len());
        // What rests of another topic that stands for the same Kafka topic is read for this one.
        for other in self.topics.named(&topic.name) {
            self.resting.forget(*other);
        }
        begin.extend(self.starts(&topic.name, 0..self.topics.partitions(&topic.name)));
    }

    /// Reads further partitions of a Kafka topic, for all that stand for it, from where the tail says that they end: from
    /// their first record, if it did not know them either.
    fn grow(&mut self, topic: TopicIncarnation, count: u32, begin: &mut Vec<Start>) {
        let Some(followed) = self.topics.get(topic) else {
            return;
        };
        let name = followed.topic.name.clone();
        let mut first = None;
        for topic in self.topics.named(&name).to_vec() {
            let Some(followed) = self.topics.get_mut(topic) else {
                continue;
            };
            let known = followed.suspects.len();
            if known >= count as usize {
                continue;
            }
            self.head.tail.raise(topic, &vec![0; count as usize]);
            let ends = self.head.tail.ends(topic).unwrap_or_default();
            followed.suspects.resize(ends.len().max(known), false);
            first = Some(first.unwrap_or(known).min(known));
        }
        if let Some(first) = first {
            begin.extend(self.starts(&name, first..self.topics.partitions(&name)));
        }
    }

    async fn forget(&mut self, topic: TopicIncarnation, begin: &mut Vec<Start>) {
        self.head.tail.forget(topic);
        if let Some(followed) = self.topics.get(topic) {
            // Made again, it may have other partitions.
            followed.topic.unload();
        }
        // What was to be begun together with this has to be, before it can be ended.
        self.consumer.assign(mem::take(begin)).await;
        self.unfollow(topic).await;
    }

    async fn unfollow(&mut self, topic: TopicIncarnation) {
        let Some(followed) = self.topics.remove(topic) else {
            return;
        };
        followed.topic.set_watched(false);
        self.resting.forget(topic);
        if self.topics.named(&followed.topic.name).is_empty() {
            self.consumer.unassign_topic(&followed.topic.name).await;
        }
    }

    /// Takes in what the consumer has, a bounded number of records.
    async fn take_in(&mut self, answers: &mpsc::Sender<Command>) {
        let Some(polled) = self.consumer.polled() else {
            return;
        };
        let mut source = None;
        let mut is_more = true;
        for _ in 0..KAFKA_FOLLOW_RECORDS_PER_PASS {
            match polled.next() {
                None => {
                    is_more = false;
                    break;
                }
                Some(Ok(record)) => self.take_record(&record, &mut source),
                Some(Err(error)) => self.handle_error(&error, answers),
            }
        }
        self.leave(source);
        if !self.behind.is_empty() {
            let behind = mem::take(&mut self.behind).into_iter();
            let begin = behind.flat_map(|(name, partition)| {
                let partition = partition as usize;
                self.starts(&name, partition..partition + 1)
            });
            self.consumer.assign(begin.collect()).await;
        }
        if is_more {
            // Of which nobody is told again.
            self.head.news.notify_one();
            yield_now().await;
        }
    }

    /// Hands over what came of a partition.
    fn leave(&mut self, source: Option<Source>) {
        self.hand_over();
        if let Some(source) = source {
            self.consumer
                .comes_to(&source.name, source.partition, source.next);
        }
    }

    fn take_record(&mut self, record: &BorrowedMessage<'_>, source: &mut Option<Source>) {
        let name = record.topic();
        let partition = record.partition().cast_unsigned();
        let goes_on = source
            .as_ref()
            .is_some_and(|source| (source.name.as_str(), source.partition) == (name, partition));
        if !goes_on {
            // Others may get the next records, each at another index.
            self.leave(source.take());
            *source = Some(self.source(name, partition, record.offset()));
        }
        let Some(source) = source else {
            return;
        };
        let offset = record::offset(record);
        source.next = source.next.max(offset + 1);
        let ends = source.topics.iter().map(|(_, end)| *end);
        if ends.min().is_none_or(|lowest| offset < lowest) {
            // What this node appended itself is there already.
            return;
        }
        if self.gatherings.len() < source.topics.len() {
            let count = source.topics.len();
            self.gatherings.resize_with(count, Gathering::default);
        }
        let mut decoded = record::decode(record);
        let last = source.topics.len() - 1;
        for (index, (topic, end)) in source.topics.iter().enumerate() {
            if offset < *end {
                continue;
            }
            let message = if index == last {
                mem::take(&mut decoded.message)
            } else {
                decoded.message.clone()
            };
            let gathered = self.gatherings[index].push(
                topic,
                partition,
                offset,
                decoded.publish_time,
                message,
            );
            if let Some(gathered) = gathered {
                self.append_next(gathered);
            }
        }
    }

    /// Who gets records of this partition, the first of which has this offset. A topic that ends before where reading
    /// was begun lacks what lies in between: it gets that first, once the partition was begun anew.
    fn source(&mut self, name: &str, partition: Partition, offset: i64) -> Source {
        let came_to = self.consumer.came_to(name, partition);
        let mut topics = Vec::new();
        if let Some(came_to) = came_to {
            topics = self.topics.receivers(name, partition, &self.head.tail);
            let receivers = topics.len();
            topics.retain(|(_, end)| *end >= came_to);
            if topics.len() < receivers {
                self.behind.insert((name.to_owned(), partition));
            }
        } else {
            tracing::error!(
                topic = name,
                partition,
                offset,
                "the consumer of watched topics returned records of a partition that it does not read; they are dropped"
            );
        }
        Source {
            name: name.to_owned(),
            partition,
            topics,
            next: came_to.unwrap_or(0),
        }
    }

    fn hand_over(&mut self) {
        for index in 0..self.gatherings.len() {
            if let Some(gathered) = self.gatherings[index].take() {
                self.append_next(gathered);
            }
        }
    }

    fn append_next(&mut self, gathered: Gathered) {
        let Gathered {
            topic,
            partition,
            batch,
        } = gathered;
        let tail = &self.head.tail;
        let followed = self.topics.get_mut(topic.incarnation);
        let suspect = followed.and_then(|one| one.suspects.get_mut(partition as usize));
        if suspect.is_some_and(mem::take) {
            // A reader there finds out whether nothing is there, or nothing that can be read.
            let mut ends = tail.ends(topic.incarnation).unwrap_or_default();
            if let Some(end) = ends.get_mut(partition as usize) {
                *end = batch.base;
            }
            tail.raise(topic.incarnation, &ends);
        }
        tail.append_next(topic.incarnation, partition, batch);
    }

    /// Deals with what the consumer could not read. It does not say where.
    fn handle_error(&mut self, error: &KafkaError, answers: &mpsc::Sender<Command>) {
        self.hand_over();
        let Some(code) = error.rdkafka_error_code() else {
            return;
        };
        if errors::is_damage(code) {
            for followed in self.topics.values_mut() {
                followed.suspects.fill(true);
            }
        } else if !errors::is_out_of_range(code) && !errors::is_unknown(code) {
            // The client tries again by itself.
            return;
        } else {
            // That comes back even if the topic turns out to be as it was.
            self.stalled = true;
        }
        self.check_all(errors::is_out_of_range(code), answers);
    }

    /// Asks what became of all followed topics; once more, if that is being done.
    fn check_all(&mut self, is_odd: bool, answers: &mpsc::Sender<Command>) {
        if !self.checking.begins(is_odd) {
            return;
        }
        let followed = self.topics.values();
        let topics = followed.map(|one| Arc::clone(&one.topic)).collect();
        let readers = Arc::clone(&self.readers);
        let head = Arc::clone(&self.head);
        tokio::spawn(check::topics(
            head,
            readers,
            topics,
            is_odd,
            answers.clone(),
        ));
    }

    /// Goes on where a topic can be read, whatever became of what was known of it.
    async fn apply(
        &mut self,
        topic: TopicIncarnation,
        checked: Result<Found, StoreError>,
        begin: &mut Vec<Start>,
    ) {
        let checked = match checked {
            Ok(Found::Partitions(checked)) => checked,
            // Who watches it is told, and what is known of it compared with what it is when it is watched again.
            Ok(Found::Lost) | Err(StoreError::NoSuchLog) => return self.forget(topic, begin).await,
            Err(error) => {
                tracing::warn!(%error, "a topic that could not be read could not be asked about");
                // The client reads nothing of where it failed until that is begun anew.
                if let Some(followed) = self.topics.get(topic) {
                    let name = followed.topic.name.clone();
                    self.consumer.assign(mem::take(begin)).await;
                    self.consumer.unassign_topic(&name).await;
                }
                return;
            }
        };
        let Some(followed) = self.topics.get_mut(topic) else {
            return;
        };
        if checked.iter().all(Checked::is_as_it_was) {
            if self.stalled {
                let name = followed.topic.name.clone();
                begin.extend(self.starts(&name, 0..self.topics.partitions(&name)));
            }
            return;
        }
        followed.suspects.fill(false);
        let name = followed.topic.name.clone();
        self.consumer.assign(mem::take(begin)).await;
        self.consumer.unassign_topic(&name).await;
        self.resting.forget(topic);
        let real: Vec<_> = checked.iter().map(|partition| partition.goes_on).collect();
        self.head.tail.raise(topic, &real);
        begin.extend(self.starts(&name, 0..self.topics.partitions(&name)));
    }

    /// Stops reading partitions to which this node alone appends much, and reads them again when that ends.
    async fn check_busy(&mut self) {
        let own = self.head.take_own();
        let topics = &self.topics;
        let may_rest = |(topic, partition): TopicPartition| {
            topics.get(topic).is_some_and(|one| {
                // Another topic that stands for the same Kafka topic gets all of it by reading.
                topics.named(&one.topic.name).len() == 1
                    && one.suspects.get(partition as usize) == Some(&false)
            })
        };
        let (rest, again) = self.resting.check(Instant::now(), &own, may_rest);
        let rest = rest.into_iter().filter_map(|(topic, partition)| {
            let followed = self.topics.get(topic)?;
            Some((followed.topic.name.clone(), partition))
        });
        self.consumer.unassign(rest.collect()).await;
        self.read_again(again).await;
    }

    /// Reads partitions that rest and to which another client has appended.
    async fn fill_gaps(&mut self) {
        let gaps = self.head.gaps(self.resting.partitions());
        let now = Instant::now();
        for partition in &gaps {
            self.resting.wake(*partition, now);
        }
        self.read_again(gaps).await;
    }

    async fn read_again(&mut self, partitions: Vec<TopicPartition>) {
        let mut begin = Vec::new();
        for (topic, partition) in partitions {
            if let Some(followed) = self.topics.get(topic) {
                let partition = partition as usize;
                begin.extend(self.starts(&followed.topic.name, partition..partition + 1));
            }
        }
        self.consumer.assign(begin).await;
    }

    /// Checks for partitions that were added, and drops topics that nobody watches.
    async fn refresh(&mut self, answers: &mpsc::Sender<Command>) {
        let mut unwatched = Vec::new();
        for followed in self.topics.values() {
            let topic = followed.topic.incarnation;
            if self.head.tail.forget_unwatched(topic) {
                unwatched.push(topic);
            }
        }
        for topic in unwatched {
            self.unfollow(topic).await;
        }
        self.end_unneeded().await;
        self.begin_missing().await;
        let topics = self.topics.values();
        let topics: Vec<_> = topics.map(|one| Arc::clone(&one.topic)).collect();
        if let (false, Ok(permit)) = (
            topics.is_empty(),
            Arc::clone(&self.growth).try_acquire_owned(),
        ) {
            let (head, readers) = (Arc::clone(&self.head), Arc::clone(&self.readers));
            let producer = Arc::clone(&self.producer);
            let checked = growth::check(head, readers, producer, topics, answers.clone());
            tokio::spawn(async {
                sleep(checked.await).await;
                drop(permit);
            });
        }
    }

    /// Ends reading what could not be ended before.
    async fn end_unneeded(&mut self) {
        let topics = &self.topics;
        let unneeded = self.consumer.unneeded(|name, partition| {
            let mut named = topics.named(name).iter();
            named.any(|topic| !self.resting.contains((*topic, partition)))
        });
        self.consumer.unassign(unneeded).await;
    }

    /// Begins reading what could not be begun, or asked about, before.
    async fn begin_missing(&mut self) {
        let mut begin = Vec::new();
        for Followed { topic, suspects } in self.topics.values() {
            for partition in 0..suspects.len() as Partition {
                if !self.consumer.reads(&topic.name, partition)
                    && !self.resting.contains((topic.incarnation, partition))
                {
                    let partition = partition as usize;
                    begin.extend(self.starts(&topic.name, partition..partition + 1));
                }
            }
        }
        self.consumer.assign(begin).await;
    }

    fn starts(&self, name: &str, partitions: Range<usize>) -> Vec<Start> {
        let partitions = partitions.start as Partition..partitions.end as Partition;
        self.topics.starts(name, partitions, &self.head.tail)
    }
}
