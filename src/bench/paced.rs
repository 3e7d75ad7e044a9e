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

/// What publishes at the plan's rate and receives over streams, whatever else goes on.
#[derive(Debug)]
pub(super) struct Neighbour {
    run: Arc<Run>,
    readers: Tasks,
    pacing: Pacing,
}

impl Neighbour {
    /// Its readers are those of `load`.
    pub(super) fn start(run: &Arc<Run>, load: Load) -> Self {
        Self {
            run: Arc::clone(run),
            readers: reader::start(run, load),
            pacing: tokio::spawn(publish_at_rate(Arc::clone(run), 0, run.plan.rate)),
        }
    }

    /// Measures for as long as the plan says, after a warm-up.
    pub(super) async fn measure(&mut self, load: &'static str) -> Result<Report, CallError> {
        let measured = self.run.measure(&mut self.readers).await?;
        Ok(self.report(load, measured))
    }

    /// Measures until `work` is done.
    pub(super) async fn beside(
        &mut self,
        load: &'static str,
        work: impl Future<Output = Result<(), CallError>>,
    ) -> Result<Report, CallError> {
        let work = self.readers.work_during(work);
        let measured = self.run.measure_during(work).await?;
        Ok(self.report(load, measured))
    }

    fn report(&self, load: &'static str, measured: (Sample, Sample)) -> Report {
        let report = paced_report(&self.run, load, self.run.plan.rate, measured);
        self.run.counters.forget_latencies();
        report
    }

    /// Ends it, and judges `reports` by what of the whole run arrived.
    pub(super) async fn end(mut self, reports: &mut [Report]) -> Result<(), BenchError> {
        end_paced(&self.run, self.pacing, &mut self.readers, reports).await
    }
}

pub(super) async fn latency(run: &Arc<Run>, load: Load) -> Result<Vec<Report>, BenchError> {
    let mut paced = Neighbour::start(run, load);
    let name = match load {
        Load::ExactlyOnceLatency => "exactly-once-latency",
        _ => "latency",
    };
    let mut reports = [paced.measure(name).await?];
    paced.end(&mut reports).await?;
    Ok(reports.into())
}

pub(super) async fn topics(run: &Arc<Run>) -> Result<Vec<Report>, BenchError> {
    let mut neighbour = Neighbour::start(run, Load::Topics);
    let before = neighbour.measure("topics-before").await?;
    // On a connection of their own, so that no publish waits behind them in the generator.
    let connection = [Connection::open(&run.plan.addr).await?];
    let creating = run.new_names.create(&connection, run.plan.in_flight);
    let mut during = neighbour.beside("topics-during", creating).await?;
    during.new_topics = Some(run.plan.new_topics);
    let mut reports = [before, during];
    neighbour.end(&mut reports).await?;
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
