//! Starting, and why a start is refused: one line that says what to do.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;

use super::{
    super::{OpenError, PostgresState},
    database::{LOG, TestDatabase, options},
};
use crate::{
    clock::Clock,
    store::{Membership as _, Resources as _, StateBackend as _, contract::resources::live_topic},
};

/// The text of the refusal, one line.
fn refusal(opened: Result<PostgresState, OpenError>) -> String {
    let text = opened.expect_err("refused").to_string();
    assert!(!text.contains('\n'), "{text}");
    text
}

#[tokio::test]
async fn ten_nodes_start_at_once_on_an_empty_database() {
    let database = TestDatabase::new().await;
    let names: Vec<String> = (0..10).map(|number| format!("node-{number}")).collect();
    let nodes = join_all(names.iter().map(|name| database.open(name))).await;
    let key = nodes[0].ack_key();
    assert!(nodes.iter().all(|node| node.ack_key() == key));
    assert!(nodes.iter().all(|node| node.node_lease().holds()));
    let made = live_topic(&nodes[0], "projects/p/topics/top").await;
    let found = nodes[9].topic(&made.topic.name).await.expect("get");
    assert_eq!(found, Some(made));
}

#[tokio::test]
async fn what_was_stored_is_there_after_a_restart() {
    let database = TestDatabase::new().await;
    let node = database.open("node").await;
    let made = live_topic(&node, "projects/p/topics/top").await;
    let key = node.ack_key();
    node.close().await;
    let node = database.open("node").await;
    assert_eq!(node.ack_key(), key);
    let found = node.topic(&made.topic.name).await.expect("get");
    assert_eq!(found, Some(made));
}

/// As docs/operating.md has it for a database that was restored.
#[tokio::test]
async fn the_key_of_ack_ids_can_be_changed() {
    let manual = include_str!("../../../../docs/operating.md");
    let statement = manual.split("```sql\n").find_map(|part| {
        let (statement, _) = part.split_once("```")?;
        statement.contains("ack_key").then_some(statement)
    });
    let database = TestDatabase::new().await;
    let node = database.open("node").await;
    let made = live_topic(&node, "projects/p/topics/top").await;
    let (mut keys, mut ids) = (vec![node.ack_key()], vec![node.store_id()]);
    node.close().await;
    for _ in 0..2 {
        database.run(statement.expect("a statement")).await;
        let node = database.open("node").await;
        assert!(!keys.contains(&node.ack_key()) && !ids.contains(&node.store_id()));
        keys.push(node.ack_key());
        ids.push(node.store_id());
        let found = node.topic(&made.topic.name).await.expect("get");
        assert_eq!(found.as_ref(), Some(&made), "nothing else changes");
        node.close().await;
    }
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let database = TestDatabase::new().await;
    database.open("node").await.close().await;
    database.run("UPDATE packetboat SET version = 99").await;
    let text = refusal(database.try_open(database.options("node")).await);
    assert!(text.contains("version 99"), "{text}");
    assert!(text.contains("newer version of Packetboat"), "{text}");
}

#[tokio::test]
async fn the_store_of_another_log_is_refused() {
    let database = TestDatabase::new().await;
    database.open("node").await.close().await;
    let opened = PostgresState::open(database.options("node"), "test:other", Clock::system()).await;
    let text = refusal(opened);
    assert!(
        text.contains("belongs to the log test:log") && text.contains("test:other"),
        "{text}"
    );
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named() {
    let database = TestDatabase::new().await;
    let nowhere = ("127.0.0.1".to_owned(), 1);
    let started = Instant::now();
    let opened = options(&database.url_at(&nowhere), "node");
    let text = refusal(database.try_open(opened).await);
    assert!(started.elapsed() < Duration::from_secs(10));
    assert!(text.contains("127.0.0.1:1 "), "{text}");
    assert!(text.contains("no Postgres server answers there"), "{text}");
}

#[tokio::test]
async fn a_server_that_says_nothing_is_given_up() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("listener");
    let port = silent.local_addr().expect("address").port();
    let opened = options(&format!("postgres://me@127.0.0.1:{port}/db"), "node");
    let started = Instant::now();
    let text = refusal(PostgresState::open(opened, LOG, Clock::system()).await);
    assert!(started.elapsed() < Duration::from_secs(10));
    assert!(text.contains("no answer within"), "{text}");
}

