//! One publish request on its way to Kafka: what was handed over, what brokers reported, and the answer.

use std::{iter, sync::Arc};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::super::{append::gate::Gate, known::KnownTopic};
use crate::{
    clock::Timestamp,
    resource::message::{AcceptedMessages, ScannedMessage},
    store::{
        StoreError,
        log::{AppendedRun, Offset, Partition},
    },
};

/// Every record of a request carries its job, so that what is reported of it finds back.
#[derive(Debug)]
pub(in crate::store::kafka) struct Job {
    pub(in crate::store::kafka) topic: Arc<KnownTopic>,
    messages: AcceptedMessages,
    lanes: Vec<Lane>,
    state: Mutex<State>,
}

/// The messages of a request that go to one partition, in order. Records of one partition are reported in the order
/// in which they were handed over.
#[derive(Debug)]
pub(in crate::store::kafka) struct Lane {
    pub(in crate::store::kafka) partition: Partition,
    /// Each by its position in the request.
    messages: Vec<u32>,
    /// Bytes that all of them take in a batch, at most.
    bytes: usize,
    /// The way to the partition.
    pub(in crate::store::kafka) gate: Arc<Gate>,
}

impl Lane {
    /// One with room for so many messages.
    pub(in crate::store::kafka) fn new(
        partition: Partition,
        gate: Arc<Gate>,
        messages_max: usize,
    ) -> Self {
        Self {
            partition,
            messages: Vec::with_capacity(messages_max),
            bytes: 0,
            gate,
        }
    }

    /// Adds the message at this position of the request.
    pub(in crate::store::kafka) fn add(&mut self, index: u32, message: &ScannedMessage<'_>) {
        self.messages.push(index);
        self.bytes += message.encoded_len() + RECORD_OVERHEAD_BYTES;
    }

    /// How many messages it has.
    pub(in crate::store::kafka) fn len(&self) -> usize {
        self.messages.len()
    }

    /// Bytes that all messages take in a batch, at most.
    pub(in crate::store::kafka) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// What a record adds to its message: lengths, differences to the batch's first offset and time.
const RECORD_OVERHEAD_BYTES: usize = 64;

#[derive(Debug)]
struct State {
    reported: Vec<Reported>,
    /// Messages of which nothing was heard yet.
    left: usize,
    delivered: usize,
    failure: Option<StoreError>,
    answer: Option<oneshot::Sender<Answer>>,
    /// The request's share of what may be on its way.
    permit: Option<OwnedSemaphorePermit>,
}

/// What was delivered of a lane.
#[derive(Clone, Debug, Default)]
struct Reported {
    count: usize,
    runs: Vec<AppendedRun>,
}

/// The runs of each lane.
pub(in crate::store::kafka) type Answer = Result<Vec<Vec<AppendedRun>>, StoreError>;

impl Job {
    /// A job and what it will be answered with.
    pub(in crate::store::kafka) fn new(
        topic: Arc<KnownTopic>,
        messages: AcceptedMessages,
        lanes: Vec<Lane>,
        permit: OwnedSemaphorePermit,
    ) -> (Arc<Self>, oneshot::Receiver<Answer>) {
        let (answer, answered) = oneshot::channel();
        let state = State {
            reported: vec![Reported::default(); lanes.len()],
            left: lanes.iter().map(Lane::len).sum(),
            delivered: 0,
            failure: None,
            answer: Some(answer),
            permit: Some(permit),
        };
        let job = Self {
            topic,
            messages,
            lanes,
            state: Mutex::new(state),
        };
        (Arc::new(job), answered)
    }

    pub(in crate::store::kafka) fn lanes(&self) -> &[Lane] {
        &self.lanes
    }

    /// The messages of a lane, in order.
    pub(in crate::store::kafka) fn messages(
        &self,
        lane: &Lane,
    ) -> impl Iterator<Item = ScannedMessage<'_>> {
        let indexes = lane.messages.iter();
        indexes.filter_map(|index| self.messages.get(*index as usize))
    }

    /// The way that a message to this partition went.
    pub(in crate::store::kafka) fn gate(&self, partition: Partition) -> Option<&Gate> {
        let mut lanes = self.lanes.iter();
        let lane = lanes.find(|lane| lane.partition == partition);
        lane.map(|lane| &*lane.gate)
    }

