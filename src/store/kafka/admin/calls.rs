//! Which requests for a change of topics share a call to Kafka, and when it is made: what brokers do for new topics must
//! not keep those waiting who publish.

use std::time::Duration;

use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until},
};

use crate::{
    limits::{
        KAFKA_TOPIC_REQUESTS_MAX, KAFKA_TOPICS_APART_MILLIS, KAFKA_TOPICS_PAUSE_MILLIS_MAX,
        KAFKA_TOPICS_PER_CALL_MAX, KAFKA_TOPICS_PER_SMALL_CALL_MAX,
        KAFKA_TOPICS_SMALL_CALLS_MILLIS,
    },
    store::StoreError,
};

const PAUSE_MAX: Duration = Duration::from_millis(KAFKA_TOPICS_PAUSE_MILLIS_MAX);
const APART: Duration = Duration::from_millis(KAFKA_TOPICS_APART_MILLIS);
/// How long requests may wait before those who publish have to.
const PATIENCE: Duration = Duration::from_millis(KAFKA_TOPICS_SMALL_CALLS_MILLIS);

/// Where to ask for a change `W` that is answered with `A`.
pub(in crate::store::kafka) type Asking<W, A> = mpsc::Sender<Request<W, A>>;

/// A change that a caller waits for.
pub(in crate::store::kafka) struct Request<W, A> {
    pub(in crate::store::kafka) what: W,
    pub(in crate::store::kafka) answer: oneshot::Sender<Result<A, StoreError>>,
    asked: Instant,
}

/// Asks for a change, and waits for the call that makes it.
pub(in crate::store::kafka) async fn ask<W, A>(
    requests: &Asking<W, A>,
    what: W,
) -> Result<A, StoreError> {
    let stopping = |_| StoreError::Unavailable("the log is closed".to_owned());
    let (answer, answered) = oneshot::channel();
    let asked = Instant::now();
    let request = Request {
        what,
        answer,
        asked,
    };
    requests.send(request).await.map_err(stopping)?;
    answered.await.unwrap_or_else(|_| {
        let text = "the log was closed before Kafka answered";
        Err(StoreError::Uncertain(text.to_owned()))
    })
}

/// Requests that wait for a call. Between two calls brokers have a pause as long as a call took. While a client
/// publishes calls are small and further apart, unless the one who waits longest has lost patience.
pub(in crate::store::kafka) struct Calls<W, A, P> {
    requests: mpsc::Receiver<Request<W, A>>,
    /// Tells a number that grows while a client publishes.
    published: P,
    at_last_call: u64,
    last: Option<Call>,
}

struct Call {
    began: Instant,
    /// Set when it ended.
    took: Duration,
    topics: u32,
}

impl<W, A, P: Fn() -> u64> Calls<W, A, P> {
    pub(in crate::store::kafka) fn new(published: P) -> (Asking<W, A>, Self) {
        let (asking, requests) = mpsc::channel(KAFKA_TOPIC_REQUESTS_MAX);
        let calls = Self {
            requests,
            published,
            at_last_call: 0,
            last: None,
        };
        (asking, calls)
    }

    /// The requests of the next call, once it is time for it; `None` when nobody can ask any more. The task that makes
    /// the call comes here again when it has ended.
    pub(in crate::store::kafka) async fn next(&mut self) -> Option<Vec<Request<W, A>>> {
        if let Some(call) = &mut self.last {
            call.took = call.began.elapsed();
        }
        let first = self.requests.recv().await?;
        let published = (self.published)();
        let quiet = published == self.at_last_call;
        self.at_last_call = published;
        let careful = !quiet && first.asked.elapsed() < PATIENCE;
        let (most, apart) = if careful {
            (KAFKA_TOPICS_PER_SMALL_CALL_MAX, APART)
        } else {
            (KAFKA_TOPICS_PER_CALL_MAX, Duration::ZERO)
        };
        if let Some(Call {
            began,
            took,
            topics,
        }) = self.last
        {
            let pause = took.min(PAUSE_MAX);
            sleep_until(began + (took + pause).max(apart * topics)).await;
        }
        let mut taken = vec![first];
        while taken.len() < most
            && let Ok(request) = self.requests.try_recv()
        {
            taken.push(request);
        }
        self.last = Some(Call {
            began: Instant::now(),
            took: Duration::ZERO,
            topics: taken.len() as u32,
        });
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::time::advance;

    use super::*;

    const CALL: Duration = Duration::from_millis(5);
    const LONG_CALL: Duration = Duration::from_secs(1);

    /// Asks for so many, and makes calls that take `call`, until all are made. Answers when calls were made, and of how many.
    async fn calls(many: usize, call: Duration, publishing: bool) -> Vec<(Instant, usize)> {
        let published = Cell::new(7);
        let (asking, mut calls) = Calls::new(|| published.get());
        for what in 0..many {
            let (answer, _) = oneshot::channel::<Result<(), _>>();
            let asked = Instant::now();
            let request = Request {
                what,
                answer,
                asked,
            };
            asking.try_send(request).expect("room");
        }
        drop(asking);
        let mut made = 0;
        let mut all = Vec::new();
        while let Some(taken) = calls.next().await {
            all.push((Instant::now(), taken.len()));
            for request in taken {
                assert_eq!(request.what, made);
                made += 1;
            }
            advance(call).await;
            published.set(published.get() + u64::from(publishing));
        }
        assert_eq!(made, many);
        all
    }

    #[tokio::test(start_paused = true)]
    async fn calls_are_large_with_a_pause_as_long_as_one_took() {
        let made = calls(3 * KAFKA_TOPICS_PER_CALL_MAX, CALL, false).await;
        // Before the first one it is unknown whether a client publishes.
        for (at, (before, now)) in made.iter().zip(&made[1..]).enumerate().skip(1) {
            assert_eq!(now.0.duration_since(before.0), 2 * CALL, "call {at}");
            assert_eq!(before.1, KAFKA_TOPICS_PER_CALL_MAX, "call {at}");
        }
        let made = calls(2 * KAFKA_TOPICS_PER_CALL_MAX, LONG_CALL, false).await;
        let between = made[2].0.duration_since(made[1].0);
        assert_eq!(between, LONG_CALL + PAUSE_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn while_somebody_publishes_calls_are_small_and_apart() {
        let made = calls(4 * KAFKA_TOPICS_PER_CALL_MAX, CALL, true).await;
        for (before, now) in made.iter().zip(&made[1..]) {
            assert_eq!(now.0.duration_since(before.0), APART * before.1 as u32);
            assert!(now.1 <= KAFKA_TOPICS_PER_SMALL_CALL_MAX);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_much_longer_than_patience_because_others_publish() {
        let start = Instant::now();
        let made = calls(KAFKA_TOPIC_REQUESTS_MAX, 10 * CALL, true).await;
        let large = |call: &&(_, usize)| call.1 == KAFKA_TOPICS_PER_CALL_MAX;
        let impatient = made.iter().find(large).expect("large calls").0;
        assert!(impatient >= start + PATIENCE && impatient < start + PATIENCE + LONG_CALL);
        let (end, _) = made.last().expect("calls");
        assert!(end.duration_since(start) < Duration::from_mins(1));
    }
}
