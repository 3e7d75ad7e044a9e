//! The tables stay small, however long a node flushes.

use bytes::Bytes;
use futures_util::future::join_all;
use tokio::time::Instant;

use super::database::TestDatabase;
use crate::{
    engine::change::{PartitionChange, StoredChunk},
    store::{
        Positions as _,
        contract::{
            positions::acquire,
            resources::{live_topic, subscribed},
        },
        positions::{Flush, FlushOutcome},
    },
};

const SUBSCRIPTIONS: u64 = 100;
/// An hour's worth at ten subscriptions at a time; a tenth of it unless PACKETBOAT_LONG is set.
const FLUSHES: u64 = 20_000;
/// Of a table with its indexes, however many flushes there were.
const BYTES_MAX: i64 = 32 * 1024 * 1024;

#[tokio::test]
#[expect(clippy::print_stdout, reason = "a long run is there for these figures")]
async fn tables_stay_within_bounds_under_many_flushes() {
    let database = TestDatabase::new().await;
    let node = database.open("node").await;
    let topic = live_topic(&node, "projects/p/topics/top").await;
    let names: Vec<String> = (0..SUBSCRIPTIONS)
        .map(|number| format!("projects/p/subscriptions/sub-{number}"))
        .collect();
    let mut owned = Vec::new();
    // No more at once than there are connections, as waiting for one is bounded.
    for names in names.chunks(4) {
        for record in join_all(names.iter().map(|name| subscribed(&node, name, &topic))).await {
            owned.push((record.id, acquire(&node, record.id).await.epoch));
        }
    }
    let long = std::env::var_os("PACKETBOAT_LONG").is_some();
    let flushes = if long { FLUSHES } else { FLUSHES / 10 };
    let started = Instant::now();
    for round in 0..flushes {
        let flush = |&(subscription, epoch): &(_, _)| Flush {
            subscription,
            epoch,
            changes: vec![at(round)],
        };
        let outcomes = node
            .flush(&owned.iter().map(flush).collect::<Vec<_>>())
            .await;
        let outcomes = outcomes.expect("flush");
        assert!(
            outcomes
                .iter()
                .all(|outcome| *outcome == FlushOutcome::Stored)
        );
    }
    let seconds = started.elapsed().as_secs_f64();
    let rate = flushes as f64 / seconds;
    println!(
        "{flushes} flushes of {SUBSCRIPTIONS} subscriptions: {rate:.0} commits/s, {:.0} rows/s",
        rate * SUBSCRIPTIONS as f64 * 3.0
    );
    for table in ["owners", "positions", "chunks", "nodes"] {
        let (bytes, live, rows) = sizes(&database, table).await;
        println!("{table}: {bytes} bytes with indexes, {live} of them in {rows} rows");
        assert!(
            bytes <= BYTES_MAX,
            "{table}: {bytes} bytes for {live} in {rows} rows"
        );
    }
}

/// What a subscription that acknowledges 64 messages per flush, some of them out of order, has to store.
fn at(round: u64) -> PartitionChange {
    let cursor = round * 64;
    let index = cursor / 256;
    let body = vec![u8::try_from(round % 251).unwrap_or_default(); 100 + (round % 200) as usize];
    let chunk = |index| StoredChunk {
        index,
        done_after: 0,
        body: Bytes::from(body.clone()),
    };
    PartitionChange {
        partition: 0,
        generation: 1,
        cursor,
        put: vec![chunk(index), chunk(index + 1)],
        delete: vec![],
        retain: Vec::new(),
        release: Vec::new(),
    }
}

/// Bytes of the table with its indexes, bytes of its live rows, and how many these are.
async fn sizes(database: &TestDatabase, table: &str) -> (i64, i64, i64) {
    let sizes = format!(
        "SELECT pg_total_relation_size('{table}'),
            (SELECT coalesce(sum(pg_column_size(row.*)), 0) FROM {table} AS row)::bigint,
            (SELECT count(*) FROM {table})"
    );
    sqlx::query_as(sqlx::AssertSqlSafe(sizes))
        .fetch_one(&mut database.connect().await)
        .await
        .expect("sizes")
}
