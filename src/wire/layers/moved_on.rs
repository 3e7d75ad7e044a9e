//! Work that takes its time on a thread whose other tasks have moved on to another one.

use std::{future::poll_fn, pin::pin};

use tokio::{
    runtime::{Handle, RuntimeFlavor},
    task::block_in_place,
};

/// Does `work` so.
pub fn now<T>(work: impl FnOnce() -> T) -> T {
    if has_other_threads() {
        block_in_place(work)
    } else {
        work()
    }
}

/// Does whatever `work` does between its waits so.
pub async fn throughout<F: Future>(work: F) -> F::Output {
    let mut work = pin!(work);
    poll_fn(|context| now(|| work.as_mut().poll(context))).await
}

/// Whether the other tasks of this thread can go on elsewhere meanwhile.
fn has_other_threads() -> bool {
    let runtime = Handle::try_current();
    runtime.is_ok_and(|runtime| runtime.runtime_flavor() == RuntimeFlavor::MultiThread)
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, time::Duration};

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn other_tasks_go_on_between_the_waits_of_a_future() {
        // On the one thread that there is for tasks.
        let working = tokio::spawn(throughout(async {
            for _ in 0..2 {
                let (ran, runs) = mpsc::channel();
                tokio::spawn(async move { ran.send(()) });
                let ran = runs.recv_timeout(Duration::from_secs(10));
                ran.expect("another task runs meanwhile");
                tokio::task::yield_now().await;
            }
        }));
        working.await.expect("it does not wait in vain");
    }
}
