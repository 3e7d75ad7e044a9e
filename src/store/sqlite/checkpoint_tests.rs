//! That checkpoints go on beside the writer, and that the write-ahead log stays bounded, whatever is in the way.

use std::{
    io::{self, Write},
    path::Path,
    sync::Arc,
    time::Duration,
};

use futures_util::future::join_all;
use parking_lot::Mutex;
use sqlx::Connection as _;
use tempfile::tempdir;
use tokio::time::{sleep, timeout};
use tracing::subscriber::DefaultGuard;

use super::{LOG, checkpoints::Progress, database::Database, reserve::Reserve};

const MIB: u64 = 1024 * 1024;
/// A quarter of it is for the write-ahead log.
const RESERVE_BYTES: u64 = 16 * MIB;
const WAL_BYTES_MAX: u64 = RESERVE_BYTES / 4;

async fn database(directory: &Path, reserve_bytes: u64) -> Database {
    let reserve = Reserve::of_bytes(directory, reserve_bytes).expect("reserve");
    let path = directory.join(LOG.file);
    let opened = Database::open(&path, &LOG, true, 2, &Arc::new(reserve)).await;
    opened.expect("opened")
}

/// Commits a row of so many bytes.
async fn write(database: &Database, bytes: u64) {
    let mut writer = database.writer().await.expect("writer");
    sqlx::query(
        "INSERT INTO batches (topic, partition, base, count, publish_time, bytes, crc32, body)
        SELECT 1, 0, count(*), 1, 1, ?1, 0, zeroblob(?1) FROM batches",
    )
    .bind(bytes.cast_signed())
    .execute(&mut *writer)
    .await
    .expect("written");
}

async fn progress(database: &Database) -> Progress {
    let mut turn = database.checkpoints.turn().await;
    turn.progress().await.expect("progress")
}

