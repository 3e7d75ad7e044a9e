//! A crowd of messages whose leases end together: how long until all have come again, and what a neighbour notices.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::time::timeout;

use super::{
    BenchError, CallError, Load, Report,
    connection::ANSWER_WAIT_MAX,
    delivery::SHORT_ACK_DEADLINE_SECONDS,
    measure,
    paced::Neighbour,
    payload::{fields, received},
    publisher::publish_all,
    reader::{self, STREAMING_PULL, open_stream},
    run::Run,
    shape::Shape,
    tally::Tally,
};

const LEASE: Duration = Duration::from_secs(SHORT_ACK_DEADLINE_SECONDS as u64);

/// Measures `run` alone, and then while the leases of a crowd end.
pub(super) async fn expiry(
    run: &Arc<Run>,
    crowd: Shape,
    load: Load,
) -> Result<Vec<Report>, BenchError> {
    let crowd = Run::prepare(crowd).await?;
    let reports = redeliver_beside(run, &crowd, load).await;
    let cleaned_up = crowd.clean_up().await;
    let reports = reports?;
    cleaned_up?;
    Ok(reports)
}

async fn redeliver_beside(
    run: &Arc<Run>,
    crowd: &Arc<Run>,
    load: Load,
) -> Result<Vec<Report>, BenchError> {
    let (alone, beside) = match load {
        Load::ExpiryOrdered => ("expiry-ordered-before", "expiry-ordered-during"),
        _ => ("expiry-before", "expiry-during"),
    };
    let mut neighbour = Neighbour::start(run, Load::Latency);
    let before = neighbour.measure(alone).await?;
    publish_all(crowd).await?;
    let first_ends = lease_all(crowd).await? + LEASE;
    let all_in_time = measure::now() < first_ends;
    let mut readers = reader::start(crowd, load);
    let left = first_ends.saturating_duration_since(measure::now());
    readers.work_for(left).await?;
    let redelivered = crowd.arrivals(&mut readers);
    let mut during = neighbour.beside(beside, redelivered).await?;
    let arrived = crowd.counters.progress().received;
    during.messages_per_second = arrived as f64 / during.seconds;
    let mut reports = [before, during];
    neighbour.end(&mut reports).await?;
    let [before, during] = &mut reports;
    // What is said of this one is whether all of the crowd came again.
    during.published = crowd.counters.progress().published;
    crowd.judge(during);
    during.void |= before.void || !all_in_time;
    Ok(reports.into())
}

/// Receives every message over a stream, and leaves without a word. Returns when the first one came.
async fn lease_all(crowd: &Run) -> Result<Instant, CallError> {
    let published = crowd.counters.progress().published;
    let mut tally = Tally::new(crowd.plan.in_flight + 1, crowd.content.keys);
    let connection = &crowd.reader_connections[0];
    let (_upstream, answers) = open_stream(connection, &crowd.readings[0], 0).await?;
    let mut answers = answers.await_head().await?;
    let mut first = None;
    while tally.counts.received < published {
        let method = STREAMING_PULL;
        let answer = timeout(ANSWER_WAIT_MAX, answers.next()).await;
        let answer = answer.map_err(|_| CallError::NoAnswer { method })??;
        let answer = answer.ok_or(CallError::Answer { method })?;
        for (_, message) in fields(&answer).filter(|field| field.0 == 1) {
            first.get_or_insert_with(measure::now);
            tally.arrived(crowd.id, received(message).1);
        }
    }
    Ok(first.unwrap_or_else(measure::now))
}
