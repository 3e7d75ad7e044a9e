//! Domain error → gRPC status, and only here. Texts are those of docs/behaviour.md, section 1.4.

use std::fmt::Display;

use tonic::{Code, Status};

use super::ack_failures;
use crate::{
    auth::caller::Caller,
    resource::violation::Violation,
    rpc::Needs,
    service::{
        ConsumeError, DeliveryError, Denied, EndCause, Guarded, PermitError, PublishError,
        StoreError,
        error::{AttachError, CreateError, DetachError, FindError, SetPolicyError, UpdateError},
    },
    wire::{convert::Refused, layers::size::short},
};

/// The answer about any error of the layers below.
pub(super) fn status(error: impl Into<Status>) -> Status {
    error.into()
}

/// The answer of an RPC that is not here yet, to those who may call it.
pub(super) async fn unimplemented<T, const N: usize>(
    service: &Guarded,
    caller: &Caller,
    needs: &Needs<N>,
    names: [&str; N],
) -> Result<T, Status> {
    service.permit(caller, needs, names).await?;
    let text = format!("{} is not implemented", needs.rpc());
    Err(with_text(Code::Unimplemented, text))
}

/// The answer about a topic or subscription that does not exist; `resource` is its id.
fn not_found(resource: &str) -> Status {
    with_text(
        Code::NotFound,
        format!("Resource not found (resource={resource})."),
    )
}

/// A status whose text is short.
fn with_text(code: Code, text: impl Display) -> Status {
    Status::new(code, short(text))
}

impl From<Denied> for Status {
    fn from(denied: Denied) -> Self {
        with_text(Code::PermissionDenied, denied)
    }
}

impl From<PermitError> for Status {
    fn from(error: PermitError) -> Self {
        match error {
            PermitError::Denied(denied) => denied.into(),
            PermitError::Store(error) => error.into(),
        }
    }
}

impl From<Violation> for Status {
    fn from(violation: Violation) -> Self {
        with_text(Code::InvalidArgument, violation)
    }
}

impl From<Refused> for Status {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Violation(violation) => violation.into(),
            Refused::Unsupported { .. } => with_text(Code::Unimplemented, refused),
        }
    }
}

impl From<StoreError> for Status {
    fn from(error: StoreError) -> Self {
        let code = match error {
            // The topic was deleted while the call went on, or its log by other means than ours.
            StoreError::NoSuchLog => Code::NotFound,
            StoreError::Full(_) => Code::ResourceExhausted,
            // No client repeats it: the next one would fail as well.
            StoreError::Refused(_) | StoreError::Denied(_) => Code::FailedPrecondition,
            // Every operation may be repeated: a publish that happened twice is a duplicate, not a loss.
            // So may what needs a newer release, as there may be one among the nodes.
            StoreError::Unavailable(_) | StoreError::Uncertain(_) | StoreError::Newer { .. } => {
                Code::Unavailable
            }
            StoreError::Damaged(_) => Code::DataLoss,
        };
        with_text(code, error)
    }
}

impl From<CreateError> for Status {
    fn from(error: CreateError) -> Self {
        match error {
            CreateError::Violation(violation) => violation.into(),
            CreateError::ParentNotFound { resource } => not_found(&resource),
            CreateError::AlreadyExists { resource } => with_text(
                Code::AlreadyExists,
                format!("Resource already exists in the project (resource={resource})."),
            ),
            CreateError::Store(error) => error.into(),
        }
    }
}

impl From<AttachError> for Status {
    fn from(error: AttachError) -> Self {
        match error {
            AttachError::NoSuchKafkaTopic { .. } => with_text(Code::NotFound, error),
            AttachError::Create(error) => error.into(),
            AttachError::Store(error) => error.into(),
        }
    }
}

impl From<DetachError> for Status {
    fn from(error: DetachError) -> Self {
        match error {
            DetachError::NotAttached { .. } => with_text(Code::FailedPrecondition, error),
            DetachError::Find(error) => error.into(),
        }
    }
}

impl From<FindError> for Status {
    fn from(error: FindError) -> Self {
        match error {
            FindError::NotFound { resource } => not_found(&resource),
            FindError::Store(error) => error.into(),
        }
    }
}

