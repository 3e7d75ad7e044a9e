//! A server that stands still past its lease (SIGSTOP: a paused virtual machine, a swapping host) and goes on later has
//! been replaced meanwhile, and must do no harm.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::similar_names,
    reason = "what real servers take is measured and shown"
)]

use std::{
    array,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use sqlx::{Connection as _, Executor as _, PgConnection};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use crate::support::{
    Client, eventually, few_or_many,
    known::Known,
    nodes::{Nodes, assert_owned_by},
    ok, refused,
    values::{ack_ids, numbered, texts},
    within,
};

/// A lease of 5 s, and 5 s to take over after its end.
const TAKEN_OVER_WITHIN: Duration = Duration::from_secs(10);
const NAMES: [&str; 2] = ["node-a", "node-b"];

/// How many calls a server has answered, not counting refusals.
#[derive(Default)]
struct Answers {
    publishes: AtomicUsize,
    pulls: AtomicUsize,
    /// When the last pull that was answered had been asked for.
    pull_asked: Mutex<Option<Instant>>,
}

/// Publishes, pulls and acknowledges on two servers, as client libraries would: what is UNAVAILABLE is tried again.
struct Load {
    answers: [Arc<Answers>; 2],
    stopping: CancellationToken,
    tasks: JoinSet<()>,
}

impl Load {
    fn start(clients: [&Client; 2], topic: &str, subscription: &str, known: &Known) -> Self {
        let answers: [Arc<Answers>; 2] = array::from_fn(|_| Arc::default());
        let stopping = CancellationToken::new();
        let mut tasks = JoinSet::new();
        for (client, answers) in clients.into_iter().zip(&answers) {
            let (topic, subscription) = (topic.to_owned(), subscription.to_owned());
            let (publisher, puller) = (client.clone(), client.clone());
            let (stop, counted, knows) = (stopping.clone(), Arc::clone(answers), known.clone());
            tasks.spawn(async move {
                while !stop.is_cancelled() {
                    let published = knows.publish(&publisher, &topic, 10).await;
                    count(&published, &counted.publishes).await;
                }
            });
            let (stop, counted, knows) = (stopping.clone(), Arc::clone(answers), known.clone());
            tasks.spawn(async move {
                while !stop.is_cancelled() {
                    let asked = Instant::now();
                    let pulled = knows.pull_and_ack(&puller, &subscription, 100).await;
                    if pulled.is_ok() {
                        *counted.pull_asked.lock() = Some(asked);
                    }
                    count(&pulled, &counted.pulls).await;
                }
            });
        }
        Self {
            answers,
            stopping,
            tasks,
        }
    }

    async fn stop(mut self) {
        self.stopping.cancel();
        while let Some(ended) = within("the load ends", self.tasks.join_next()).await {
            ended.expect("nothing confirmed was lost or undone");
        }
    }
}

/// Counts an answer, and waits a little before the next call, so that the load is one and the same on any machine.
async fn count<T>(result: &Result<T, Status>, answers: &AtomicUsize) {
    match result {
        Ok(_) => drop(answers.fetch_add(1, Ordering::Relaxed)),
        Err(status) => assert_eq!(status.code(), Code::Unavailable, "{status:?}"),
    }
    tokio::time::sleep(Duration::from_millis(5)).await;
}

/// Returns once there are more answers than `before`.
async fn more(what: &str, answers: &AtomicUsize, before: usize) {
    eventually(what, || async {
        (answers.load(Ordering::Relaxed) > before).then_some(())
    })
    .await;
}

/// Milliseconds up to half a second.
fn some_millis() -> Duration {
    let random = getrandom::u32().expect("random numbers");
    Duration::from_millis(u64::from(random % 500))
}

#[tokio::test]
async fn a_server_frozen_past_its_lease_undoes_and_loses_nothing_when_it_goes_on() {
    let (nodes, topic, subscription) = Nodes::with_subscription().await;
    let clients = [&nodes.on_a, &nodes.on_b];
    let processes = [&nodes.a, &nodes.b];
    let known = Known::default();
    nodes.on_a.assert_nothing(&subscription, "it is new").await;
    let load = Load::start(clients, &topic, &subscription, &known);
    let mut owner = 0;
    for round in 0..few_or_many(2, 20) {
        let (frozen, other) = (owner, 1 - owner);
        let (of_frozen, of_other) = (&load.answers[frozen], &load.answers[other]);
        more(
            "the owner delivers",
            &of_frozen.pulls,
            of_frozen.pulls.load(Ordering::Relaxed),
        )
        .await;
        // At any moment of publishing, delivering and storing.
        tokio::time::sleep(some_millis()).await;
        let before = of_other.pulls.load(Ordering::Relaxed);
        processes[frozen].freeze().await;
        let stopped = Instant::now();
        more("the other one takes over", &of_other.pulls, before).await;
        let took = stopped.elapsed();
        assert!(took <= TAKEN_OVER_WITHIN, "{took:?}");
        let acked = known.acked();
        eventually("work goes on", || async {
            (known.acked() > acked).then_some(())
        })
        .await;

        processes[frozen].signal("CONT").await;
        let resumed = Instant::now();
        eventually("it knows again whose the subscription is", || async {
            let status = clients[frozen].try_pull_now(&subscription).await;
            let status = status.expect_err("it is not the owner any more");
            status.message().contains(NAMES[other]).then_some(())
        })
        .await;
        println!(
            "round {round}: {} delivers after {took:?}; {} holds its lease {:?} after it goes on",
            NAMES[other],
            NAMES[frozen],
            resumed.elapsed()
        );
        let publishes = of_frozen.publishes.load(Ordering::Relaxed);
        more("it takes publishes", &of_frozen.publishes, publishes).await;
        // Frozen between storing an ack and answering it, it answers late and is right.
        let asked = *of_frozen.pull_asked.lock();
        assert!(
            asked.is_some_and(|asked| asked < stopped),
            "it delivered after others had taken over"
        );
        owner = other;
    }
    load.stop().await;
    println!(
        "{} published, {} acknowledged",
        known.published(),
        known.acked()
    );
    known.receive_the_rest(clients[owner], &subscription).await;
}

/// The session of a node that waits for another one's lock in the statement with which a flush writes.
async fn blocked_flush(watcher: &mut PgConnection, node: &str) -> Option<i32> {
    sqlx::query_scalar(
        "SELECT pid FROM pg_stat_activity WHERE application_name = $1 AND datname = current_database()
            AND wait_event_type = 'Lock' AND query LIKE 'WITH changed%'",
    )
    .bind(format!("packetboat {node}"))
    .fetch_optional(watcher)
    .await
    .expect("Postgres answers")
}

/// What a session is doing; `None` when it is gone.
async fn state_of(watcher: &mut PgConnection, session: i32) -> Option<String> {
    let state = sqlx::query_scalar("SELECT state FROM pg_stat_activity WHERE pid = $1")
        .bind(session)
        .fetch_optional(watcher);
    state.await.expect("Postgres answers")
}

#[tokio::test]
async fn a_server_frozen_between_its_row_locks_and_its_commit_holds_nobody_up() {
    let (nodes, topic, subscription) = Nodes::with_subscription().await;
    let url = &nodes.location.services().postgres;
    let mut watcher = PgConnection::connect(url).await.expect("Postgres");
    let mut locker = PgConnection::connect(url).await.expect("Postgres");

    nodes.on_a.publish(&topic, &numbered(10)).await;
    let held = nodes.on_a.receive(&subscription, 10).await;
    // Once the leases are stored and five acks are answered, nothing is left to store.
    within("the leases are stored", async {
        loop {
            let stored = sqlx::query("SELECT 1 FROM chunks").fetch_optional(&mut watcher);
            if stored.await.expect("Postgres answers").is_some() {
                return;
            }
        }
    })
    .await;
    ok(nodes.on_a.ack(&subscription, ack_ids(&held[..5])).await);

    let mut lock = locker.begin().await.expect("Postgres answers");
    lock.execute("LOCK TABLE positions IN SHARE MODE")
        .await
        .expect("locked");
    let unanswered = tokio::spawn({
        let (client, subscription) = (nodes.on_a.clone(), subscription.clone());
        let ids = ack_ids(&held[5..]);
        async move { client.ack(&subscription, ids).await }
    });
    let session = within("the flush waits for the lock", async {
        loop {
            if let Some(session) = blocked_flush(&mut watcher, "node-a").await {
                return session;
            }
        }
    })
    .await;
    nodes.a.freeze().await;
    let stopped = Instant::now();
    lock.rollback().await.expect("unlocked");
    within("the statement is done, and no commit comes", async {
        while state_of(&mut watcher, session).await.as_deref() != Some("idle in transaction") {}
    })
    .await;
    let row = sqlx::query("SELECT 1 FROM owners FOR UPDATE NOWAIT").execute(&mut locker);
    let error = row.await.expect_err("the owner's row is locked");
    let code = error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code);
    assert_eq!(code.as_deref(), Some("55P03"), "{error}");
    assert!(!unanswered.is_finished());
    within("Postgres ends the transaction", async {
        while state_of(&mut watcher, session).await.is_some() {}
    })
    .await;
    let freed = stopped.elapsed();

    let mut again = eventually("the other one takes over", || async {
        let pulled = nodes.on_b.try_pull_now(&subscription).await;
        pulled.ok()
    })
    .await;
    let took = stopped.elapsed();
    println!("locks free after {freed:?}, taken over after {took:?}");
    assert!(freed <= Duration::from_secs(4), "{freed:?}");
    assert!(took <= TAKEN_OVER_WITHIN, "{took:?}");
    // The acks that were answered hold; the others were never stored.
    again.extend(nodes.on_b.receive(&subscription, 5 - again.len()).await);
    assert_eq!(texts(&again), texts(&held[5..]));

    nodes.a.signal("CONT").await;
    let answer = within("an answer", unanswered).await.expect("no panic");
    refused(answer, Code::Unavailable, "an ack that was never stored");
    eventually("it knows again whose the subscription is", || async {
        let status = nodes.on_a.try_pull_now(&subscription).await;
        let status = status.expect_err("it is not the owner any more");
        status.message().contains("node-b").then_some(())
    })
    .await;
    assert_owned_by(
        nodes.on_a.ack(&subscription, ack_ids(&held)).await,
        "node-b",
    );
    ok(nodes.on_b.ack(&subscription, ack_ids(&again)).await);
    nodes.on_a.publish_text(&topic, "after").await;
    let received = nodes.on_b.receive_and_ack(&subscription, 1).await;
    assert_eq!(texts(&received), ["after"]);
    nodes
        .on_b
        .assert_nothing(&subscription, "all is acked")
        .await;
}
