//! StreamingPull: one task reads the client's requests, the response stream merges answers and messages.

use std::{
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::Stream;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Request, Response, Status, Streaming};

use super::{
    confirming::{Unconfirmed, taken},
    status::status,
};
use crate::{
    limits::STREAM_EVENTS_MAX,
    proto::google::pubsub::v1::{
        StreamingPullRequest, StreamingPullResponse,
        streaming_pull_response::SubscriptionProperties,
    },
    resource::{name::SubscriptionName, violation::Violation},
    rpc,
    service::{ConsumeError, Guarded, MessageStream, OpenStream, Receipts, StreamStart},
    wire::{caller, layers::unsent::Sending},
};

/// The responses of one stream.
pub(super) type Responses =
    Pin<Box<dyn Stream<Item = Result<StreamingPullResponse, Status>> + Send>>;

/// What the reading task has for the response stream.
pub(super) enum Event {
    /// A ping is to be answered. One answer serves several pings.
    Pong,
    /// A request is confirmed.
    Confirmation(Box<StreamingPullResponse>),
    /// The stream ends: with OK after the client's half-close, or with an error.
    End(Option<Status>),
}

/// Opens a stream. Its headers are sent at once, as this returns before there is a message.
pub(super) async fn open(
    service: &Guarded,
    request: Request<Streaming<StreamingPullRequest>>,
) -> Result<Response<Responses>, Status> {
    let (caller, mut requests) = caller::with(request)?;
    let Some(mut first) = requests.message().await? else {
        let violation = Violation::argument("the stream ended before it named a subscription");
        return Err(status(ConsumeError::from(violation)));
    };
    let name = SubscriptionName::parse("name", &first.subscription)?;
    let needs = &rpc::STREAMING_PULL;
    let service = service.permit(&caller, needs, [name.as_str()]).await?;
    let start = StreamStart {
        subscription: name,
        client_id: mem::take(&mut first.client_id),
        ack_deadline_seconds: first.stream_ack_deadline_seconds,
        max_outstanding_messages: first.max_outstanding_messages,
        max_outstanding_bytes: first.max_outstanding_bytes,
    };
    let (stream, messages, receipts) = service.open_stream(start).await.map_err(status)?;
    let mut unconfirmed = Unconfirmed::default();
    let judging = taken(&stream, &mut first, 0).await.map_err(status)?;
    unconfirmed.extend(judging);

    let (events, received) = mpsc::channel(STREAM_EVENTS_MAX);
    let stopped = CancellationToken::new();
    let reader = Reader {
        // Version 0 clients expect no answer to a ping.
        answers_pings: first.protocol_version >= 1,
        stream: Arc::new(stream),
        events,
        unconfirmed,
    };
    let stream = Arc::clone(&reader.stream);
    let reading = stopped.clone();
    tokio::spawn(async move { reading.run_until_cancelled(reader.read(requests)).await });
    let sending = Sending::default();
    let responses: Responses = Box::pin(Merged {
        messages,
        sending: sending.clone(),
        receipts,
        stream,
        events: received,
        ended: false,
        _reader: stopped.drop_guard(),
    });
    let mut response = Response::new(responses);
    sending.attach(&mut response);
    Ok(response)
}

struct Reader {
    answers_pings: bool,
    stream: Arc<OpenStream>,
    events: mpsc::Sender<Event>,
    unconfirmed: Unconfirmed,
}

impl Reader {
    async fn read(mut self, mut requests: Streaming<StreamingPullRequest>) {
        let end = loop {
            // What is not confirmed yet holds up no request, and so no ping; what the client does not take does.
            let takes_requests = !self.unconfirmed.is_untaken();
            let request = tokio::select! {
                biased;
                () = self.unconfirmed.sent(&self.events) => continue,
                request = requests.message(), if takes_requests => request,
            };
            match request {
                Ok(Some(request)) => {
                    if let Err(error) = self.take(request).await {
                        break Some(status(error));
                    }
                }
                Ok(None) => break None,
                Err(error) => break Some(error),
            }
        };
        if end.is_none() {
            while !self.unconfirmed.is_empty() {
                self.unconfirmed.sent(&self.events).await;
            }
        }
        // A stream that is gone needs no end.
        drop(self.events.send(Event::End(end)).await);
    }

    async fn take(&mut self, mut request: StreamingPullRequest) -> Result<(), ConsumeError> {
        only_first(&request)?;
        if request.stream_ack_deadline_seconds != 0 {
            self.stream
                .set_ack_deadline(request.stream_ack_deadline_seconds)
                .await?;
        }
        let ping = request.ack_ids.is_empty() && request.modify_deadline_ack_ids.is_empty();
        let unconfirmed = self.unconfirmed.ids();
        let judging = taken(&self.stream, &mut request, unconfirmed).await?;
        self.unconfirmed.extend(judging);
        if ping && self.answers_pings {
            // With a full queue an answer is on its way already.
            drop(self.events.try_send(Event::Pong));
        }
        Ok(())
    }
}

/// Fields that only the first request may carry.
fn only_first(request: &StreamingPullRequest) -> Result<(), Violation> {
    let repeated = if !request.subscription.is_empty() {
        "subscription"
    } else if request.max_outstanding_messages != 0 {
        "max_outstanding_messages"
    } else if request.max_outstanding_bytes != 0 {
        "max_outstanding_bytes"
    } else if request.protocol_version != 0 {
        "protocol_version"
    } else {
        return Ok(());
    };
    Err(Violation::argument(format!(
        "{repeated} may only be set in the first request of a stream"
    )))
}

struct Merged {
    messages: MessageStream,
    sending: Sending,
    receipts: Receipts,
    stream: Arc<OpenStream>,
    events: mpsc::Receiver<Event>,
    ended: bool,
    /// The reading task stops with the response.
    _reader: DropGuard,
}

impl Stream for Merged {
    type Item = Result<StreamingPullResponse, Status>;

    /// Answers go before messages, so that a ping never waits behind them.
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.ended {
            return Poll::Ready(None);
        }
        match this.events.poll_recv(cx) {
            Poll::Ready(Some(Event::Pong)) => {
                return Poll::Ready(Some(Ok(
                    this.with_properties(StreamingPullResponse::default())
                )));
            }
            Poll::Ready(Some(Event::Confirmation(response))) => {
                return Poll::Ready(Some(Ok(this.with_properties(*response))));
            }
            Poll::Ready(Some(Event::End(end))) => {
                this.ended = true;
                return Poll::Ready(end.map(Err));
            }
            // The reader only goes away with a last event, which was taken.
            Poll::Ready(None) | Poll::Pending => {}
        }
        this.messages.poll_frame(cx).map(|frame| match frame {
            Ok(deliveries) => {
                if let Some(unsent) = this.messages.take_unsent() {
                    this.sending.put(unsent);
                }
                let response = StreamingPullResponse {
                    received_messages: this.receipts.received(deliveries),
                    ..StreamingPullResponse::default()
                };
                Some(Ok(this.with_properties(response)))
            }
            Err(cause) => {
                this.ended = true;
                Some(Err(status(this.stream.ended(cause))))
            }
        })
    }
}

impl Merged {
    /// Every response carries the properties: clients take their absence for a change (docs/behaviour.md, section 7.4).
    fn with_properties(&self, response: StreamingPullResponse) -> StreamingPullResponse {
        StreamingPullResponse {
            subscription_properties: Some(SubscriptionProperties {
                exactly_once_delivery_enabled: self.stream.is_exactly_once(),
                message_ordering_enabled: self.stream.is_ordered(),
            }),
            ..response
        }
    }
}
