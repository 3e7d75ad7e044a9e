//! Watches over what a client has not taken of an answer, and ends the answer when that does not change: after the times
//! of `pace`, or, of a stream, which may be slow, after ten minutes.
//!
//! HTTP/2 asks an answer for more only when the client takes some, so nothing in the answer itself notices that it does
//! not. What runs the request does, by [`watch`].

use std::{
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::{Instant, Sleep, sleep_until};

use super::pace::Pace;
use crate::limits::STREAM_UNREAD_MILLIS_MAX;

const STREAM_UNREAD_MAX: Duration = Duration::from_millis(STREAM_UNREAD_MILLIS_MAX);

tokio::task_local! {
    /// That of the request which is being run.
    static CURRENT: Arc<Unread>;
}

/// What is not taken of one answer.
#[derive(Debug, Default)]
pub struct Unread(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    is_stream: bool,
    /// Bytes that the connection was given, and those of them that it must tell of when it has sent them.
    given: u64,
    counted: u64,
    /// Bytes of `counted` that it has sent.
    taken: u64,
    /// It was given something since it asked for more.
    is_given: bool,
    /// The answer, where it waits until more is taken.
    waits: Option<Waker>,
    /// Since something is owed.
    owed: Option<Owed>,
}

#[derive(Debug)]
struct Owed {
    pace: Pace,
    given: u64,
    taken: u64,
    last: Instant,
}

impl Unread {
    /// That of the request which is being run, or, where nothing watches over it, a new one.
    pub fn current() -> Arc<Self> {
        CURRENT.try_with(Arc::clone).unwrap_or_default()
    }

    /// The answer is a stream.
    pub fn set_stream(&self) {
        self.0.lock().is_stream = true;
    }

    /// The connection asks for more.
    pub(super) fn asked(&self) {
        self.0.lock().is_given = false;
    }

    /// The connection gets `bytes` as they are.
    pub(super) fn give(&self, bytes: &Bytes) {
        let mut state = self.0.lock();
        state.is_given = true;
        state.given += bytes.len() as u64;
    }

    /// The connection gets `bytes`, which count until it has sent them.
    pub(super) fn give_counted(self: &Arc<Self>, bytes: Bytes) -> Bytes {
        let mut state = self.0.lock();
        state.is_given = true;
        state.given += bytes.len() as u64;
        state.counted += bytes.len() as u64;
        drop(state);
        Bytes::from_owner(Counted {
            bytes,
            unread: Arc::clone(self),
        })
    }

    /// Whether all is sent that counts.
    pub(super) fn is_sent(&self) -> bool {
        let state = self.0.lock();
        state.counted == state.taken
    }

    /// Waits until no more than `bytes` of what counts is unsent. Ready with false if that takes too long.
    pub(super) fn poll_unsent(
        &self,
        bytes: u64,
        sleep: &mut Option<Pin<Box<Sleep>>>,
        context: &mut Context<'_>,
    ) -> Poll<bool> {
        let mut state = self.0.lock();
        if state.counted - state.taken <= bytes {
            *sleep = None;
            return Poll::Ready(true);
        }
        state.waits = Some(context.waker().clone());
        drop(state);
        self.poll_given_up(sleep, context).map(|()| false)
    }

    /// Ready when something was owed for too long.
    fn poll_given_up(
        &self,
        sleep: &mut Option<Pin<Box<Sleep>>>,
        context: &mut Context<'_>,
    ) -> Poll<()> {
        let Some(until) = self.0.lock().deadline() else {
            *sleep = None;
            return Poll::Pending;
        };
        let sleep = sleep.get_or_insert_with(|| Box::pin(sleep_until(until)));
        if sleep.deadline() != until {
            sleep.as_mut().reset(until);
        }
        ready!(sleep.as_mut().poll(context));
        Poll::Ready(())
    }
}

impl State {
    /// Until when something has to be taken, if anything is owed.
    fn deadline(&mut self) -> Option<Instant> {
        if !self.is_given && self.counted == self.taken {
            self.owed = None;
            return None;
        }
        let (given, taken) = (self.given, self.taken);
        let owed = self.owed.get_or_insert_with(|| Owed {
            pace: Pace::begin(),
            given,
            taken,
            last: Instant::now(),
        });
        if (owed.given, owed.taken) != (given, taken) {
            // It gets more only when it has taken some of what it got.
            owed.pace.moved((given - owed.given) as usize);
            (owed.given, owed.taken) = (given, taken);
            owed.last = Instant::now();
        }
        Some(if self.is_stream {
            owed.last + STREAM_UNREAD_MAX
        } else {
            owed.pace.deadline()
        })
    }
}

struct Counted {
    bytes: Bytes,
    unread: Arc<Unread>,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut state = self.unread.0.lock();
        state.taken += self.bytes.len() as u64;
        let waits = state.waits.take();
        drop(state);
        if let Some(waker) = waits {
            waker.wake();
        }
    }
}

/// Runs a request, the sending of its answer included, until it ends or what was sent of it was not taken for too long.
/// Returns nothing then.
pub async fn watch<F: Future>(request: F) -> Option<F::Output> {
    let unread = Arc::new(Unread::default());
    let mut request = pin!(CURRENT.scope(Arc::clone(&unread), request));
    let mut sleep = None;
    std::future::poll_fn(|context| {
        if let Poll::Ready(output) = request.as_mut().poll(context) {
            return Poll::Ready(Some(output));
        }
        ready!(unread.poll_given_up(&mut sleep, context));
        Poll::Ready(None)
    })
    .await
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    /// After how many seconds a request is given up that gives its connection a piece every `every` seconds, `count`
    /// times, which is asked for more when `is_asked`.
    async fn given_up(is_stream: bool, every: u64, count: u32, is_asked: bool) -> Option<u64> {
        let began = Instant::now();
        let request = async {
            let unread = Unread::current();
            if is_stream {
                unread.set_stream();
            }
            for _ in 0..count {
                unread.asked();
                unread.give(&Bytes::from_static(b"piece"));
                // Whatever wakes the request.
                sleep(Duration::from_secs(every)).await;
            }
            if is_asked {
                unread.asked();
            }
            sleep(Duration::from_secs(100_000)).await;
        };
        let given_up = watch(request).await.is_none();
        given_up.then(|| began.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_not_taken_is_given_up() {
        assert_eq!(given_up(false, 1, 1, false).await, Some(30));
        assert_eq!(given_up(false, 1, 1, true).await, None);
        // One that is taken in small pieces, too.
        assert_eq!(given_up(false, 20, 100, false).await, Some(30));
        assert_eq!(given_up(true, 1, 1, false).await, Some(600));
        assert_eq!(given_up(true, 599, 100, false).await, Some(99 * 599 + 600));
        assert_eq!(given_up(true, 599, 100, true).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_counts_is_owed_until_it_is_sent() {
        let began = Instant::now();
        let request = async {
            let unread = Unread::current();
            let piece = unread.give_counted(Bytes::from(vec![0; 1024 * 1024]));
            unread.asked();
            sleep(Duration::from_secs(29)).await;
            drop(piece);
            sleep(Duration::from_secs(1000)).await;
            let second = unread.give_counted(Bytes::from_static(b"second"));
            unread.asked();
            std::future::pending::<()>().await;
            drop(second);
        };
        assert!(watch(request).await.is_none());
        assert_eq!(began.elapsed().as_secs(), 29 + 1000 + 30);
    }
}
