//! The state store in one Postgres database, for every node that shares it.

use std::{collections::BTreeSet, fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use sqlx::{Connection as _, postgres::PgConnectOptions};
use tokio::{
    sync::{Mutex, Notify},
    time::timeout,
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use super::{
    Options, changes,
    connector::Connector,
    database::Database,
    flush,
    link::Link,
    listener,
    membership::{self, Member, Next},
    node_row,
    open::{self, OpenError, Refusal},
    owners, positions_read, schema, subscriptions,
    sweep::Sweep,
    topics,
};
use crate::{
    clock::Clock,
    limits::CLOSE_WAIT_MILLIS_MAX,
    resource::{
        id::{SubscriptionId, TopicIncarnation},
        name::{ProjectName, SubscriptionName, TopicName},
        subscription::Subscription,
        topic::Topic,
    },
    store::{
        Membership, NodeLease, Positions, Resources, StateBackend, StoreError,
        log::{LogLocation, Offset, Partition, TopicLog},
        membership::Changes,
        positions::{Acquire, Flush, FlushOutcome, Owner, PositionsRead, ReadFrom, Retained},
        resources::{
            CreateError, LockedTopic, LogNeeds, SubscriptionRecord, TopicRecord, TopicRow,
            UpdateError,
        },
        rows::{from_sql, to_sql},
    },
};

/// Resources, positions and owners in a database, and this node's membership among those that share it.
///
/// Dropped without being closed, it leaves what a process that crashes would leave.
pub struct PostgresState {
    pub(super) database: Database,
    pub(super) flushes: Link,
    membership: Arc<Member>,
    ack_key: [u8; 16],
    /// Held while this node locks any topic, so that many who wait do so on one connection.
    topic_lock: Arc<Mutex<()>>,
    /// Some node has applied some change.
    applied: Arc<Notify>,
    sweep: Arc<Sweep>,
    tasks: TaskTracker,
    stopping: CancellationToken,
    _stop: DropGuard,
}

impl fmt::Debug for PostgresState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresState")
            .field("database", &self.database.shown())
            .field("node", &self.membership.name)
            .finish_non_exhaustive()
    }
}

impl PostgresState {
    /// Connects, brings the tables up to date, and registers this node. `log` is the identity of the log that
    /// the offsets in this store are of.
    pub async fn open(options: Options, log: &str, clock: Clock) -> Result<Self, OpenError> {
        let database = options.shown.clone();
        let opened = Self::start(options, log, clock).await;
        opened.map_err(|cause| OpenError { database, cause })
    }

    async fn start(options: Options, log: &str, clock: Clock) -> Result<Self, Refusal> {
        let connector = Connector::new(options.connect.clone());
        let mut connection = open::connect(&connector).await?;
        schema::check_server(&mut connection).await?;
        let Options {
            connect,
            shown,
            node,
            address,
            node_lease,
        } = options;
        let store = schema::prepare(&mut connection, log).await?;
        let ack_key = store.ack_key.try_into();
        let ack_key =
            ack_key.map_err(|_| Refusal::Damaged("the ack key is not 16 bytes long".to_owned()))?;
        if let Err(error) = connection.close().await {
            tracing::debug!(%error, "the first connection did not close in order");
        }
        let database = Database::new(connector.clone(), &shown);
        let link = |connector| Link::new(connector, database.pool().clone());
        let flushes = link(connector.clone().with(&flush::SESSION_SETTINGS));
        let beats = link(connector.with(&node_row::SESSION_SETTINGS));
        let membership = Member::new(node, address, node_lease, clock, database.clone(), beats)?;
        // These connections are there before any other, so that nothing else uses the last that the server has.
        flushes.open().await?;
        membership.join().await?;
        let stopping = CancellationToken::new();
        let state = Self {
            database,
            flushes,
            membership: Arc::new(membership),
            ack_key,
            topic_lock: Arc::default(),
            applied: Arc::default(),
            sweep: Arc::new(Sweep::new()),
            tasks: TaskTracker::new(),
            stopping: stopping.clone(),
            _stop: stopping.drop_guard(),
        };
        state.start_tasks(connect);
        Ok(state)
    }

