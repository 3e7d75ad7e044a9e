//! What consumers are answered about the ids of their deliveries.

use crate::service::{AckFailure, ConsumeError, Judged};

/// What is said of one id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It had its effect, if it could.
    Done,
    /// It is of no lease that lasts.
    Invalid,
    /// Something before its message in its ordering key is not acknowledged.
    Unordered,
    /// Nothing for sure: it may be tried again.
    Unknown,
}

impl Answer {
    fn of(failure: AckFailure) -> Self {
        match failure {
            AckFailure::Invalid => Self::Invalid,
            AckFailure::Unordered => Self::Unordered,
            AckFailure::Temporary => Self::Unknown,
        }
    }

    /// Of each of these ids, what the call was answered; `None`: nothing.
    pub(super) fn of_call(ids: &[String], answer: Option<Result<(), ConsumeError>>) -> Vec<Self> {
        match answer {
            Some(Ok(())) => vec![Self::Done; ids.len()],
            Some(Err(ConsumeError::AckIds { failed })) => Self::of_each(ids, &failed, Self::Done),
            Some(Err(_)) | None => vec![Self::Unknown; ids.len()],
        }
    }

    /// The same of a request on a stream.
    pub(super) fn of_request(ids: &[String], judged: Judged) -> Vec<Self> {
        let Judged { applied, failed } = judged;
        let mut answers = Self::of_each(ids, &failed, Self::Unknown);
        for (id, answer) in ids.iter().zip(&mut answers) {
            if applied.contains(id) {
                *answer = Self::Done;
            }
        }
        answers
    }

    fn of_each(ids: &[String], failed: &[(String, AckFailure)], others: Self) -> Vec<Self> {
        let failure = |id: &String| failed.iter().find(|(failed, _)| failed == id);
        let answer = |id| failure(id).map_or(others, |(_, failure)| Self::of(*failure));
        ids.iter().map(answer).collect()
    }
}
