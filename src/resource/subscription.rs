//! A subscription's configuration: defaults and ranges of docs/behaviour.md, section 4.1.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    duration::GivenDuration,
    label::Labels,
    mask::MaskField,
    name::{SubscriptionName, TopicName},
    policy::Policy,
    requirement::Requirement,
    violation::Violation,
};
use crate::{
    filter::{Filter, FilterError},
    limits::{
        ACK_DEADLINE_SECONDS, ACK_DEADLINE_SECONDS_DEFAULT, BACKOFF_SECONDS_MAX,
        BACKOFF_SECONDS_MIN_DEFAULT, DELIVERY_ATTEMPTS, DELIVERY_ATTEMPTS_DEFAULT,
        EXPIRATION_SECONDS_DEFAULT, EXPIRATION_SECONDS_MIN, FILTER_BYTES_MAX, RETENTION_SECONDS,
        RETENTION_SECONDS_DEFAULT,
    },
};

const RETENTION_DEFAULT: Duration = Duration::from_secs(RETENTION_SECONDS_DEFAULT);

/// When an unused subscription is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Expiration {
    /// Never.
    Never,
    /// After this long without use.
    After(Duration),
}

impl Default for Expiration {
    fn default() -> Self {
        Self::After(Duration::from_secs(EXPIRATION_SECONDS_DEFAULT))
    }
}

/// How long a message waits for its redelivery: doubled with each failure, from the minimum to the maximum
/// (docs/behaviour.md, section 11.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryPolicy {
    /// After the first failure.
    pub minimum_backoff: Duration,
    /// At most.
    pub maximum_backoff: Duration,
}

/// Where messages go that fail again and again (docs/behaviour.md, section 11.2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetterPolicy {
    /// They are published there. It may be in another project, and may be deleted.
    pub topic: TopicName,
    /// With so many failed deliveries.
    pub max_delivery_attempts: u32,
}

/// A subscription as the API shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Subscription {
    /// Its name.
    pub name: SubscriptionName,
    /// What it is attached to; `None` once that topic was deleted.
    pub topic: Option<TopicName>,
    /// How long a consumer has for its ack, seconds.
    pub ack_deadline_seconds: u32,
    /// How long a message that nobody acknowledges is retained, from its publish time.
    pub message_retention: Duration,
    /// When an unused subscription is deleted.
    pub expiration: Expiration,
    /// Whether messages of one ordering key are delivered in order. Never changes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ordered: bool,
    /// Free key-value pairs.
    #[serde(default)]
    pub labels: Labels,
    /// Which messages it gets; `None`: all of its topic. Never changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<Arc<Filter>>,
    /// How long failed messages wait; `None`: not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_policy: Option<RetryPolicy>,
    /// Where messages go that fail again and again; `None`: nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letter_policy: Option<DeadLetterPolicy>,
    /// Whether delivery is exactly once.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub exactly_once: bool,
    /// Whether it was cut off from its topic.
    #[serde(default)]
    pub detached: bool,
    /// Who may do what with it. Shared, as each pull reads the subscription.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Arc<Policy>>,
}

/// What a new subscription is given, checked one by one; `None` takes the default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SubscriptionSettings {
    /// See [`ack_deadline_seconds`].
    pub ack_deadline_seconds: Option<u32>,
    /// See [`message_retention`].
    pub message_retention: Option<Duration>,
    /// See [`expiration_after`].
    pub expiration: Option<Expiration>,
    /// Whether messages of one ordering key are delivered in order.
    pub ordered: bool,
    /// Free key-value pairs.
    pub labels: Labels,
    /// See [`filter`].
    pub filter: Option<Arc<Filter>>,
    /// See [`retry_policy`].
    pub retry_policy: Option<RetryPolicy>,
    /// See [`dead_letter_policy`].
    pub dead_letter_policy: Option<DeadLetterPolicy>,
    /// Whether delivery is exactly once.
    pub exactly_once: bool,
}

