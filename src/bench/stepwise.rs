//! Loads that do one thing after the other: redelivery behind a backlog, small demand on many subscriptions, streams that
//! nobody reads, and first pulls beside a busy subscription.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tokio::time::sleep;

use super::{
    CallError, Report,
    calls::Calls,
    measure::{self, Sample},
    payload::Mark,
    publisher::{publish, publish_all},
    reader::open_stream,
    run::{Run, Tasks},
};

/// How long after the last demand the memory of the server is sampled.
const DEMAND_PAUSE: Duration = Duration::from_secs(3);

/// Nacks the first message of a backlog again and again, while the others are pulled and acknowledged.
pub(super) async fn redelivery(run: &Arc<Run>) -> Result<Vec<Report>, CallError> {
    publish_all(run).await?;
    let calls = Calls::new(run.connections[0].clone(), run.names.subscription(0, 0));
    let start = Sample::take(&run.counters, &run.plan);
    let end = measure::now() + run.plan.measured;
    let mut redelivered = 0;
    run.counters.measuring.store(true, Relaxed);
    'measured: while let Some(first) = calls.pull().await? {
        calls.nack(&first).await?;
        let since = measure::now();
        loop {
            if measure::now() > end {
                // It took at least so long.
                run.counters.receives_took(&[micros_since(since)]);
                break 'measured;
            }
            // Nothing left but the nacked message: without a backlog there is nothing to measure.
            let Some(pulled) = calls.pull_now().await? else {
                break 'measured;
            };
            calls.acknowledge(&pulled).await?;
            if pulled.mark == first.mark {
                run.counters.receives_took(&[micros_since(since)]);
                redelivered += 1;
                break;
            }
        }
    }
    let mut report = run.report("redelivery");
    let measured = start.until(Sample::take(&run.counters, &run.plan));
    measured.fill(redelivered, &mut report);
    Ok(vec![report])
}

/// Pulls one message of each subscription, and then waits.
pub(super) async fn demand(run: &Arc<Run>) -> Result<Vec<Report>, CallError> {
    publish_all(run).await?;
    let sample = || Sample::take(&run.counters, &run.plan);
    let mut before = run.report("demand-before");
    before.server_rss_mb = measure::resident_mb(&run.plan);
    let start = sample();
    let subscriptions = (0..run.plan.subscriptions).map(|it| run.names.subscription(0, it));
    pull_each(run, subscriptions.collect()).await?;
    let measured = start.until(sample());
    sleep(DEMAND_PAUSE).await;
    let mut after = run.report("demand-after");
    after.server_rss_mb = measure::resident_mb(&run.plan);
    measured.fill(run.plan.subscriptions as u64, &mut after);
    Ok(vec![before, after])
}

/// Opens streams, and reads none of them.
pub(super) async fn unread(run: &Arc<Run>) -> Result<Vec<Report>, CallError> {
    publish_all(run).await?;
    let mut before = run.report("unread-before");
    before.server_rss_mb = measure::resident_mb(&run.plan);
    let start = Sample::take(&run.counters, &run.plan);
    let mut connections = run.reader_connections.iter().cycle();
    let mut streams = Vec::new();
    for reading in &run.readings {
        for connection in connections.by_ref().take(run.plan.streams) {
            let (upstream, answers) =
                open_stream(connection, reading, run.plan.outstanding).await?;
            streams.push((upstream, answers.await_head().await?));
        }
    }
    let measured = start.until(Sample::take(&run.counters, &run.plan));
    measure::settle(&run.plan).await;
    let mut after = run.report("unread-after");
    after.server_rss_mb = measure::resident_mb(&run.plan);
    after.streams = streams.len();
    measured.fill(after.streams as u64, &mut after);
    Ok(vec![before, after])
}

/// Publishes, pulls and acknowledges one message after the other, and then again during first pulls on others.
pub(super) async fn cold(run: &Arc<Run>) -> Result<Vec<Report>, CallError> {
    run.new_names
        .create(&run.connections, run.plan.in_flight)
        .await?;
    let mut busy = Tasks::default();
    busy.spawn(publish_pull_acknowledge(Arc::clone(run)));
    let (start, end) = run.measure(&mut busy).await?;
    let mut before = run.report("cold-before");
    let measured = start.until(end);
    measured.fill(measured.published, &mut before);
    run.counters.forget_latencies();
    let pulls = pull_each(run, run.new_names.first_subscriptions());
    let (start, end) = run.measure_during(busy.work_during(pulls)).await?;
    run.stop.cancel();
    busy.finish(&run.counters).await?;
    let mut during = run.report("cold-during");
    start
        .until(end)
        .fill(run.plan.new_topics as u64, &mut during);
    during.new_topics = Some(run.plan.new_topics);
    Ok(vec![before, during])
}

async fn publish_pull_acknowledge(run: Arc<Run>) -> Result<(), CallError> {
    let topic = run.names.topic(0);
    let connection = run.connections[0].clone();
    let calls = Calls::new(connection.clone(), run.names.subscription(0, 0));
    for sequence in 0.. {
        if run.stop.is_cancelled() {
            break;
        }
        let mark = Mark {
            run: run.id,
            publisher: 0,
            sequence,
            sent_micros: run.micros(),
        };
        publish(&run, &connection, &topic, mark, run.plan.batch).await?;
        if let Some(pulled) = calls.pull().await? {
            let since = measure::now();
            calls.acknowledge(&pulled).await?;
            run.counters.ack_took(micros_since(since));
        }
    }
    Ok(())
}

/// Pulls what there is of each of `subscriptions`, one message at most, as many at a time as requests are in flight.
async fn pull_each(run: &Run, subscriptions: Vec<String>) -> Result<(), CallError> {
    let subscriptions: Arc<[String]> = subscriptions.into();
    let next = Arc::new(AtomicUsize::new(0));
    let mut pulls = Tasks::default();
    let connections = run.reader_connections.iter().cycle();
    for connection in connections.take(run.plan.in_flight) {
        let (connection, subscriptions, next) = (
            connection.clone(),
            Arc::clone(&subscriptions),
            Arc::clone(&next),
        );
        pulls.spawn(async move {
            while let Some(name) = subscriptions.get(next.fetch_add(1, Relaxed)) {
                let calls = Calls::new(connection.clone(), name.clone());
                calls.pull_now().await?;
            }
            Ok(())
        });
    }
    pulls.all().await
}

fn micros_since(since: Instant) -> u64 {
    (measure::now() - since).as_micros() as u64
}
