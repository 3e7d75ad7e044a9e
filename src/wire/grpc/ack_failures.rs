//! Ack ids that had no effect where delivery is exactly once: the status with which a call says which, and the lists of a
//! stream (docs/behaviour.md, section 9).

use std::mem;

use prost::Message;
use prost_types::Any;
use tonic::{Code, Status};

use crate::{
    limits::DELIVERY_BYTES_MAX,
    proto::google::{
        pubsub::v1::{
            StreamingPullResponse,
            streaming_pull_response::{AcknowledgeConfirmation, ModifyAckDeadlineConfirmation},
        },
        rpc,
    },
    service::{AckFailure, Judged},
};

const TEXT: &str = "Some acknowledgement ids in the request were invalid. This could be because the acknowledgement ids \
                    have expired or the acknowledgement ids were malformed.";
const REASON: &str = "EXACTLY_ONCE_ACKID_FAILURE";
const DOMAIN: &str = "pubsub.googleapis.com";
const ERROR_INFO: &str = "type.googleapis.com/google.rpc.ErrorInfo";

/// The answer to a call of which these ids had no effect, and all others had theirs.
pub(super) fn status(failed: Vec<(String, AckFailure)>) -> Status {
    let code = Code::InvalidArgument;
    let metadata = failed.into_iter();
    let info = rpc::ErrorInfo {
        reason: REASON.to_owned(),
        domain: DOMAIN.to_owned(),
        metadata: metadata
            .map(|(ack_id, failure)| (ack_id, word(failure).to_owned()))
            .collect(),
    };
    let details = rpc::Status {
        code: code.into(),
        message: TEXT.to_owned(),
        details: vec![Any {
            type_url: ERROR_INFO.to_owned(),
            value: info.encode_to_vec(),
        }],
    };
    Status::with_details(code, TEXT, details.encode_to_vec().into())
}

/// What clients take a failure for: a transient one is tried again.
const fn word(failure: AckFailure) -> &'static str {
    match failure {
        AckFailure::Invalid => "PERMANENT_FAILURE_INVALID_ACK_ID",
        AckFailure::Unordered => "TRANSIENT_FAILURE_UNORDERED_ACK_ID",
        AckFailure::Temporary => "TRANSIENT_FAILURE_OTHER",
    }
}

/// What of a stream's request is confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Confirms {
    Acks,
    Deadlines,
}

/// The responses that confirm a stream's request, each as small as frames of messages are.
pub(super) fn confirmations(confirms: Confirms, judged: Judged) -> Vec<StreamingPullResponse> {
    let applied = judged.applied.into_iter().map(|ack_id| (ack_id, None));
    let failed = judged.failed.into_iter();
    let failed = failed.map(|(ack_id, failure)| (ack_id, Some(failure)));
    let (mut responses, mut bytes) = (Vec::new(), 0);
    let mut lists = AcknowledgeConfirmation::default();
    for (ack_id, failure) in applied.chain(failed) {
        let more = ack_id.len() + 8;
        if bytes > 0 && bytes + more > DELIVERY_BYTES_MAX {
            responses.push(response(confirms, mem::take(&mut lists)));
            bytes = 0;
        }
        bytes += more;
        let list = match failure {
            None => &mut lists.ack_ids,
            Some(AckFailure::Invalid) => &mut lists.invalid_ack_ids,
            Some(AckFailure::Unordered) => &mut lists.unordered_ack_ids,
            Some(AckFailure::Temporary) => &mut lists.temporary_failed_ack_ids,
        };
        list.push(ack_id);
    }
    responses.push(response(confirms, lists));
    responses
}

fn response(confirms: Confirms, lists: AcknowledgeConfirmation) -> StreamingPullResponse {
    match confirms {
        Confirms::Acks => StreamingPullResponse {
            acknowledge_confirmation: Some(lists),
            ..StreamingPullResponse::default()
        },
        Confirms::Deadlines => StreamingPullResponse {
            modify_ack_deadline_confirmation: Some(ModifyAckDeadlineConfirmation {
                ack_ids: lists.ack_ids,
                invalid_ack_ids: lists.invalid_ack_ids,
                temporary_failed_ack_ids: lists.temporary_failed_ack_ids,
            }),
            ..StreamingPullResponse::default()
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_names_each_failed_id_and_its_details_repeat_code_and_text() {
        let failed = vec![
            ("a".to_owned(), AckFailure::Invalid),
            ("b".to_owned(), AckFailure::Unordered),
        ];
        let status = status(failed);
        let details = rpc::Status::decode(status.details()).expect("a status");
        assert_eq!(details.code, i32::from(status.code()));
        assert_eq!(details.message, status.message());
        assert_eq!(details.details[0].type_url, ERROR_INFO);
        let info = rpc::ErrorInfo::decode(&*details.details[0].value).expect("an ErrorInfo");
        assert_eq!((&*info.reason, &*info.domain), (REASON, DOMAIN));
        assert_eq!(info.metadata["a"], "PERMANENT_FAILURE_INVALID_ACK_ID");
        assert_eq!(info.metadata["b"], "TRANSIENT_FAILURE_UNORDERED_ACK_ID");
    }

    #[test]
    fn confirmations_of_many_long_ids_are_several_responses() {
        let long = "x".repeat(DELIVERY_BYTES_MAX / 2);
        let judged = Judged {
            applied: vec![long.clone(), "a".to_owned()],
            failed: vec![
                (long, AckFailure::Temporary),
                ("b".to_owned(), AckFailure::Invalid),
            ],
        };
        let responses = confirmations(Confirms::Deadlines, judged);
        let lists: Vec<_> = responses
            .into_iter()
            .filter_map(|it| it.modify_ack_deadline_confirmation)
            .map(|it| {
                (
                    it.ack_ids.len(),
                    it.temporary_failed_ack_ids.len(),
                    it.invalid_ack_ids.len(),
                )
            })
            .collect();
        assert_eq!(lists, [(2, 0, 0), (0, 1, 1)]);
        let none = confirmations(Confirms::Acks, Judged::default());
        assert!(none[0].acknowledge_confirmation.is_some());
    }
}
