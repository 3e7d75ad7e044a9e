//! What can be wrong with a request's values, with the public texts (docs/behaviour.md, section 1.4).

use std::fmt::Display;

use thiserror::Error;

use crate::limits::STATUS_TEXT_BYTES_MAX;

/// A value that breaks a documented rule: INVALID_ARGUMENT, and nothing of the request was applied.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Violation {
    /// A resource name that does not follow its pattern.
    #[error(
        "Invalid resource name given ({field}={value}). Refer to https://cloud.google.com/pubsub/docs/pubsub-basics#resource_names for more information."
    )]
    Name {
        /// The request's field.
        field: &'static str,
        /// As it was sent.
        value: String,
    },
    /// An update without a mask, or with an empty one.
    #[error(
        "The update_mask in the Update{resource}Request must be set, and must contain a non-empty paths list."
    )]
    EmptyMask {
        /// The message that is updated.
        resource: &'static str,
    },
    /// A mask that names a field which never changes, or which only the server sets.
    #[error(
        "Invalid update_mask provided in the Update{resource}Request: the '{path}' field in the {resource} is not mutable."
    )]
    ImmutablePath {
        /// The message that is updated.
        resource: &'static str,
        /// As it was sent.
        path: String,
    },
    /// A mask that names no field.
    #[error(
        "Invalid update_mask provided in the Update{resource}Request: {path} is not a known {resource} field. Note that field paths must be of the form '{snake_case}' rather than '{camel_case}'."
    )]
    UnknownPath {
        /// The message that is updated.
        resource: &'static str,
        /// As it was sent.
        path: String,
        /// An example of a path.
        snake_case: &'static str,
        /// The same example as it must not be written.
        camel_case: &'static str,
    },
    /// An ack deadline out of range.
    #[error(
        "Invalid ack deadline given (ack_deadline={given}). The ack deadline must be between {min} and {max} seconds."
    )]
    AckDeadline {
        /// As it was sent, seconds.
        given: i32,
        /// The shortest allowed here, seconds: a subscription's is 10, that of one delivery is 0.
        min: u32,
        /// The longest, seconds.
        max: u32,
    },
    /// A value below or above its range.
    #[error(
        "The value for {what} is out of bounds. You passed {given} in the request, but the value must be between {min} and {max}."
    )]
    OutOfBounds {
        /// The value's public name.
        what: &'static str,
        /// As it was sent.
        given: String,
        /// The smallest allowed value.
        min: String,
        /// The largest allowed value.
        max: String,
    },
    /// A value below its minimum.
    #[error(
        "The value for {what} is too small. You passed {given} in the request, but the minimum value is {min}."
    )]
    TooSmall {
        /// The value's public name.
        what: &'static str,
        /// As it was sent.
        given: String,
        /// The smallest allowed value.
        min: String,
    },
    /// A value above its maximum.
    #[error(
        "The value for {what} is too large. You passed {given} in the request, but the maximum value is {max}."
    )]
    TooLarge {
        /// The value's public name.
        what: &'static str,
        /// As it was sent.
        given: String,
        /// The largest allowed value.
        max: String,
    },
    /// A subscription that would be deleted while it still retains messages.
    #[error(
        "The subscription's message retention duration ({retention_seconds} seconds) cannot be greater than the TTL in the subscription's expiration policy ({ttl_seconds} seconds), since the subscription may expire before its messages do."
    )]
    RetentionAboveTtl {
        /// Of the subscription as it would be.
        retention_seconds: u64,
        /// Of the subscription as it would be.
        ttl_seconds: u64,
    },
    /// A retry policy whose maximum is below its minimum.
    #[error(
        "The specified maximum_backoff {maximum} cannot be smaller than minimum_backoff {minimum}."
    )]
    BackoffOrder {
        /// With the default filled in.
        minimum: String,
        /// As it was sent.
        maximum: String,
    },
    /// A page token that this server did not make.
    #[error("Invalid page token given (token={token}).")]
    PageToken {
        /// As it was sent.
        token: String,
    },
    /// Any other value; `argument` names it and says what is wrong.
    #[error("You have passed an invalid argument to the service (argument={argument}).")]
    Argument {
        /// The field's name, or a sentence about it.
        argument: String,
    },
    /// A part of the request that was to be read and is no such part.
    #[error("You have passed an invalid argument to the service (argument={what}).")]
    Undecodable {
        /// A sentence about it.
        what: String,
    },
    /// A text of a message that is longer than its limit.
    #[error(
        "{what} that is too long. The length is {bytes} characters, but the maximum allowed is {bytes_max}. Refer to https://cloud.google.com/pubsub/quotas for more information."
    )]
    TooLong {
        /// Which text of what has it, up to a relative clause.
        what: String,
        /// As it was sent, in UTF-8: the public text calls them characters.
        bytes: usize,
        /// The longest allowed.
        bytes_max: usize,
    },
    /// Labels that break section 1.7.
    #[error(
        "You have passed an invalid argument to the service (argument=Invalid labels: {reason})."
    )]
    Labels {
        /// Which rule, with the key or the count.
        reason: String,
    },
    /// Acknowledge or ModifyAckDeadline without an ack id.
    #[error("You have not specified an ack ID in the request.")]
    NoAckIds,
    /// An ack id that this server did not make.
    #[error("You have passed an invalid ack ID to the service (ack_id={ack_id}).")]
    AckId {
        /// As it was sent.
        ack_id: String,
    },
    /// A message with neither data nor an attribute.
    #[error(
        "One or more messages in the publish request is empty. Each message must contain either non-empty data, or at least one attribute."
    )]
    EmptyMessage,
    /// A request that is larger on the wire than its RPC takes.
    #[error("Request payload size exceeds the limit: {bytes_max} bytes.")]
    PayloadSize {
        /// The limit.
        bytes_max: usize,
    },
    /// A push endpoint that is no URL.
    #[error(
        "Invalid push endpoint given (endpoint={endpoint}). Refer to https://cloud.google.com/pubsub/subscriber#create for more information."
    )]
    PushEndpoint {
        /// As it was sent.
        endpoint: String,
    },
    /// A push format that does not exist.
    #[error("Invalid push endpoint version given in push config (version={version}).")]
    PushVersion {
        /// As it was sent.
        version: String,
    },
}

