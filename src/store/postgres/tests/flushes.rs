//! Flushes beside a transaction that has rows locked.

use std::time::Duration;

use bytes::Bytes;
use sqlx::Connection as _;
use tokio::time::Instant;

use super::{
    database::{TestDatabase, run},
    ownership::{cursor, flush, take_over},
};
use crate::{
    engine::change::StoredChunk,
    resource::id::SubscriptionId,
    store::{
        Positions as _,
        contract::{
            positions::{acquire, change, one_subscription},
            resources::{live_topic, subscribed},
        },
        positions::{Flush, FlushOutcome},
    },
};

fn entry(subscription: SubscriptionId, epoch: u64, cursor: u64) -> Flush {
    Flush {
        subscription,
        epoch,
        changes: vec![change(cursor, vec![], vec![])],
    }
}

#[tokio::test]
async fn a_row_that_somebody_holds_is_left_out_and_fails_nobody_else() {
    let database = TestDatabase::new().await;
    let node = database.open("node").await;
    let topic = live_topic(&node, "projects/p/topics/top").await;
    let one = subscribed(&node, "projects/p/subscriptions/one", &topic)
        .await
        .id;
    let two = subscribed(&node, "projects/p/subscriptions/two", &topic)
        .await
        .id;
    let first = acquire(&node, one).await.epoch;
    let second = acquire(&node, two).await.epoch;
    let mut other = database.connect().await;
    let hold = format!(
        "BEGIN; SELECT 1 FROM owners WHERE subscription = {} FOR UPDATE",
        one.0
    );
    run(&mut other, &hold).await;
    let flushes = [
        entry(one, first, 50),
        entry(two, second, 60),
        entry(SubscriptionId(999), 1, 70),
    ];
    let started = Instant::now();
    let outcomes = node.flush(&flushes).await.expect("flush");
    assert!(started.elapsed() < Duration::from_millis(500));
    let expected = [FlushOutcome::Busy, FlushOutcome::Stored, FlushOutcome::Gone];
    assert_eq!(outcomes, expected);
    assert_eq!(cursor(&node, one).await, 5);
    assert_eq!(cursor(&node, two).await, 60);
    run(&mut other, "ROLLBACK").await;
    assert_eq!(flush(&node, one, first, 50).await, FlushOutcome::Stored);
}

#[tokio::test]
async fn a_take_over_sees_the_flush_that_it_waited_for() {
    let database = TestDatabase::new().await;
    let node = database.open("node").await;
    let id = one_subscription(&node).await;
    let mut other = database.connect().await;
    let write = format!(
        "BEGIN; SELECT 1 FROM owners WHERE subscription = {0} FOR UPDATE;
        UPDATE positions SET cursor = 300 WHERE subscription = {0};
        INSERT INTO chunks VALUES ({0}, 0, 1, 2, 0, 'x')",
        id.0
    );
    run(&mut other, &write).await;
    let acquiring = acquire(&node, id);
    tokio::pin!(acquiring);
    let early = tokio::time::timeout(Duration::from_millis(200), &mut acquiring).await;
    assert!(early.is_err());
    run(&mut other, "COMMIT").await;
    let state = acquiring.await.partitions.remove(0);
    assert_eq!(state.cursor, 300);
    let chunk = StoredChunk {
        index: 2,
        done_after: 0,
        body: Bytes::from_static(b"x"),
    };
    assert_eq!(state.chunks, [chunk]);
}

#[tokio::test]
async fn a_process_frozen_between_its_locks_and_its_commit_holds_nobody_up_for_long() {
    let database = TestDatabase::new().await;
    let frozen = database.open("frozen").await;
    let id = one_subscription(&frozen).await;
    let epoch = acquire(&frozen, id).await.epoch;
    let mut link = frozen.flushes.lock().await.expect("connection");
    let mut transaction = link.begin().await.expect("begin");
    let write = format!(
        "SELECT 1 FROM owners WHERE subscription = {0} FOR UPDATE;
        UPDATE positions SET cursor = 300 WHERE subscription = {0}",
        id.0
    );
    run(&mut transaction, &write).await;
    // Its row is another process's, which therefore need not wait for its lease.
    let other = database.open("frozen").await;
    let (newer, took) = take_over(&other, id).await;
    assert!(newer > epoch);
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert!(transaction.commit().await.is_err());
    drop(link);
    assert_eq!(cursor(&other, id).await, 5);
    assert_eq!(flush(&frozen, id, epoch, 300).await, FlushOutcome::Stale);
}
