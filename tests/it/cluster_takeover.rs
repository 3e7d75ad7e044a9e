//! A subscription in use is delivered by one server at a time; when that one is gone, another one goes on.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "what real servers take is measured and shown"
)]

use std::time::{Duration, Instant};

use tonic::Code;

use crate::support::{
    Client, eventually, few_or_many,
    known::Known,
    nodes::{Nodes, assert_owned_by},
    ok,
    process::Process,
    stream::opening,
    values::{Received, ack_ids, numbered, texts},
    within,
};

/// How long a node counts as living after its last heartbeat.
const LEASE: Duration = Duration::from_secs(5);
/// A lease, and 5 s to take over after its end.
const TAKEN_OVER_WITHIN: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_subscription_in_use_is_refused_elsewhere_with_the_name_of_its_server() {
    let (nodes, topic, subscription) = Nodes::with_subscription().await;
    nodes.on_b.publish(&topic, &numbered(3)).await;
    let held = nodes.on_a.receive(&subscription, 3).await;
    let on_b = &nodes.on_b;
    assert_owned_by(on_b.try_pull_now(&subscription).await, "node-a");
    let address = nodes.a.addresses[0].to_string();
    assert_owned_by(on_b.try_pull_now(&subscription).await, &address);
    assert_owned_by(on_b.ack(&subscription, ack_ids(&held)).await, "node-a");
    let modified = on_b.modify_deadline(&subscription, ack_ids(&held), 0);
    assert_owned_by(modified.await, "node-a");
    match on_b.open(opening(&subscription)).await {
        Ok(mut stream) => assert_owned_by::<()>(Err(stream.end_without_message().await), "node-a"),
        Err(status) => assert_owned_by::<()>(Err(status), "node-a"),
    }
    ok(nodes.on_a.ack(&subscription, ack_ids(&held)).await);
    nodes
        .on_a
        .assert_nothing(&subscription, "all is acked")
        .await;
}

/// What a server delivers first. Asks again and again, as a client library would.
async fn first_delivery(client: &Client, subscription: &str) -> Vec<Received> {
    eventually("the other server delivers", || async {
        match client.try_pull_now(subscription).await {
            Ok(received) => Some(received),
            Err(status) => {
                assert_eq!(status.code(), Code::Unavailable, "{status:?}");
                None
            }
        }
    })
    .await
}

/// One server is used and killed under load, the other one goes on, and the first one comes back; again and again.
#[tokio::test]
async fn what_a_killed_server_confirmed_holds_on_the_one_that_takes_over() {
    let (nodes, topic, subscription) = Nodes::with_subscription().await;
    let known = Known::default();
    let Nodes {
        location,
        a: mut one,
        b: mut other,
        on_a: mut on_one,
        on_b: mut on_other,
    } = nodes;
    let mut names = ["node-a", "node-b"];
    for kill in 0..few_or_many(2, 20) {
        let used = async {
            while known.publish(&on_one, &topic, 20).await.is_ok()
                && known.pull_and_ack(&on_one, &subscription, 15).await.is_ok()
            {}
        };
        let killed = async {
            while known.acked() == 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            // Some way into the work, each time a little further.
            tokio::time::sleep(Duration::from_millis(300 + 37 * kill as u64)).await;
            one.signal("KILL").await;
            Instant::now()
        };
        let ((), killed) = within("the kill", async { tokio::join!(used, killed) }).await;
        one.ended().await;
        let received = first_delivery(&on_other, &subscription).await;
        let took = killed.elapsed();
        known.received(&received, killed.into());
        println!("kill {kill}: {} delivers after {took:?}", names[1]);
        assert!(took <= TAKEN_OVER_WITHIN, "{took:?}");
        one = Process::serve_at(&location, names[0]).await;
        on_one = one.client().await;
        assert_owned_by(on_one.try_pull_now(&subscription).await, names[1]);
        let confirmed = (known.published(), known.acked());
        assert!(confirmed.0 > 0 && confirmed.1 > 0, "{confirmed:?}");
        std::mem::swap(&mut one, &mut other);
        std::mem::swap(&mut on_one, &mut on_other);
        names.swap(0, 1);
    }
    known.receive_the_rest(&on_one, &subscription).await;
}

#[tokio::test]
async fn a_killed_server_takes_its_own_back_at_once_when_it_starts_again() {
    let (nodes, topic, subscription) = Nodes::with_subscription().await;
    nodes.on_a.publish(&topic, &numbered(10)).await;
    nodes.on_a.receive_and_ack(&subscription, 10).await;
    nodes.a.signal("KILL").await;
    nodes.a.ended().await;
    let a = Process::serve_at(&nodes.location, "node-a").await;
    let on_a = a.client().await;
    assert!(ok_now(&on_a, &subscription).await.is_empty());
    nodes.on_b.publish_text(&topic, "after").await;
    let received = on_a.receive(&subscription, 1).await;
    assert_eq!(texts(&received), ["after"]);
    assert_owned_by(nodes.on_b.try_pull_now(&subscription).await, "node-a");
}

#[tokio::test]
async fn after_a_clean_stop_another_server_delivers_at_once_and_forgets_nothing() {
    let (nodes, topic, subscription) = Nodes::with_subscription().await;
    nodes.on_a.publish(&topic, &numbered(10)).await;
    nodes.on_a.receive_and_ack(&subscription, 6).await;
    let held = nodes.on_a.receive(&subscription, 4).await;
    let extend = nodes
        .on_a
        .modify_deadline(&subscription, ack_ids(&held[..2]), 600);
    ok(extend.await);
    nodes.a.signal("TERM").await;
    let (status, log) = nodes.a.ended().await;
    assert!(status.success(), "{log}");
    let stopped = Instant::now();
    ok_now(&nodes.on_b, &subscription).await;
    assert!(
        stopped.elapsed() < LEASE / 2,
        "it did not wait for a lease's end"
    );

    // Ack ids of the stopped server work; what it leased for long stays leased.
    ok(nodes.on_b.ack(&subscription, ack_ids(&held[..1])).await);
    let again = nodes.on_b.receive_and_ack(&subscription, 2).await;
    assert_eq!(texts(&again), texts(&held[2..]));
    nodes
        .on_b
        .assert_nothing(&subscription, "one is leased, nine are acked")
        .await;
}

/// The answer of a pull that must be accepted at once.
async fn ok_now(client: &Client, subscription: &str) -> Vec<Received> {
    let pulled = client.try_pull_now(subscription).await;
    pulled.expect("it delivers at once")
}
