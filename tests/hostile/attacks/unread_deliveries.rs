//! Streams of one connection that take nothing of large backlogs, which wait in the server for each of them.

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use packetboat::proto::google::pubsub::v1::{
    PublishRequest, PubsubMessage, StreamingPullRequest, StreamingPullResponse, Subscription,
    Topic, publisher_client::PublisherClient, subscriber_client::SubscriberClient,
};
use prost::Message as _;
use tokio::time::sleep;
use tonic::{Streaming, transport::Channel};

use crate::{Attack, Target, figures::Limits, is_long};

const TOPIC: &str = "projects/hostile/topics/backlog";
/// Of a message's data.
const MESSAGE_BYTES: usize = 16 * 1024;
/// Those of one request, of which there are so many: 12 MiB.
const MESSAGES: usize = 128;
const REQUESTS: usize = 6;

/// See the module.
pub(crate) struct UnreadDeliveries;

/// Subscriptions with a stream each, of which a connection has 1,024.
fn streams() -> usize {
    if is_long() { 1000 } else { 200 }
}

#[async_trait]
impl Attack for UnreadDeliveries {
    fn name(&self) -> &'static str {
        "unread deliveries"
    }

    fn limits(&self) -> Limits {
        Limits {
            growth_mib: 300,
            ..Limits::default()
        }
    }

    async fn prepare(&mut self, target: &Target) {
        let channel = target.channel().await;
        let mut publisher = PublisherClient::new(channel.clone());
        let mut subscriber = SubscriberClient::new(channel);
        let topic = Topic {
            name: TOPIC.to_owned(),
            ..Topic::default()
        };
        publisher.create_topic(topic).await.expect("it is made");
        // One more, of which another connection takes something.
        for number in 0..=streams() {
            let subscription = Subscription {
                name: subscription(number),
                topic: TOPIC.to_owned(),
                ..Subscription::default()
            };
            let made = subscriber.create_subscription(subscription).await;
            made.expect("it is made");
        }
        let message = PubsubMessage {
            data: Bytes::from(vec![0; MESSAGE_BYTES]),
            ..PubsubMessage::default()
        };
        let request = PublishRequest {
            topic: TOPIC.to_owned(),
            messages: vec![message.encode_to_vec().into(); MESSAGES],
        };
        for _ in 0..REQUESTS {
            let answer = publisher.publish(request.clone()).await;
            answer.expect("it is published");
        }
    }

    async fn run(&mut self, target: &Target) -> Result<u64, String> {
        let channel = target.channel().await;
        let mut unread = Vec::new();
        for number in 0..streams() {
            unread.push(open(&channel, number).await);
        }
        sleep(target.lasts / 2).await;
        let mut last = open(&target.channel().await, streams()).await;
        let first = last.next().await.ok_or("the stream ended")?;
        first.map_err(|status| status.to_string())?;
        sleep(target.lasts / 2).await;
        Ok(unread.len() as u64)
    }
}

fn subscription(number: usize) -> String {
    format!("projects/hostile/subscriptions/backlog-{number}")
}

/// A stream of this subscription, without limits of its own.
async fn open(channel: &Channel, number: usize) -> Streaming<StreamingPullResponse> {
    let opening = StreamingPullRequest {
        subscription: subscription(number),
        stream_ack_deadline_seconds: 60,
        ..StreamingPullRequest::default()
    };
    // It stays open on this side, too.
    let requests = stream::iter([opening]).chain(stream::pending());
    let mut subscriber = SubscriberClient::new(channel.clone());
    let opened = subscriber.streaming_pull(requests).await;
    opened.expect("it is opened").into_inner()
}
