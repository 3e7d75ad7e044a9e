//! Proto ↔ resource, and only here.
//!
//! Settings that change what is delivered and do not work yet are refused here by name, so that none is ever stored
//! and ignored. Tags are dropped: they are input only.

mod destination;
pub mod iam;
mod policy;
pub mod subscription;
pub mod topic;

use thiserror::Error;

use crate::resource::{duration::GivenDuration, violation::Violation};

/// Why a request's resource is not taken.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refused {
    /// A value breaks a documented rule.
    #[error(transparent)]
    Violation(#[from] Violation),
    /// A valid setting that would change what is delivered, and does not work yet.
    #[error("{resource}.{field} is not implemented: leave it unset")]
    Unsupported {
        /// The message.
        resource: &'static str,
        /// Its field.
        field: &'static str,
    },
}

/// A field that may be unset as a well-formed duration.
fn duration(
    field: &'static str,
    given: Option<prost_types::Duration>,
) -> Result<Option<GivenDuration>, Violation> {
    given
        .map(|given| GivenDuration::parse(field, given.seconds, given.nanos))
        .transpose()
}

/// Whether the message is there and says anything: clients send an empty one to clear a field.
fn is_set<T: Default + PartialEq>(message: Option<&T>) -> bool {
    message.is_some_and(|message| *message != T::default())
}

fn to_proto_duration(duration: std::time::Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or(i32::MAX),
    }
}
