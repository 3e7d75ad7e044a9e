//! Whose time a node has, and whether it may expire messages by it.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::database::{LOG, TestDatabase, hasty};
use crate::{
    clock::Clock,
    store::{StateBackend as _, postgres::PostgresState},
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
