//! Changes that span more than one step.

use std::{future::Future, panic};

/// Runs `change` to its end even when the caller goes away in the middle: a request that its client cancels must
/// not leave a topic without its log, or a driver or cache that does not know of a change. What a crash interrupts is
/// finished at the next start.
pub(super) async fn to_the_end<T: Send + 'static>(
    change: impl Future<Output = T> + Send + 'static,
) -> T {
    match tokio::spawn(change).await {
        Ok(answer) => answer,
        // Nobody aborts the task, so this is a panic, or the runtime's end, in which nobody is left to answer.
        Err(error) => match error.try_into_panic() {
            Ok(panic) => panic::resume_unwind(panic),
            Err(_) => std::future::pending().await,
        },
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn a_change_whose_caller_goes_away_is_still_made() {
        let (go, gone) = oneshot::channel::<()>();
        let (made, answer) = oneshot::channel();
        let call = to_the_end(async move {
            let _ = gone.await;
            let _ = made.send("made");
        });
        let given_up = tokio::time::timeout(Duration::ZERO, call).await;
        assert!(given_up.is_err());
        drop(go);
        assert_eq!(answer.await, Ok("made"));
    }
}
