//! How large a message of each RPC may be.

use tonic::Status;

use crate::limits::{ACK_REQUEST_BYTES_MAX, REQUEST_BYTES_MAX};

/// What the generated services have to allow, bytes: by then every message is within its own limit.
pub const DECODED_BYTES_MAX: usize = REQUEST_BYTES_MAX;

/// The largest message, bytes, that the RPC with this path takes (docs/behaviour.md, section 1.4).
pub fn message_bytes_max(path: &str) -> usize {
    match path {
        "/google.pubsub.v1.Subscriber/Acknowledge"
        | "/google.pubsub.v1.Subscriber/ModifyAckDeadline" => ACK_REQUEST_BYTES_MAX,
        _ => REQUEST_BYTES_MAX,
    }
}

/// The documented answer to a larger one.
pub fn too_large(limit_bytes: usize) -> Status {
    Status::invalid_argument(format!(
        "Request payload size exceeds the limit: {limit_bytes} bytes."
    ))
}
