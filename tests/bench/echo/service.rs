//! The calls: what is published is counted and forgotten, what is received was never published.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{Stream, StreamExt as _, future::BoxFuture, stream};
use prost::{Message, bytes::Bytes};
use tonic::{
    Request, Response, Status, Streaming,
    body::Body,
    server::{Grpc, NamedService},
};
use tonic_prost::ProstCodec;
use tower::service_fn;

use crate::messages::{
    AcknowledgeRequest, Delivery, Nothing, PublishRequest, PublishResponse, PubsubMessage,
    PullRequest, ReceivedMessage, StreamingPullRequest, Timestamp,
};

/// How many messages one response of a stream has.
const RESPONSE_MESSAGES: usize = 100;
/// How long nothing is published before a sink that waits begins.
const SILENCE: Duration = Duration::from_millis(200);
/// How many messages the response of a Pull has at most, as the API has it.
const PULL_MESSAGES_MAX: usize = 1_000;
/// As long as an ack id of Packetboat usually is.
const ACK_ID_LENGTH: usize = 60;
/// As long as a message id usually is.
const MESSAGE_ID: &str = "1234567890123456";
/// When the synthetic messages were published: any time does.
const PUBLISH_TIME: Timestamp = Timestamp {
    seconds: 1_750_000_000,
    nanos: 123_456_789,
};

/// What the calls share.
#[derive(Debug)]
pub(crate) struct Server {
    next_id: AtomicU64,
    /// An encoded [`ReceivedMessage`].
    synthetic: Bytes,
    sink_waits: bool,
}

impl Server {
    /// A server whose synthetic messages have `size` bytes of data. With `sink_waits`, they are sent only after what is
    /// published.
    pub(crate) fn new(size: usize, sink_waits: bool) -> Self {
        let synthetic = ReceivedMessage {
            ack_id: "A".repeat(ACK_ID_LENGTH),
            message: Some(PubsubMessage {
                data: vec![b'x'; size].into(),
                message_id: MESSAGE_ID.to_owned(),
                publish_time: Some(PUBLISH_TIME),
            }),
        };
        Self {
            next_id: AtomicU64::new(1),
            synthetic: synthetic.encode_to_vec().into(),
            sink_waits,
        }
    }

    async fn call(self: Arc<Self>, request: http::Request<Body>) -> http::Response<Body> {
        match request.uri().path() {
            "/google.pubsub.v1.Publisher/Publish" => {
                let publish = service_fn(|request: Request<PublishRequest>| {
                    let response = self.publish(request.get_ref());
                    async move { answer(response) }
                });
                Grpc::new(ProstCodec::default())
                    .unary(publish, request)
                    .await
            }
            "/google.pubsub.v1.Subscriber/StreamingPull" => {
                let pull = service_fn(|request: Request<Streaming<StreamingPullRequest>>| {
                    let server = Arc::clone(&self);
                    async move { server.streaming_pull(request.into_inner()).await }
                });
                Grpc::new(ProstCodec::default())
                    .streaming(pull, request)
                    .await
            }
            "/google.pubsub.v1.Subscriber/Pull" => {
                let pull = service_fn(|request: Request<PullRequest>| {
                    let wanted = usize::try_from(request.get_ref().max_messages).unwrap_or(0);
                    let response = self.delivery(wanted.min(PULL_MESSAGES_MAX));
                    async move { answer(response) }
                });
                Grpc::new(ProstCodec::default()).unary(pull, request).await
            }
            "/google.pubsub.v1.Subscriber/Acknowledge" => {
                let acknowledge =
                    service_fn(|_: Request<AcknowledgeRequest>| async { answer(Nothing {}) });
                Grpc::new(ProstCodec::default())
                    .unary(acknowledge, request)
                    .await
            }
            "/google.pubsub.v1.Publisher/CreateTopic"
            | "/google.pubsub.v1.Publisher/DeleteTopic"
            | "/google.pubsub.v1.Subscriber/CreateSubscription"
            | "/google.pubsub.v1.Subscriber/DeleteSubscription"
            | "/google.pubsub.v1.Subscriber/ModifyAckDeadline" => {
                let accept = service_fn(|_: Request<Nothing>| async { answer(Nothing {}) });
                Grpc::new(ProstCodec::default())
                    .unary(accept, request)
                    .await
            }
            path => Status::unimplemented(format!("{path} is not part of the echo")).into_http(),
        }
    }

    /// An id for each message.
    fn publish(&self, request: &PublishRequest) -> PublishResponse {
        let count = request.messages.len() as u64;
        let first = self.next_id.fetch_add(count, Ordering::Relaxed);
        PublishResponse {
            message_ids: (first..first + count).map(|id| id.to_string()).collect(),
        }
    }

    fn delivery(&self, messages: usize) -> Delivery {
        Delivery {
            received_messages: vec![self.synthetic.clone(); messages],
        }
    }

    /// As many messages as the stream takes, until the client ends it. Its requests are decoded and dropped.
    async fn streaming_pull(
        self: Arc<Self>,
        mut requests: Streaming<StreamingPullRequest>,
    ) -> Result<Response<impl Stream<Item = Result<Delivery, Status>>>, Status> {
        requests.message().await?;
        let server = Arc::clone(&self);
        let wait = stream::once(async move { server.silence().await });
        let deliveries = stream::poll_fn(move |context| {
            loop {
                match requests.poll_next_unpin(context) {
                    Poll::Ready(Some(Ok(_))) => {}
                    Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(None),
                    Poll::Pending => break,
                }
            }
            Poll::Ready(Some(Ok(self.delivery(RESPONSE_MESSAGES))))
        });
        // A response without messages, which clients pass over.
        let first = wait.map(|()| Ok(Delivery::default()));
        Ok(Response::new(first.chain(deliveries)))
    }

    /// If the sink waits: until something was published, and then nothing for a while.
    async fn silence(&self) {
        if !self.sink_waits {
            return;
        }
        let mut before = 1;
        loop {
            tokio::time::sleep(SILENCE).await;
            let now = self.next_id.load(Ordering::Relaxed);
            if now == before && now > 1 {
                return;
            }
            before = now;
        }
    }
}

/// What a call gives back to tonic.
#[expect(
    clippy::unnecessary_wraps,
    reason = "tonic's services may fail; these do not"
)]
fn answer<T>(response: T) -> Result<Response<T>, Status> {
    Ok(Response::new(response))
}

/// The calls under the name of the publisher's service.
#[derive(Clone, Debug)]
pub(crate) struct Publisher(pub(crate) Arc<Server>);

impl NamedService for Publisher {
    const NAME: &'static str = "google.pubsub.v1.Publisher";
}

/// The calls under the name of the subscriber's service.
#[derive(Clone, Debug)]
pub(crate) struct Subscriber(pub(crate) Arc<Server>);

impl NamedService for Subscriber {
    const NAME: &'static str = "google.pubsub.v1.Subscriber";
}

impl tower::Service<http::Request<Body>> for Publisher {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let server = Arc::clone(&self.0);
        Box::pin(async move { Ok(server.call(request).await) })
    }
}

impl tower::Service<http::Request<Body>> for Subscriber {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let server = Arc::clone(&self.0);
        Box::pin(async move { Ok(server.call(request).await) })
    }
}
