//! Stores for tests, in front of real ones: calls of a chosen name fail, or hold their answers back, when they are
//! told to.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    mem,
    ops::Range,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::{
    Membership, MessageLog, Positions, Records, Resources, StateBackend, StateStore, StoreError,
    log::{
        AppendedRun, LogEnds, LogLocation, Offset, Partition, PartitionBounds, ReadBatch, TopicLog,
        Trims,
    },
    positions::{Acquire, Flush, FlushOutcome, Owner, PositionsRead, ReadFrom, Retained},
    resources::{
        CreateError, LockedTopic, LogNeeds, SubscriptionRecord, TopicRecord, TopicRow, UpdateError,
    },
};
use crate::{
    clock::Timestamp,
    resource::{
        id::{SubscriptionId, TopicIncarnation},
        message::AcceptedMessages,
        name::{ProjectName, SubscriptionName, TopicName},
        subscription::Subscription,
        topic::Topic,
    },
};

/// What is to go wrong, by the name of the port's method. Cheap to clone; all clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Faults(Arc<Mutex<Plan>>);

#[derive(Default)]
struct Plan {
    failures: HashMap<&'static str, VecDeque<StoreError>>,
    held: HashMap<&'static str, Held>,
    random: Option<Random>,
    always: Option<StoreError>,
    damaged: Option<SubscriptionId>,
    owner: Option<Owner>,
    owned: BTreeMap<SubscriptionId, u64>,
    calls: usize,
    chunks: usize,
    loses_records: bool,
}

struct Random {
    state: u64,
    percent: u64,
    calls: &'static [&'static str],
}

impl Random {
    /// A xorshift generator: the same seed gives the same failures.
    fn next(&mut self, below: u64) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state % below
    }
}

/// A call whose answer is held back.
#[derive(Clone)]
pub(crate) struct Held {
    done: Arc<Semaphore>,
    go: Arc<Semaphore>,
}

impl Held {
    /// Returns once the call was carried out and only its answer is missing.
    pub(crate) async fn done(&self) {
        self.done.acquire().await.expect("never closed").forget();
    }

    /// Lets the answer go.
    pub(crate) fn release(&self) {
        self.go.add_permits(1);
    }
}

impl Faults {
    /// The next call fails with `error`; further ones queue up behind it. The work is done nevertheless if the error
    /// says that it may have been.
    pub(crate) fn fail(&self, call: &'static str, error: StoreError) {
        let mut plan = self.0.lock();
        plan.failures.entry(call).or_default().push_back(error);
    }

    /// The next call is carried out and its answer held back.
    pub(crate) fn hold(&self, call: &'static str) -> Held {
        let held = Held {
            done: Arc::new(Semaphore::new(0)),
            go: Arc::new(Semaphore::new(0)),
        };
        self.0.lock().held.insert(call, held.clone());
        held
    }

    /// From now on `percent` of these calls fail, half of them with their work done.
    pub(crate) fn at_random(&self, seed: u64, percent: u64, calls: &'static [&'static str]) {
        self.0.lock().random = Some(Random {
            state: seed.max(1),
            percent,
            calls,
        });
    }

    /// From now on every call fails with `error`.
    pub(crate) fn always(&self, error: StoreError) {
        self.0.lock().always = Some(error);
    }

    /// From now on this living node delivers every subscription.
    pub(crate) fn own(&self, node: &str, address: &str) {
        self.0.lock().owner = Some(Owner {
            node: node.to_owned(),
            address: address.to_owned(),
        });
    }

    /// Which subscriptions this node owns.
    pub(crate) fn owned(&self) -> Vec<SubscriptionId> {
        self.0.lock().owned.keys().copied().collect()
    }

    /// From now on the log is one that may lose records.
    pub(crate) fn let_log_lose_records(&self) {
        self.0.lock().loses_records = true;
    }

    /// Flushes that include this subscription fail as if a page of its state were damaged.
    pub(crate) fn damage(&self, subscription: SubscriptionId) {
        self.0.lock().damaged = Some(subscription);
    }

    /// Nothing fails by chance any more.
    pub(crate) fn heal(&self) {
        self.0.lock().random = None;
    }

    /// How many calls there were since this was asked last, and how many chunks of positions they read.
    pub(crate) fn take_calls(&self) -> (usize, usize) {
        let mut plan = self.0.lock();
        (mem::take(&mut plan.calls), mem::take(&mut plan.chunks))
    }

    fn failure(&self, call: &'static str) -> Option<StoreError> {
        let mut plan = self.0.lock();
        plan.calls += 1;
        if let Some(error) = plan.failures.get_mut(call).and_then(VecDeque::pop_front) {
            return Some(error);
        }
        if let Some(error) = &plan.always {
            return Some(error.clone());
        }
        let random = plan.random.as_mut()?;
        if !random.calls.contains(&call) || random.next(100) >= random.percent {
            return None;
        }
        let text = format!("{call} fails by chance");
        Some(if random.next(2) == 0 {
            StoreError::Unavailable(text)
        } else {
            StoreError::Uncertain(text)
        })
    }

    async fn run<T, E: From<StoreError>>(
        &self,
        call: &'static str,
        work: impl Future<Output = Result<T, E>> + Send,
    ) -> Result<T, E> {
        let failure = self.failure(call);
        if let Some(error) = &failure
            && error.definitely_failed()
        {
            return Err(error.clone().into());
        }
        let result = work.await;
        let held = self.0.lock().held.remove(call);
        if let Some(held) = held {
            held.done.add_permits(1);
            held.go.acquire().await.expect("never closed").forget();
        }
        match failure {
            Some(error) => Err(error.into()),
            None => result,
        }
    }
}

