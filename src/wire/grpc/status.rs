//! tmp
use tonic::Status;
pub(super) fn status<E: std::fmt::Display>(e: E) -> Status {
    Status::unknown(e.to_string())
}
