//! Ordering and exactly-once delivery over two nodes while publishers and consumers use both: when the node that delivers
//! is killed, or stands still past its lease and goes on, what the subscription has promised holds.

use std::mem;

use tonic::Code;

use crate::support::{
    eventually, few_or_many,
    nodes::Nodes,
    ok,
    process::Process,
    refused,
    shared_load::{Load, Promise, Running, up_to_millis},
    values::{Received, ack_ids},
};

const NAMES: [&str; 2] = ["node-a", "node-b"];

/// Two nodes, of which `node-a` delivers.
async fn start(promise: Promise) -> (Nodes, Load, Running, String) {
    let nodes = Nodes::start().await;
    let topic = nodes.on_a.topic("orders").await;
    let subscription = promise.subscription(&topic);
    let name = ok(nodes.on_a.create_subscription(subscription).await).name;
    nodes.on_a.assert_nothing(&name, "it is new").await;
    let clients = [&nodes.on_a, &nodes.on_b];
    let (load, running) = Load::start(promise, clients, &topic, &name);
    (nodes, load, running, name)
}

/// At any moment of publishing, delivering and storing.
async fn some_time() {
    tokio::time::sleep(up_to_millis(500)).await;
}

/// Returns once a node says that the other one delivers.
async fn refers(load: &Load, node: usize, subscription: &str) {
    eventually("it knows whose the subscription is", || async {
        let pulled = load.client(node).try_pull_now(subscription).await;
        let status = pulled.expect_err("it does not deliver any more");
        status.message().contains(NAMES[1 - node]).then_some(())
    })
    .await;
}

async fn kill_again_and_again(promise: Promise) {
    let (nodes, load, running, name) = start(promise).await;
    let mut processes = [nodes.a, nodes.b];
    let mut owner = 0;
    for _ in 0..few_or_many(2, 20) {
        let other = 1 - owner;
        load.delivers(owner).await;
        load.goes_on().await;
        some_time().await;
        processes[owner].signal("KILL").await;
        load.delivers(other).await;
        let again = Process::serve_at(&nodes.location, NAMES[owner]).await;
        load.reconnect(owner, again.client().await);
        mem::replace(&mut processes[owner], again).ended().await;
        refers(&load, owner, &name).await;
        load.goes_on().await;
        owner = other;
    }
    load.end(running).await;
}

/// Some messages that stay unacknowledged.
async fn hold(load: &Load, node: usize) -> Vec<Received> {
    eventually("messages come", || async {
        let received = load.pull(node).await.expect("it delivers");
        (!received.is_empty()).then_some(received)
    })
    .await
}

async fn freeze_again_and_again(promise: Promise) {
    let (nodes, load, running, name) = start(promise).await;
    let processes = [&nodes.a, &nodes.b];
    let mut owner = 0;
    for _ in 0..few_or_many(2, 20) {
        let other = 1 - owner;
        load.delivers(owner).await;
        load.goes_on().await;
        let held = hold(&load, owner).await;
        some_time().await;
        processes[owner].freeze().await;
        load.delivers(other).await;
        // It comes to the frozen node after its lease, so that it must not be confirmed.
        let late = tokio::spawn({
            let (client, name, ids) = (load.client(owner), name.clone(), ack_ids(&held));
            async move { client.ack(&name, ids).await }
        });
        processes[owner].signal("CONT").await;
        refused(late.await.expect("no panic"), Code::Unavailable, "its ack");
        refers(&load, owner, &name).await;
        load.acknowledge(other, &held).await;
        load.goes_on().await;
        owner = other;
    }
    load.end(running).await;
}

#[tokio::test]
async fn keys_keep_their_order_while_the_node_that_delivers_is_killed() {
    kill_again_and_again(Promise::Ordered).await;
}

#[tokio::test]
async fn exactly_once_holds_while_the_node_that_delivers_is_killed() {
    kill_again_and_again(Promise::ExactlyOnce).await;
}

#[tokio::test]
async fn keys_keep_their_order_when_the_node_that_delivered_stands_still_and_goes_on() {
    freeze_again_and_again(Promise::Ordered).await;
}

#[tokio::test]
async fn exactly_once_holds_when_the_node_that_delivered_stands_still_and_goes_on() {
    freeze_again_and_again(Promise::ExactlyOnce).await;
}
