//! The state store in one SQLite file. Each write is one transaction on the writer's connection.

use std::{path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;

use super::{
    database::{Database, WriterSettings},
    directory::DirectoryLock,
    epochs::Epochs,
    flush, positions, positions_read, subscriptions, topics,
    writer::WriterGuard,
};
use crate::{
    resource::{
        id::{SubscriptionId, TopicIncarnation},
        name::{ProjectName, SubscriptionName, TopicName},
        subscription::Subscription,
        topic::Topic,
    },
    store::{
        Membership, Positions, Resources, StateBackend, StoreError,
        log::{LogLocation, Offset, Partition, TopicLog},
        positions::{Acquire, Flush, FlushOutcome, PositionsRead, ReadFrom, Retained},
        resources::{
            CreateError, LockedTopic, LogNeeds, SubscriptionRecord, TopicRecord, TopicRow,
            UpdateError,
        },
    },
};

/// Resources, positions and owners in `state.db`.
#[derive(Debug)]
pub struct SqliteState {
    pub(super) database: Database,
    ack_key: [u8; 16],
    pub(super) epochs: Epochs,
    /// Held while any topic is locked: nobody else has the file.
    topic_lock: Arc<tokio::sync::Mutex<()>>,
    _directory: DirectoryLock,
}

impl SqliteState {
    /// Reads what is needed all the time, and finishes deletions that a crash interrupted.
    pub(super) async fn start(
        database: Database,
        directory: DirectoryLock,
    ) -> Result<Self, (PathBuf, sqlx::Error)> {
        let failed = |error| (database.path().to_owned(), error);
        let mut writer = database.lock_writer().await.map_err(failed)?;
        let key: Vec<u8> = sqlx::query_scalar("SELECT ack_key FROM store")
            .fetch_one(&mut *writer)
            .await
            .map_err(failed)?;
        drop(writer);
        let ack_key = key.try_into().map_err(|_| {
            failed(sqlx::Error::Decode(
                "the ack key is not 16 bytes long".into(),
            ))
        })?;
        positions::remove_leftovers(&database)
            .await
            .map_err(failed)?;
        Ok(Self {
            database,
            ack_key,
            epochs: Epochs::default(),
            topic_lock: Arc::default(),
            _directory: directory,
        })
    }

    /// Reads the writer's durability settings back from SQLite.
    pub async fn writer_settings(&self) -> Result<WriterSettings, StoreError> {
        self.database.writer_settings().await
    }
}

/// Gives up the connection that a write failed on, as nobody knows its state, and says what the failure means.
pub(super) fn write_failed(
    database: &Database,
    connection: &mut WriterGuard<'_>,
    error: &sqlx::Error,
) -> StoreError {
    connection.give_up();
    database.commit_failed(error)
}

const fn update_is_full(error: &UpdateError) -> bool {
    matches!(error, UpdateError::Store(StoreError::Full(_)))
}

#[async_trait]
impl Resources for SqliteState {
    async fn create_topic(
        &self,
        topic: &Topic,
        attached: Option<&LogLocation>,
    ) -> Result<TopicIncarnation, CreateError> {
        self.database.reserve().admit().await?;
        topics::create(&self.database, topic, attached).await
    }

    async fn publish_topic(
        &self,
        topic: TopicIncarnation,
        location: &LogLocation,
    ) -> Result<bool, StoreError> {
        let publish = || topics::publish(&self.database, topic, location);
        self.database.in_reserve(StoreError::is_full, publish).await
    }

    async fn unfinished_topic(&self, name: &TopicName) -> Result<Option<TopicRow>, StoreError> {
        topics::unfinished(&self.database, name).await
    }

    async fn topic(&self, name: &TopicName) -> Result<Option<TopicRecord>, StoreError> {
        topics::get(&self.database, name).await
    }

    async fn update_topic(
        &self,
        read: &TopicRecord,
        topic: &Topic,
    ) -> Result<TopicRecord, UpdateError> {
        read.check_known()?;
        self.database.reserve().admit().await?;
        topics::update(&self.database, read, topic).await
    }

    async fn list_topics(
        &self,
        project: &ProjectName,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<TopicRecord>, StoreError> {
        topics::list(&self.database, project, after, limit).await
    }

    async fn delete_topic(&self, topic: &TopicRecord) -> Result<bool, StoreError> {
        let delete = || topics::delete(&self.database, topic.log.incarnation);
        self.database.in_reserve(StoreError::is_full, delete).await
    }

    async fn logs(&self) -> Result<Vec<TopicRow>, StoreError> {
        topics::logs(&self.database).await
    }

    async fn log_needs(&self, topic: TopicIncarnation) -> Result<Option<LogNeeds>, StoreError> {
        topics::log_needs(&self.database, topic).await
    }

    async fn lock_topic(&self, topic: TopicIncarnation) -> Result<Option<LockedTopic>, StoreError> {
        let lock = Arc::clone(&self.topic_lock).lock_owned().await;
        let needs = self.log_needs(topic).await?;
        Ok(needs.map(|needs| LockedTopic::new(needs, lock)))
    }

    async fn forget_topic(&self, topic: TopicIncarnation) -> Result<(), StoreError> {
        let forget = || topics::forget(&self.database, topic);
        self.database.in_reserve(StoreError::is_full, forget).await
    }

    async fn create_subscription(
        &self,
        topic: &TopicLog,
        subscription: &Subscription,
        starts: &[(Partition, Offset)],
    ) -> Result<SubscriptionRecord, CreateError> {
        self.database.reserve().admit().await?;
        subscriptions::create(&self.database, topic, subscription, starts).await
    }

    async fn subscription(
        &self,
        name: &SubscriptionName,
    ) -> Result<Option<SubscriptionRecord>, StoreError> {
        subscriptions::get(&self.database, name).await
    }

    async fn update_subscription(
        &self,
        read: &SubscriptionRecord,
        subscription: &Subscription,
    ) -> Result<SubscriptionRecord, UpdateError> {
        read.check_known()?;
        // One that is detached needs its messages no more.
        if !subscription.detached {
            self.database.reserve().admit().await?;
        }
        let update = || subscriptions::update(&self.database, read, subscription);
        self.database.in_reserve(update_is_full, update).await
    }

    async fn list_subscriptions(
        &self,
        project: &ProjectName,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<SubscriptionRecord>, StoreError> {
        subscriptions::list(&self.database, project, after, limit).await
    }

    async fn list_topic_subscriptions(
        &self,
        topic: TopicIncarnation,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<SubscriptionName>, StoreError> {
        subscriptions::list_of_topic(&self.database, topic, after, limit).await
    }

    async fn delete_subscription(
        &self,
        name: &SubscriptionName,
    ) -> Result<Option<SubscriptionId>, StoreError> {
        let delete = || subscriptions::delete(&self.database, name);
        self.database.in_reserve(StoreError::is_full, delete).await
    }
}

#[async_trait]
impl Positions for SqliteState {
    async fn acquire(&self, subscription: SubscriptionId) -> Result<Acquire, StoreError> {
        let acquire = || positions::acquire(&self.database, &self.epochs, subscription);
        self.database.in_reserve(StoreError::is_full, acquire).await
    }

    async fn flush(&self, flushes: &[Flush]) -> Result<Vec<FlushOutcome>, StoreError> {
        let flush = || flush::flush(&self.database, flushes);
        self.database.in_reserve(StoreError::is_full, flush).await
    }

    async fn unattended(
        &self,
        after: Option<&SubscriptionName>,
        limit: usize,
    ) -> Result<Vec<SubscriptionName>, StoreError> {
        subscriptions::unattended(&self.database, after, limit).await
    }

    async fn positions(
        &self,
        subscriptions: &[ReadFrom],
        partition: Partition,
        until: Offset,
        chunks_max: usize,
    ) -> Result<PositionsRead, StoreError> {
        let database = &self.database;
        positions_read::read(database, subscriptions, partition, until, chunks_max).await
    }

    async fn retained(
        &self,
        subscriptions: &[SubscriptionId],
        partition: Partition,
        key: u64,
    ) -> Result<Vec<Retained>, StoreError> {
        positions_read::retained(&self.database, subscriptions, partition, key).await
    }
}

impl Membership for SqliteState {}

#[async_trait]
impl StateBackend for SqliteState {
    fn backend(&self) -> &'static str {
        "sqlite"
    }

    async fn check(&self, patience: Duration) -> Result<(), StoreError> {
        self.database.check(patience).await
    }

    fn shortage(&self) -> Option<String> {
        self.database.reserve().shortage()
    }

    fn ack_key(&self) -> [u8; 16] {
        self.ack_key
    }

    async fn close(&self) {
        self.database.close().await;
    }
}
