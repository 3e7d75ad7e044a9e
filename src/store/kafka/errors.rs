//! What Kafka's errors mean to the caller.

use rdkafka::{
    error::{KafkaError, RDKafkaErrorCode as Code},
    types::RDKafkaConfRes,
};

use crate::store::StoreError;

/// What is wrong, in Kafka's words. Never says a setting's value, which may be a secret.
pub(super) fn text(error: &KafkaError) -> String {
    match (error, error.rdkafka_error_code()) {
        (_, Some(code)) => code.to_string(),
        // The crate's own text has the value in it.
        (KafkaError::ClientConfig(RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN, _, property, _), _) => {
            format!("there is no property {property}")
        }
        (KafkaError::ClientConfig(_, _, property, _), _) => {
            format!("the property {property} does not take the value that it was given")
        }
        (KafkaError::AdminOp(code), _) => code.to_string(),
        (error, None) => error.to_string(),
    }
}

/// Of a question or a read, which changed nothing.
pub(super) fn of_question(error: &KafkaError) -> StoreError {
    let code = match error {
        KafkaError::AdminOp(code) => Some(*code),
        error => error.rdkafka_error_code(),
    };
    code.map_or_else(
        || StoreError::Unavailable(format!("Kafka: {}", text(error))),
        of_question_code,
    )
}

/// See [`of_question`].
pub(super) fn of_question_code(code: Code) -> StoreError {
    if is_unknown(code) {
        StoreError::NoSuchLog
    } else if is_forbidden(code) {
        StoreError::Denied(format!("Kafka does not allow it: {code}"))
    } else {
        StoreError::Unavailable(format!("Kafka: {code}"))
    }
}

/// Of creating, deleting or changing a topic, which the brokers may have begun unless they say that they refuse it.
pub(super) fn of_change(code: Code) -> StoreError {
    match code {
        Code::InvalidConfig
        | Code::InvalidPartitions
        | Code::InvalidReplicaAssignment
        | Code::InvalidTopic
        | Code::PolicyViolation
        | Code::TopicDeletionDisabled => StoreError::Refused(format!("Kafka refuses it: {code}")),
        // Which may be so until the others are back.
        Code::InvalidReplicationFactor => StoreError::Unavailable(format!(
            "Kafka: {code}: fewer brokers run than a topic is to have copies; start them, or lower replication_factor"
        )),
        code @ (Code::NotController | Code::ThrottlingQuotaExceeded) => of_question_code(code),
        code if is_unknown(code) || is_forbidden(code) => of_question_code(code),
        code => StoreError::Uncertain(format!("Kafka: {code}")),
    }
}

/// Of a record that was handed to a producer. Everything that was ever on its way may have arrived.
pub(super) fn of_record(code: Code) -> StoreError {
    match code {
        // Brokers check little else of a record.
        Code::InvalidRecord => StoreError::Refused(format!(
            "Kafka refuses the message: {code}; a compacted topic takes none without an ordering key"
        )),
        Code::MessageSizeTooLarge
        | Code::MessageBatchTooLarge
        | Code::InvalidMessageSize
        | Code::InvalidTimestamp
        | Code::InvalidTopic
        | Code::PolicyViolation
        | Code::UnsupportedForMessageFormat
        | Code::InvalidDifferentRecord => {
            StoreError::Refused(format!("Kafka refuses the message: {code}"))
        }
        Code::QueueFull | Code::PurgeQueue => StoreError::Unavailable(format!("Kafka: {code}")),
        // What waits for a partition that is gone is given up so.
        Code::BrokerDestroy => StoreError::NoSuchLog,
        code if is_unknown(code) => StoreError::NoSuchLog,
        code if is_forbidden(code) => {
            StoreError::Denied(format!("Kafka does not allow publishing: {code}"))
        }
        code => StoreError::Uncertain(format!("Kafka: {code}")),
    }
}

/// Whether the topic or partition is not there.
pub(super) fn is_unknown(code: Code) -> bool {
    matches!(
        code,
        Code::UnknownTopicOrPartition
            | Code::UnknownTopic
            | Code::UnknownPartition
            | Code::UnknownTopicId
    )
}

/// Whether the brokers do not let us.
pub(super) fn is_forbidden(code: Code) -> bool {
    matches!(
        code,
        Code::TopicAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::GroupAuthorizationFailed
    )
}

/// Whether a batch of records cannot be read, now or ever.
pub(super) fn is_damage(code: Code) -> bool {
    matches!(
        code,
        Code::BadMessage | Code::BadCompression | Code::NotImplemented | Code::MessageSizeTooLarge
    )
}

/// Whether the log does not have the offset at which a read was to go on.
pub(super) fn is_out_of_range(code: Code) -> bool {
    matches!(
        code,
        Code::AutoOffsetReset | Code::OffsetOutOfRange | Code::LogTruncation
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_will_not_pass_is_told_from_what_may() {
        for code in [Code::MessageSizeTooLarge, Code::InvalidRecord] {
            assert!(matches!(of_record(code), StoreError::Refused(_)), "{code}");
        }
        assert!(matches!(
            of_record(Code::TopicAuthorizationFailed),
            StoreError::Denied(_)
        ));
        for code in [
            Code::MessageTimedOut,
            Code::NotEnoughReplicasAfterAppend,
            Code::BrokerTransportFailure,
            Code::PurgeInflight,
        ] {
            assert!(!of_record(code).definitely_failed(), "{code}");
        }
        assert!(of_record(Code::QueueFull).definitely_failed());
        assert!(of_change(Code::InvalidReplicationFactor).definitely_failed());
        assert!(!of_change(Code::RequestTimedOut).definitely_failed());
        assert!(matches!(
            of_record(Code::UnknownTopic),
            StoreError::NoSuchLog
        ));
    }

    #[test]
    fn a_settings_value_is_never_told() {
        let error = rdkafka::ClientConfig::new()
            .set("ssl.key.password", "hunter2")
            .set("security.protocol", "hunter2")
            .create_native_config()
            .err()
            .map(|error| text(&error))
            .expect("refused");
        assert!(
            error.contains("security.protocol") && !error.contains("hunter2"),
            "{error}"
        );
    }
}
