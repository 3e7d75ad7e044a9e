//! The loads: which publishers and readers work together, and what of it is measured.

use std::{sync::Arc, time::Duration};

use clap::ValueEnum;

use super::{
    BenchError, CallError, Plan, Progress, Report, backoff,
    connection::ANSWER_WAIT_MAX,
    dead_letters, expiry,
    filters::Filters,
    keys::Keys,
    measure::{self, MemoryWatch, Sample},
    paced::{self, end_paced, paced_report},
    pacer::publish_at_rate,
    payload::{Mark, Template},
    process,
    publisher::{PUBLISH, publish_all, start_publishers},
    reader::{self, open_stream},
    run::{ARRIVAL_INTERVAL, Run, Tasks},
    shape::Shape,
    stepwise,
};

/// How often progress is told.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

/// A kind of load. The command line says of each what stands here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Load {
    /// Publish as fast as answers come; what nobody reads meanwhile is received and checked afterwards
    Publish,
    /// Publish as fast as answers come, and then at half of that rate: how long answers take
    HalfRate,
    /// Publish, receive over streams and acknowledge
    EndToEnd,
    /// The same to several subscriptions with one stream each
    FanOut,
    /// End-to-end to one subscription whose filter leaves nine messages in ten out: how fast those are published
    Filtered,
    /// End-to-end to --subscriptions with one stream each, of which each gets another message in a hundred
    FilteredFanOut,
    /// End-to-end to a subscription with message ordering: 10,000 keys, in requests of mixed ones
    Ordered,
    /// The same behind --messages of one more key, the first of which is leased and never acknowledged
    BlockedKey,
    /// End-to-end to a subscription with exactly-once delivery, as official clients do it: by a ModifyAckDeadline for what
    /// arrived, and an Acknowledge after its answer
    ExactlyOnce,
    /// The same by Acknowledge alone
    ExactlyOncePlain,
    /// The same as exactly-once to a subscription without exactly-once delivery
    Receipts,
    /// End-to-end by Pull and Acknowledge
    Pull,
    /// Publish single messages at --rate: how long answers and arrivals take
    Latency,
    /// The same to a subscription with exactly-once delivery, by the calls of the load exactly-once
    ExactlyOnceLatency,
    /// Latency, and then again while --new-topics are made, --in-flight at a time
    Topics,
    /// Publish --messages that nobody reads, then receive them all
    Backlog,
    /// Publish --messages, and nack the first of them again and again while others are pulled: how long until it comes
    Redelivery,
    /// Publish --messages, and pull one of them from each of --subscriptions: how much memory the rest takes
    Demand,
    /// Publish --messages, and open --streams of each of --subscriptions that nobody reads: how much memory they take
    Unread,
    /// Publish, pull and acknowledge one by one, and then again while --new-topics subscriptions are first pulled from
    Cold,
    /// Latency, and then again while --messages that another consumer got end their leases of 10 s: how long until all
    /// have come again
    Expiry,
    /// The same with message ordering: 10,000 keys
    ExpiryOrdered,
    /// Publish --messages with an ordering key each, nack each once, and wait: what they cost in their backoff of 600 s
    Backoff,
    /// Latency, and then again while --messages are nacked by two subscriptions that send each other their dead letters
    DeadLetterCycle,
    /// Leave --holes messages unacknowledged, then publish at --rate and acknowledge: what deleting costs
    Holes,
    /// Make --topics with a subscription each, then do nothing
    Idle,
}

