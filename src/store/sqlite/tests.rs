//! What only the SQLite backend does: it survives, it refuses foreign directories, it finds damage, it shrinks.

use std::{
    fs::{self, OpenOptions},
    io::{Seek as _, SeekFrom, Write as _},
    path::Path,
    slice,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::join_all;
use tempfile::{TempDir, tempdir};

use super::{
    DirectoryLock, LOG, OpenError, SqliteLog, SqliteState,
    database::{Database, PAGE_BYTES},
    directory::Directory,
    open, positions,
    reserve::Reserve,
};
use crate::{
    clock::{Clock, ManualClock, Timestamp},
    engine::change::PartitionChange,
    resource::{id::TopicIncarnation, name::SubscriptionName},
    store::{
        MessageLog, Positions as _, Resources as _, StateBackend as _, StoreError,
        batch::LogRecord,
        contract::{
            log::created,
            newer,
            positions::{acquire, change, chunk, one_subscription, retained},
            resources::{live_topic, subscribed},
        },
        log::TopicLog,
        positions::{Acquire, Flush, FlushOutcome},
    },
};

const TOPIC: TopicIncarnation = TopicIncarnation(7);
const OTHER: TopicIncarnation = TopicIncarnation(8);

fn clock() -> (Clock, ManualClock) {
    Clock::manual(Timestamp::from_millis(1_000_000))
}

async fn opened(path: &Path) -> (SqliteLog, SqliteState, DirectoryLock) {
    open(path, clock().0).await.expect("open")
}

/// A log without a tail buffer, so that every read goes to the file.
async fn log_without_tail(path: &Path, readers_max: u32) -> SqliteLog {
    drop(opened(path).await);
    let directory = loop {
        // The writer of the log that was just dropped lets go of the directory when it has ended.
        match Directory::open(path) {
            Err(OpenError::Held { .. }) => tokio::task::yield_now().await,
            directory => break directory.expect("directory"),
        }
    };
    let file = path.join(LOG.file);
    let reserve = Reserve::open(path).expect("reserve");
    let database = Database::open(&file, &LOG, false, readers_max, &reserve)
        .await
        .expect("log");
    SqliteLog::with_tail_bytes_max(database, directory.log_id, clock().0, directory.lock, 0)
}

async fn append(log: &SqliteLog, topic: &TopicLog, count: usize, bytes: usize) -> u64 {
    let messages = vec![Bytes::from(vec![b'm'; bytes]); count];
    log.append(topic, messages.into()).await.expect("append")[0].first
}

fn refusal<T>(result: Result<T, OpenError>) -> (OpenError, String) {
    match result {
        Ok(_) => panic!("opened"),
        Err(error) => {
            let text = error.to_string();
            (error, text)
        }
    }
}

/// As a crash leaves it: what was written to the files, nothing that a clean end would add.
fn copied(from: &Path) -> TempDir {
    let to = tempdir().expect("temporary directory");
    for entry in fs::read_dir(from).expect("directory") {
        let entry = entry.expect("entry");
        fs::copy(entry.path(), to.path().join(entry.file_name())).expect("copy");
    }
    to
}

#[tokio::test]
async fn every_answered_write_survives_a_crash() {
    let directory = tempdir().expect("temporary directory");
    let (log, state, _lock) = opened(directory.path()).await;
    let topic = created(&log, TOPIC).await;
    append(&log, &topic, 3, 10).await;
    let id = one_subscription(&state).await;
    let epoch = acquire(&state, id).await;
    let flush = Flush {
        subscription: id,
        epoch: epoch.epoch,
        changes: vec![change(77, vec![], vec![])],
    };
    let outcomes = state.flush(&[flush]).await.expect("flush");
    assert_eq!(outcomes, [FlushOutcome::Stored]);

    let crashed = copied(directory.path());
    let (log, state_after, _lock) = opened(crashed.path()).await;
    let batch = log.read(&topic, 0, 0..9, 1000).await.expect("read");
    assert_eq!((batch.count(), batch.next), (3, 3));
    assert_eq!(append(&log, &topic, 1, 10).await, 3);
    let owner = acquire(&state_after, id).await;
    assert!(owner.epoch > epoch.epoch);
    assert_eq!(owner.partitions[0].cursor, 77);
    assert_eq!(state_after.ack_key(), state.ack_key());
}

#[tokio::test]
async fn offsets_and_times_go_on_after_everything_was_trimmed_and_the_process_restarted() {
    let directory = tempdir().expect("temporary directory");
    let (clock, hand) = clock();
    let (log, state, lock) = open(directory.path(), clock).await.expect("open");
    let topic = created(&log, TOPIC).await;
    hand.advance(Duration::from_mins(1));
    append(&log, &topic, 5, 10).await;
    let trimmed = log.trim(&topic, 0, slice::from_ref(&(0..5))).await;
    assert_eq!(trimmed.expect("trim"), None);
    log.close().await;
    state.close().await;
    drop((log, state, lock));

    // This clock is a minute behind the one that the batch was written by.
    let (log, _state, _lock) = opened(directory.path()).await;
    let runs = log
        .append(&topic, vec![Bytes::from_static(b"m")].into())
        .await;
    let run = runs.expect("append")[0];
    assert_eq!(run.first, 5);
    assert_eq!(run.publish_time, Timestamp::from_millis(1_060_000));
    // Only where a time would go back does it stand still.
    let other = created(&log, OTHER).await;
    let runs = log
        .append(&other, vec![Bytes::from_static(b"m")].into())
        .await;
    let publish_time = runs.expect("append")[0].publish_time;
    assert_eq!(publish_time, Timestamp::from_millis(1_000_000));
}

#[tokio::test]
async fn a_deleted_subscription_leaves_no_row() {
    let directory = tempdir().expect("temporary directory");
    let (_log, state, _lock) = opened(directory.path()).await;
    let id = one_subscription(&state).await;
    let epoch = acquire(&state, id).await.epoch;
    let rows = PartitionChange {
        retain: vec![retained(3, 50, b"three")],
        ..change(5, vec![chunk(0, 0, b"x")], vec![])
    };
    let flush = Flush {
        subscription: id,
        epoch,
        changes: vec![rows],
    };
    state.flush(&[flush]).await.expect("flush");
    let name = SubscriptionName::parse("name", "projects/p/subscriptions/sub").expect("valid");
    let deleted = state.delete_subscription(&name).await;
    assert_eq!(deleted.expect("deleted"), Some(id));
    for table in ["owners", "positions", "chunks", "retained", "leftovers"] {
        let count = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
        let count: i64 = sqlx::query_scalar(count)
            .fetch_one(state.database.readers())
            .await
            .expect("count");
        assert_eq!(count, 0, "{table}");
    }
}

#[tokio::test]
async fn a_subscription_that_is_deleted_while_it_is_taken_over_is_gone_and_not_damaged() {
    let directory = tempdir().expect("temporary directory");
    let (_log, state, _lock) = opened(directory.path()).await;
    let id = one_subscription(&state).await;
    let epoch = acquire(&state, id).await.epoch;
    let name = SubscriptionName::parse("name", "projects/p/subscriptions/sub").expect("valid");
    state.delete_subscription(&name).await.expect("deleted");
    // What a take-over does once it has raised the epoch.
    let found = positions::acquired(&state.database, id, epoch).await;
    assert!(matches!(found, Ok(Acquire::Gone)), "{found:?}");
}

#[tokio::test]
async fn a_position_that_is_missing_under_its_subscription_is_damage() {
    let directory = tempdir().expect("temporary directory");
    let (_log, state, _lock) = opened(directory.path()).await;
    let id = one_subscription(&state).await;
    run(&state, "DELETE FROM positions").await;
    let found = state.acquire(id).await;
    assert!(matches!(found, Err(StoreError::Damaged(_))), "{found:?}");
}

async fn run(state: &SqliteState, statements: &str) {
    let mut writer = state.database.writer().await.expect("writer");
    let statements = sqlx::AssertSqlSafe(statements.to_owned());
    let done = sqlx::raw_sql(statements).execute(&mut *writer).await;
    done.expect("executed");
}

#[tokio::test]
async fn settings_of_a_newer_release() {
    let directory = tempdir().expect("temporary directory");
    let (_log, state, _lock) = opened(directory.path()).await;
    newer::settings_of_a_newer_release_are_left_to_it(&state, async |sql| run(&state, sql).await)
        .await;
}

#[tokio::test]
async fn rows_that_cannot_be_read() {
    let directory = tempdir().expect("temporary directory");
    let (_log, state, _lock) = opened(directory.path()).await;
    newer::a_row_that_cannot_be_read_fails_no_list(&state, async |sql| run(&state, sql).await)
        .await;
}

#[tokio::test]
async fn incarnations_are_not_used_again_after_a_restart() {
    let directory = tempdir().expect("temporary directory");
    let (log, state, lock) = opened(directory.path()).await;
    let first = live_topic(&state, "projects/p/topics/top").await;
    state.delete_topic(&first).await.expect("delete");
    let forgotten = state.forget_topic(first.log.incarnation).await;
    forgotten.expect("forget");
    log.close().await;
    state.close().await;
    drop((log, state, lock));
    let (_log, state, _lock) = opened(directory.path()).await;
    let second = live_topic(&state, "projects/p/topics/top").await;
    assert!(second.log.incarnation > first.log.incarnation);
}

#[tokio::test]
async fn the_writers_sync_every_commit() {
    let directory = tempdir().expect("temporary directory");
    let (log, state, _lock) = opened(directory.path()).await;
    for settings in [log.writer_settings().await, state.writer_settings().await] {
        let settings = settings.expect("settings");
        assert_eq!(settings.synchronous, 2, "2 is FULL");
        assert_eq!(settings.journal_mode, "wal");
        assert_eq!(settings.page_size, 16 * 1024);
        assert_eq!(settings.auto_vacuum, 2, "2 is INCREMENTAL");
    }
}

#[tokio::test]
async fn a_second_process_is_told_who_holds_the_directory() {
    let directory = tempdir().expect("temporary directory");
    let (log, state, lock) = opened(directory.path()).await;
    lock.set_address("127.0.0.1:8085").expect("address");
    let (error, text) = refusal(open(directory.path(), clock().0).await);
    assert!(matches!(error, OpenError::Held { .. }));
    let process = format!("process {}", std::process::id());
    assert!(
        text.contains(&process) && text.contains("127.0.0.1:8085"),
        "{text}"
    );
    log.close().await;
    state.close().await;
    drop((log, state, lock));
    opened(directory.path()).await;
}

#[tokio::test]
async fn a_directory_with_other_files_is_refused_and_left_alone() {
    let directory = tempdir().expect("temporary directory");
    fs::write(directory.path().join("thesis.txt"), "mine").expect("write");
    let (error, text) = refusal(open(directory.path(), clock().0).await);
    assert!(matches!(error, OpenError::NotOurs { .. }), "{text}");
    let entries = fs::read_dir(directory.path()).expect("directory");
    assert_eq!(entries.count(), 1);
}

#[tokio::test]
async fn a_first_start_that_did_not_finish_is_done_again() {
    let directory = tempdir().expect("temporary directory");
    let (log, state, lock) = opened(directory.path()).await;
    log.close().await;
    state.close().await;
    drop((log, state, lock));
    let marker = directory.path().join("PACKETBOAT");
    let text = fs::read_to_string(&marker).expect("marker");
    fs::write(&marker, text.replace("ready", "creating")).expect("write");
    fs::write(directory.path().join("log.db"), "half").expect("write");
    fs::remove_file(directory.path().join("state.db")).expect("remove");
    let (log, ..) = opened(directory.path()).await;
    created(&log, TOPIC).await;
    // Before the marker there is at most the lock and the marker's draft.
    let directory = tempdir().expect("temporary directory");
    fs::write(directory.path().join("LOCK"), "").expect("write");
    fs::write(directory.path().join("PACKETBOAT.new"), "for").expect("write");
    opened(directory.path()).await;
}

/// Does something to the first directory, maybe with files of the second.
type Harm = fn(&Path, &Path);

#[tokio::test]
async fn missing_truncated_foreign_newer_and_mixed_files_are_refused_with_what_to_do() {
    let directory = tempdir().expect("temporary directory");
    let (log, state, lock) = opened(directory.path()).await;
    log.close().await;
    state.close().await;
    drop((log, state, lock));
    let other = tempdir().expect("temporary directory");
    let (log, state, lock) = opened(other.path()).await;
    log.close().await;
    state.close().await;
    drop((log, state, lock));

    let harms: [(&str, Harm); 9] = [
        ("is missing", |path, _| {
            fs::remove_file(path.join("log.db")).expect("remove");
        }),
        ("is missing", |path, _| {
            fs::remove_file(path.join("state.db")).expect("remove");
        }),
        ("cannot be read", |path, _| {
            fs::write(path.join("log.db"), "").expect("write");
        }),
        ("truncated", |path, _| {
            let file = OpenOptions::new().write(true).open(path.join("state.db"));
            file.expect("open").set_len(16 * 1024).expect("truncate");
        }),
        ("not an SQLite file", |path, _| {
            fs::write(path.join("state.db"), [b'x'; 9000]).expect("write");
        }),
        ("another program", |path, _| {
            fs::copy(path.join("log.db"), path.join("state.db")).expect("copy");
        }),
        ("belongs to the log", |path, other| {
            fs::copy(other.join("state.db"), path.join("state.db")).expect("copy");
        }),
        ("newer version", |path, _| {
            fs::write(path.join("PACKETBOAT"), "format = 2\n").expect("write");
        }),
        ("newer version", |path, _| {
            let file = OpenOptions::new().write(true).open(path.join("log.db"));
            let mut file = file.expect("open");
            file.seek(SeekFrom::Start(60)).expect("seek");
            file.write_all(&99_u32.to_be_bytes()).expect("write");
        }),
    ];
    for (expected, harm) in harms {
        let harmed = copied(directory.path());
        harm(harmed.path(), other.path());
        let before = contents(harmed.path());
        let (_, text) = refusal(open(harmed.path(), clock().0).await);
        assert!(text.contains(expected), "{expected}: {text}");
        let advice = ["restore", "run that version", "put back"];
        assert!(advice.iter().any(|advice| text.contains(advice)), "{text}");
        assert_eq!(contents(harmed.path()), before, "changed after {text}");
    }
}

/// Names, sizes and checksums of the files that hold data.
fn contents(path: &Path) -> Vec<(&'static str, Option<(usize, u32)>)> {
    let digest = |bytes: Vec<u8>| (bytes.len(), crc32fast::hash(&bytes));
    ["PACKETBOAT", "log.db", "state.db"]
        .map(|name| (name, fs::read(path.join(name)).ok().map(digest)))
        .to_vec()
}

#[tokio::test]
async fn a_damaged_batch_fails_its_reads_only_and_can_be_skipped() {
    let directory = tempdir().expect("temporary directory");
    let log = log_without_tail(directory.path(), 2).await;
    let topic = created(&log, TOPIC).await;
    for _ in 0..3 {
        append(&log, &topic, 2, 100).await;
    }
    sqlx::query("UPDATE batches SET body = zeroblob(208) WHERE base = 2")
        .execute(&mut *log.database.lock_writer().await.expect("writer"))
        .await
        .expect("update");
    let batch = log.read(&topic, 0, 0..9, 10_000).await.expect("read");
    assert_eq!((batch.count(), batch.next), (2, 2));
    let error = log
        .read(&topic, 0, 2..9, 10_000)
        .await
        .expect_err("damaged");
    let text = error.to_string();
    assert!(matches!(error, StoreError::Damaged(_)), "{text}");
    assert!(
        text.contains("log.db") && text.contains("incarnation 7") && text.contains("offset 2"),
        "{text}"
    );
    let next = log.skip_damage(&topic, 0, 2).await.expect("skip");
    assert_eq!(next, 4);
    let batch = log.read(&topic, 0, next..9, 10_000).await.expect("read");
    assert_eq!((batch.count(), batch.next), (2, 6));
    assert_eq!(append(&log, &topic, 1, 10).await, 6);
}

#[tokio::test]
async fn a_damaged_page_fails_its_reads_only_and_can_be_skipped() {
    let directory = tempdir().expect("temporary directory");
    let log = log_without_tail(directory.path(), 2).await;
    let topic = created(&log, TOPIC).await;
    let other = created(&log, OTHER).await;
    for fill in [b'm', b'x', b'm', b'm'] {
        // Larger than half a page, so that each row has a page of its own.
        let message = vec![Bytes::from(vec![fill; 12_000])];
        log.append(&topic, message.into()).await.expect("append");
        append(&log, &other, 1, 12_000).await;
    }
    log.close().await;
    drop(log);
    let path = directory.path().join("log.db");
    let bytes = fs::read(&path).expect("read");
    let page = bytes
        .chunks(16 * 1024)
        .position(|page| {
            page.windows(9000)
                .any(|run| run.iter().all(|byte| *byte == b'x'))
        })
        .expect("a page with the row");
    let mut file = OpenOptions::new().write(true).open(&path).expect("open");
    file.seek(SeekFrom::Start(page as u64 * 16 * 1024))
        .expect("seek");
    file.write_all(&[0xff; 16 * 1024]).expect("write");
    drop(file);

    let (log, _state, _lock) = opened(directory.path()).await;
    let whole = log.read(&other, 0, 0..9, 1 << 20).await.expect("read");
    assert_eq!(whole.next, 4);
    let first = log.read(&topic, 0, 0..9, 1 << 20).await.expect("read");
    assert_eq!(first.next, 1);
    let error = log
        .read(&topic, 0, 1..9, 1 << 20)
        .await
        .expect_err("damaged");
    assert!(matches!(error, StoreError::Damaged(_)), "{error}");
    assert!(error.to_string().contains("log.db"), "{error}");
    let next = log.skip_damage(&topic, 0, 1).await.expect("skip");
    assert_eq!(next, 2);
    let rest = log.read(&topic, 0, next..9, 1 << 20).await.expect("read");
    assert_eq!((rest.count(), rest.next), (2, 4));
    assert_eq!(append(&log, &topic, 1, 10).await, 4);
}

#[tokio::test]
async fn the_file_shrinks_after_what_is_in_it_was_trimmed() {
    let directory = tempdir().expect("temporary directory");
    let (log, state, lock) = opened(directory.path()).await;
    let topic = created(&log, TOPIC).await;
    for _ in 0..100 {
        append(&log, &topic, 1000, 1024).await;
    }
    while log
        .trim(&topic, 0, slice::from_ref(&(0..99_000)))
        .await
        .expect("trim")
        .is_some()
    {}
    let file = directory.path().join("log.db");
    let free_bytes_max = 34 << 20;
    let shrunk = async {
        loop {
            log.database.checkpoint().await.expect("checkpoint");
            let bytes = fs::metadata(&file).expect("file").len();
            if bytes < free_bytes_max {
                break;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), shrunk)
        .await
        .expect("the file is still large");
    let batch = log.read(&topic, 0, 0..100_000, 1).await.expect("read");
    let offsets: Vec<_> = batch.records().map(LogRecord::offset).collect();
    assert_eq!(offsets, [99_000]);
    log.delete(&topic).await.expect("delete");
    log.close().await;
    state.close().await;
    drop(lock);
}

#[tokio::test]
async fn reads_from_the_file_are_like_those_from_the_tail() {
    let directory = tempdir().expect("temporary directory");
    let log = log_without_tail(directory.path(), 2).await;
    let topic = created(&log, TOPIC).await;
    for _ in 0..4 {
        append(&log, &topic, 3, 100).await;
    }
    let trimmed = log.trim(&topic, 0, slice::from_ref(&(3..6))).await;
    assert_eq!(trimmed.expect("trim"), None);
    let read = async |range, bytes_max| {
        let batch = log.read(&topic, 0, range, bytes_max).await.expect("read");
        let offsets: Vec<u64> = batch.records().map(LogRecord::offset).collect();
        (offsets, batch.next)
    };
    assert_eq!(read(1..8, 10_000).await, (vec![1, 2, 6, 7], 8));
    assert_eq!(read(3..6, 10_000).await, (vec![], 6));
    assert_eq!(read(4..99, 200).await, (vec![6, 7], 8));
    assert_eq!(read(11..u64::MAX, 1).await, (vec![11], 12));
    assert_eq!(read(12..99, 1).await, (vec![], 12));
}

#[tokio::test]
async fn searching_a_time_or_holes_costs_little_however_much_is_there() {
    const BATCHES: i64 = 20_000;
    let directory = tempdir().expect("temporary directory");
    let log = log_without_tail(directory.path(), 1).await;
    let topic = created(&log, TOPIC).await;
    let mut writer = log.database.writer().await.expect("writer");
    sqlx::query(
        "WITH RECURSIVE numbers (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < ?2)
        INSERT INTO batches (topic, partition, base, count, publish_time, bytes, crc32, body)
        SELECT ?1, 0, n, 1, n, 4, 0, x'00000000' FROM numbers",
    )
    .bind(TOPIC.0.cast_signed())
    .bind(BATCHES)
    .execute(&mut *writer)
    .await
    .expect("batches");
    drop(writer);
    let steps = Arc::new(AtomicU64::new(0));
    let mut reader = log.database.readers().acquire().await.expect("reader");
    let counted = Arc::clone(&steps);
    reader
        .lock_handle()
        .await
        .expect("handle")
        .set_progress_handler(1, move || {
            counted.fetch_add(1, Ordering::Relaxed);
            true
        });
    drop(reader);
    let time = Timestamp::from_millis(15_000);
    let found = log.offset_at(&topic, 0, time).await.expect("offset");
    assert_eq!(found, 15_000);
    let search = steps.swap(0, Ordering::Relaxed);
    assert!((100..5_000).contains(&search), "{search} steps");

    let holes: Vec<_> = (0..1000).map(|hole| 20 * hole + 1..20 * hole + 1).collect();
    let next = log.trim(&topic, 0, &holes).await.expect("trim");
    assert_eq!(next, None);
    let search = steps.swap(0, Ordering::Relaxed);
    assert!((1_000..60_000).contains(&search), "{search} steps");
}

#[tokio::test]
async fn take_overs_that_come_together_share_commits_and_not_epochs() {
    const SUBSCRIPTIONS: usize = 200;
    let directory = tempdir().expect("temporary directory");
    let (log, state, lock) = opened(directory.path()).await;
    let topic = live_topic(&state, "projects/p/topics/top").await;
    let mut ids = Vec::new();
    for number in 0..SUBSCRIPTIONS {
        let name = format!("projects/p/subscriptions/sub-{number}");
        ids.push(subscribed(&state, &name, &topic).await.id);
    }
    // Two of the same.
    ids.push(ids[0]);
    state.database.checkpoint().await.expect("checkpoint");
    assert_eq!(state.database.checkpoints.wal_bytes(), 0);
    let busy = state.database.writer().await.expect("writer");
    let all = join_all(ids.iter().map(|id| acquire(&state, *id)));
    let (acquired, ()) = tokio::join!(all, async {
        while state.epochs.waiting() < ids.len() {
            tokio::task::yield_now().await;
        }
        drop(busy);
    });
    let epochs: Vec<_> = acquired.iter().map(|acquired| acquired.epoch).collect();
    let mut expected = vec![1; SUBSCRIPTIONS];
    expected.push(2);
    assert_eq!(epochs, expected);
    let wal_bytes = state.database.checkpoints.wal_bytes();
    let commits_max = 10 * u64::from(PAGE_BYTES);
    assert!((1..commits_max).contains(&wal_bytes), "{wal_bytes}");
    log.close().await;
    state.close().await;
    drop(lock);
}
