//! Reads at the head of every topic that somebody watches, with one consumer for all of them, into the tail.
//!
//! What this node appends itself gets there faster, from the producer's reports. What is read again is dropped, and a
//! partition to which only this node appends is not read at all while that goes on.

use std::{collections::HashMap, mem, sync::Arc, time::Duration};

use rdkafka::{Message as _, error::KafkaError, message::BorrowedMessage};
use tokio::{
    sync::mpsc,
    task::yield_now,
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use super::{
    check::{self, Checked},
    errors,
    gathering::{Gathered, Gathering},
    growth,
    head::{Head, Place},
    head_consumer::{HeadConsumer, Start},
    known::KnownTopic,
    producer::Producer,
    readers::Readers,
    record,
    resting::Resting,
};
use crate::{
    limits::{KAFKA_FOLLOW_RECORDS_PER_TURN, KAFKA_WATCH_REFRESH_MILLIS},
    resource::id::TopicIncarnation,
    store::{
        StoreError,
        log::{Offset, Partition},
    },
};

/// What the follower is told.
#[derive(Debug)]
pub(super) enum Command {
    /// Read a topic that somebody watches, from where the tail says that it ends.
    Follow(Arc<KnownTopic>),
    /// The topic has so many partitions.
    Grown(TopicIncarnation, u32),
    /// The topic was deleted.
    Forget(TopicIncarnation),
    /// Where a followed topic can be read, because somewhere reading failed.
    Checked(TopicIncarnation, Result<Vec<Checked>, StoreError>),
    /// All followed topics were checked.
    AllChecked,
}

/// Commands that wait for the follower.
const COMMANDS_MAX: usize = 1_024;
/// How often the consumer is asked although it did not say that it has something, and whether partitions are read
/// that need not be is looked at.
const LOOK: Duration = Duration::from_millis(25);
/// The task's state.
pub(super) struct Follower {
    consumer: HeadConsumer,
    readers: Arc<Readers>,
    producer: Arc<Producer>,
    head: Arc<Head>,
    topics: HashMap<TopicIncarnation, Followed>,
    by_name: HashMap<String, TopicIncarnation>,
    /// Partitions that are not read just now.
    resting: Resting,
    gathering: Gathering,
    /// Whether the topics that could not be read are being asked about.
    checking: bool,
}

#[derive(Debug)]
struct Followed {
    topic: Arc<KnownTopic>,
    /// Of each partition, whether something damaged was met since its last record: a hole before the next one may be
    /// that.
    suspects: Vec<bool>,
}

/// Where records come from just now.
struct Source {
    topic: Arc<KnownTopic>,
    partition: Partition,
    /// Where it ended in the tail.
    end: Offset,
}

impl Follower {
    pub(super) fn new(
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
            topics: HashMap::new(),
            by_name: HashMap::new(),
            resting: Resting::default(),
            gathering: Gathering::default(),
            checking: false,
        }
    }

    /// Starts the task; what is sent to the answer is obeyed until `stopped`.
    pub(super) fn start(self, stopped: CancellationToken) -> mpsc::Sender<Command> {
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
        let mut look = interval(LOOK);
        refresh.set_missed_tick_behavior(MissedTickBehavior::Delay);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let news = Arc::clone(&self.head.news);
        loop {
            tokio::select! {
                () = stopped.cancelled() => break,
                Some(command) = commands.recv() => {
                    let mut waiting = vec![command];
                    while let Ok(command) = commands.try_recv() {
                        waiting.push(command);
                    }
                    self.obey(waiting).await;
                }
                () = news.notified() => {
                    self.fill_gaps().await;
                    self.take_in(&answers).await;
                }
                _ = look.tick(), if !self.topics.is_empty() => {
                    self.look().await;
                    self.take_in(&answers).await;
                }
                _ = refresh.tick(), if !self.topics.is_empty() => self.refresh(&answers).await,
            }
        }
        self.consumer.end().await;
    }

    async fn obey(&mut self, commands: Vec<Command>) {
        let mut begin = Vec::new();
        for command in commands {
            match command {
                Command::Follow(topic) => self.follow(&topic, &mut begin),
                Command::Grown(topic, count) => self.grow(topic, count, &mut begin),
                Command::Forget(topic) => self.forget(topic, &mut begin).await,
                Command::Checked(topic, checked) => self.heed(topic, checked, &mut begin).await,
                Command::AllChecked => self.checking = false,
            }
        }
        self.consumer.assign(begin).await;
    }

    fn follow(&mut self, topic: &Arc<KnownTopic>, begin: &mut Vec<Start>) {
        let Some(ends) = self.head.tail.ends(topic.incarnation) else {
            return;
        };
        topic.set_watched(true);
        if self.topics.contains_key(&topic.incarnation) {
            return self.grow(topic.incarnation, ends.len() as u32, begin);
        }
        begin.extend(starts(&topic.name, 0, &ends));
        self.by_name.insert(topic.name.clone(), topic.incarnation);
        let followed = Followed {
            topic: Arc::clone(topic),
            suspects: vec![false; ends.len()],
        };
        self.topics.insert(topic.incarnation, followed);
    }

    /// Reads further partitions from where the tail says that they end: from their first record, if it did not know
    /// them either.
    fn grow(&mut self, topic: TopicIncarnation, count: u32, begin: &mut Vec<Start>) {
        let Some(followed) = self.topics.get_mut(&topic) else {
            return;
        };
        let known = followed.suspects.len();
        if known >= count as usize {
            return;
        }
        self.head.tail.raise(topic, &vec![0; count as usize]);
        let ends = self.head.tail.ends(topic).unwrap_or_default();
        let new = ends.get(known..).unwrap_or_default();
        begin.extend(starts(&followed.topic.name, known, new));
        followed.suspects.resize(ends.len().max(known), false);
    }

    async fn forget(&mut self, topic: TopicIncarnation, begin: &mut Vec<Start>) {
        self.head.tail.forget(topic);
        // What was to be begun together with this has to be, before it can be ended.
        self.consumer.assign(mem::take(begin)).await;
        self.unfollow(topic).await;
    }

    async fn unfollow(&mut self, topic: TopicIncarnation) {
        let Some(followed) = self.topics.remove(&topic) else {
            return;
        };
        followed.topic.set_watched(false);
        self.by_name.remove(&followed.topic.name);
        let read = read_partitions(&followed, &self.resting);
        self.resting.forget(topic);
        self.consumer.unassign(read).await;
    }

    /// Takes in what the consumer has, a bounded number of records.
    async fn take_in(&mut self, answers: &mpsc::Sender<Command>) {
        let Some(polled) = self.consumer.polled() else {
            return;
        };
        let mut source = None;
        for _ in 0..KAFKA_FOLLOW_RECORDS_PER_TURN {
            match polled.next() {
                None => return self.hand_over(),
                Some(Ok(record)) => self.take_record(&record, &mut source),
                Some(Err(error)) => self.meet(&error, answers),
            }
        }
        self.hand_over();
        // There may be more, of which nobody is told again.
        self.head.news.notify_one();
        yield_now().await;
    }

    fn take_record(&mut self, record: &BorrowedMessage<'_>, source: &mut Option<Source>) {
        let name = record.topic();
        let partition = record.partition().cast_unsigned();
        let goes_on = source.as_ref().is_some_and(|source| {
            (source.topic.name.as_str(), source.partition) == (name, partition)
        });
        if !goes_on {
            *source = self.source(name, partition);
        }
        let Some(source) = source else {
            return;
        };
        let offset = record::offset(record);
        if offset < source.end {
            // What this node appended itself is there already.
            return;
        }
        let decoded = record::decode(record);
        let gathered = self.gathering.push(
            &source.topic,
            partition,
            offset,
            decoded.publish_time,
            decoded.message,
        );
        if let Some(gathered) = gathered {
            self.append_next(gathered);
        }
    }

    fn source(&self, name: &str, partition: Partition) -> Option<Source> {
        let incarnation = self.by_name.get(name)?;
        let topic = Arc::clone(&self.topics.get(incarnation)?.topic);
        let ends = self.head.tail.ends(*incarnation)?;
        Some(Source {
            topic,
            partition,
            end: ends.get(partition as usize).copied().unwrap_or(0),
        })
    }

    fn hand_over(&mut self) {
        if let Some(gathered) = self.gathering.take() {
            self.append_next(gathered);
        }
    }

    fn append_next(&mut self, gathered: Gathered) {
        let Gathered {
            topic,
            partition,
            batch,
        } = gathered;
        let tail = &self.head.tail;
        let followed = self.topics.get_mut(&topic.incarnation);
        let suspect = followed.and_then(|one| one.suspects.get_mut(partition as usize));
        if suspect.is_some_and(mem::take) {
            // Whoever reads there finds out whether nothing is there, or nothing that can be read.
            let mut ends = tail.ends(topic.incarnation).unwrap_or_default();
            if let Some(end) = ends.get_mut(partition as usize) {
                *end = batch.base;
            }
            tail.raise(topic.incarnation, &ends);
        }
        tail.append_next(topic.incarnation, partition, batch);
    }

    /// Deals with what the consumer could not read. It does not say where.
    fn meet(&mut self, error: &KafkaError, answers: &mpsc::Sender<Command>) {
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
        }
        if !mem::replace(&mut self.checking, true) {
            let followed = self.topics.values();
            let topics = followed.map(|one| Arc::clone(&one.topic)).collect();
            let readers = Arc::clone(&self.readers);
            let head = Arc::clone(&self.head);
            tokio::spawn(check::look(head, readers, topics, answers.clone()));
        }
    }

    /// Goes on where a topic can be read, whatever became of what was known of it.
    async fn heed(
        &mut self,
        topic: TopicIncarnation,
        checked: Result<Vec<Checked>, StoreError>,
        begin: &mut Vec<Start>,
    ) {
        let checked = match checked {
            Ok(checked) => checked,
            Err(StoreError::NoSuchLog) => return self.forget(topic, begin).await,
            Err(error) => {
                tracing::warn!(%error, "a topic that could not be read could not be asked about");
                return;
            }
        };
        let Some(followed) = self.topics.get_mut(&topic) else {
            return;
        };
        if checked.iter().all(Checked::is_as_it_was) {
            return;
        }
        followed.suspects.fill(false);
        let (name, count) = (followed.topic.name.clone(), followed.suspects.len());
        let read_now = read_partitions(followed, &self.resting);
        self.consumer.assign(mem::take(begin)).await;
        self.consumer.unassign(read_now).await;
        self.resting.forget(topic);
        let real: Vec<_> = checked.iter().map(|partition| partition.goes_on).collect();
        if checked.iter().any(Checked::has_lost) {
            tracing::error!(topic = %name, partitions = ?checked, "Kafka has lost records that were there before");
            self.head.tail.restart(topic, &real);
        } else {
            self.head.tail.raise(topic, &real);
        }
        let ends = self.head.tail.ends(topic).unwrap_or_default();
        begin.extend(starts(&name, 0, ends.get(..count).unwrap_or(&ends)));
    }

    /// Stops reading partitions to which this node alone appends much, and reads them again when that ends.
    async fn look(&mut self) {
        let own = self.head.take_own();
        let topics = &self.topics;
        let may_rest = |(topic, partition): Place| {
            let followed = topics.get(&topic);
            followed.is_some_and(|one| one.suspects.get(partition as usize) == Some(&false))
        };
        let (rest, again) = self.resting.look(Instant::now(), &own, may_rest);
        let rest = rest.into_iter().filter_map(|(topic, partition)| {
            let followed = self.topics.get(&topic)?;
            Some((followed.topic.name.clone(), partition))
        });
        self.consumer.unassign(rest.collect()).await;
        self.read_again(again).await;
    }

    /// Reads partitions that rest and to which somebody else has appended.
    async fn fill_gaps(&mut self) {
        let gaps = self.head.gaps(self.resting.places());
        let now = Instant::now();
        for place in &gaps {
            self.resting.wake(*place, now);
        }
        self.read_again(gaps).await;
    }

    async fn read_again(&mut self, places: Vec<Place>) {
        let begin = places.into_iter().filter_map(|(topic, partition)| {
            let name = self.topics.get(&topic)?.topic.name.clone();
            let ends = self.head.tail.ends(topic)?;
            Some((name, partition, *ends.get(partition as usize)?))
        });
        let begin = begin.collect();
        self.consumer.assign(begin).await;
    }

    /// Looks for partitions that were added, and lets go of topics that nobody watches.
    async fn refresh(&mut self, answers: &mpsc::Sender<Command>) {
        let mut unwatched = Vec::new();
        for topic in self.topics.keys() {
            if self.head.tail.forget_unwatched(*topic) {
                unwatched.push(*topic);
            }
        }
        for topic in unwatched {
            self.unfollow(topic).await;
        }
        let topics = self.topics.values();
        let topics: HashMap<_, _> = topics
            .map(|one| (one.topic.name.clone(), Arc::clone(&one.topic)))
            .collect();
        if !topics.is_empty() {
            let cluster = self.readers.cluster.clone();
            let producer = Arc::clone(&self.producer);
            tokio::spawn(growth::look(cluster, producer, topics, answers.clone()));
        }
    }
}

fn starts(topic: &str, first: usize, ends: &[Offset]) -> Vec<Start> {
    let partitions = (first as u32..).zip(ends);
    partitions
        .map(|(partition, end)| (topic.to_owned(), partition, *end))
        .collect()
}

/// The partitions that are read just now.
fn read_partitions(followed: &Followed, resting: &Resting) -> Vec<(String, Partition)> {
    let topic = &followed.topic;
    (0..followed.suspects.len() as u32)
        .filter(|partition| !resting.contains((topic.incarnation, *partition)))
        .map(|partition| (topic.name.clone(), partition))
        .collect()
}