impl Violation {
    /// A resource name that does not follow its pattern. Of one that is megabytes long the beginning will do, as the
    /// text is cut.
    pub fn name(field: &'static str, value: &str) -> Self {
        let value = &value[..value.floor_char_boundary(STATUS_TEXT_BYTES_MAX)];
        let value = value.to_owned();
        Self::Name { field, value }
    }

    /// A value below or above its range.
    pub fn out_of_bounds(
        what: &'static str,
        given: impl Display,
        min: impl Display,
        max: impl Display,
    ) -> Self {
        Self::OutOfBounds {
            what,
            given: given.to_string(),
            min: min.to_string(),
            max: max.to_string(),
        }
    }

    /// A value below its minimum.
    pub fn too_small(what: &'static str, given: impl Display, min: impl Display) -> Self {
        Self::TooSmall {
            what,
            given: given.to_string(),
            min: min.to_string(),
        }
    }

    /// A value above its maximum.
    pub fn too_large(what: &'static str, given: impl Display, max: impl Display) -> Self {
        Self::TooLarge {
            what,
            given: given.to_string(),
            max: max.to_string(),
        }
    }

    /// Any other value; `argument` names it and says what is wrong.
    pub fn argument(argument: impl Into<String>) -> Self {
        Self::Argument {
            argument: argument.into(),
        }
    }

    /// A part of the request that is no such part; `what` is a sentence about it.
    pub fn undecodable(what: impl Into<String>) -> Self {
        Self::Undecodable { what: what.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(violation: &Violation, text: &str) {
        assert_eq!(violation.to_string(), text);
    }

    #[test]
    fn values_that_delivery_refuses_have_the_public_texts() {
        check(
            &Violation::argument("max_messages"),
            "You have passed an invalid argument to the service (argument=max_messages).",
        );
        check(
            &Violation::NoAckIds,
            "You have not specified an ack ID in the request.",
        );
        check(
            &Violation::AckId { ack_id: "x".into() },
            "You have passed an invalid ack ID to the service (ack_id=x).",
        );
        check(
            &Violation::too_small("message_count", 0, 1),
            "The value for message_count is too small. You passed 0 in the request, but the minimum value is 1.",
        );
        check(
            &Violation::too_large("message_count", 1001, 1000),
            "The value for message_count is too large. You passed 1001 in the request, but the maximum value is 1000.",
        );
        check(
            &Violation::too_large("request_size", 10_000_068, 10_000_000),
            "The value for request_size is too large. You passed 10000068 in the request, but the maximum value is 10000000.",
        );
        check(
            &Violation::PayloadSize {
                bytes_max: 10_485_760,
            },
            "Request payload size exceeds the limit: 10485760 bytes.",
        );
        check(
            &Violation::AckDeadline {
                given: 601,
                min: 0,
                max: 600,
            },
            "Invalid ack deadline given (ack_deadline=601). The ack deadline must be between 0 and 600 seconds.",
        );
        check(
            &Violation::TooLong {
                what: r#"The attribute "description" in the request has a value"#.to_owned(),
                bytes: 1028,
                bytes_max: 1024,
            },
            r#"The attribute "description" in the request has a value that is too long. The length is 1028 characters, but the maximum allowed is 1024. Refer to https://cloud.google.com/pubsub/quotas for more information."#,
        );
        check(
            &Violation::EmptyMessage,
            "One or more messages in the publish request is empty. Each message must contain either non-empty data, or at least one attribute.",
        );
    }
}