    /// Takes in that the next message of a partition lies there now, and returns it.
    pub(in crate::store::kafka) fn delivered(
        &self,
        partition: Partition,
        offset: Offset,
        publish_time: Timestamp,
    ) -> (Option<&Bytes>, Progress) {
        let mut state = self.state.lock();
        let mut message = None;
        let lane = self
            .lanes
            .iter()
            .position(|lane| lane.partition == partition);
        // Behind a failure nobody knows which message this one is.
        if let (Some(lane), None) = (lane, &state.failure) {
            let reported = &mut state.reported[lane];
            let index = self.lanes[lane].messages.get(reported.count);
            message = index.and_then(|index| self.messages.messages().get(*index as usize));
            reported.count += 1;
            add(
                &mut reported.runs,
                AppendedRun {
                    partition,
                    first: offset,
                    count: 1,
                    publish_time,
                },
            );
        }
        state.delivered += 1;
        (message, state.heard_of(1))
    }

    /// Takes in that `count` messages failed.
    pub(in crate::store::kafka) fn failed(&self, count: usize, error: StoreError) -> Progress {
        let mut state = self.state.lock();
        let failure = match state.failure.take() {
            None => error,
            Some(first) => worse(first, error),
        };
        state.failure = Some(failure);
        state.heard_of(count)
    }

    /// Answers the caller, now that everything was reported.
    pub(in crate::store::kafka) fn answer(&self) {
        let mut state = self.state.lock();
        let answer = state.result();
        state.permit = None;
        if let Some(waiting) = state.answer.take() {
            // The caller may be gone.
            waiting.send(answer).ok();
        }
    }
}

/// Whether there is more to hear of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store::kafka) enum Progress {
    Waiting,
    Complete,
}

impl State {
    fn heard_of(&mut self, count: usize) -> Progress {
        self.left = self.left.saturating_sub(count);
        if self.left == 0 {
            Progress::Complete
        } else {
            Progress::Waiting
        }
    }

    fn result(&mut self) -> Answer {
        let Some(failure) = self.failure.take() else {
            let reported = self.reported.drain(..);
            return Ok(reported.map(|lane| lane.runs).collect());
        };
        if self.delivered == 0 {
            return Err(failure);
        }
        let text = format!(
            "{failure} ({} of the messages were appended)",
            self.delivered
        );
        Err(match failure {
            // Sent again it would fail again, and append the others again.
            StoreError::Refused(_) => StoreError::Refused(text),
            StoreError::Denied(_) => StoreError::Denied(text),
            _ => StoreError::Uncertain(text),
        })
    }
}

/// What describes a request of which messages failed for both reasons: that trying again is of no use, then that
/// something may have been appended.
fn worse(a: StoreError, b: StoreError) -> StoreError {
    let rank = |error: &StoreError| match error {
        StoreError::Refused(_) | StoreError::Denied(_) => 2,
        StoreError::Uncertain(_) => 1,
        _ => 0,
    };
    if rank(&b) > rank(&a) { b } else { a }
}

/// Adds a run, as a part of the last one if it goes on from there.
pub(in crate::store::kafka) fn add(runs: &mut Vec<AppendedRun>, run: AppendedRun) {
    match runs.last_mut() {
        Some(last)
            if (last.partition, last.publish_time) == (run.partition, run.publish_time)
                && last.first + u64::from(last.count) == run.first =>
        {
            last.count += run.count;
        }
        _ => runs.push(run),
    }
}

/// The runs in the order of the request, whose messages went to these lanes.
pub(in crate::store::kafka) fn in_order(
    lanes: impl IntoIterator<Item = usize>,
    runs: &[Vec<AppendedRun>],
) -> Vec<AppendedRun> {
    if let [runs] = runs {
        return runs.clone();
    }
    let mut each: Vec<_> = runs
        .iter()
        .map(|runs| runs.iter().flat_map(singles))
        .collect();
    let mut ordered = Vec::new();
    for lane in lanes {
        if let Some(run) = each.get_mut(lane).and_then(Iterator::next) {
            add(&mut ordered, run);
        }
    }
    ordered
}