impl Subscription {
    /// What it requires of a process.
    pub const fn requirement(&self) -> Requirement {
        if self.filter.is_some() {
            Requirement::FILTER
        } else if self.dead_letter_policy.is_some() {
            Requirement::DEAD_LETTER_POLICY
        } else if self.retry_policy.is_some() {
            Requirement::RETRY_POLICY
        } else if self.ordered {
            Requirement::ORDERING
        } else if self.exactly_once {
            Requirement::EXACTLY_ONCE
        } else {
            Requirement::NONE
        }
    }

    /// A subscription with the defaults filled in. Refuses settings that contradict each other.
    pub fn new(
        name: SubscriptionName,
        topic: TopicName,
        settings: SubscriptionSettings,
    ) -> Result<Self, Violation> {
        let expiration = settings.expiration.unwrap_or_default();
        let message_retention =
            settings
                .message_retention
                .unwrap_or_else(|| match settings.expiration {
                    Some(Expiration::After(ttl)) => ttl.min(RETENTION_DEFAULT),
                    _ => RETENTION_DEFAULT,
                });
        Self {
            name,
            topic: Some(topic),
            ack_deadline_seconds: settings
                .ack_deadline_seconds
                .unwrap_or(ACK_DEADLINE_SECONDS_DEFAULT),
            message_retention,
            expiration,
            ordered: settings.ordered,
            labels: settings.labels,
            filter: settings.filter,
            retry_policy: settings.retry_policy,
            dead_letter_policy: settings.dead_letter_policy,
            exactly_once: settings.exactly_once,
            detached: false,
            policy: None,
        }
        .consistent()
    }

    /// This subscription with the changes made, all or none. Refuses a result that contradicts itself.
    pub fn with(&self, changes: &[SubscriptionChange]) -> Result<Self, Violation> {
        let mut subscription = self.clone();
        for change in changes.iter().cloned() {
            match change {
                SubscriptionChange::AckDeadlineSeconds(seconds) => {
                    subscription.ack_deadline_seconds =
                        seconds.unwrap_or(ACK_DEADLINE_SECONDS_DEFAULT);
                }
                SubscriptionChange::MessageRetention(retention) => {
                    subscription.message_retention = retention.unwrap_or(RETENTION_DEFAULT);
                }
                SubscriptionChange::Expiration(expiration) => {
                    subscription.expiration = expiration.unwrap_or_default();
                }
                SubscriptionChange::Labels(labels) => subscription.labels = labels,
                SubscriptionChange::RetryPolicy(policy) => subscription.retry_policy = policy,
                SubscriptionChange::DeadLetterPolicy(policy) => {
                    subscription.dead_letter_policy = policy;
                }
                SubscriptionChange::ExactlyOnce(is_on) => subscription.exactly_once = is_on,
            }
        }
        subscription.consistent()
    }

    fn consistent(self) -> Result<Self, Violation> {
        match self.expiration {
            Expiration::After(ttl) if self.message_retention > ttl => {
                Err(Violation::RetentionAboveTtl {
                    retention_seconds: self.message_retention.as_secs(),
                    ttl_seconds: ttl.as_secs(),
                })
            }
            _ => Ok(self),
        }
    }
}

/// One field of a subscription and its new value, checked. `None` resets it to its default.
#[derive(Clone, Debug, PartialEq)]
pub enum SubscriptionChange {
    /// Seconds; see [`ack_deadline_seconds`].
    AckDeadlineSeconds(Option<u32>),
    /// See [`message_retention`].
    MessageRetention(Option<Duration>),
    /// See [`expiration_after`].
    Expiration(Option<Expiration>),
    /// All labels.
    Labels(Labels),
    /// See [`retry_policy`].
    RetryPolicy(Option<RetryPolicy>),
    /// See [`dead_letter_policy`].
    DeadLetterPolicy(Option<DeadLetterPolicy>),
    /// Whether delivery is exactly once.
    ExactlyOnce(bool),
}

