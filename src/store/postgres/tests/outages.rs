//! The database away for a while.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::{
    database::{HASTY_LEASE, TestDatabase, hasty},
    ownership::{apply_everything, flush, take_over},
    proxy::Proxy,
};
use crate::{
    resource::name::TopicName,
    store::{
        Membership as _, Positions as _, Resources as _, StateBackend as _, StoreError,
        contract::positions::{acquire, change, one_subscription},
        positions::{Acquire, Flush, FlushOutcome},
    },
};

fn topic() -> TopicName {
    TopicName::parse("name", "projects/p/topics/top").expect("valid")
}

#[tokio::test]
async fn requests_fail_while_the_database_is_away_and_work_soon_after() {
    let database = TestDatabase::new().await;
    let proxy = Proxy::new(&database).await;
    let node = database.try_open(proxy.options(&database, "node")).await;
    let node = node.expect("open");
    let id = one_subscription(&node).await;
    let mut epoch = acquire(&node, id).await.epoch;
    for silent in [false, true] {
        if silent {
            proxy.silence();
        } else {
            proxy.cut();
        }
        let started = Instant::now();
        let read = node.topic(&topic()).await;
        assert!(matches!(read, Err(StoreError::Unavailable(_))), "{read:?}");
        let entry = Flush {
            subscription: id,
            epoch,
            changes: vec![change(9, vec![], vec![])],
        };
        let flushed = node.flush(&[entry]).await;
        let failed = matches!(
            flushed,
            Err(StoreError::Unavailable(_) | StoreError::Uncertain(_))
        );
        assert!(failed, "{flushed:?}");
        assert!(
            started.elapsed() < Duration::from_secs(10),
            "{:?}",
            started.elapsed()
        );
        proxy.mend();
        let mended = Instant::now();
        while node.topic(&topic()).await.is_err() {}
        let took = mended.elapsed();
        assert!(took < Duration::from_secs(2), "{took:?}");
        if !node.node_lease().holds() {
            // On a slow machine the outage was longer than the lease.
            apply_everything(&node).await;
            epoch = acquire(&node, id).await.epoch;
        }
        assert_eq!(flush(&node, id, epoch, 50).await, FlushOutcome::Stored);
    }
}

#[tokio::test]
async fn a_restarted_server_is_used_again_at_once() {
    let database = TestDatabase::new().await;
    let node = database.open("node").await;
    let id = one_subscription(&node).await;
    let epoch = acquire(&node, id).await.epoch;
    flush(&node, id, epoch, 9).await;
    // All connections end, as with a restart.
    database
        .run(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        .await;
    node.topic(&topic()).await.expect("get");
    let entry = Flush {
        subscription: id,
        epoch,
        changes: vec![change(50, vec![], vec![])],
    };
    // The connection that was closed may take one attempt with it.
    if let Err(error) = node.flush(std::slice::from_ref(&entry)).await {
        assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
        node.flush(&[entry]).await.expect("flush");
    }
    assert!(node.node_lease().holds());
}

#[tokio::test]
async fn a_lease_runs_out_by_itself_and_holds_again_when_everything_is_applied() {
    let database = TestDatabase::new().await;
    let proxy = Proxy::new(&database).await;
    let node = database
        .try_open(hasty(proxy.options(&database, "node")))
        .await;
    let node = node.expect("open");
    sleep(HASTY_LEASE * 2).await;
    assert!(node.node_lease().holds());
    let started = Instant::now();
    proxy.silence();
    timeout(HASTY_LEASE * 2, node.node_lease().lost())
        .await
        .expect("lost");
    assert!(started.elapsed() <= HASTY_LEASE, "{:?}", started.elapsed());
    proxy.mend();
    // The row is renewed long before, but nobody here has applied what it missed.
    sleep(HASTY_LEASE * 3).await;
    assert!(!node.node_lease().holds());
    apply_everything(&node).await;
    assert!(node.node_lease().holds());
}

#[tokio::test]
async fn after_the_database_was_away_for_all_nobody_takes_over_before_the_others_can_be_back() {
    let database = TestDatabase::new().await;
    let (first, second) = (Proxy::new(&database).await, Proxy::new(&database).await);
    let one = database
        .try_open(hasty(first.options(&database, "one")))
        .await;
    let one = one.expect("open");
    let two = database
        .try_open(hasty(second.options(&database, "two")))
        .await;
    let two = two.expect("open");
    let id = one_subscription(&one).await;
    let epoch = acquire(&one, id).await.epoch;
    first.cut();
    second.cut();
    sleep(HASTY_LEASE * 2).await;
    // The second one is back first, and finds the first one's lease at its end.
    second.mend();
    apply_everything(&two).await;
    let owned = two.acquire(id).await.expect("acquire");
    assert!(matches!(owned, Acquire::OwnedBy(_)), "{owned:?}");
    first.mend();
    apply_everything(&one).await;
    // It has it again if it is the first that is asked for it.
    let again = acquire(&one, id).await.epoch;
    assert!(again > epoch);
    assert_eq!(flush(&one, id, again, 50).await, FlushOutcome::Stored);
    sleep(HASTY_LEASE * 2).await;
    let owned = two.acquire(id).await.expect("acquire");
    assert!(matches!(owned, Acquire::OwnedBy(_)), "{owned:?}");
    // One that stays away is replaced.
    first.cut();
    let (newer, _) = take_over(&two, id).await;
    assert!(newer > again);
}

#[tokio::test]
async fn a_closed_store_says_so() {
    let database = TestDatabase::new().await;
    let node = database.open("node").await;
    let id = one_subscription(&node).await;
    node.close().await;
    let closed = |error: StoreError| {
        let text = error.to_string();
        assert!(text.contains("the store is closed"), "{text}");
    };
    closed(node.topic(&topic()).await.expect_err("closed"));
    let entry = Flush {
        subscription: id,
        epoch: 1,
        changes: vec![],
    };
    closed(node.flush(&[entry]).await.expect_err("closed"));
    closed(node.applied(1).await.expect_err("closed"));
    assert!(!node.node_lease().holds());
}

#[tokio::test]
async fn a_node_that_stops_while_the_database_is_away_does_not_hang() {
    let database = TestDatabase::new().await;
    let proxy = Proxy::new(&database).await;
    let node = database.try_open(proxy.options(&database, "node")).await;
    let node = node.expect("open");
    proxy.silence();
    let started = Instant::now();
    node.close().await;
    assert!(started.elapsed() < Duration::from_millis(1500));
}
