//! Publishing at a rate that does not depend on how fast the server answers.

use std::{
    hint,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use super::{BenchError, CallError, measure, payload::Mark, publisher::publish, run::Run};

/// The system wakes a sleeping thread this much late; the rest of a wait is spun.
const SLACK: Duration = Duration::from_micros(60);
/// Requests without an answer at which the pacer waits. What it is late by counts as the server's time.
const IN_FLIGHT_MAX: u64 = 10_000;

/// Publishes requests to the topics round robin as publisher number `publisher`, each when it is due at `rate` messages
/// per second, on a thread of its own, until the run says stop. Ends when all are answered.
pub(super) async fn publish_at_rate(
    run: Arc<Run>,
    publisher: usize,
    rate: u64,
) -> Result<Result<(), CallError>, BenchError> {
    let (failures, mut failed) = tokio::sync::mpsc::channel(1);
    let in_flight = Arc::new(AtomicU64::new(0));
    let runtime = tokio::runtime::Handle::current();
    let pacing = {
        let (run, in_flight) = (Arc::clone(&run), Arc::clone(&in_flight));
        move || {
            let topics: Vec<Arc<str>> = (0..run.plan.topics)
                .map(|topic| run.names.topic(topic).into())
                .collect();
            let interval = Duration::from_secs(run.plan.batch as u64) / rate as u32;
            let start = measure::now();
            for request in 0.. {
                let due = start + interval * request;
                wait_until(due);
                while in_flight.load(Relaxed) >= IN_FLIGHT_MAX && !run.stop.is_cancelled() {
                    thread::sleep(interval);
                }
                if run.stop.is_cancelled() {
                    return;
                }
                let request = request as usize;
                let topic = Arc::clone(&topics[request % topics.len()]);
                let mark = Mark {
                    run: run.id,
                    publisher: publisher as u32,
                    sequence: (request / topics.len() * run.plan.batch) as u64,
                    sent_micros: run.micros_of(due),
                };
                let connection = run.connections[request % run.connections.len()].clone();
                let (run, failures, in_flight) =
                    (Arc::clone(&run), failures.clone(), Arc::clone(&in_flight));
                in_flight.fetch_add(1, Relaxed);
                runtime.spawn(async move {
                    if let Err(error) =
                        publish(&run, &connection, &topic, mark, run.plan.batch).await
                    {
                        // The first failure ends the run; there is room for it.
                        let _further = failures.try_send(error);
                    }
                    in_flight.fetch_sub(1, Relaxed);
                });
            }
        }
    };
    thread::Builder::new()
        .name("pacer".to_owned())
        .spawn(pacing)
        .map_err(BenchError::Thread)?;
    // All senders are gone when the pacer has ended and every call was answered.
    Ok(failed.recv().await.map_or(Ok(()), Err))
}

fn wait_until(due: std::time::Instant) {
    let left = due.saturating_duration_since(measure::now());
    if let Some(asleep) = left.checked_sub(SLACK) {
        thread::sleep(asleep);
    }
    while measure::now() < due {
        hint::spin_loop();
    }
}
