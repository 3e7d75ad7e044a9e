//! What is not needed any more goes, in the background.

use sqlx::Connection as _;

use super::{
    super::sweep::sweep,
    database::{TestDatabase, run},
};
use crate::{
    engine::change::PartitionChange,
    resource::{id::SubscriptionId, name::SubscriptionName},
    store::{
        Membership as _, Positions as _, Resources as _,
        contract::positions::{acquire, change, chunk, one_subscription, retained},
        positions::Flush,
        postgres::PostgresState,
    },
};

/// More than one transaction removes.
const MANY: i64 = 2_500;

async fn count(database: &TestDatabase, table: &str) -> i64 {
    let count = format!("SELECT count(*) FROM {table}");
    sqlx::query_scalar(sqlx::AssertSqlSafe(count))
        .fetch_one(&mut database.connect().await)
        .await
        .expect("count")
}

async fn with_chunks(node: &PostgresState) -> (SubscriptionId, u64) {
    let id = one_subscription(node).await;
    let epoch = acquire(node, id).await.epoch;
    let chunks = (0..MANY as u64)
        .map(|index| chunk(index, 0, b"x"))
        .collect();
    let rows = PartitionChange {
        retain: vec![retained(3, 50, b"three")],
        ..change(5, chunks, vec![])
    };
    write(node, id, epoch, rows).await;
    (id, epoch)
}

/// Sweeps, when the node's own sweep at its start is done.
async fn swept(node: &PostgresState) {
    while !sweep(&node.database).await.expect("sweep") {
        tokio::task::yield_now().await;
    }
}

async fn write(
    node: &PostgresState,
    subscription: SubscriptionId,
    epoch: u64,
    change: PartitionChange,
) {
    let flush = Flush {
        subscription,
        epoch,
        changes: vec![change],
    };
    node.flush(&[flush]).await.expect("flush");
}

#[tokio::test]
async fn chunks_of_deleted_subscriptions_are_removed() {
    let database = TestDatabase::new().await;
    let node = database.open("node").await;
    with_chunks(&node).await;
    let name = SubscriptionName::parse("name", "projects/p/subscriptions/sub").expect("valid");
    node.delete_subscription(&name).await.expect("delete");
    while count(&database, "chunks").await > 0
        || count(&database, "retained").await > 0
        || count(&database, "leftovers").await > 0
    {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn chunks_of_older_generations_are_removed_and_the_newer_ones_stay() {
    let database = TestDatabase::new().await;
    let node = database.open("node").await;
    let (id, epoch) = with_chunks(&node).await;
    let newer = PartitionChange {
        generation: 2,
        ..change(3, vec![chunk(0, 0, b"new")], vec![])
    };
    write(&node, id, epoch, newer).await;
    swept(&node).await;
    assert_eq!(count(&database, "chunks").await, 1);
    assert_eq!(count(&database, "leftovers").await, 0);
    let state = acquire(&node, id).await.partitions.remove(0);
    assert_eq!(state.chunks, [chunk(0, 0, b"new")]);
}

#[tokio::test]
async fn one_node_sweeps_at_a_time() {
    let database = TestDatabase::new().await;
    let node = database.open("node").await;
    let (id, epoch) = with_chunks(&node).await;
    let mut other = database.connect().await;
    let mut transaction = other.begin().await.expect("begin");
    let lock = "SELECT pg_advisory_xact_lock(x'50425357'::integer, 'packetboat'::regclass::oid::bigint::integer)";
    run(&mut transaction, lock).await;
    let newer = PartitionChange {
        generation: 2,
        ..change(3, vec![], vec![])
    };
    write(&node, id, epoch, newer).await;
    assert!(!sweep(&node.database).await.expect("sweep"));
    assert_eq!(count(&database, "chunks").await, MANY);
    transaction.rollback().await.expect("rollback");
    swept(&node).await;
    assert_eq!(count(&database, "chunks").await, 0);
}

#[tokio::test]
async fn old_changes_and_nodes_are_removed_once_nobody_needs_them() {
    let database = TestDatabase::new().await;
    let node = database.open("node").await;
    database
        .run(
            "INSERT INTO nodes VALUES ('long-gone', 1, 'a', clock_timestamp() - interval '2 hours', 0),
                ('just-gone', 2, 'b', clock_timestamp() - interval '1 minute', 0);
            UPDATE packetboat SET last_change = 3;
            INSERT INTO changes SELECT number, clock_timestamp() - interval '2 hours', 0, NULL, 'projects/p/topics/top'
                FROM generate_series(1, 2) AS number;
            INSERT INTO changes VALUES (3, clock_timestamp(), 0, NULL, 'projects/p/topics/top')",
        )
        .await;
    // The node itself has not applied any.
    swept(&node).await;
    assert_eq!(count(&database, "changes").await, 3);
    assert_eq!(count(&database, "nodes").await, 2);
    node.applied(3).await.expect("applied");
    swept(&node).await;
    assert_eq!(count(&database, "changes").await, 1);
}
