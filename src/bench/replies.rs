//! Readers of streams that answer by calls beside the stream, as official clients do.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use prost::Message;

use super::{
    CallError,
    calls::{ACKNOWLEDGE, MODIFY_ACK_DEADLINE},
    connection::Connection,
    measure,
    payload::AckFrame,
    reader::{ACK_IDS_FIELD, Reading, Stream},
    run::{Run, Tasks},
};
use crate::proto::google::pubsub::v1 as proto;

/// Ack ids are this field of a ModifyAckDeadlineRequest.
const MODIFY_ACK_IDS_FIELD: u32 = 4;
/// What official clients extend leases by on receipt, where delivery is exactly once.
const RECEIPT_SECONDS: i32 = 60;

/// What is called for the messages of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// Acknowledge.
    Ack,
    /// ModifyAckDeadline, and Acknowledge when that was answered.
    ReceiptAndAck,
    /// ModifyAckDeadline with 0.
    Nack,
}

impl Reply {
    const fn calls(self) -> &'static [Call] {
        match self {
            Self::Ack => &[Call::Acknowledge],
            Self::ReceiptAndAck => &[Call::ModifyAckDeadline(RECEIPT_SECONDS), Call::Acknowledge],
            Self::Nack => &[Call::ModifyAckDeadline(0)],
        }
    }
}

/// A call with the ack ids of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Acknowledge,
    /// To so many seconds.
    ModifyAckDeadline(i32),
}

impl Call {
    /// Its request, still without ack ids.
    fn request(self, subscription: &str) -> AckFrame {
        let subscription = subscription.to_owned();
        match self {
            Self::Acknowledge => {
                let start = proto::AcknowledgeRequest {
                    subscription,
                    ..proto::AcknowledgeRequest::default()
                };
                AckFrame::new(ACK_IDS_FIELD, &start.encode_to_vec())
            }
            Self::ModifyAckDeadline(ack_deadline_seconds) => {
                let start = proto::ModifyAckDeadlineRequest {
                    subscription,
                    ack_deadline_seconds,
                    ..proto::ModifyAckDeadlineRequest::default()
                };
                AckFrame::new(MODIFY_ACK_IDS_FIELD, &start.encode_to_vec())
            }
        }
    }
}

/// Reads one stream until the run ends. Further answers are read while calls wait for theirs; there are no more of
/// these than messages may be outstanding.
pub(super) async fn stream(
    run: Arc<Run>,
    connection: Connection,
    reading: Arc<Reading>,
    reply: Reply,
) -> Result<(), CallError> {
    let Some(mut stream) = Stream::open(&run, &connection, &reading).await? else {
        return Ok(());
    };
    let mut tasks = Tasks::default();
    while let Some(answer) = tasks.work_during(stream.next(&run)).await? {
        let calls = reply.calls().iter();
        let mut requests: Vec<_> = calls
            .map(|&call| (call, call.request(&reading.name)))
            .collect();
        let arrived = reading.take(&run, &answer, |ack_id| {
            for (_, request) in &mut requests {
                request.push(ack_id);
            }
        });
        if arrived > 0 {
            let (run, connection) = (Arc::clone(&run), connection.clone());
            tasks.spawn(call_all(run, connection, requests, arrived as u64));
        }
    }
    Ok(())
}

/// One after the other.
async fn call_all(
    run: Arc<Run>,
    connection: Connection,
    requests: Vec<(Call, AckFrame)>,
    messages: u64,
) -> Result<(), CallError> {
    for (call, request) in requests {
        let since = measure::now();
        let method = match call {
            Call::Acknowledge => ACKNOWLEDGE,
            Call::ModifyAckDeadline(_) => MODIFY_ACK_DEADLINE,
        };
        connection.call(method, request.finish()).await?;
        if call == Call::Acknowledge {
            run.counters.ack_took(since.elapsed().as_micros() as u64);
        }
    }
    run.counters.replied.fetch_add(messages, Relaxed);
    Ok(())
}
