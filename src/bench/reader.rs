//! Readers of subscriptions, over streams or by pulling, and what they make of what arrives.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use bytes::Bytes;
use parking_lot::Mutex;

use super::{
    CallError, Load,
    calls::{ACKNOWLEDGE, PULL},
    connection::{Answers, Connection, PendingAnswers, Upstream},
    filters::Content,
    payload::{AckFrame, fields, framed, put_field, received},
    replies::{self, Reply},
    run::{Run, Tasks},
    tally::{Counts, Tally},
};
use crate::proto::google::pubsub::v1 as proto;

pub(super) const STREAMING_PULL: &str = "/google.pubsub.v1.Subscriber/StreamingPull";
/// Ack ids are this field of a StreamingPullRequest and of an AcknowledgeRequest.
pub(super) const ACK_IDS_FIELD: u32 = 2;
/// Messages per Pull: the most that a server gives.
const PULL_MAX: i32 = 1000;

/// A subscription that is read, by one or more readers.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) name: String,
    /// Its readers take messages and never acknowledge.
    pub(super) silent: bool,
    /// Of its streams.
    ack_deadline_seconds: i32,
    tally: Mutex<Tally>,
}

impl Reading {
    pub(super) fn new(name: String, silent: bool, publishers: usize, content: Content) -> Self {
        Self {
            name,
            silent,
            ack_deadline_seconds: content.delivery.ack_deadline_seconds(),
            tally: Mutex::new(Tally::new(publishers, content.keys)),
        }
    }

    /// What has arrived so far.
    pub(super) fn counts(&self) -> Counts {
        self.tally.lock().counts
    }

    /// Counts the messages of an answer, and hands over the ack ids of those to be acknowledged.
    pub(super) fn take(&self, run: &Run, answer: &[u8], mut ack: impl FnMut(&[u8])) -> usize {
        let now_micros = run.micros();
        let (mut arrived, mut first_time) = (0, 0);
        let mut waits = Vec::with_capacity(128);
        {
            let mut tally = self.tally.lock();
            for (_, message) in fields(answer).filter(|field| field.0 == 1) {
                let (ack_id, mark) = received(message);
                if run.acknowledges() {
                    ack(ack_id);
                }
                arrived += 1;
                first_time += u64::from(tally.arrived(run.id, mark));
                let ours = mark.filter(|mark| mark.run == run.id);
                waits.extend(ours.map(|mark| now_micros.saturating_sub(mark.sent_micros)));
            }
        }
        run.counters.receives_took(&waits);
        let before = run.counters.received.fetch_add(first_time, Relaxed);
        if let Some(window) = &run.window {
            // A message makes room when the average reader has it.
            let room = run.arrived_of(before + first_time) - run.arrived_of(before);
            window.add_permits(room as usize);
        }
        arrived
    }
}

/// Starts the readers of all subscriptions.
pub(super) fn start(run: &Arc<Run>, load: Load) -> Tasks {
    let mut tasks = Tasks::default();
    let mut connections = run.reader_connections.iter().cycle().cloned();
    for reading in &run.readings {
        for connection in connections.by_ref().take(run.plan.streams) {
            let (run, reading) = (Arc::clone(run), Arc::clone(reading));
            match load {
                Load::Pull => tasks.spawn(pull(run, connection, reading)),
                Load::ExactlyOnce | Load::Receipts | Load::ExactlyOnceLatency => {
                    let reply = Reply::ReceiptAndAck;
                    tasks.spawn(replies::stream(run, connection, reading, reply));
                }
                Load::ExactlyOncePlain => {
                    tasks.spawn(replies::stream(run, connection, reading, Reply::Ack));
                }
                Load::Backoff | Load::DeadLetterCycle => {
                    tasks.spawn(replies::stream(run, connection, reading, Reply::Nack));
                }
                _ => tasks.spawn(stream(run, connection, reading)),
            }
        }
    }
    tasks
}

/// Opens a stream that takes so many messages at once.
pub(super) async fn open_stream(
    connection: &Connection,
    reading: &Reading,
    outstanding: i64,
) -> Result<(Upstream, PendingAnswers), CallError> {
    let (mut upstream, answers) = connection.start(STREAMING_PULL).await?;
    let start = proto::StreamingPullRequest {
        subscription: reading.name.clone(),
        stream_ack_deadline_seconds: reading.ack_deadline_seconds,
        max_outstanding_messages: outstanding,
        ..proto::StreamingPullRequest::default()
    };
    upstream.send(framed(&start)).await?;
    Ok((upstream, answers))
}

/// A stream that is read until the run ends.
#[derive(Debug)]
pub(super) struct Stream {
    upstream: Upstream,
    answers: Answers,
}

impl Stream {
    /// None if the run has ended.
    pub(super) async fn open(
        run: &Run,
        connection: &Connection,
        reading: &Reading,
    ) -> Result<Option<Self>, CallError> {
        let (upstream, answers) = open_stream(connection, reading, run.plan.outstanding).await?;
        let Some(answers) = run.end.run_until_cancelled(answers.await_head()).await else {
            return Ok(None);
        };
        let answers = answers?;
        Ok(Some(Self { upstream, answers }))
    }

    /// The next answer; none if the run has ended.
    pub(super) async fn next(&mut self, run: &Run) -> Result<Option<Bytes>, CallError> {
        let Some(answer) = run.end.run_until_cancelled(self.answers.next()).await else {
            return Ok(None);
        };
        let ended = CallError::Answer {
            method: STREAMING_PULL,
        };
        answer?.ok_or(ended).map(Some)
    }
}

/// Reads one stream until the run ends.
pub(super) async fn stream(
    run: Arc<Run>,
    connection: Connection,
    reading: Arc<Reading>,
) -> Result<(), CallError> {
    let Some(mut stream) = Stream::open(&run, &connection, &reading).await? else {
        return Ok(());
    };
    while let Some(answer) = stream.next(&run).await? {
        if reading.silent {
            continue;
        }
        let mut acks = AckFrame::new(ACK_IDS_FIELD, &[]);
        if reading.take(&run, &answer, |ack_id| acks.push(ack_id)) > 0 {
            stream.upstream.send(acks.finish()).await?;
        }
    }
    Ok(())
}

/// Pulls and acknowledges until the run ends.
pub(super) async fn pull(
    run: Arc<Run>,
    connection: Connection,
    reading: Arc<Reading>,
) -> Result<(), CallError> {
    let request = framed(&proto::PullRequest {
        subscription: reading.name.clone(),
        max_messages: PULL_MAX,
        ..proto::PullRequest::default()
    });
    let mut acknowledge_start = Vec::new();
    put_field(1, reading.name.as_bytes(), &mut acknowledge_start);
    let pull_once = |request: Bytes| connection.call(PULL, request);
    while let Some(answer) = run
        .end
        .run_until_cancelled(pull_once(request.clone()))
        .await
    {
        let mut acks = AckFrame::new(ACK_IDS_FIELD, &acknowledge_start);
        if reading.take(&run, &answer?, |ack_id| acks.push(ack_id)) > 0 && !reading.silent {
            connection.call(ACKNOWLEDGE, acks.finish()).await?;
        }
    }
    Ok(())
}
