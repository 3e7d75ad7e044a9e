//! What is answered to messages that are too large, and how long the text of an answer may be. How large a message may
//! be is in the table of RPCs.

use std::fmt::{self, Display, Write};

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

/// A text that is short enough for the clients' limit on trailers, however long the value in it is. What is cut off is
/// not written first: the value may be megabytes.
pub fn short(text: impl Display) -> String {
    const ELLIPSIS: &str = "...";
    let mut short = Short(String::new());
    if write!(short, "{text}").is_ok() {
        return short.0;
    }
    let Short(mut text) = short;
    text.truncate(text.floor_char_boundary(STATUS_TEXT_BYTES_MAX - ELLIPSIS.len()));
    text + ELLIPSIS
}

/// Takes text until it is too long.
struct Short(String);

impl Write for Short {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = STATUS_TEXT_BYTES_MAX - self.0.len();
        let taken = text.floor_char_boundary(room);
        self.0.push_str(&text[..taken]);
        if taken < text.len() {
            return Err(fmt::Error);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters_and_says_so() {
        let max = STATUS_TEXT_BYTES_MAX;
        for whole in [String::new(), "a".repeat(max), "ü".repeat(max / 2)] {
            assert_eq!(short(&whole), whole);
        }
        for long in ["a".repeat(max + 1), "ü".repeat(max / 2) + "a"] {
            let cut = short(format_args!("{}{}", &long[..2], &long[2..]));
            assert!((max - 1..=max).contains(&cut.len()), "{} bytes", cut.len());
            let text = cut.strip_suffix("...").expect("it says so");
            assert!(long.starts_with(text));
        }
    }
}