/// Waits for what the checkpointer does.
async fn eventually<T>(what: &str, check: impl AsyncFn() -> Option<T>) -> T {
    let checked = async {
        loop {
            if let Some(found) = check().await {
                return found;
            }
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(Duration::from_mins(1), checked).await.expect(what)
}

/// What is logged on this thread.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    fn capture() -> (Self, DefaultGuard) {
        let lines = Self::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone());
        let guard = tracing::subscriber::set_default(subscriber.finish());
        (lines, guard)
    }

    fn count(&self, text: &str) -> usize {
        String::from_utf8_lossy(&self.0.lock())
            .matches(text)
            .count()
    }
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn commits_do_no_checkpoints_and_start_a_log_anew_that_was_moved_beside_them() {
    let directory = tempdir().expect("temporary directory");
    let database = database(directory.path(), 128 * MIB).await;
    let mut turn = database.checkpoints.turn().await;
    let before = turn.progress().await.expect("progress");
    for _ in 0..20 {
        write(&database, MIB).await;
    }
    let after = turn.progress().await.expect("progress");
    assert!(
        after.written > before.written + 20 * 64,
        "{before:?} {after:?}"
    );
    assert_eq!(after.moved, before.moved);
    drop(turn);

    eventually("everything is moved", async || {
        (progress(&database).await.left() == 0).then_some(())
    })
    .await;
    write(&database, 1).await;
    let anew = progress(&database).await;
    assert!(anew.written < 10, "{anew:?}");
    database.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_ahead_log_stays_below_its_bound_under_load() {
    const BYTES: u64 = MIB / 4;
    let directory = tempdir().expect("temporary directory");
    let database = database(directory.path(), RESERVE_BYTES).await;
    let writing = async || {
        let mut most = 0;
        for _ in 0..100 {
            write(&database, BYTES).await;
            most = most.max(database.checkpoints.wal_bytes());
        }
        most
    };
    let most = join_all([writing(), writing()]).await;
    // Each of them may have seen it just below.
    let bytes_max = WAL_BYTES_MAX + 2 * (BYTES + BYTES / 4);
    assert!(most.iter().all(|most| *most < bytes_max), "{most:?}");
    database.close().await;
}

#[tokio::test]
async fn the_file_of_a_write_ahead_log_shrinks_once_less_is_written() {
    let directory = tempdir().expect("temporary directory");
    let database = database(directory.path(), 128 * MIB).await;
    let turn = database.checkpoints.turn().await;
    for _ in 0..20 {
        write(&database, MIB).await;
    }
    drop(turn);
    assert!(database.checkpoints.wal_bytes() > 20 * MIB);

    eventually("the file is small", async || {
        write(&database, MIB / 64).await;
        // At most 5 MiB per second, with what comes with a row.
        sleep(Duration::from_millis(10)).await;
        (database.checkpoints.wal_bytes() < 16 * MIB).then_some(())
    })
    .await;
    database.close().await;
}

#[tokio::test]
async fn a_reader_that_does_not_let_go_delays_writes_and_is_told_of_once() {
    let (lines, _guard) = Lines::capture();
    let directory = tempdir().expect("temporary directory");
    let database = database(directory.path(), RESERVE_BYTES).await;
    write(&database, 1).await;
    let mut reader = database.readers().acquire().await.expect("reader");
    let mut snapshot = reader.begin().await.expect("snapshot");
    let read = "SELECT count(*) FROM batches";
    let count: i64 = sqlx::query_scalar(read)
        .fetch_one(&mut *snapshot)
        .await
        .expect("read");
    assert_eq!(count, 1);
    while database.checkpoints.wal_bytes() < 2 * WAL_BYTES_MAX {
        write(&database, MIB / 4).await;
    }
    assert_eq!(lines.count("does not let go"), 1);
    drop(snapshot);
    drop(reader);

    eventually("the log is small again", async || {
        write(&database, MIB / 4).await;
        (database.checkpoints.wal_bytes() <= WAL_BYTES_MAX).then_some(())
    })
    .await;
    eventually("that is told", async || {
        write(&database, MIB / 4).await;
        (lines.count("was started anew again") == 1).then_some(())
    })
    .await;
    assert_eq!(lines.count("does not let go"), 1);
    database.close().await;
}

#[tokio::test]
async fn the_checkpointer_goes_on_after_errors_and_tells_of_the_first() {
    let (lines, _guard) = Lines::capture();
    let directory = tempdir().expect("temporary directory");
    let database = database(directory.path(), RESERVE_BYTES).await;
    let read_only = async |is: bool| {
        let mut turn = database.checkpoints.turn().await;
        turn.state.options = turn.state.options.clone().read_only(is);
        turn.state.connection = None;
    };
    read_only(true).await;
    write(&database, 3 * MIB / 2).await;
    eventually("a failure", async || {
        (lines.count("cannot be moved") == 1).then_some(())
    })
    .await;
    for _ in 0..2 {
        let mut turn = database.checkpoints.turn().await;
        turn.copy().await.expect_err("the connection may only read");
    }
    assert_eq!(lines.count("cannot be moved"), 1);

    read_only(false).await;
    eventually("everything is moved", async || {
        (progress(&database).await.left() == 0).then_some(())
    })
    .await;
    database.close().await;
}

#[tokio::test]
async fn the_checkpointer_stops_at_once() {
    let directory = tempdir().expect("temporary directory");
    let database = database(directory.path(), RESERVE_BYTES).await;
    {
        // Every checkpoint fails, after which the next one would wait for a second.
        let mut turn = database.checkpoints.turn().await;
        turn.state.options = turn.state.options.clone().read_only(true);
        turn.state.connection = None;
    }
    let (lines, _guard) = Lines::capture();
    write(&database, 3 * MIB / 2).await;
    eventually("a failure", async || {
        (lines.count("cannot be moved") == 1).then_some(())
    })
    .await;
    timeout(Duration::from_millis(500), database.close())
        .await
        .expect("closed");
}
