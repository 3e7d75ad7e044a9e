//! One run of a load: its connections, its topics and subscriptions, and the tasks that work on them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    BenchError, CallError, Plan,
    connection::{ANSWER_WAIT_MAX, Connection},
    filters::Content,
    measure::{self, Counters, Sample},
    payload::Template,
    publisher::PUBLISH,
    reader::Reading,
    report::Report,
    resources::Names,
    shape::Shape,
    tally::Counts,
};

/// Time before a measurement, for connections and buffers to grow.
const WARM_UP: Duration = Duration::from_millis(500);
/// How often it is asked whether something has arrived.
pub(super) const ARRIVAL_INTERVAL: Duration = Duration::from_millis(10);
/// Messages that may be published before earlier ones have arrived, where a load has both.
const WINDOW_MESSAGES: usize = 20_000;
/// Streams that share a connection: half of what Google's servers allow, as publishers are on some of them too.
const CONNECTION_STREAMS_MAX: usize = 50;

/// What publishers and readers share.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) plan: Plan,
    pub(super) content: Content,
    /// Tells messages of this run from others.
    pub(super) id: u32,
    pub(super) names: Names,
    /// Of the topics that are made while the run measures, or first used then.
    pub(super) new_names: Names,
    /// For requests.
    pub(super) connections: Vec<Connection>,
    /// For streams and clients that pull.
    pub(super) reader_connections: Vec<Connection>,
    pub(super) counters: Counters,
    pub(super) template: Template,
    /// One per subscription that is read.
    pub(super) readings: Vec<Arc<Reading>>,
    /// Messages of which every other one is still to be left unacknowledged.
    holes: AtomicU64,
    /// Messages that may still be published.
    quota: AtomicU64,
    /// Room for messages that have not arrived, where publishers wait for readers.
    pub(super) window: Option<Semaphore>,
    /// Publishers end.
    pub(super) stop: CancellationToken,
    /// Readers end.
    pub(super) end: CancellationToken,
    started: Instant,
}

impl Run {
    /// Connects, and makes topics and subscriptions.
    pub(super) async fn prepare(shape: Shape) -> Result<Arc<Self>, BenchError> {
        let Shape { plan, content, .. } = shape;
        if let Some(pid) = plan.pid
            && super::process::cpu_micros(&pid.to_string()).is_none()
        {
            return Err(BenchError::Process(pid));
        }
        let id = getrandom::u32().unwrap_or_else(|_| std::process::id());
        let readers = plan.topics * plan.subscriptions * plan.streams;
        let mut reader_connections = Vec::new();
        for _ in 0..plan
            .connections
            .max(readers.div_ceil(CONNECTION_STREAMS_MAX))
        {
            reader_connections.push(Connection::open(&plan.addr).await?);
        }
        let connections = reader_connections[..plan.connections].to_vec();
        let names = Names::new(&plan, id, content);
        if let Err(error) = names.create(&connections, plan.in_flight).await {
            // What there is by now goes away again; what failed first is what is told.
            let _deleted = names.delete(&connections, plan.in_flight).await;
            return Err(error.into());
        }
        let readings = (0..plan.topics)
            .flat_map(|topic| {
                (0..plan.subscriptions).map(move |subscription| (topic, subscription))
            })
            .map(|(topic, subscription)| {
                let silent = subscription < plan.silent;
                Arc::new(Reading::new(
                    names.subscription(topic, subscription),
                    silent,
                    plan.in_flight + 1,
                    content,
                ))
            })
            .collect();
        Ok(Arc::new(Self {
            content,
            id,
            new_names: names.further(plan.new_topics, shape.new_subscriptions),
            names,
            connections,
            reader_connections,
            counters: Counters::new(),
            template: Template::new(plan.batch, plan.data_bytes, content.filters, content.keys),
            readings,
            holes: AtomicU64::new(2 * plan.holes),
            quota: AtomicU64::new(shape.quota),
            window: shape
                .windowed
                .then(|| Semaphore::new(WINDOW_MESSAGES.max(plan.batch))),
            stop: CancellationToken::new(),
            end: CancellationToken::new(),
            started: measure::now(),
            plan,
        }))
    }

    /// Takes `messages` from what may still be published; false if nothing is left.
    pub(super) fn may_publish(&self, messages: u64) -> bool {
        let less = |quota: u64| quota.checked_sub(messages);
        !self.stop.is_cancelled() && self.quota.fetch_update(Relaxed, Relaxed, less).is_ok()
    }

    /// Ends publishers that publish as fast as answers come.
    pub(super) fn publish_no_more(&self) {
        self.quota.store(0, Relaxed);
    }

    /// Whether the next message that arrives is to be acknowledged.
    pub(super) fn acknowledges(&self) -> bool {
        let less = |left: u64| left.checked_sub(1);
        let left = self.holes.fetch_update(Relaxed, Relaxed, less);
        left.unwrap_or(0).is_multiple_of(2)
    }

    /// Microseconds since the run began.
    pub(super) fn micros(&self) -> u64 {
        self.micros_of(measure::now())
    }

