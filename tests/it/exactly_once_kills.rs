//! Exactly-once delivery while servers are killed and subscriptions change hands: no message comes while it is leased or
//! after its ack was answered, and what was answered may be asked again.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use packetboat::proto::google::pubsub::v1::Subscription;
use parking_lot::Mutex;
use tonic::Status;

use crate::support::{
    Client,
    admin::{bare, subscription_name},
    backlog::pull_request,
    eventually, few_or_many,
    location::Location,
    nodes::Nodes,
    ok,
    process::Process,
    values::{Received, numbered},
    within,
};

/// Leases outlast the test, so that no message may come twice.
const ACK_DEADLINE_SECONDS: i32 = 600;

/// What a consumer was told, over all servers.
#[derive(Default)]
struct Told {
    /// The ack id of each message that came, by message id.
    received: HashMap<String, String>,
    /// Ack ids whose ack was answered.
    acked: HashSet<String>,
    /// Messages that were given back, answered or not: they may come again.
    given_back: HashSet<String>,
}

impl Told {
    /// Fails if a message is one that may not come.
    #[track_caller]
    fn receive(&mut self, id: &str, ack_id: String) {
        let before = self.received.insert(id.to_owned(), ack_id);
        let may_come = before.is_none() || self.given_back.remove(id);
        assert!(may_come, "message {id} came while it was leased");
    }
}

async fn subscription(client: &Client, topic: &str) -> String {
    let subscription = Subscription {
        enable_exactly_once_delivery: true,
        ack_deadline_seconds: ACK_DEADLINE_SECONDS,
        ..bare(&subscription_name("worker"), topic)
    };
    ok(client.create_subscription(subscription).await).name
}

/// Pulls again and again until a call fails. What comes is held, for as long as before or longer, acknowledged or given
/// back, by chance.
async fn consume(client: &Client, subscription: &str, told: &Mutex<Told>) -> Result<(), Status> {
    loop {
        let request = pull_request(subscription, 30, true);
        let answer = client.subscriber().pull(request).await?.into_inner();
        let received = answer.received_messages.into_iter().map(Received::from);
        let (mut to_ack, mut to_extend, mut to_give_back) = (Vec::new(), Vec::new(), Vec::new());
        for received in received {
            let (id, ack_id) = (received.message.message_id, received.ack_id);
            told.lock().receive(&id, ack_id.clone());
            match getrandom::u32().expect("random numbers") % 6 {
                0 => {}
                1 => to_extend.push(ack_id),
                2 => {
                    told.lock().given_back.insert(id);
                    to_give_back.push(ack_id);
                }
                _ => to_ack.push(ack_id),
            }
        }
        if !to_extend.is_empty() {
            let extend = client.modify_deadline(subscription, to_extend, ACK_DEADLINE_SECONDS - 1);
            extend.await?;
        }
        if !to_ack.is_empty() {
            client.ack(subscription, to_ack.clone()).await?;
            told.lock().acked.extend(to_ack);
        }
        if !to_give_back.is_empty() {
            client
                .modify_deadline(subscription, to_give_back, 0)
                .await?;
        }
    }
}

/// Every id of a message that came may be acknowledged, also those that were before; not what was given back.
async fn acknowledge_all(client: &Client, subscription: &str, told: &Mutex<Told>) {
    let ids: Vec<String> = {
        let told = told.lock();
        let held = told.received.iter();
        let held = held.filter(|(id, _)| !told.given_back.contains(*id));
        held.map(|(_, ack_id)| ack_id.clone()).collect()
    };
    for some in ids.chunks(1000) {
        ok(client.ack(subscription, some.to_vec()).await);
    }
    told.lock().acked.extend(ids);
}

