//! Who delivers a subscription, among several nodes.

use std::time::Duration;

use sqlx::Connection as _;
use tokio::time::{Instant, sleep, timeout};

use super::{
    super::PostgresState,
    database::{HASTY_LEASE, LOG, TestDatabase, hasty},
    proxy::Proxy,
};
use crate::{
    clock::{Clock, Timestamp},
    resource::id::SubscriptionId,
    store::{
        Membership as _, Positions as _, StateBackend as _, StoreError,
        contract::{
            State,
            positions::{acquire, change, one_subscription, position},
        },
        positions::{Acquire, Flush, FlushOutcome},
    },
};

/// Flushes a cursor under an epoch.
pub(super) async fn flush(
    state: &dyn State,
    subscription: SubscriptionId,
    epoch: u64,
    cursor: u64,
) -> FlushOutcome {
    let flush = Flush {
        subscription,
        epoch,
        changes: vec![change(cursor, vec![], vec![])],
    };
    state.flush(&[flush]).await.expect("flush")[0]
}

/// Tries until the subscription is taken over, and says how long that took.
pub(super) async fn take_over(state: &dyn State, id: SubscriptionId) -> (u64, Duration) {
    let started = Instant::now();
    loop {
        if let Acquire::Acquired(acquired) = state.acquire(id).await.expect("acquire") {
            return (acquired.epoch, started.elapsed());
        }
        assert!(
            started.elapsed() < Duration::from_secs(20),
            "not taken over"
        );
        sleep(Duration::from_millis(10)).await;
    }
}

fn owner(acquire: Acquire) -> String {
    match acquire {
        Acquire::OwnedBy(owner) => owner.to_string(),
        other => panic!("not owned: {other:?}"),
    }
}

/// How far a subscription's first partition is stored to have come.
pub(super) async fn cursor(state: &dyn State, subscription: SubscriptionId) -> u64 {
    let position = position(state, subscription).await;
    position.expect("a position").cursor
}

#[tokio::test]
async fn a_living_node_keeps_what_it_owns_and_is_named() {
    let database = TestDatabase::new().await;
    let one = database.open("one").await;
    let two = database.open("two").await;
    let id = one_subscription(&one).await;
    let epoch = acquire(&one, id).await.epoch;
    let other = owner(two.acquire(id).await.expect("acquire"));
    assert_eq!(other, "one at one.example:8085");
    assert_eq!(flush(&one, id, epoch, 9).await, FlushOutcome::Stored);
    // To itself it is no other.
    assert_eq!(acquire(&one, id).await.epoch, epoch + 1);
}

#[tokio::test]
async fn an_owner_is_found_while_its_row_is_locked() {
    let database = TestDatabase::new().await;
    let one = database.open("one").await;
    let two = database.open("two").await;
    let id = one_subscription(&one).await;
    assert_eq!(two.owner(id).await.expect("read"), None);
    let epoch = acquire(&one, id).await.epoch;
    let mut connection = database.connect().await;
    let mut transaction = connection.begin().await.expect("begun");
    let locked = sqlx::query("SELECT 1 FROM owners FOR UPDATE")
        .execute(&mut *transaction)
        .await;
    assert_eq!(locked.expect("locked").rows_affected(), 1);
    let owner = two.owner(id).await.expect("read").expect("is owned");
    assert_eq!(owner.to_string(), "one at one.example:8085");
    assert_eq!(one.owner(id).await.expect("read"), None, "it is no other");
    transaction.rollback().await.expect("rolled back");
    one.release(&[(id, epoch)]).await.expect("release");
    assert_eq!(two.owner(id).await.expect("read"), None);
}

#[tokio::test]
async fn what_is_given_up_is_free_at_once() {
    let database = TestDatabase::new().await;
    let one = database.open("one").await;
    let two = database.open("two").await;
    let id = one_subscription(&one).await;
    let epoch = acquire(&one, id).await.epoch;
    one.release(&[(id, epoch - 1)]).await.expect("release");
    owner(two.acquire(id).await.expect("acquire"));
    one.release(&[(id, epoch)]).await.expect("release");
    let newer = acquire(&two, id).await.epoch;
    assert!(newer > epoch);
    // Too late.
    one.release(&[(id, newer)]).await.expect("release");
    assert_eq!(flush(&two, id, newer, 9).await, FlushOutcome::Stored);
    assert_eq!(flush(&one, id, newer, 10).await, FlushOutcome::Stale);
}

