//! Resources and positions in memory.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use parking_lot::Mutex;

use super::lists;
use crate::{
    engine::change::{PartitionChange, PartitionState, RetainedRow, StoredChunk},
    limits::CHUNK_OFFSETS,
    resource::{
        id::{SubscriptionId, TopicIncarnation},
        name::{ProjectName, SubscriptionName, TopicName},
        subscription::Subscription,
        topic::Topic,
    },
    store::{
        Membership, Positions, Resources, StateBackend, StoreError,
        log::{LogLocation, Offset, Partition, TopicLog},
        positions::{Acquire, Acquired, Flush, FlushOutcome, PositionsRead, ReadFrom, Retained},
        records::{Record, RecordKey},
        resources::{
            CreateError, LockedTopic, LogNeeds, LogReader, SubscriptionRecord, TopicPhase,
            TopicRecord, TopicRow, UpdateError,
        },
    },
};

/// Resources, positions and owners in memory.
#[derive(Debug)]
pub struct MemoryState {
    ack_key: [u8; 16],
    tables: Mutex<Tables>,
    /// Held while any topic is locked.
    topic_lock: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug, Default)]
pub(super) struct Tables {
    closed: bool,
    topics_made: u64,
    topics: BTreeMap<TopicIncarnation, StoredTopic>,
    /// Topics by name, the deleted ones left out.
    pub(super) topic_names: BTreeMap<TopicName, TopicIncarnation>,
    subscriptions_made: u64,
    subscriptions: BTreeMap<SubscriptionId, StoredSubscription>,
    pub(super) subscription_names: BTreeMap<SubscriptionName, SubscriptionId>,
    pub(super) records: BTreeMap<RecordKey, Record>,
    pub(super) last_etag: u64,
}

#[derive(Debug)]
struct StoredTopic {
    topic: Topic,
    version: u64,
    phase: TopicPhase,
    location: Option<LogLocation>,
}

impl StoredTopic {
    fn row(&self, incarnation: TopicIncarnation) -> TopicRow {
        TopicRow {
            incarnation,
            name: self.topic.name.clone(),
            phase: self.phase,
            location: self.location.clone(),
        }
    }

    /// What a reader sees, which is only a topic whose log is made.
    fn record(&self, incarnation: TopicIncarnation) -> Option<TopicRecord> {
        Some(TopicRecord {
            log: self.row(incarnation).log()?,
            topic: self.topic.clone(),
            version: self.version,
            needs: self.topic.requirement().version,
        })
    }
}

#[derive(Debug)]
struct StoredSubscription {
    record: SubscriptionRecord,
    epoch: u64,
    positions: BTreeMap<Partition, Position>,
}

impl StoredSubscription {
    fn states(&self) -> Vec<PartitionState> {
        let positions = self.positions.iter();
        positions
            .map(|(&partition, position)| PartitionState {
                partition,
                generation: position.generation,
                cursor: position.cursor,
                chunks: position.chunks.values().cloned().collect(),
                retained: position.retained.values().cloned().collect(),
            })
            .collect()
    }
}

#[derive(Debug)]
struct Position {
    generation: u32,
    cursor: Offset,
    chunks: BTreeMap<u64, StoredChunk>,
    retained: BTreeMap<u64, RetainedRow>,
}

impl MemoryState {
    /// An empty store with a new ack key. Fails when the system gives no random bytes.
    pub fn new() -> Result<Self, getrandom::Error> {
        let mut ack_key = [0; 16];
        getrandom::fill(&mut ack_key)?;
        Ok(Self::with_ack_key(ack_key))
    }

    /// An empty store with this ack key.
    pub(crate) fn with_ack_key(ack_key: [u8; 16]) -> Self {
        Self {
            ack_key,
            tables: Mutex::default(),
            topic_lock: Arc::default(),
        }
    }

    /// Runs `action` on the tables unless they are closed.
    pub(super) fn with<T, E: From<StoreError>>(
        &self,
        action: impl FnOnce(&mut Tables) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut tables = self.tables.lock();
        if tables.closed {
            return Err(StoreError::Unavailable("the store is closed".to_owned()).into());
        }
        action(&mut tables)
    }
}

impl Tables {
    /// A live topic as a reader sees it.
    pub(super) fn topic(&self, incarnation: TopicIncarnation) -> Option<TopicRecord> {
        self.live(incarnation)?.record(incarnation)
    }

    fn live(&self, topic: TopicIncarnation) -> Option<&StoredTopic> {
        self.topics
            .get(&topic)
            .filter(|topic| topic.phase == TopicPhase::Live)
    }