fn singles(run: &AppendedRun) -> impl Iterator<Item = AppendedRun> + use<> {
    let run = *run;
    iter::successors(Some(run.first), |offset| Some(offset + 1))
        .take(run.count as usize)
        .map(move |first| AppendedRun {
            first,
            count: 1,
            ..run
        })
}

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;

    use super::*;
    use crate::{
        resource::id::TopicIncarnation,
        store::{
            kafka::known::KnownTopics,
            log::{LogLocation, TopicLog},
        },
    };

    const TIME: Timestamp = Timestamp::from_millis(5);

    fn job(lanes: &[(Partition, usize)]) -> (Arc<Job>, oneshot::Receiver<Answer>) {
        let log = TopicLog {
            incarnation: TopicIncarnation(1),
            location: Arc::new(LogLocation::embedded()),
        };
        // In turn, so that no lane has all of what comes first.
        let most = lanes.iter().map(|lane| lane.1).max().unwrap_or(0);
        let all = (0..most).flat_map(|at| (0..lanes.len()).map(move |lane| (lane, at)));
        let all: Vec<_> = all.filter(|&(lane, at)| at < lanes[lane].1).collect();
        let bytes = |&(_, at): &(usize, usize)| Bytes::from(vec![at as u8]);
        let messages = AcceptedMessages::from(all.iter().map(bytes).collect::<Vec<_>>());
        let lane =
            |&(partition, count): &(Partition, usize)| Lane::new(partition, Arc::default(), count);
        let mut lanes: Vec<_> = lanes.iter().map(lane).collect();
        for ((index, message), (lane, _)) in (0..).zip(messages.scanned()).zip(all) {
            lanes[lane].add(index, &message);
        }
        let permit = Arc::new(Semaphore::new(1))
            .try_acquire_owned()
            .expect("a permit");
        let topic = KnownTopics::default().learn(&log);
        Job::new(topic, messages, lanes, permit)
    }

    fn run(partition: Partition, first: Offset, count: u32) -> AppendedRun {
        AppendedRun {
            partition,
            first,
            count,
            publish_time: TIME,
        }
    }

    #[test]
    fn reports_find_their_message_and_runs_come_in_request_order() {
        let (job, mut answered) = job(&[(0, 3), (1, 2)]);
        let mut seen = Vec::new();
        for (partition, offset) in [(1, 7), (0, 10), (0, 11), (1, 8), (0, 15)] {
            let (message, progress) = job.delivered(partition, offset, TIME);
            seen.push((partition, message.expect("known")[0]));
            assert_eq!(progress == Progress::Complete, seen.len() == 5);
        }
        assert_eq!(seen, [(1, 0), (0, 0), (0, 1), (1, 1), (0, 2)]);
        job.answer();
        let runs = answered.try_recv().expect("answered").expect("delivered");
        assert_eq!(
            runs,
            [vec![run(0, 10, 2), run(0, 15, 1)], vec![run(1, 7, 2)]]
        );
        let ordered = in_order([0, 0, 1, 1, 0], &runs);
        assert_eq!(ordered, [run(0, 10, 2), run(1, 7, 2), run(0, 15, 1)]);
    }

    #[test]
    fn a_part_that_failed_is_never_taken_for_a_definite_failure() {
        let (job, mut answered) = job(&[(0, 3)]);
        job.delivered(0, 4, TIME);
        job.failed(1, StoreError::Unavailable("away".to_owned()));
        let (message, progress) = job.delivered(0, 6, TIME);
        assert_eq!((message, progress), (None, Progress::Complete));
        job.answer();
        let error = answered.try_recv().expect("answered").expect_err("failed");
        assert!(
            !error.definitely_failed() && error.to_string().contains("2 of"),
            "{error}"
        );
    }

    #[test]
    fn what_will_never_pass_outweighs_what_may() {
        let (job, mut answered) = job(&[(0, 2)]);
        job.failed(1, StoreError::Uncertain("late".to_owned()));
        assert_eq!(
            job.failed(1, StoreError::Refused("large".to_owned())),
            Progress::Complete
        );
        job.answer();
        let error = answered.try_recv().expect("answered").expect_err("failed");
        assert!(matches!(error, StoreError::Refused(_)), "{error}");
    }
}