/// Checks a subscription's ack deadline, seconds. 0 means the default.
pub fn ack_deadline_seconds(given: i32) -> Result<Option<u32>, Violation> {
    match u32::try_from(given) {
        Ok(0) => Ok(None),
        Ok(seconds) if ACK_DEADLINE_SECONDS.contains(&seconds) => Ok(Some(seconds)),
        _ => Err(Violation::AckDeadline {
            given,
            min: *ACK_DEADLINE_SECONDS.start(),
            max: *ACK_DEADLINE_SECONDS.end(),
        }),
    }
}

/// Parses a subscription's filter. An empty one is none.
pub fn filter(given: &str) -> Result<Option<Arc<Filter>>, Violation> {
    if given.is_empty() {
        return Ok(None);
    }
    match Filter::parse(given) {
        Ok(filter) => Ok(Some(Arc::new(filter))),
        Err(FilterError::TooLong { bytes }) => {
            Err(Violation::too_large("filter", bytes, FILTER_BYTES_MAX))
        }
        Err(error) => Err(Violation::argument(format!("Invalid filter: {error}"))),
    }
}

/// Checks both backoffs of a retry policy, of which `None` is the default, and their order.
pub fn retry_policy(
    minimum: Option<GivenDuration>,
    maximum: Option<GivenDuration>,
) -> Result<RetryPolicy, Violation> {
    let minimum = backoff("minimum_backoff", minimum, BACKOFF_SECONDS_MIN_DEFAULT)?;
    let maximum = backoff("maximum_backoff", maximum, BACKOFF_SECONDS_MAX)?;
    if maximum < minimum {
        return Err(Violation::BackoffOrder {
            minimum: minimum.to_string(),
            maximum: maximum.to_string(),
        });
    }
    Ok(RetryPolicy {
        minimum_backoff: minimum.to_unsigned(),
        maximum_backoff: maximum.to_unsigned(),
    })
}

/// Checks the topic and the delivery attempts of a dead letter policy, of which 0 is the default.
pub fn dead_letter_policy(topic: &str, attempts: i32) -> Result<DeadLetterPolicy, Violation> {
    const WHAT: &str = "max_delivery_attempts";
    let topic = TopicName::parse("dead_letter_topic", topic)?;
    let (min, max) = (DELIVERY_ATTEMPTS.start(), DELIVERY_ATTEMPTS.end());
    let max_delivery_attempts = match u32::try_from(attempts) {
        Ok(0) => DELIVERY_ATTEMPTS_DEFAULT,
        Ok(attempts) if DELIVERY_ATTEMPTS.contains(&attempts) => attempts,
        Ok(attempts) if attempts > *max => return Err(Violation::too_large(WHAT, attempts, *max)),
        Ok(_) | Err(_) => return Err(Violation::too_small(WHAT, attempts, *min)),
    };
    Ok(DeadLetterPolicy {
        topic,
        max_delivery_attempts,
    })
}

fn backoff(
    field: &'static str,
    given: Option<GivenDuration>,
    default_seconds: u64,
) -> Result<GivenDuration, Violation> {
    let min = GivenDuration::from_seconds(0);
    let max = GivenDuration::from_seconds(BACKOFF_SECONDS_MAX);
    let given = given.unwrap_or_else(|| GivenDuration::from_seconds(default_seconds));
    if (min..=max).contains(&given) {
        Ok(given)
    } else {
        Err(Violation::out_of_bounds(field, given, min, max))
    }
}

/// Checks the new deadline of one delivery, 0 (given back) to 600 seconds from now, and returns it in milliseconds.
pub fn lease_millis(given: i32) -> Result<u64, Violation> {
    u32::try_from(given)
        .ok()
        .filter(|seconds| seconds <= ACK_DEADLINE_SECONDS.end())
        .map(|seconds| u64::from(seconds) * 1000)
        .ok_or(Violation::AckDeadline {
            given,
            min: 0,
            max: *ACK_DEADLINE_SECONDS.end(),
        })
}