#[tokio::test]
async fn a_database_that_is_missing_is_named() {
    let database = TestDatabase::new().await;
    let url = format!("{}_not", database.url());
    let text = refusal(database.try_open(options(&url, "node")).await);
    assert!(text.contains("_not\" does not exist: create it"), "{text}");
}

#[tokio::test]
async fn a_user_that_is_not_let_in_is_named() {
    let database = TestDatabase::new().await;
    let user = format!("{}_user", database.name);
    let url = database.url();
    let (_, server) = url.split_once('@').expect("a user");
    // Trusted, it still does not exist.
    let text = refusal(
        database
            .try_open(options(&format!("postgres://{user}@{server}"), "node"))
            .await,
    );
    assert!(text.contains("refused the login"), "{text}");
    assert!(text.contains("PGPASSFILE"), "{text}");
}

#[tokio::test]
async fn a_permission_that_is_missing_is_named() {
    let database = TestDatabase::new().await;
    let user = format!("{}_user", database.name);
    let role = format!("CREATE ROLE {user} LOGIN PASSWORD 'theirs'");
    database.run(&role).await;
    let url = database.url();
    let (_, server) = url.split_once('@').expect("a user");
    let url = format!("postgres://{user}@{server}");
    let theirs = || options(&url, "node").password("theirs");
    let text = refusal(database.try_open(theirs()).await);
    assert!(
        text.contains("permission denied for schema public"),
        "{text}"
    );
    assert!(text.contains("GRANT"), "{text}");
    // Of tables that another user made.
    database.open("node").await.close().await;
    let text = refusal(database.try_open(theirs()).await);
    assert!(
        text.contains("permission denied for table packetboat"),
        "{text}"
    );
    database.run(&format!("DROP ROLE {user}")).await;
}

#[tokio::test]
async fn tables_of_something_else_are_left_alone() {
    let database = TestDatabase::new().await;
    database
        .run("CREATE TABLE topics (name text); INSERT INTO topics VALUES ('mine')")
        .await;
    let text = refusal(database.try_open(database.options("node")).await);
    assert!(text.contains("\"topics\" already exists"), "{text}");
    database.run("SELECT 1 / count(*) FROM topics").await;
    // A schema of its own is beside them.
    database.run("CREATE SCHEMA ours").await;
    let url = format!("{}?options=-csearch_path%3Dours", database.url());
    let node = database.try_open(options(&url, "node")).await;
    live_topic(&node.expect("open"), "projects/p/topics/top").await;
    database
        .run("SELECT 1 / count(*) FROM ours.topics WHERE name LIKE 'projects/%'")
        .await;
}

#[tokio::test]
async fn a_start_waits_for_tables_that_another_process_makes() {
    let database = TestDatabase::new().await;
    let mut other = database.connect().await;
    super::database::run(
        &mut other,
        "BEGIN; SELECT pg_advisory_xact_lock(x'50424d47'::integer, hashtext(current_schema()))",
    )
    .await;
    let opening = database.open("node");
    tokio::pin!(opening);
    let early = tokio::time::timeout(Duration::from_millis(300), &mut opening).await;
    assert!(early.is_err());
    super::database::run(&mut other, "ROLLBACK").await;
    assert!(opening.await.node_lease().holds());
}

#[tokio::test]
async fn a_password_is_never_shown() {
    let database = TestDatabase::new().await;
    let options = database.options("node").password("s3cret");
    let node = database.try_open(options).await;
    let node = node.expect("open");
    let shown = format!("{node:?} {:?} {:?}", node.database, node.flushes);
    assert!(shown.contains(&database.name), "{shown}");
    assert!(!shown.contains("s3cret"), "{shown}");
}

#[tokio::test]
async fn defaults_of_the_server_do_not_change_what_is_promised() {
    let database = TestDatabase::new().await;
    database
        .run(&format!(
            "ALTER DATABASE {0} SET default_transaction_isolation = 'serializable';
            ALTER DATABASE {0} SET synchronous_commit = off",
            database.name
        ))
        .await;
    let node = database.open("node").await;
    let mut connection = node.database.connection().await.expect("connection");
    for (setting, expected) in [
        ("transaction_isolation", "read committed"),
        ("synchronous_commit", "on"),
    ] {
        let found: String = sqlx::query_scalar("SELECT current_setting($1)")
            .bind(setting)
            .fetch_one(&mut *connection)
            .await
            .expect("setting");
        assert_eq!(found, expected, "{setting}");
    }
}