    /// A subscription as a reader sees it.
    pub(super) fn subscription(&self, id: SubscriptionId) -> SubscriptionRecord {
        self.shown(&self.subscriptions[&id])
    }

    fn shown(&self, stored: &StoredSubscription) -> SubscriptionRecord {
        let mut record = stored.record.clone();
        if self.live(record.log.incarnation).is_none() {
            record.subscription.topic = None;
        }
        record
    }

    fn attached(
        &self,
        topic: TopicIncarnation,
    ) -> impl Iterator<Item = (&SubscriptionName, SubscriptionId)> {
        self.subscription_names
            .iter()
            .filter(move |(_, id)| {
                let record = &self.subscriptions[id].record;
                record.log.incarnation == topic && !record.subscription.detached
            })
            .map(|(name, id)| (name, *id))
    }
}

impl Position {
    /// The chunks below `end` that say something of `first` or of one above it.
    fn chunks_in(&self, first: u64, end: u64) -> Vec<StoredChunk> {
        let before = self.chunks.range(..first).next_back();
        let first = before.map_or(first, |(index, _)| *index);
        let chunks = self.chunks.range(first.min(end)..end);
        chunks.map(|(_, chunk)| chunk.clone()).collect()
    }

    fn apply(&mut self, change: &PartitionChange) {
        if self.generation != change.generation {
            self.chunks.clear();
            self.retained.clear();
        }
        self.generation = change.generation;
        self.cursor = change.cursor;
        for index in &change.delete {
            self.chunks.remove(index);
        }
        for chunk in &change.put {
            self.chunks.insert(chunk.index, chunk.clone());
        }
        self.chunks = self.chunks.split_off(&(change.cursor / CHUNK_OFFSETS));
        for key in &change.release {
            self.retained.remove(key);
        }
        for row in &change.retain {
            self.retained.insert(row.key, row.clone());
        }
    }
}

#[async_trait]
impl Resources for MemoryState {
    async fn create_topic(
        &self,
        topic: &Topic,
        attached: Option<&LogLocation>,
    ) -> Result<TopicIncarnation, CreateError> {
        self.with(|tables| {
            if tables.topic_names.contains_key(&topic.name) {
                return Err(CreateError::AlreadyExists);
            }
            tables.topics_made += 1;
            let incarnation = TopicIncarnation(tables.topics_made);
            tables.topic_names.insert(topic.name.clone(), incarnation);
            let stored = StoredTopic {
                topic: topic.clone(),
                version: 1,
                phase: TopicPhase::Creating,
                location: attached.cloned(),
            };
            tables.topics.insert(incarnation, stored);
            Ok(incarnation)
        })
    }

    async fn publish_topic(
        &self,
        topic: TopicIncarnation,
        location: &LogLocation,
    ) -> Result<bool, StoreError> {
        self.with(|tables| {
            if let Some(stored) = tables.topics.get_mut(&topic)
                && stored.phase == TopicPhase::Creating
            {
                stored.phase = TopicPhase::Live;
                stored.location = Some(location.clone());
                return Ok(true);
            }
            Ok(false)
        })
    }

    async fn unfinished_topic(&self, name: &TopicName) -> Result<Option<TopicRow>, StoreError> {
        self.with(|tables| {
            let incarnation = tables.topic_names.get(name).copied();
            let row = incarnation.and_then(|incarnation| {
                let stored = tables.topics.get(&incarnation)?;
                Some(stored.row(incarnation))
            });
            Ok(row.filter(|row| row.phase == TopicPhase::Creating))
        })
    }

    async fn topic(&self, name: &TopicName) -> Result<Option<TopicRecord>, StoreError> {
        self.with(|tables| {
            let incarnation = tables.topic_names.get(name).copied();
            Ok(incarnation.and_then(|incarnation| tables.topic(incarnation)))
        })
    }

    async fn update_topic(
        &self,
        read: &TopicRecord,
        topic: &Topic,
    ) -> Result<TopicRecord, UpdateError> {
        self.with(|tables| {
            let stored = tables
                .topics
                .get_mut(&read.log.incarnation)
                .filter(|stored| stored.phase == TopicPhase::Live)
                .ok_or(UpdateError::Gone)?;
            if stored.version != read.version {
                return Err(UpdateError::Changed);
            }
            stored.topic = topic.clone();
            stored.version += 1;
            Ok(TopicRecord {
                log: read.log.clone(),
                topic: stored.topic.clone(),
                version: stored.version,
                needs: topic.requirement().version,
            })
        })
    }

