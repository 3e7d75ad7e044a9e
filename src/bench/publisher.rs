//! Publishers: each with one request in flight, or one for all at a given rate.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use super::{
    CallError,
    connection::Connection,
    payload::{Mark, fields},
    run::{Run, Tasks},
};

pub(super) const PUBLISH: &str = "/google.pubsub.v1.Publisher/Publish";

/// Starts all publishers, each request of which has so many messages, at most the plan's.
pub(super) fn start_publishers(run: &Arc<Run>, batch: usize) -> Tasks {
    let mut tasks = Tasks::default();
    let connections = run.connections.iter().cycle();
    for (publisher, connection) in (0..run.plan.in_flight).zip(connections) {
        tasks.spawn(publish_on(
            Arc::clone(run),
            connection.clone(),
            publisher,
            batch,
        ));
    }
    tasks
}

/// Publishes all messages that the plan has.
pub(super) async fn publish_all(run: &Arc<Run>) -> Result<(), CallError> {
    let mut publishers = start_publishers(run, run.plan.batch);
    publishers.finish(&run.counters).await
}

/// Publishes one request after the other, to the topics round robin, until the run says stop.
async fn publish_on(
    run: Arc<Run>,
    connection: Connection,
    publisher: usize,
    batch: usize,
) -> Result<(), CallError> {
    let topics: Vec<String> = (0..run.plan.topics)
        .map(|topic| run.names.topic(topic))
        .collect();
    let mut sequences = vec![0; topics.len()];
    for request in publisher.. {
        if let Some(window) = &run.window {
            let room = window.acquire_many(batch as u32);
            let Some(Ok(room)) = run.stop.run_until_cancelled(room).await else {
                break;
            };
            room.forget();
        }
        if !run.may_publish(batch as u64) {
            break;
        }
        let topic = request % topics.len();
        let mark = Mark {
            run: run.id,
            publisher: publisher as u32,
            sequence: sequences[topic],
            sent_micros: run.micros(),
        };
        publish(&run, &connection, &topics[topic], mark, batch).await?;
        sequences[topic] += batch as u64;
    }
    Ok(())
}

/// Publishes one request, and records how long it took from when it was due.
pub(super) async fn publish(
    run: &Run,
    connection: &Connection,
    topic: &str,
    mark: Mark,
    batch: usize,
) -> Result<(), CallError> {
    let request = run.template.request(topic, mark, batch);
    let answer = connection.call(PUBLISH, request).await?;
    run.counters
        .publish_took(run.micros().saturating_sub(mark.sent_micros));
    if fields(&answer).filter(|field| field.0 == 1).count() != batch {
        return Err(CallError::Answer { method: PUBLISH });
    }
    run.counters.published.fetch_add(batch as u64, Relaxed);
    Ok(())
}
