//! Lists of which nothing is read, on one connection: pages of several megabytes each.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use packetboat::proto::google::pubsub::v1::{
    ListTopicsRequest, Topic, publisher_client::PublisherClient,
};
use prost::Message as _;
use tokio::{task::JoinSet, time::sleep};
use tonic::{body::Body, transport::Channel};
use tower::ServiceExt;

use crate::{Attack, Target, figures::Limits, is_long, raw};

/// What is listed.
pub(super) const PROJECT: &str = "projects/lists";
/// Each with 8 KB of labels: a page of them has 3.4 MB.
const TOPICS: usize = 400;

/// See the module.
pub(crate) struct UnreadLists;

#[async_trait]
impl Attack for UnreadLists {
    fn name(&self) -> &'static str {
        "unread lists"
    }

    fn limits(&self) -> Limits {
        Limits {
            // A connection has eight of them at a time.
            growth_mib: 90,
            p99: Duration::from_millis(500),
            ..Limits::default()
        }
    }

    async fn prepare(&mut self, target: &Target) {
        make_topics(target).await;
    }

    async fn run(&mut self, target: &Target) -> Result<u64, String> {
        let start = Instant::now();
        let channel = target.channel().await;
        let count = if is_long() { 1000 } else { 100 };
        let mut unread = JoinSet::new();
        for _ in 0..count {
            unread.spawn(list(channel.clone()));
        }
        let left = target.lasts.saturating_sub(start.elapsed());
        sleep(left).await;
        Ok(count)
    }
}

/// Makes those of the project.
pub(super) async fn make_topics(target: &Target) {
    let mut publisher = PublisherClient::new(target.channel().await);
    let labels = (0..64).map(|number| (format!("l{number:062}"), "v".repeat(63)));
    let labels: std::collections::HashMap<_, _> = labels.collect();
    for number in 0..TOPICS {
        let topic = Topic {
            name: format!("{PROJECT}/topics/topic-{number}"),
            labels: labels.clone(),
            ..Topic::default()
        };
        let made = publisher.create_topic(topic).await;
        made.expect("the topic is made");
    }
}

/// A list whose answer is never read.
async fn list(channel: Channel) {
    let request = ListTopicsRequest {
        project: PROJECT.to_owned(),
        page_size: 1000,
        ..ListTopicsRequest::default()
    };
    let body = Bytes::from(raw::frame(0, &request.encode_to_vec()));
    let request = Request::post("/google.pubsub.v1.Publisher/ListTopics")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Body::new(Full::new(body)))
        .expect("a request");
    let answer = channel.oneshot(request).await;
    std::future::pending::<()>().await;
    drop(answer);
}