/// A store that fails as its [`Faults`] say.
pub(crate) struct Faulty<S> {
    inner: Arc<S>,
    faults: Faults,
}

impl<S> Faulty<S> {
    /// In front of `inner`.
    pub(crate) fn new(inner: &Arc<S>, faults: &Faults) -> Arc<Self> {
        Arc::new(Self {
            inner: Arc::clone(inner),
            faults: faults.clone(),
        })
    }
}

/// A state store whose resources and positions fail as `faults` say.
pub(crate) fn faulty_state<S>(inner: &Arc<S>, faults: &Faults) -> StateStore
where
    S: Resources + Records + Positions + Membership + StateBackend,
{
    let failing = Faulty::new(inner, faults);
    StateStore {
        resources: failing.clone(),
        positions: failing.clone(),
        backend: failing,
        records: inner.clone(),
        membership: inner.clone(),
    }
}

#[async_trait]
impl<S: MessageLog> MessageLog for Faulty<S> {
    fn backend(&self) -> &'static str {
        self.inner.backend()
    }

    async fn check(&self, patience: Duration) -> Result<(), StoreError> {
        let check = self.inner.check(patience);
        self.faults.run("check_log", check).await
    }

    fn shortage(&self) -> Option<String> {
        self.inner.shortage()
    }

    fn identity(&self) -> String {
        self.inner.identity()
    }

    fn retention_min(&self) -> Duration {
        self.inner.retention_min()
    }

    fn may_lose_records(&self) -> bool {
        self.faults.0.lock().loses_records
    }

    fn trims(&self) -> Trims {
        self.inner.trims()
    }

    fn location(&self, topic: TopicIncarnation, name: &TopicName) -> LogLocation {
        self.inner.location(topic, name)
    }

    async fn create(
        &self,
        topic: TopicIncarnation,
        name: &TopicName,
    ) -> Result<LogLocation, StoreError> {
        let create = self.inner.create(topic, name);
        self.faults.run("create", create).await
    }

    async fn attach(&self, name: &str) -> Result<Option<LogLocation>, StoreError> {
        self.faults.run("attach", self.inner.attach(name)).await
    }

    async fn retain(&self, topic: &TopicLog, at_least: Duration) -> Result<(), StoreError> {
        let retain = self.inner.retain(topic, at_least);
        self.faults.run("retain", retain).await
    }

    async fn delete(&self, topic: &TopicLog) -> Result<(), StoreError> {
        self.faults.run("delete", self.inner.delete(topic)).await
    }

    async fn append(
        &self,
        topic: &TopicLog,
        messages: AcceptedMessages,
    ) -> Result<Vec<AppendedRun>, StoreError> {
        let append = self.inner.append(topic, messages);
        self.faults.run("append", append).await
    }

    async fn read(
        &self,
        topic: &TopicLog,
        partition: Partition,
        range: Range<Offset>,
        bytes_max: usize,
    ) -> Result<ReadBatch, StoreError> {
        let read = self.inner.read(topic, partition, range, bytes_max);
        self.faults.run("read", read).await
    }

    async fn bounds(&self, topic: &TopicLog) -> Result<Vec<PartitionBounds>, StoreError> {
        self.faults.run("bounds", self.inner.bounds(topic)).await
    }

    async fn watch(&self, topic: &TopicLog) -> Result<LogEnds, StoreError> {
        self.faults.run("watch", self.inner.watch(topic)).await
    }

    async fn offset_at(
        &self,
        topic: &TopicLog,
        partition: Partition,
        time: Timestamp,
    ) -> Result<Offset, StoreError> {
        let offset = self.inner.offset_at(topic, partition, time);
        self.faults.run("offset_at", offset).await
    }

    async fn trim(
        &self,
        topic: &TopicLog,
        partition: Partition,
        done: &[Range<Offset>],
    ) -> Result<Option<Offset>, StoreError> {
        let trim = self.inner.trim(topic, partition, done);
        self.faults.run("trim", trim).await
    }

    async fn whole_batches(
        &self,
        topic: &TopicLog,
        partition: Partition,
        range: Range<Offset>,
    ) -> Result<Range<Offset>, StoreError> {
        let widened = self.inner.whole_batches(topic, partition, range);
        self.faults.run("whole_batches", widened).await
    }

    async fn skip_damage(
        &self,
        topic: &TopicLog,
        partition: Partition,
        from: Offset,
    ) -> Result<Offset, StoreError> {
        let skip = self.inner.skip_damage(topic, partition, from);
        self.faults.run("skip_damage", skip).await
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}

