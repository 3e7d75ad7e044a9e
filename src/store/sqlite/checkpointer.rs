//! The task that moves a file's write-ahead log into it while the writer goes on.
//!
//! SQLite's own way is that the commit after so many pages does it: a loaded writer then stood still for 100 ms and more.
//! Here pages are copied and synced beside the writer. It waits only for the last few of them, as nobody may write when
//! the log is started anew, and it waits for all of them only when the log is near its bound.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    checkpoints::{Checkpoints, Progress, Turn},
    database::PAGE_BYTES,
    writer::Writer,
};
use crate::limits::STORE_RETRY_MILLIS;

/// Bytes that are copied at once, unless an eighth of the write-ahead log's bound is less. They are also about what a
/// commit waits for whose sync comes behind theirs.
const COPY_BYTES: u64 = 4 * 1024 * 1024;
/// Rounds in which what is left to be copied shrinks before the writer has to wait for it.
const ROUNDS_MAX: u32 = 8;
/// How long to wait before it is checked again how much was written, if that is as much as is copied at once.
const PAUSE_MIN: Duration = Duration::from_millis(10);
/// So many times longer if less is written.
const PAUSES_MAX: u64 = 10;
/// How long a write-ahead log grows before it is started anew, if it has what is copied at once.
const RESTART_AFTER: Duration = Duration::from_secs(1);

/// Ends with its owner, after the checkpoint under way.
#[derive(Debug)]
pub(super) struct Checkpointer {
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Checkpointer {
    pub(super) fn start(checkpoints: Arc<Checkpoints>, writer: Arc<Writer>) -> Self {
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let task = Task::new(checkpoints, writer, stop.clone());
        tasks.spawn(task.run());
        tasks.close();
        Self { stop, tasks }
    }

    /// Returns when the checkpoint under way is done and no other one will come.
    pub(super) async fn stop(&self) {
        self.stop.cancel();
        self.tasks.wait().await;
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Its state, in pages.
struct Task {
    checkpoints: Arc<Checkpoints>,
    writer: Arc<Writer>,
    stop: CancellationToken,
    /// So many are copied at once.
    copy: u64,
    /// When so many are written, the log is to be started anew; where little is written, after [`RESTART_AFTER`].
    restart: u64,
    /// Not before so many are written, after an attempt that a reader was in the way of.
    not_before: u64,
    /// When the log began.
    began: Instant,
    /// So many before the log's bound, all are moved while the writer waits.
    margin: u64,
    /// As many as were written when it was last checked.
    seen: u64,
    /// The next pause, in the shortest ones.
    pauses: u32,
}

impl Task {
    fn new(checkpoints: Arc<Checkpoints>, writer: Arc<Writer>, stop: CancellationToken) -> Self {
        let bytes_max = checkpoints.bytes_max();
        let restart = pages(bytes_max / 2);
        Self {
            checkpoints,
            writer,
            stop,
            copy: pages(COPY_BYTES.min(bytes_max / 8)),
            restart,
            not_before: 0,
            began: Instant::now(),
            margin: pages(bytes_max / 4),
            seen: 0,
            pauses: 1,
        }
    }

    async fn run(mut self) {
        let stop = self.stop.clone();
        let mut is_done = true;
        loop {
            if is_done {
                let writer = Arc::clone(&self.writer);
                if stop.run_until_cancelled(writer.used()).await.is_none() {
                    return;
                }
            }
            let pause = if let Ok(done) = self.pass().await {
                is_done = done;
                PAUSE_MIN * self.pauses
            } else {
                is_done = false;
                Duration::from_millis(STORE_RETRY_MILLIS)
            };
            if stop.run_until_cancelled(sleep(pause)).await.is_none() {
                return;
            }
        }
    }

    /// Moves what there is. Whether nothing is left to do until something is written.
    async fn pass(&mut self) -> Result<bool, sqlx::Error> {
        let checkpoints = Arc::clone(&self.checkpoints);
        let mut turn = checkpoints.turn().await;
        let found = turn.progress().await?;
        if found.written < self.seen {
            turn.works();
            self.not_before = 0;
            self.began = Instant::now();
        }
        let mut progress = self.copy(&mut turn, found).await?;
        let written = progress.written.saturating_sub(self.seen).max(1);
        self.pauses = (self.copy / written).clamp(1, PAUSES_MAX) as u32;
        self.seen = progress.written;
        if self.stop.is_cancelled() {
            // Closing moves everything.
            return Ok(true);
        }
        if progress.written + self.margin >= pages(checkpoints.bytes_now()) {
            turn.empty().await?;
            self.not_before = progress.written;
        } else if self.is_to_restart(progress) {
            progress = turn.finish(self.file_bytes(progress)).await?;
            self.not_before = progress.written + self.copy;
        }
        Ok(progress.left() <= self.copy)
    }

    /// Whether the log is to be started anew, so that the file of a log into which little is written stays small.
    fn is_to_restart(&self, progress: Progress) -> bool {
        let least = if self.began.elapsed() >= RESTART_AFTER {
            self.copy
        } else {
            self.restart
        };
        progress.written >= least.max(self.not_before)
    }

    /// What the file of a log that is started anew may have. One that grew to where it is started anew keeps its room,
    /// as writing there costs less than making a file longer; one that is started anew for its age needs little more
    /// than what was written.
    fn file_bytes(&self, progress: Progress) -> u64 {
        if progress.written >= self.restart {
            self.checkpoints.bytes_max()
        } else {
            (progress.written + self.copy) * u64::from(PAGE_BYTES)
        }
    }

    /// Copies beside the writer, until little is left.
    async fn copy(
        &self,
        turn: &mut Turn<'_>,
        mut progress: Progress,
    ) -> Result<Progress, sqlx::Error> {
        for _ in 0..ROUNDS_MAX {
            let least = if self.is_to_restart(progress) {
                self.copy / 4
            } else {
                self.copy
            };
            if progress.left() <= least || self.stop.is_cancelled() {
                break;
            }
            let before = progress;
            progress = turn.copy().await?;
            if progress.moved == before.moved {
                // A reader is in the way.
                break;
            }
            if progress.left() > 0 {
                turn.sync().await?;
            }
        }
        Ok(progress)
    }
}

const fn pages(bytes: u64) -> u64 {
    bytes / PAGE_BYTES as u64
}
