//! The caller of a request: put into its extensions where it enters (`dispatch.rs`), and found there by its handler.

use http::Extensions;
use tonic::{Request, Status};

use crate::auth::caller::Caller;

/// The caller of the request that has these extensions.
///
/// # Errors
/// INTERNAL: the request did not come in where all requests do. It is not carried out for nobody.
pub(super) fn of(extensions: &Extensions) -> Result<Caller, Status> {
    let caller = extensions.get().cloned();
    caller.ok_or_else(|| Status::internal("the request has no caller"))
}

/// The caller of a gRPC request, and what they ask.
///
/// # Errors
/// As of [`of`].
pub(super) fn with<T>(request: Request<T>) -> Result<(Caller, T), Status> {
    Ok((of(request.extensions())?, request.into_inner()))
}