#[async_trait]
impl<S: Resources> Resources for Faulty<S> {
    async fn create_topic(
        &self,
        topic: &Topic,
        attached: Option<&LogLocation>,
    ) -> Result<TopicIncarnation, CreateError> {
        let create = self.inner.create_topic(topic, attached);
        self.faults.run("create_topic", create).await
    }

    async fn publish_topic(
        &self,
        topic: TopicIncarnation,
        location: &LogLocation,
    ) -> Result<bool, StoreError> {
        let publish = self.inner.publish_topic(topic, location);
        self.faults.run("publish_topic", publish).await
    }

    async fn unfinished_topic(&self, name: &TopicName) -> Result<Option<TopicRow>, StoreError> {
        let unfinished = self.inner.unfinished_topic(name);
        self.faults.run("unfinished_topic", unfinished).await
    }

    async fn topic(&self, name: &TopicName) -> Result<Option<TopicRecord>, StoreError> {
        self.faults.run("topic", self.inner.topic(name)).await
    }

    async fn update_topic(
        &self,
        read: &TopicRecord,
        topic: &Topic,
    ) -> Result<TopicRecord, UpdateError> {
        let update = self.inner.update_topic(read, topic);
        self.faults.run("update_topic", update).await
    }

    async fn list_topics(
        &self,
        project: &ProjectName,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<TopicRecord>, StoreError> {
        let list = self.inner.list_topics(project, after, limit);
        self.faults.run("list_topics", list).await
    }

    async fn delete_topic(&self, topic: &TopicRecord) -> Result<bool, StoreError> {
        let delete = self.inner.delete_topic(topic);
        self.faults.run("delete_topic", delete).await
    }

    async fn logs(&self) -> Result<Vec<TopicRow>, StoreError> {
        self.faults.run("logs", self.inner.logs()).await
    }

    async fn log_needs(&self, topic: TopicIncarnation) -> Result<Option<LogNeeds>, StoreError> {
        let needs = self.inner.log_needs(topic);
        self.faults.run("log_needs", needs).await
    }

    async fn lock_topic(&self, topic: TopicIncarnation) -> Result<Option<LockedTopic>, StoreError> {
        let lock = self.inner.lock_topic(topic);
        self.faults.run("lock_topic", lock).await
    }

    async fn forget_topic(&self, topic: TopicIncarnation) -> Result<(), StoreError> {
        let forget = self.inner.forget_topic(topic);
        self.faults.run("forget_topic", forget).await
    }

    async fn create_subscription(
        &self,
        topic: &TopicLog,
        subscription: &Subscription,
        starts: &[(Partition, Offset)],
    ) -> Result<SubscriptionRecord, CreateError> {
        let create = self.inner.create_subscription(topic, subscription, starts);
        self.faults.run("create_subscription", create).await
    }

    async fn subscription(
        &self,
        name: &SubscriptionName,
    ) -> Result<Option<SubscriptionRecord>, StoreError> {
        let read = self.inner.subscription(name);
        self.faults.run("subscription", read).await
    }

    async fn update_subscription(
        &self,
        read: &SubscriptionRecord,
        subscription: &Subscription,
    ) -> Result<SubscriptionRecord, UpdateError> {
        let update = self.inner.update_subscription(read, subscription);
        self.faults.run("update_subscription", update).await
    }

    async fn list_subscriptions(
        &self,
        project: &ProjectName,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<SubscriptionRecord>, StoreError> {
        let list = self.inner.list_subscriptions(project, after, limit);
        self.faults.run("list_subscriptions", list).await
    }

    async fn list_topic_subscriptions(
        &self,
        topic: TopicIncarnation,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<SubscriptionName>, StoreError> {
        let list = self.inner.list_topic_subscriptions(topic, after, limit);
        self.faults.run("list_topic_subscriptions", list).await
    }

    async fn delete_subscription(
        &self,
        name: &SubscriptionName,
    ) -> Result<Option<SubscriptionId>, StoreError> {
        let delete = self.inner.delete_subscription(name);
        self.faults.run("delete_subscription", delete).await
    }
}

#[async_trait]
impl<S: Positions> Positions for Faulty<S> {
    async fn owner(&self, subscription: SubscriptionId) -> Result<Option<Owner>, StoreError> {
        let owner = self.faults.0.lock().owner.clone();
        if owner.is_some() {
            return Ok(owner);
        }
        let owner = self.inner.owner(subscription);
        self.faults.run("owner", owner).await
    }

    async fn unattended(
        &self,
        after: Option<&SubscriptionName>,
        limit: usize,
    ) -> Result<Vec<SubscriptionName>, StoreError> {
        let unattended = self.inner.unattended(after, limit);
        self.faults.run("unattended", unattended).await
    }

    async fn acquire(&self, subscription: SubscriptionId) -> Result<Acquire, StoreError> {
        let owner = self.faults.0.lock().owner.clone();
        if let Some(owner) = owner {
            return Ok(Acquire::OwnedBy(owner));
        }
        let acquire = async {
            let acquire = self.inner.acquire(subscription).await;
            if let Ok(Acquire::Acquired(acquired)) = &acquire {
                let mut plan = self.faults.0.lock();
                plan.owned.insert(subscription, acquired.epoch);
            }
            acquire
        };
        self.faults.run("acquire", acquire).await
    }

    async fn owned(
        &self,
        subscriptions: &[SubscriptionId],
    ) -> Result<Vec<(SubscriptionId, u64)>, StoreError> {
        let owned = async {
            let owned = &self.faults.0.lock().owned;
            let epoch = |id| owned.get(id).map(|epoch| (*id, *epoch));
            Ok(subscriptions.iter().filter_map(epoch).collect())
        };
        self.faults.run("owned", owned).await
    }

    async fn release(&self, owned: &[(SubscriptionId, u64)]) -> Result<(), StoreError> {
        let release = async {
            let current = &mut self.faults.0.lock().owned;
            current.retain(|id, epoch| !owned.contains(&(*id, *epoch)));
            Ok(())
        };
        self.faults.run("release", release).await
    }

    async fn flush(&self, flushes: &[Flush]) -> Result<Vec<FlushOutcome>, StoreError> {
        let damaged = self.faults.0.lock().damaged;
        if flushes
            .iter()
            .any(|flush| Some(flush.subscription) == damaged)
        {
            return Err(StoreError::Damaged("a page of the state".to_owned()));
        }
        self.faults.run("flush", self.inner.flush(flushes)).await
    }

    async fn positions(
        &self,
        subscriptions: &[ReadFrom],
        partition: Partition,
        until: Offset,
        chunks_max: usize,
    ) -> Result<PositionsRead, StoreError> {
        let positions = self
            .inner
            .positions(subscriptions, partition, until, chunks_max);
        let read = self.faults.run("positions", positions).await?;
        let chunks = read.states.values().map(|state| state.chunks.len());
        self.faults.0.lock().chunks += chunks.sum::<usize>();
        Ok(read)
    }

    async fn retained(
        &self,
        subscriptions: &[SubscriptionId],
        partition: Partition,
        key: u64,
    ) -> Result<Vec<Retained>, StoreError> {
        let retained = self.inner.retained(subscriptions, partition, key);
        self.faults.run("retained", retained).await
    }
}

#[async_trait]
impl<S: StateBackend> StateBackend for Faulty<S> {
    fn backend(&self) -> &'static str {
        self.inner.backend()
    }

    async fn check(&self, patience: Duration) -> Result<(), StoreError> {
        let check = self.inner.check(patience);
        self.faults.run("check_state", check).await
    }

    fn shortage(&self) -> Option<String> {
        self.inner.shortage()
    }

    fn ack_key(&self) -> [u8; 16] {
        self.inner.ack_key()
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}