#[tokio::test]
async fn what_a_stopped_node_owned_is_free_at_once() {
    let database = TestDatabase::new().await;
    let one = database.open("one").await;
    let two = database.open("two").await;
    let id = one_subscription(&one).await;
    acquire(&one, id).await;
    one.close().await;
    acquire(&two, id).await;
}

#[tokio::test]
async fn what_a_dead_node_owned_is_taken_over_when_its_lease_has_run_out() {
    let database = TestDatabase::new().await;
    let two = database.open_hasty("two").await;
    let one = database.open_hasty("one").await;
    let id = one_subscription(&one).await;
    let epoch = acquire(&one, id).await.epoch;
    flush(&one, id, epoch, 77).await;
    drop(one);
    owner(two.acquire(id).await.expect("acquire"));
    let (newer, took) = take_over(&two, id).await;
    assert!(newer > epoch);
    assert!(took < HASTY_LEASE + Duration::from_millis(1500), "{took:?}");
    assert_eq!(cursor(&two, id).await, 77);
}

#[tokio::test]
async fn a_replaced_owner_writes_nothing_any_more() {
    let database = TestDatabase::new().await;
    let one = database.open("one").await;
    let two = database.open_hasty("two").await;
    let id = one_subscription(&one).await;
    let old = acquire(&one, id).await.epoch;
    // As if its heartbeats had not come through.
    let expire = "UPDATE nodes SET expires = 'epoch' WHERE name = 'one'";
    let newer = loop {
        database.run(expire).await;
        if let Acquire::Acquired(acquired) = two.acquire(id).await.expect("acquire") {
            break acquired.epoch;
        }
        sleep(Duration::from_millis(10)).await;
    };
    assert_eq!(flush(&one, id, old, 100).await, FlushOutcome::Stale);
    // Knowing the epoch does not help it.
    assert_eq!(flush(&one, id, newer, 100).await, FlushOutcome::Stale);
    assert_eq!(flush(&two, id, newer, 50).await, FlushOutcome::Stored);
    assert_eq!(cursor(&one, id).await, 50);
}

#[tokio::test]
async fn a_restarted_node_takes_its_own_back_at_once_and_ends_the_older_process() {
    let database = TestDatabase::new().await;
    let old = database.open("node").await;
    let id = one_subscription(&old).await;
    let epoch = acquire(&old, id).await.epoch;
    let new = database.open("node").await;
    let newer = acquire(&new, id).await.epoch;
    assert_eq!(flush(&old, id, epoch, 100).await, FlushOutcome::Stale);
    assert_eq!(flush(&new, id, newer, 50).await, FlushOutcome::Stored);
    let reason = timeout(Duration::from_secs(5), old.node_lease().ended()).await;
    let reason = reason.expect("ended");
    assert!(reason.contains("node at node.example:8085"), "{reason}");
    assert!(!old.node_lease().holds() && new.node_lease().holds());
    let refused = old.acquire(id).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))));
    // The older one, stopped now, does not remove the newer one's row.
    old.close().await;
    let third = database.open("third").await;
    owner(third.acquire(id).await.expect("acquire"));
}

#[tokio::test]
async fn a_node_whose_row_was_removed_comes_back() {
    let database = TestDatabase::new().await;
    let node = database.open_hasty("node").await;
    let id = one_subscription(&node).await;
    database.run("DELETE FROM nodes").await;
    let changes = timeout(Duration::from_secs(5), node.changes()).await;
    let changes = changes.expect("told").expect("changes");
    assert!(changes.everything);
    node.applied(changes.through).await.expect("applied");
    timeout(Duration::from_secs(5), node.node_lease().held())
        .await
        .expect("held");
    acquire(&node, id).await;
    let other = database.open_hasty("other").await;
    owner(other.acquire(id).await.expect("acquire"));
}