    /// Microseconds from the run's beginning to `at`.
    pub(super) fn micros_of(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.started).as_micros() as u64
    }

    /// How many arrivals there are of so many messages: each has a reader per subscription, unless filters leave it out.
    pub(super) fn arrivals_of(&self, published: u64) -> u64 {
        let listeners = (self.plan.subscriptions - self.plan.silent) as u64;
        published * listeners / self.content.filters.one_in()
    }

    /// How many messages have arrived everywhere, on average, when there were so many arrivals.
    pub(super) fn arrived_of(&self, arrivals: u64) -> u64 {
        let listeners = (self.plan.subscriptions - self.plan.silent) as u64;
        arrivals * self.content.filters.one_in() / listeners
    }

    /// Measures for as long as the plan says, after a warm-up, while `tasks` work.
    pub(super) async fn measure(&self, tasks: &mut Tasks) -> Result<(Sample, Sample), CallError> {
        tasks.work_for(WARM_UP).await?;
        self.measure_during(tasks.work_for(self.plan.measured))
            .await
    }

    /// Measures until `work` is done.
    pub(super) async fn measure_during(
        &self,
        work: impl Future<Output = Result<(), CallError>>,
    ) -> Result<(Sample, Sample), CallError> {
        self.counters.measuring.store(true, Relaxed);
        let start = Sample::take(&self.counters, &self.plan);
        work.await?;
        let end = Sample::take(&self.counters, &self.plan);
        self.counters.measuring.store(false, Relaxed);
        Ok((start, end))
    }

    /// Waits until everything that was published has arrived, or nothing more comes.
    pub(super) async fn arrivals(&self, readers: &mut Tasks) -> Result<(), CallError> {
        let (mut last, mut since) = (0, measure::now());
        loop {
            let progress = self.counters.progress();
            if progress.received >= self.arrivals_of(progress.published) {
                return Ok(());
            }
            if progress.received > last {
                (last, since) = (progress.received, measure::now());
            } else if measure::now() - since > self.plan.lost_after {
                return Ok(());
            }
            readers.work_for(Duration::from_millis(1)).await?;
        }
    }

    /// Removes topics and subscriptions, unless they are to be kept.
    pub(super) async fn clean_up(&self) -> Result<(), CallError> {
        self.stop.cancel();
        self.end.cancel();
        if self.plan.keep {
            return Ok(());
        }
        for names in [&self.names, &self.new_names] {
            names.delete(&self.connections, self.plan.in_flight).await?;
        }
        Ok(())
    }

    /// A report of what the plan was and what arrived.
    pub(super) fn report(&self, load: &'static str) -> Report {
        let plan = &self.plan;
        Report {
            load,
            batch: plan.batch,
            size: plan.data_bytes,
            topics: plan.topics,
            subscriptions: plan.subscriptions,
            silent: plan.silent,
            published: self.counters.progress().published,
            publish_ms: self.counters.publish_quantiles(),
            receive_ms: self.counters.receive_quantiles(),
            ack_ms: self.counters.ack_quantiles(),
            ..Report::default()
        }
    }

    /// Adds what arrived, and whether that was everything, in order if messages have keys, and once where promised.
    pub(super) fn judge(&self, report: &mut Report) {
        let mut sum = Counts::default();
        for reading in self.readings.iter().filter(|reading| !reading.silent) {
            let counts = reading.counts();
            sum.received += counts.received;
            sum.duplicates += counts.duplicates;
            sum.reordered += counts.reordered;
            sum.foreign += counts.foreign;
        }
        if sum.foreign > 0 && sum.received == 0 {
            // This server sends messages of its own making, so nothing can be said.
            return;
        }
        let lost = self
            .arrivals_of(report.published)
            .saturating_sub(sum.received);
        report.received = Some(sum.received);
        report.lost = Some(lost);
        report.duplicates = Some(sum.duplicates);
        report.reordered = Some(sum.reordered);
        let breaks_once = self.content.delivery.comes_once() && sum.duplicates > 0;
        // What is not ours may be one of ours that was damaged.
        let breaks_order = self.content.keys.are_shared() && sum.reordered > 0;
        report.void = lost > 0 || sum.foreign > 0 || breaks_order || breaks_once;
    }
}

/// Tasks of a run, any of which may fail.
#[derive(Debug, Default)]
pub(super) struct Tasks(JoinSet<Result<(), CallError>>);

impl Tasks {
    pub(super) fn spawn(
        &mut self,
        task: impl Future<Output = Result<(), CallError>> + Send + 'static,
    ) {
        self.0.spawn(task);
    }

    /// Waits, or fails with the first task that does.
    pub(super) async fn work_for(&mut self, time: Duration) -> Result<(), CallError> {
        let waited = async {
            sleep(time).await;
            Ok(())
        };
        self.work_during(waited).await
    }

    /// Waits until `other` is done, or fails with it or with the first task that does.
    pub(super) async fn work_during<T>(
        &mut self,
        other: impl Future<Output = Result<T, CallError>>,
    ) -> Result<T, CallError> {
        let failure = async {
            self.all().await?;
            std::future::pending().await
        };
        tokio::select! {
            done = other => done,
            failed = failure => failed,
        }
    }

    /// Waits for all to end, or fails with the first one that does.
    pub(super) async fn all(&mut self) -> Result<(), CallError> {
        while let Some(ended) = self.0.join_next().await {
            ended.expect("a task of the generator does not panic")?;
        }
        Ok(())
    }

    /// Waits for all publishers to end, as long as there is progress.
    pub(super) async fn finish(&mut self, counters: &Counters) -> Result<(), CallError> {
        let mut before = counters.progress().published;
        loop {
            match timeout(ANSWER_WAIT_MAX, self.0.join_next()).await {
                Ok(None) => return Ok(()),
                Ok(Some(ended)) => ended.expect("a task of the generator does not panic")?,
                Err(_) => {
                    let now = counters.progress().published;
                    if now == before {
                        return Err(CallError::NoAnswer { method: PUBLISH });
                    }
                    before = now;
                }
            }
        }
    }
}
