//! Streams that acknowledge ten messages, and move their deadlines, hundreds of thousands of times in one request: more
//! often than a request may, and as often as one may.

use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::join_all;
use packetboat::proto::google::pubsub::v1::{
    PublishRequest, PubsubMessage, PullRequest, StreamingPullRequest, Subscription, Topic,
    publisher_client::PublisherClient, subscriber_client::SubscriberClient,
};
use prost::Message as _;

use crate::{Attack, Target, figures::Limits, raw};

const TOPIC: &str = "projects/hostile/topics/taken";
const SUBSCRIPTION: &str = "projects/hostile/subscriptions/taken-worker";
/// Messages that are acknowledged.
const MESSAGES: usize = 10;
/// How often each is, in one request.
const REPEATS: [usize; 2] = [30_000, 2_000];
const AT_ONCE: usize = 5;

/// See the module.
#[derive(Default)]
pub(crate) struct RepeatedAckIds {
    bodies: Vec<Bytes>,
}

#[async_trait]
impl Attack for RepeatedAckIds {
    fn name(&self) -> &'static str {
        "repeated ack ids"
    }

    fn limits(&self) -> Limits {
        Limits {
            // The five at once have 50 on their way in.
            growth_mib: 200,
            ..Limits::default()
        }
    }

    async fn prepare(&mut self, target: &Target) {
        let channel = target.channel().await;
        let ack_ids = deliver(channel).await;
        let bodies = REPEATS.map(|repeats| {
            let opening = StreamingPullRequest {
                subscription: SUBSCRIPTION.to_owned(),
                stream_ack_deadline_seconds: 60,
                ack_ids: [&ack_ids[..]].repeat(repeats).concat(),
                ..StreamingPullRequest::default()
            };
            let moved = StreamingPullRequest {
                modify_deadline_ack_ids: opening.ack_ids.clone(),
                modify_deadline_seconds: vec![60; opening.ack_ids.len()],
                ..StreamingPullRequest::default()
            };
            let frames = [opening, moved].map(|request| {
                let compressed = raw::gzip(&request.encode_to_vec());
                raw::frame(1, &compressed)
            });
            Bytes::from(frames.concat())
        });
        self.bodies = bodies.into();
    }

    async fn run(&mut self, target: &Target) -> Result<u64, String> {
        let channel = target.channel().await;
        let start = Instant::now();
        let mut sent = 0;
        while start.elapsed() < target.lasts {
            for body in &self.bodies {
                // Refused or carried out: either will do.
                let path = "/google.pubsub.v1.Subscriber/StreamingPull";
                let calls =
                    (0..AT_ONCE).map(|_| raw::call(&channel, path, Some("gzip"), body.clone()));
                sent += join_all(calls).await.len() as u64;
            }
        }
        Ok(sent)
    }
}

/// The ack ids of some messages.
async fn deliver(channel: tonic::transport::Channel) -> Vec<String> {
    let mut publisher = PublisherClient::new(channel.clone());
    let mut subscriber = SubscriberClient::new(channel);
    let topic = Topic {
        name: TOPIC.to_owned(),
        ..Topic::default()
    };
    publisher.create_topic(topic).await.expect("it is made");
    let subscription = Subscription {
        name: SUBSCRIPTION.to_owned(),
        topic: TOPIC.to_owned(),
        ..Subscription::default()
    };
    let made = subscriber.create_subscription(subscription).await;
    made.expect("it is made");
    let message = PubsubMessage {
        data: Bytes::from_static(b"taken"),
        ..PubsubMessage::default()
    };
    let request = PublishRequest {
        topic: TOPIC.to_owned(),
        messages: vec![message.encode_to_vec().into(); MESSAGES],
    };
    publisher.publish(request).await.expect("it is published");
    let request = PullRequest {
        subscription: SUBSCRIPTION.to_owned(),
        max_messages: i32::try_from(MESSAGES).expect("a small number"),
        ..PullRequest::default()
    };
    let answer = subscriber.pull(request).await.expect("it is answered");
    let received = answer.into_inner().received_messages;
    assert_eq!(received.len(), MESSAGES);
    received.into_iter().map(|it| it.ack_id).collect()
}