#[tokio::test]
async fn a_node_learns_what_it_owns_when_the_take_over_on_its_way_is_through() {
    let database = TestDatabase::new().await;
    let one = database.open("one").await;
    let two = database.open("two").await;
    let id = one_subscription(&one).await;
    assert_eq!(one.owned(&[id]).await.expect("read"), []);
    let epoch = acquire(&one, id).await.epoch;
    assert_eq!(one.owned(&[id]).await.expect("read"), [(id, epoch)]);
    assert_eq!(two.owned(&[id]).await.expect("read"), []);
    // As if it were the first one's, and its answer late.
    let mut connection = database.connect().await;
    let mut take_over = connection.begin().await.expect("begun");
    sqlx::query("UPDATE owners SET epoch = epoch + 1")
        .execute(&mut *take_over)
        .await
        .expect("taken over");
    let unknown = [id];
    let owned = one.owned(&unknown);
    tokio::pin!(owned);
    let early = timeout(Duration::from_millis(100), &mut owned).await;
    assert!(early.is_err());
    take_over.commit().await.expect("committed");
    assert_eq!(owned.await.expect("read"), [(id, epoch + 1)]);
}

/// Waits until the node was told that anything may have changed, and says that it has applied that.
pub(super) async fn apply_everything(state: &dyn State) {
    loop {
        let changes = timeout(Duration::from_secs(10), state.changes()).await;
        // What was asked while the database was away may still fail.
        let Ok(changes) = changes.expect("in time") else {
            sleep(Duration::from_millis(20)).await;
            continue;
        };
        if state.applied(changes.through).await.is_ok() && changes.everything {
            return;
        }
    }
}

#[tokio::test]
async fn what_a_node_owned_before_its_lease_had_run_out_is_free_when_it_is_back() {
    let database = TestDatabase::new().await;
    let proxy = Proxy::new(&database).await;
    let one = database.try_open(hasty(proxy.options(&database, "one")));
    let one = one.await.expect("open");
    let two = database.open("two").await;
    let id = one_subscription(&one).await;
    let epoch = acquire(&one, id).await.epoch;
    proxy.silence();
    sleep(HASTY_LEASE * 2).await;
    proxy.mend();
    apply_everything(&one).await;
    timeout(Duration::from_secs(5), one.node_lease().held())
        .await
        .expect("held");
    acquire(&two, id).await;
    assert_eq!(flush(&one, id, epoch, 50).await, FlushOutcome::Stale);
    // What it takes over from now on is its own.
    let owned = two.owned(&[id]).await.expect("read");
    two.release(&owned).await.expect("release");
    let epoch = acquire(&one, id).await.epoch;
    owner(two.acquire(id).await.expect("acquire"));
    assert_eq!(flush(&one, id, epoch, 9).await, FlushOutcome::Stored);
}

#[tokio::test]
async fn a_lease_that_had_run_out_for_the_database_is_lost_here_too() {
    let database = TestDatabase::new().await;
    let (clock, _stands_still) = Clock::manual(Timestamp::from_millis(1_000_000));
    let one = PostgresState::open(hasty(database.options("one")), LOG, clock).await;
    let one = one.expect("open");
    let two = database.open("two").await;
    let id = one_subscription(&one).await;
    let epoch = acquire(&one, id).await.epoch;
    assert!(one.node_lease().holds());
    // As if this machine had been paused, and its clock with it.
    database
        .run("UPDATE nodes SET expires = clock_timestamp() - interval '1 ms' WHERE name = 'one'")
        .await;
    let changes = timeout(Duration::from_secs(5), one.changes()).await;
    let changes = changes.expect("in time").expect("changes");
    assert!(changes.everything && !one.node_lease().holds());
    acquire(&two, id).await;
    one.applied(changes.through).await.expect("applied");
    assert!(one.node_lease().holds());
    assert_eq!(flush(&one, id, epoch, 50).await, FlushOutcome::Stale);
}

#[tokio::test]
async fn a_node_whose_database_is_an_older_one_by_now_starts_over() {
    let database = TestDatabase::new().await;
    let one = database.open("one").await;
    let id = one_subscription(&one).await;
    let epoch = acquire(&one, id).await.epoch;
    // As if changes had been made, applied, and lost with a failover.
    database.run("UPDATE packetboat SET last_change = 9").await;
    one.applied(9).await.expect("applied");
    database.run("UPDATE packetboat SET last_change = 3").await;
    let changes = timeout(Duration::from_secs(5), one.changes()).await;
    let changes = changes.expect("in time").expect("changes");
    assert!(changes.everything && changes.through == 3);
    assert!(!one.node_lease().holds());
    one.applied(3).await.expect("applied");
    assert!(one.node_lease().holds());
    assert_eq!(flush(&one, id, epoch, 9).await, FlushOutcome::Stale);
    database
        .run("SELECT 1 / count(*) FROM nodes WHERE seen = 3")
        .await;
}