/// Checks the message retention of a subscription or topic.
pub fn message_retention(given: GivenDuration) -> Result<Duration, Violation> {
    let min = GivenDuration::from_seconds(*RETENTION_SECONDS.start());
    let max = GivenDuration::from_seconds(*RETENTION_SECONDS.end());
    if (min..=max).contains(&given) {
        Ok(given.to_unsigned())
    } else {
        Err(Violation::out_of_bounds(
            "message retention duration",
            given,
            min,
            max,
        ))
    }
}

/// Checks the ttl of an expiration policy.
pub fn expiration_after(given: GivenDuration) -> Result<Expiration, Violation> {
    let min = GivenDuration::from_seconds(EXPIRATION_SECONDS_MIN);
    if given >= min {
        Ok(Expiration::After(given.to_unsigned()))
    } else {
        Err(Violation::too_small("expiration duration", given, min))
    }
}

/// A subscription's mutable fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubscriptionField {
    /// `push_config`
    PushConfig,
    /// `bigquery_config`
    BigqueryConfig,
    /// `cloud_storage_config`
    CloudStorageConfig,
    /// `bigtable_config`
    BigtableConfig,
    /// `ack_deadline_seconds`
    AckDeadlineSeconds,
    /// `retain_acked_messages`
    RetainAckedMessages,
    /// `message_retention_duration`
    MessageRetention,
    /// `labels`
    Labels,
    /// `expiration_policy`
    Expiration,
    /// `dead_letter_policy`
    DeadLetterPolicy,
    /// `retry_policy`
    RetryPolicy,
    /// `enable_exactly_once_delivery`
    ExactlyOnce,
    /// `message_transforms`
    Transforms,
}

