//! `packetboat subscriptions redrive`.

use packetboat::proto::google::pubsub::v1::{DeadLetterPolicy, PubsubMessage, Subscription};

use crate::support::{
    Client, Pubsub,
    admin::{bare, subscription_name},
    ok, process,
    values::{ack_ids, attributes, map, texts},
};

/// A topic `orders` with the subscription `worker`, whose dead letters the subscription `undertaker` has.
struct World {
    pubsub: Pubsub,
    client: Client,
    orders: String,
    worker: String,
    undertaker: String,
}

impl World {
    async fn new() -> Self {
        let pubsub = Pubsub::on_system_clock().await;
        let client = pubsub.client();
        let orders = client.topic("orders").await;
        let dead = client.topic("dead").await;
        let undertaker = client.subscription("undertaker", &dead).await;
        let worker = Subscription {
            dead_letter_policy: Some(DeadLetterPolicy {
                dead_letter_topic: dead,
                max_delivery_attempts: 5,
            }),
            ..bare(&subscription_name("worker"), &orders)
        };
        let worker = ok(client.create_subscription(worker).await).name;
        Self {
            pubsub,
            client,
            orders,
            worker,
            undertaker,
        }
    }

    /// Has messages with these texts fail until they are dead letters.
    async fn kill(&self, messages: &[PubsubMessage]) {
        self.client.publish(&self.orders, messages).await;
        for _ in 0..5 {
            let received = self.client.receive(&self.worker, messages.len()).await;
            let nack = self
                .client
                .modify_deadline(&self.worker, ack_ids(&received), 0);
            ok(nack.await);
        }
        // They are here.
        let dead = self.client.receive(&self.undertaker, messages.len()).await;
        let back = self
            .client
            .modify_deadline(&self.undertaker, ack_ids(&dead), 0);
        ok(back.await);
    }

    async fn redrive(&self, arguments: &[&str]) -> (bool, String) {
        let address = self.pubsub.address();
        let mut all = vec![
            "subscriptions",
            "redrive",
            &self.undertaker,
            "--addr",
            &address,
        ];
        all.extend(arguments);
        let output = process::run(&all).await;
        let text = [output.stdout, output.stderr].concat();
        (
            output.status.success(),
            String::from_utf8_lossy(&text).into_owned(),
        )
    }
}

fn texted(text: &str) -> PubsubMessage {
    PubsubMessage {
        data: text.to_owned().into(),
        ordering_key: "key".to_owned(),
        ..attributes(&[("text", text)])
    }
}

#[tokio::test]
async fn dead_letters_go_back_as_they_were_and_are_gone() {
    let world = World::new().await;
    let neighbour = world.client.subscription("neighbour", &world.orders).await;
    world.kill(&["a", "b", "c"].map(texted)).await;
    world.client.receive_and_ack(&neighbour, 3).await;
    let (is_whole, said) = world.redrive(&["--yes"]).await;
    assert!(is_whole, "{said}");
    assert!(
        said.contains(&world.orders) && said.contains(&neighbour),
        "{said}"
    );
    assert!(said.contains("3 sent, 0 left"), "{said}");
    for subscription in [&world.worker, &neighbour] {
        let back = world.client.receive_and_ack(subscription, 3).await;
        assert_eq!(texts(&back), ["a", "b", "c"]);
        for received in back {
            let text = received.text();
            assert_eq!(received.message.attributes, map(&[("text", &text)]));
            assert_eq!(received.message.ordering_key, "key");
        }
    }
    world
        .client
        .assert_nothing(&world.undertaker, "all went back")
        .await;
}

#[tokio::test]
async fn what_does_not_match_or_is_too_much_stays() {
    let world = World::new().await;
    world.kill(&["a", "b", "c"].map(texted)).await;
    let (_, said) = world.redrive(&["--dry-run"]).await;
    assert!(said.contains("3 would be sent"), "{said}");
    let (is_whole, said) = world.redrive(&[]).await;
    assert!(!is_whole && said.contains("--yes"), "{said}");
    let filter = r#"NOT attributes.text = "b""#;
    let (_, said) = world
        .redrive(&["--yes", "--filter", filter, "--limit", "1"])
        .await;
    assert!(said.contains("1 sent"), "{said}");
    let (_, said) = world.redrive(&["--yes", "--filter", filter]).await;
    assert!(said.contains("1 sent, 1 left"), "{said}");
    let left = world.client.receive_and_ack(&world.undertaker, 1).await;
    assert_eq!(texts(&left), ["b"]);
    let back = world.client.receive_and_ack(&world.worker, 2).await;
    assert_eq!(texts(&back), ["a", "c"]);
}

#[tokio::test]
async fn without_its_subscription_a_topic_has_to_be_named() {
    let world = World::new().await;
    world.kill(&[texted("a")]).await;
    ok(world.client.delete_subscription(&world.worker).await);
    let (is_whole, said) = world.redrive(&["--yes"]).await;
    assert!(!is_whole && said.contains("--to-topic"), "{said}");
    let other = world.client.topic("other").await;
    let reader = world.client.subscription("reader", &other).await;
    let (is_whole, said) = world.redrive(&["--yes", "--to-topic", &other]).await;
    assert!(is_whole && said.contains(&reader), "{said}");
    world.client.receive_and_ack(&reader, 1).await;
    world
        .client
        .assert_nothing(&world.undertaker, "it went there")
        .await;
}