impl From<UpdateError> for Status {
    fn from(error: UpdateError) -> Self {
        match error {
            UpdateError::Violation(violation) => violation.into(),
            UpdateError::NotFound { resource } => not_found(&resource),
            UpdateError::Contended { .. } => with_text(Code::Unavailable, error),
            UpdateError::Delivery(error) => error.into(),
            UpdateError::Store(error) => error.into(),
        }
    }
}

impl From<SetPolicyError> for Status {
    fn from(error: SetPolicyError) -> Self {
        match error {
            SetPolicyError::Replaced { .. } => with_text(Code::Aborted, error),
            SetPolicyError::Update(error) => error.into(),
            SetPolicyError::Store(error) => error.into(),
        }
    }
}

impl From<PublishError> for Status {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::Violation(violation) => violation.into(),
            PublishError::NotFound { resource } => not_found(&resource),
            PublishError::Store(error) => error.into(),
        }
    }
}

impl From<ConsumeError> for Status {
    fn from(error: ConsumeError) -> Self {
        match error {
            ConsumeError::Violation(violation) => violation.into(),
            ConsumeError::NotFound { resource } => not_found(&resource),
            ConsumeError::Detached { .. } => with_text(Code::FailedPrecondition, error),
            ConsumeError::AckIds { failed } => ack_failures::status(failed),
            ConsumeError::Delivery(error) => error.into(),
            ConsumeError::Store(error) => error.into(),
        }
    }
}

impl From<DeliveryError> for Status {
    fn from(error: DeliveryError) -> Self {
        let code = match &error {
            DeliveryError::Ended(cause) => return cause.clone().into(),
            DeliveryError::TooManyConsumers(_) => Code::ResourceExhausted,
            DeliveryError::Store(StoreError::Damaged(_)) => Code::DataLoss,
            DeliveryError::OwnedBy(_) | DeliveryError::Store(_) => Code::Unavailable,
        };
        with_text(code, error)
    }
}

impl From<EndCause> for Status {
    fn from(cause: EndCause) -> Self {
        let code = match cause {
            EndCause::Deleted => Code::NotFound,
            EndCause::Detached | EndCause::LogGone(_) => Code::FailedPrecondition,
            EndCause::Stopping
            | EndCause::TakenOver
            | EndCause::LogChanged
            | EndCause::Unavailable(_) => Code::Unavailable,
            EndCause::Damaged(_) => Code::DataLoss,
        };
        with_text(code, cause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::STATUS_TEXT_BYTES_MAX;

    fn check(error: impl Into<Status>, code: Code, text: &str) {
        let status = error.into();
        assert_eq!((status.code(), status.message()), (code, text));
    }

    #[test]
    fn missing_and_existing_resources_are_named_by_their_id() {
        check(
            FindError::NotFound {
                resource: "abc".into(),
            },
            Code::NotFound,
            "Resource not found (resource=abc).",
        );
        check(
            CreateError::AlreadyExists {
                resource: "abc".into(),
            },
            Code::AlreadyExists,
            "Resource already exists in the project (resource=abc).",
        );
    }

    #[test]
    fn what_does_not_work_yet_says_its_name() {
        check(
            Refused::Unsupported {
                resource: "Subscription",
                field: "enable_exactly_once_delivery",
            },
            Code::Unimplemented,
            "Subscription.enable_exactly_once_delivery is not implemented: leave it unset",
        );
    }

    #[test]
    fn a_failed_store_is_worth_a_retry_unless_that_would_fail_as_well() {
        for (error, code) in [
            (StoreError::Unavailable("x".into()), Code::Unavailable),
            (StoreError::Uncertain("x".into()), Code::Unavailable),
            (StoreError::Full("x".into()), Code::ResourceExhausted),
            (StoreError::Refused("x".into()), Code::FailedPrecondition),
            (StoreError::Denied("x".into()), Code::FailedPrecondition),
            (StoreError::Damaged("x".into()), Code::DataLoss),
        ] {
            assert_eq!(Status::from(error).code(), code);
        }
    }

    #[test]
    fn a_text_stays_short_however_long_the_value_is() {
        let violation = Violation::PageToken {
            token: "ü".repeat(1_000_000),
        };
        let status = Status::from(violation);
        assert!(status.message().len() <= STATUS_TEXT_BYTES_MAX);
        assert!(status.message().ends_with("..."));
    }
}
