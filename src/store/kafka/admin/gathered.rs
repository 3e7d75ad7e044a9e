//! Where partitions begin and end, of many topics in few calls.
//!
//! A node that starts, or takes over what another one delivered, asks this of thousands of topics at once.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use rdkafka::Offset as Position;
use tokio::{sync::oneshot, task::spawn_blocking};

use super::{
    super::errors,
    cluster::{Answer, Asker, offsets, partition_bounds, partitions},
};
use crate::{
    limits::{
        KAFKA_BOUNDS_CALLS_MAX, KAFKA_PARTITIONS_PER_BOUNDS_CALL_MAX, KAFKA_TOGETHER_MILLIS,
        KAFKA_TOPICS_PER_BOUNDS_CALL_MAX,
    },
    store::{
        StoreError,
        log::{Partition, PartitionBounds},
    },
};

/// Questions that wait. Those that come while others are being asked are asked together.
#[derive(Default)]
pub(super) struct GatheredBounds(Mutex<State>);

#[derive(Default)]
struct State {
    waiting: Vec<Question>,
    /// Threads that ask.
    asking: usize,
}

/// The answer is `None` where it could not be had together with those of others.
struct Question {
    topic: String,
    answer: oneshot::Sender<Option<Answer<Vec<PartitionBounds>>>>,
}

const TOGETHER: Duration = Duration::from_millis(KAFKA_TOGETHER_MILLIS);

impl GatheredBounds {
    /// Where each partition of a topic begins and, as far as it may be read, ends. `None` if this has to be asked
    /// alone.
    pub(super) async fn ask(
        gathered: &Arc<Self>,
        client: &Arc<Asker>,
        topic: String,
    ) -> Option<Answer<Vec<PartitionBounds>>> {
        let (answer, answered) = oneshot::channel();
        let is_to_ask = {
            let mut state = gathered.0.lock();
            state.waiting.push(Question { topic, answer });
            let is_to_ask = state.asking < KAFKA_BOUNDS_CALLS_MAX;
            state.asking += usize::from(is_to_ask);
            is_to_ask
        };
        if is_to_ask {
            let asking = Asking(Some(Arc::clone(gathered)));
            let client = Arc::clone(client);
            spawn_blocking(move || asking.run(&client));
        }
        answered.await.ok().flatten()
    }

    /// The questions that are asked next; `None` ends the thread.
    fn next(&self) -> Option<Vec<Question>> {
        let mut state = self.0.lock();
        let count = state.waiting.len().min(KAFKA_TOPICS_PER_BOUNDS_CALL_MAX);
        if count == 0 {
            state.asking -= 1;
            return None;
        }
        Some(state.waiting.drain(..count).collect())
    }
}

/// A thread that asks. Its end is noted however it ends.
struct Asking(Option<Arc<GatheredBounds>>);

impl Asking {
    fn run(mut self, client: &Asker) {
        while let Some(gathered) = &self.0 {
            match gathered.next() {
                Some(questions) => answer(client, questions),
                None => self.0 = None,
            }
        }
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        if let Some(gathered) = self.0.take() {
            gathered.0.lock().asking -= 1;
        }
    }
}

fn answer(client: &Asker, questions: Vec<Question>) {
    let asked = questions.iter().filter(|one| !one.answer.is_closed());
    let topics: HashSet<_> = asked.map(|one| one.topic.as_str()).collect();
    let answers = bounds(client, topics);
    // So that a failure can be explained.
    while client.poll(Duration::ZERO).is_some() {}
    for Question { topic, answer } in questions {
        // Who asked may be gone.
        answer.send(answers.get(&topic).cloned()).ok();
    }
}

/// The answers that can be had together.
fn bounds<'a>(
    client: &Asker,
    topics: impl IntoIterator<Item = &'a str>,
) -> HashMap<String, Answer<Vec<PartitionBounds>>> {
    let mut answers = HashMap::new();
    let mut wanted: Vec<(&str, Partition)> = Vec::new();
    for topic in topics {
        match partitions(client, topic, TOGETHER) {
            Ok(count) => wanted.extend((0..count).map(|partition| (topic, partition))),
            Err(error) if matches!(errors::of_question(&error), StoreError::Unavailable(_)) => {
                break;
            }
            Err(error) => {
                answers.insert(topic.to_owned(), Err(error));
            }
        }
        if wanted.len() >= KAFKA_PARTITIONS_PER_BOUNDS_CALL_MAX {
            break;
        }
    }
    // One broker that does not answer fails all of the call.
    let of = |position| offsets(client, &wanted, position, TOGETHER);
    let (Ok(starts), Ok(ends)) = (of(Position::Beginning), of(Position::End)) else {
        return answers;
    };
    for (((topic, partition), start), end) in wanted.iter().zip(starts).zip(ends) {
        let bounds = start.and_then(|start| partition_bounds(*partition, start, end?));
        let of_topic = answers.entry((*topic).to_owned());
        let of_topic = of_topic.or_insert_with(|| Ok(Vec::new()));
        match (&mut *of_topic, bounds) {
            (Ok(of_topic), Ok(bounds)) => of_topic.push(bounds),
            (Ok(_), Err(error)) => *of_topic = Err(error),
            (Err(_), _) => {}
        }
    }
    answers
}