    fn start_tasks(&self, connect: PgConnectOptions) {
        let membership = Arc::clone(&self.membership);
        let stopping = self.stopping.clone();
        self.tasks
            .spawn(async move { membership.beat(stopping).await });
        self.tasks.spawn(listener::run(
            connect,
            self.database.pool().clone(),
            Arc::clone(&self.membership),
            Arc::clone(&self.applied),
            self.stopping.clone(),
        ));
        self.sweep.wanted();
        let (sweep, database) = (Arc::clone(&self.sweep), self.database.clone());
        let stopping = self.stopping.clone();
        self.tasks
            .spawn(async move { sweep.run(&database, stopping).await });
    }

    async fn confirmed(&self, number: i64) -> Result<(), StoreError> {
        changes::confirmed(
            &self.database,
            self.membership.session(),
            number,
            &self.applied,
        )
        .await
    }
}

#[async_trait]
impl Resources for PostgresState {
    async fn create_topic(
        &self,
        topic: &Topic,
        attached: Option<&LogLocation>,
    ) -> Result<TopicIncarnation, CreateError> {
        topics::create(&self.database, topic, attached).await
    }

    async fn publish_topic(
        &self,
        topic: TopicIncarnation,
        location: &LogLocation,
    ) -> Result<bool, StoreError> {
        // A node that has the deleted topic in memory would go on publishing to its log.
        if let Some(number) = changes::last_deletion_of_topic(&self.database, topic).await? {
            self.confirmed(number).await?;
        }
        topics::publish(&self.database, topic, location).await
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

    /// Returns when every other node has applied it, or its lease has run out.
    async fn delete_topic(&self, topic: &TopicRecord) -> Result<bool, StoreError> {
        let Some(deleted) = topics::delete(&self.database, topic).await? else {
            return Ok(false);
        };
        self.confirmed(deleted.number).await?;
        Ok(true)
    }

    async fn logs(&self) -> Result<Vec<TopicRow>, StoreError> {
        topics::logs(&self.database).await
    }

    async fn log_needs(&self, topic: TopicIncarnation) -> Result<Option<LogNeeds>, StoreError> {
        topics::log_needs(&self.database, topic).await
    }

    async fn lock_topic(&self, topic: TopicIncarnation) -> Result<Option<LockedTopic>, StoreError> {
        let ours = Arc::clone(&self.topic_lock).lock_owned().await;
        let locked = topics::lock(&self.database, topic).await?;
        Ok(locked.map(|(needs, row)| LockedTopic::new(needs, (row, ours))))
    }

    async fn forget_topic(&self, topic: TopicIncarnation) -> Result<(), StoreError> {
        topics::forget(&self.database, topic).await
    }

    async fn create_subscription(
        &self,
        topic: &TopicLog,
        subscription: &Subscription,
        starts: &[(Partition, Offset)],
    ) -> Result<SubscriptionRecord, CreateError> {
        let created = subscriptions::create(&self.database, topic, subscription, starts).await?;
        // A node that has the deleted subscription in memory would say that there is none.
        let deletion = changes::last_deletion_of_subscription(&self.database, created.id).await?;
        if let Some(number) = deletion {
            self.confirmed(number).await?;
        }
        Ok(created)
    }

    async fn subscription(
        &self,
        name: &SubscriptionName,
    ) -> Result<Option<SubscriptionRecord>, StoreError> {
        subscriptions::get(&self.database, name).await
    }

    /// Where it detaches the subscription, or changes whether its delivery is exactly once, returns when every other node
    /// has applied it, or its lease has run out.
    async fn update_subscription(
        &self,
        read: &SubscriptionRecord,
        subscription: &Subscription,
    ) -> Result<SubscriptionRecord, UpdateError> {
        read.check_known()?;
        let updated = subscriptions::update(&self.database, read, subscription).await?;
        let before = &read.subscription;
        let is_detached = subscription.detached && !before.detached;
        if is_detached || subscription.exactly_once != before.exactly_once {
            self.confirmed(updated.number).await?;
        }
        Ok(updated.value)
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

    /// Returns when every other node has applied it, or its lease has run out.
    async fn delete_subscription(
        &self,
        name: &SubscriptionName,
    ) -> Result<Option<SubscriptionId>, StoreError> {
        let Some(deleted) = subscriptions::delete(&self.database, name).await? else {
            return Ok(None);
        };
        self.sweep.wanted();
        self.confirmed(deleted.number).await?;
        Ok(Some(deleted.value))
    }
}

#[async_trait]
impl Positions for PostgresState {
    async fn owner(&self, subscription: SubscriptionId) -> Result<Option<Owner>, StoreError> {
        let from_expired = self.membership.sees_who_lives();
        let session = self.membership.session();
        owners::owner(&self.database, session, subscription, from_expired).await
    }

    async fn acquire(&self, subscription: SubscriptionId) -> Result<Acquire, StoreError> {
        let session = self.membership.session();
        if !self.membership.node_lease().holds() {
            return Err(StoreError::Unavailable(
                "the lease of this node has run out".to_owned(),
            ));
        }
        let from_expired = self.membership.sees_who_lives();
        owners::acquire(&self.database, session, subscription, from_expired).await
    }

    async fn owned(
        &self,
        subscriptions: &[SubscriptionId],
    ) -> Result<Vec<(SubscriptionId, u64)>, StoreError> {
        owners::owned(&self.database, self.membership.session(), subscriptions).await
    }

    async fn release(&self, owned: &[(SubscriptionId, u64)]) -> Result<(), StoreError> {
        owners::release(&self.database, self.membership.session(), owned).await
    }

    async fn unattended(
        &self,
        after: Option<&SubscriptionName>,
        limit: usize,
    ) -> Result<Vec<SubscriptionName>, StoreError> {
        let from_expired = self.membership.sees_who_lives();
        owners::unattended(&self.database, after, limit, from_expired).await
    }

    async fn flush(&self, flushes: &[Flush]) -> Result<Vec<FlushOutcome>, StoreError> {
        let session = self.membership.session();
        let done = flush::flush(&self.database, &self.flushes, session, flushes).await?;
        self.sweep.chunks_removed(done.chunks_removed);
        Ok(done.outcomes)
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

#[async_trait]
impl Membership for PostgresState {
    fn node_lease(&self) -> NodeLease {
        self.membership.node_lease()
    }

    async fn behind(&self, version: u32) -> Result<Option<String>, StoreError> {
        membership::behind(&self.database, version).await
    }

    async fn living(&self) -> Result<BTreeSet<u64>, StoreError> {
        membership::living(&self.database).await
    }

    /// Repeats what was not applied.
    async fn changes(&self) -> Result<Changes, StoreError> {
        loop {
            match self.membership.next() {
                Next::Everything { lapse } => {
                    let through = changes::last(&self.database).await?;
                    if self.membership.tells_everything(lapse, through) {
                        return Ok(Changes {
                            through: from_sql(through),
                            what: Vec::new(),
                            everything: true,
                        });
                    }
                }
                Next::After(applied) => {
                    let changes = changes::read(&self.database, applied).await?;
                    if let Some(&(through, _)) = changes.last() {
                        return Ok(Changes {
                            through: from_sql(through),
                            what: changes.into_iter().filter_map(|(_, what)| what).collect(),
                            everything: false,
                        });
                    }
                    self.membership.news.notified().await;
                }
            }
        }
    }

    async fn applied(&self, through: u64) -> Result<(), StoreError> {
        self.membership.apply(to_sql(through)).await
    }
}

#[async_trait]
impl StateBackend for PostgresState {
    fn backend(&self) -> &'static str {
        "postgres"
    }

    async fn check(&self, patience: Duration) -> Result<(), StoreError> {
        self.database.check(patience).await
    }

    fn ack_key(&self) -> [u8; 16] {
        self.ack_key
    }

    async fn close(&self) {
        self.stopping.cancel();
        self.tasks.close();
        let closed = async {
            self.tasks.wait().await;
            // A flush that is still on its way does not keep the others from taking over.
            tokio::join!(self.membership.leave(), self.flushes.close());
            self.database.close().await;
        };
        let longest = Duration::from_millis(CLOSE_WAIT_MILLIS_MAX);
        if timeout(longest, closed).await.is_err() {
            tracing::warn!("the connections to the database did not close in time");
        }
    }
}
