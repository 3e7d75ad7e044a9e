//! What is answered to messages that are too large, and how long the text of an answer may be. How large a message may
//! be is in the table of RPCs.

use tonic::Status;

use crate::limits::{REQUEST_BYTES_MAX, STATUS_TEXT_BYTES_MAX};

/// What the generated services have to allow, bytes: by then every message is within its own limit.
pub const DECODED_BYTES_MAX: usize = REQUEST_BYTES_MAX;

/// The documented answer to a message that is larger than its RPC takes (docs/behaviour.md, section 1.4).
pub fn too_large(limit_bytes: usize) -> Status {
    Status::invalid_argument(format!(
        "Request payload size exceeds the limit: {limit_bytes} bytes."
    ))
}

/// A text that is short enough for the clients' limit on trailers, however long the value in it is.
pub fn short(mut text: String) -> String {
    if text.len() > STATUS_TEXT_BYTES_MAX {
        const ELLIPSIS: &str = "...";
        text.truncate(text.floor_char_boundary(STATUS_TEXT_BYTES_MAX - ELLIPSIS.len()));
        text.push_str(ELLIPSIS);
    }
    text
}
