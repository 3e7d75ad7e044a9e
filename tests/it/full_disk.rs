//! A disk that is full: nothing is lost, what makes room works, and then everything does again.
//!
//! These tests mount file systems of their own, which takes root.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use futures_util::future::join_all;
use packetboat::proto::google::pubsub::v1::{Subscription, Topic};
use tempfile::TempDir;
use tonic::{Code, Status};

use crate::support::{
    Client, Pubsub,
    admin::{bare, subscription_name, topic_name},
    eventually,
    http::call,
    ok, refused,
    values::{message, publish_request, seconds},
};

const DISK_MIB: u64 = 160;
const MESSAGE_BYTES: usize = 500_000;

/// A small file system, unmounted when it is dropped.
struct Disk {
    directory: TempDir,
}

impl Disk {
    fn mount() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let size = format!("size={DISK_MIB}m");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "none"])
            .arg(directory.path())
            .status();
        assert!(
            mounted.expect("the command mount").success(),
            "a file system could not be mounted; these tests have to run as root"
        );
        Self { directory }
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// As another program may do it.
    fn fill(&self) {
        let mut filler = File::create(self.filler()).expect("a file");
        while filler.write_all(&[1; 4096]).is_ok() {}
    }

    fn filler(&self) -> PathBuf {
        self.directory.path().join("filler")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount")
            .arg("--lazy")
            .arg(self.directory.path())
            .status();
        assert!(unmounted.is_ok_and(|status| status.success()) || std::thread::panicking());
    }
}

async fn start(data: &Path) -> (Pubsub, Client) {
    let pubsub = Pubsub::in_directory_on_system_clock(data).await;
    let client = pubsub.client();
    (pubsub, client)
}

async fn publish(client: &Client, topic: &str) -> Result<(), Status> {
    let messages = vec![message(vec![b'x'; MESSAGE_BYTES]); 4];
    let request = publish_request(topic, &messages);
    client.publisher().publish(request).await.map(drop)
}

/// Publishes many requests at a time until they are refused. How many messages were stored.
async fn publish_until_full(client: &Client, topic: &str) -> usize {
    let mut stored = 0;
    loop {
        let answers = join_all((0..16).map(|_| publish(client, topic))).await;
        let (good, refusals): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
        stored += 4 * good.len();
        assert!(stored * MESSAGE_BYTES < DISK_MIB as usize * 1024 * 1024);
        for refusal in &refusals {
            let status = refusal.as_ref().expect_err("refused");
            assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
            assert!(status.message().contains("is full"), "{status:?}");
        }
        if !refusals.is_empty() {
            return stored;
        }
    }
}

/// Bytes of all files in the data directory.
fn bytes_in(data: &Path) -> u64 {
    let entries = fs::read_dir(data).expect("a directory");
    let sizes = entries.map(|entry| {
        entry
            .expect("an entry")
            .metadata()
            .map_or(0, |file| file.len())
    });
    sizes.sum()
}

async fn assert_nothing_is_added(client: &Client, topic: &str, subscription: &str) {
    let code = Code::ResourceExhausted;
    refused(publish(client, topic).await, code, "Publish");
    let made = Topic {
        name: topic_name("another"),
        ..Topic::default()
    };
    refused(client.create_topic(made).await, code, "CreateTopic");
    let made = bare(&subscription_name("another"), topic);
    refused(
        client.create_subscription(made).await,
        code,
        "CreateSubscription",
    );
    let changed = Topic {
        name: topic.to_owned(),
        labels: [("a".to_owned(), "b".to_owned())].into(),
        ..Topic::default()
    };
    let changed = client.update_topic(changed, &["labels"]).await;
    refused(changed, code, "UpdateTopic");
    let changed = Subscription {
        message_retention_duration: seconds(700),
        ..bare(subscription, topic)
    };
    let paths = ["message_retention_duration"];
    let changed = client.update_subscription(changed, &paths).await;
    refused(changed, code, "UpdateSubscription");
}