    async fn list_topics(
        &self,
        project: &ProjectName,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<TopicRecord>, StoreError> {
        lists::topics(self, project, after, limit)
    }

    async fn delete_topic(&self, topic: &TopicRecord) -> Result<bool, StoreError> {
        self.with(|tables| {
            let stored = tables.topics.get_mut(&topic.log.incarnation);
            let Some(stored) = stored.filter(|stored| stored.phase == TopicPhase::Live) else {
                return Ok(false);
            };
            stored.phase = TopicPhase::Deleted;
            tables.topic_names.remove(&topic.topic.name);
            Ok(true)
        })
    }

    async fn logs(&self) -> Result<Vec<TopicRow>, StoreError> {
        self.with(|tables| {
            let topics = tables.topics.iter();
            Ok(topics.map(|(&topic, stored)| stored.row(topic)).collect())
        })
    }

    async fn log_needs(&self, topic: TopicIncarnation) -> Result<Option<LogNeeds>, StoreError> {
        self.with(|tables| {
            let Some(stored) = tables.topics.get(&topic) else {
                return Ok(None);
            };
            let reader = |(_, subscription): (_, SubscriptionId)| {
                let record = &tables.subscriptions[&subscription].record;
                LogReader::of(subscription, &record.subscription)
            };
            Ok(Some(LogNeeds {
                row: stored.row(topic),
                readers: tables.attached(topic).map(reader).collect(),
            }))
        })
    }

    async fn lock_topic(&self, topic: TopicIncarnation) -> Result<Option<LockedTopic>, StoreError> {
        let lock = Arc::clone(&self.topic_lock).lock_owned().await;
        let needs = self.log_needs(topic).await?;
        Ok(needs.map(|needs| LockedTopic::new(needs, lock)))
    }

    async fn forget_topic(&self, topic: TopicIncarnation) -> Result<(), StoreError> {
        self.with(|tables| {
            if tables.live(topic).is_none()
                && let Some(stored) = tables.topics.remove(&topic)
                && stored.phase == TopicPhase::Creating
            {
                tables.topic_names.remove(&stored.topic.name);
            }
            Ok(())
        })
    }

    async fn create_subscription(
        &self,
        topic: &TopicLog,
        subscription: &Subscription,
        starts: &[(Partition, Offset)],
    ) -> Result<SubscriptionRecord, CreateError> {
        self.with(|tables| {
            if tables.live(topic.incarnation).is_none() {
                return Err(CreateError::TopicGone);
            }
            if tables.subscription_names.contains_key(&subscription.name) {
                return Err(CreateError::AlreadyExists);
            }
            tables.subscriptions_made += 1;
            let record = SubscriptionRecord {
                id: SubscriptionId(tables.subscriptions_made),
                log: topic.clone(),
                subscription: subscription.clone(),
                version: 1,
                needs: subscription.requirement().version,
            };
            let position = |&(partition, cursor)| {
                let position = Position {
                    generation: 1,
                    cursor,
                    chunks: BTreeMap::new(),
                    retained: BTreeMap::new(),
                };
                (partition, position)
            };
            tables
                .subscription_names
                .insert(subscription.name.clone(), record.id);
            let stored = StoredSubscription {
                record: record.clone(),
                epoch: 0,
                positions: starts.iter().map(position).collect(),
            };
            tables.subscriptions.insert(record.id, stored);
            Ok(record)
        })
    }

    async fn subscription(
        &self,
        name: &SubscriptionName,
    ) -> Result<Option<SubscriptionRecord>, StoreError> {
        self.with(|tables| {
            let id = tables.subscription_names.get(name);
            Ok(id.map(|id| tables.shown(&tables.subscriptions[id])))
        })
    }

    async fn update_subscription(
        &self,
        read: &SubscriptionRecord,
        subscription: &Subscription,
    ) -> Result<SubscriptionRecord, UpdateError> {
        self.with(|tables| {
            let stored = tables
                .subscriptions
                .get_mut(&read.id)
                .ok_or(UpdateError::Gone)?;
            if stored.record.version != read.version {
                return Err(UpdateError::Changed);
            }
            stored.record.subscription = subscription.clone();
            stored.record.version += 1;
            stored.record.needs = subscription.requirement().version;
            Ok(tables.shown(&tables.subscriptions[&read.id]))
        })
    }

    async fn list_subscriptions(
        &self,
        project: &ProjectName,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<SubscriptionRecord>, StoreError> {
        lists::subscriptions(self, project, after, limit)
    }

    async fn list_topic_subscriptions(
        &self,
        topic: TopicIncarnation,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<SubscriptionName>, StoreError> {
        self.with(|tables| {
            Ok(tables
                .attached(topic)
                .filter(|(name, _)| after.is_none_or(|after| name.as_str() > after))
                .take(limit)
                .map(|(name, _)| name.clone())
                .collect())
        })
    }

    async fn delete_subscription(
        &self,
        name: &SubscriptionName,
    ) -> Result<Option<SubscriptionId>, StoreError> {
        self.with(|tables| {
            let id = tables.subscription_names.remove(name);
            if let Some(id) = id {
                tables.subscriptions.remove(&id);
            }
            Ok(id)
        })
    }
}

#[async_trait]
impl Positions for MemoryState {
    async fn acquire(&self, subscription: SubscriptionId) -> Result<Acquire, StoreError> {
        self.with(|tables| {
            let Some(stored) = tables.subscriptions.get_mut(&subscription) else {
                return Ok(Acquire::Gone);
            };
            stored.epoch += 1;
            Ok(Acquire::Acquired(Acquired {
                epoch: stored.epoch,
                partitions: stored.states(),
            }))
        })
    }

    async fn flush(&self, flushes: &[Flush]) -> Result<Vec<FlushOutcome>, StoreError> {
        self.with(|tables| {
            let outcome = |flush: &Flush| {
                let Some(stored) = tables.subscriptions.get_mut(&flush.subscription) else {
                    return FlushOutcome::Gone;
                };
                if stored.epoch != flush.epoch {
                    return FlushOutcome::Stale;
                }
                for change in &flush.changes {
                    stored
                        .positions
                        .entry(change.partition)
                        .or_insert(Position {
                            generation: change.generation,
                            cursor: 0,
                            chunks: BTreeMap::new(),
                            retained: BTreeMap::new(),
                        })
                        .apply(change);
                }
                FlushOutcome::Stored
            };
            Ok(flushes.iter().map(outcome).collect())
        })
    }

    async fn unattended(
        &self,
        after: Option<&SubscriptionName>,
        limit: usize,
    ) -> Result<Vec<SubscriptionName>, StoreError> {
        self.with(|tables| {
            let is_unattended = |id: &SubscriptionId| {
                let stored = &tables.subscriptions[id];
                let subscription = &stored.record.subscription;
                let mut positions = stored.positions.values();
                subscription.dead_letter_policy.is_some()
                    && !subscription.detached
                    && positions.any(|it| !it.chunks.is_empty())
            };
            let names = tables.subscription_names.iter();
            let later = names.filter(|(name, _)| after.is_none_or(|after| *name > after));
            let unattended = later.filter(|(_, id)| is_unattended(id)).take(limit);
            Ok(unattended.map(|(name, _)| name.clone()).collect())
        })
    }

    async fn positions(
        &self,
        subscriptions: &[ReadFrom],
        partition: Partition,
        until: Offset,
        chunks_max: usize,
    ) -> Result<PositionsRead, StoreError> {
        self.with(|tables| {
            let stored = |asked: &ReadFrom| {
                let stored = tables.subscriptions.get(&asked.subscription)?;
                Some((*asked, stored.positions.get(&partition)?))
            };
            let stored: Vec<_> = subscriptions.iter().filter_map(stored).collect();
            let above = |(asked, position): &(ReadFrom, &Position)| {
                let mut chunks = position.chunks.range(asked.offset / CHUNK_OFFSETS..);
                chunks.nth(chunks_max).map(|(index, _)| *index)
            };
            let limit = stored.iter().filter_map(above).min();
            let (end, complete_to) = PositionsRead::end(until, limit);
            let states = stored.into_iter().map(|(asked, position)| {
                let state = PartitionState {
                    partition,
                    generation: position.generation,
                    cursor: position.cursor,
                    chunks: position.chunks_in(asked.offset / CHUNK_OFFSETS, end),
                    retained: Vec::new(),
                };
                (asked.subscription, state)
            });
            Ok(PositionsRead {
                complete_to,
                states: states.collect(),
            })
        })
    }

    async fn retained(
        &self,
        subscriptions: &[SubscriptionId],
        partition: Partition,
        key: u64,
    ) -> Result<Vec<Retained>, StoreError> {
        self.with(|tables| {
            let retained = subscriptions.iter().filter_map(|&subscription| {
                let stored = tables.subscriptions.get(&subscription)?;
                let position = stored.positions.get(&partition)?;
                Some(Retained {
                    subscription,
                    generation: position.generation,
                    row: position.retained.get(&key)?.clone(),
                })
            });
            Ok(retained.collect())
        })
    }
}

impl Membership for MemoryState {}

#[async_trait]
impl StateBackend for MemoryState {
    fn backend(&self) -> &'static str {
        "memory"
    }

    async fn check(&self, _patience: Duration) -> Result<(), StoreError> {
        Ok(())
    }

    fn ack_key(&self) -> [u8; 16] {
        self.ack_key
    }

    async fn close(&self) {
        self.tables.lock().closed = true;
    }
}