/// Puts `load` on a server. Tells `on_progress` now and then how far it is.
pub async fn run(
    load: Load,
    plan: &Plan,
    on_progress: impl Fn(Progress) + Send + 'static,
) -> Result<Vec<Report>, BenchError> {
    let creating = measure::now();
    let run = Run::prepare(Shape::of(load, plan)).await?;
    let created = creating.elapsed();
    let telling = tokio::spawn({
        let run = Arc::clone(&run);
        async move {
            let mut ticks = tokio::time::interval(PROGRESS_INTERVAL);
            loop {
                ticks.tick().await;
                on_progress(run.counters.progress());
            }
        }
    });
    let memory = MemoryWatch::start(plan.pid);
    let reports = match load {
        Load::Publish => publish(&run).await.map_err(BenchError::from),
        Load::HalfRate => half_rate(&run).await,
        Load::EndToEnd
        | Load::FanOut
        | Load::Filtered
        | Load::FilteredFanOut
        | Load::Ordered
        | Load::ExactlyOnce
        | Load::ExactlyOncePlain
        | Load::Receipts
        | Load::Pull => both(&run, load).await.map_err(BenchError::from),
        Load::BlockedKey => blocked_key(&run).await.map_err(BenchError::from),
        Load::Latency | Load::ExactlyOnceLatency => paced::latency(&run, load).await,
        Load::Topics => paced::topics(&run).await,
        Load::Backlog => backlog(&run).await.map_err(BenchError::from),
        Load::Redelivery => stepwise::redelivery(&run).await.map_err(BenchError::from),
        Load::Demand => stepwise::demand(&run).await.map_err(BenchError::from),
        Load::Unread => stepwise::unread(&run).await.map_err(BenchError::from),
        Load::Cold => stepwise::cold(&run).await.map_err(BenchError::from),
        Load::Expiry | Load::ExpiryOrdered => {
            expiry::expiry(&run, Shape::crowd(load, plan), load).await
        }
        Load::Backoff => backoff::backoff(&run).await.map_err(BenchError::from),
        Load::DeadLetterCycle => dead_letters::cycle(&run, Shape::crowd(load, plan)).await,
        Load::Holes => holes(&run).await,
        Load::Idle => idle(&run, created).await.map_err(BenchError::from),
    };
    telling.abort();
    // What was made is removed after a failure too; the failure is what is told.
    let cleaned_up = run.clean_up().await;
    let mut reports = reports?;
    cleaned_up?;
    for report in &mut reports {
        report.server_rss_peak_mb = memory.peak_mb();
    }
    Ok(reports)
}

async fn publish(run: &Arc<Run>) -> Result<Vec<Report>, CallError> {
    let mut publishers = start_publishers(run, run.plan.batch);
    let (start, end) = run.measure(&mut publishers).await?;
    run.stop.cancel();
    publishers.finish(&run.counters).await?;
    let mut report = run.report("publish");
    let measured = start.until(end);
    measured.fill(measured.published, &mut report);
    // Not measured: is everything there?
    let mut readers = reader::start(run, Load::Publish);
    run.arrivals(&mut readers).await?;
    run.judge(&mut report);
    Ok(vec![report])
}

async fn half_rate(run: &Arc<Run>) -> Result<Vec<Report>, BenchError> {
    let mut publishers = start_publishers(run, run.plan.batch);
    let (start, end) = run.measure(&mut publishers).await?;
    run.publish_no_more();
    publishers.finish(&run.counters).await?;
    let mut full = run.report("half-rate-full");
    let measured = start.until(end);
    measured.fill(measured.published, &mut full);
    run.counters.forget_latencies();
    let millis = (run.plan.measured.as_millis() as u64).max(1);
    let rate = (measured.published * 500 / millis).max(1);
    // A publisher of its own, as those before it have used their numbers.
    let pacing = publish_at_rate(Arc::clone(run), run.plan.in_flight, rate);
    let pacing = tokio::spawn(pacing);
    let measured = run.measure(&mut Tasks::default()).await?;
    let mut half = paced_report(run, "half-rate", rate, measured);
    half.streams = 0;
    let mut reports = [full, half];
    // Not measured: is everything there?
    let mut readers = reader::start(run, Load::HalfRate);
    end_paced(run, pacing, &mut readers, &mut reports).await?;
    Ok(reports.into())
}

async fn both(run: &Arc<Run>, load: Load) -> Result<Vec<Report>, CallError> {
    let mut readers = reader::start(run, load);
    let mut publishers = start_publishers(run, run.plan.batch);
    // What lies before the first message of the run is passed over, which is not measured.
    let since = measure::now();
    while run.counters.progress().received == 0 && since.elapsed() < ANSWER_WAIT_MAX {
        readers.work_for(ARRIVAL_INTERVAL).await?;
    }
    let (start, end) = run.measure(&mut readers).await?;
    run.stop.cancel();
    publishers.finish(&run.counters).await?;
    let published = measure::now();
    run.arrivals(&mut readers).await?;
    let behind = published.elapsed();
    let is_filtered = run.content.filters != Filters::None;
    let mut report = run.report(match load {
        Load::FanOut => "fan-out",
        Load::Filtered => "filtered",
        Load::FilteredFanOut => "filtered-fan-out",
        Load::Ordered => "ordered",
        Load::BlockedKey => "blocked-key",
        Load::ExactlyOnce => "exactly-once",
        Load::ExactlyOncePlain => "exactly-once-plain",
        Load::Receipts => "receipts",
        Load::Pull => "pull",
        _ => "end-to-end",
    });
    report.streams = run.plan.streams * run.readings.len();
    report.behind_ms = is_filtered.then_some(behind.as_secs_f64() * 1000.0);
    let measured = start.until(end);
    let counted = if is_filtered {
        measured.published
    } else {
        measured.received
    };
    measured.fill(counted, &mut report);
    run.judge(&mut report);
    Ok(vec![report])
}

