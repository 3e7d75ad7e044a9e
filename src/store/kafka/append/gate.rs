//! What waits on the way to a partition, so that it is handed over in waves of one batch.
//!
//! An idempotent client has few requests of a partition on their way. What it was given beside those it checks over and
//! over until they are answered, which costs many small requests a third more CPU. So it is not given that: what arrives
//! meanwhile waits here and forms the next batch.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;

use super::job::Job;

/// Messages and bytes of a wave, which are those of a batch of librdkafka; a larger request is a wave of its own.
const MESSAGES: usize = 10_000;
const BYTES: usize = 1_000_000;

/// The way to one partition.
#[derive(Debug, Default)]
pub(in crate::store::kafka) struct Gate {
    /// Messages that were handed over and not reported yet. Grows only under the lock.
    on_their_way: AtomicUsize,
    waiting: Mutex<VecDeque<Waiting>>,
}

/// A request's messages for the partition.
#[derive(Debug)]
struct Waiting {
    job: Arc<Job>,
    lane: usize,
}

impl Gate {
    /// Queues one lane of a job; it is next at once if nothing is on its way. `hand_over` does it, and answers
    /// how many messages went.
    pub(in crate::store::kafka) fn add(
        &self,
        job: &Arc<Job>,
        lane: usize,
        hand_over: impl FnMut(&Arc<Job>, usize) -> usize,
    ) {
        let mut waiting = self.waiting.lock();
        waiting.push_back(Waiting {
            job: Arc::clone(job),
            lane,
        });
        if self.is_free() {
            self.next_wave(&mut waiting, hand_over);
        }
    }

