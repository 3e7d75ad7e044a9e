//! Turns of JSON that takes its time to be read or written: a few at once, so that the runtime's threads, which have
//! all other requests, find the machine free as well. What is large has turns of its own, for which nothing else waits.

use std::{num::NonZero, sync::Arc, thread};

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use tonic::Status;

use crate::limits::{JSON_TURNS_MIN, LARGE_JSON_BYTES, TURNS_OF_CONNECTION_SHARE};

/// Those of a connection, and of all.
#[derive(Clone, Debug)]
pub struct Turns {
    usual: Lane,
    large: Lane,
}

impl Turns {
    /// For the whole server, on this machine, and a connection of it.
    pub fn of_server() -> Self {
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        Self {
            usual: Lane::of(cores.max(JSON_TURNS_MIN)),
            large: Lane::of((cores / 2).max(JSON_TURNS_MIN)),
        }
    }

    /// For another connection.
    #[must_use]
    pub fn of_another_connection(&self) -> Self {
        Self {
            usual: self.usual.of_another_connection(),
            large: self.large.of_another_connection(),
        }
    }

    /// Waits for a turn with so many bytes.
    ///
    /// # Errors
    /// None, as nobody closes what is waited for.
    pub async fn take(&self, bytes: usize) -> Result<Turn, Status> {
        let lane = if bytes > LARGE_JSON_BYTES {
            &self.large
        } else {
            &self.usual
        };
        let turn = lane.take().await;
        turn.map_err(|error| Status::internal(error.to_string()))
    }
}

#[derive(Clone, Debug)]
struct Lane {
    all: Arc<Semaphore>,
    of_connection: Arc<Semaphore>,
    of_connection_max: usize,
}

impl Lane {
    fn of(turns: usize) -> Self {
        let of_connection_max = turns.div_ceil(TURNS_OF_CONNECTION_SHARE);
        Self {
            all: Arc::new(Semaphore::new(turns)),
            of_connection: Arc::new(Semaphore::new(of_connection_max)),
            of_connection_max,
        }
    }

    fn of_another_connection(&self) -> Self {
        Self {
            of_connection: Arc::new(Semaphore::new(self.of_connection_max)),
            ..self.clone()
        }
    }

    async fn take(&self) -> Result<Turn, AcquireError> {
        // The connection's own first: of those who wait for one of all, each connection is a few.
        let own = Arc::clone(&self.of_connection).acquire_owned().await?;
        let of_all = Arc::clone(&self.all).acquire_owned().await?;
        Ok(Turn {
            _permits: [own, of_all],
        })
    }
}

/// A turn, until it is dropped.
#[derive(Debug)]
pub struct Turn {
    _permits: [OwnedSemaphorePermit; 2],
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn taken(turns: &Turns, bytes: usize) -> Option<Turn> {
        let turn = turns.take(bytes).now_or_never()?;
        Some(turn.expect("nobody closes it"))
    }

    /// As many as there are without waiting.
    fn take_all(turns: &Turns, bytes: usize) -> Vec<Turn> {
        std::iter::from_fn(|| taken(turns, bytes)).collect()
    }

    #[test]
    fn a_connection_and_what_is_large_leave_turns_to_others() {
        let first = Turns::of_server();
        let large = take_all(&first, LARGE_JSON_BYTES + 1);
        let usual = take_all(&first, LARGE_JSON_BYTES);
        assert!(!large.is_empty() && !usual.is_empty());
        let second = first.of_another_connection();
        let others = take_all(&second, LARGE_JSON_BYTES);
        assert!(!others.is_empty(), "the first connection has all turns");
        drop(usual);
        assert!(taken(&first, LARGE_JSON_BYTES).is_some(), "given back");
    }

    #[test]
    fn all_connections_together_have_as_many_turns_as_there_are() {
        let turns = Turns::of_server();
        let connections: Vec<_> = (0..100).map(|_| turns.of_another_connection()).collect();
        let all = connections.iter();
        let all = all.flat_map(|connection| take_all(connection, LARGE_JSON_BYTES));
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        assert_eq!(all.collect::<Vec<_>>().len(), cores.max(JSON_TURNS_MIN));
    }
}
