//! Whose time a node has, and whether it may expire messages by it.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::{
    database::{LOG, TestDatabase, hasty},
    ownership::{flush, take_over},
    proxy::Proxy,
};
use crate::{
    clock::{Clock, Timestamp},
    store::{
        Membership as _, StateBackend as _,
        contract::positions::{acquire, one_subscription},
        positions::FlushOutcome,
        postgres::PostgresState,
    },
};

const HOUR: Duration = Duration::from_hours(1);

async fn node(database: &TestDatabase, clock: &Clock) -> PostgresState {
    let options = hasty(database.options("one"));
    let opened = PostgresState::open(options, LOG, clock.clone()).await;
    opened.expect("open")
}

#[tokio::test]
async fn a_node_whose_clock_is_days_ahead_has_the_databases_time_and_expires_nothing() {
    let database = TestDatabase::new().await;
    let clock = Clock::system_ahead(HOUR * 24 * 8).led();
    let state = node(&database, &clock).await;
    let ahead = clock.now().millis_after(Clock::system().now());
    assert!(ahead.abs() < 60_000, "{ahead}");
    assert!(!clock.agrees());
    state.close().await;
}

#[tokio::test]
async fn a_heartbeat_brings_the_time_and_with_it_agreement() {
    let database = TestDatabase::new().await;
    let clock = Clock::system().led();
    let state = node(&database, &clock).await;
    let steady = clock.steady().now();
    clock.observe(steady.minus_millis(3_600_000), steady, steady);
    assert!(!clock.agrees());
    let until_then = async {
        while !clock.agrees() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    let came = timeout(Duration::from_mins(1), until_then).await;
    assert!(came.is_ok());
    state.close().await;
}

#[tokio::test]
async fn while_the_clocks_of_a_machine_disagree_nothing_is_said_until_the_database_was_asked() {
    let database = TestDatabase::new().await;
    let proxy = Proxy::new(&database).await;
    let (clock, hand) = Clock::manual(Timestamp::from_millis(1_000_000));
    let one = PostgresState::open(proxy.options(&database, "one"), LOG, clock).await;
    let one = one.expect("open");
    let id = one_subscription(&one).await;
    let epoch = acquire(&one, id).await.epoch;

    // A short pause: the database says that the lease had not ended.
    hand.jump_wall(Duration::from_millis(600));
    assert!(!one.node_lease().holds());
    let held = timeout(Duration::from_millis(700), one.node_lease().held()).await;
    held.expect("asked at once, not when the next heartbeat is due");
    assert_eq!(flush(&one, id, epoch, 9).await, FlushOutcome::Stored);

    // A long one: somebody else delivers by now.
    let two = database.open("two").await;
    proxy.silence();
    database
        .run("UPDATE nodes SET expires = clock_timestamp() - interval '1 ms' WHERE name = 'one'")
        .await;
    take_over(&two, id).await;
    assert!(one.node_lease().holds(), "no clock of its own knows yet");
    hand.jump_wall(Duration::from_mins(1));
    assert!(!one.node_lease().holds());
    proxy.mend();
    let changes = timeout(Duration::from_secs(10), async {
        loop {
            match one.changes().await {
                Ok(changes) if changes.everything => return changes,
                Ok(changes) => assert!(!one.node_lease().holds(), "{changes:?}"),
                Err(_) => sleep(Duration::from_millis(20)).await,
            }
        }
    });
    let changes = changes.await.expect("in time");
    assert!(!one.node_lease().holds());
    one.applied(changes.through).await.expect("applied");
    assert!(one.node_lease().holds());
    assert_eq!(flush(&one, id, epoch, 99).await, FlushOutcome::Stale);
}
