//! What can be wrong with a request's values, with the public texts (docs/behaviour.md, section 1.4).

use thiserror::Error;

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
}
