//! The few requests of the scenarios. What they allocate is not counted.

use bytes::Bytes;
use packetboat::{
    proto::google::pubsub::v1::{
        AcknowledgeRequest, PublishRequest, PubsubMessage, PullRequest, StreamingPullRequest,
        StreamingPullResponse, Subscription, Topic, publisher_client::PublisherClient,
        subscriber_client::SubscriberClient,
    },
    resource::message::ReceivedMessage,
};
use prost::Message as _;
use tokio::sync::mpsc;
use tonic::{
    Streaming,
    transport::{Channel, Endpoint},
};

/// Bytes of data of every message.
const MESSAGE_BYTES: usize = 1024;

const TOPIC: &str = "projects/tests/topics/orders";
const SUBSCRIPTION: &str = "projects/tests/subscriptions/orders-worker";

/// One connection, and on its server one topic with one subscription.
pub(crate) struct Client {
    publisher: PublisherClient<Channel>,
    subscriber: SubscriberClient<Channel>,
}

impl Client {
    /// Connects and makes topic and subscription.
    pub(crate) async fn connect(address: &str) -> Self {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("a URI");
        let channel = endpoint.connect().await.expect("the server takes it");
        let mut client = Self {
            publisher: PublisherClient::new(channel.clone()),
            subscriber: SubscriberClient::new(channel),
        };
        let topic = Topic {
            name: TOPIC.to_owned(),
            ..Topic::default()
        };
        let made = client.publisher.create_topic(topic).await;
        made.expect("the topic is made");
        let subscription = Subscription {
            name: SUBSCRIPTION.to_owned(),
            topic: TOPIC.to_owned(),
            ..Subscription::default()
        };
        let made = client.subscriber.create_subscription(subscription).await;
        made.expect("the subscription is made");
        client
    }

    /// Publishes `total` messages, `batch` in a request, one request after the other.
    pub(crate) async fn publish(&mut self, total: usize, batch: usize) {
        let message = PubsubMessage {
            data: Bytes::from(vec![b'x'; MESSAGE_BYTES]),
            ..PubsubMessage::default()
        };
        let request = PublishRequest {
            topic: TOPIC.to_owned(),
            messages: vec![message.encode_to_vec().into(); batch],
        };
        for _ in 0..total / batch {
            let answer = self.publisher.publish(request.clone()).await;
            let ids = answer.expect("it is published").into_inner().message_ids;
            assert_eq!(ids.len(), batch);
        }
    }

    /// Pulls and acknowledges until `total` messages came, `batch` at most at a time.
    pub(crate) async fn drain(&mut self, total: usize, batch: usize) {
        let mut received = 0;
        while received < total {
            let request = PullRequest {
                subscription: SUBSCRIPTION.to_owned(),
                max_messages: i32::try_from(batch).expect("a small batch"),
                ..PullRequest::default()
            };
            let answer = self.subscriber.pull(request).await.expect("it is answered");
            let messages = answer.into_inner().received_messages;
            received += messages.len();
            let request = AcknowledgeRequest {
                subscription: SUBSCRIPTION.to_owned(),
                ack_ids: ack_ids(messages),
            };
            let answer = self.subscriber.acknowledge(request).await;
            answer.expect("it is acknowledged");
        }
    }

    /// Opens a stream of at most `outstanding` messages.
    pub(crate) async fn stream(&mut self, outstanding: usize) -> PullStream {
        let first = StreamingPullRequest {
            subscription: SUBSCRIPTION.to_owned(),
            stream_ack_deadline_seconds: 60,
            max_outstanding_messages: i64::try_from(outstanding).expect("a small number"),
            ..StreamingPullRequest::default()
        };
        let (requests, waiting) = mpsc::channel(4);
        requests.send(first).await.expect("there is room");
        let outgoing = futures_util::stream::unfold(waiting, |mut waiting| async move {
            waiting.recv().await.map(|request| (request, waiting))
        });
        let opened = self.subscriber.streaming_pull(outgoing).await;
        PullStream {
            requests,
            responses: opened.expect("the stream opens").into_inner(),
        }
    }
}

/// An open StreamingPull.
pub(crate) struct PullStream {
    requests: mpsc::Sender<StreamingPullRequest>,
    responses: Streaming<StreamingPullResponse>,
}

impl PullStream {
    /// Receives `total` messages and acknowledges each `batch` of them in one request.
    pub(crate) async fn receive_and_ack(&mut self, total: usize, batch: usize) {
        for _ in 0..total / batch {
            let mut received = Vec::with_capacity(batch);
            while received.len() < batch {
                let frame = self.responses.message().await.expect("the stream goes on");
                received.extend(frame.expect("it does not end").received_messages);
            }
            let request = StreamingPullRequest {
                ack_ids: ack_ids(received),
                ..StreamingPullRequest::default()
            };
            self.requests
                .send(request)
                .await
                .expect("the stream goes on");
        }
    }
}

fn ack_ids(received: Vec<ReceivedMessage>) -> Vec<String> {
    received.into_iter().map(|it| it.ack_id).collect()
}
