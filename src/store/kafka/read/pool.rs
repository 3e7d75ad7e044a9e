//! The consumers that read, and the threads on which they do so while reads wait.

use std::{mem, sync::Arc, time::Duration};

use parking_lot::Mutex;
use rdkafka::ClientConfig;
use tokio::{task::spawn_blocking, time::Instant};

use super::{
    super::errors,
    reader::Reader,
    readers::too_many,
    waiting::Waiting,
    wanted::{Asked, How, Wanted},
};
use crate::limits::KAFKA_READERS_MAX;

/// See the module.
pub(in crate::store::kafka) struct Pool {
    config: ClientConfig,
    /// The same, for reads that leaders have to answer, where an operator lets other replicas answer.
    leaders_only: Option<ClientConfig>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiting: Waiting,
    idle: Vec<Reader>,
    /// Threads that carry reads out, each with a reader.
    working: usize,
}

/// Which replicas answer a client: none but leaders without this.
const RACK: &str = "client.rack";

impl Pool {
    pub(super) fn new(config: ClientConfig) -> Self {
        let leaders_only = config.get(RACK).is_some().then(|| {
            let mut config = config.clone();
            config.remove(RACK);
            config
        });
        Self {
            config,
            leaders_only,
            state: Mutex::default(),
        }
    }

    /// Puts a read in line.
    pub(super) fn take_in(pool: &Arc<Self>, asked: Asked) {
        let mut state = pool.state.lock();
        if let Err(asked) = state.waiting.push(asked) {
            drop(state);
            return asked.answer(Err(too_many()));
        }
        if state.working < KAFKA_READERS_MAX {
            state.working += 1;
            drop(state);
            let worker = Worker(Some(Arc::clone(pool)));
            spawn_blocking(move || worker.work());
        }
    }

    /// Takes out readers that read ahead and were not used for so long. Has the others say what they have to say.
    pub(super) fn take_unused(&self, now: Instant, pause: Duration) -> Vec<Reader> {
        let mut state = self.state.lock();
        let is_unused =
            |reader: &mut Reader| reader.is_ahead() && now.duration_since(reader.used_at) > pause;
        let unused = state.idle.extract_if(.., is_unused).collect();
        state.idle.iter().for_each(Reader::listen);
        unused
    }

    /// Has a reader wait for its next read.
    pub(super) fn put_back(&self, reader: Reader) {
        let mut state = self.state.lock();
        if !reader.is_broken() && state.idle.len() < KAFKA_READERS_MAX {
            state.idle.push(reader);
        } else {
            // Ending it takes its time.
            drop(state);
        }
    }

    /// Takes all idle readers out.
    pub(super) fn close(&self) -> Vec<Reader> {
        mem::take(&mut self.state.lock().idle)
    }

    /// Has every idle reader take the partition that it reads for this one, as a defect would. How many did.
    #[cfg(test)]
    pub(in crate::store::kafka) fn mislead(&self, to: &Wanted) -> usize {
        let mut state = self.state.lock();
        let misled = state.idle.iter_mut().map(|reader| reader.mislead(to));
        misled.filter(|misled| *misled).count()
    }

    /// How many readers wait for their next read.
    #[cfg(test)]
    pub(in crate::store::kafka) fn idle(&self) -> usize {
        self.state.lock().idle.len()
    }

    fn has_waiting(&self) -> bool {
        !self.state.lock().waiting.is_empty()
    }

    /// The reads whose turn it is, with a reader for them if there is one: the one that stands there already, or else
    /// the one that was used least recently. `None` ends the thread that asks.
    fn next(&self) -> Option<(Vec<Asked>, Option<Reader>)> {
        let mut state = self.state.lock();
        let state = &mut *state;
        let Some(first) = state.waiting.next() else {
            state.working -= 1;
            return None;
        };
        let may_make = state.idle.len() + state.working <= KAFKA_READERS_MAX;
        let idle = &mut state.idle;
        let standing = match first.how {
            How::Together => idle
                .iter()
                .position(|reader| reader.stands_at(&first.wanted)),
            How::Alone | How::BehindDamage => None,
        };
        if let Some(at) = standing {
            return Some((vec![first], Some(idle.swap_remove(at))));
        }
        let oldest = (0..idle.len()).min_by_key(|at| idle[*at].used_at);
        // As long as there may be more, one that is not reading ahead for another caller.
        let free = oldest.filter(|at| !may_make || !idle[*at].is_ahead());
        let reader = free.map(|at| idle.swap_remove(at));
        let elsewhere = |wanted: &Wanted| idle.iter().any(|reader| reader.stands_at(wanted));
        Some((state.waiting.with(first, elsewhere), reader))
    }
}

/// A thread's share in the work. Its end is noted however it ends.
struct Worker(Option<Arc<Pool>>);

impl Worker {
    fn work(mut self) {
        while let Some(pool) = self.0.clone() {
            let Some((asked, reader)) = pool.next() else {
                self.0 = None;
                return;
            };
            let leaders_only = pool.leaders_only.as_ref();
            let leaders_only = leaders_only.filter(|_| asked[0].how != How::Together);
            let made = match (leaders_only, reader) {
                (None, Some(reader)) => Ok(reader),
                (config, spare) => {
                    let made = Reader::new(config.unwrap_or(&pool.config));
                    if let Some(spare) = spare {
                        pool.put_back(spare);
                    }
                    made
                }
            };
            match made {
                Ok(mut reader) => {
                    let (answers, unanswered) = reader.run(asked, || pool.has_waiting());
                    pool.state.lock().waiting.extend(unanswered);
                    if leaders_only.is_none() {
                        pool.put_back(reader);
                    }
                    for (asked, result) in answers {
                        asked.answer(result);
                    }
                }
                Err(error) => {
                    for asked in asked {
                        asked.answer(Err(errors::of_question(&error)));
                    }
                }
            }
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(pool) = self.0.take() {
            pool.state.lock().working -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leaders_have_to_answer_is_asked_of_no_other_replica() {
        let mut config = ClientConfig::new();
        assert!(Pool::new(config.clone()).leaders_only.is_none());
        config.set(RACK, "a").set("client.id", "b");
        let leaders_only = Pool::new(config).leaders_only.expect("of its own");
        assert_eq!(leaders_only.get(RACK), None);
        assert_eq!(leaders_only.get("client.id"), Some("b"));
    }
}
