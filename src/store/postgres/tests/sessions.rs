//! What a session has to be: of a server that takes writes, with our settings, and one of those that there are.

use std::time::Duration;

use futures_util::future::join_all;
use sqlx::Executor as _;
use tokio::time::{Instant, sleep};

use super::{
    database::{TestDatabase, options, run},
    ownership::{apply_everything, flush},
    proxy::Proxy,
};
use crate::{
    resource::name::TopicName,
    store::{
        Membership as _, Positions as _, Resources as _, StateBackend as _, StoreError,
        contract::{
            positions::{acquire, change, one_subscription},
            resources::live_topic,
        },
        positions::{Flush, FlushOutcome},
        postgres::PostgresState,
    },
};

fn topic() -> TopicName {
    TopicName::parse("name", "projects/p/topics/top").expect("valid")
}

async fn setting(node: &PostgresState, name: &str) -> String {
    let mut connection = node.database.connection().await.expect("connection");
    sqlx::query_scalar("SELECT current_setting($1)")
        .bind(name)
        .fetch_one(&mut *connection)
        .await
        .expect("setting")
}

/// Of the password "theirs", with one iteration: a test makes many sessions.
const SECRET: &str = "SCRAM-SHA-256$1:c2FsdHNhbHRzYWx0c2FsdA==$4bB939wjREA+VuNpqEfELsXj2JzArdWNwbobDQuiSMM=:\
     JLO3YzKyLZl4hhn3P+bDq4ognlgIhQWIAryfHkU9tPE=";

/// Ends all sessions of the database but the caller's.
const END_SESSIONS: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()";

#[tokio::test]
async fn sessions_that_were_opened_while_the_database_took_no_writes_are_not_used() {
    let database = TestDatabase::new().await;
    let node = database.open("node").await;
    let id = one_subscription(&node).await;
    let epoch = acquire(&node, id).await.epoch;
    let mut operator = database.connect().await;
    let set = |value| {
        format!(
            "ALTER DATABASE {} SET default_transaction_read_only = {value}",
            database.name
        )
    };
    run(&mut operator, &set("on")).await;
    run(&mut operator, END_SESSIONS).await;
    let name = topic();
    let refused = join_all((0..8).map(|_| node.topic(&name))).await;
    for refused in refused {
        let text = refused.expect_err("refused").to_string();
        assert!(text.contains("takes no writes"), "{text}");
    }
    let text = node
        .check(Duration::from_secs(3))
        .await
        .expect_err("ill")
        .to_string();
    assert!(text.contains("takes no writes"), "{text}");
    let entry = Flush {
        subscription: id,
        epoch,
        changes: vec![change(9, vec![], vec![])],
    };
    node.flush(&[entry]).await.expect_err("refused");
    // Heartbeats are writes, too.
    node.node_lease().lost().await;

    run(&mut operator, &set("off")).await;
    for number in 0..8 {
        live_topic(&node, &format!("projects/p/topics/after-{number}")).await;
    }
    apply_everything(&node).await;
    let epoch = acquire(&node, id).await.epoch;
    assert_eq!(flush(&node, id, epoch, 50).await, FlushOutcome::Stored);
    node.check(Duration::from_secs(1)).await.expect("well");
}

#[tokio::test]
async fn a_session_that_takes_no_writes_any_more_is_replaced() {
    let database = TestDatabase::new().await;
    let node = database.open("node").await;
    for statement in ["SET default_transaction_read_only = on", "DISCARD ALL"] {
        let mut connection = node.database.connection().await.expect("connection");
        connection.execute(statement).await.expect(statement);
        drop(connection);
        for _ in 0..3 {
            assert_eq!(setting(&node, "lock_timeout").await, "1s");
            assert_eq!(setting(&node, "transaction_read_only").await, "off");
        }
    }
}

#[tokio::test]
async fn a_pooler_that_drops_what_a_session_asks_for_at_its_start_changes_nothing() {
    let database = TestDatabase::new().await;
    database.run("CREATE SCHEMA ours").await;
    let pooler = Proxy::dropping_options(&database).await;
    let url = format!("{}?options=-csearch_path%3Dours", pooler.url(&database));
    let node = database.try_open(options(&url, "node")).await;
    let node = node.expect("open");
    live_topic(&node, "projects/p/topics/top").await;
    database
        .run("SELECT 1 / count(*) FROM ours.topics WHERE name LIKE 'projects/%'")
        .await;
    for (name, expected) in [
        ("transaction_isolation", "read committed"),
        ("statement_timeout", "4s"),
        ("lock_timeout", "1s"),
        ("idle_in_transaction_session_timeout", "2s"),
        ("client_min_messages", "warning"),
        ("synchronous_commit", "on"),
    ] {
        assert_eq!(setting(&node, name).await, expected, "{name}");
    }
    let mut flushes = node.flushes.lock().await.expect("connection");
    let plans: String = sqlx::query_scalar("SHOW plan_cache_mode")
        .fetch_one(&mut *flushes)
        .await
        .expect("setting");
    assert_eq!(plans, "force_generic_plan");
}