/// Receives, acknowledges and gives back. How many were acknowledged.
async fn ack_some(client: &Client, subscription: &str, most: i32) -> usize {
    let received = client.receive_some(subscription, most).await;
    let mut ids: Vec<_> = received.into_iter().map(|one| one.ack_id).collect();
    if ids.len() > 1 {
        let given_back = ids.split_off(ids.len() - 1);
        ok(client.modify_deadline(subscription, given_back, 0).await);
    }
    let acked = ids.len();
    ok(client.ack(subscription, ids).await);
    acked
}

async fn health(pubsub: &Pubsub) -> (String, String) {
    let answer = call(
        &pubsub.address(),
        "GET",
        "/healthz",
        serde_json::Value::Null,
    )
    .await;
    let health = answer.expect(200).json();
    assert_eq!(health["status"], "ok");
    assert_eq!(health["log"]["status"], health["store"]["status"]);
    let text = |part: &serde_json::Value| part.as_str().unwrap_or_default().to_owned();
    (
        text(&health["log"]["status"]),
        text(&health["log"]["message"]),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_room_works_on_a_full_disk_until_there_is_room_again() {
    let disk = Disk::mount();
    let (pubsub, client) = start(&disk.data()).await;
    let topic = client.topic("orders").await;
    let other = client.topic("other").await;
    let worker = client.subscription("worker", &topic).await;
    let deleted = client.subscription("deleted", &topic).await;
    let detached = client.subscription("detached", &topic).await;
    let stored = publish_until_full(&client, &topic).await;
    assert!(stored > 100, "{stored} messages fill the disk");
    // What was under way when the disk was full has not used up the reserve.
    let bytes = bytes_in(&disk.data());
    assert!(bytes < (DISK_MIB - 10) * 1024 * 1024, "{bytes}");

    assert_nothing_is_added(&client, &topic, &worker).await;
    let (status, text) = health(&pubsub).await;
    assert_eq!(status, "full");
    assert!(text.contains("40 MiB"), "{text}");
    let mut acked = ack_some(&client, &worker, 5).await;

    pubsub.stop().await;
    let (pubsub, client) = start(&disk.data()).await;
    assert_nothing_is_added(&client, &topic, &worker).await;
    acked += ack_some(&client, &worker, 5).await;
    ok(client.delete_subscription(&deleted).await);
    ok(client.detach(&detached).await);
    ok(client.delete_topic(&other).await);

    while acked < stored {
        acked += ack_some(&client, &worker, 20).await;
    }
    eventually("room again", || async {
        publish(&client, &topic).await.ok()
    })
    .await;
    assert_eq!(health(&pubsub).await.0, "ok");
    client.topic("another").await;
    pubsub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_another_program_fills_fails_no_acknowledgement() {
    let disk = Disk::mount();
    let (pubsub, client) = start(&disk.data()).await;
    let topic = client.topic("orders").await;
    let worker = client.subscription("worker", &topic).await;
    for _ in 0..5 {
        publish(&client, &topic).await.expect("there is room");
    }
    disk.fill();
    // More than what the write-ahead log has room for.
    for _ in 0..10 {
        ack_some(&client, &worker, 2).await;
    }
    pubsub.stop().await;

    // It may also happen while the server does not run.
    fs::remove_file(disk.filler()).expect("removed");
    let (pubsub, client) = start(&disk.data()).await;
    publish(&client, &topic).await.expect("there is room again");
    pubsub.stop().await;
    disk.fill();
    let (pubsub, client) = start(&disk.data()).await;
    refused(
        publish(&client, &topic).await,
        Code::ResourceExhausted,
        "Publish",
    );
    ack_some(&client, &worker, 2).await;
    fs::remove_file(disk.filler()).expect("removed");
    publish(&client, &topic).await.expect("there is room again");
    pubsub.stop().await;
}
