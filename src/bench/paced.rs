//! Loads at a rate: how long publishes and arrivals take.

use std::sync::Arc;

use tokio::{task::JoinHandle, time::timeout};

use super::{
    BenchError, CallError, Load, Report,
    connection::{ANSWER_WAIT_MAX, Connection},
    measure::Sample,
    pacer::publish_at_rate,
    publisher::PUBLISH,
    reader,
    run::{Run, Tasks},
};

/// What is published one by one at the plan's rate.
pub(super) type Pacing = JoinHandle<Result<Result<(), CallError>, BenchError>>;

pub(super) async fn latency(run: &Arc<Run>, load: Load) -> Result<Vec<Report>, BenchError> {
    let mut readers = reader::start(run, load);
    let pacing = tokio::spawn(publish_at_rate(Arc::clone(run), 0, run.plan.rate));
    let measured = run.measure(&mut readers).await?;
    let name = match load {
        Load::ExactlyOnceLatency => "exactly-once-latency",
        _ => "latency",
    };
    let mut reports = [paced_report(run, name, run.plan.rate, measured)];
    end_paced(run, pacing, &mut readers, &mut reports).await?;
    Ok(reports.into())
}

pub(super) async fn topics(run: &Arc<Run>) -> Result<Vec<Report>, BenchError> {
    let mut readers = reader::start(run, Load::Topics);
    let pacing = tokio::spawn(publish_at_rate(Arc::clone(run), 0, run.plan.rate));
    let measured = run.measure(&mut readers).await?;
    let before = paced_report(run, "topics-before", run.plan.rate, measured);
    run.counters.forget_latencies();
    // On a connection of their own, so that no publish waits behind them in the generator.
    let connection = [Connection::open(&run.plan.addr).await?];
    let creating = run.new_names.create(&connection, run.plan.in_flight);
    let measured = run.measure_during(readers.work_during(creating)).await?;
    let mut during = paced_report(run, "topics-during", run.plan.rate, measured);
    during.new_topics = Some(run.plan.new_topics);
    let mut reports = [before, during];
    end_paced(run, pacing, &mut readers, &mut reports).await?;
    Ok(reports.into())
}

/// A report of what was published at `rate`.
pub(super) fn paced_report(
    run: &Run,
    load: &'static str,
    rate: u64,
    measured: (Sample, Sample),
) -> Report {
    let mut report = run.report(load);
    report.rate = Some(rate);
    report.streams = run.plan.topics;
    let measured = measured.0.until(measured.1);
    measured.fill(measured.published, &mut report);
    report
}

/// Ends what is published one by one, and judges `reports` by what of the whole run arrived.
pub(super) async fn end_paced(
    run: &Run,
    pacing: Pacing,
    readers: &mut Tasks,
    reports: &mut [Report],
) -> Result<(), BenchError> {
    run.stop.cancel();
    let paced = timeout(ANSWER_WAIT_MAX, pacing).await;
    let paced = paced.map_err(|_| CallError::NoAnswer { method: PUBLISH })?;
    paced.expect("the pacer's task does not panic")??;
    run.arrivals(readers).await?;
    for report in reports {
        report.published = run.counters.progress().published;
        run.judge(report);
    }
    Ok(())
}