impl MaskField for SubscriptionField {
    const RESOURCE: &'static str = "Subscription";
    const EXAMPLE: (&'static str, &'static str) = ("push_config", "pushConfig");
    const IMMUTABLE: &'static [&'static str] = &[
        "name",
        "topic",
        "filter",
        "enable_message_ordering",
        "detached",
        "state",
        "topic_message_retention_duration",
        "analytics_hub_subscription_info",
        "tags",
    ];

    fn from_path(path: &str) -> Option<Self> {
        Some(match path {
            "push_config" => Self::PushConfig,
            "bigquery_config" => Self::BigqueryConfig,
            "cloud_storage_config" => Self::CloudStorageConfig,
            "bigtable_config" => Self::BigtableConfig,
            "ack_deadline_seconds" => Self::AckDeadlineSeconds,
            "retain_acked_messages" => Self::RetainAckedMessages,
            "message_retention_duration" => Self::MessageRetention,
            "labels" => Self::Labels,
            "expiration_policy" => Self::Expiration,
            "dead_letter_policy" => Self::DeadLetterPolicy,
            "retry_policy" => Self::RetryPolicy,
            "enable_exactly_once_delivery" => Self::ExactlyOnce,
            "message_transforms" => Self::Transforms,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3600;
    const DAY: u64 = 24 * HOUR;

    fn new(settings: SubscriptionSettings) -> Result<Subscription, Violation> {
        Subscription::new(
            SubscriptionName::parse("name", "projects/p/subscriptions/abc").expect("valid"),
            TopicName::parse("topic", "projects/p/topics/abc").expect("valid"),
            settings,
        )
    }

    fn bare() -> Subscription {
        new(SubscriptionSettings::default()).expect("defaults agree")
    }

    fn days(count: u64) -> Duration {
        Duration::from_secs(count * DAY)
    }

    #[test]
    fn a_bare_subscription_has_the_documented_defaults() {
        let subscription = bare();
        assert_eq!(subscription.ack_deadline_seconds, 10);
        assert_eq!(subscription.message_retention, days(7));
        assert_eq!(subscription.expiration, Expiration::After(days(31)));
        assert!(!subscription.detached);
    }

    #[test]
    fn retention_follows_a_ttl_below_its_default_unless_it_is_given() {
        let with = |ttl, message_retention| {
            new(SubscriptionSettings {
                expiration: Some(Expiration::After(ttl)),
                message_retention,
                ..SubscriptionSettings::default()
            })
        };
        assert_eq!(
            with(days(1), None).expect("valid").message_retention,
            days(1)
        );
        assert_eq!(
            with(days(9), None).expect("valid").message_retention,
            days(7)
        );
        let text = with(days(2), Some(days(3)))
            .expect_err("refused")
            .to_string();
        assert!(
            text.starts_with("The subscription's message retention duration (259200 seconds) cannot be greater than the TTL in the subscription's expiration policy (172800 seconds), since "),
            "{text}"
        );
        let never = new(SubscriptionSettings {
            expiration: Some(Expiration::Never),
            message_retention: Some(days(31)),
            ..SubscriptionSettings::default()
        });
        assert_eq!(never.expect("valid").expiration, Expiration::Never);
    }

    #[test]
    fn an_update_is_checked_on_the_result_and_changes_all_or_nothing() {
        let short_lived = bare()
            .with(&[
                SubscriptionChange::Expiration(Some(Expiration::After(days(1)))),
                SubscriptionChange::MessageRetention(Some(days(1))),
            ])
            .expect("agrees");
        let refused = short_lived.with(&[
            SubscriptionChange::Labels([("a".to_owned(), String::new())].into()),
            SubscriptionChange::MessageRetention(None),
        ]);
        assert!(matches!(refused, Err(Violation::RetentionAboveTtl { .. })));
        let reset = short_lived
            .with(&[
                SubscriptionChange::MessageRetention(None),
                SubscriptionChange::Expiration(None),
            ])
            .expect("agrees");
        assert_eq!(reset, bare());
    }

    #[test]
    fn an_ack_deadline_is_10_to_600_seconds_or_0_for_the_default() {
        assert_eq!(ack_deadline_seconds(0), Ok(None));
        assert_eq!(ack_deadline_seconds(10), Ok(Some(10)));
        assert_eq!(ack_deadline_seconds(600), Ok(Some(600)));
        for given in [9, 601, -1, i32::MIN, i32::MAX] {
            assert_eq!(
                ack_deadline_seconds(given)
                    .expect_err("refused")
                    .to_string(),
                format!(
                    "Invalid ack deadline given (ack_deadline={given}). The ack deadline must be between 10 and 600 seconds."
                )
            );
        }
    }

    #[test]
    fn retention_is_10_minutes_to_31_days() {
        let retention = |seconds, nanos| {
            message_retention(GivenDuration::parse("f", seconds, nanos).expect("well-formed"))
        };
        assert_eq!(retention(600, 0), Ok(Duration::from_mins(10)));
        assert_eq!(retention(31 * 86_400, 0), Ok(days(31)));
        assert_eq!(
            retention(599, 0).expect_err("refused").to_string(),
            "The value for message retention duration is out of bounds. You passed 9m59s in the request, but the value must be between 10m and 744h."
        );
        assert!(retention(31 * 86_400, 1).is_err());
        assert!(retention(-600, 0).is_err());
    }

    #[test]
    fn a_ttl_is_a_day_or_more() {
        let ttl = |seconds| expiration_after(GivenDuration::from_seconds(seconds));
        assert_eq!(ttl(DAY), Ok(Expiration::After(days(1))));
        assert_eq!(
            ttl(HOUR).expect_err("refused").to_string(),
            "The value for expiration duration is too small. You passed 1h in the request, but the minimum value is 24h."
        );
        assert!(ttl(23 * HOUR).is_err());
    }
}
