//! Bounds the pages of lists that are made, or made and not taken, at the same time: each may have megabytes.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tonic::Status;

use crate::limits::{PAGE_PLACE_WAIT_MILLIS, PAGES_MAX, PAGES_PER_CONNECTION_MAX};

/// Those of a connection, and of all.
#[derive(Clone, Debug)]
pub struct Places {
    all: Arc<Semaphore>,
    of_connection: Arc<Semaphore>,
}

impl Places {
    /// For the whole server, and a connection of it.
    pub fn of_server() -> Self {
        Self::of(Arc::new(Semaphore::new(PAGES_MAX)))
    }

    /// For another connection.
    #[must_use]
    pub fn of_another_connection(&self) -> Self {
        Self::of(Arc::clone(&self.all))
    }

    fn of(all: Arc<Semaphore>) -> Self {
        let of_connection = Arc::new(Semaphore::new(PAGES_PER_CONNECTION_MAX));
        Self { all, of_connection }
    }

    /// Waits for a place.
    ///
    /// # Errors
    /// UNAVAILABLE, which clients repeat, when none has become free for a while.
    pub async fn take(&self) -> Result<Place, Status> {
        // Its own first, so that one connection does not stand in the others' way.
        let both = async {
            let own = Arc::clone(&self.of_connection).acquire_owned().await?;
            let of_all = Arc::clone(&self.all).acquire_owned().await?;
            Ok::<_, tokio::sync::AcquireError>([own, of_all])
        };
        let both = timeout(Duration::from_millis(PAGE_PLACE_WAIT_MILLIS), both).await;
        match both {
            Ok(Ok(permits)) => Ok(Place {
                _permits: Arc::new(permits),
            }),
            Ok(Err(_)) | Err(_) => Err(Status::unavailable(
                "Too many pages of lists are waiting to be taken by their clients; try again.",
            )),
        }
    }
}

/// The place of one page, given back with the last clone.
#[derive(Clone, Debug)]
pub struct Place {
    _permits: Arc<[OwnedSemaphorePermit; 2]>,
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    async fn fill(places: &Places) -> Vec<Place> {
        let mut taken = Vec::new();
        for _ in 0..PAGES_PER_CONNECTION_MAX {
            taken.push(places.take().await.expect("a place"));
        }
        taken
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_takes_nothing_leaves_places_to_others() {
        let first = Places::of_server();
        let mut taken = fill(&first).await;
        let mut waiting = Box::pin(first.take());
        assert!(waiting.as_mut().now_or_never().is_none());
        first.of_another_connection().take().await.expect("a place");
        taken.pop();
        assert!(waiting.now_or_never().is_some());
        let mut others = Vec::new();
        for _ in 1..PAGES_MAX / PAGES_PER_CONNECTION_MAX {
            others.push(fill(&first.of_another_connection()).await);
        }
        taken.push(first.take().await.expect("its last place"));
        let refused = first.of_another_connection().take().await;
        assert_eq!(refused.expect_err("none").code(), tonic::Code::Unavailable);
    }
}
