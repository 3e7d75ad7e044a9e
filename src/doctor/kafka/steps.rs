//! What a node does to topics, and what an operator has to do where it may not.

use crate::{doctor::finding::Finding, store::StoreError};

/// What a node does to topics, as an operator grants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Create,
    Produce,
    ProduceLarge,
    Consume,
    Describe,
    Alter,
    Delete,
}

impl Step {
    /// What it is in words, and which operation has to be allowed for it.
    const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Create => ("created", "Create"),
            Self::Produce => ("written to", "Write"),
            Self::ProduceLarge => ("written to with a message of 10 MB", "Write"),
            Self::Consume => ("read", "Read and Describe"),
            Self::Describe => ("asked for its settings", "DescribeConfigs"),
            Self::Alter => ("changed", "AlterConfigs"),
            Self::Delete => ("deleted", "Delete"),
        }
    }

    /// That it failed, why, and what to do.
    pub(super) fn failed(self, prefix: &str, topic: &str, error: &StoreError) -> Finding {
        let (words, operation) = self.words();
        let found = format!("the probe topic {topic} could not be {words} ({error})");
        let mut advice = match error {
            StoreError::Refused(_) if self == Self::ProduceLarge => {
                "a publish request of 10 MB will be refused: raise socket.request.max.bytes of the brokers, and whatever a \
                 policy allows max.message.bytes of a topic to be"
                    .to_owned()
            }
            StoreError::Refused(_) | StoreError::Denied(_) => format!(
                "grant the user {operation} on topics that begin with {prefix}. (kafka-acls --add --operation ... --topic \
                 {prefix}. --resource-pattern-type prefixed), or see what the brokers' policies refuse"
            ),
            _ => "read the logs of the brokers, and see whether there are as many as topics have copies".to_owned(),
        };
        if self == Self::Delete {
            advice.push_str("; then delete that topic by hand");
        }
        Finding::problem(found, advice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_that_is_not_allowed_says_what_to_grant() {
        let refused = StoreError::Refused("not authorized".to_owned());
        let text = Step::Alter.failed("pb", "pb.doctor.a", &refused).text;
        assert!(text.contains("grant the user AlterConfigs"), "{text}");
        let away = StoreError::Unavailable("timed out".to_owned());
        let text = Step::Delete.failed("pb", "pb.doctor.a", &away).text;
        assert!(text.contains("delete that topic by hand"), "{text}");
        let text = Step::ProduceLarge
            .failed("pb", "pb.doctor.a", &refused)
            .text;
        assert!(text.contains("socket.request.max.bytes"), "{text}");
    }
}