async fn kill_under_load(location: &Location) {
    let told = Mutex::new(Told::default());
    let (mut topic, mut name) = (String::new(), String::new());
    for kill in 0..few_or_many(3, 20) {
        let server = Process::serve_at(location, "only").await;
        let client = server.client().await;
        if kill == 0 {
            topic = client.topic("orders").await;
            name = subscription(&client, &topic).await;
        } else {
            acknowledge_all(&client, &name, &told).await;
        }
        for _ in 0..10 {
            client.publish(&topic, &numbered(100)).await;
        }
        let before = told.lock().received.len();
        let killed = async {
            eventually("messages come", || async {
                (told.lock().received.len() > before).then_some(())
            })
            .await;
            // Some way into the work, each time a little further.
            tokio::time::sleep(Duration::from_millis(11 * kill as u64)).await;
            server.signal("KILL").await;
        };
        let consumed = consume(&client, &name, &told);
        let (consumed, ()) = within("the kill", async { tokio::join!(consumed, killed) }).await;
        consumed.expect_err("it was killed");
        server.ended().await;
    }
    let server = Process::serve_at(location, "only").await;
    let client = server.client().await;
    acknowledge_all(&client, &name, &told).await;
    acknowledge_all(&client, &name, &told).await;
    assert!(!told.lock().acked.is_empty());
}

#[tokio::test]
async fn case_48_sigkill_doubles_no_lease_and_undoes_no_confirmed_ack() {
    kill_under_load(&Location::embedded()).await;
}

#[tokio::test]
async fn case_48_on_kafka_and_postgres() {
    kill_under_load(&Location::kafka_and_postgres().await).await;
}

#[tokio::test]
async fn case_48_another_owner_goes_on_where_a_killed_one_was() {
    let nodes = Nodes::start().await;
    let topic = nodes.on_a.topic("orders").await;
    let name = subscription(&nodes.on_a, &topic).await;
    let told = Mutex::new(Told::default());
    for _ in 0..10 {
        nodes.on_a.publish(&topic, &numbered(100)).await;
    }
    let killed = async {
        eventually("messages come", || async {
            (told.lock().received.len() > 100).then_some(())
        })
        .await;
        nodes.a.signal("KILL").await;
    };
    let consumed = consume(&nodes.on_a, &name, &told);
    let (consumed, ()) = within("the kill", async { tokio::join!(consumed, killed) }).await;
    consumed.expect_err("it was killed");
    eventually("node-b takes it over", || async {
        let request = pull_request(&name, 1, true);
        let answer = nodes
            .on_b
            .subscriber()
            .pull(request)
            .await
            .ok()?
            .into_inner();
        for received in answer.received_messages.into_iter().map(Received::from) {
            let id = received.message.message_id;
            told.lock().receive(&id, received.ack_id);
        }
        Some(())
    })
    .await;
    acknowledge_all(&nodes.on_b, &name, &told).await;
    acknowledge_all(&nodes.on_b, &name, &told).await;
}

#[tokio::test]
async fn it_is_turned_on_by_any_node_while_another_one_delivers() {
    let (nodes, topic, name) = Nodes::with_subscription().await;
    nodes.on_a.publish(&topic, &numbered(2)).await;
    let before = nodes.on_a.receive(&name, 2).await;
    let changed = Subscription {
        enable_exactly_once_delivery: true,
        ..bare(&name, &topic)
    };
    let paths = ["enable_exactly_once_delivery"];
    ok(nodes.on_b.update_subscription(changed, &paths).await);
    // It holds at once: what was leased is stored, and what comes now is judged.
    let ids: Vec<String> = before.iter().map(|it| it.ack_id.clone()).collect();
    let mut stream = nodes.on_a.stream(&name).await;
    stream.ping().await;
    let properties = stream.frame().await.subscription_properties;
    assert!(
        properties
            .expect("properties")
            .exactly_once_delivery_enabled
    );
    let garbage = vec!["garbage".to_owned()];
    let refused = nodes.on_a.ack(&name, garbage).await;
    let status = refused.expect_err("it is judged");
    assert!(!status.details().is_empty(), "{status:?}");
    ok(nodes.on_a.ack(&name, ids).await);
}