#[tokio::test]
async fn the_connections_that_a_lease_needs_come_first_and_the_others_share_what_is_left() {
    let database = TestDatabase::new().await;
    let user = format!("{}_user", database.name);
    database
        .run(&format!(
            "CREATE ROLE {user} LOGIN PASSWORD '{SECRET}' CONNECTION LIMIT 5;
            ALTER DATABASE {} OWNER TO {user}",
            database.name
        ))
        .await;
    let url = database.url();
    let (_, server) = url.split_once('@').expect("a user");
    let theirs = options(&format!("postgres://{user}@{server}"), "node");
    let theirs = theirs.password("theirs");
    let theirs = theirs.node_lease(Duration::from_secs(2));
    let node = database.try_open(theirs).await.expect("open");
    let id = one_subscription(&node).await;
    let epoch = acquire(&node, id).await.epoch;

    // All of them end at once, and many want new ones.
    let (name, until) = (topic(), Instant::now() + Duration::from_secs(4));
    let busy = join_all((0..20).map(|_| async {
        while Instant::now() < until {
            node.topic(&name).await.ok();
        }
    }));
    let ends = async {
        for _ in 0..3 {
            database.run(END_SESSIONS).await;
            sleep(Duration::from_secs(1)).await;
            assert!(node.node_lease().holds());
            assert_eq!(flush(&node, id, epoch, 9).await, FlushOutcome::Stored);
        }
    };
    tokio::join!(busy, ends);
    assert!(node.node_lease().holds());

    // Who gets none hears why.
    let mut held = Vec::new();
    let text = loop {
        match node.database.connection().await {
            Ok(connection) => held.push(connection),
            Err(error) => break error.to_string(),
        }
    };
    assert!(text.contains("too many connections"), "{text}");
    drop(held);
    node.close().await;
    drop(node);
    database
        .run(&format!(
            "REASSIGN OWNED BY {user} TO CURRENT_USER; ALTER DATABASE {} OWNER TO CURRENT_USER; DROP ROLE {user}",
            database.name
        ))
        .await;
}

#[tokio::test]
async fn a_start_without_a_free_connection_says_what_to_raise() {
    let database = TestDatabase::new().await;
    let user = format!("{}_user", database.name);
    database
        .run(&format!(
            "CREATE ROLE {user} LOGIN PASSWORD '{SECRET}' CONNECTION LIMIT 0"
        ))
        .await;
    let url = database.url();
    let (_, server) = url.split_once('@').expect("a user");
    let theirs = options(&format!("postgres://{user}@{server}"), "node");
    let theirs = theirs.password("theirs");
    let refused = database.try_open(theirs).await.expect_err("refused");
    let text = refused.to_string();
    assert!(
        text.contains("too many connections") && text.contains("raise max_connections"),
        "{text}"
    );
    database.run(&format!("DROP ROLE {user}")).await;
}

#[tokio::test]
async fn what_is_dropped_in_the_middle_leaves_no_lock_behind() {
    let database = TestDatabase::new().await;
    let node = database.open("node").await;
    let made = live_topic(&node, "projects/p/topics/top").await;
    for _ in 0..20 {
        let locked = node.lock_topic(made.log.incarnation).await;
        drop(locked.expect("locked").expect("is there"));
    }
    let mut connection = database.connect().await;
    let free = async {
        run(&mut connection, "SELECT 1 FROM topics FOR UPDATE").await;
        let sessions: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        .fetch_one(&mut connection)
        .await
        .expect("sessions");
        sessions
    };
    // One for each of flushes, heartbeats and listening, and a few that took turns.
    let sessions = tokio::time::timeout(Duration::from_secs(5), free).await;
    assert!((1..8).contains(&sessions.expect("free")));
    let unavailable = matches!(node.topic(&topic()).await, Err(StoreError::Unavailable(_)));
    assert!(!unavailable);
}
