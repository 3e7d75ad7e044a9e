//! The order of checks that the handlers share: what a request holds beside names is told after its resource was found
//! (docs/behaviour.md, section 1.4).

use std::future::Future;

use tonic::Status;

/// What a request holds beside names. Where that is at fault, `resource` is waited for, which finds what the request is
/// about: if it does not exist, that is the answer.
pub(super) async fn contents<T, R>(
    contents: Result<T, impl Into<Status>>,
    resource: impl Future<Output = Result<R, impl Into<Status>>>,
) -> Result<T, Status> {
    match contents {
        Ok(contents) => Ok(contents),
        Err(fault) => {
            resource.await.map_err(Into::into)?;
            Err(fault.into())
        }
    }
}
