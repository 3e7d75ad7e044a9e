//! Two subscriptions that send each other their dead letters, and what a neighbour notices.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use super::{
    BenchError, CallError, Load, Report,
    connection::ANSWER_WAIT_MAX,
    measure,
    paced::Neighbour,
    payload::Mark,
    publisher::publish,
    reader,
    run::{ARRIVAL_INTERVAL, Run, Tasks},
    shape::Shape,
};

/// Measures `run` alone, and then while the messages of a ring are nacked and go round.
pub(super) async fn cycle(run: &Arc<Run>, ring: Shape) -> Result<Vec<Report>, BenchError> {
    let ring = Run::prepare(ring).await?;
    let reports = turn_beside(run, &ring).await;
    let cleaned_up = ring.clean_up().await;
    let reports = reports?;
    cleaned_up?;
    Ok(reports)
}

async fn turn_beside(run: &Arc<Run>, ring: &Arc<Run>) -> Result<Vec<Report>, BenchError> {
    let mut neighbour = Neighbour::start(run, Load::Latency);
    let before = neighbour.measure("dead-letter-cycle-before").await?;
    publish_to_first(ring).await?;
    let mut nacking = reader::start(ring, Load::DeadLetterCycle);
    let forwarded = all_forwarded(ring, &mut nacking).await?;
    let nacked = || ring.counters.replied.load(Relaxed);
    let (since, nacked_before) = (measure::now(), nacked());
    let during = neighbour.measure("dead-letter-cycle-during");
    let mut during = nacking.work_during(during).await?;
    let nacks = (nacked() - nacked_before) as f64;
    during.nacks_per_second = Some(nacks / since.elapsed().as_secs_f64());
    let mut reports = [before, during];
    neighbour.end(&mut reports).await?;
    reports[1].void |= !forwarded;
    Ok(reports.into())
}

/// Only to the first topic, so that the second one has what was forwarded, and nothing else.
async fn publish_to_first(ring: &Run) -> Result<(), CallError> {
    let (topic, batch) = (ring.names.topic(0), ring.plan.batch);
    for sequence in (0..ring.plan.messages).step_by(batch) {
        let mark = Mark {
            run: ring.id,
            publisher: 0,
            sequence,
            sent_micros: ring.micros(),
        };
        publish(ring, &ring.connections[0], &topic, mark, batch).await?;
    }
    Ok(())
}

/// Waits until every message has come to the second topic; false if one did not.
async fn all_forwarded(ring: &Run, nacking: &mut Tasks) -> Result<bool, CallError> {
    let published = ring.counters.progress().published;
    let since = measure::now();
    loop {
        if ring.readings[1].counts().received == published {
            return Ok(true);
        }
        if since.elapsed() > ANSWER_WAIT_MAX {
            return Ok(false);
        }
        nacking.work_for(ARRIVAL_INTERVAL).await?;
    }
}
