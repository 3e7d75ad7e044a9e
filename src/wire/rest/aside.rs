//! Where JSON is read and written: between other requests, or, as soon as that takes its time, beside their threads.

use tokio::task::spawn_blocking;

use super::error::Failure;
use crate::{limits::JSON_BYTES_AT_ONCE_MAX, wire::layers::budget::Held};

/// Reads or writes so many bytes of JSON: many small parts take their time, which is not to be that of other requests.
pub(super) async fn run<T: Send + 'static>(
    held: &Held,
    bytes: usize,
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    if bytes <= JSON_BYTES_AT_ONCE_MAX {
        return work();
    }
    let turn = held.turn(bytes).await?;
    let done = spawn_blocking(move || {
        // Also when the client has gone away meanwhile.
        let _turn = turn;
        work()
    });
    done.await.map_err(|error| Failure::internal(&error))?
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, time::Duration};

    use super::*;
    use crate::wire::layers::budget::Budget;

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn other_requests_continue_while_json_is_read_that_is_not_small() {
        let held = Budget::new(0, usize::MAX).connection().request(0);
        let held = held.expect("nothing is counted");
        // On the one thread that there is for tasks.
        let reading = tokio::spawn(async move {
            let (ran, runs) = mpsc::channel();
            tokio::spawn(async move { ran.send(()) });
            let read = move || {
                let ran = runs.recv_timeout(Duration::from_secs(10));
                ran.map_err(|error| Failure::internal(&error))
            };
            run(&held, JSON_BYTES_AT_ONCE_MAX + 1, read).await
        });
        let read = reading.await.expect("it does not panic");
        read.expect("another task runs meanwhile");
    }
}