/// Everything else goes on while one key is blocked.
async fn blocked_key(run: &Arc<Run>) -> Result<Vec<Report>, CallError> {
    let template = Template::new(
        run.plan.batch,
        run.plan.data_bytes,
        Filters::None,
        Keys::One,
    );
    let topic = run.names.topic(0);
    let request = |messages| {
        // Of no run: such a message must not arrive at a reader.
        template.request(&topic, Mark::default(), messages)
    };
    run.connections[0].call(PUBLISH, request(1)).await?;
    let (_upstream, answers) = open_stream(&run.reader_connections[0], &run.readings[0], 1).await?;
    let mut answers = answers.await_head().await?;
    answers.next().await?;
    let requests = (run.plan.messages / run.plan.batch as u64) as usize;
    let each = requests.div_ceil(run.plan.in_flight);
    let mut publishers = Tasks::default();
    for (_, connection) in (0..run.plan.in_flight).zip(run.connections.iter().cycle().cloned()) {
        let request = request(run.plan.batch);
        publishers.spawn(async move {
            for _ in 0..each {
                connection.call(PUBLISH, request.clone()).await?;
            }
            Ok(())
        });
    }
    publishers.all().await?;
    both(run, Load::BlockedKey).await
}

async fn backlog(run: &Arc<Run>) -> Result<Vec<Report>, CallError> {
    let sample = || Sample::take(&run.counters, &run.plan);
    let start = sample();
    publish_all(run).await?;
    let published = sample();
    let mut publish = run.report("backlog-publish");
    let measured = start.until(published);
    measured.fill(measured.published, &mut publish);

    let mut readers = reader::start(run, Load::Backlog);
    run.arrivals(&mut readers).await?;
    let measured = published.until(sample());
    let mut drain = run.report("backlog-drain");
    drain.streams = run.plan.streams * run.readings.len();
    measured.fill(measured.received, &mut drain);
    run.judge(&mut drain);
    publish.void = drain.void;
    Ok(vec![publish, drain])
}

async fn holes(run: &Arc<Run>) -> Result<Vec<Report>, BenchError> {
    let data_mb = || run.plan.data_dir.as_deref().and_then(process::megabytes_in);
    let before_mb = data_mb();
    let mut readers = reader::start(run, Load::Holes);
    // One to a request, so that none that is needed has those beside it stay.
    start_publishers(run, 1).finish(&run.counters).await?;
    run.arrivals(&mut readers).await?;
    run.counters.forget_latencies();
    // A publisher of its own, as those before it have used their numbers.
    let pacing = publish_at_rate(Arc::clone(run), run.plan.in_flight, run.plan.rate);
    let pacing = tokio::spawn(pacing);
    let measured = run.measure(&mut readers).await?;
    let mut reports = [Report {
        data_mb: data_mb().zip(before_mb).map(|(now, before)| now - before),
        ..paced_report(run, "holes", run.plan.rate, measured)
    }];
    end_paced(run, pacing, &mut readers, &mut reports).await?;
    Ok(reports.into())
}

async fn idle(run: &Arc<Run>, created: Duration) -> Result<Vec<Report>, CallError> {
    let start = Sample::take(&run.counters, &run.plan);
    tokio::time::sleep(run.plan.measured).await;
    let end = Sample::take(&run.counters, &run.plan);
    let mut report = run.report("idle");
    start.until(end).fill(0, &mut report);
    report.messages_per_second = run.plan.topics as f64 / created.as_secs_f64();
    Ok(vec![report])
}
