//! The messages of one Publish. They are scanned before anything else of the request is checked, and what is wrong with
//! them is told after the topic was found (docs/behaviour.md, section 1.4).

use bytes::Bytes;

use super::{
    message::{AcceptedMessages, check_decodable},
    violation::Violation,
};
use crate::limits::{PUBLISH_BYTES_MAX, PUBLISH_MESSAGES_MAX};

/// Messages that were scanned.
#[derive(Debug)]
pub struct Published {
    messages: Result<AcceptedMessages, Violation>,
    request_bytes: usize,
}

impl Published {
    /// Scans encoded messages once each. `request_bytes` is the size of the whole encoded request.
    ///
    /// # Errors
    /// One of them is no message at all. Whatever else is wrong waits for [`Published::messages`].
    pub fn scan(encoded: Vec<Bytes>, request_bytes: usize) -> Result<Self, Violation> {
        let messages = match check_counts(encoded.len(), request_bytes) {
            Ok(()) => AcceptedMessages::accept(encoded),
            Err(fault) => check_decodable(&encoded).and(Err(fault)),
        };
        if let Err(undecodable @ Violation::Undecodable { .. }) = messages {
            return Err(undecodable);
        }
        Ok(Self {
            messages,
            request_bytes,
        })
    }

    /// The size of the whole encoded request.
    pub const fn request_bytes(&self) -> usize {
        self.request_bytes
    }

    /// The messages as they are stored.
    ///
    /// # Errors
    /// They are too many or too large together, or a rule of section 3.1 is broken by one: the first in that order.
    pub fn messages(self) -> Result<AcceptedMessages, Violation> {
        Ok(self.messages?.compact(self.request_bytes))
    }
}

fn check_counts(count: usize, request_bytes: usize) -> Result<(), Violation> {
    if count == 0 {
        return Err(Violation::too_small("message_count", 0, 1));
    }
    if count > PUBLISH_MESSAGES_MAX {
        let max = PUBLISH_MESSAGES_MAX;
        return Err(Violation::too_large("message_count", count, max));
    }
    if request_bytes > PUBLISH_BYTES_MAX {
        let max = PUBLISH_BYTES_MAX;
        return Err(Violation::too_large("request_size", request_bytes, max));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `data` is `a`.
    const GOOD: Bytes = Bytes::from_static(&[0x0a, 1, b'a']);
    const EMPTY: Bytes = Bytes::new();
    const MALFORMED: Bytes = Bytes::from_static(&[0x0a, 9, b'a']);
    const NOT_UTF8: Bytes = Bytes::from_static(&[0x0a, 1, b'a', 0x2a, 1, 0xff]);
    /// Behind an attribute without a key.
    const MALFORMED_LATER: Bytes = Bytes::from_static(&[0x12, 0, 0x0a, 9]);

    fn checked(messages: Vec<Bytes>, request_bytes: usize) -> Result<Vec<Bytes>, Violation> {
        let scanned = Published::scan(messages, request_bytes);
        let messages = scanned.expect("well formed").messages();
        messages.map(AcceptedMessages::into_messages)
    }

    #[test]
    fn what_is_no_message_is_told_at_once_whatever_else_is_wrong() {
        for malformed in [MALFORMED, NOT_UTF8, MALFORMED_LATER] {
            for mut messages in [vec![], vec![GOOD], vec![EMPTY], vec![EMPTY; 1001]] {
                messages.push(malformed.clone());
                for request_bytes in [10, PUBLISH_BYTES_MAX + 1] {
                    let refused = Published::scan(messages.clone(), request_bytes);
                    assert!(refused.is_err(), "{messages:.3?}");
                }
            }
        }
    }

    #[test]
    fn counts_come_before_what_is_in_the_messages() {
        assert_eq!(checked(vec![GOOD, GOOD], 10), Ok(vec![GOOD, GOOD]));
        let too_large = |what, given, max| Violation::too_large(what, given, max);
        assert_eq!(
            checked(vec![EMPTY; 1001], PUBLISH_BYTES_MAX + 1),
            Err(too_large("message_count", 1001, 1000))
        );
        assert_eq!(
            checked(vec![EMPTY], PUBLISH_BYTES_MAX + 1),
            Err(too_large("request_size", 10_000_001, 10_000_000))
        );
        assert_eq!(
            checked(vec![GOOD, EMPTY, GOOD], 10),
            Err(Violation::EmptyMessage)
        );
        assert_eq!(
            checked(vec![], 10),
            Err(Violation::too_small("message_count", 0, 1))
        );
    }
}
