//! A StreamingPull call: send requests, expect frames, silence or an end.

use packetboat::proto::google::pubsub::v1::{
    StreamingPullRequest, StreamingPullResponse, subscriber_client::SubscriberClient,
};
use tokio::sync::mpsc;
use tonic::{Code, Status, Streaming};

use super::{Client, transport::Transport, values::Received, within};

/// An open stream.
pub(crate) struct PullStream {
    requests: Option<mpsc::Sender<StreamingPullRequest>>,
    responses: Streaming<StreamingPullResponse>,
    waiting: Vec<Received>,
    /// Whether frames say that messages come in order.
    is_ordered: bool,
    /// Whether frames say that delivery is exactly once.
    is_exactly_once: bool,
}

/// The first request of a stream with a deadline of 10 s, no flow control and protocol version 1.
pub(crate) fn opening(subscription: &str) -> StreamingPullRequest {
    StreamingPullRequest {
        subscription: subscription.to_owned(),
        stream_ack_deadline_seconds: 10,
        protocol_version: 1,
        ..Default::default()
    }
}

impl Client {
    /// Opens a stream with [`opening`].
    pub(crate) async fn stream(&self, subscription: &str) -> PullStream {
        self.open(opening(subscription))
            .await
            .expect("the stream opens")
    }

    /// Opens a stream with this first request; the call has its response headers when this returns.
    pub(crate) async fn open(&self, first: StreamingPullRequest) -> Result<PullStream, Status> {
        PullStream::open(self.subscriber(), first).await
    }
}

impl PullStream {
    /// Frames are to say that messages come in order.
    pub(crate) fn expect_ordering(&mut self) {
        self.is_ordered = true;
    }

    /// Frames are to say that delivery is exactly once.
    pub(crate) fn expect_exactly_once(&mut self) {
        self.is_exactly_once = true;
    }

    /// Opens a stream over `subscriber`.
    pub(crate) async fn open(
        mut subscriber: SubscriberClient<Transport>,
        first: StreamingPullRequest,
    ) -> Result<Self, Status> {
        let (requests, receiver) = mpsc::channel(16);
        requests
            .try_send(first)
            .expect("there is room for the first");
        let outgoing = futures_util::stream::unfold(receiver, |mut receiver| async move {
            receiver.recv().await.map(|request| (request, receiver))
        });
        let call = subscriber.streaming_pull(outgoing);
        let responses = within("response headers of a stream", call).await?;
        Ok(Self {
            requests: Some(requests),
            responses: responses.into_inner(),
            waiting: Vec::new(),
            is_ordered: false,
            is_exactly_once: false,
        })
    }

    /// Sends a later request.
    pub(crate) async fn send(&self, request: StreamingPullRequest) {
        let requests = self.requests.as_ref().expect("the sending half is open");
        // A stream that the server has ended takes no more; its status is what the test checks.
        let _ = requests.send(request).await;
    }

    /// Acknowledges on the stream.
    pub(crate) async fn ack(&self, ack_ids: Vec<String>) {
        self.send(StreamingPullRequest {
            ack_ids,
            ..Default::default()
        })
        .await;
    }

    /// Sets deadlines on the stream; zero is a nack.
    pub(crate) async fn modify_deadlines(&self, ack_ids: Vec<String>, seconds: i32) {
        self.send(StreamingPullRequest {
            modify_deadline_seconds: vec![seconds; ack_ids.len()],
            modify_deadline_ack_ids: ack_ids,
            ..Default::default()
        })
        .await;
    }

    /// An empty request, which a stream of protocol version 1 answers.
    pub(crate) async fn ping(&self) {
        self.send(StreamingPullRequest::default()).await;
    }

    /// Ends the sending half.
    pub(crate) fn half_close(&mut self) {
        self.requests = None;
    }

    /// The next response, whatever it is.
    pub(crate) async fn frame(&mut self) -> StreamingPullResponse {
        let frame = within("a frame", self.responses.message()).await;
        frame
            .expect("the stream goes on")
            .expect("the stream has not ended")
    }

    /// The messages of the next response, or the status that ends the stream.
    pub(crate) async fn next(&mut self) -> Result<Vec<Received>, Status> {
        let frame = self.responses.message().await?;
        let frame = frame.ok_or_else(|| Status::ok(""))?;
        let received = frame.received_messages.into_iter();
        Ok(received.map(Received::from).collect())
    }

    /// Receives until `count` messages have come, and no more than that in their frames.
    pub(crate) async fn receive(&mut self, count: usize) -> Vec<Received> {
        while self.waiting.len() < count {
            let frame = self.frame().await;
            self.keep(frame);
        }
        assert_eq!(
            self.waiting.len(),
            count,
            "more messages came than expected"
        );
        std::mem::take(&mut self.waiting)
    }

    /// Receives at least one message.
    pub(crate) async fn receive_some(&mut self) -> Vec<Received> {
        while self.waiting.is_empty() {
            let frame = self.frame().await;
            self.keep(frame);
        }
        std::mem::take(&mut self.waiting)
    }

    /// Pings twice, and fails if a message came before the second answer. Everything that was sent before has
    /// then been through the server.
    pub(crate) async fn assert_no_message(&mut self, why: &str) {
        for _ in 0..2 {
            self.pong_after_ping().await;
        }
        assert!(self.waiting.is_empty(), "{why}: {:?}", self.waiting);
    }

    /// Pings and waits for the answer: the server has then seen what was sent before.
    pub(crate) async fn pong_after_ping(&mut self) {
        self.ping().await;
        self.pong().await;
    }

    /// Waits for an answer to a ping; messages that come before it are kept for [`Self::receive`].
    pub(crate) async fn pong(&mut self) {
        loop {
            let frame = self.frame().await;
            if frame.received_messages.is_empty() {
                return;
            }
            self.keep(frame);
        }
    }

    /// The status that ends the stream; messages before it are dropped.
    pub(crate) async fn end(&mut self) -> Status {
        within("the stream's end", async {
            loop {
                match self.responses.message().await {
                    Ok(Some(_)) => {}
                    Ok(None) => return Status::ok(""),
                    Err(status) => return status,
                }
            }
        })
        .await
    }

    /// The status that ends the stream, before which no message may come.
    pub(crate) async fn end_without_message(&mut self) -> Status {
        within("the stream's end", async {
            loop {
                match self.responses.message().await {
                    Ok(Some(frame)) => {
                        assert!(frame.received_messages.is_empty(), "{frame:?}");
                    }
                    Ok(None) => return Status::ok(""),
                    Err(status) => return status,
                }
            }
        })
        .await
    }

    /// Fails unless the stream ends with `code`.
    pub(crate) async fn assert_ends(&mut self, code: Code, why: &str) -> Status {
        let status = self.end().await;
        assert_eq!(status.code(), code, "{why}: {status:?}");
        status
    }

    fn keep(&mut self, frame: StreamingPullResponse) {
        let properties = frame.subscription_properties;
        let properties = properties.expect("every frame carries the subscription's properties");
        let is_exactly_once = properties.exactly_once_delivery_enabled;
        assert_eq!(is_exactly_once, self.is_exactly_once);
        assert_eq!(properties.message_ordering_enabled, self.is_ordered);
        self.waiting
            .extend(frame.received_messages.into_iter().map(Received::from));
    }
}
