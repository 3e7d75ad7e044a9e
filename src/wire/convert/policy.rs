//! Dead letter and retry policies.

use super::{duration, to_proto_duration};
use crate::{
    proto::google::pubsub::v1 as proto,
    resource::{
        subscription::{DeadLetterPolicy, RetryPolicy, dead_letter_policy, retry_policy},
        violation::Violation,
    },
};

/// The dead letter policy that a CreateSubscription asks for; it must name its topic.
pub(super) fn created_dead_letter(
    policy: Option<&proto::DeadLetterPolicy>,
) -> Result<Option<DeadLetterPolicy>, Violation> {
    let checked = |policy: &proto::DeadLetterPolicy| {
        dead_letter_policy(&policy.dead_letter_topic, policy.max_delivery_attempts)
    };
    policy.map(checked).transpose()
}

/// The same of an UpdateSubscription, where one that names no topic clears it.
pub(super) fn updated_dead_letter(
    policy: Option<&proto::DeadLetterPolicy>,
) -> Result<Option<DeadLetterPolicy>, Violation> {
    created_dead_letter(policy.filter(|policy| !policy.dead_letter_topic.is_empty()))
}

/// What the API shows of it.
pub(super) fn dead_letter_to_proto(policy: &DeadLetterPolicy) -> proto::DeadLetterPolicy {
    let attempts = policy.max_delivery_attempts;
    proto::DeadLetterPolicy {
        dead_letter_topic: policy.topic.as_str().to_owned(),
        max_delivery_attempts: i32::try_from(attempts).unwrap_or(i32::MAX),
    }
}

/// The retry policy that is asked for.
pub(super) fn retry(policy: Option<&proto::RetryPolicy>) -> Result<Option<RetryPolicy>, Violation> {
    let Some(policy) = policy else {
        return Ok(None);
    };
    let minimum = duration("minimum_backoff", policy.minimum_backoff)?;
    let maximum = duration("maximum_backoff", policy.maximum_backoff)?;
    retry_policy(minimum, maximum).map(Some)
}

/// What the API shows of it.
pub(super) fn retry_to_proto(policy: RetryPolicy) -> proto::RetryPolicy {
    proto::RetryPolicy {
        minimum_backoff: Some(to_proto_duration(policy.minimum_backoff)),
        maximum_backoff: Some(to_proto_duration(policy.maximum_backoff)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backoffs(minimum: Option<i64>, maximum: Option<i64>) -> Result<(u64, u64), String> {
        let seconds = |seconds| prost_types::Duration { seconds, nanos: 0 };
        let policy = retry(Some(&proto::RetryPolicy {
            minimum_backoff: minimum.map(seconds),
            maximum_backoff: maximum.map(seconds),
        }));
        let policy = policy.map_err(|violation| violation.to_string())?;
        let policy = policy.expect("a policy");
        Ok((
            policy.minimum_backoff.as_secs(),
            policy.maximum_backoff.as_secs(),
        ))
    }

    fn attempts(max_delivery_attempts: i32) -> Result<u32, String> {
        let policy = created_dead_letter(Some(&proto::DeadLetterPolicy {
            dead_letter_topic: "projects/p/topics/dead".into(),
            max_delivery_attempts,
        }));
        let policy = policy.map_err(|violation| violation.to_string())?;
        Ok(policy.expect("a policy").max_delivery_attempts)
    }

    #[test]
    fn a_backoff_is_0_to_600_seconds_and_its_minimum_not_above_its_maximum() {
        assert_eq!(retry(None), Ok(None));
        assert_eq!(backoffs(None, None), Ok((10, 600)));
        assert_eq!(backoffs(Some(0), Some(600)), Ok((0, 600)));
        assert_eq!(
            backoffs(Some(660), None),
            Err("The value for minimum_backoff is out of bounds. You passed 11m in the request, but the value must be between 0 and 10m.".to_owned())
        );
        assert!(backoffs(Some(-1), None).is_err());
        assert!(backoffs(None, Some(601)).is_err());
        assert_eq!(
            backoffs(Some(20), Some(10)),
            Err(
                "The specified maximum_backoff 10s cannot be smaller than minimum_backoff 20s."
                    .to_owned()
            )
        );
        assert!(backoffs(None, Some(9)).is_err());
    }

    #[test]
    fn delivery_attempts_are_5_to_100_or_0_for_the_default() {
        for (given, attempts_max) in [(0, 5), (5, 5), (100, 100)] {
            assert_eq!(attempts(given), Ok(attempts_max));
        }
        assert!(attempts(-1).is_err());
        assert_eq!(
            attempts(4),
            Err("The value for max_delivery_attempts is too small. You passed 4 in the request, but the minimum value is 5.".to_owned())
        );
        assert_eq!(
            attempts(101),
            Err("The value for max_delivery_attempts is too large. You passed 101 in the request, but the maximum value is 100.".to_owned())
        );
    }

    #[test]
    fn a_dead_letter_policy_without_a_topic_is_invalid_on_create_and_clears_on_update() {
        let policy = proto::DeadLetterPolicy::default();
        assert!(
            created_dead_letter(Some(&policy))
                .expect_err("refused")
                .to_string()
                .starts_with("Invalid resource name given (dead_letter_topic=).")
        );
        assert_eq!(updated_dead_letter(Some(&policy)), Ok(None));
        assert_eq!(updated_dead_letter(None), Ok(None));
    }
}