    /// Takes in that a message was reported. Whether it was the last one on its way, so that it is time for
    /// [`Self::open`].
    pub(in crate::store::kafka) fn is_free_after_report(&self) -> bool {
        self.on_their_way.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// Hands the next wave over, unless something is on its way again.
    pub(in crate::store::kafka) fn open(&self, hand_over: impl FnMut(&Arc<Job>, usize) -> usize) {
        let mut waiting = self.waiting.lock();
        if self.is_free() {
            self.next_wave(&mut waiting, hand_over);
        }
    }

    /// Hands everything over, whatever is on its way: the times after which messages are given up run from then.
    pub(in crate::store::kafka) fn open_wide(
        &self,
        mut hand_over: impl FnMut(&Arc<Job>, usize) -> usize,
    ) {
        let mut waiting = self.waiting.lock();
        while let Some(next) = waiting.pop_front() {
            self.hand_over(&next, &mut hand_over);
        }
    }

    fn is_free(&self) -> bool {
        self.on_their_way.load(Ordering::Acquire) == 0
    }

    fn next_wave(
        &self,
        waiting: &mut VecDeque<Waiting>,
        mut hand_over: impl FnMut(&Arc<Job>, usize) -> usize,
    ) {
        let (mut messages, mut bytes) = (0, 0);
        while let Some(next) = waiting.front() {
            let lane = &next.job.lanes()[next.lane];
            messages += lane.len();
            bytes += lane.bytes();
            let is_full = messages > MESSAGES || bytes > BYTES;
            if is_full && !self.is_free() {
                return;
            }
            if let Some(next) = waiting.pop_front() {
                self.hand_over(&next, &mut hand_over);
            }
        }
    }

    fn hand_over(
        &self,
        Waiting { job, lane }: &Waiting,
        hand_over: &mut impl FnMut(&Arc<Job>, usize) -> usize,
    ) {
        let count = job.lanes()[*lane].len();
        self.on_their_way.fetch_add(count, Ordering::AcqRel);
        let handed_over = hand_over(job, *lane);
        self.on_their_way
            .fetch_sub(count - handed_over.min(count), Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tokio::sync::Semaphore;

    use super::*;
    use crate::{
        resource::{id::TopicIncarnation, message::AcceptedMessages},
        store::{
            kafka::{append::job::Lane, known::KnownTopics},
            log::{LogLocation, TopicLog},
        },
    };

    /// A request of that many messages of that many bytes.
    fn request(gate: &Arc<Gate>, count: usize, bytes: usize) -> Arc<Job> {
        let log = TopicLog {
            incarnation: TopicIncarnation(1),
            location: Arc::new(LogLocation::embedded()),
        };
        let messages = AcceptedMessages::from(vec![Bytes::from(vec![0; bytes]); count]);
        let mut lane = Lane::new(0, Arc::clone(gate), count);
        for (index, message) in (0..).zip(messages.scanned()) {
            lane.add(index, &message);
        }
        let permit = Arc::new(Semaphore::new(1)).try_acquire_owned();
        let topic = KnownTopics::default().learn(&log);
        Job::new(topic, messages, vec![lane], permit.expect("a permit")).0
    }

    /// Adds a request, and answers what goes at once: the number of messages of each request.
    fn add(gate: &Arc<Gate>, count: usize, bytes: usize) -> Vec<usize> {
        let mut gone = Vec::new();
        gate.add(&request(gate, count, bytes), 0, all(&mut gone));
        gone
    }

    /// Hands over all messages of a request, and notes how many that were.
    fn all(gone: &mut Vec<usize>) -> impl FnMut(&Arc<Job>, usize) -> usize {
        |job, lane| {
            let count = job.lanes()[lane].len();
            gone.push(count);
            count
        }
    }

    /// What goes when so many messages are reported.
    fn report(gate: &Gate, count: usize) -> Vec<usize> {
        let mut gone = Vec::new();
        for at in 1..=count {
            let is_free = gate.is_free_after_report();
            assert_eq!(is_free, at == count, "message {at} of {count}");
        }
        gate.open(all(&mut gone));
        gone
    }

    #[test]
    fn what_arrives_while_something_is_on_its_way_goes_together() {
        let gate = Arc::default();
        assert_eq!(add(&gate, 2, 10), [2]);
        for _ in 0..3 {
            assert!(add(&gate, 1, 10).is_empty());
        }
        assert_eq!(report(&gate, 2), [1, 1, 1]);
        assert!(report(&gate, 3).is_empty());
        assert_eq!(add(&gate, 4, 10), [4]);
    }

    #[test]
    fn a_wave_is_no_larger_than_a_batch_unless_one_request_is() {
        let gate = Arc::default();
        assert_eq!(add(&gate, 1, 1), [1]);
        for (count, bytes) in [
            (4, BYTES / 8),
            (5, BYTES / 8),
            (1, 2 * BYTES),
            (MESSAGES, 1),
            (1, 1),
        ] {
            assert!(add(&gate, count, bytes).is_empty());
        }
        assert_eq!(report(&gate, 1), [4]);
        assert_eq!(report(&gate, 4), [5]);
        assert_eq!(report(&gate, 5), [1]);
        assert_eq!(report(&gate, 1), [MESSAGES]);
        assert_eq!(report(&gate, MESSAGES), [1]);
    }

    #[test]
    fn nobody_waits_when_the_gate_is_opened_wide() {
        let gate = Arc::default();
        assert_eq!(add(&gate, 1, 1), [1]);
        assert!(add(&gate, 2, BYTES).is_empty());
        assert!(add(&gate, 3, BYTES).is_empty());
        let mut gone = Vec::new();
        gate.open_wide(all(&mut gone));
        assert_eq!(gone, [2, 3]);
        assert!(report(&gate, 6).is_empty());
    }

    #[test]
    fn those_behind_a_request_that_could_not_be_handed_over_go_on() {
        let gate = Arc::default();
        assert_eq!(add(&gate, 1, 1), [1]);
        assert!(add(&gate, 3, BYTES).is_empty());
        assert!(add(&gate, 2, BYTES).is_empty());
        assert!(gate.is_free_after_report());
        let mut asked = Vec::new();
        gate.open(|job, lane| {
            asked.push(job.lanes()[lane].len());
            // Of the first one nothing goes, of the other one half.
            asked.len() - 1
        });
        assert_eq!(asked, [3, 2]);
        assert!(report(&gate, 1).is_empty());
        assert_eq!(add(&gate, 1, 1), [1]);
    }
}
