//! Messages that wait for their retry: what they cost meanwhile.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use super::{
    CallError, Load, Report,
    connection::ANSWER_WAIT_MAX,
    measure::{self, Sample, settle},
    publisher::publish_all,
    reader,
    run::{ARRIVAL_INTERVAL, Run},
};

/// Has each message fail once, and measures while all of them wait and a stream is open for them.
pub(super) async fn backoff(run: &Arc<Run>) -> Result<Vec<Report>, CallError> {
    publish_all(run).await?;
    settle(&run.plan).await;
    let mut before = run.report("backoff-before");
    before.server_rss_mb = measure::resident_mb(&run.plan);
    let mut readers = reader::start(run, Load::Backoff);
    run.arrivals(&mut readers).await?;
    let since = measure::now();
    while run.counters.replied.load(Relaxed) < before.published && since.elapsed() < ANSWER_WAIT_MAX
    {
        readers.work_for(ARRIVAL_INTERVAL).await?;
    }
    readers
        .work_during(async {
            settle(&run.plan).await;
            Ok(())
        })
        .await?;
    let start = Sample::take(&run.counters, &run.plan);
    readers.work_for(run.plan.measured).await?;
    let measured = start.until(Sample::take(&run.counters, &run.plan));
    let mut after = run.report("backoff-after");
    after.server_rss_mb = measure::resident_mb(&run.plan);
    after.streams = run.plan.streams;
    measured.fill(0, &mut after);
    run.judge(&mut after);
    before.void = after.void;
    Ok(vec![before, after])
}
