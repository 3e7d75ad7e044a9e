//! Readers of streams that answer by calls beside the stream, as official clients do.

use std::sync::Arc;

use bytes::Bytes;
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
}

/// Reads one stream until the run ends. Further answers are read while calls wait for theirs; of these there are as many
/// as messages are outstanding.
pub(super) async fn stream(
    run: Arc<Run>,
    connection: Connection,
    reading: Arc<Reading>,
    reply: Reply,
) -> Result<(), CallError> {
    let acknowledge = proto::AcknowledgeRequest {
        subscription: reading.name.clone(),
        ..proto::AcknowledgeRequest::default()
    }
    .encode_to_vec();
    let extend = proto::ModifyAckDeadlineRequest {
        subscription: reading.name.clone(),
        ack_deadline_seconds: RECEIPT_SECONDS,
        ..proto::ModifyAckDeadlineRequest::default()
    }
    .encode_to_vec();
    let Some(mut stream) = Stream::open(&run, &connection, &reading).await? else {
        return Ok(());
    };
    let mut calls = Tasks::default();
    while let Some(answer) = calls.work_during(stream.next(&run)).await? {
        let mut acks = AckFrame::new(ACK_IDS_FIELD, &acknowledge);
        let mut receipts = AckFrame::new(MODIFY_ACK_IDS_FIELD, &extend);
        let arrived = reading.take(&run, &answer, |ack_id| {
            acks.push(ack_id);
            receipts.push(ack_id);
        });
        if arrived > 0 {
            let receipts = (reply == Reply::ReceiptAndAck).then(|| receipts.finish());
            calls.spawn(answer_with(
                Arc::clone(&run),
                connection.clone(),
                receipts,
                acks.finish(),
            ));
        }
    }
    Ok(())
}

async fn answer_with(
    run: Arc<Run>,
    connection: Connection,
    receipts: Option<Bytes>,
    acks: Bytes,
) -> Result<(), CallError> {
    if let Some(receipts) = receipts {
        connection.call(MODIFY_ACK_DEADLINE, receipts).await?;
    }
    let since = measure::now();
    connection.call(ACKNOWLEDGE, acks).await?;
    run.counters.ack_took(since.elapsed().as_micros() as u64);
    Ok(())
}
